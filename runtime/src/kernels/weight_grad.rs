//! Gradients of linear layers and convolutions in their weights, which reduce over all pixels: what they are; [`product`] and
//! [`depthwise`] compute them.
//!
//! - `linear`: `dw[o, k] = sum over pixels p of dy[p, o] x[p, k]`, `db[o]` that of dy;
//! - `conv2d`: the same of x gathered by tap, `x_col[p, (ky, kx, i)]`;
//! - `dwconv2d`: `dw[ky, kx, c] = sum over pixels of dy[p, c] x[p + tap, c]`.

mod depthwise;
mod product;

use serde::{Deserialize, Serialize};

use super::gemm::ImageWindow;
use super::{KernelDef, Signature, Task};
use crate::check::Fault;
use crate::check::rule::{convolved, rank, rows, shape};
use crate::cost::{Cost, pixels};
use crate::plan::Operand;
use crate::simd::Isa;
use depthwise::Depthwise;
use product::{Columns, WeightProduct};

/// `x [..,K], dy [..,O] -> dw [O,K], db [O]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinearWeightGrad {}

/// `x [N,H,W,I], dy [N,OH,OW,O] -> dw [O,KH,KW,I]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conv2dWeightGrad {
    /// Of both axes.
    pub stride: usize,
    /// Top, left, bottom, right.
    pub pad: [usize; 4],
}

/// `x [N,H,W,C], dy [N,OH,OW,C] -> dw [KH,KW,C]`, stride 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DwConv2dWeightGrad {
    /// On all four sides.
    pub pad: usize,
}

impl KernelDef for LinearWeightGrad {
    fn signature(&self) -> Signature {
        Signature::of(&["x", "dy"], &["dw", "db"])
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        let (lead, k) = rows("linear_weight_grad.1", "x", &x[0])?;
        let (_, o) = rows("linear_weight_grad.2", "dy", &x[1])?;
        shape("linear_weight_grad.3", "dy", &x[1], &[lead, &[o]].concat())?;
        shape("linear_weight_grad.4", "dw", &y[0], &[o, k])?;
        shape("linear_weight_grad.5", "db", &y[1], &[o])
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(x[0].count().saturating_mul(y[1].count()), x, y)
    }

    fn task(&self, x: &[Operand], y: &[Operand], isa: Isa) -> Box<dyn Task> {
        let &[o, k] = &y[0].shape[..] else { unreachable!("checked: dw is a matrix") };
        Box::new(WeightProduct::new(Columns::Rows { width: k }, x[0].count() / k, o, true, isa))
    }
}

impl KernelDef for Conv2dWeightGrad {
    fn signature(&self) -> Signature {
        Signature::of(&["x", "dy"], &["dw"])
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        let (rule, pad) = ("conv2d_weight_grad.4", self.pad);
        let [n, h, w, i] = rank("conv2d_weight_grad.1", "x", &x[0])?;
        let [_, _, _, o] = rank("conv2d_weight_grad.2", "dy", &x[1])?;
        let [_, kh, kw, _] = rank("conv2d_weight_grad.3", "dw", &y[0])?;
        let out = [convolved(rule, h, [pad[0], pad[2]], kh, self.stride)?, convolved(rule, w, [pad[1], pad[3]], kw, self.stride)?];
        shape("conv2d_weight_grad.5", "dy", &x[1], &[n, out[0], out[1], o])?;
        shape("conv2d_weight_grad.6", "dw", &y[0], &[o, kh, kw, i])
    }

    /// Every element of the kernel meets every pixel of the smaller side.
    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(y[0].count().saturating_mul(pixels(&x[1])), x, y)
    }

    fn task(&self, x: &[Operand], y: &[Operand], isa: Isa) -> Box<dyn Task> {
        let dw = &y[0].shape;
        let window = window(x, [dw[1], dw[2]], self.stride, self.pad[0], self.pad[1]);
        let dy = &x[1].shape;
        let (samples, pixels) = (dy[0], dy[1] * dy[2]);
        Box::new(WeightProduct::new(Columns::Window { window, pixels }, samples * pixels, dy[3], false, isa))
    }
}

impl KernelDef for DwConv2dWeightGrad {
    fn signature(&self) -> Signature {
        Signature::of(&["x", "dy"], &["dw"])
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        let (rule, pads) = ("dw_conv2d_weight_grad.3", [self.pad; 2]);
        let [n, h, w, c] = rank("dw_conv2d_weight_grad.1", "x", &x[0])?;
        let [kh, kw, _] = rank("dw_conv2d_weight_grad.2", "dw", &y[0])?;
        let out = [convolved(rule, h, pads, kh, 1)?, convolved(rule, w, pads, kw, 1)?];
        shape("dw_conv2d_weight_grad.4", "dy", &x[1], &[n, out[0], out[1], c])?;
        shape("dw_conv2d_weight_grad.5", "dw", &y[0], &[kh, kw, c])
    }

