//! Global response normalisation (ConvNeXt V2, eq. 1-3), given its sums of squares or from scratch.
//! `G_c = sqrt(ss_c)`, `a_c = 1 + gamma_c G_c / (mean_c G + eps)`, `grn(x) = x a + beta`.
//! The mean over channels is taken in f64.

use serde::{Deserialize, Serialize};

use super::channelwise::{Combine, combine};
use super::reduce::Squares;
use super::{Args, KernelDef, Needs, Signature, Task, Worker};
use crate::check::Fault;
use crate::check::rule::{affine, epsilon, like, rank, shape};
use crate::cost::Cost;
use crate::plan::Operand;
use crate::simd::Isa;

/// `ss [N,C], gamma [C] -> a [N,C]`: `1 + gamma * G / (mean_c G + eps)`, `G = sqrt(ss)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GrnScale {
    /// Added to the mean of G.
    pub eps: f32,
}

/// `x [N,H,W,C], gamma [C], beta [C] -> y`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grn {
    /// Added to the mean of G.
    pub eps: f32,
}

impl KernelDef for GrnScale {
    fn signature(&self) -> Signature {
        Signature::of(&["ss", "gamma"], &["a"])
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        epsilon("grn_scale.1", self.eps)?;
        let [_, c] = rank("grn_scale.2", "ss", &x[0])?;
        shape("grn_scale.3", "gamma", &x[1], &[c])?;
        like("grn_scale.4", "a", &y[0], &x[0])
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(0, x, y)
    }

    fn task(&self, x: &[Operand], _: &[Operand], _: Isa) -> Box<dyn Task> {
        Box::new(Scale { samples: x[0].shape[0], channels: x[0].shape[1], eps: self.eps })
    }
}

impl KernelDef for Grn {
    fn signature(&self) -> Signature {
        Signature::of(&["x", "gamma", "beta"], &["y"])
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        epsilon("grn.1", self.eps)?;
        affine(["grn.2", "grn.3", "grn.4", "grn.5"], x, &y[0]).map(drop)
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(0, x, y)
    }

    fn task(&self, x: &[Operand], _: &[Operand], isa: Isa) -> Box<dyn Task> {
        Box::new(Whole { squares: Squares::new(&x[0].shape, isa), eps: self.eps, run: combine(isa) })
    }
}

struct Scale {
    samples: usize,
    channels: usize,
    eps: f32,
}

/// Shared scratch: the partial sums of squares, then a.
struct Whole {
    squares: Squares,
    eps: f32,
    run: Combine,
}

/// Turns sums of squares into factors, in place of `a`.
fn factors(gamma: &[f32], eps: f32, a: &mut [f32]) {
    let mut sum = 0.0;
    for a in &mut *a {
        *a = a.sqrt();
        sum += f64::from(*a);
    }
    let rate = 1.0 / (sum / a.len() as f64 + f64::from(eps));
    for (a, &gamma) in a.iter_mut().zip(gamma) {
        *a = (1.0 + f64::from(gamma) * f64::from(*a) * rate) as f32;
    }
}

impl Task for Scale {
    fn needs(&self, _threads: usize) -> Needs {
        Needs::PLAIN
    }

    unsafe fn run(&self, _phase: usize, args: &Args, worker: &mut Worker<'_>) {
        let c = self.channels;
        // SAFETY: the task's contract.
        let (ss, gamma) = unsafe { (args.input(0, self.samples * c), args.input(1, c)) };
        for n in worker.units(self.samples) {
            // SAFETY: row n is this thread's.
            let a = unsafe { args.output_range(0, n * c..(n + 1) * c) };
            a.copy_from_slice(&ss[n * c..(n + 1) * c]);
            factors(gamma, self.eps, a);
        }
    }
}

impl Task for Whole {
    fn needs(&self, _threads: usize) -> Needs {
        Needs { phases: 3, own: 0, shared: self.squares.partials() + self.squares.samples * self.squares.channels }
    }

    unsafe fn run(&self, phase: usize, args: &Args, worker: &mut Worker<'_>) {
        let q = &self.squares;
        let (c, factors_at) = (q.channels, q.partials());
        // SAFETY: the task's contract.
        let (x, gamma, beta) = unsafe { (args.input(0, q.samples * q.pixels * c), args.input(1, c), args.input(2, c)) };
        match phase {
            // SAFETY: the shared scratch begins with room for the partial sums.
            0 => unsafe { q.accumulate(x, worker) },
            1 => {
                for n in worker.units(q.samples) {
                    // SAFETY: sample n's factors are this thread's; phase 0 has ended.
                    unsafe {
                        let a = worker.shared.write(factors_at + n * c..factors_at + (n + 1) * c);
                        q.total(worker, n, 0, a);
                        factors(gamma, self.eps, a);
                    }
                }
            }
            _ => {
                for r in worker.units(q.samples * q.pixels) {
                    let at = factors_at + r / q.pixels * c;
                    // SAFETY: row r is this thread's; phase 1 has ended; slices of c elements.
                    unsafe {
                        let (x, y) = (&x[r * c..(r + 1) * c], args.output_range(0, r * c..(r + 1) * c));
                        (self.run)(x.as_ptr(), worker.shared.read(at..at + c).as_ptr(), beta.as_ptr(), 0.0, y.as_mut_ptr(), c);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, run_all, step, values};
    use super::*;

    fn exact(ss: &[f64], gamma: &[f32]) -> Vec<f64> {
        let c = gamma.len();
        ss.chunks(c)
            .flat_map(|ss| {
                let mean = ss.iter().map(|v| v.sqrt()).sum::<f64>() / c as f64;
                let a = |(v, &g): (&f64, &f32)| 1.0 + f64::from(g) * v.sqrt() / (mean + f64::from(1e-6f32));
                ss.iter().zip(gamma).map(a).collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn factors_and_the_whole() {
        for (n, h, w, c) in [(1, 1, 1, 1), (3, 5, 4, 33), (2, 17, 16, 20)] {
            let (x, gamma, beta) = (values(n * h * w * c, 1), values(c, 2), values(c, 3));
            let mut ss = vec![0.0; n * c];
            x.iter().enumerate().for_each(|(i, &v)| ss[i / c / (h * w) * c + i % c] += f64::from(v) * f64::from(v));
            let a = exact(&ss, &gamma);
            let want: Vec<f64> =
                x.iter().enumerate().map(|(i, &v)| f64::from(v) * a[i / c / (h * w) * c + i % c] + f64::from(beta[i % c])).collect();
            let s = step(Grn { eps: 1e-6 }, &[&[n, h, w, c], &[c], &[c]], &[&[n, h, w, c]]);
            run_all(&s, &[&x, &gamma, &beta], |y, what| close(&y[0], &want, 1e-6, what));
            let rounded: Vec<f32> = ss.iter().map(|&v| v as f32).collect();
            let s = step(GrnScale { eps: 1e-6 }, &[&[n, c], &[c]], &[&[n, c]]);
            run_all(&s, &[&rounded, &gamma], |y, what| close(&y[0], &a, 1e-6, what));
        }
    }

    #[test]
    fn an_empty_map_is_left_alone() {
        let s = step(GrnScale { eps: 1e-6 }, &[&[1, 2], &[2]], &[&[1, 2]]);
        run_all(&s, &[&[0.0, 0.0], &[3.0, 4.0]], |y, _| assert_eq!(y[0], [1.0, 1.0]));
    }
}
