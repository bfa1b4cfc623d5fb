//! Samplers by name, with steps as people write them.

use crate::artifact::{ModelInfo, Prediction};
use crate::request::RequestError;
use crate::sampler::{DiffusionForm, LastStep, Method, SamplerKind, Solver};
use crate::schedule::Spacing;

/// Steps where neither the user nor the artifact says how many.
const DEFAULT_STEPS: usize = 50;

/// What somebody chose of the SDE, see [`Method::Sde`]; the rest is the official flow sampler's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StochasticChoice {
    /// How to integrate; by Euler's rule if nobody says.
    pub solver: Option<Solver>,
    /// Shape of w(t); sigma if nobody says.
    pub form: Option<DiffusionForm>,
    /// Factor in w(t); 1 if nobody says.
    pub norm: Option<f64>,
    /// How to end; by the mean if nobody says.
    pub last: Option<LastStep>,
    /// Length of the last step; 0.04 if nobody says.
    pub last_size: Option<f64>,
}

impl StochasticChoice {
    /// The first option that was chosen, by its name.
    fn chosen(&self) -> Option<&'static str> {
        let all = [
            ("sde-solver", self.solver.is_some()),
            ("diffusion-form", self.form.is_some()),
            ("diffusion-norm", self.norm.is_some()),
            ("last-step", self.last.is_some()),
            ("last-step-size", self.last_size.is_some()),
        ];
        all.into_iter().find(|(_, chosen)| *chosen).map(|(name, _)| name)
    }
}

/// What somebody chose of a sampler; the rest is the model's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// Which; what the model was specialised to, or else DDIM or Euler's rule, as it needs, if nobody says.
    pub kind: Option<SamplerKind>,
    /// Steps: `50`, and for diffusion `even50`, `ddim50` or `logsnr50`, which is what a bare number means to few-step solvers. What the
    /// model was specialised to or the artifact says, or 50, if nobody does.
    pub steps: Option<String>,
    /// Of DDIM: 0 is deterministic, as it is if nobody says, 1 as noisy as ancestral sampling.
    pub eta: Option<f64>,
    /// Of the SDE.
    pub stochastic: StochasticChoice,
}

impl Choice {
    /// The method that it means for this model.
    ///
    /// # Errors
    /// For a sampler of the other kind of model, steps that are none, or options of another sampler.
    pub fn method(&self, model: &ModelInfo) -> Result<Method, RequestError> {
        let default = match model.prediction {
            Prediction::EpsVariance => SamplerKind::Ddim,
            Prediction::Velocity => SamplerKind::Euler,
        };
        let held = model.specialisation.as_ref();
        let kind = self.kind.or(held.map(|h| h.sampler)).unwrap_or(default);
        match (model.prediction, kind.is_diffusion()) {
            (Prediction::EpsVariance, false) => {
                return Err(RequestError::new("sampler", "ddim, ddpm, dpm++2m or unipc, for this is a diffusion model", kind.name()));
            }
            (Prediction::Velocity, true) => {
                return Err(RequestError::new("sampler", "euler, heun or sde, for this is a flow model", kind.name()));
            }
            _ => {}
        }
        let name = kind.name();
        if let (Some(_), true) = (self.eta, kind != SamplerKind::Ddim) {
            return Err(RequestError::new("eta", "the sampler ddim with it", name));
        }
        if let (Some(option), true) = (self.stochastic.chosen(), kind != SamplerKind::Sde) {
            return Err(RequestError::new(option, "the sampler sde with it", name));
        }
        let of_model = || model.sampling.map_or(DEFAULT_STEPS, |s| s.steps).to_string();
        let asked = self.steps.clone().or_else(|| held.map(|h| h.steps.clone())).unwrap_or_else(of_model);
        let spacing = || asked.parse::<Spacing>().map_err(|e| RequestError::Sampler(e.into()));
        let few = || {
            let bare = asked.bytes().all(|b| b.is_ascii_digit());
            spacing().map(|spacing| if let (Spacing::Even(n), true) = (spacing, bare) { Spacing::LogSnr(n) } else { spacing })
        };
        let steps = || asked.parse::<usize>().map_err(|_| RequestError::new("steps", "a number", format!("`{asked}`")));
        let StochasticChoice { solver, form, norm, last, last_size } = self.stochastic;
        let (solver, form, norm) = (solver.unwrap_or(Solver::Euler), form.unwrap_or(DiffusionForm::Sigma), norm.unwrap_or(1.0));
        let (last, last_size) = (last.unwrap_or(LastStep::Mean), last_size.unwrap_or(0.04));
        Ok(match kind {
            SamplerKind::Ddim => Method::Ddim { spacing: spacing()?, eta: self.eta.unwrap_or(0.0) },
            SamplerKind::Ddpm => Method::Ddpm { spacing: spacing()? },
            SamplerKind::DpmSolver => Method::DpmSolver { spacing: few()? },
            SamplerKind::UniPc => Method::UniPc { spacing: few()? },
            SamplerKind::Euler => Method::Ode { steps: steps()?, solver: Solver::Euler },
            SamplerKind::Heun => Method::Ode { steps: steps()?, solver: Solver::Heun },
            SamplerKind::Sde => Method::Sde { steps: steps()?, solver, form, norm, last, last_size },
        })
    }
}
