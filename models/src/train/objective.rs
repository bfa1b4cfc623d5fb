//! What a network is trained to predict, of which mixture of data and noise, and with which weight: by sample, the coefficients of
//! [`super::loss`] at a time that is drawn.
//!
//! Diffusion (Ho et al., arXiv 2006.11239) has 1000 timesteps and predicts the noise. Flow matching follows a path `x_t = alpha x1 + sigma x0` of data
//! x1 and noise x0, t from 0 to 1, as SiT defines them (arXiv 2401.08740, table 1).

use std::f64::consts::{FRAC_PI_2, PI};

use fcdm_runtime::rng::{Purpose, Stream, normals, uniform};
use fcdm_runtime::schedule::{Schedule, Spacing};
use serde::{Deserialize, Serialize};

use super::loss::Column;

/// A row of coefficients.
pub type Row = [f32; Column::COUNT];

/// The training objective.
#[derive(Clone, Debug, PartialEq)]
pub enum Objective {
    /// Noise prediction over 1000 timesteps.
    Diffusion(Diffusion),
    /// Flow matching.
    Flow(Flow),
}

/// Noise prediction, of networks with learned variance or without.
#[derive(Clone, Debug, PartialEq)]
pub struct Diffusion {
    schedule: Box<Schedule>,
    min_snr: Option<f64>,
}

/// Flow matching.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flow {
    /// The path.
    pub path: Path,
    /// What the network predicts.
    pub prediction: Prediction,
    /// How times are drawn.
    pub times: Times,
    /// See [`Diffusion::new`].
    pub min_snr: Option<f64>,
}

/// A path from noise at t = 0 to data at t = 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// `alpha = t`, `sigma = 1 - t`.
    #[default]
    Linear,
    /// `alpha = sin(pi t / 2)`, `sigma = cos(pi t / 2)`.
    Gvp,
    /// `alpha = exp(-(1-t)^2 (20 - 0.1) / 4 - (1-t) 0.1 / 2)`, `sigma = sqrt(1 - alpha^2)`: the variance-preserving diffusion.
    Vp,
}

/// What a flow's network predicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prediction {
    /// `dx_t/dt`.
    #[default]
    Velocity,
    /// x0.
    Noise,
    /// `-x0 / sigma`, of which the loss is multiplied by sigma^2.
    Score,
}

/// How a flow's times are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Times {
    /// Every time alike.
    #[default]
    Uniform,
    /// The logistic function of a normal number (Esser et al., arXiv 2403.03206, eq. 19): times in the middle are drawn more often.
    LogitNormal {
        /// Mean of the normal number.
        mean: f64,
        /// Its standard deviation.
        std: f64,
    },
}

/// Where a path has no velocity or noise no scale, times stay away from the end by so much.
const VP_MARGIN: f64 = 1e-5;
const PREDICTION_MARGIN: f64 = 1e-3;

/// Noise of the variance-preserving path, least and greatest rate.
const VP_RATES: [f64; 2] = [0.1, 20.0];

impl Diffusion {
    /// The schedule that networks are trained with. With `min_snr` gamma the squared error has weight `min(SNR, gamma) / SNR`
    /// (Hang et al., arXiv 2303.09556, eq. 6), without it 1.
    pub fn new(min_snr: Option<f64>) -> Diffusion {
        Diffusion { schedule: Box::new(Schedule::new(Spacing::Even(1000)).expect("all timesteps are a selection")), min_snr }
    }

    fn row(&self, t: usize, batch: f64) -> Row {
        let s = &self.schedule;
        let snr = s.abar[t] / (1.0 - s.abar[t]);
        let weight = self.min_snr.map_or(1.0, |gamma| snr.min(gamma) / snr);
        let mut row = [0.0; Column::COUNT];
        for (column, value) in [
            (Column::Alpha, s.abar[t].sqrt()),
            (Column::Sigma, (1.0 - s.abar[t]).sqrt()),
            (Column::Scale, 1.0),
            (Column::Noise, 1.0),
            (Column::Weight, weight / batch),
            (Column::Bound, 1.0 / batch),
            (Column::LogPosterior, s.log_posterior_variance[t]),
            (Column::LogBeta, s.log_beta[t]),
            (Column::MeanData, s.mean_x0[t]),
            (Column::MeanState, s.mean_xt[t]),
            (Column::FromState, s.x0_from_xt[t]),
            (Column::FromNoise, s.x0_from_eps[t]),
            (Column::First, f64::from(u8::from(t == 0))),
        ] {
            row[column as usize] = value as f32;
        }
        row
    }
}

