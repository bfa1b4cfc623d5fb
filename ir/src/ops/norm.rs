//! Normalisations.

use ndarray::{Array3, ArrayView1, Axis, Ix1, Ix3};

use super::reduce::sum_channels;
use super::rule;
use super::shape::reshaped;
use super::{
    Broadcast, Cost, Div, Grn, GrnScale, GroupNorm, LayerNorm, Mul, Offset, OpDef, Reshape, Scale, ScaleChannels, Share, Sqrt, Sub, Sum,
    SumSquares,
};
use crate::eval::Tensor;
use crate::function::{Builder, Value};
use crate::types::{Type, TypeError, ensure};
use crate::vjp;

/// `x - mean` and `sqrt(var + eps)`, both shaped like x, with statistics over `axes`, in plain ops.
fn centred_and_deviation(b: &mut Builder, x: Value, axes: &[usize], eps: f64) -> (Value, Value) {
    let shape = b.ty(x).shape.clone();
    let level = mean(b, x, axes);
    let level = b.one(Broadcast { shape: shape.clone() }, &[level]);
    let centred = b.one(Sub {}, &[x, level]);
    let square = b.one(Mul {}, &[centred, centred]);
    let variance = mean(b, square, axes);
    let guarded = b.one(Offset { by: eps }, &[variance]);
    let deviation = b.one(Sqrt {}, &[guarded]);
    (centred, b.one(Broadcast { shape }, &[deviation]))
}

fn mean(b: &mut Builder, x: Value, axes: &[usize]) -> Value {
    let count: usize = axes.iter().map(|&a| b.ty(x).shape[a]).product();
    let sum = b.one(Sum { axes: axes.to_vec() }, &[x]);
    b.one(Scale { by: 1.0 / count as f64 }, &[sum])
}

/// Cotangent of x, given that of `y`, the normalised x: `(dy - mean(dy) - y mean(dy y)) / deviation`.
fn normalised_grad(b: &mut Builder, y: Value, deviation: Value, axes: &[usize], dy: Value) -> Value {
    let shape = b.ty(y).shape.clone();
    let product = b.one(Mul {}, &[dy, y]);
    let along = mean(b, product, axes);
    let along = b.one(Broadcast { shape: shape.clone() }, &[along]);
    let along = b.one(Mul {}, &[y, along]);
    let level = mean(b, dy, axes);
    let level = b.one(Broadcast { shape }, &[level]);
    let rest = b.one(Sub {}, &[dy, level]);
    let rest = b.one(Sub {}, &[rest, along]);
    b.one(Div {}, &[rest, deviation])
}

impl OpDef for LayerNorm {
    fn operands(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        rule::rank_at_least("layer_norm.1", "x", x[0], 1)?;
        rule::positive("layer_norm.2", self.eps)?;
        Ok(vec![x[0].clone()])
    }

    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        rule::row_by_row(x).filter(|_| x[0].rank() > 1)
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        let mut y = x[0].clone();
        for mut row in y.rows_mut() {
            let n = row.len() as f64;
            let mean = row.sum() / n;
            let variance = row.fold(0.0, |sum, v| sum + (v - mean) * (v - mean)) / n;
            row.mapv_inplace(|v| (v - mean) / (variance + self.eps).sqrt());
        }
        vec![y]
    }

    fn grad(&self, b: &mut Builder, x: &[Value], y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let axes = [b.ty(x[0]).rank() - 1];
        let (_, deviation) = centred_and_deviation(b, x[0], &axes, self.eps);
        vec![Some(normalised_grad(b, y[0], deviation, &axes, dy[0]))]
    }

    fn cost(&self, x: &[&Type], _y: &[&Type]) -> Cost {
        Cost::flops(7 * x[0].count())
    }
}

