//! The diffusion schedule: 1000 training timesteps with linear betas from 1e-4 to 2e-2, respaced to fewer.
//! Everything is float64 and done in the order in which the reference implementations do it, so that timesteps
//! are equal and coefficients differ by rounding of the logarithm at most.

use std::fmt;
use std::str::FromStr;

/// Timesteps of training.
pub const TRAINING_STEPS: usize = 1000;

const FIRST_BETA: f64 = 1e-4;
const LAST_BETA: f64 = 2e-2;

/// Which of the training's timesteps are kept. Written `50` (also `even50`), `ddim50` or `logsnr50`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// That many, spread evenly from 0 to 999, both included; one step keeps only 0.
    Even(usize),
    /// `ddimN`: from 0 on by the smallest whole stride that gives exactly that many.
    Strided(usize),
    /// `logsnrN`: that many, evenly in `lambda = ln(sqrt(abar) / sqrt(1 - abar))` (half the logarithm of the signal to noise
    /// ratio) as whole timesteps allow, from 0 to 999, both included; one step keeps only 0. For solvers of higher order, whose
    /// steps are in lambda (Lu et al. 2022, "DPM-Solver", section 3.4).
    LogSnr(usize),
}

/// Why a schedule cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Too few or too many steps.
    #[error("steps: expected 1 to {TRAINING_STEPS}, found {0}")]
    Steps(usize),
    /// No stride gives that many.
    #[error("steps: no whole stride keeps exactly {0} of {TRAINING_STEPS} timesteps; `{0}` without `ddim` spreads them evenly")]
    Stride(usize),
    /// None of the forms.
    #[error("steps: expected a number such as `50`, or `even50`, `ddim50`, `logsnr50`; found `{0}`")]
    Syntax(String),
}

impl FromStr for Spacing {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let at = text.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(text.len());
        let (name, digits) = text.split_at(at);
        let kind: fn(usize) -> Self = match name {
            "" | "even" => Self::Even,
            "ddim" => Self::Strided,
            "logsnr" => Self::LogSnr,
            _ => return Err(ScheduleError::Syntax(text.escape_debug().take(40).collect())),
        };
        // `parse` alone would take `+5`.
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse().ok().filter(|_| plain).map(kind).ok_or_else(|| ScheduleError::Syntax(text.escape_debug().take(40).collect()))
    }
}

impl fmt::Display for Spacing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Even(n) => write!(f, "{n}"),
            Self::Strided(n) => write!(f, "ddim{n}"),
            Self::LogSnr(n) => write!(f, "logsnr{n}"),
        }
    }
}

impl Spacing {
    /// The kept timesteps, ascending.
    ///
    /// # Errors
    /// When there is no such selection.
    pub fn timesteps(self) -> Result<Vec<usize>, ScheduleError> {
        let (Self::Even(n) | Self::Strided(n) | Self::LogSnr(n)) = self;
        if !(1..=TRAINING_STEPS).contains(&n) {
            return Err(ScheduleError::Steps(n));
        }
        match self {
            Self::Even(1) | Self::LogSnr(1) => Ok(vec![0]),
            Self::Even(n) => {
                // The position is accumulated, not multiplied: for 283 values of n the two round differently, and
                // the accumulated one is what checkpoints were evaluated with.
                let stride = (TRAINING_STEPS - 1) as f64 / (n - 1) as f64;
                let mut position = 0.0f64;
                Ok((0..n)
                    .map(|_| {
                        let step = position.round_ties_even() as usize;
                        position += stride;
                        step
                    })
                    .collect())
            }
            Self::Strided(n) => {
                let stride = (1..TRAINING_STEPS).find(|&s| TRAINING_STEPS.div_ceil(s) == n).ok_or(ScheduleError::Stride(n))?;
                Ok((0..TRAINING_STEPS).step_by(stride).collect())
            }
            Self::LogSnr(n) => Ok(even_in_lambda(n)),
        }
    }
}

