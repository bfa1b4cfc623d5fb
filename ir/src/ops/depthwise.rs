//! Depthwise convolution, stride 1, square kernel. With `pad` < K its adjoint in x is the same op with the kernel flipped
//! and padding `K - 1 - pad`.

use ndarray::{Array3, Array4, ArrayView4, Ix1, Ix3, Ix4};

use super::conv::{output_extent, tap};
use super::reduce::sum_channels;
use super::rule;
use super::{Cost, DwConv2d, DwConv2dWeightGrad, Flip, OpDef, Share};
use crate::eval::Tensor;
use crate::function::{Builder, Value};
use crate::types::{Type, TypeError, ensure};

fn four(x: &Tensor) -> ArrayView4<'_, f64> {
    x.view().into_dimensionality::<Ix4>().expect("rank 4 by the op's shape rule")
}

/// Calls `each(tap, output, input)` with the indices `[n, row, column]` of every pair of pixels that a tap connects.
fn for_each_pixel(
    kernel: usize,
    pad: usize,
    [n, h, w]: [usize; 3],
    [oh, ow]: [usize; 2],
    mut each: impl FnMut([usize; 2], [usize; 3], [usize; 3]),
) {
    for kh in 0..kernel {
        let (rows, first_row) = tap(kh, pad, 1, h, oh);
        for kw in 0..kernel {
            let (columns, first) = tap(kw, pad, 1, w, ow);
            for sample in 0..n {
                for (i, row) in rows.clone().enumerate() {
                    for (j, column) in columns.clone().enumerate() {
                        each([kh, kw], [sample, row, column], [sample, first_row + i, first + j]);
                    }
                }
            }
        }
    }
}

/// The C channels of one pixel.
fn at([_, h, w, c]: [usize; 4], [n, row, column]: [usize; 3]) -> std::ops::Range<usize> {
    let start = ((n * h + row) * w + column) * c;
    start..start + c
}

/// `dx = dwconv2d(dy, flip(w))`, which both ops' gradients need.
fn input_gradient(b: &mut Builder, kernel: usize, pad: usize, dy: Value, w: Value) -> Value {
    let flipped = b.one(Flip { axes: vec![0, 1] }, &[w]);
    b.one(DwConv2d { pad: kernel - 1 - pad }, &[dy, flipped])
}

impl OpDef for DwConv2d {
    fn operands(&self) -> &'static [&'static str] {
        &["x", "w", "b?"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        let [n, h, w, c] = rule::image("dwconv2d.1", "x", x[0])?;
        let kernel = x[1].dtype == x[0].dtype && x[1].rank() == 3 && x[1].shape[0] == x[1].shape[1] && x[1].shape[2] == c;
        ensure!("dwconv2d.2", kernel, "w must be {}[K,K,{c}], found {}", x[0].dtype, x[1]);
        rule::is_or_none("dwconv2d.3", "b", x.get(2), x[0].dtype, &[c])?;
        let k = x[1].shape[0];
        ensure!("dwconv2d.4", self.pad < k, "pad must be less than the kernel's {k}, found {}", self.pad);
        let size = [h, w].map(|extent| output_extent(extent, k, 1, self.pad, self.pad));
        let [Some(oh), Some(ow)] = size else {
            return Err(TypeError { constraint: "dwconv2d.5", message: format!("kernel {} is larger than padded x {}", x[1], x[0]) });
        };
        Ok(vec![x[0].with_shape([n, oh, ow, c])])
    }

    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        rule::row_of_first(x)
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        let image = four(x[0]).as_standard_layout().into_owned();
        let w = x[1].view().into_dimensionality::<Ix3>().expect("rank 3 by dwconv2d.2").as_standard_layout().into_owned();
        let ((n, h, width, c), k) = (image.dim(), w.dim().0);
        let [oh, ow] = [h, width].map(|extent| output_extent(extent, k, 1, self.pad, self.pad).expect("fits by dwconv2d.5"));
        let mut y = Array4::zeros((n, oh, ow, c));
        let (from, taps) = (image.as_slice().expect("standard layout"), w.as_slice().expect("standard layout"));
        let to = y.as_slice_mut().expect("standard layout");
        for_each_pixel(k, self.pad, [n, h, width], [oh, ow], |[kh, kw], output, input| {
            let (y, x, w) = (&mut to[at([n, oh, ow, c], output)], &from[at([n, h, width, c], input)], &taps[at([1, k, k, c], [0, kh, kw])]);
            y.iter_mut().zip(x).zip(w).for_each(|((y, x), w)| *y += x * w);
        });
        if let Some(b) = x.get(2) {
            y += &b.view().into_dimensionality::<Ix1>().expect("rank 1 by dwconv2d.3");
        }
        vec![y.into_dyn()]
    }

    fn grad(&self, b: &mut Builder, x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let k = b.ty(x[1]).shape[0];
        let dx = input_gradient(b, k, self.pad, dy[0], x[1]);
        let dw = b.one(DwConv2dWeightGrad { pad: self.pad, kernel: vec![k, k] }, &[x[0], dy[0]]);
        let mut grads = vec![Some(dx), Some(dw)];
        if x.len() == 3 {
            grads.push(Some(sum_channels(b, dy[0])));
        }
        grads
    }

    fn cost(&self, x: &[&Type], y: &[&Type]) -> Cost {
        Cost::macs(y[0].count().saturating_mul(x[1].shape[0] * x[1].shape[1]))
    }
}

