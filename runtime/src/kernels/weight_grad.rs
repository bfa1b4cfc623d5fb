//! Gradients of convolutions in their weights, which reduce over all pixels.
//!
//! `conv2d`: `dw[o, (ky, kx, i)] = sum over pixels p of dy[p, o] x_col[p, (ky, kx, i)]`, a product with pixels as k:
//! a unit of work is 16 columns, for which x is gathered in stretches of pixels. `dwconv2d`:
//! `dw[ky, kx, c] = sum over pixels of dy[p, c] x[p + tap, c]`, summed in f32 along a row of pixels and in f64
//! over rows.

use serde::{Deserialize, Serialize};

use super::gemm::ImageWindow;
use super::gemm::micro::{Ahead, DEPTH, GROUP, Left, MultiplyAdd, Right, multiply_add};
use super::scratch::{addresses, zeroed_f64};
use super::{Args, KernelDef, Needs, Signature, Task, Worker};
use crate::check::Fault;
use crate::check::rule::{convolved, rank, shape};
use crate::cost::{Cost, pixels};
use crate::plan::{Operand, PANEL};
use crate::simd::Isa;

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
        Box::new(Conv { window, samples: dy[0], pixels: dy[1] * dy[2], o: dy[3], multiply_add: multiply_add(isa) })
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

    fn task(&self, x: &[Operand], y: &[Operand], _: Isa) -> Box<dyn Task> {
        let (dw, dy) = (&y[0].shape, &x[1].shape);
        Box::new(Depthwise { window: window(x, [dw[0], dw[1]], 1, self.pad, self.pad), samples: dy[0], pixels: dy[1] * dy[2] })
    }
}

/// The view of x that dy was made through.
fn window(x: &[Operand], kernel: [usize; 2], stride: usize, top: usize, left: usize) -> ImageWindow {
    let (x, dy) = (&x[0].shape, &x[1].shape);
    ImageWindow { height: x[1], width: x[2], channels: x[3], out_width: dy[2], kernel, stride, top, left, upsample: 1 }
}

struct Conv {
    window: ImageWindow,
    samples: usize,
    pixels: usize,
    o: usize,
    multiply_add: MultiplyAdd,
}

struct Depthwise {
    window: ImageWindow,
    samples: usize,
    pixels: usize,
}

impl Conv {
    fn columns(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1] * self.window.channels
    }

    /// Columns `first ..` of the gathered row of one pixel.
    fn columns_of(&self, image: &[f32], pixel: usize, first: usize, out: &mut [f32]) {
        let w = &self.window;
        let (oy, ox) = (pixel / w.out_width, pixel % w.out_width);
        let mut done = 0;
        while done < out.len() {
            let (tap, c) = ((first + done) / w.channels, (first + done) % w.channels);
            let n = (w.channels - c).min(out.len() - done);
            let y = (oy * w.stride + tap / w.kernel[1]).wrapping_sub(w.top);
            let x = (ox * w.stride + tap % w.kernel[1]).wrapping_sub(w.left);
            let out = &mut out[done..done + n];
            if y < w.height && x < w.width {
                out.copy_from_slice(&image[(y * w.width + x) * w.channels + c..][..n]);
            } else {
                out.fill(0.0);
            }
            done += n;
        }
    }
}

impl Task for Conv {
    fn needs(&self, _threads: usize) -> Needs {
        Needs { phases: 1, own: DEPTH * PANEL + self.o * (GROUP + 2), shared: 0 }
    }

