//! What an error of the network at one time comes to at the end of a trajectory, by spatial frequency.
//!
//! A step adds the error times a coefficient to the state, and the steps behind it shrink or stretch what they find, coarse structure
//! otherwise than fine detail. How much is known for data that are Gaussian with the variance `s^2` of the network's own pictures at
//! each frequency, where the best prediction is linear in the state (`x_t = a x_0 + sigma eps`): `eps = sigma x / (a^2 s^2 + sigma^2)`, or for
//! a flow from noise at 0 to data at 1 `v = (t s^2 - (1 - t)) x / (t^2 s^2 + (1 - t)^2)`. The sampler itself is taken through its steps with
//! that in the network's place, once for every evaluation with a unit error there: what is left of it at the end is its gain.

use std::f64::consts::PI;

use fcdm_runtime::artifact::Prediction;
use fcdm_runtime::sampler::{Layout, Method, NoNoise, Sampler, SamplerError};
use fcdm_runtime::schedule::Schedule;
use ndarray::{Array2, ArrayView2};

/// The orthonormal cosine transform (DCT-II) of images of one size.
pub(super) struct Cosines {
    rows: Array2<f32>,
    columns: Array2<f32>,
}

impl Cosines {
    pub fn new(height: usize, width: usize) -> Cosines {
        let matrix = |n: usize| {
            let scale = |k: usize| if k == 0 { (1.0 / n as f64).sqrt() } else { (2.0 / n as f64).sqrt() };
            Array2::from_shape_fn((n, n), |(k, i)| (scale(k) * (PI * k as f64 * (i as f64 + 0.5) / n as f64).cos()) as f32)
        };
        Cosines { rows: matrix(height), columns: matrix(width) }
    }

    /// Values of an image.
    pub fn len(&self) -> usize {
        self.rows.nrows() * self.columns.nrows()
    }

    /// Of each of the first `channels` of images `[n, H, W, C]`: `[n, channels, H, W]`, row-major.
    pub fn of(&self, images: &[f32], all: usize, channels: usize) -> Vec<f32> {
        let (h, w) = (self.rows.nrows(), self.columns.nrows());
        let mut out = Vec::with_capacity(images.len() / all * channels);
        for image in images.chunks_exact(h * w * all) {
            for channel in 0..channels {
                let plane: Vec<f32> = image.iter().skip(channel).step_by(all).copied().collect();
                let plane = ArrayView2::from_shape((h, w), &plane).expect("an image");
                out.extend(self.rows.dot(&plane).dot(&self.columns.t()));
            }
        }
        out
    }
}

/// Variances of images `[n, C, frequencies]` at every frequency, about the mean of each channel; not below a thousandth of their mean,
/// for a few images tell little.
pub(super) fn spectrum(transformed: &[f32], channels: usize, frequencies: usize) -> Vec<f64> {
    let images = (transformed.len() / (channels * frequencies)).max(1);
    let at = |image: usize, channel: usize, f: usize| f64::from(transformed[(image * channels + channel) * frequencies + f]);
    let variance = |f: usize| -> f64 {
        let of_channel = |channel: usize| {
            let mean = (0..images).map(|i| at(i, channel, f)).sum::<f64>() / images as f64;
            // Of one image there is only its size.
            let mean = if images > 1 { mean } else { 0.0 };
            (0..images).map(|i| (at(i, channel, f) - mean).powi(2)).sum::<f64>() / images.saturating_sub(1).max(1) as f64
        };
        (0..channels).map(of_channel).sum::<f64>() / channels as f64
    };
    let all: Vec<f64> = (0..frequencies).map(variance).collect();
    let least = (1e-3 * all.iter().sum::<f64>() / frequencies.max(1) as f64).max(1e-9);
    all.into_iter().map(|v| v.max(least)).collect()
}

