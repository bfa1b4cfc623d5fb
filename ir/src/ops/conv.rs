//! Full convolutions. `conv2d` is linear in x and in w; its two adjoints, `conv_transpose2d` and `conv2d_weight_grad`,
//! are ops too, so that each one's gradients are the others.
//!
//! All three sum over the taps of the kernel: for each tap, the input pixels that it sees and the output pixels that it
//! reaches form two equal grids, and the tap is one matrix product a row of the grid.

use std::ops::Range;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array4, ArrayBase, ArrayView4, Axis, Ix1, Ix2, Ix4, RawData, Slice};

use super::reduce::sum_channels;
use super::rule;
use super::{Conv2d, Conv2dWeightGrad, ConvTranspose2d, Cost, Flip, OpDef, Share, Transpose};
use crate::eval::Tensor;
use crate::function::{Builder, Value};
use crate::types::{Type, TypeError, ensure};

/// Extent of a convolution's result; `None` if the kernel is larger than the padded input. Kernel and stride are at least 1.
pub(super) fn output_extent(input: usize, kernel: usize, stride: usize, before: usize, after: usize) -> Option<usize> {
    Some(input.saturating_add(before).saturating_add(after).checked_sub(kernel)? / stride + 1)
}

/// Height and width of a convolution's result.
fn output_size(input: [usize; 2], kernel: [usize; 2], stride: usize, pad: &[usize]) -> Option<[usize; 2]> {
    let h = output_extent(input[0], kernel[0], stride, pad[0], pad[2])?;
    let w = output_extent(input[1], kernel[1], stride, pad[1], pad[3])?;
    Some([h, w])
}

/// Along one axis, tap `k` takes output `o` to input `o * stride + k - before`. The outputs whose input exists, and the first's input.
pub(super) fn tap(k: usize, before: usize, stride: usize, input: usize, output: usize) -> (Range<usize>, usize) {
    let first = before.saturating_sub(k).div_ceil(stride);
    let end = (input + before).saturating_sub(k).div_ceil(stride).min(output);
    (first..end.max(first), (first * stride + k).saturating_sub(before))
}

/// Calls `each(tap, sample, output row, output columns, input row, input columns)` for every row that a tap connects.
fn for_each_row(
    kernel: [usize; 2],
    [n, input_h, input_w]: [usize; 3],
    output: [usize; 2],
    stride: usize,
    pad: &[usize],
    mut each: impl FnMut([usize; 2], usize, usize, Range<usize>, usize, Slice),
) {
    for kh in 0..kernel[0] {
        let (rows, first_row) = tap(kh, pad[0], stride, input_h, output[0]);
        for kw in 0..kernel[1] {
            let (columns, first) = tap(kw, pad[1], stride, input_w, output[1]);
            if columns.is_empty() {
                continue;
            }
            let end = first + (columns.len() - 1) * stride + 1;
            let span = Slice::new(first as isize, Some(end as isize), stride as isize);
            for sample in 0..n {
                for (i, row) in rows.clone().enumerate() {
                    each([kh, kw], sample, row, columns.clone(), first_row + i * stride, span);
                }
            }
        }
    }
}

/// Pixels `columns` of one row of one sample, as a matrix.
fn row_of<S: RawData>(image: ArrayBase<S, Ix4>, sample: usize, row: usize, columns: Slice) -> ArrayBase<S, Ix2> {
    let mut row = image.index_axis_move(Axis(0), sample).index_axis_move(Axis(0), row);
    row.slice_axis_inplace(Axis(0), columns);
    row
}

/// The matrix of one tap of a kernel `[_,KH,KW,_]`.
fn tap_of<S: RawData>(w: ArrayBase<S, Ix4>, k: [usize; 2]) -> ArrayBase<S, Ix2> {
    w.index_axis_move(Axis(1), k[0]).index_axis_move(Axis(1), k[1])
}

fn four(x: &Tensor) -> ArrayView4<'_, f64> {
    x.view().into_dimensionality::<Ix4>().expect("rank 4 by the op's shape rule")
}

fn biased(mut y: Array4<f64>, bias: Option<&&Tensor>) -> Vec<Tensor> {
    if let Some(b) = bias {
        y += &b.view().into_dimensionality::<Ix1>().expect("rank 1 by the op's shape rule");
    }
    vec![y.into_dyn()]
}

/// Multiply-accumulates of a `conv2d` with that many output pixels.
fn macs(pixels: usize, w: &[usize]) -> Cost {
    Cost::macs(pixels.saturating_mul(rule::product(w)))
}

