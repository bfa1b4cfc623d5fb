//! The posterior that an encoder gives: a Gaussian over latents, as means and deviations.

use fcdm_ir::ops::{Clamp, Exp, Offset, Scale, Split};
use fcdm_ir::{Builder, Value};

/// Bounds of the posterior's log-variance.
const LOG_VARIANCE: [f64; 2] = [-30.0, 20.0];

/// What the denoiser's latents are of the network's: `(z - shift) scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scaling {
    pub scale: f64,
    pub shift: f64,
}

impl Scaling {
    /// Means as the denoiser has them.
    pub fn mean(self, b: &mut Builder, mut mean: Value) -> Value {
        if self.shift != 0.0 {
            mean = b.one(Offset { by: -self.shift }, &[mean]);
        }
        b.one(Scale { by: self.scale }, &[mean])
    }

    /// Deviations as the denoiser has them.
    pub fn deviation(self, b: &mut Builder, std: Value) -> Value {
        b.one(Scale { by: self.scale.abs() }, &[std])
    }

    /// Deviations of log-variances.
    pub fn deviation_of_log(self, b: &mut Builder, log: Value) -> Value {
        let log = b.one(Clamp { min: LOG_VARIANCE[0], max: LOG_VARIANCE[1] }, &[log]);
        let log = b.one(Scale { by: 0.5 }, &[log]);
        let std = b.one(Exp {}, &[log]);
        self.deviation(b, std)
    }

    /// Means and deviations of moments `[.., 2C]`: means, then log-variances.
    pub fn moments(self, b: &mut Builder, moments: Value) -> [Value; 2] {
        let axis = b.ty(moments).rank() - 1;
        let halves = b.emit(Split { axis, parts: 2 }, &[moments]);
        [self.mean(b, halves[0]), self.deviation_of_log(b, halves[1])]
    }
}