/// For every evaluation of a deterministic method: what a unit error of the network there is at the end, at every frequency of data with
/// these variances.
pub(super) fn gains(method: Method, prediction: Prediction, variances: &[f64]) -> Result<Vec<Vec<f32>>, SamplerError> {
    let layout = Layout { states: variances.len(), positions: 1, channels: 1, out_channels: 1 };
    let mut sampler = Sampler::new(method, layout)?;
    let abar = match (method, prediction) {
        (Method::Ddim { spacing, .. }, Prediction::EpsVariance) => Schedule::new(spacing)?.abar,
        _ => Vec::new(),
    };
    let best = |index: usize, time: f64, variance: f64| match prediction {
        Prediction::EpsVariance => {
            let a2 = abar[abar.len() - 1 - index];
            (1.0 - a2).sqrt() / (a2 * variance + 1.0 - a2)
        }
        Prediction::Velocity => (time * variance - (1.0 - time)) / (time * time * variance + (1.0 - time).powi(2)),
    };
    let evaluations = sampler.evaluations().len();
    let gain = |of: usize| {
        sampler.restart();
        let mut state = vec![0.0; variances.len()];
        let mut denoiser = |x: &[f32], index: usize, time: f64, out: &mut [f32]| {
            for ((out, &x), &variance) in out.iter_mut().zip(x).zip(variances) {
                *out = (best(index, time, variance) * f64::from(x)) as f32 + f32::from(u8::from(index == of));
            }
        };
        sampler.run(&mut state, &mut denoiser, &mut NoNoise, &mut |_, _| std::ops::ControlFlow::Continue(()));
        state
    };
    Ok((0..evaluations).map(gain).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use fcdm_runtime::sampler::Solver;
    use fcdm_runtime::schedule::Spacing;

    #[test]
    fn the_transform_keeps_the_sum_of_squares_and_tells_frequencies_apart() {
        let cosines = Cosines::new(4, 6);
        let images: Vec<f32> = (0..2 * 24 * 3).map(|i| ((i * 37) % 17) as f32 - 8.0).collect();
        let out = cosines.of(&images, 3, 3);
        let energy = |v: &[f32]| v.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
        assert!((energy(&out) / energy(&images) - 1.0).abs() < 1e-5);
        // A plane that is flat is of frequency 0 alone; the second of two channels is left out.
        let flat: Vec<f32> = (0..24).flat_map(|i| [2.0, i as f32]).collect();
        let out = cosines.of(&flat, 2, 1);
        assert!((out[0] - 2.0 * 24f32.sqrt()).abs() < 1e-5 && out[1..].iter().all(|v| v.abs() < 1e-5), "{out:?}");
    }

    #[test]
    fn variances_are_about_the_mean() {
        // Two images of one channel and two frequencies: 1 and 3, 5 and 5.
        let found = spectrum(&[1.0, 5.0, 3.0, 5.0], 1, 2);
        assert!((found[0] - 2.0).abs() < 1e-9 && (found[1] - 1e-3).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn an_error_of_the_last_step_is_its_coefficient() {
        let steps = 10;
        let flow = gains(Method::Ode { steps, solver: Solver::Euler }, Prediction::Velocity, &[1.0, 0.01]).unwrap();
        assert!(flow[steps - 1].iter().all(|g| (g - 0.1).abs() < 1e-6), "{flow:?}");
        // Of data that hardly vary the last steps take the error of the first away.
        assert!(flow[0][1] < 0.3 * flow[0][0], "{flow:?}");
        let method = Method::Ddim { spacing: Spacing::Even(steps), eta: 0.0 };
        let ddim = gains(method, Prediction::EpsVariance, &[1.0, 0.01]).unwrap();
        let schedule = Schedule::new(Spacing::Even(steps)).unwrap();
        // The last step takes all noise for what it is told.
        assert!(ddim[steps - 1].iter().all(|g| (f64::from(*g) + schedule.x0_from_eps[0]).abs() < 1e-5), "{ddim:?}");
        assert!(ddim[0][1].abs() < 0.3 * ddim[0][0].abs(), "{ddim:?}");
    }

    /// A mixed error of all evaluations is what trajectories with and without it differ by, where the network is what gains suppose.
    #[test]
    fn gains_add_up() {
        let (steps, variances) = (8, [0.5, 2.0, 0.1]);
        let method = Method::Ode { steps, solver: Solver::Euler };
        let gains = gains(method, Prediction::Velocity, &variances).unwrap();
        let error = |k: usize, f: usize| ((k * 3 + f * 5) % 7) as f32 / 7.0 - 0.4;
        let end = |wrong: bool| {
            let mut sampler = Sampler::new(method, Layout { states: 3, positions: 1, channels: 1, out_channels: 1 }).unwrap();
            let mut state = vec![0.3, -0.7, 1.1];
            let mut denoiser = |x: &[f32], k: usize, t: f64, out: &mut [f32]| {
                for (f, (out, &x)) in out.iter_mut().zip(x).enumerate() {
                    let v = (t * variances[f] - (1.0 - t)) / (t * t * variances[f] + (1.0 - t).powi(2));
                    *out = (v * f64::from(x)) as f32 + if wrong { error(k, f) } else { 0.0 };
                }
            };
            sampler.run(&mut state, &mut denoiser, &mut NoNoise, &mut |_, _| std::ops::ControlFlow::Continue(()));
            state
        };
        for (f, (with, without)) in end(true).iter().zip(end(false)).enumerate() {
            let sum: f32 = (0..steps).map(|k| gains[k][f] * error(k, f)).sum();
            assert!((with - without - sum).abs() < 1e-5, "{f}: {} {sum}", with - without);
        }
    }
}
