//! Options of the sampler.

use clap::{Args, ValueEnum};
use fcdm_runtime::generate::{Choice, SamplerKind, StochasticChoice};
use fcdm_runtime::sampler::{DiffusionForm, LastStep, Solver};

use crate::help::SAMPLING;

/// How to sample.
#[derive(Args)]
#[group(skip)]
#[command(next_help_heading = SAMPLING)]
pub struct Arguments {
    /// Number of steps [default: the model's].
    ///
    /// Or 50, if the model does not say. For diffusion also with the spacing: `even50`, `ddim50` (a constant stride) or `logsnr50` (even in the logarithm of the signal to
    /// noise ratio; what a bare number means to dpm++2m and unipc, and `even` to the others).
    #[arg(long, value_name = "STEPS", aliases = ["num-sampling-steps", "num-inference-steps"])]
    steps: Option<String>,
    /// ddim, dpm++2m, unipc, euler, heun, ..
    ///
    /// Diffusion models: ddim, ddpm; dpm++2m and unipc, for few steps. Flow matching models: euler, heun (the ODE), sde [default: ddim or
    /// euler, as the model needs].
    #[arg(long, value_enum, value_name = "NAME", alias = "sampling-method", hide_possible_values = true)]
    sampler: Option<Kind>,
    /// Ancestral sampling, the same as --sampler ddpm.
    #[arg(long, conflicts_with = "sampler", hide_short_help = true)]
    ddpm: bool,
    /// Noise of DDIM: 0 is none, 1 as much as ddpm [default: 0].
    #[arg(long, value_name = "ETA", hide_short_help = true)]
    eta: Option<f64>,
    /// SDE: euler (Euler-Maruyama) or heun [default: euler].
    #[arg(long, value_enum, value_name = "NAME", hide_short_help = true, hide_possible_values = true)]
    sde_solver: Option<SdeSolver>,
    /// SDE: constant, SBDM, sigma, linear, decreasing or increasing-decreasing [default: sigma].
    #[arg(long, value_name = "FORM", value_parser = parse::<DiffusionForm>, hide_short_help = true)]
    diffusion_form: Option<DiffusionForm>,
    /// SDE: factor of the diffusion coefficient [default: 1].
    #[arg(long, value_name = "FACTOR", hide_short_help = true)]
    diffusion_norm: Option<f64>,
    /// SDE: none, mean, tweedie or euler [default: mean].
    #[arg(long, value_name = "STEP", value_parser = parse::<LastStep>, hide_short_help = true)]
    last_step: Option<LastStep>,
    /// SDE: length of the last step [default: 0.04].
    #[arg(long, value_name = "LENGTH", hide_short_help = true)]
    last_step_size: Option<f64>,
}

/// A sampler by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// [`SamplerKind::Ddim`].
    Ddim,
    /// [`SamplerKind::Ddpm`].
    Ddpm,
    /// [`SamplerKind::DpmSolver`].
    #[value(name = "dpm++2m", aliases = ["dpmpp-2m", "dpmpp_2m", "dpm++_2m", "dpm++-2m"])]
    DpmSolver,
    /// [`SamplerKind::UniPc`].
    #[value(name = "unipc", aliases = ["uni_pc", "uni-pc"])]
    UniPc,
    /// [`SamplerKind::Euler`].
    Euler,
    /// [`SamplerKind::Heun`].
    Heun,
    /// [`SamplerKind::Sde`].
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

impl From<Kind> for SamplerKind {
    fn from(kind: Kind) -> SamplerKind {
        match kind {
            Kind::Ddim => SamplerKind::Ddim,
            Kind::Ddpm => SamplerKind::Ddpm,
            Kind::DpmSolver => SamplerKind::DpmSolver,
            Kind::UniPc => SamplerKind::UniPc,
            Kind::Euler => SamplerKind::Euler,
            Kind::Heun => SamplerKind::Heun,
            Kind::Sde => SamplerKind::Sde,
        }
    }
}

impl Arguments {
    /// What the options describe.
    pub fn choice(&self) -> Choice {
        let kind = self.sampler.map(SamplerKind::from);
        let solver = self.sde_solver.map(|solver| match solver {
            SdeSolver::Euler => Solver::Euler,
            SdeSolver::Heun => Solver::Heun,
        });
        Choice {
            kind: if self.ddpm { Some(SamplerKind::Ddpm) } else { kind },
            steps: self.steps.clone(),
            eta: self.eta,
            stochastic: StochasticChoice {
                solver,
                form: self.diffusion_form,
                norm: self.diffusion_norm,
                last: self.last_step,
                last_size: self.last_step_size,
            },
        }
    }
}