impl Conv2d {
    /// The cotangent of an x of height and width `output`. At stride 1 it is a convolution too, with the taps in reverse and channels exchanged, unless
    /// padding is wider than the kernel reaches.
    fn input_grad(&self, b: &mut Builder, dy: Value, w: Value, output: Vec<usize>) -> Value {
        let shape = &b.ty(w).shape;
        let reach = [shape[1] - 1, shape[2] - 1, shape[1] - 1, shape[2] - 1];
        if self.stride != 1 || self.pad.iter().zip(reach).any(|(&pad, reach)| pad > reach) {
            return b.one(ConvTranspose2d { stride: self.stride, pad: self.pad.clone(), output }, &[dy, w]);
        }
        let flipped = b.one(Flip { axes: vec![1, 2] }, &[w]);
        let exchanged = b.one(Transpose { perm: vec![3, 1, 2, 0] }, &[flipped]);
        let pad = self.pad.iter().zip(reach).map(|(&pad, reach)| reach - pad).collect();
        b.one(Conv2d { stride: 1, pad }, &[dy, exchanged])
    }
}

impl OpDef for Conv2d {
    fn operands(&self) -> &'static [&'static str] {
        &["x", "w", "b?"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        let [n, h, w, i] = rule::image("conv2d.1", "x", x[0])?;
        let kernel = x[1].dtype == x[0].dtype && x[1].rank() == 4 && x[1].shape[3] == i;
        ensure!("conv2d.2", kernel, "w must be {}[O,KH,KW,{i}], found {}", x[0].dtype, x[1]);
        let [o, kh, kw] = [0, 1, 2].map(|a| x[1].shape[a]);
        rule::is_or_none("conv2d.3", "b", x.get(2), x[0].dtype, &[o])?;
        ensure!("conv2d.4", self.stride >= 1 && self.pad.len() == 4, "stride must be at least 1 and pad four numbers, found `{self:?}`");
        let size = output_size([h, w], [kh, kw], self.stride, &self.pad);
        ensure!("conv2d.5", size.is_some(), "kernel {} is larger than padded x {} (pad {:?})", x[1], x[0], self.pad);
        Ok(size.into_iter().map(|[oh, ow]| x[0].with_shape([n, oh, ow, o])).collect())
    }

    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        rule::row_of_first(x)
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        let (image, w) = (four(x[0]), four(x[1]));
        let ((n, h, width, _), (o, kh, kw, _)) = (image.dim(), w.dim());
        let [oh, ow] = output_size([h, width], [kh, kw], self.stride, &self.pad).expect("fits by conv2d.5");
        let mut y = Array4::zeros((n, oh, ow, o));
        for_each_row([kh, kw], [n, h, width], [oh, ow], self.stride, &self.pad, |k, n, row, columns, from, span| {
            let pixels = row_of(image, n, from, span);
            general_mat_mul(1.0, &pixels, &tap_of(w, k).t(), 1.0, &mut row_of(y.view_mut(), n, row, columns.into()));
        });
        biased(y, x.get(2))
    }

    fn grad(&self, b: &mut Builder, x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let output = b.ty(x[0]).shape[1..3].to_vec();
        let kernel = b.ty(x[1]).shape[1..3].to_vec();
        let dx = self.input_grad(b, dy[0], x[1], output);
        let dw = b.one(Conv2dWeightGrad { stride: self.stride, pad: self.pad.clone(), kernel }, &[x[0], dy[0]]);
        let mut grads = vec![Some(dx), Some(dw)];
        if x.len() == 3 {
            grads.push(Some(sum_channels(b, dy[0])));
        }
        grads
    }

    fn cost(&self, x: &[&Type], y: &[&Type]) -> Cost {
        macs(rule::product(&y[0].shape[..3]), &x[1].shape)
    }
}

