//! Samplers: from noise to a sample, one step at a time, so that callers can show progress and previews and stop
//! between steps. A sampler owns its buffers; [`Sampler::step`] does not allocate. A run may begin in the middle, from a
//! known picture with noise ([`known`]).
//!
//! States are flat f32 `[states, height, width, channels]`, channels last. Arithmetic is f64 per element from the
//! f32 state, rounded to f32 once a step, and its transcendental functions are `libm`'s: for equal network outputs
//! the trajectory has the same bits on every machine. Which times the network will be asked at is known beforehand
//! ([`Sampler::evaluations`]), so that everything that depends on time and class only can be computed in one batch.

use std::ops::ControlFlow;

use crate::schedule::{Schedule, ScheduleError, Spacing};

mod diffusion;
mod flow;
pub mod forms;
pub mod guidance;
pub mod interpolate;
mod kind;
pub mod known;
mod multistep;
pub mod noise;

#[cfg(test)]
mod tests;

pub use forms::{DiffusionForm, LastStep, Solver};
pub use guidance::{Guidance, GuidedChannels};
pub use interpolate::{initial_state_between, slerp};
pub use kind::SamplerKind;
pub use known::Keep;
pub use noise::{GivenNoise, NoNoise, PictureNoise, StepNoise, initial_state};

use diffusion::Diffusion;
use flow::{Ode, Sde};
use multistep::{History, Multistep, Rule};

/// The network with class and guidance bound.
pub trait Denoiser {
    /// Writes the (guided) output for states `x` at time `t` into `out`, `[states, height, width, out_channels]`.
    /// `evaluation` counts the calls of a whole run, also where a run begins later: `t` is
    /// [`Sampler::evaluations`]`[evaluation]`.
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
    /// Diffusion, DPM-Solver++(2M): deterministic, good in about 20 steps.
    DpmSolver {
        /// Which timesteps.
        spacing: Spacing,
    },
    /// Diffusion, UniPC of order 2: as DPM-Solver++(2M), each step corrected by the next one's evaluation.
    UniPc {
        /// Which timesteps.
        spacing: Spacing,
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

impl Method {
    /// Whether it is for networks that predict eps, not velocity.
    pub fn is_diffusion(&self) -> bool {
        match self {
            Self::Ddpm { .. } | Self::Ddim { .. } | Self::DpmSolver { .. } | Self::UniPc { .. } => true,
            Self::Ode { .. } | Self::Sde { .. } => false,
        }
    }

    /// Its name in messages.
    fn name(&self) -> &'static str {
        match self {
            Self::Ddpm { .. } => "ddpm",
            Self::Ddim { .. } => "ddim",
            Self::DpmSolver { .. } => "dpm++2m",
            Self::UniPc { .. } => "unipc",
            Self::Ode { .. } | Self::Sde { .. } => "flow",
        }
    }

    /// Refuses a layout that does not go with it.
    fn check(&self, Layout { channels, out_channels, .. }: Layout) -> Result<(), SamplerError> {
        let doubled = out_channels == 2 * channels;
        let expected = match self {
            Self::Ddpm { .. } if !doubled => {
                return Err(SamplerError::option("ddpm", "a network that predicts variances", "one that does not"));
            }
            _ if doubled && self.is_diffusion() || out_channels == channels => return Ok(()),
            _ if self.is_diffusion() => format!("{channels} or {} output channels", 2 * channels),
            _ => format!("{channels} output channels"),
        };
        Err(SamplerError::option(self.name(), expected, out_channels))
    }
}

/// What the steps work in, besides the state.
#[derive(Clone, Default)]
struct Buffers {
    /// The network's output.
    output: Vec<f32>,
    /// Its second output in a step, for Heun.
    second: Vec<f32>,
    /// The state that the network is asked at, where that is not the state itself.
    input: Vec<f32>,
    /// A step's noise.
    noise: Vec<f32>,
    /// For multistep methods.
    history: History,
}

#[derive(Clone)]
enum Kind {
    Diffusion(Box<Diffusion>),
    Multistep(Box<Multistep>),
    Ode(Ode),
    Sde(Sde),
}

/// A sampler for states of one layout. It holds no position: which step is done is the caller's, so a trajectory can
/// be kept, resumed or repeated.
///
/// A multistep method ([`Method::DpmSolver`], [`Method::UniPc`]) remembers what the network predicted in the steps before,
/// and so serves one trajectory at a time. A step that does not follow the step before, such as the first one of a run or
/// one that is resumed with another sampler, has no history and is of first order. To keep a trajectory with its history,
/// or to branch off, clone the sampler with the state.
#[derive(Clone)]
pub struct Sampler {
    layout: Layout,
    kind: Kind,
    buffers: Buffers,
}

impl Sampler {
    /// # Errors
    /// On options out of range, or a layout that does not go with the method.
    pub fn new(method: Method, layout: Layout) -> Result<Self, SamplerError> {
        method.check(layout)?;
        let length = layout.state_len();
        let (mut heun, mut history) = (false, History::default());
        let kind = match method {
            Method::Ddpm { spacing } => Kind::Diffusion(Box::new(Diffusion::ddpm(spacing)?)),
            Method::Ddim { spacing, eta } => Kind::Diffusion(Box::new(Diffusion::ddim(spacing, eta)?)),
            Method::DpmSolver { spacing } | Method::UniPc { spacing } => {
                let rule = if matches!(method, Method::UniPc { .. }) { Rule::UniPc } else { Rule::DpmSolver };
                history = History::new(length, rule);
                Kind::Multistep(Box::new(Multistep::new(spacing, rule)?))
            }
            Method::Ode { steps, solver } => {
                heun = solver == Solver::Heun;
                Kind::Ode(Ode::new(steps, solver)?)
            }
            Method::Sde { steps, solver, form, norm, last, last_size } => {
                heun = solver == Solver::Heun;
                Kind::Sde(Sde::new(steps, solver, form, norm, last, last_size)?)
            }
        };
        let zeros = |needed: bool, length: usize| vec![0.0; if needed { length } else { 0 }];
        let mut sampler = Self { layout, kind, buffers: Buffers::default() };
        sampler.buffers = Buffers {
            output: zeros(true, layout.output_len()),
            second: zeros(heun, layout.output_len()),
            input: zeros(heun, length),
            noise: zeros(sampler.noise_steps() > 0, length),
            history,
        };
        Ok(sampler)
    }