impl OpDef for GroupNorm {
    fn operands(&self) -> &'static [&'static str] {
        &["x", "gamma", "beta"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        let [_, _, _, c] = rule::image("group_norm.1", "x", x[0])?;
        rule::is("group_norm.2", "gamma", x[1], x[0].dtype, &[c])?;
        rule::is("group_norm.3", "beta", x[2], x[0].dtype, &[c])?;
        let divides = self.groups >= 1 && c % self.groups == 0;
        ensure!("group_norm.4", divides, "{} groups do not divide {c} channels", self.groups);
        rule::positive("group_norm.5", self.eps)?;
        Ok(vec![x[0].clone()])
    }

    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        rule::row_of_first(x)
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        let s = x[0].shape();
        let per = s[3] / self.groups;
        let mut y = reshaped(x[0], &[s[0], s[1] * s[2], s[3]]).into_dimensionality::<Ix3>().expect("three axes");
        for mut sample in y.outer_iter_mut() {
            for mut group in sample.axis_chunks_iter_mut(Axis(1), per) {
                let n = group.len() as f64;
                let mean = group.sum() / n;
                let variance = group.fold(0.0, |sum, v| sum + (v - mean) * (v - mean)) / n;
                group.mapv_inplace(|v| (v - mean) / (variance + self.eps).sqrt());
            }
        }
        let y: Array3<f64> = y * vector(x[1]) + vector(x[2]);
        vec![reshaped(&y.into_dyn(), s)]
    }

    fn grad(&self, b: &mut Builder, x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let shape = b.ty(x[0]).shape.clone();
        let (c, per) = (shape[3], shape[3] / self.groups);
        let grouped = Reshape { shape: vec![shape[0], shape[1] * shape[2], self.groups, per] };
        let flat = b.one(grouped.clone(), &[x[0]]);
        let (centred, deviation) = centred_and_deviation(b, flat, &[1, 3], self.eps);
        let y = b.one(Div {}, &[centred, deviation]);
        let gamma = b.one(Reshape { shape: vec![1, 1, 1, c] }, &[x[1]]);
        let gamma = b.one(Broadcast { shape: shape.clone() }, &[gamma]);
        let inner = b.one(Mul {}, &[dy[0], gamma]);
        let inner = b.one(grouped, &[inner]);
        let dx = normalised_grad(b, y, deviation, &[1, 3], inner);
        let dx = b.one(Reshape { shape: shape.clone() }, &[dx]);
        let y = b.one(Reshape { shape }, &[y]);
        let product = b.one(Mul {}, &[dy[0], y]);
        vec![Some(dx), Some(sum_channels(b, product)), Some(sum_channels(b, dy[0]))]
    }

    fn cost(&self, x: &[&Type], _y: &[&Type]) -> Cost {
        Cost::flops(9 * x[0].count())
    }
}

impl OpDef for Grn {
    fn operands(&self) -> &'static [&'static str] {
        &["x", "gamma", "beta"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        let [_, _, _, c] = rule::image("grn.1", "x", x[0])?;
        rule::is("grn.2", "gamma", x[1], x[0].dtype, &[c])?;
        rule::is("grn.3", "beta", x[2], x[0].dtype, &[c])?;
        rule::positive("grn.4", self.eps)?;
        Ok(vec![x[0].clone()])
    }

    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        rule::row_of_first(x)
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        let s = x[0].shape();
        let mut y = reshaped(x[0], &[s[0], s[1] * s[2], s[3]]).into_dimensionality::<Ix3>().expect("three axes");
        for mut sample in y.outer_iter_mut() {
            let norm = sample.mapv(|v| v * v).sum_axis(Axis(0)).mapv(f64::sqrt);
            let mean = norm.sum() / s[3] as f64;
            let factor = &norm / (mean + self.eps) * vector(x[1]) + 1.0;
            sample *= &factor;
            sample += &vector(x[2]);
        }
        vec![reshaped(&y.into_dyn(), s)]
    }

    /// Through `y = scale_channels(x, grn_scale(sum_squares(x), gamma)) + beta`. At an all-zero map `sqrt` has derivative 0, and
    /// so have the statistics.
    fn grad(&self, b: &mut Builder, x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let mut grads = vjp::through(b, &x[..2], dy, |b, x| {
            let statistic = b.try_one(SumSquares {}, x[0])?;
            let factor = b.try_emit(GrnScale { eps: self.eps }, &[statistic, x[1]])?[0];
            b.try_emit(ScaleChannels {}, &[x[0], factor])
        });
        grads.push(Some(sum_channels(b, dy[0])));
        grads
    }

    fn cost(&self, x: &[&Type], _y: &[&Type]) -> Cost {
        Cost::flops(4 * x[0].count())
    }
}

fn vector(x: &Tensor) -> ArrayView1<'_, f64> {
    x.view().into_dimensionality::<Ix1>().expect("rank 1 by the op's shape rule")
}
