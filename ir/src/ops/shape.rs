//! Ops that move elements and compute nothing. They take every element type and cost nothing.

use ndarray::{ArrayViewD, Axis, IxDyn, Slice as Range, concatenate};

use super::rule;
use super::{Broadcast, Concat, Cost, Fill, Flip, OpDef, Reshape, Share, Slice, Split, Sum, Transpose};
use crate::eval::Tensor;
use crate::function::{Builder, Value};
use crate::types::{Type, TypeError, ensure};

impl OpDef for Reshape {
    fn operands(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        let same = rule::product(&self.shape) == x[0].count();
        ensure!("reshape.1", same, "{} has {} elements, not as many as {:?}", x[0], x[0].count(), self.shape);
        Ok(vec![x[0].with_shape(self.shape.clone())])
    }

    /// Row-major: an equal leading extent keeps the rows together.
    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        rule::row_by_row(x).filter(|_| x[0].shape.first() == self.shape.first())
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        vec![reshaped(x[0], &self.shape)]
    }

    fn grad(&self, b: &mut Builder, x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let shape = b.ty(x[0]).shape.clone();
        vec![Some(b.one(Reshape { shape }, &[dy[0]]))]
    }

    fn cost(&self, _x: &[&Type], _y: &[&Type]) -> Cost {
        Cost::default()
    }
}

impl OpDef for Transpose {
    fn operands(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        let rank = self.perm.len() == x[0].rank();
        ensure!("transpose.1", rank, "{} has {} axes, perm {:?} has not", x[0], x[0].rank(), self.perm);
        rule::axes("transpose.2", x[0], &self.perm)?;
        Ok(vec![x[0].with_shape(self.perm.iter().map(|&a| x[0].shape[a]).collect::<Vec<_>>())])
    }

    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        rule::row_by_row(x).filter(|_| self.perm.first() == Some(&0))
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        vec![standard(x[0].view().permuted_axes(IxDyn(&self.perm)))]
    }

    fn grad(&self, b: &mut Builder, _x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let mut perm = vec![0; self.perm.len()];
        self.perm.iter().enumerate().for_each(|(i, &a)| perm[a] = i);
        vec![Some(b.one(Transpose { perm }, &[dy[0]]))]
    }

    fn cost(&self, _x: &[&Type], _y: &[&Type]) -> Cost {
        Cost::default()
    }
}

impl OpDef for Broadcast {
    fn operands(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        let from = &x[0].shape;
        ensure!("broadcast.1", from.len() == self.shape.len(), "{} and {:?} differ in rank", x[0], self.shape);
        let fits = from.iter().zip(&self.shape).all(|(&f, &t)| f == t || f == 1);
        ensure!("broadcast.2", fits, "{} does not repeat to {:?}", x[0], self.shape);
        Ok(vec![x[0].with_shape(self.shape.clone())])
    }

    /// Of one row that is repeated, every row of the result takes the whole.
    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        Some(vec![if x[0].shape.first() == self.shape.first() { Share::Row } else { Share::Whole }])
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        vec![standard(x[0].broadcast(IxDyn(&self.shape)).expect("fits by broadcast.2"))]
    }

    fn grad(&self, b: &mut Builder, x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let axes: Vec<usize> = (0..self.shape.len()).filter(|&a| b.ty(x[0]).shape[a] != self.shape[a]).collect();
        vec![Some(if axes.is_empty() { dy[0] } else { b.one(Sum { axes }, &[dy[0]]) })]
    }

    fn cost(&self, _x: &[&Type], _y: &[&Type]) -> Cost {
        Cost::default()
    }
}

impl OpDef for Concat {
    fn operands(&self) -> &'static [&'static str] {
        &["a", "b"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        let (a, b) = (x[0], x[1]);
        ensure!("concat.1", a.dtype == b.dtype && a.rank() == b.rank(), "operands differ in element type or rank: {a} vs {b}");
        rule::axis("concat.2", a, self.axis)?;
        let equal = (0..a.rank()).all(|i| i == self.axis || a.shape[i] == b.shape[i]);
        ensure!("concat.3", equal, "operands differ beside axis {}: {a} vs {b}", self.axis);
        let mut shape = a.shape.clone();
        shape[self.axis] = shape[self.axis].saturating_add(b.shape[self.axis]);
        Ok(vec![a.with_shape(shape)])
    }

    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        rule::row_by_row(x).filter(|_| self.axis != 0)
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        let y = concatenate(Axis(self.axis), &[x[0].view(), x[1].view()]).expect("equal beside the axis by concat.3");
        vec![standard(y.view())]
    }

    fn grad(&self, b: &mut Builder, x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let [la, lb] = [0, 1].map(|i| b.ty(x[i]).shape[self.axis]);
        let da = b.one(Slice { axis: self.axis, start: 0, len: la }, &[dy[0]]);
        let db = b.one(Slice { axis: self.axis, start: la, len: lb }, &[dy[0]]);
        vec![Some(da), Some(db)]
    }

    fn cost(&self, _x: &[&Type], _y: &[&Type]) -> Cost {
        Cost::default()
    }
}

