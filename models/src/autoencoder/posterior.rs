//! What lies between an autoencoder's latents z and the denoiser's x, as diffusers has it: `x = (z - shift) * factor`, or, of each
//! channel, `x = (z - mean) * factor / std`; and the posterior that an encoder gives, a Gaussian, as means and deviations of x.

use fcdm_ir::ops::{Clamp, Exp, Modulate, Offset, Scale, ScaleChannels, Split};
use fcdm_ir::{Builder, Type, Value};

use super::fields::{Fields, Wrong};

/// Bounds of the posterior's log-variance.
const LOG_VARIANCE: [f64; 2] = [-30.0, 20.0];

/// Names of the constants, as weights of the IR.
const DECODE: [&str; 2] = ["latents.decode.shift", "latents.decode.scale"];
const ENCODE: [&str; 2] = ["latents.encode.shift", "latents.encode.scale"];
const DEVIATION: &str = "latents.encode.deviation";

/// The relation of the two.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaling {
    factor: f64,
    shift: f64,
    /// Mean and standard deviation of every channel.
    channels: Option<Vec<[f64; 2]>>,
    /// What the names of its constants have before those given here.
    prefix: String,
}

impl Scaling {
    /// One factor.
    pub(super) fn by(factor: f64) -> Scaling {
        Scaling { factor, shift: 0.0, channels: None, prefix: String::new() }
    }

    /// Takes its fields: one number each, or lists of `channels` numbers.
    pub(super) fn read(fields: &mut Fields, channels: usize) -> Result<Scaling, Wrong> {
        let (factor, shift) = (fields.number("scaling_factor", 0.18215)?, fields.number("shift_factor", 0.0)?);
        if factor.abs() <= 1e-6 {
            return Err(format!("scaling_factor: expected a number other than 0, found {factor}"));
        }
        let (mean, std) = (fields.numbers("latents_mean", channels)?, fields.numbers("latents_std", channels)?);
        let channels = match (mean, std) {
            (None, None) => None,
            (Some(_), None) => return Err("latents_std: expected beside latents_mean, found none".to_owned()),
            (None, Some(_)) => return Err("latents_mean: expected beside latents_std, found none".to_owned()),
            (Some(_), Some(_)) if shift != 0.0 => return Err(format!("shift_factor: expected none beside latents_mean, found {shift}")),
            (Some(mean), Some(std)) => Some(mean.into_iter().zip(std).map(|(m, s)| [m, s]).collect()),
        };
        let too_small = |c: &Vec<[f64; 2]>| c.iter().map(|[_, std]| *std).find(|std| *std <= 1e-6);
        if let Some(std) = channels.as_ref().and_then(too_small) {
            return Err(format!("latents_std: expected numbers above 0, found {std}"));
        }
        Ok(Scaling { factor, shift, channels, prefix: String::new() })
    }

    /// The same with constants of other names.
    pub(super) fn prefixed(self, prefix: &str) -> Scaling {
        Scaling { prefix: prefix.to_owned(), ..self }
    }

    /// The autoencoder's latents.
    pub(super) fn decoded(&self, b: &mut Builder, x: Value) -> Value {
        if self.channels.is_some() {
            return self.modulated(b, x, DECODE);
        }
        let x = scaled(b, x, 1.0 / self.factor);
        if self.shift == 0.0 { x } else { b.one(Offset { by: self.shift }, &[x]) }
    }

    /// The denoiser's latents.
    pub(super) fn encoded(&self, b: &mut Builder, z: Value) -> Value {
        if self.channels.is_some() {
            return self.modulated(b, z, ENCODE);
        }
        let z = if self.shift == 0.0 { z } else { b.one(Offset { by: -self.shift }, &[z]) };
        scaled(b, z, self.factor)
    }

    /// Deviations of the denoiser's latents.
    pub(super) fn deviation(&self, b: &mut Builder, std: Value) -> Value {
        if self.channels.is_none() {
            return scaled(b, std, self.factor.abs());
        }
        let scale = self.weight(b, DEVIATION, std);
        b.one(ScaleChannels {}, &[std, scale])
    }

    /// The same, of log-variances.
    pub(super) fn deviation_of_log(&self, b: &mut Builder, log: Value) -> Value {
        let log = b.one(Clamp { min: LOG_VARIANCE[0], max: LOG_VARIANCE[1] }, &[log]);
        let log = b.one(Scale { by: 0.5 }, &[log]);
        let std = b.one(Exp {}, &[log]);
        self.deviation(b, std)
    }

    /// Means and deviations, of moments `[.., 2C]`: means, then log-variances.
    pub(super) fn moments(&self, b: &mut Builder, moments: Value) -> [Value; 2] {
        let axis = b.ty(moments).rank() - 1;
        let halves = b.emit(Split { axis, parts: 2 }, &[moments]);
        [self.encoded(b, halves[0]), self.deviation_of_log(b, halves[1])]
    }

    fn weight(&self, b: &mut Builder, name: &str, like: Value) -> Value {
        let channels = b.ty(like).shape[3];
        b.weight(&format!("{}{name}", self.prefix), Type::f32([1, channels]))
    }

    fn modulated(&self, b: &mut Builder, x: Value, names: [&str; 2]) -> Value {
        let [shift, scale] = names.map(|name| self.weight(b, name, x));
        b.one(Modulate {}, &[x, shift, scale])
    }

    /// Values of a constant `[1,C]` by its name in the IR.
    pub(super) fn constant(&self, name: &str) -> Option<Vec<f32>> {
        let (channels, name) = (self.channels.as_ref()?, name.strip_prefix(self.prefix.as_str())?);
        let f = self.factor;
        let of = |value: &dyn Fn(f64, f64) -> f64| Some(channels.iter().map(|&[mean, std]| value(mean, std) as f32).collect());
        // A modulation multiplies by 1 + scale.
        match name {
            n if n == DECODE[0] => of(&|mean, _| mean),
            n if n == DECODE[1] => of(&|_, std| std / f - 1.0),
            n if n == ENCODE[0] => of(&|mean, std| -mean * f / std),
            n if n == ENCODE[1] => of(&|_, std| f / std - 1.0),
            DEVIATION => of(&|_, std| f.abs() / std),
            _ => None,
        }
    }
}

fn scaled(b: &mut Builder, x: Value, by: f64) -> Value {
    if by == 1.0 { x } else { b.one(Scale { by }, &[x]) }
}