impl OpDef for DwConv2dWeightGrad {
    fn operands(&self) -> &'static [&'static str] {
        &["x", "dy"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        let [n, h, w, c] = rule::image("dwconv2d_weight_grad.1", "x", x[0])?;
        let [dn, oh, ow, dc] = rule::image("dwconv2d_weight_grad.2", "dy", x[1])?;
        let alike = [dn, dc] == [n, c] && x[1].dtype == x[0].dtype;
        ensure!("dwconv2d_weight_grad.3", alike, "x and dy differ in element type, samples or channels: {} vs {}", x[0], x[1]);
        let square = self.kernel.len() == 2 && self.kernel[0] == self.kernel[1] && self.pad < self.kernel[0];
        ensure!("dwconv2d_weight_grad.4", square, "kernel must be two equal numbers greater than pad, found `{self:?}`");
        let k = self.kernel[0];
        let size = [h, w].map(|extent| output_extent(extent, k, 1, self.pad, self.pad));
        let fits = size == [Some(oh), Some(ow)];
        ensure!("dwconv2d_weight_grad.5", fits, "dwconv2d takes x {} to {size:?}, not to the size of dy {}", x[0], x[1]);
        Ok(vec![x[0].with_shape([k, k, c])])
    }

    fn rows(&self, _x: &[&Type]) -> Option<Vec<Share>> {
        None
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        let (image, dy) = (four(x[0]).as_standard_layout().into_owned(), four(x[1]).as_standard_layout().into_owned());
        let ((n, h, w, c), (_, oh, ow, _), k) = (image.dim(), dy.dim(), self.kernel[0]);
        let mut dw = Array3::zeros((k, k, c));
        let (from, seen) = (image.as_slice().expect("standard layout"), dy.as_slice().expect("standard layout"));
        let to = dw.as_slice_mut().expect("standard layout");
        for_each_pixel(k, self.pad, [n, h, w], [oh, ow], |[kh, kw], output, input| {
            let (dw, x, dy) = (&mut to[at([1, k, k, c], [0, kh, kw])], &from[at([n, h, w, c], input)], &seen[at([n, oh, ow, c], output)]);
            dw.iter_mut().zip(x).zip(dy).for_each(|((dw, x), dy)| *dw += x * dy);
        });
        vec![dw.into_dyn()]
    }

    fn grad(&self, b: &mut Builder, x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let dx = input_gradient(b, self.kernel[0], self.pad, x[1], dy[0]);
        let ddy = b.one(DwConv2d { pad: self.pad }, &[x[0], dy[0]]);
        vec![Some(dx), Some(ddy)]
    }

    fn cost(&self, x: &[&Type], _y: &[&Type]) -> Cost {
        Cost::macs(x[1].count().saturating_mul(self.kernel[0] * self.kernel[1]))
    }
}
