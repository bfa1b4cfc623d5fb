//! Ops of the conditioning path: timesteps and class labels.

use ndarray::Axis;

use super::rule;
use super::{
    Broadcast, Concat, Cost, Embedding, Matmul, Mul, Neg, OneHot, OpDef, Reshape, Share, Split, Sum, TimestepEmbedding,
    TimestepFrequencies, Transpose,
};
use crate::eval::Tensor;
use crate::function::{Builder, Value};
use crate::types::{DType, Type, TypeError, ensure};

/// Of the 128 frequencies that FCDM uses, those where PyTorch's float32 exponential (CPU, 2.x) lies one unit in the last
/// place above the correctly rounded one. Networks were trained and evaluated with PyTorch's values; at t = 999 one
/// unit moves a feature by 5e-5.
const PYTORCH_ONE_UP: [usize; 2] = [12, 106];

/// The frequencies of an embedding of width `2 * half`.
fn frequencies(half: usize) -> Vec<f32> {
    let rate = (-(10000f64.ln()) / half as f64) as f32;
    let frequency = |i: usize| {
        let f = f64::from(i as f32 * rate).exp() as f32;
        if half == 128 && PYTORCH_ONE_UP.contains(&i) { f.next_up() } else { f }
    };
    (0..half).map(frequency).collect()
}

impl OpDef for TimestepFrequencies {
    fn operands(&self) -> &'static [&'static str] {
        &[]
    }

    fn infer(&self, _x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        ensure!("timestep_frequencies.1", self.dim >= 2 && self.dim.is_multiple_of(2), "dim must be even and positive, found {}", self.dim);
        Ok(vec![Type::f32([self.dim / 2])])
    }

    fn rows(&self, _x: &[&Type]) -> Option<Vec<Share>> {
        None
    }

    fn eval(&self, _x: &[&Tensor]) -> Vec<Tensor> {
        vec![Tensor::from_shape_vec(vec![self.dim / 2], frequencies(self.dim / 2).into_iter().map(f64::from).collect()).expect("that many")]
    }

    fn grad(&self, _b: &mut Builder, _x: &[Value], _y: &[Value], _dy: &[Value]) -> Vec<Option<Value>> {
        Vec::new()
    }

    fn cost(&self, _x: &[&Type], _y: &[&Type]) -> Cost {
        Cost::default()
    }
}

impl OpDef for TimestepEmbedding {
    fn operands(&self) -> &'static [&'static str] {
        &["t"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        ensure!("timestep_embedding.1", x[0].dtype == DType::F32 && x[0].rank() == 1, "t must be f32[N], found {}", x[0]);
        ensure!("timestep_embedding.2", self.dim >= 2 && self.dim.is_multiple_of(2), "dim must be even and positive, found {}", self.dim);
        Ok(vec![Type::f32([x[0].shape[0], self.dim])])
    }

    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        rule::row_by_row(x)
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        let half = self.dim / 2;
        let frequencies = frequencies(half);
        let angle = |n: usize, i: usize| f64::from(x[0][[n]] as f32 * frequencies[i]);
        let value = |n: usize, i: usize| if i < half { angle(n, i).cos() } else { angle(n, i - half).sin() };
        vec![Tensor::from_shape_fn(vec![x[0].len(), self.dim], |at| value(at[0], at[1]))]
    }

    /// `dt = sum_i f_i (dsin_i cos_i - dcos_i sin_i)`.
    fn grad(&self, b: &mut Builder, x: &[Value], y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let (n, half) = (b.ty(x[0]).shape[0], self.dim / 2);
        let y = b.emit(Split { axis: 1, parts: 2 }, &[y[0]]);
        let back = b.one(Neg {}, &[y[1]]);
        let slope = b.one(Concat { axis: 1 }, &[back, y[0]]);
        let product = b.one(Mul {}, &[dy[0], slope]);
        let f = b.one(TimestepFrequencies { dim: self.dim }, &[]);
        let f = b.one(Reshape { shape: vec![1, half] }, &[f]);
        let f = b.one(Concat { axis: 1 }, &[f, f]);
        let f = b.one(Broadcast { shape: vec![n, self.dim] }, &[f]);
        let product = b.one(Mul {}, &[product, f]);
        let sum = b.one(Sum { axes: vec![1] }, &[product]);
        vec![Some(b.one(Reshape { shape: vec![n] }, &[sum]))]
    }

    fn cost(&self, _x: &[&Type], y: &[&Type]) -> Cost {
        Cost::flops(3 * y[0].count())
    }
}

impl OpDef for Embedding {
    fn operands(&self) -> &'static [&'static str] {
        &["table", "y"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        // f32, since the gradient multiplies by a `one_hot`, which is.
        ensure!("embedding.1", x[0].dtype == DType::F32 && x[0].rank() == 2, "table must be f32[R,W], found {}", x[0]);
        ensure!("embedding.2", x[1].dtype == DType::I32 && x[1].rank() == 1, "y must be i32[N], found {}", x[1]);
        Ok(vec![x[0].with_shape([x[1].shape[0], x[0].shape[1]])])
    }

    fn rows(&self, _x: &[&Type]) -> Option<Vec<Share>> {
        Some(vec![Share::Whole, Share::Row])
    }

    /// # Panics
    /// If a label is not a row; [`crate::eval::evaluate`] checks before and returns an error.
    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        let rows: Vec<usize> = x[1].iter().map(|&y| y as usize).collect();
        vec![x[0].select(Axis(0), &rows)]
    }

    /// The rows of dy, added up by label.
    fn grad(&self, b: &mut Builder, x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let hot = b.one(OneHot { depth: b.ty(x[0]).shape[0] }, &[x[1]]);
        let by_label = b.one(Transpose { perm: vec![1, 0] }, &[hot]);
        vec![Some(b.one(Matmul {}, &[by_label, dy[0]])), None]
    }

    fn cost(&self, _x: &[&Type], _y: &[&Type]) -> Cost {
        Cost::default()
    }
}

impl OpDef for OneHot {
    fn operands(&self) -> &'static [&'static str] {
        &["y"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        ensure!("one_hot.1", x[0].dtype == DType::I32 && x[0].rank() == 1, "y must be i32[N], found {}", x[0]);
        ensure!("one_hot.2", self.depth >= 1, "depth must be at least 1");
        Ok(vec![Type::f32([x[0].shape[0], self.depth])])
    }

    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        rule::row_by_row(x)
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        vec![Tensor::from_shape_fn(vec![x[0].len(), self.depth], |at| f64::from(x[0][[at[0]]] == at[1] as f64))]
    }

    fn grad(&self, _b: &mut Builder, _x: &[Value], _y: &[Value], _dy: &[Value]) -> Vec<Option<Value>> {
        vec![None]
    }

    fn cost(&self, _x: &[&Type], _y: &[&Type]) -> Cost {
        Cost::default()
    }
}
