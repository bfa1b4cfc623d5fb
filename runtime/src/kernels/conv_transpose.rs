//! `x [N,H,W,I], w [I,KH,KW,O], b[O]? -> y [N,OH,OW,O]`, the adjoint of a convolution:
//! `y[n, oy, ox, o] = b[o] + sum over (ky, kx, i) with oy + top = stride * iy + ky (and so for x)
//! of x[n, iy, ix, i] w[i, ky, kx, o]`. First w is packed into panels whose k runs over ky, kx, i; then it is a GEMM
//! over output pixels. With a stride, taps that hit no pixel are gathered as zeros.

use super::gemm::{Gemm, Operands, Taps, Window};
use super::{Args, Needs, Task, Worker};
use crate::plan::{Kernel, PANEL, Step};

struct ConvTranspose {
    gemm: Gemm,
    taps: usize,
    channels: usize,
}

pub(super) fn task(step: &Step) -> Box<dyn Task> {
    let Kernel::ConvTranspose2d { stride, pad } = step.kernel else { unreachable!("`kernels::task` sends no other kernel here") };
    let (x, w, y) = (&step.inputs[0].shape, &step.inputs[1].shape, &step.outputs[0].shape);
    let window = Window {
        height: x[1],
        width: x[2],
        channels: x[3],
        out_width: y[2],
        kernel: [w[1], w[2]],
        stride,
        top: pad[0],
        left: pad[1],
        upsample: 1,
    };
    let taps = w[1] * w[2];
    let gemm = Gemm::new(Taps::Adjoint(window), x[0], y[1] * y[2], x[3], y[3]);
    Box::new(ConvTranspose { gemm: Gemm { pixels: window.pixels(), ..gemm }, taps, channels: x[3] })
}

impl Task for ConvTranspose {
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
        let operands = Operands::new(args.inputs[0].cast(), weights, args.inputs[2].cast(), args.output(0));
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
            let s = step(Kernel::ConvTranspose2d { stride, pad }, &[&[n, h, w, i], &[i, kh, kw, o], &[o]], &[&[n, out[0], out[1], o]]);
            run_all(&s, &[&x, &weights, &b], |y, what| close(&y[0], &want, 2e-6, what));
        }
    }
}
