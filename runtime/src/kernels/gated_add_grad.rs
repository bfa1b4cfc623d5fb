//! The gradient of `y = x + gate h`, the gate being one number for a sample and channel: `dh = gate dy`, `dgate` the sum of `dy h` over pixels.
//! dx is dy itself.

use serde::{Deserialize, Serialize};

use super::block_sums::BlockSums;
use super::{Args, KernelDef, Needs, Signature, Task, Worker};
use crate::check::Fault;
use crate::check::rule::{ends, like, shape};
use crate::cost::Cost;
use crate::plan::Operand;
use crate::simd::{Isa, Simd, variants};

/// `h [N,..,C], gate [N,C], dy as h -> dh, dgate [N,C]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatedAddGrad {}

impl KernelDef for GatedAddGrad {
    fn signature(&self) -> Signature {
        Signature::of(&["h", "gate", "dy"], &["dh", "dgate"]).taking(&[0, 2])
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        let (n, c) = ends("gated_add_grad.1", "h", &x[0])?;
        shape("gated_add_grad.2", "gate", &x[1], &[n, c])?;
        like("gated_add_grad.3", "dy", &x[2], &x[0])?;
        like("gated_add_grad.4", "dh", &y[0], &x[0])?;
        shape("gated_add_grad.5", "dgate", &y[1], &[n, c])
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(0, x, y)
    }

    fn task(&self, x: &[Operand], _: &[Operand], isa: Isa) -> Box<dyn Task> {
        let (samples, width) = (x[1].shape[0], x[1].shape[1]);
        Box::new(Rows { sums: BlockSums { samples, pixels: x[0].count() / samples / width, width }, run: rows(isa) })
    }
}

struct Rows {
    sums: BlockSums,
    run: RowsRun,
}

impl Task for Rows {
    fn needs(&self, _threads: usize) -> Needs {
        Needs { phases: 2, own: 0, shared: self.sums.shared() }
    }

    unsafe fn run(&self, phase: usize, args: &Args, worker: &mut Worker<'_>) {
        let (q, c) = (&self.sums, self.sums.width);
        if phase == 0 {
            for unit in worker.units(q.units()) {
                let (sample, of) = q.rows(unit);
                let at = of.start * c;
                // Addresses, since dh may lie where h or dy does.
                let (h, dy) = (args.address(0).cast::<f32>().wrapping_add(at), args.address(2).cast::<f32>().wrapping_add(at));
                // SAFETY: the task's contract; the block is this thread's.
                unsafe {
                    let gate = &args.input(1, q.samples * c)[sample * c..(sample + 1) * c];
                    (self.run)(h, gate, dy, of.len(), q.partial(worker, unit), args.output(0).wrapping_add(at));
                }
            }
            return;
        }
        for sample in worker.units(q.samples) {
            // SAFETY: the row is this thread's; phase 0 has ended.
            unsafe { q.total(worker, sample, 0, args.output_range(1, sample * c..(sample + 1) * c)) };
        }
    }
}

variants! {
    /// Some rows of as many elements as the gate has, and the sums of `dy h` over them.
    ///
    /// # Safety
    /// - `h`, `dy` and `dh` are valid for so many rows; dh is equal to one of the others or overlaps neither. There are as many sums.
    unsafe fn rows(h: *const f32, gate: &[f32], dy: *const f32, rows: usize, sums: &mut [f32], dh: *mut f32) as RowsRun = rows_body
}

#[inline(always)]
unsafe fn rows_body<S: Simd>(s: S, h: *const f32, gate: &[f32], dy: *const f32, rows: usize, sums: &mut [f32], dh: *mut f32) {
    let c = gate.len();
    let mut i = 0;
    while i < c {
        let n = S::LANES.min(c - i);
        // SAFETY: elements i .. i + n of rows of c; the caller's contract.
        unsafe {
            let (factor, mut sum) = (s.load_n(gate.as_ptr().add(i), n), s.splat(0.0));
            let mut r = 0;
            while r < rows {
                let at = r * c + i;
                let d = s.load_n(dy.add(at), n);
                sum = s.mla(d, s.load_n(h.add(at), n), sum);
                s.store_n(dh.add(at), s.mul(d, factor), n);
                r += 1;
            }
            s.store_n(sums.as_mut_ptr().add(i), sum, n);
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
        for (n, pixels, c) in (1..=35).map(|c| (2, 5, c)).chain([(1, 100, 64), (3, 1, 9)]) {
            let (h, gate, dy) = (values(n * pixels * c, 1), values(n * c, 2), values(n * pixels * c, 3));
            let of = |i: usize| i / (pixels * c) * c + i % c;
            let dh: Vec<f64> = dy.iter().enumerate().map(|(i, &d)| f64::from(d) * f64::from(gate[of(i)])).collect();
            let mut dgate = vec![0.0; n * c];
            dy.iter().zip(&h).enumerate().for_each(|(i, (&d, &h))| dgate[of(i)] += f64::from(d) * f64::from(h));
            let shape = [n, pixels, c];
            let s = step(GatedAddGrad {}, &[&shape, &[n, c], &shape], &[&shape, &[n, c]]);
            run_all(&s, &[&h, &gate, &dy], |y, what| {
                close(&y[0], &dh, 1e-6, what);
                close(&y[1], &dgate, 2e-6, what);
            });
            run_in_place(&s, &[&h, &gate, &dy]);
        }
    }
}