    unsafe fn run(&self, _phase: usize, args: &Args, worker: &mut Worker<'_>) {
        let image = self.window.height * self.window.width * self.window.channels;
        // SAFETY: the task's contract.
        let (x, dy) = unsafe { (args.input(0, self.samples * image), args.input(1, self.samples * self.pixels * self.o)) };
        let columns = self.columns();
        for panel in worker.units(columns.div_ceil(PANEL)) {
            let first = panel * PANEL;
            let n = PANEL.min(columns - first);
            let (gathered, rest) = worker.own.split_at_mut(DEPTH * PANEL);
            let (sums, table) = rest.split_at_mut(self.o * GROUP);
            sums.fill(0.0);
            let table = addresses(table, self.o);
            for sample in 0..self.samples {
                for start in (0..self.pixels).step_by(DEPTH) {
                    let depth = DEPTH.min(self.pixels - start);
                    for (p, out) in gathered.chunks_exact_mut(PANEL).take(depth).enumerate() {
                        self.columns_of(&x[sample * image..][..image], start + p, first, &mut out[..n]);
                        out[n..].fill(0.0);
                    }
                    let a = &dy[(sample * self.pixels + start) * self.o..][..depth * self.o];
                    table.iter_mut().zip(a).for_each(|(address, a)| *address = a);
                    let left = Left { rows: table, step: self.o };
                    let right = Right { start: gathered.as_ptr(), panel_step: 0, panels: 1 };
                    // SAFETY: `depth` pixels of o channels, `depth` gathered rows, o rows of sums.
                    unsafe { (self.multiply_add)(left, right, Ahead::NOTHING, depth, sums.as_mut_ptr(), false) };
                }
            }
            for (o, sums) in sums.chunks_exact(GROUP).enumerate() {
                // SAFETY: these columns are this thread's.
                unsafe { args.output_range(0, o * columns + first..o * columns + first + n) }.copy_from_slice(&sums[..n]);
            }
        }
    }
}

/// Channels of a unit of work of the depthwise gradient.
const CHANNELS: usize = 64;

impl Task for Depthwise {
    fn needs(&self, _threads: usize) -> Needs {
        Needs { phases: 1, own: 3 * CHANNELS, shared: 0 }
    }

    unsafe fn run(&self, _phase: usize, args: &Args, worker: &mut Worker<'_>) {
        let w = &self.window;
        let c = w.channels;
        let image = w.height * w.width * c;
        // SAFETY: the task's contract.
        let (x, dy) = unsafe { (args.input(0, self.samples * image), args.input(1, self.samples * self.pixels * c)) };
        let blocks = c.div_ceil(CHANNELS);
        for unit in worker.units(w.kernel[0] * w.kernel[1] * blocks) {
            let (tap, first) = (unit / blocks, unit % blocks * CHANNELS);
            let n = CHANNELS.min(c - first);
            let (row, sums) = worker.own.split_at_mut(CHANNELS);
            let (row, sums) = (&mut row[..n], zeroed_f64(sums, n));
            for line in 0..self.samples * self.pixels / w.out_width {
                let (sample, oy) = (line / (self.pixels / w.out_width), line % (self.pixels / w.out_width));
                let y = (oy + tap / w.kernel[1]).wrapping_sub(w.top);
                if y >= w.height {
                    continue;
                }
                row.fill(0.0);
                for ox in 0..w.out_width {
                    let at = (ox + tap % w.kernel[1]).wrapping_sub(w.left);
                    if at < w.width {
                        let x = &x[sample * image + (y * w.width + at) * c + first..][..n];
                        let dy = &dy[(line * w.out_width + ox) * c + first..][..n];
                        row.iter_mut().zip(x.iter().zip(dy)).for_each(|(sum, (x, dy))| *sum += x * dy);
                    }
                }
                sums.iter_mut().zip(&*row).for_each(|(sum, &row)| *sum += f64::from(row));
            }
            // SAFETY: these channels of this tap are this thread's.
            let dw = unsafe { args.output_range(0, tap * c + first..tap * c + first + n) };
            dw.iter_mut().zip(&*sums).for_each(|(dw, &sum)| *dw = sum as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, run_all, step, values};
    use super::*;

    #[test]
    fn of_a_convolution_against_f64() {
        // n, h, w, i, o, kernel, stride, pad
        let cases = [
            (1, 1, 1, 1, 1, [1, 1], 1, [0; 4]),
            (2, 5, 6, 3, 7, [3, 3], 1, [1; 4]),
            (1, 20, 17, 5, 33, [3, 3], 1, [1; 4]),
            (2, 8, 7, 4, 5, [2, 3], 2, [1, 0, 0, 1]),
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
        for (n, h, w, c, k, pad) in [(1, 1, 1, 1, 1, 0), (2, 5, 6, 3, 3, 1), (1, 9, 8, 70, 7, 3)] {
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
