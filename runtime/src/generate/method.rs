//! Samplers by name, with steps as people write them.

use crate::artifact::{ModelInfo, Prediction};
use crate::sampler::{DiffusionForm, LastStep, Method, Solver};
use crate::schedule::Spacing;

/// Steps where neither the user nor the artifact says how many.
const DEFAULT_STEPS: usize = 50;

/// A sampler as people call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplerKind {
    /// Diffusion, DDIM.
    Ddim,
    /// Diffusion, ancestral.
    Ddpm,
    /// Diffusion, DPM-Solver++(2M).
    DpmSolver,
    /// Diffusion, UniPC of order 2.
    UniPc,
    /// Flow, the ODE by Euler's rule.
    Euler,
    /// Flow, the ODE by Heun's rule.
    Heun,
    /// Flow, the SDE.
    Sde,
}

impl SamplerKind {
    fn is_diffusion(self) -> bool {
        matches!(self, SamplerKind::Ddim | SamplerKind::Ddpm | SamplerKind::DpmSolver | SamplerKind::UniPc)
    }
}

/// Options of the SDE, see [`Method::Sde`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StochasticChoice {
    /// How to integrate.
    pub solver: Solver,
    /// Shape of w(t).
    pub form: DiffusionForm,
    /// Factor in w(t).
    pub norm: f64,
    /// How to end.
    pub last: LastStep,
    /// Length of the last step.
    pub last_size: f64,
}

impl Default for StochasticChoice {
    /// The official flow sampler's.
    fn default() -> Self {
        Self { solver: Solver::Euler, form: DiffusionForm::Sigma, norm: 1.0, last: LastStep::Mean, last_size: 0.04 }
    }
}

/// What somebody chose of a sampler; the rest is the model's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// Which; DDIM or Euler's rule, as the model needs, if nobody says.
    pub kind: Option<SamplerKind>,
    /// Steps: `50`, and for diffusion `even50`, `ddim50` or `logsnr50`, which is what a bare number means to few-step solvers. What the
    /// artifact says, or 50, if nobody does.
    pub steps: Option<String>,
    /// Of DDIM: 0 is deterministic, 1 as noisy as ancestral sampling.
    pub eta: f64,
    /// Of the SDE.
    pub stochastic: StochasticChoice,
}

impl Choice {
    /// The method that it means for this model.
    ///
    /// # Errors
    /// One line, for a sampler of the other kind of model, or steps that are none.
    pub fn method(&self, model: &ModelInfo) -> Result<Method, String> {
        let default = match model.prediction {
            Prediction::EpsVariance => SamplerKind::Ddim,
            Prediction::Velocity => SamplerKind::Euler,
        };
        let kind = self.kind.unwrap_or(default);
        match (model.prediction, kind.is_diffusion()) {
            (Prediction::EpsVariance, false) => {
                return Err("sampler: this is a diffusion model; expected ddim, ddpm, dpm++2m or unipc".into());
            }
            (Prediction::Velocity, true) => return Err("sampler: this is a flow model; expected euler, heun or sde".into()),
            _ => {}
        }
        let asked = self.steps.clone().unwrap_or_else(|| model.sampling.map_or(DEFAULT_STEPS, |s| s.steps).to_string());
        let spacing = || asked.parse::<Spacing>().map_err(|e| e.to_string());
        let few = || {
            let bare = asked.bytes().all(|b| b.is_ascii_digit());
            spacing().map(|spacing| if let (Spacing::Even(n), true) = (spacing, bare) { Spacing::LogSnr(n) } else { spacing })
        };
        let steps = || asked.parse::<usize>().map_err(|_| format!("steps: expected a number, found `{asked}`"));
        let StochasticChoice { solver, form, norm, last, last_size } = self.stochastic;
        Ok(match kind {
            SamplerKind::Ddim => Method::Ddim { spacing: spacing()?, eta: self.eta },
            SamplerKind::Ddpm => Method::Ddpm { spacing: spacing()? },
            SamplerKind::DpmSolver => Method::DpmSolver { spacing: few()? },
            SamplerKind::UniPc => Method::UniPc { spacing: few()? },
            SamplerKind::Euler => Method::Ode { steps: steps()?, solver: Solver::Euler },
            SamplerKind::Heun => Method::Ode { steps: steps()?, solver: Solver::Heun },
            SamplerKind::Sde => Method::Sde { steps: steps()?, solver, form, norm, last, last_size },
        })
    }
}
