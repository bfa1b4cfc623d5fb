//! Fused ops that are gradients, and the fused ops whose gradients they are.

use super::reduce::{sum_channels, sum_middle};
use super::{
    FusedDef, FusedGradient, GatedAddGrad, Gelu, GeluGrn, GeluGrnGrad, Grn, GrnScale, LayerNorm, Mul, NormModulate, NormModulateGrad,
    Offset, ScaleChannels, SumSquares,
};
use crate::function::{Builder, Value};
use crate::types::{TypeError, ensure};
use crate::vjp;

impl FusedGradient for NormModulate {
    fn grad(&self, b: &mut Builder, x: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        b.emit(NormModulateGrad { eps: self.eps }, &[x[0], x[2], dy[0]]).into_iter().map(Some).collect()
    }
}

impl FusedDef for NormModulateGrad {
    fn operands(&self) -> &'static [&'static str] {
        &["x", "scale", "dy"]
    }

    /// The shift does not matter, being added.
    fn expand(&self, b: &mut Builder, x: &[Value]) -> Result<Vec<Value>, TypeError> {
        let &[x, scale, dy] = x else { unreachable!("the number of operands has been checked") };
        ensure!("norm_modulate_grad.1", b.ty(x).rank() >= 2, "x must be [N,..,C], found {}", b.ty(x));
        ensure!("norm_modulate_grad.2", b.ty(dy) == b.ty(x), "x and dy differ: {} vs {}", b.ty(x), b.ty(dy));
        let modulated = |b: &mut Builder, x: &[Value]| {
            let h = b.try_one(LayerNorm { eps: self.eps }, x[0])?;
            let factor = b.try_one(Offset { by: 1.0 }, x[1])?;
            b.try_emit(ScaleChannels {}, &[h, factor])
        };
        // What it refuses is refused here, with its own constraint.
        modulated(b, &[x, scale])?;
        let grads = vjp::through(b, &[x, scale], &[dy], modulated);
        let [Some(dx), Some(dscale)] = grads[..] else { unreachable!("it depends on both") };
        Ok(vec![dx, sum_middle(b, dy), dscale])
    }
}

impl FusedDef for GeluGrn {
    fn operands(&self) -> &'static [&'static str] {
        &["x", "gamma", "beta"]
    }

    fn expand(&self, b: &mut Builder, x: &[Value]) -> Result<Vec<Value>, TypeError> {
        let h = b.try_one(Gelu {}, x[0])?;
        b.try_emit(Grn { eps: self.eps }, &[h, x[1], x[2]])
    }
}

impl FusedGradient for GeluGrn {
    fn grad(&self, b: &mut Builder, x: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        b.emit(GeluGrnGrad { eps: self.eps }, &[x[0], x[1], dy[0]]).into_iter().map(Some).collect()
    }
}

impl FusedDef for GeluGrnGrad {
    fn operands(&self) -> &'static [&'static str] {
        &["x", "gamma", "dy"]
    }

    /// Beta does not matter, being added.
    fn expand(&self, b: &mut Builder, x: &[Value]) -> Result<Vec<Value>, TypeError> {
        let &[x, gamma, dy] = x else { unreachable!("the number of operands has been checked") };
        ensure!("gelu_grn_grad.1", b.ty(dy) == b.ty(x), "x and dy differ: {} vs {}", b.ty(x), b.ty(dy));
        let scaled = |b: &mut Builder, x: &[Value]| {
            let h = b.try_one(Gelu {}, x[0])?;
            let statistic = b.try_one(SumSquares {}, h)?;
            let factor = b.try_emit(GrnScale { eps: self.eps }, &[statistic, x[1]])?[0];
            b.try_emit(ScaleChannels {}, &[h, factor])
        };
        scaled(b, &[x, gamma])?;
        let grads = vjp::through(b, &[x, gamma], &[dy], scaled);
        let [Some(dx), Some(dgamma)] = grads[..] else { unreachable!("it depends on both") };
        Ok(vec![dx, dgamma, sum_channels(b, dy)])
    }
}

impl FusedDef for GatedAddGrad {
    fn operands(&self) -> &'static [&'static str] {
        &["h", "gate", "dy"]
    }

    fn expand(&self, b: &mut Builder, x: &[Value]) -> Result<Vec<Value>, TypeError> {
        let dh = b.try_emit(ScaleChannels {}, &[x[2], x[1]])?[0];
        let product = b.try_emit(Mul {}, &[x[2], x[0]])?[0];
        Ok(vec![dh, sum_middle(b, product)])
    }
}
