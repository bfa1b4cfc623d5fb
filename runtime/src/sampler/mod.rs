//! Samplers: from noise to a sample, one step at a time, so that callers can show progress and previews and stop
//! between steps. A sampler owns its buffers; [`Sampler::step`] does not allocate.
//!
//! States are flat f32 `[states, height, width, channels]`, channels last. Arithmetic is f64 per element from the
//! f32 state, rounded to f32 once a step, and its transcendental functions are `libm`'s: for equal network outputs
//! the trajectory has the same bits on every machine. Which times the network will be asked at is known beforehand
//! ([`Sampler::evaluations`]), so that everything that depends on time and class only can be computed in one batch.

use std::ops::ControlFlow;

use crate::schedule::{ScheduleError, Spacing};

mod diffusion;
mod flow;
pub mod forms;
pub mod guidance;
pub mod noise;

#[cfg(test)]
mod tests;

pub use forms::{DiffusionForm, LastStep, Solver};
pub use guidance::{Guidance, GuidedChannels};
pub use noise::{GivenNoise, NoNoise, PictureNoise, StepNoise, initial_state};

use diffusion::Diffusion;
use flow::{Ode, Sde};

/// The network with class and guidance bound.
pub trait Denoiser {
    /// Writes the (guided) output for states `x` at time `t` into `out`, `[states, height, width, out_channels]`.
    /// `evaluation` counts the sampler's calls: `t` is [`Sampler::evaluations`]`[evaluation]`.
    fn denoise(&mut self, x: &[f32], evaluation: usize, t: f64, out: &mut [f32]);
}

impl<F: FnMut(&[f32], usize, f64, &mut [f32])> Denoiser for F {
    fn denoise(&mut self, x: &[f32], evaluation: usize, t: f64, out: &mut [f32]) {
        self(x, evaluation, t, out);
    }
}

/// Sizes of the states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Number of states that are sampled together.
    pub states: usize,
    /// Height times width.
    pub positions: usize,
    /// Channels of a state.
    pub channels: usize,
    /// Channels of the network's output: as many, or twice as many when it predicts variances.
    pub out_channels: usize,
}

impl Layout {
    /// Elements of all states.
    pub fn state_len(&self) -> usize {
        self.states * self.positions * self.channels
    }

    /// Elements of the network's output.
    pub fn output_len(&self) -> usize {
        self.states * self.positions * self.out_channels
    }
}

/// Which sampler, with its options. Diffusion samplers need a network that predicts eps, flow samplers one that
/// predicts velocity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Diffusion, ancestral, with the learned variance.
    Ddpm {
        /// Which timesteps.
        spacing: Spacing,
    },
    /// Diffusion, DDIM.
    Ddim {
        /// Which timesteps.
        spacing: Spacing,
        /// 0: deterministic; 1: as much noise as ancestral sampling. At most 1.
        eta: f64,
    },
    /// Flow, `dx/dt = v` in equal steps from t = 0 (noise) to t = 1 (data).
    Ode {
        /// 1 to [`MAX_FLOW_STEPS`].
        steps: usize,
        /// How to integrate.
        solver: Solver,
    },
    /// Flow, Euler-Maruyama or Heun on `dx = (v + w score) dt + sqrt(2 w) dB`.
    Sde {
        /// Points of the time grid, 2 to [`MAX_FLOW_STEPS`]: one fewer updates, then the last step.
        steps: usize,
        /// How to integrate.
        solver: Solver,
        /// Shape of w(t).
        form: DiffusionForm,
        /// Factor in w(t), not negative; 1 by default.
        norm: f64,
        /// How to end.
        last: LastStep,
        /// Length of the last step, between 0 and 1; 0.04 by default; not used by [`LastStep::None`].
        last_size: f64,
    },
}

/// More steps than this are a mistake.
pub const MAX_FLOW_STEPS: usize = 10_000;

/// The official flow sampler: 250 points, w = 1 - t, last step "Mean" of size 0.04.
pub const DEFAULT_SDE: Method =
    Method::Sde { steps: 250, solver: Solver::Euler, form: DiffusionForm::Sigma, norm: 1.0, last: LastStep::Mean, last_size: 0.04 };

/// Options that make no sampler.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SamplerError {
    /// The timesteps.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// An option out of range.
    #[error("{option}: expected {expected}, found {found}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What would do.
        expected: String,
        /// What was given.
        found: String,
    },
    /// The score is divided by `1 - t` at `t = 1`, and w(t) does not make up for it.
    #[error("last: Heun without a last step evaluates at t = 1, where `{0}` has no finite drift; expected mean, tweedie or euler")]
    SingularEnd(DiffusionForm),
}

impl SamplerError {
    fn option(option: &'static str, expected: impl Into<String>, found: impl ToString) -> Self {
        Self::Option { option, expected: expected.into(), found: found.to_string() }
    }
}

