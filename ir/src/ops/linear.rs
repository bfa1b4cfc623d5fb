//! Matrix products.

use ndarray::{Array2, Axis, Ix2, Ix3};

use super::{Cost, Linear, Matmul, OpDef, Reshape, Sum, Transpose};
use crate::eval::Tensor;
use crate::function::{Builder, Value};
use crate::types::{Type, TypeError, ensure};

impl OpDef for Linear {
    const OPERANDS: &'static [&'static str] = &["x", "w", "b?"];

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        let (t, w) = (x[0], x[1]);
        ensure!("linear.1", t.rank() >= 1 && t.dtype.is_float(), "x must be a float tensor of rank >= 1, found {t}");
        ensure!("linear.2", w.rank() == 2 && w.shape[1] == t.channels(), "w must be [O,{}], found {w}", t.channels());
        let o = w.shape[0];
        ensure!("linear.3", x.get(2).is_none_or(|b| b.shape == [o]), "b must be [{o}], found {}", x[2]);
        let mut shape = t.shape.clone();
        *shape.last_mut().expect("rank >= 1 by linear.1") = o;
        Ok(vec![t.with_shape(shape)])
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        let w = x[1].view().into_dimensionality::<Ix2>().expect("rank 2 by linear.2");
        let mut y = rows(x[0]).dot(&w.t());
        if let Some(b) = x.get(2) {
            y += &b.view().into_shape_with_order(w.nrows()).expect("[O] by linear.3");
        }
        let mut shape = x[0].shape().to_vec();
        *shape.last_mut().expect("rank >= 1 by linear.1") = w.nrows();
        vec![y.into_shape_with_order(shape).expect("same count")]
    }

    fn grad(&self, b: &mut Builder, x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let (k, o) = (b.ty(x[1]).shape[1], b.ty(x[1]).shape[0]);
        let count = b.ty(x[0]).count() / k.max(1);
        let wt = b.one(Transpose { perm: vec![1, 0] }, &[x[1]]);
        let dx = b.one(Linear {}, &[dy[0], wt]);
        let flat_x = b.one(Reshape { shape: vec![count, k] }, &[x[0]]);
        let flat_dy = b.one(Reshape { shape: vec![count, o] }, &[dy[0]]);
        let dyt = b.one(Transpose { perm: vec![1, 0] }, &[flat_dy]);
        let dw = b.one(Matmul {}, &[dyt, flat_x]);
        let mut grads = vec![Some(dx), Some(dw)];
        if x.len() == 3 {
            let sum = b.one(Sum { axes: vec![0] }, &[flat_dy]);
            grads.push(Some(b.one(Reshape { shape: vec![o] }, &[sum])));
        }
        grads
    }

    fn cost(&self, x: &[&Type], y: &[&Type]) -> Cost {
        Cost::macs(y[0].count() * x[1].shape[1])
    }
}

/// Any tensor as a matrix of its last axis.
fn rows(x: &Tensor) -> Array2<f64> {
    let k = x.shape().last().copied().unwrap_or(1);
    let n = x.len() / k.max(1);
    x.to_shape((n, k)).expect("count is a multiple of the last extent").into_owned()
}
