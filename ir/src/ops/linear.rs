//! Matrix products.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, Array3, Axis, CowArray, Ix1, Ix2, Ix3};

use super::rule;
use super::{Cost, Linear, LinearWeightGrad, Matmul, OpDef, Share, Transpose};
use crate::eval::Tensor;
use crate::function::{Builder, Value};
use crate::types::{Type, TypeError, ensure};

impl OpDef for Linear {
    fn operands(&self) -> &'static [&'static str] {
        &["x", "w", "b?"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        let (t, w) = (x[0], x[1]);
        rule::rank_at_least("linear.1", "x", t, 1)?;
        let fits = w.dtype == t.dtype && w.rank() == 2 && w.shape[1] == t.channels();
        ensure!("linear.2", fits, "w must be {}[O,{}], found {w}", t.dtype, t.channels());
        let o = w.shape[0];
        rule::is_or_none("linear.3", "b", x.get(2), t.dtype, &[o])?;
        let mut shape = t.shape.clone();
        *shape.last_mut().expect("rank >= 1 by linear.1") = o;
        Ok(vec![t.with_shape(shape)])
    }

    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        rule::row_of_first(x).filter(|_| x[0].rank() > 1)
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        let w = x[1].view().into_dimensionality::<Ix2>().expect("rank 2 by linear.2");
        let x_rows = rows(x[0]);
        // Not `dot`, which returns column-major order when both operands pass for it, as they do at K = 1.
        let mut y = Array2::zeros((x_rows.nrows(), w.nrows()));
        general_mat_mul(1.0, &x_rows, &w.t(), 0.0, &mut y);
        if let Some(b) = x.get(2) {
            y += &b.view().into_dimensionality::<Ix1>().expect("[O] by linear.3");
        }
        let mut shape = x[0].shape().to_vec();
        *shape.last_mut().expect("rank >= 1 by linear.1") = w.nrows();
        vec![y.into_shape_with_order(shape).expect("same count")]
    }

    fn grad(&self, b: &mut Builder, x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let wt = b.one(Transpose { perm: vec![1, 0] }, &[x[1]]);
        let dx = b.one(Linear {}, &[dy[0], wt]);
        let dw = b.emit(LinearWeightGrad {}, &[x[0], dy[0]]);
        [dx].into_iter().chain(dw).map(Some).take(x.len()).collect()
    }

    fn cost(&self, x: &[&Type], y: &[&Type]) -> Cost {
        Cost::macs(y[0].count().saturating_mul(x[1].shape[1]))
    }
}

impl OpDef for LinearWeightGrad {
    fn operands(&self) -> &'static [&'static str] {
        &["x", "dy"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        rule::rank_at_least("linear_weight_grad.1", "x", x[0], 1)?;
        let lead = x[0].rank() - 1;
        let alike = x[1].dtype == x[0].dtype && x[1].rank() == x[0].rank() && x[1].shape[..lead] == x[0].shape[..lead];
        ensure!("linear_weight_grad.2", alike, "operands differ in element type or leading axes: {} vs {}", x[0], x[1]);
        let (k, o) = (x[0].channels(), x[1].channels());
        Ok(vec![x[0].with_shape([o, k]), x[0].with_shape([o])])
    }

    fn rows(&self, _x: &[&Type]) -> Option<Vec<Share>> {
        None
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        let (x, dy) = (rows(x[0]), rows(x[1]));
        let mut dw = Array2::zeros((dy.ncols(), x.ncols()));
        general_mat_mul(1.0, &dy.t(), &x, 0.0, &mut dw);
        vec![dw.into_dyn(), dy.sum_axis(Axis(0)).into_dyn()]
    }

    fn grad(&self, b: &mut Builder, x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let wt = b.one(Transpose { perm: vec![1, 0] }, &[dy[0]]);
        vec![Some(b.one(Linear {}, &[x[1], wt])), Some(b.one(Linear {}, &[x[0], dy[0], dy[1]]))]
    }

    fn cost(&self, x: &[&Type], y: &[&Type]) -> Cost {
        let pixels = x[0].count() / x[0].channels();
        Cost::macs(y[0].count().saturating_mul(pixels))
    }
}

impl OpDef for Matmul {
    fn operands(&self) -> &'static [&'static str] {
        &["a", "b"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        let (a, b) = (x[0], x[1]);
        rule::rank_at_least("matmul.1", "a", a, 2)?;
        let lead = a.rank() - 2;
        let alike = a.dtype == b.dtype && a.rank() == b.rank() && a.shape[..lead] == b.shape[..lead];
        ensure!("matmul.2", alike, "operands differ in element type or leading axes: {a} vs {b}");
        ensure!("matmul.3", a.shape[lead + 1] == b.shape[lead], "a's columns are not b's rows: {a} vs {b}");
        let mut shape = a.shape.clone();
        shape[lead + 1] = b.shape[lead + 1];
        Ok(vec![a.with_shape(shape)])
    }

    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        if x[0].rank() == 2 { rule::row_of_first(x) } else { rule::row_by_row(x) }
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        let (a, b) = (matrices(x[0]), matrices(x[1]));
        let mut y = Array3::zeros((a.dim().0, a.dim().1, b.dim().2));
        for ((mut y, a), b) in y.outer_iter_mut().zip(a.outer_iter()).zip(b.outer_iter()) {
            y.assign(&a.dot(&b));
        }
        let mut shape = x[0].shape().to_vec();
        *shape.last_mut().expect("rank >= 2 by matmul.1") = y.dim().2;
        vec![y.into_shape_with_order(shape).expect("same count")]
    }

    fn grad(&self, b: &mut Builder, x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let rank = b.ty(x[0]).rank();
        let perm: Vec<usize> = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
        let at = b.one(Transpose { perm: perm.clone() }, &[x[0]]);
        let bt = b.one(Transpose { perm }, &[x[1]]);
        vec![Some(b.one(Matmul {}, &[dy[0], bt])), Some(b.one(Matmul {}, &[at, dy[0]]))]
    }

    fn cost(&self, x: &[&Type], y: &[&Type]) -> Cost {
        Cost::macs(y[0].count().saturating_mul(x[0].channels()))
    }
}

/// Any tensor of rank >= 2 as a batch of its matrices.
fn matrices(x: &Tensor) -> CowArray<'_, f64, Ix3> {
    let (lead, last) = x.shape().split_at(x.ndim() - 2);
    x.to_shape((lead.iter().product(), last[0], last[1])).expect("same count")
}

/// Any tensor as a matrix of its last axis.
fn rows(x: &Tensor) -> CowArray<'_, f64, Ix2> {
    let k = x.shape().last().copied().unwrap_or(1);
    let n = x.len() / k;
    x.to_shape((n, k)).expect("count is a multiple of the last extent")
}
