//! Samplers by the names that people call them, and artifacts too.

use serde::{Deserialize, Serialize};

/// A sampler as people call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SamplerKind {
    /// Diffusion, DDIM.
    #[serde(rename = "ddim")]
    Ddim,
    /// Diffusion, ancestral.
    #[serde(rename = "ddpm")]
    Ddpm,
    /// Diffusion, DPM-Solver++(2M).
    #[serde(rename = "dpm++2m")]
    DpmSolver,
    /// Diffusion, UniPC of order 2.
    #[serde(rename = "unipc")]
    UniPc,
    /// Flow, the ODE by Euler's rule.
    #[serde(rename = "euler")]
    Euler,
    /// Flow, the ODE by Heun's rule.
    #[serde(rename = "heun")]
    Heun,
    /// Flow, the SDE.
    #[serde(rename = "sde")]
    Sde,
}

impl SamplerKind {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            SamplerKind::Ddim => "ddim",
            SamplerKind::Ddpm => "ddpm",
            SamplerKind::DpmSolver => "dpm++2m",
            SamplerKind::UniPc => "unipc",
            SamplerKind::Euler => "euler",
            SamplerKind::Heun => "heun",
            SamplerKind::Sde => "sde",
        }
    }

    /// Whether it is for networks that predict eps, not velocity.
    pub fn is_diffusion(self) -> bool {
        matches!(self, SamplerKind::Ddim | SamplerKind::Ddpm | SamplerKind::DpmSolver | SamplerKind::UniPc)
    }

    /// The spacing, by the name that goes before the number of steps, that a bare number means.
    pub fn bare_spacing(self) -> &'static str {
        match self {
            SamplerKind::Ddim | SamplerKind::Ddpm => "even",
            SamplerKind::DpmSolver | SamplerKind::UniPc => "logsnr",
            SamplerKind::Euler | SamplerKind::Heun | SamplerKind::Sde => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SamplerKind::*;

    #[test]
    fn artifacts_have_the_names_that_people_use() {
        for kind in [Ddim, Ddpm, DpmSolver, UniPc, Euler, Heun, Sde] {
            assert_eq!(serde_json::json!(kind), kind.name());
        }
    }
}