/// Coefficients of every kept timestep, ascending in time; `i` below runs over the kept ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Original timestep numbers: what the network is asked with.
    pub timesteps: Vec<usize>,
    /// `beta_i = 1 - abar(t_i) / abar(t_{i-1})`.
    pub beta: Vec<f64>,
    /// Running product of `1 - beta_i`.
    pub abar: Vec<f64>,
    /// `abar_{i-1}`, 1 for the first.
    pub abar_prev: Vec<f64>,
    /// Variance of `q(x_{i-1} | x_i, x_0)`; 0 for the first.
    pub posterior_variance: Vec<f64>,
    /// Its logarithm, with the first variance replaced by the second; of a one-step schedule minus infinity, which no
    /// sampler uses.
    pub log_posterior_variance: Vec<f64>,
    /// `ln beta_i`.
    pub log_beta: Vec<f64>,
    /// The posterior mean's coefficient of `x_0`.
    pub mean_x0: Vec<f64>,
    /// The posterior mean's coefficient of `x_i`.
    pub mean_xt: Vec<f64>,
    /// `x_0 = x0_from_xt x_i - x0_from_eps eps`: `sqrt(1 / abar_i)`.
    pub x0_from_xt: Vec<f64>,
    /// `sqrt(1 / abar_i - 1)`.
    pub x0_from_eps: Vec<f64>,
}

impl Schedule {
    /// The schedule with the kept timesteps of `spacing`.
    ///
    /// # Errors
    /// When there is no such selection.
    pub fn new(spacing: Spacing) -> Result<Self, ScheduleError> {
        let timesteps = spacing.timesteps()?;
        let full = training_abar();
        let ratio_base = std::iter::once(1.0).chain(timesteps.iter().map(|&t| full[t]));
        let beta: Vec<f64> = timesteps.iter().zip(ratio_base).map(|(&t, before)| 1.0 - full[t] / before).collect();
        // The running product of the new alphas and not the kept `full`: equal up to rounding, and what the
        // reference uses.
        let abar: Vec<f64> = beta.iter().copied().scan(1.0, running_product).collect();
        let abar_prev: Vec<f64> = std::iter::once(1.0).chain(abar.iter().copied()).take(abar.len()).collect();
        let each = |f: &dyn Fn(f64, f64, f64) -> f64| -> Vec<f64> { (0..beta.len()).map(|i| f(beta[i], abar[i], abar_prev[i])).collect() };
        let posterior_variance = each(&|beta, abar, prev| beta * (1.0 - prev) / (1.0 - abar));
        let mut clipped = posterior_variance.clone();
        if let [first, second, ..] = clipped.as_mut_slice() {
            *first = *second;
        }
        Ok(Self {
            log_posterior_variance: clipped.into_iter().map(libm::log).collect(),
            log_beta: each(&|beta, _, _| libm::log(beta)),
            mean_x0: each(&|beta, abar, prev| beta * prev.sqrt() / (1.0 - abar)),
            mean_xt: each(&|beta, abar, prev| (1.0 - prev) * (1.0 - beta).sqrt() / (1.0 - abar)),
            x0_from_xt: each(&|_, abar, _| (1.0 / abar).sqrt()),
            x0_from_eps: each(&|_, abar, _| (1.0 / abar - 1.0).sqrt()),
            posterior_variance,
            timesteps,
            beta,
            abar,
            abar_prev,
        })
    }

    /// Number of kept timesteps.
    #[allow(clippy::len_without_is_empty)] // At least one is always kept.
    pub fn len(&self) -> usize {
        self.timesteps.len()
    }

    /// The kept timesteps in the order of sampling, as times.
    pub fn descending(&self) -> Vec<f64> {
        self.timesteps.iter().rev().map(|&t| t as f64).collect()
    }
}

/// `n` timesteps, at least 2, from 0 to 999: each the nearest to its place, or where places meet the next one that is free.
fn even_in_lambda(n: usize) -> Vec<usize> {
    let lambda: Vec<f64> = training_abar().into_iter().map(|abar| 0.5 * libm::log(abar / (1.0 - abar))).collect();
    let last = TRAINING_STEPS - 1;
    let mut free = 0;
    let nearest = |i: usize| {
        let target = lambda[0] + (lambda[last] - lambda[0]) * (i as f64 / (n - 1) as f64);
        // Lambda falls with the timestep; between two timesteps it is taken to be straight.
        let above = lambda.partition_point(|&l| l > target).clamp(1, last);
        let part = (lambda[above - 1] - target) / (lambda[above - 1] - lambda[above]);
        let place = ((above - 1) as f64 + part).round_ties_even() as usize;
        let step = place.clamp(free, TRAINING_STEPS - n + i);
        free = step + 1;
        step
    };
    (0..n).map(nearest).collect()
}

