//! `a [B,M,K], b [B,K,N] -> y [B,M,N]`. First b is packed into panels, in memory that all threads share; then it
//! is one GEMM a sample.

use serde::{Deserialize, Serialize};

use super::gemm::{Gemm, Taps};
use super::{Args, KernelDef, Needs, Signature, Task, Worker};
use crate::check::Fault;
use crate::check::rule::{rank, shape};
use crate::cost::Cost;
use crate::plan::{Operand, PANEL};
use crate::simd::Isa;

/// `a [B,M,K], b [B,K,N] -> y [B,M,N]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matmul {}

impl KernelDef for Matmul {
    fn signature(&self) -> Signature {
        Signature::of(&["a", "b"], &["y"])
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        let [b, m, k] = rank("matmul.1", "a", &x[0])?;
        let [_, _, n] = rank("matmul.2", "b", &x[1])?;
        shape("matmul.3", "b", &x[1], &[b, k, n])?;
        shape("matmul.4", "y", &y[0], &[b, m, n])
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(y[0].count().saturating_mul(x[0].shape[2]), x, y)
    }

    fn task(&self, x: &[Operand], _: &[Operand], isa: Isa) -> Box<dyn Task> {
        let (a, b) = (&x[0].shape, &x[1].shape);
        let gemm = Gemm::new(Taps::One, a[0], a[1], a[2], b[2], isa);
        Box::new(Packed { gemm: gemm.with_weights_apart(gemm.panels() * gemm.k() * PANEL) })
    }
}

struct Packed {
    gemm: Gemm,
}

impl Task for Packed {
    fn needs(&self, threads: usize) -> Needs {
        Needs { phases: 2, own: self.gemm.own(threads), shared: self.gemm.samples * self.gemm.weights_step }
    }

    unsafe fn run(&self, phase: usize, args: &Args, worker: &mut Worker<'_>) {
        let g = &self.gemm;
        let k_all = g.k();
        if phase == 0 {
            // SAFETY: the task's contract.
            let b = unsafe { args.input(1, g.samples * k_all * g.o) };
            for unit in worker.units(g.samples * g.panels() * k_all) {
                let (k, panel, sample) = (unit % k_all, unit / k_all % g.panels(), unit / k_all / g.panels());
                let first = panel * PANEL;
                let n = PANEL.min(g.o - first);
                // SAFETY: row `unit` of the panels is this thread's.
                let row = unsafe { worker.shared.write(unit * PANEL..(unit + 1) * PANEL) };
                row[..n].copy_from_slice(&b[(sample * k_all + k) * g.o + first..][..n]);
                row[n..].fill(0.0);
            }
            return;
        }
        let weights = worker.shared.address(0..g.samples * g.weights_step);
        let operands = g.operands(args.address(0).cast(), weights, std::ptr::null(), args.output(0));
        // SAFETY: the task's contract; phase 0 has packed the weights.
        unsafe { g.multiply(&operands, None, std::ptr::null_mut(), worker) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, run_all, step, values};
    use super::Matmul;

    #[test]
    fn against_f64() {
        for (b, m, k, n) in [(1, 1, 1, 1), (2, 5, 7, 3), (3, 13, 40, 33), (1, 70, 300, 64)] {
            let (x, w) = (values(b * m * k, 1), values(b * k * n, 2));
            let mut want = Vec::new();
            for i in 0..b * m * n {
                let (s, r, c) = (i / n / m, i / n % m, i % n);
                want.push((0..k).map(|j| f64::from(x[(s * m + r) * k + j]) * f64::from(w[(s * k + j) * n + c])).sum());
            }
            let s = step(Matmul {}, &[&[b, m, k], &[b, k, n]], &[&[b, m, n]]);
            run_all(&s, &[&x, &w], |y, what| close(&y[0], &want, 2e-6, what));
        }
    }
}