impl OpDef for Split {
    fn operands(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        rule::axis("split.1", x[0], self.axis)?;
        let extent = x[0].shape[self.axis];
        let divides = extent.is_multiple_of(self.parts);
        ensure!("split.2", divides, "{} parts do not divide extent {extent} of {}", self.parts, x[0]);
        // Bounds the results by something other than the text's length.
        ensure!("split.3", self.parts <= 1024, "at most 1024 parts, found {}", self.parts);
        let mut shape = x[0].shape.clone();
        shape[self.axis] /= self.parts;
        Ok(vec![x[0].with_shape(shape); self.parts])
    }

    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        rule::row_by_row(x).filter(|_| self.axis != 0)
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        let len = x[0].shape()[self.axis] / self.parts;
        (0..self.parts).map(|p| sliced(x[0], self.axis, p * len, len)).collect()
    }

    fn grad(&self, b: &mut Builder, _x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let joined = dy[1..].iter().fold(dy[0], |joined, &part| b.one(Concat { axis: self.axis }, &[joined, part]));
        vec![Some(joined)]
    }

    fn cost(&self, _x: &[&Type], _y: &[&Type]) -> Cost {
        Cost::default()
    }
}

impl OpDef for Slice {
    fn operands(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        rule::axis("slice.1", x[0], self.axis)?;
        let inside = self.start.saturating_add(self.len) <= x[0].shape[self.axis];
        ensure!("slice.2", inside, "{} elements from {} are not inside axis {} of {}", self.len, self.start, self.axis, x[0]);
        let mut shape = x[0].shape.clone();
        shape[self.axis] = self.len;
        Ok(vec![x[0].with_shape(shape)])
    }

    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        rule::row_by_row(x).filter(|_| self.axis != 0)
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        vec![sliced(x[0], self.axis, self.start, self.len)]
    }

    /// Zeros on both sides of dy.
    fn grad(&self, b: &mut Builder, x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let ty = b.ty(x[0]).clone();
        let zeros = |b: &mut Builder, len: usize| {
            let mut shape = ty.shape.clone();
            shape[self.axis] = len;
            b.one(Fill { value: 0.0, dtype: ty.dtype, shape }, &[])
        };
        let after = ty.shape[self.axis] - self.start - self.len;
        let mut dx = dy[0];
        if self.start > 0 {
            let before = zeros(b, self.start);
            dx = b.one(Concat { axis: self.axis }, &[before, dx]);
        }
        if after > 0 {
            let rest = zeros(b, after);
            dx = b.one(Concat { axis: self.axis }, &[dx, rest]);
        }
        vec![Some(dx)]
    }

    fn cost(&self, _x: &[&Type], _y: &[&Type]) -> Cost {
        Cost::default()
    }
}

impl OpDef for Flip {
    fn operands(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        rule::axes("flip.1", x[0], &self.axes)?;
        Ok(vec![x[0].clone()])
    }

    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        rule::row_by_row(x).filter(|_| !self.axes.contains(&0))
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        let mut view = x[0].view();
        self.axes.iter().for_each(|&a| view.invert_axis(Axis(a)));
        vec![standard(view)]
    }

    fn grad(&self, b: &mut Builder, _x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        vec![Some(b.one(self.clone(), &[dy[0]]))]
    }

    fn cost(&self, _x: &[&Type], _y: &[&Type]) -> Cost {
        Cost::default()
    }
}

/// The view's elements, dense in row-major order.
pub(super) fn standard(view: ArrayViewD<f64>) -> Tensor {
    view.as_standard_layout().into_owned()
}

/// The same elements in row-major order.
pub(super) fn reshaped(x: &Tensor, shape: &[usize]) -> Tensor {
    x.to_shape(IxDyn(shape)).expect("same count by the op's shape rule").into_owned()
}

fn sliced(x: &Tensor, axis: usize, start: usize, len: usize) -> Tensor {
    standard(x.slice_axis(Axis(axis), Range::from(start..start + len)))
}
