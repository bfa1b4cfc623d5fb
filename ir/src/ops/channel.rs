//! One number per sample and channel, applied to every pixel.

use ndarray::{Array3, ArrayView3, Zip};

use super::reduce::sum_middle;
use super::rule;
use super::{Cost, GatedAdd, GatedAddGrad, Modulate, Mul, Offset, OpDef, ScaleChannels, Share};
use crate::eval::Tensor;
use crate::function::{Builder, Value};
use crate::types::{Type, TypeError, ensure};

/// `[N,..,C]` as `[N,P,C]`; `[N,C]` as `[N,1,C]`, which repeats over the pixels.
fn pixels(x: &Tensor) -> ArrayView3<'_, f64> {
    let (n, c) = (x.shape()[0], x.shape()[x.ndim() - 1]);
    x.view().into_shape_with_order((n, x.len() / (n * c), c)).expect("values are in standard layout")
}

/// `f(x, a, b)` for every pixel of x; a and b are `[N,C]` or like x.
fn channelwise(x: &Tensor, a: &Tensor, b: &Tensor, f: impl Fn(f64, f64, f64) -> f64) -> Vec<Tensor> {
    let dim = pixels(x).dim();
    let spread = |v: &Tensor| pixels(v).broadcast(dim).expect("extent 1 or equal").to_owned();
    let y: Array3<f64> = Zip::from(pixels(x)).and(&spread(a)).and(&spread(b)).map_collect(|&x, &a, &b| f(x, a, b));
    vec![y.into_shape_with_order(x.raw_dim()).expect("same count").into_dyn()]
}

/// `[N,C]` of `[N,..,C]`.
fn per_channel(x: &Type) -> [usize; 2] {
    [x.shape[0], x.channels()]
}

impl OpDef for Modulate {
    fn operands(&self) -> &'static [&'static str] {
        &["x", "shift", "scale"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        rule::rank_at_least("modulate.1", "x", x[0], 2)?;
        rule::is("modulate.2", "shift", x[1], x[0].dtype, &per_channel(x[0]))?;
        rule::is("modulate.3", "scale", x[2], x[0].dtype, &per_channel(x[0]))?;
        Ok(vec![x[0].clone()])
    }

    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        rule::row_by_row(x)
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        channelwise(x[0], x[1], x[2], |x, shift, scale| x * (1.0 + scale) + shift)
    }

    fn grad(&self, b: &mut Builder, x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let factor = b.one(Offset { by: 1.0 }, &[x[2]]);
        let dx = b.one(ScaleChannels {}, &[dy[0], factor]);
        let product = b.one(Mul {}, &[dy[0], x[0]]);
        vec![Some(dx), Some(sum_middle(b, dy[0])), Some(sum_middle(b, product))]
    }

    fn cost(&self, x: &[&Type], _y: &[&Type]) -> Cost {
        Cost::flops(2 * x[0].count())
    }
}

impl OpDef for GatedAdd {
    fn operands(&self) -> &'static [&'static str] {
        &["x", "h", "gate"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        rule::rank_at_least("gated_add.1", "x", x[0], 2)?;
        ensure!("gated_add.2", x[1] == x[0], "x and h differ: {} vs {}", x[0], x[1]);
        rule::is("gated_add.3", "gate", x[2], x[0].dtype, &per_channel(x[0]))?;
        Ok(vec![x[0].clone()])
    }

    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        rule::row_by_row(x)
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        channelwise(x[0], x[1], x[2], |x, h, gate| x + gate * h)
    }

    fn grad(&self, b: &mut Builder, x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let grads = b.emit(GatedAddGrad {}, &[x[1], x[2], dy[0]]);
        [dy[0]].into_iter().chain(grads).map(Some).collect()
    }

    fn cost(&self, x: &[&Type], _y: &[&Type]) -> Cost {
        Cost::flops(2 * x[0].count())
    }
}

impl OpDef for ScaleChannels {
    fn operands(&self) -> &'static [&'static str] {
        &["x", "a"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        rule::rank_at_least("scale_channels.1", "x", x[0], 2)?;
        rule::is("scale_channels.2", "a", x[1], x[0].dtype, &per_channel(x[0]))?;
        Ok(vec![x[0].clone()])
    }

    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        rule::row_by_row(x)
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        channelwise(x[0], x[1], x[1], |x, a, _| x * a)
    }

    fn grad(&self, b: &mut Builder, x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let dx = b.one(ScaleChannels {}, &[dy[0], x[1]]);
        let product = b.one(Mul {}, &[dy[0], x[0]]);
        vec![Some(dx), Some(sum_middle(b, product))]
    }

    fn cost(&self, x: &[&Type], _y: &[&Type]) -> Cost {
        Cost::flops(x[0].count())
    }
}
