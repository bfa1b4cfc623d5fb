//! Options of the sampler, and the sampler in words.

use clap::{Args, ValueEnum};
use fcdm_runtime::artifact::{ModelInfo, Prediction};
use fcdm_runtime::sampler::{DiffusionForm, Guidance, GuidedChannels, LastStep, Method, Solver};
use fcdm_runtime::schedule::Spacing;

use super::job::Job;

/// Steps where neither the user nor the artifact says how many.
const DEFAULT_STEPS: usize = 50;

/// How to sample.
#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    /// Steps: `50` [default: what the artifact says, or 50]. For diffusion also with the spacing: `even50`, `ddim50` (a constant
    /// stride) or `logsnr50` (even in the logarithm of the signal to noise ratio; what a bare number means to dpm++2m and unipc,
    /// and `even` to the others).
    #[arg(long, aliases = ["num-sampling-steps", "num-inference-steps"])]
    steps: Option<String>,
    /// Diffusion: ddim, ddpm; dpm++2m, unipc, for few steps. Flow: euler, heun (the ODE), sde [default: ddim or euler, as the
    /// model needs].
    #[arg(long, value_enum, alias = "sampling-method")]
    sampler: Option<Kind>,
    /// Ancestral sampling, the same as --sampler ddpm.
    #[arg(long, conflicts_with = "sampler")]
    ddpm: bool,
    /// DDIM: 0 is deterministic, 1 as noisy as ancestral sampling.
    #[arg(long, default_value_t = 0.0)]
    eta: f64,
    /// SDE: euler (Euler-Maruyama) or heun.
    #[arg(long, value_enum, default_value = "euler")]
    sde_solver: SdeSolver,
    /// SDE: constant, SBDM, sigma, linear, decreasing or increasing-decreasing.
    #[arg(long, default_value = "sigma", value_parser = parse::<DiffusionForm>)]
    diffusion_form: DiffusionForm,
    /// SDE: factor of the diffusion coefficient.
    #[arg(long, default_value_t = 1.0)]
    diffusion_norm: f64,
    /// SDE: none, mean, tweedie or euler.
    #[arg(long, default_value = "mean", value_parser = parse::<LastStep>)]
    last_step: LastStep,
    /// SDE: length of the last step.
    #[arg(long, default_value_t = 0.04)]
    last_step_size: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Ddim,
    Ddpm,
    #[value(name = "dpm++2m", aliases = ["dpmpp-2m", "dpmpp_2m", "dpm++_2m", "dpm++-2m"])]
    DpmSolver,
    #[value(name = "unipc", aliases = ["uni_pc", "uni-pc"])]
    UniPc,
    Euler,
    Heun,
    Sde,
}

#[derive(Clone, Copy, ValueEnum)]
enum SdeSolver {
    Euler,
    Heun,
}

/// Names in lower case too: the official scripts write `Mean`.
fn parse<T: std::str::FromStr>(text: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    text.parse().or_else(|_| text.to_ascii_lowercase().parse()).map_err(|e: T::Err| e.to_string())
}

impl Arguments {
    /// The method that the options describe, for this model.
    pub fn method(&self, model: &ModelInfo) -> Result<Method, String> {
        let default = match model.prediction {
            Prediction::EpsVariance => Kind::Ddim,
            Prediction::Velocity => Kind::Euler,
        };
        let kind = if self.ddpm { Kind::Ddpm } else { self.sampler.unwrap_or(default) };
        let diffusion = matches!(kind, Kind::Ddim | Kind::Ddpm | Kind::DpmSolver | Kind::UniPc);
        match (model.prediction, diffusion) {
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
        Ok(match kind {
            Kind::Ddim => Method::Ddim { spacing: spacing()?, eta: self.eta },
            Kind::Ddpm => Method::Ddpm { spacing: spacing()? },
            Kind::DpmSolver => Method::DpmSolver { spacing: few()? },
            Kind::UniPc => Method::UniPc { spacing: few()? },
            Kind::Euler => Method::Ode { steps: steps()?, solver: Solver::Euler },
            Kind::Heun => Method::Ode { steps: steps()?, solver: Solver::Heun },
            Kind::Sde => Method::Sde {
                steps: steps()?,
                solver: match self.sde_solver {
                    SdeSolver::Euler => Solver::Euler,
                    SdeSolver::Heun => Solver::Heun,
                },
                form: self.diffusion_form,
                norm: self.diffusion_norm,
                last: self.last_step,
                last_size: self.last_step_size,
            },
        })
    }
}

/// How a picture was made.
pub struct Description<'a> {
    /// The sampler.
    pub method: Method,
    /// Guidance.
    pub guidance: Guidance,
    /// What it began from, as text for the end of the line, if not from noise alone.
    pub init: Option<String>,
    /// Height and width of pictures.
    pub size: [usize; 2],
    /// The model.
    pub model: &'a ModelInfo,
    /// Checksum of the artifact.
    pub checksum: &'a str,
}

impl Description<'_> {
    /// The sampler's name and steps, as the options take them.
    pub fn sampler(&self) -> (String, String) {
        let few = |spacing: Spacing| match spacing {
            Spacing::LogSnr(n) => n.to_string(),
            Spacing::Even(n) => format!("even{n}"),
            Spacing::Strided(_) => spacing.to_string(),
        };
        match self.method {
            Method::Ddim { spacing, eta: 0.0 } => ("ddim".into(), spacing.to_string()),
            Method::Ddim { spacing, eta } => (format!("ddim eta {eta}"), spacing.to_string()),
            Method::Ddpm { spacing } => ("ddpm".into(), spacing.to_string()),
            Method::DpmSolver { spacing } => ("dpm++2m".into(), few(spacing)),
            Method::UniPc { spacing } => ("unipc".into(), few(spacing)),
            Method::Ode { steps, solver: Solver::Euler } => ("euler".into(), steps.to_string()),
            Method::Ode { steps, solver: Solver::Heun } => ("heun".into(), steps.to_string()),
            Method::Sde { steps, solver, form, norm, last, last_size } => {
                let solver = if solver == Solver::Heun { "heun" } else { "euler" };
                (format!("sde {solver} {form} norm {norm} last {last} {last_size}"), steps.to_string())
            }
        }
    }

    /// The text that a picture carries under `parameters`, in the form that pictures of other generators do.
    pub fn text(&self, job: &Job, given_noise: bool) -> String {
        let (sampler, steps) = self.sampler();
        let g = self.guidance;
        let class = super::class_name(job.label, self.model);
        let seed = if given_noise { "none (noise given)".to_owned() } else { job.seed.to_string() };
        let mut text = format!(
            "Steps: {steps}, Sampler: {sampler}, CFG scale: {}, Seed: {seed}, Size: {}x{}, Class: {} ({class}), Artifact: {}",
            g.scale, self.size[1], self.size[0], job.label, self.checksum
        );
        if g.channels == GuidedChannels::AllEps {
            text.push_str(", CFG channels: all");
        }
        if let Some((lo, hi)) = g.interval {
            text.push_str(&format!(", CFG interval: {lo}-{hi}"));
        }
        if let Some((label, seed, weight)) = job.towards {
            text.push_str(&format!(", Towards: {label} ({}), seed {seed}, by {weight}", super::class_name(label, self.model)));
        }
        text.push_str(self.init.as_deref().unwrap_or_default());
        text.push_str(concat!(", Version: fcdm ", env!("CARGO_PKG_VERSION")));
        text
    }
}
