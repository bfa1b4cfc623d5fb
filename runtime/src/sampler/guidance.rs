//! Classifier-free guidance (Ho and Salimans 2022): `uncond + scale (cond - uncond)` on the guided channels, the
//! conditional output on all others. Only within an interval of time, if one is given (Kynkaanniemi et al. 2024);
//! outside of it, and at scale 1, the unconditional half need not be evaluated.

use super::SamplerError;
use crate::artifact::{ModelInfo, Prediction};
use crate::schedule::TRAINING_STEPS;

/// Which output channels are guided. Variances never are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuidedChannels {
    /// The first three: what the official sampler does, for any number of channels.
    First3,
    /// All that predict eps or velocity.
    AllEps,
}

/// Guidance as a user sets it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guidance {
    /// 1 is none.
    pub scale: f64,
    /// What is guided.
    pub channels: GuidedChannels,
    /// Where: lowest and highest place on the network's own time axis, both included: `t / 1000` for diffusion
    /// (1 is noise), `t` for flow (0 is noise). `None`: everywhere.
    pub interval: Option<(f64, f64)>,
}

impl Default for Guidance {
    /// None.
    fn default() -> Self {
        Self { scale: 1.0, channels: GuidedChannels::First3, interval: None }
    }
}

/// Scale of the official sampler.
const DEFAULT_SCALE: f64 = 1.5;

/// Channels of the latents that the official sampler was written for.
const OFFICIAL_CHANNELS: usize = 4;

impl Guidance {
    /// What a model is best sampled with, as its artifact says; else what the official sampler does, and none for a model without a
    /// null class. The official sampler guides the first three channels of the four that its latents have: of other states it guides all.
    pub fn of(model: &ModelInfo) -> Guidance {
        let unknown = if model.null_class { DEFAULT_SCALE } else { 1.0 };
        let all = model.sampling.map_or(model.in_channels != OFFICIAL_CHANNELS, |s| s.all_channels);
        Guidance {
            scale: model.sampling.map_or(unknown, |s| s.cfg_scale),
            channels: if all { GuidedChannels::AllEps } else { GuidedChannels::First3 },
            interval: None,
        }
    }

    /// `guidance 1.5 on 3 of 4 channels`.
    pub fn in_words(&self, model: &ModelInfo) -> String {
        if self.scale == 1.0 {
            return "no guidance".to_owned();
        }
        let channels = match self.channels {
            GuidedChannels::First3 if model.in_channels > 3 => format!("3 of {}", model.in_channels),
            _ => "all".to_owned(),
        };
        format!("guidance {} on {channels} channels", self.scale)
    }

    /// # Errors
    /// On a scale that is no number, or an interval that is empty or outside of 0 to 1.
    pub fn validate(&self) -> Result<(), SamplerError> {
        if !self.scale.is_finite() {
            return Err(SamplerError::option("scale", "a finite number", self.scale));
        }
        match self.interval {
            Some((lo, hi)) if !(0.0 <= lo && lo <= hi && hi <= 1.0) => {
                Err(SamplerError::option("interval", "0 <= low <= high <= 1", format!("{lo}, {hi}")))
            }
            _ => Ok(()),
        }
    }

    /// Whether the unconditional half has to be evaluated at time `t`.
    pub fn is_active(&self, prediction: Prediction, t: f64) -> bool {
        let place = match prediction {
            Prediction::EpsVariance => t / TRAINING_STEPS as f64,
            Prediction::Velocity => t,
        };
        self.scale != 1.0 && self.interval.is_none_or(|(lo, hi)| (lo..=hi).contains(&place))
    }

    /// Guides `cond` in place. Both are rows of `out_channels` values, of which the first `channels` predict eps or
    /// velocity.
    ///
    /// # Panics
    /// When the lengths differ or are no whole number of rows.
    pub fn combine(&self, cond: &mut [f32], uncond: &[f32], channels: usize, out_channels: usize) {
        assert_eq!(cond.len(), uncond.len(), "both halves have the same rows");
        assert!(channels <= out_channels && cond.len().is_multiple_of(out_channels), "whole rows");
        let guided = match self.channels {
            GuidedChannels::First3 => channels.min(3),
            GuidedChannels::AllEps => channels,
        };
        for (row, base) in cond.chunks_exact_mut(out_channels).zip(uncond.chunks_exact(out_channels)) {
            for (c, &u) in row[..guided].iter_mut().zip(base) {
                let u = f64::from(u);
                *c = (u + self.scale * (f64::from(*c) - u)) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guides_the_chosen_channels_only() {
        let guide = |channels| {
            let mut cond = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
            Guidance { scale: 3.0, channels, interval: None }.combine(&mut cond, &[0.5; 8], 4, 8);
            cond
        };
        assert_eq!(guide(GuidedChannels::First3), [2.0, 5.0, 8.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        assert_eq!(guide(GuidedChannels::AllEps), [2.0, 5.0, 8.0, 11.0, 5.0, 6.0, 7.0, 8.0]);
        let mut narrow = [1.0, 2.0];
        Guidance { scale: 0.0, ..Guidance::default() }.combine(&mut narrow, &[0.5, 0.25], 1, 1);
        assert_eq!(narrow, [0.5, 0.25]);
    }

    #[test]
    fn interval_and_scale_decide() {
        let guidance = Guidance { scale: 2.0, interval: Some((0.25, 0.5)), ..Guidance::default() };
        let active = |prediction, t| guidance.is_active(prediction, t);
        assert_eq!([249.0, 250.0, 500.0, 501.0].map(|t| active(Prediction::EpsVariance, t)), [false, true, true, false]);
        assert_eq!([0.2, 0.25, 0.5, 0.6].map(|t| active(Prediction::Velocity, t)), [false, true, true, false]);
        assert!(!Guidance::default().is_active(Prediction::Velocity, 0.3));
        assert!(Guidance { interval: None, ..guidance }.is_active(Prediction::EpsVariance, 999.0));
    }

    #[test]
    fn refusals() {
        let message = |scale, interval| Guidance { scale, interval, ..Guidance::default() }.validate().map_err(|e| e.to_string());
        assert_eq!(message(4.0, Some((0.0, 1.0))), Ok(()));
        assert_eq!(message(f64::NAN, None), Err("scale: expected a finite number, found NaN".into()));
        assert_eq!(message(4.0, Some((0.5, 0.2))), Err("interval: expected 0 <= low <= high <= 1, found 0.5, 0.2".into()));
        assert!(message(4.0, Some((f64::NAN, 0.2))).is_err());
    }
}
