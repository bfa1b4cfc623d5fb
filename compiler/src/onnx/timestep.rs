//! Timestep embeddings: `concat(cos(t f), sin(t f))` with the frequencies of `timestep_embedding`. Recognised here and not by
//! a pass, since it rests on the values of a constant, which passes do not see. The formula's frequencies are f32; an
//! exporter's may differ from them in the last place, which the op's own definition settles.

use fcdm_ir::Value;
use fcdm_ir::ops::{Reshape, TimestepEmbedding};

use super::constant::Constant;
use super::error::Translated;
use super::import::{Ordered, Translation, Val, plain};

/// `t f` of an embedding, or its cosine or sine.
#[derive(Clone, Debug)]
pub(super) struct Angle {
    /// `t [N]`.
    t: Value,
    half: usize,
    function: AngleFunction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AngleFunction {
    Product,
    Cos,
    Sin,
}

/// True if the numbers are `exp(-ln(10000) i / half)`, to two units in the last place or so.
fn frequencies(c: &Constant) -> Option<usize> {
    let half = c.dims.last().copied().filter(|&half| half >= 2 && half == c.count())?;
    let rate = -(10000f64.ln()) / half as f64;
    let close = |(i, &f): (usize, &f32)| {
        let exact = (rate * i as f64).exp();
        (f64::from(f) - exact).abs() <= 6e-7 * exact
    };
    c.as_floats().iter().enumerate().all(close).then_some(half)
}

impl Translation {
    /// Notes that `y`, of `x * c`, is the angle of an embedding.
    pub fn note_product(&mut self, x: &Ordered, c: &Constant, y: Value) {
        let (dims, Some(half)) = (self.dims(x), frequencies(c)) else { return };
        if dims.len() != 2 || dims[1] != 1 || self.b.ty(y).shape != [dims[0], half] {
            return;
        }
        if let Ok(t) = self.one(Reshape { shape: vec![dims[0]] }, &[x.v]) {
            self.angles.insert(y, Angle { t, half, function: AngleFunction::Product });
        }
    }

    /// Notes that `y` is the cosine or sine of an angle.
    pub fn note_function(&mut self, x: Value, function: AngleFunction, y: Value) {
        let angle = self.angles.get(&x).filter(|a| a.function == AngleFunction::Product).cloned();
        if let Some(angle) = angle {
            self.angles.insert(y, Angle { function, ..angle });
        }
    }

    /// The embedding that a concatenation makes.
    pub fn timestep_embedding(&mut self, parts: &[Val], at: usize) -> Translated<Option<Ordered>> {
        let [Val::Computed(cos), Val::Computed(sin)] = parts else { return Ok(None) };
        let (Some(c), Some(s)) = (self.angles.get(&cos.v).cloned(), self.angles.get(&sin.v)) else { return Ok(None) };
        let right = c.function == AngleFunction::Cos && s.function == AngleFunction::Sin && c.t == s.t && at == 1;
        if !right || cos.order != plain(2) || sin.order != plain(2) {
            return Ok(None);
        }
        let v = self.one(TimestepEmbedding { dim: 2 * c.half }, &[c.t])?;
        Ok(Some(Ordered { v, order: plain(2) }))
    }
}
