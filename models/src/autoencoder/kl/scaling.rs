//! What lies between the autoencoder's latents z and the denoiser's x, as diffusers has it: `x = (z - shift) * factor`, or, of each
//! channel, `x = (z - mean) * factor / std`.

use fcdm_ir::Type;
use fcdm_ir::Value;
use fcdm_ir::ops::{Modulate, Offset, Scale, ScaleChannels};

use super::super::fields::{Fields, Wrong};
use crate::layers::Wiring;

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
}

impl Scaling {
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
        Ok(Scaling { factor, shift, channels })
    }

    /// The autoencoder's latents.
    pub(super) fn decoded(&self, net: &mut Wiring<'_>, x: Value) -> Value {
        if self.channels.is_some() {
            return modulated(net, x, DECODE);
        }
        let x = net.b.one(Scale { by: 1.0 / self.factor }, &[x]);
        if self.shift == 0.0 { x } else { net.b.one(Offset { by: self.shift }, &[x]) }
    }

    /// The denoiser's latents.
    pub(super) fn encoded(&self, net: &mut Wiring<'_>, z: Value) -> Value {
        if self.channels.is_some() {
            return modulated(net, z, ENCODE);
        }
        let z = if self.shift == 0.0 { z } else { net.b.one(Offset { by: -self.shift }, &[z]) };
        net.b.one(Scale { by: self.factor }, &[z])
    }

    /// The deviation of the denoiser's latents.
    pub(super) fn deviation(&self, net: &mut Wiring<'_>, z: Value) -> Value {
        if self.channels.is_none() {
            return net.b.one(Scale { by: self.factor }, &[z]);
        }
        let scale = constant(net, DEVIATION, z);
        net.b.one(ScaleChannels {}, &[z, scale])
    }

    /// Values of a constant `[1,C]` by its name.
    pub(super) fn constant(&self, name: &str) -> Option<Vec<f32>> {
        let channels = self.channels.as_ref()?;
        let f = self.factor;
        let of = |value: &dyn Fn(f64, f64) -> f64| Some(channels.iter().map(|&[mean, std]| value(mean, std) as f32).collect());
        // A modulation multiplies by 1 + scale.
        match name {
            n if n == DECODE[0] => of(&|mean, _| mean),
            n if n == DECODE[1] => of(&|_, std| std / f - 1.0),
            n if n == ENCODE[0] => of(&|mean, std| -mean * f / std),
            n if n == ENCODE[1] => of(&|_, std| f / std - 1.0),
            DEVIATION => of(&|_, std| f / std),
            _ => None,
        }
    }
}

fn constant(net: &mut Wiring<'_>, name: &str, like: Value) -> Value {
    let channels = net.b.ty(like).shape[3];
    net.weight(name, Type::f32([1, channels]))
}

fn modulated(net: &mut Wiring<'_>, x: Value, names: [&str; 2]) -> Value {
    let [shift, scale] = names.map(|name| constant(net, name, x));
    net.b.one(Modulate {}, &[x, shift, scale])
}
