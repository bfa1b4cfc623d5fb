//! Rows rounded to codes of their own range, as f32: what products of codes see, for whoever else reads it.

use serde::{Deserialize, Serialize};

use super::gemm::codes::{CodeScale, Values, code_scale};
use super::{Args, KernelDef, Left, Needs, Signature, Task, Worker};
use crate::check::Fault;
use crate::check::rule::{ensure, like, rows};
use crate::cost::Cost;
use crate::plan::Operand;
use crate::simd::{Isa, Simd, variants};

/// `x [..,C] -> y`, every row along the last axis as [`Left::U8`] or [`Left::U7`] has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuantiseRows {
    /// Which of the two.
    pub rows: Left,
}

impl KernelDef for QuantiseRows {
    fn signature(&self) -> Signature {
        Signature::of(&["x"], &["y"]).taking(&[0])
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        rows("quantise_rows.1", "x", &x[0])?;
        ensure("quantise_rows.3", self.rows.is_codes(), "rows of codes", self.rows)?;
        like("quantise_rows.2", "y", &y[0], &x[0])
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(0, x, y)
    }

    fn task(&self, x: &[Operand], _: &[Operand], isa: Isa) -> Box<dyn Task> {
        let channels = *x[0].shape.last().expect("checked: x has an axis");
        let most = self.rows.most_code().expect("checked: rows of codes");
        Box::new(Rows { rows: x[0].count() / channels, channels, most, run: round_row(isa) })
    }
}

struct Rows {
    rows: usize,
    channels: usize,
    most: u8,
    run: RoundRow,
}

variants! {
    /// The row rounded to codes of `most` at most.
    ///
    /// # Safety
    /// - `x` and `y` are valid for `count` elements, and are the same or apart.
    unsafe fn round_row(x: *const f32, y: *mut f32, count: usize, most: u8) as RoundRow = round_row_body
}

#[inline(always)]
unsafe fn round_row_body<S: Simd>(s: S, x: *const f32, y: *mut f32, count: usize, most: u8) {
    let values = Values { x, factors: std::ptr::null(), count };
    // SAFETY: the caller's contract.
    let scale = unsafe { code_scale(s, values, most) };
    let CodeScale { step, origin, .. } = scale;
    for i in (0..count).step_by(S::LANES) {
        let n = S::LANES.min(count - i);
        // SAFETY: elements i .. i + n.
        unsafe {
            let code = scale.code(s, values.at(s, i));
            s.store_n(y.add(i), s.mul(s.sub(code, s.splat(origin)), s.splat(step)), n);
        }
    }
}

impl Task for Rows {
    fn needs(&self, _threads: usize) -> Needs {
        Needs::PLAIN
    }

    unsafe fn run(&self, _phase: usize, args: &Args, worker: &mut Worker<'_>) {
        for row in worker.units(self.rows) {
            let at = row * self.channels;
            // SAFETY: the task's contract; the row is this thread's.
            unsafe { (self.run)(args.address(0).cast::<f32>().add(at), args.output(0).add(at), self.channels, self.most) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, run_all, step, values};
    use super::*;

    #[test]
    fn rows_of_every_length() {
        for (left, most) in [(Left::U8, 255.0), (Left::U7, 127.0)] {
            for c in 1..=35 {
                let x = values(3 * c, 1);
                let mut want = Vec::new();
                for row in x.chunks_exact(c) {
                    let least = row.iter().fold(0.0f32, |a, &v| a.min(v));
                    let rate = most / (row.iter().fold(0.0f32, |a, &v| a.max(v)) - least);
                    let zero = (-least * rate).round_ties_even();
                    let code = |v: f32| ((v * rate).round_ties_even() + zero).clamp(0.0, most);
                    want.extend(row.iter().map(|&v| f64::from(code(v) - zero) / f64::from(rate)));
                }
                let s = step(QuantiseRows { rows: left }, &[&[3, c]], &[&[3, c]]);
                run_all(&s, &[&x], |y, what| close(&y[0], &want, 1e-6, what));
            }
        }
    }
}