    /// The schedule of a diffusion sampler.
    fn schedule(&self) -> Option<&Schedule> {
        match &self.kind {
            Kind::Diffusion(d) => Some(d.schedule()),
            Kind::Multistep(m) => Some(m.schedule()),
            Kind::Ode(_) | Kind::Sde(_) => None,
        }
    }

    /// Number of steps.
    pub fn steps(&self) -> usize {
        match &self.kind {
            Kind::Diffusion(d) => d.schedule().len(),
            Kind::Multistep(m) => m.schedule().len(),
            Kind::Ode(o) => o.steps(),
            Kind::Sde(s) => s.steps(),
        }
    }

    /// The times at which the network will be evaluated, in order: timesteps 0 to 999 for diffusion, 0 to 1 for flow.
    pub fn evaluations(&self) -> Vec<f64> {
        match &self.kind {
            Kind::Diffusion(d) => d.schedule().descending(),
            Kind::Multistep(m) => m.schedule().descending(),
            Kind::Ode(o) => o.evaluations(),
            Kind::Sde(s) => s.evaluations(),
        }
    }

    /// How many steps, counted from the first, ask for noise.
    pub fn noise_steps(&self) -> usize {
        match &self.kind {
            Kind::Diffusion(d) => d.noise_steps(),
            Kind::Multistep(_) | Kind::Ode(_) => 0,
            Kind::Sde(s) => s.noise_steps(),
        }
    }

    /// The layout it was made for.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Bytes of the buffers that it works in, besides the states. They grow with the number of states and with nothing else.
    pub fn bytes(&self) -> usize {
        let Buffers { output, second, input, noise, history } = &self.buffers;
        size_of::<f32>() * (output.len() + second.len() + input.len() + noise.len()) + history.bytes()
    }

    /// Forgets the steps before, as a run that does not go on with them has to: the next step is a first one. Step 0
    /// always is.
    pub fn restart(&mut self) {
        self.buffers.history.clear();
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
            Kind::Multistep(m) => m.step(k, self.layout, state, &mut self.buffers, denoiser),
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