    /// As of a convolution.
    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(y[0].count().saturating_mul(pixels(&x[1])), x, y)
    }

    fn task(&self, x: &[Operand], y: &[Operand], isa: Isa) -> Box<dyn Task> {
        let (dw, dy) = (&y[0].shape, &x[1].shape);
        Box::new(Depthwise::new(window(x, [dw[0], dw[1]], 1, self.pad, self.pad), dy[0], dy[1], isa))
    }
}

/// The view of x that dy was made through.
fn window(x: &[Operand], kernel: [usize; 2], stride: usize, top: usize, left: usize) -> ImageWindow {
    let (x, dy) = (&x[0].shape, &x[1].shape);
    ImageWindow { height: x[1], width: x[2], channels: x[3], out_width: dy[2], kernel, stride, top, left, upsample: 1 }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, run_all, step, values};
    use super::*;

    #[test]
    fn of_a_linear_layer_against_f64() {
        for (pixels, k, o) in [(1, 1, 1), (7, 5, 3), (300, 33, 17), (513, 200, 97), (40, 16, 100), (256, 193, 12)] {
            let (x, dy) = (values(pixels * k, 1), values(pixels * o, 2));
            let (mut dw, mut db) = (vec![0.0; o * k], vec![0.0; o]);
            for p in 0..pixels {
                for r in 0..o {
                    let d = f64::from(dy[p * o + r]);
                    db[r] += d;
                    (0..k).for_each(|c| dw[r * k + c] += d * f64::from(x[p * k + c]));
                }
            }
            let s = step(LinearWeightGrad {}, &[&[pixels, k], &[pixels, o]], &[&[o, k], &[o]]);
            run_all(&s, &[&x, &dy], |y, what| {
                // Of 19,400 sums over 513 pixels the worst.
                close(&y[0], &dw, 4e-6, what);
                close(&y[1], &db, 2e-6, what);
            });
        }
    }

    #[test]
    fn of_a_convolution_against_f64() {
        // n, h, w, i, o, kernel, stride, pad
        let cases = [
            (1, 1, 1, 1, 1, [1, 1], 1, [0; 4]),
            (2, 5, 6, 3, 7, [3, 3], 1, [1; 4]),
            (1, 20, 17, 5, 33, [3, 3], 1, [1; 4]),
            (2, 8, 7, 4, 5, [2, 3], 2, [1, 0, 0, 1]),
            (1, 18, 17, 25, 100, [3, 3], 1, [1; 4]),
        ];
        for (n, h, w, i, o, kernel, stride, pad) in cases {
            let [kh, kw] = kernel;
            let (oh, ow) = ((h + pad[0] + pad[2] - kh) / stride + 1, (w + pad[1] + pad[3] - kw) / stride + 1);
            let (x, dy) = (values(n * h * w * i, 1), values(n * oh * ow * o, 2));
            let mut want = vec![0.0; o * kh * kw * i];
            for p in 0..n * oh * ow {
                for (e, want) in want.iter_mut().enumerate() {
                    let (c, kx, ky, out) = (e % i, e / i % kw, e / i / kw % kh, e / i / kw / kh);
                    let y = (p / ow % oh * stride + ky).wrapping_sub(pad[0]);
                    let at = (p % ow * stride + kx).wrapping_sub(pad[1]);
                    if y < h && at < w {
                        *want += f64::from(x[((p / ow / oh * h + y) * w + at) * i + c]) * f64::from(dy[p * o + out]);
                    }
                }
            }
            let s = step(Conv2dWeightGrad { stride, pad }, &[&[n, h, w, i], &[n, oh, ow, o]], &[&[o, kh, kw, i]]);
            run_all(&s, &[&x, &dy], |y, what| close(&y[0], &want, 2e-6, what));
        }
    }

    #[test]
    fn of_a_depthwise_convolution_against_f64() {
        for (n, h, w, c, k, pad) in
            [(1, 1, 1, 1, 1, 0), (2, 5, 6, 3, 3, 1), (1, 9, 8, 70, 7, 3), (2, 3, 20, 16, 7, 3), (1, 2, 2, 9, 7, 6), (1, 12, 11, 24, 9, 2)]
        {
            let (oh, ow) = (h + 2 * pad - k + 1, w + 2 * pad - k + 1);
            let (x, dy) = (values(n * h * w * c, 1), values(n * oh * ow * c, 2));
            let mut want = vec![0.0; k * k * c];
            for (e, want) in want.iter_mut().enumerate() {
                let (ch, kx, ky) = (e % c, e / c % k, e / c / k);
                for p in 0..n * oh * ow {
                    let (y, at) = ((p / ow % oh + ky).wrapping_sub(pad), (p % ow + kx).wrapping_sub(pad));
                    if y < h && at < w {
                        *want += f64::from(x[((p / ow / oh * h + y) * w + at) * c + ch]) * f64::from(dy[p * c + ch]);
                    }
                }
            }
            let s = step(DwConv2dWeightGrad { pad }, &[&[n, h, w, c], &[n, oh, ow, c]], &[&[k, k, c]]);
            run_all(&s, &[&x, &dy], |y, what| close(&y[0], &want, 2e-6, what));
        }
    }
}
