//! `x [N,H,W,I], w [I,KH,KW,O], b[O]? -> y [N,OH,OW,O]`, the adjoint of a convolution:
//! `y[n, oy, ox, o] = b[o] + sum over (ky, kx, i) with oy + top = stride * iy + ky (and so for x)
//! of x[n, iy, ix, i] w[i, ky, kx, o]`. First w is packed into panels whose k runs over ky, kx, i; then it is a GEMM
//! over output pixels. With a stride, taps that hit no pixel are gathered as zeros.

use serde::{Deserialize, Serialize};

use super::gemm::{Gemm, ImageWindow, Taps};
use super::{Args, KernelDef, Needs, Signature, Task, Worker};
use crate::check::Fault;
use crate::check::rule::{convolved, ensure, rank, shape};
use crate::cost::{Cost, pixels};
use crate::plan::{Operand, PANEL};
use crate::simd::Isa;

/// `x [N,H,W,I], w [I,KH,KW,O] dense, b[O]? -> y [N,OH,OW,O]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConvTranspose2d {
    /// Of both axes.
    pub stride: usize,
    /// Top, left, bottom, right.
    pub pad: [usize; 4],
}

impl KernelDef for ConvTranspose2d {
    fn signature(&self) -> Signature {
        Signature::of(&["x", "w", "b?"], &["y"])
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        let (rule, pad, stride) = ("conv_transpose2d.4", self.pad, self.stride);
        let [n, h, w, i] = rank("conv_transpose2d.1", "x", &x[0])?;
        let [_, kh, kw, o] = rank("conv_transpose2d.2", "w", &x[1])?;
        let [_, oh, ow, _] = rank("conv_transpose2d.3", "y", &y[0])?;
        let back = [convolved(rule, oh, [pad[0], pad[2]], kh, stride)?, convolved(rule, ow, [pad[1], pad[3]], kw, stride)?];
        ensure("conv_transpose2d.5", back == [h, w], format!("a y that the convolution maps back to {:?}", [h, w]), back)?;
        shape("conv_transpose2d.6", "w", &x[1], &[i, kh, kw, o])?;
        shape("conv_transpose2d.7", "y", &y[0], &[n, oh, ow, o])?;
        x.get(2).map_or(Ok(()), |b| shape("conv_transpose2d.8", "b", b, &[o]))
    }

    /// Every element of the kernel meets every pixel of the smaller side.
    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(pixels(&x[0]).saturating_mul(x[1].count()), x, y)
    }

    fn task(&self, x: &[Operand], y: &[Operand], isa: Isa) -> Box<dyn Task> {
        let (x, w, y) = (&x[0].shape, &x[1].shape, &y[0].shape);
        let window = ImageWindow {
            height: x[1],
            width: x[2],
            channels: x[3],
            out_width: y[2],
            kernel: [w[1], w[2]],
            stride: self.stride,
            top: self.pad[0],
            left: self.pad[1],
            upsample: 1,
        };
        let gemm = Gemm::new(Taps::Adjoint(window), x[0], y[1] * y[2], x[3], y[3], isa);
        Box::new(Adjoint { gemm: gemm.of_pixels(window.pixels()), taps: w[1] * w[2], channels: x[3] })
    }
}

struct Adjoint {
    gemm: Gemm,
    taps: usize,
    channels: usize,
}

impl Task for Adjoint {
    fn needs(&self, threads: usize) -> Needs {
        Needs { phases: 2, own: self.gemm.own(threads), shared: self.gemm.panels() * self.gemm.k() * PANEL }
    }

    unsafe fn run(&self, phase: usize, args: &Args, worker: &mut Worker<'_>) {
        let g = &self.gemm;
        let k_all = g.k();
        let packed = g.panels() * k_all;
        if phase == 0 {
            // SAFETY: the task's contract.
            let w = unsafe { args.input(1, k_all * g.o) };
            for unit in worker.units(packed) {
                let (k, first) = (unit % k_all, unit / k_all * PANEL);
                let (tap, i) = (k / self.channels, k % self.channels);
                let n = PANEL.min(g.o - first);
                // SAFETY: row `unit` of the panels is this thread's.
                let row = unsafe { worker.shared.write(unit * PANEL..(unit + 1) * PANEL) };
                row[..n].copy_from_slice(&w[(i * self.taps + tap) * g.o + first..][..n]);
                row[n..].fill(0.0);
            }
            return;
        }
        let weights = worker.shared.address(0..packed * PANEL);
        let operands = g.operands(args.address(0).cast(), weights, args.address(2).cast(), args.output(0));
        // SAFETY: the task's contract; phase 0 has packed the weights.
        unsafe { g.multiply(&operands, None, std::ptr::null_mut(), worker) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, run_all, step, values};
    use super::*;

    #[test]
    fn against_f64() {
        // n, h, w, i, o, kernel, stride, pad, output
        let cases = [
            (1, 1, 1, 1, 1, [1, 1], 1, [0; 4], [1, 1]),
            (2, 5, 6, 3, 33, [3, 3], 1, [1; 4], [5, 6]),
            (1, 4, 3, 5, 7, [3, 3], 2, [1; 4], [8, 6]),
            (2, 3, 4, 2, 4, [2, 3], 2, [0, 1, 1, 0], [5, 8]),
        ];
        for (n, h, w, i, o, kernel, stride, pad, out) in cases {
            let [kh, kw] = kernel;
            let (x, weights, b) = (values(n * h * w * i, 1), values(i * kh * kw * o, 2), values(o, 3));
            let mut want: Vec<f64> = (0..n * out[0] * out[1] * o).map(|e| f64::from(b[e % o])).collect();
            for e in 0..x.len() * kh * kw * o {
                let (c, tap, at) = (e % o, e / o % (kh * kw), e / o / (kh * kw));
                let (ch, ix, iy, s) = (at % i, at / i % w, at / i / w % h, at / i / w / h);
                let (oy, ox) = ((iy * stride + tap / kw).wrapping_sub(pad[0]), (ix * stride + tap % kw).wrapping_sub(pad[1]));
                if oy < out[0] && ox < out[1] {
                    want[((s * out[0] + oy) * out[1] + ox) * o + c] += f64::from(x[at]) * f64::from(weights[(ch * kh * kw + tap) * o + c]);
                }
            }
            let s = step(ConvTranspose2d { stride, pad }, &[&[n, h, w, i], &[i, kh, kw, o], &[o]], &[&[n, out[0], out[1], o]]);
            run_all(&s, &[&x, &weights, &b], |y, what| close(&y[0], &want, 2e-6, what));
        }
    }
}