/// What the steps work in, besides the state.
struct Buffers {
    /// The network's output.
    output: Vec<f32>,
    /// Its second output in a step, for Heun.
    second: Vec<f32>,
    /// The state that the network is asked at, where that is not the state itself.
    input: Vec<f32>,
    /// A step's noise.
    noise: Vec<f32>,
}

enum Kind {
    Diffusion(Box<Diffusion>),
    Ode(Ode),
    Sde(Sde),
}

/// A sampler for states of one layout. It holds no position: which step is done is the caller's, so a trajectory can
/// be kept, resumed or repeated.
pub struct Sampler {
    layout: Layout,
    kind: Kind,
    buffers: Buffers,
}

impl Sampler {
    /// # Errors
    /// On options out of range, or a layout that does not go with the method.
    pub fn new(method: Method, layout: Layout) -> Result<Self, SamplerError> {
        let Layout { channels, out_channels, .. } = layout;
        let doubled = out_channels == 2 * channels;
        let (kind, heun) = match method {
            Method::Ddpm { .. } if !doubled => {
                return Err(SamplerError::option("ddpm", "a network that predicts variances", "one that does not"));
            }
            Method::Ddim { .. } if !doubled && out_channels != channels => {
                return Err(SamplerError::option("ddim", format!("{channels} or {} output channels", 2 * channels), out_channels));
            }
            Method::Ode { .. } | Method::Sde { .. } if out_channels != channels => {
                return Err(SamplerError::option("flow", format!("{channels} output channels"), out_channels));
            }
            Method::Ddpm { spacing } => (Kind::Diffusion(Box::new(Diffusion::ddpm(spacing)?)), false),
            Method::Ddim { spacing, eta } => (Kind::Diffusion(Box::new(Diffusion::ddim(spacing, eta)?)), false),
            Method::Ode { steps, solver } => (Kind::Ode(Ode::new(steps, solver)?), solver == Solver::Heun),
            Method::Sde { steps, solver, form, norm, last, last_size } => {
                (Kind::Sde(Sde::new(steps, solver, form, norm, last, last_size)?), solver == Solver::Heun)
            }
        };
        let zeros = |needed: bool, length: usize| vec![0.0; if needed { length } else { 0 }];
        let mut sampler = Self { layout, kind, buffers: Buffers { output: vec![], second: vec![], input: vec![], noise: vec![] } };
        sampler.buffers = Buffers {
            output: zeros(true, layout.output_len()),
            second: zeros(heun, layout.output_len()),
            input: zeros(heun, layout.state_len()),
            noise: zeros(sampler.noise_steps() > 0, layout.state_len()),
        };
        Ok(sampler)
    }

    /// Number of steps.
    pub fn steps(&self) -> usize {
        match &self.kind {
            Kind::Diffusion(d) => d.steps(),
            Kind::Ode(o) => o.steps(),
            Kind::Sde(s) => s.steps(),
        }
    }

    /// The times at which the network will be evaluated, in order: timesteps 0 to 999 for diffusion, 0 to 1 for flow.
    pub fn evaluations(&self) -> Vec<f64> {
        match &self.kind {
            Kind::Diffusion(d) => d.evaluations(),
            Kind::Ode(o) => o.evaluations(),
            Kind::Sde(s) => s.evaluations(),
        }
    }

    /// How many steps, counted from the first, ask for noise.
    pub fn noise_steps(&self) -> usize {
        match &self.kind {
            Kind::Diffusion(d) => d.noise_steps(),
            Kind::Ode(_) => 0,
            Kind::Sde(s) => s.noise_steps(),
        }
    }

    /// The layout it was made for.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Takes `state` through step `k`, 0 being the noisiest.
    ///
    /// # Panics
    /// When `k` is not below [`Self::steps`] or `state` has not [`Layout::state_len`] elements.
    pub fn step(&mut self, k: usize, state: &mut [f32], denoiser: &mut dyn Denoiser, noise: &mut dyn StepNoise) {
        assert!(k < self.steps(), "step {k} of {}", self.steps());
        assert_eq!(state.len(), self.layout.state_len(), "elements of the state");
        match &self.kind {
            Kind::Diffusion(d) => d.step(k, self.layout, state, &mut self.buffers, denoiser, noise),
            Kind::Ode(o) => o.step(k, state, &mut self.buffers, denoiser),
            Kind::Sde(s) => s.step(k, state, &mut self.buffers, denoiser, noise),
        }
    }

    /// Takes `state` through all steps; `after` sees every step's result and may break off. Returns whether it ran
    /// to the end.
    pub fn run(
        &mut self,
        state: &mut [f32],
        denoiser: &mut dyn Denoiser,
        noise: &mut dyn StepNoise,
        after: &mut dyn FnMut(usize, &[f32]) -> ControlFlow<()>,
    ) -> bool {
        (0..self.steps()).all(|k| {
            self.step(k, state, denoiser, noise);
            after(k, state).is_continue()
        })
    }
}
