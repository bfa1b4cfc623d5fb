//! Resampling and pixel shuffling.

use ndarray::{Axis, IxDyn};

use super::rule;
use super::shape::{reshaped, standard};
use super::{AvgPool2d, Cost, OpDef, PixelShuffle, PixelUnshuffle, Scale, Share, UpsampleNearest};
use crate::eval::Tensor;
use crate::function::{Builder, Value};
use crate::types::{Type, TypeError, ensure};

impl OpDef for UpsampleNearest {
    fn operands(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        let [n, h, w, c] = rule::image("upsample_nearest.1", "x", x[0])?;
        ensure!("upsample_nearest.2", self.factor >= 1, "factor must be at least 1");
        Ok(vec![x[0].with_shape([n, h.saturating_mul(self.factor), w.saturating_mul(self.factor), c])])
    }

    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        rule::row_by_row(x)
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        let (s, f) = (x[0].shape(), self.factor);
        let tiles = reshaped(x[0], &[s[0], s[1], 1, s[2], 1, s[3]]);
        let repeated = tiles.broadcast(IxDyn(&[s[0], s[1], f, s[2], f, s[3]])).expect("repeats axes of extent 1");
        vec![reshaped(&standard(repeated), &[s[0], s[1] * f, s[2] * f, s[3]])]
    }

    fn grad(&self, b: &mut Builder, _x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let mean = b.one(AvgPool2d { size: self.factor }, &[dy[0]]);
        vec![Some(b.one(Scale { by: (self.factor * self.factor) as f64 }, &[mean]))]
    }

    fn cost(&self, _x: &[&Type], _y: &[&Type]) -> Cost {
        Cost::default()
    }
}

impl OpDef for AvgPool2d {
    fn operands(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        let [n, h, w, c] = rule::image("avg_pool2d.1", "x", x[0])?;
        let divides = self.size >= 1 && h % self.size == 0 && w % self.size == 0;
        ensure!("avg_pool2d.2", divides, "size {} does not divide height and width of {}", self.size, x[0]);
        Ok(vec![x[0].with_shape([n, h / self.size, w / self.size, c])])
    }

    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        rule::row_by_row(x)
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        let (s, f) = (x[0].shape(), self.size);
        let tiles = reshaped(x[0], &[s[0], s[1] / f, f, s[2] / f, f, s[3]]);
        vec![tiles.sum_axis(Axis(4)).sum_axis(Axis(2)) / (f * f) as f64]
    }

    fn grad(&self, b: &mut Builder, _x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let repeated = b.one(UpsampleNearest { factor: self.size }, &[dy[0]]);
        vec![Some(b.one(Scale { by: 1.0 / (self.size * self.size) as f64 }, &[repeated]))]
    }

    fn cost(&self, x: &[&Type], _y: &[&Type]) -> Cost {
        Cost::flops(x[0].count())
    }
}

impl OpDef for PixelShuffle {
    fn operands(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        let [n, h, w, c] = rule::image("pixel_shuffle.1", "x", x[0])?;
        let (f, square) = (self.factor, self.factor.saturating_mul(self.factor));
        ensure!("pixel_shuffle.2", f >= 1 && c % square == 0, "the square of factor {f} does not divide the channels of {}", x[0]);
        Ok(vec![x[0].with_shape([n, h.saturating_mul(f), w.saturating_mul(f), c / square])])
    }

    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        rule::row_by_row(x)
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        let (s, f) = (x[0].shape(), self.factor);
        let c = s[3] / (f * f);
        let split = reshaped(x[0], &[s[0], s[1], s[2], c, f, f]);
        let moved = standard(split.view().permuted_axes(IxDyn(&[0, 1, 4, 2, 5, 3])));
        vec![reshaped(&moved, &[s[0], s[1] * f, s[2] * f, c])]
    }

    fn grad(&self, b: &mut Builder, _x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        vec![Some(b.one(PixelUnshuffle { factor: self.factor }, &[dy[0]]))]
    }

    fn cost(&self, _x: &[&Type], _y: &[&Type]) -> Cost {
        Cost::default()
    }
}

impl OpDef for PixelUnshuffle {
    fn operands(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        let [n, h, w, c] = rule::image("pixel_unshuffle.1", "x", x[0])?;
        let f = self.factor;
        let divides = f >= 1 && h % f == 0 && w % f == 0;
        ensure!("pixel_unshuffle.2", divides, "factor {f} does not divide height and width of {}", x[0]);
        Ok(vec![x[0].with_shape([n, h / f, w / f, c.saturating_mul(f).saturating_mul(f)])])
    }

    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        rule::row_by_row(x)
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        let (s, f) = (x[0].shape(), self.factor);
        let tiles = reshaped(x[0], &[s[0], s[1] / f, f, s[2] / f, f, s[3]]);
        let moved = standard(tiles.view().permuted_axes(IxDyn(&[0, 1, 3, 5, 2, 4])));
        vec![reshaped(&moved, &[s[0], s[1] / f, s[2] / f, s[3] * f * f])]
    }

    fn grad(&self, b: &mut Builder, _x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        vec![Some(b.one(PixelShuffle { factor: self.factor }, &[dy[0]]))]
    }

    fn cost(&self, _x: &[&Type], _y: &[&Type]) -> Cost {
        Cost::default()
    }
}
