//! One vector over channels for each sample, applied to all its pixels. `modulate: x * (1 + scale) + shift`;
//! `gated_add: x + gate * h`; `scale_channels: x * a`.

use serde::{Deserialize, Serialize};

use super::{Args, KernelDef, Needs, Signature, Task, Worker};
use crate::check::Fault;
use crate::check::rule::{channelwise, like};
use crate::cost::Cost;
use crate::plan::Operand;
use crate::simd::{Isa, Simd, variants};

/// `x [N,..,C], shift [N,C], scale [N,C] -> x * (1 + scale) + shift`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modulate {}

/// `x [N,..,C], h as x, gate [N,C] -> x + gate * h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatedAdd {}

/// `x [N,..,C], a [N,C] -> x * a`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScaleChannels {}

impl KernelDef for Modulate {
    fn signature(&self) -> Signature {
        Signature::of(&["x", "shift", "scale"], &["y"]).taking(&[0])
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        channelwise(["modulate.1", "modulate.2", "modulate.3"], &x[0], &[&x[1], &x[2]], &y[0])
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(0, x, y)
    }

    fn task(&self, _: &[Operand], y: &[Operand], isa: Isa) -> Box<dyn Task> {
        Channelwise::task(Op::Modulate, y, isa)
    }
}

impl KernelDef for GatedAdd {
    fn signature(&self) -> Signature {
        Signature::of(&["x", "h", "gate"], &["y"]).taking(&[0, 1])
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        like("gated_add.1", "h", &x[1], &x[0])?;
        channelwise(["gated_add.2", "gated_add.3", "gated_add.4"], &x[0], &[&x[2]], &y[0])
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(0, x, y)
    }

    fn task(&self, _: &[Operand], y: &[Operand], isa: Isa) -> Box<dyn Task> {
        Channelwise::task(Op::GatedAdd, y, isa)
    }
}

impl KernelDef for ScaleChannels {
    fn signature(&self) -> Signature {
        Signature::of(&["x", "a"], &["y"]).taking(&[0])
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        channelwise(["scale_channels.1", "scale_channels.2", "scale_channels.3"], &x[0], &[&x[1]], &y[0])
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(0, x, y)
    }

    fn task(&self, _: &[Operand], y: &[Operand], isa: Isa) -> Box<dyn Task> {
        Channelwise::task(Op::ScaleChannels, y, isa)
    }
}

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
    run: Combine,
}

impl Channelwise {
    fn task(op: Op, y: &[Operand], isa: Isa) -> Box<dyn Task> {
        let channels = *y[0].shape.last().expect("checked: y has a rank");
        Box::new(Channelwise { op, samples: y[0].shape[0], rows: y[0].count() / channels, channels, run: combine(isa) })
    }
}

impl Task for Channelwise {
    fn needs(&self, _threads: usize) -> Needs {
        Needs::PLAIN
    }

    unsafe fn run(&self, _phase: usize, args: &Args, worker: &mut Worker<'_>) {
        let c = self.channels;
        // Addresses, since y may lie where an input does.
        let input = |i: usize, at: usize| args.address(i).cast::<f32>().wrapping_add(at);
        for r in worker.units(self.rows) {
            let (row, sample) = (r * c, r / (self.rows / self.samples) * c);
            let (y, none) = (args.output(0).wrapping_add(row), std::ptr::null());
            // SAFETY: the task's contract; row r is this thread's.
            unsafe {
                match self.op {
                    Op::Modulate => (self.run)(input(0, row), input(2, sample), input(1, sample), 1.0, y, c),
                    Op::GatedAdd => (self.run)(input(1, row), input(2, sample), input(0, row), 0.0, y, c),
                    Op::ScaleChannels => (self.run)(input(0, row), input(1, sample), none, 0.0, y, c),
                }
            }
        }
    }
}

variants! {
    /// `y = x * (more + a) + b`, b counting as zero if it is null.
    ///
    /// # Safety
    /// - `x`, `a`, `y` and, unless null, `b` are valid for `c` elements; y is equal to any of the others or does not overlap it.
    pub(super) unsafe fn combine(x: *const f32, a: *const f32, b: *const f32, more: f32, y: *mut f32, c: usize) as Combine = combine_body
}

#[inline(always)]
unsafe fn combine_body<S: Simd>(s: S, x: *const f32, a: *const f32, b: *const f32, more: f32, y: *mut f32, c: usize) {
    let more = s.splat(more);
    let mut i = 0;
    while i < c {
        let n = S::LANES.min(c - i);
        // SAFETY: elements i .. i + n of c; the caller's contract.
        unsafe {
            let factor = s.add(more, s.load_n(a.add(i), n));
            let v = if b.is_null() {
                s.mul(s.load_n(x.add(i), n), factor)
            } else {
                s.mla(s.load_n(x.add(i), n), factor, s.load_n(b.add(i), n))
            };
            s.store_n(y.add(i), v, n);
        }
        i += n;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, run_all, run_in_place, step, values};
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
            let s = step(Modulate {}, &[&shape, &[2, c], &[2, c]], &[&shape]);
            run_all(&s, &[&x, &a, &b], |y, what| close(&y[0], &want, 1e-6, what));
            run_in_place(&s, &[&x, &a, &b]);
            let want = all(&|x, h, a, _| x + a * h);
            let s = step(GatedAdd {}, &[&shape, &shape, &[2, c]], &[&shape]);
            run_all(&s, &[&x, &h, &a], |y, what| close(&y[0], &want, 1e-6, what));
            run_in_place(&s, &[&x, &h, &a]);
            let want = all(&|x, _, a, _| x * a);
            let s = step(ScaleChannels {}, &[&shape, &[2, c]], &[&shape]);
            run_all(&s, &[&x, &a], |y, what| close(&y[0], &want, 1e-6, what));
            run_in_place(&s, &[&x, &a]);
        }
    }
}
