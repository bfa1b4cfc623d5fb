//! One vector over channels for each sample, applied to all its pixels. `modulate: x * (1 + scale) + shift`;
//! `gated_add: x + gate * h`; `scale_channels: x * a`.

use super::{Args, Needs, Task, Worker};
use crate::plan::{Kernel, Step};
use crate::simd::{Simd, variants};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Modulate,
    GatedAdd,
    ScaleChannels,
}

struct Channelwise {
    op: Op,
    samples: usize,
    rows: usize,
    channels: usize,
}

pub(super) fn task(step: &Step) -> Box<dyn Task> {
    let op = match step.kernel {
        Kernel::Modulate => Op::Modulate,
        Kernel::GatedAdd => Op::GatedAdd,
        Kernel::ScaleChannels => Op::ScaleChannels,
        _ => unreachable!("`kernels::task` sends no other kernel here"),
    };
    let y = &step.outputs[0];
    let channels = *y.shape.last().expect("checked: y has a rank");
    Box::new(Channelwise { op, samples: y.shape[0], rows: y.count() / channels, channels })
}

impl Task for Channelwise {
    fn needs(&self, _threads: usize) -> Needs {
        Needs::PLAIN
    }

    unsafe fn run(&self, _phase: usize, args: &Args, worker: &mut Worker<'_>) {
        let c = self.channels;
        let (all, vectors) = (self.rows * c, self.samples * c);
        // SAFETY: the task's contract.
        let (x, second, third) = unsafe {
            match self.op {
                Op::Modulate => (args.input(0, all), args.input(1, vectors), args.input(2, vectors)),
                Op::GatedAdd => (args.input(0, all), args.input(1, all), args.input(2, vectors)),
                Op::ScaleChannels => (args.input(0, all), args.input(1, vectors), &[][..]),
            }
        };
        for r in worker.units(self.rows) {
            let (row, sample) = (r * c..(r + 1) * c, r / (self.rows / self.samples));
            let sample = sample * c..(sample + 1) * c;
            // SAFETY: row r is this thread's; all slices have c elements.
            unsafe {
                let y = args.output_range(0, row.clone());
                let x = &x[row.clone()];
                match self.op {
                    Op::Modulate => combine(worker.isa, x, &third[sample.clone()], &second[sample], 1.0, y),
                    Op::GatedAdd => combine(worker.isa, &second[row], &third[sample], x, 0.0, y),
                    Op::ScaleChannels => combine(worker.isa, x, &second[sample], &[], 0.0, y),
                }
            }
        }
    }
}

variants! {
    /// `y = x * (more + a) + b`, an empty b counting as zero.
    ///
    /// # Safety
    /// - `x`, `a`, `y` and, unless empty, `b` are equally long.
    pub(super) unsafe fn combine(x: &[f32], a: &[f32], b: &[f32], more: f32, y: &mut [f32]) = combine_body
}

#[inline(always)]
unsafe fn combine_body<S: Simd>(s: S, x: &[f32], a: &[f32], b: &[f32], more: f32, y: &mut [f32]) {
    let c = y.len();
    let more = s.splat(more);
    let mut i = 0;
    while i < c {
        let n = S::LANES.min(c - i);
        // SAFETY: elements i .. i + n of slices of c elements.
        unsafe {
            let factor = s.add(more, s.load_n(a.as_ptr().add(i), n));
            let v = if b.is_empty() {
                s.mul(s.load_n(x.as_ptr().add(i), n), factor)
            } else {
                s.mla(s.load_n(x.as_ptr().add(i), n), factor, s.load_n(b.as_ptr().add(i), n))
            };
            s.store_n(y.as_mut_ptr().add(i), v, n);
        }
        i += n;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, run_all, step, values};
    use super::*;

    #[test]
    fn against_f64_over_tails() {
        for c in 1..=35 {
            let shape = [2, 3, 2, c];
            let (x, h) = (values(12 * c, 1), values(12 * c, 2));
            let (a, b) = (values(2 * c, 3), values(2 * c, 4));
            let all = |f: &dyn Fn(f64, f64, f64, f64) -> f64| -> Vec<f64> {
                let v = |i: usize| i / (6 * c) * c + i % c;
                (0..12 * c).map(|i| f(x[i].into(), h[i].into(), a[v(i)].into(), b[v(i)].into())).collect()
            };
            let want = all(&|x, _, a, b| x * (1.0 + b) + a);
            let s = step(Kernel::Modulate, &[&shape, &[2, c], &[2, c]], &[&shape]);
            run_all(&s, &[&x, &a, &b], |y, what| close(&y[0], &want, 1e-6, what));
            let want = all(&|x, h, a, _| x + a * h);
            let s = step(Kernel::GatedAdd, &[&shape, &shape, &[2, c]], &[&shape]);
            run_all(&s, &[&x, &h, &a], |y, what| close(&y[0], &want, 1e-6, what));
            let want = all(&|x, _, a, _| x * a);
            let s = step(Kernel::ScaleChannels, &[&shape, &[2, c]], &[&shape]);
            run_all(&s, &[&x, &a], |y, what| close(&y[0], &want, 1e-6, what));
        }
    }
}
