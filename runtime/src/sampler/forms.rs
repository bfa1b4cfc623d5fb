//! The options of flow samplers and their names, and the diffusion coefficient w(t) of the SDE.
//!
//! Every w(t) >= 0 gives the SDE the same marginals (Ma et al., "SiT", 2024, section 2.4; Albergo et al. 2023), so
//! w may be chosen freely, and changed near a singular point, without biasing the continuous process.

use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

use super::SamplerError;

/// How to integrate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Solver {
    /// One evaluation a step.
    Euler,
    /// Two evaluations a step, the second at its end.
    Heun,
}

/// w(t) on the linear path, `c` the norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiffusionForm {
    /// `c`.
    Constant,
    /// `c ((1-t)^2/t + (1-t)) = c (1-t)/t`, the time-reversed forward process. Infinite at t = 0, so there the value
    /// at the end of the first step is taken. With it an explicit step of length dt has `w dt < c`, where a
    /// fixed small start such as 1e-3 makes `w dt` about 4 at 250 steps, and the first step overshoots.
    Sbdm,
    /// `c sigma(t) = c (1-t)`.
    Sigma,
    /// `c (1-t)`.
    Linear,
    /// `(c cos(pi t) + 1)^2 / 4`.
    Decreasing,
    /// `c sin(pi t)^2`.
    IncreasingDecreasing,
}

/// How an SDE sampler goes the last bit of the way, from `1 - last_size` to 1, from one evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastStep {
    /// Not at all: the grid itself reaches 1.
    None,
    /// The drift, without noise.
    Mean,
    /// The conditional mean of the data (Tweedie's formula).
    Tweedie,
    /// The velocity alone.
    Euler,
}

impl DiffusionForm {
    /// w(t), in [0, 1]; infinite for SBDM at 0.
    pub(super) fn size(self, t: f64, norm: f64) -> f64 {
        match self {
            Self::Constant => norm,
            Self::Sbdm => norm * (1.0 - t) / t,
            Self::Sigma | Self::Linear => norm * (1.0 - t),
            Self::Decreasing => 0.25 * square(norm * libm::cos(PI * t) + 1.0),
            Self::IncreasingDecreasing => norm * square(libm::sin(PI * t)),
        }
    }

    /// `w(t) / (1-t)`, the factor of `t v - x` in the drift; at t = 1 its limit, which may be infinite.
    pub(super) fn gain(self, t: f64, norm: f64) -> f64 {
        match self {
            Self::Sbdm => norm / t,
            Self::Sigma | Self::Linear => norm,
            // w falls as (1-t)^2 and as (1-t)^4.
            Self::IncreasingDecreasing if t == 1.0 => 0.0,
            Self::Decreasing if t == 1.0 && norm == 1.0 => 0.0,
            Self::Constant if norm == 0.0 => 0.0,
            _ => self.size(t, norm) / (1.0 - t),
        }
    }
}

fn square(x: f64) -> f64 {
    x * x
}

/// `Display` and `FromStr` by a table of names.
macro_rules! named {
    ($type:ident, $option:literal, $($variant:ident = $name:literal),+) => {
        impl $type {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $name),+ })
            }
        }
        impl FromStr for $type {
            type Err = SamplerError;

            fn from_str(text: &str) -> Result<Self, SamplerError> {
                match text {
                    $($name => Ok(Self::$variant),)+
                    other => Err(SamplerError::option(
                        $option,
                        [$($name),+].join(", "),
                        format!("`{}`", other.chars().take(40).flat_map(char::escape_debug).collect::<String>()),
                    )),
                }
            }
        }
    };
}

named!(Solver, "solver", Euler = "euler", Heun = "heun");
named!(
    DiffusionForm,
    "form",
    Constant = "constant",
    Sbdm = "sbdm",
    Sigma = "sigma",
    Linear = "linear",
    Decreasing = "decreasing",
    IncreasingDecreasing = "increasing-decreasing"
);
named!(LastStep, "last", None = "none", Mean = "mean", Tweedie = "tweedie", Euler = "euler");