impl Path {
    /// `alpha`, `sigma` and their derivatives in t.
    pub fn at(self, t: f64) -> [f64; 4] {
        match self {
            Path::Linear => [t, 1.0 - t, 1.0, -1.0],
            Path::Gvp => {
                let (sin, cos) = (libm::sin(FRAC_PI_2 * t), libm::cos(FRAC_PI_2 * t));
                [sin, cos, PI / 2.0 * cos, -PI / 2.0 * sin]
            }
            Path::Vp => {
                let [least, greatest] = VP_RATES;
                let rest = 1.0 - t;
                let log = -0.25 * rest * rest * (greatest - least) - 0.5 * rest * least;
                let slope = 0.5 * rest * (greatest - least) + 0.5 * least;
                let alpha = libm::exp(log);
                let sigma = (-libm::expm1(2.0 * log)).sqrt();
                [alpha, sigma, alpha * slope, -alpha * alpha * slope / sigma]
            }
        }
    }
}

impl Flow {
    /// The times that are drawn: from the first to the second.
    pub fn range(&self) -> [f64; 2] {
        match (self.path, self.prediction) {
            (Path::Vp, _) => [0.0, 1.0 - VP_MARGIN],
            (_, Prediction::Velocity) => [0.0, 1.0],
            (_, Prediction::Noise | Prediction::Score) => [PREDICTION_MARGIN, 1.0 - PREDICTION_MARGIN],
        }
    }

    fn row(&self, t: f64, batch: f64) -> Row {
        let [alpha, sigma, alpha_slope, sigma_slope] = self.path.at(t);
        let (scale, data, noise) = match self.prediction {
            Prediction::Velocity => (1.0, alpha_slope, sigma_slope),
            Prediction::Noise => (1.0, 0.0, 1.0),
            Prediction::Score => (sigma, 0.0, -1.0),
        };
        let snr = alpha * alpha / (sigma * sigma);
        let weight = match (self.min_snr, self.prediction) {
            (None, _) => 1.0,
            // Of velocities, whose error is that of the noise times about (SNR + 1) / SNR.
            (Some(gamma), Prediction::Velocity) => snr.min(gamma) / (snr + 1.0),
            (Some(gamma), _) => snr.min(gamma) / snr.max(f64::MIN_POSITIVE),
        };
        let mut row = [0.0; Column::COUNT];
        for (column, value) in [
            (Column::Alpha, alpha),
            (Column::Sigma, sigma),
            (Column::Scale, scale),
            (Column::Data, data),
            (Column::Noise, noise),
            (Column::Weight, if weight.is_finite() { weight / batch } else { 0.0 }),
        ] {
            row[column as usize] = value as f32;
        }
        row
    }
}

impl Objective {
    /// A time, drawn for an example at a step.
    pub fn draw(&self, seed: u64, item: u32, step: u32) -> f64 {
        let stream = Stream { purpose: Purpose::TrainingTime, item, step };
        match self {
            Objective::Diffusion(d) => (uniform(seed, stream, 0) * d.schedule.len() as f64).floor(),
            Objective::Flow(flow) => {
                let unit = match flow.times {
                    Times::Uniform => uniform(seed, stream, 0),
                    Times::LogitNormal { mean, std } => {
                        let mut z = [0.0; 4];
                        normals(seed, stream, &mut z);
                        1.0 / (1.0 + libm::exp(-(mean + std * f64::from(z[0]))))
                    }
                };
                let [first, last] = flow.range();
                first + (last - first) * unit
            }
        }
    }

    /// The middle of part `i` of `n` of all times.
    pub fn spread(&self, i: usize, n: usize) -> f64 {
        let share = (i as f64 + 0.5) / n as f64;
        match self {
            Objective::Diffusion(d) => (share * d.schedule.len() as f64).floor(),
            Objective::Flow(flow) => {
                let [first, last] = flow.range();
                first + (last - first) * share
            }
        }
    }

    /// Coefficients at a time, of one of `batch` samples over which the loss is a mean.
    ///
    /// # Panics
    /// If a diffusion's time is no timestep.
    pub fn row(&self, t: f64, batch: usize) -> Row {
        match self {
            Objective::Diffusion(d) => d.row(t as usize, batch as f64),
            Objective::Flow(flow) => flow.row(t, batch as f64),
        }
    }

    /// At which share of all times a time lies, from 0, the data, to 1, the noise.
    pub fn noisiness(&self, t: f64) -> f64 {
        match self {
            Objective::Diffusion(d) => t / d.schedule.len() as f64,
            Objective::Flow(_) => 1.0 - t,
        }
    }
}
