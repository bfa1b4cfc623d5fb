//! Reductions.

use ndarray::{Axis, Ix4};

use super::rule;
use super::{Broadcast, Cost, Mul, OpDef, Reshape, Scale, ScaleChannels, Share, Softmax, Sub, Sum, SumSquares};
use crate::eval::Tensor;
use crate::function::{Builder, Value};
use crate::types::{Type, TypeError};

impl OpDef for Sum {
    fn operands(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        rule::float("sum.1", "x", x[0])?;
        rule::axes("sum.2", x[0], &self.axes)?;
        let mut shape = x[0].shape.clone();
        self.axes.iter().for_each(|&a| shape[a] = 1);
        Ok(vec![x[0].with_shape(shape)])
    }

    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        rule::row_by_row(x).filter(|_| !self.axes.contains(&0))
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        vec![self.axes.iter().fold(x[0].clone(), |y, &a| y.sum_axis(Axis(a)).insert_axis(Axis(a)))]
    }

    fn grad(&self, b: &mut Builder, x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let shape = b.ty(x[0]).shape.clone();
        vec![Some(b.one(Broadcast { shape }, &[dy[0]]))]
    }

    fn cost(&self, x: &[&Type], _y: &[&Type]) -> Cost {
        Cost::flops(x[0].count())
    }
}

impl OpDef for SumSquares {
    fn operands(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        let [n, _, _, c] = rule::image("sum_squares.1", "x", x[0])?;
        Ok(vec![x[0].with_shape([n, c])])
    }

    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        rule::row_by_row(x)
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        let squares = x[0].mapv(|v| v * v).into_dimensionality::<Ix4>().expect("rank 4 by sum_squares.1");
        vec![squares.sum_axis(Axis(1)).sum_axis(Axis(1)).into_dyn()]
    }

    /// `dx = 2 x dy`.
    fn grad(&self, b: &mut Builder, x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let twice = b.one(Scale { by: 2.0 }, &[dy[0]]);
        vec![Some(b.one(ScaleChannels {}, &[x[0], twice]))]
    }

    fn cost(&self, x: &[&Type], _y: &[&Type]) -> Cost {
        Cost::flops(2 * x[0].count())
    }
}

impl OpDef for Softmax {
    fn operands(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        rule::rank_at_least("softmax.1", "x", x[0], 1)?;
        Ok(vec![x[0].clone()])
    }

    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        rule::row_by_row(x).filter(|_| x[0].rank() > 1)
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        let mut y = x[0].clone();
        for mut lane in y.rows_mut() {
            let max = lane.fold(f64::NEG_INFINITY, |m, &v| m.max(v));
            lane.mapv_inplace(|v| (v - max).exp());
            let sum = lane.sum();
            lane.mapv_inplace(|v| v / sum);
        }
        vec![y]
    }

    /// `dx = y (dy - sum(dy y))`.
    fn grad(&self, b: &mut Builder, _x: &[Value], y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let shape = b.ty(y[0]).shape.clone();
        let weighted = b.one(Mul {}, &[dy[0], y[0]]);
        let sum = b.one(Sum { axes: vec![shape.len() - 1] }, &[weighted]);
        let mean = b.one(Broadcast { shape }, &[sum]);
        let centred = b.one(Sub {}, &[dy[0], mean]);
        vec![Some(b.one(Mul {}, &[y[0], centred]))]
    }

    fn cost(&self, x: &[&Type], _y: &[&Type]) -> Cost {
        Cost::flops(5 * x[0].count())
    }
}

/// Sum of `[N,..,C]` over the axes between: `[N,C]`.
pub(super) fn sum_middle(b: &mut Builder, v: Value) -> Value {
    let shape = b.ty(v).shape.clone();
    let last = shape.len() - 1;
    if last == 1 {
        return v;
    }
    let sum = b.one(Sum { axes: (1..last).collect() }, &[v]);
    b.one(Reshape { shape: vec![shape[0], shape[last]] }, &[sum])
}

/// Sum of `[..,C]` over all axes but the last: `[C]`.
pub(super) fn sum_channels(b: &mut Builder, v: Value) -> Value {
    let shape = b.ty(v).shape.clone();
    let last = shape.len() - 1;
    let sum = b.one(Sum { axes: (0..last).collect() }, &[v]);
    b.one(Reshape { shape: vec![shape[last]] }, &[sum])
}