/// `abar` of all the training's timesteps.
fn training_abar() -> Vec<f64> {
    let last = TRAINING_STEPS - 1;
    let stride = (LAST_BETA - FIRST_BETA) / last as f64;
    let beta = |i: usize| if i == last { LAST_BETA } else { i as f64 * stride + FIRST_BETA };
    (0..TRAINING_STEPS).map(beta).scan(1.0, running_product).collect()
}

fn running_product(product: &mut f64, beta: f64) -> Option<f64> {
    *product *= 1.0 - beta;
    Some(*product)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn golden() -> serde_json::Map<String, serde_json::Value> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/manifest.json");
        let manifest: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        manifest["schedules"].as_object().unwrap().clone()
    }

    #[test]
    fn agrees_with_the_golden_schedules() {
        let golden = golden();
        assert!(golden.len() >= 12);
        for (name, value) in &golden {
            let spacing: Spacing = name.parse().unwrap();
            assert_eq!(&spacing.to_string(), name);
            let found = Schedule::new(spacing).unwrap();
            // Even ones come with the ends of their coefficients, strided ones as the bare list.
            let steps = value.get("timesteps").unwrap_or(value);
            let steps: Vec<usize> = serde_json::from_value(steps.clone()).unwrap();
            assert_eq!(found.timesteps, steps, "{name}");
            for (key, list, tolerance) in [("abar", &found.abar, 0.0), ("log_post_var", &found.log_posterior_variance, 1e-15)] {
                let Some(ends) = value.get(key) else { continue };
                for (end, ours) in [(&ends[0], list[0]), (&ends[1], list[list.len() - 1])] {
                    // Infinity has no JSON form: null.
                    match end.as_f64() {
                        Some(theirs) => assert!((ours - theirs).abs() <= tolerance * theirs.abs(), "{name} {key}: {ours} vs {theirs}"),
                        None => assert_eq!(ours, f64::NEG_INFINITY, "{name} {key}"),
                    }
                }
            }
        }
    }

    #[test]
    fn every_spacing_in_lambda_ascends_from_0_to_999() {
        for n in 2..=TRAINING_STEPS {
            let steps = Spacing::LogSnr(n).timesteps().unwrap();
            assert_eq!((steps.len(), steps[0], steps[n - 1]), (n, 0, TRAINING_STEPS - 1), "{n}");
            assert!(steps.windows(2).all(|w| w[0] < w[1]), "{n}");
        }
        assert_eq!("logsnr20".parse(), Ok(Spacing::LogSnr(20)));
        assert_eq!(Spacing::LogSnr(20).to_string(), "logsnr20");
        assert_eq!("even20".parse(), Ok(Spacing::Even(20)));
    }

    #[test]
    fn every_even_spacing_ascends_from_0_to_999() {
        let mut accumulated_differs = 0;
        for n in 2..=TRAINING_STEPS {
            let steps = Spacing::Even(n).timesteps().unwrap();
            assert_eq!((steps.len(), steps[0], steps[n - 1]), (n, 0, TRAINING_STEPS - 1), "{n}");
            assert!(steps.windows(2).all(|w| w[0] < w[1]), "{n}");
            let rounded = |i: usize| (i as f64 * 999.0 / (n - 1) as f64).round_ties_even() as usize;
            accumulated_differs += usize::from((0..n).any(|i| rounded(i) != steps[i]));
        }
        assert_eq!(accumulated_differs, 283);
    }

    #[test]
    fn refusals() {
        let message = |text: &str| text.parse::<Spacing>().and_then(Schedule::new).unwrap_err().to_string();
        assert_eq!(message("0"), "steps: expected 1 to 1000, found 0");
        assert_eq!(message("1001"), "steps: expected 1 to 1000, found 1001");
        assert_eq!(
            message("ddim999"),
            "steps: no whole stride keeps exactly 999 of 1000 timesteps; `999` without `ddim` spreads them evenly"
        );
        for bad in ["", "ddim", "logsnr", "log20", "LOGSNR20", "-1", "+5", "5.0", "ddim 5", "99999999999999999999"] {
            assert_eq!(message(bad), format!("steps: expected a number such as `50`, or `even50`, `ddim50`, `logsnr50`; found `{bad}`"));
        }
    }
}
