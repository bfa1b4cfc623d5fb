//! What changes from update to update: the learning rate and the averages' decays.

use serde::{Deserialize, Serialize};

/// How the learning rate goes on behind the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decline {
    /// Not at all.
    #[default]
    Constant,
    /// Half a cosine down to zero at the last update.
    Cosine,
    /// Warm-up, stable, decay: constant until the last part, there `1 - sqrt` down to zero (Hägele et al., arXiv 2405.18392). Where the last
    /// part begins need not be known before.
    Wsd,
}

/// The part of a run over which a decay goes down: first update and number of updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decay {
    /// The last update before.
    pub after: u64,
    /// How many.
    pub updates: u64,
}

/// The learning rate by update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearningRate {
    /// The greatest.
    pub peak: f64,
    /// Updates over which it rises from zero.
    pub warmup: u64,
    /// How it goes on.
    pub decline: Decline,
}

impl LearningRate {
    /// That of update `k`, from 1, of a run of `total`; with `wsd` its decay, once that has begun.
    pub fn at(&self, k: u64, total: Option<u64>, decay: Option<Decay>) -> f64 {
        let rise = if k < self.warmup { k as f64 / self.warmup as f64 } else { 1.0 };
        let share = |after: u64, updates: u64| (k.saturating_sub(after) as f64 / updates.max(1) as f64).min(1.0);
        let fall = match (self.decline, total, decay) {
            (Decline::Cosine, Some(total), _) => {
                0.5 * (1.0 + libm::cos(std::f64::consts::PI * share(self.warmup, total.saturating_sub(self.warmup))))
            }
            (Decline::Wsd, _, Some(decay)) => 1.0 - share(decay.after, decay.updates).sqrt(),
            _ => 1.0,
        };
        self.peak * rise * fall
    }
}

/// A running average of the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Average {
    /// `decay`, and with `warmup` at update k at most `(1 + k) / (10 + k)`, so that early weights are soon forgotten.
    Exponential {
        /// Share of the average that stays.
        decay: f64,
        /// Whether it grows up to that.
        warmup: bool,
    },
    /// Power function of the time since the beginning, as wide as a share `sigma` of the run (Karras et al., arXiv 2312.02696, eq. 126 and 127):
    /// from two such averages, kept at several times, any other can be made afterwards.
    Power {
        /// Relative standard deviation of the profile.
        sigma: f64,
    },
}

impl Average {
    /// Its decay at update k, from 1.
    pub fn decay(&self, k: u64) -> f64 {
        match *self {
            Average::Exponential { decay, warmup: false } => decay,
            Average::Exponential { decay, warmup: true } => decay.min((1 + k) as f64 / (10 + k) as f64),
            Average::Power { sigma } => libm::pow(1.0 - 1.0 / k as f64, exponent(sigma) + 1.0),
        }
    }
}

/// The exponent gamma of a profile of relative width sigma: the root of `(gamma + 1) / ((gamma + 2)^2 (gamma + 3)) = sigma^2`, which falls.
pub fn exponent(sigma: f64) -> f64 {
    let width = |gamma: f64| ((gamma + 1.0) / ((gamma + 2.0) * (gamma + 2.0) * (gamma + 3.0))).sqrt();
    let (mut low, mut high) = (0.0, 1.0);
    while width(high) > sigma {
        high *= 2.0;
    }
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if width(middle) > sigma { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let rate = |decline| LearningRate { peak: 2.0, warmup: 4, decline };
        let all = |r: LearningRate, total, decay| (1..=8).map(|k| r.at(k, total, decay)).collect::<Vec<_>>();
        assert_eq!(all(rate(Decline::Constant), Some(8), None), [0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0]);
        let cosine = all(rate(Decline::Cosine), Some(8), None);
        assert!((cosine[5] - 1.0).abs() < 1e-12 && cosine[7].abs() < 1e-12, "{cosine:?}");
        let wsd = all(rate(Decline::Wsd), None, Some(Decay { after: 4, updates: 4 }));
        assert_eq!(wsd, [0.5, 1.0, 1.5, 2.0, 1.0, 2.0 * (1.0 - 0.5f64.sqrt()), 2.0 * (1.0 - 0.75f64.sqrt()), 0.0]);
        assert_eq!(all(rate(Decline::Wsd), None, None)[7], 2.0);
        assert_eq!(LearningRate { peak: 1.0, warmup: 0, decline: Decline::Constant }.at(1, None, None), 1.0);
    }

    #[test]
    fn averages() {
        let plain = Average::Exponential { decay: 0.9999, warmup: false };
        assert_eq!((plain.decay(1), plain.decay(1000)), (0.9999, 0.9999));
        let warm = Average::Exponential { decay: 0.9999, warmup: true };
        assert_eq!((warm.decay(1), warm.decay(8), warm.decay(1_000_000)), (2.0 / 11.0, 0.5, 0.9999));
        // A power average of the numbers 1 .. n is n (gamma + 1) / (gamma + 2), up to what discrete times make of it.
        let (power, gamma) = (Average::Power { sigma: 0.1 }, exponent(0.1));
        let mean = (1..=1000u64).fold(0.0, |mean, k| power.decay(k) * mean + (1.0 - power.decay(k)) * k as f64);
        let want = 1000.0 * (gamma + 1.0) / (gamma + 2.0);
        assert!((mean - want).abs() < 1.0, "{mean} for {want}");
        // The widths that the paper names with their exponents.
        assert!((exponent(0.05) - 16.97).abs() < 0.01 && (exponent(0.1) - 6.94).abs() < 0.01, "{} {}", exponent(0.05), exponent(0.1));
    }
}