impl OpDef for ConvTranspose2d {
    fn operands(&self) -> &'static [&'static str] {
        &["x", "w", "b?"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        let [n, h, w, i] = rule::image("conv_transpose2d.1", "x", x[0])?;
        let kernel = x[1].dtype == x[0].dtype && x[1].rank() == 4 && x[1].shape[0] == i;
        ensure!("conv_transpose2d.2", kernel, "w must be {}[{i},KH,KW,O], found {}", x[0].dtype, x[1]);
        let [kh, kw, o] = [1, 2, 3].map(|a| x[1].shape[a]);
        rule::is_or_none("conv_transpose2d.3", "b", x.get(2), x[0].dtype, &[o])?;
        let attrs = self.stride >= 1 && self.pad.len() == 4 && self.output.len() == 2;
        ensure!("conv_transpose2d.4", attrs, "stride must be at least 1, pad four numbers and output two, found `{self:?}`");
        let [oh, ow] = [self.output[0], self.output[1]];
        let back = output_size([oh, ow], [kh, kw], self.stride, &self.pad);
        ensure!("conv_transpose2d.5", back == Some([h, w]), "conv2d takes output [{oh},{ow}] to {back:?}, not to the size of {}", x[0]);
        Ok(vec![x[0].with_shape([n, oh, ow, o])])
    }

    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        rule::row_of_first(x)
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        let (image, w) = (four(x[0]), four(x[1]));
        let ((n, h, width, _), (_, kh, kw, o)) = (image.dim(), w.dim());
        let [oh, ow] = [self.output[0], self.output[1]];
        let mut y = Array4::zeros((n, oh, ow, o));
        // The adjoint: its output is the convolution's input.
        for_each_row([kh, kw], [n, oh, ow], [h, width], self.stride, &self.pad, |k, n, row, columns, to, span| {
            let pixels = row_of(image, n, row, columns.into());
            let mut reached = row_of(y.view_mut(), n, to, span);
            general_mat_mul(1.0, &pixels, &tap_of(w, k), 1.0, &mut reached);
        });
        biased(y, x.get(2))
    }

    fn grad(&self, b: &mut Builder, x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let kernel = b.ty(x[1]).shape[1..3].to_vec();
        let dx = b.one(Conv2d { stride: self.stride, pad: self.pad.clone() }, &[dy[0], x[1]]);
        let dw = b.one(Conv2dWeightGrad { stride: self.stride, pad: self.pad.clone(), kernel }, &[dy[0], x[0]]);
        let mut grads = vec![Some(dx), Some(dw)];
        if x.len() == 3 {
            grads.push(Some(sum_channels(b, dy[0])));
        }
        grads
    }

    fn cost(&self, x: &[&Type], _y: &[&Type]) -> Cost {
        macs(rule::product(&x[0].shape[..3]), &x[1].shape)
    }
}

impl OpDef for Conv2dWeightGrad {
    fn operands(&self) -> &'static [&'static str] {
        &["x", "dy"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        let [n, h, w, i] = rule::image("conv2d_weight_grad.1", "x", x[0])?;
        let [dn, oh, ow, o] = rule::image("conv2d_weight_grad.2", "dy", x[1])?;
        let alike = dn == n && x[1].dtype == x[0].dtype;
        ensure!("conv2d_weight_grad.3", alike, "x and dy differ in element type or samples: {} vs {}", x[0], x[1]);
        let attrs = self.stride >= 1 && self.pad.len() == 4 && self.kernel.len() == 2 && self.kernel.iter().all(|&k| k >= 1);
        ensure!(
            "conv2d_weight_grad.4",
            attrs,
            "stride must be at least 1, pad four numbers and kernel two positive ones, found `{self:?}`"
        );
        let [kh, kw] = [self.kernel[0], self.kernel[1]];
        let size = output_size([h, w], [kh, kw], self.stride, &self.pad);
        ensure!("conv2d_weight_grad.5", size == Some([oh, ow]), "conv2d takes x {} to {size:?}, not to the size of dy {}", x[0], x[1]);
        Ok(vec![x[0].with_shape([o, kh, kw, i])])
    }

    fn rows(&self, _x: &[&Type]) -> Option<Vec<Share>> {
        None
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        let (image, dy) = (four(x[0]), four(x[1]));
        let ((n, h, width, i), (_, oh, ow, o)) = (image.dim(), dy.dim());
        let kernel = [self.kernel[0], self.kernel[1]];
        let mut dw = Array4::zeros((o, kernel[0], kernel[1], i));
        for_each_row(kernel, [n, h, width], [oh, ow], self.stride, &self.pad, |k, n, row, columns, from, span| {
            let pixels = row_of(image, n, from, span);
            let seen = row_of(dy, n, row, columns.into());
            general_mat_mul(1.0, &seen.t(), &pixels, 1.0, &mut tap_of(dw.view_mut(), k));
        });
        vec![dw.into_dyn()]
    }

    fn grad(&self, b: &mut Builder, x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        let output = b.ty(x[0]).shape[1..3].to_vec();
        let dx = b.one(ConvTranspose2d { stride: self.stride, pad: self.pad.clone(), output }, &[x[1], dy[0]]);
        let ddy = b.one(Conv2d { stride: self.stride, pad: self.pad.clone() }, &[x[0], dy[0]]);
        vec![Some(dx), Some(ddy)]
    }

    fn cost(&self, x: &[&Type], y: &[&Type]) -> Cost {
        macs(rule::product(&x[1].shape[..3]), &y[0].shape)
    }
}
