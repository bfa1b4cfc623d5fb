//! Group norm: `x [N,H,W,C], gamma [C], beta [C] -> (x - mean) / sqrt(var + eps) * gamma + beta`, activated, statistics per
//! sample and group of channels. Sums of x and x^2 are kept in f64, in which their difference loses nothing that
//! f32 could show; they are added up in an order that the shape fixes.

use serde::{Deserialize, Serialize};

use super::gemm::epilogue::activate;
use super::scratch::zeroed_f64;
use super::{Activation, Args, KernelDef, Needs, Signature, Task, Worker};
use crate::check::Fault;
use crate::check::rule::{affine, ensure, epsilon};
use crate::cost::Cost;
use crate::plan::Operand;
use crate::simd::{Isa, Simd, variants};

/// `x [N,H,W,C], gamma [C], beta [C] -> y`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupNorm {
    /// Number of groups; divides C.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f32,
    /// Applied to the normalised values.
    #[serde(default)]
    pub activation: Activation,
}

impl KernelDef for GroupNorm {
    fn signature(&self) -> Signature {
        Signature::of(&["x", "gamma", "beta"], &["y"])
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        epsilon("group_norm.1", self.eps)?;
        let c = affine(["group_norm.2", "group_norm.3", "group_norm.4", "group_norm.5"], x, &y[0])?;
        let divides = self.groups > 0 && c.is_multiple_of(self.groups);
        ensure("group_norm.6", divides, format!("groups that divide {c} channels"), self.groups)
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(0, x, y)
    }

    fn task(&self, x: &[Operand], _: &[Operand], isa: Isa) -> Box<dyn Task> {
        let x = &x[0].shape;
        let norm = Groups { samples: x[0], pixels: x[1] * x[2], channels: x[3], norm: *self, add_rows: add_rows(isa), apply: apply(isa) };
        Box::new(norm)
    }
}

/// Shared scratch: f64 sums `[samples][blocks][groups][2]`, then f32 mean and factor `[samples][2][channels]`.
struct Groups {
    samples: usize,
    pixels: usize,
    channels: usize,
    norm: GroupNorm,
    add_rows: AddRows,
    apply: Apply,
}

/// Most partial sums of a group.
const BLOCKS: usize = 64;

impl Groups {
    fn block(&self) -> usize {
        self.pixels.div_ceil(BLOCKS).max(16)
    }

    fn blocks(&self) -> usize {
        self.pixels.div_ceil(self.block())
    }

    fn sums(&self) -> usize {
        self.samples * self.blocks() * self.norm.groups * 2
    }

    /// # Safety
    /// - The task's contract, in phase 0.
    unsafe fn accumulate(&self, x: &[f32], worker: &mut Worker<'_>) {
        let (c, size) = (self.channels, self.channels / self.norm.groups);
        for unit in worker.units(self.samples * self.blocks()) {
            let (sample, block) = (unit / self.blocks(), unit % self.blocks());
            let (from, to) = (block * self.block(), ((block + 1) * self.block()).min(self.pixels));
            let (sum, square) = zeroed_f64(worker.own, 2 * c).split_at_mut(c);
            let rows = &x[(sample * self.pixels + from) * c..(sample * self.pixels + to) * c];
            // SAFETY: both sums have c elements, and rows are of c.
            unsafe { (self.add_rows)(rows, sum, square) };
            // SAFETY: the unit's sums are this thread's.
            let out = unsafe { worker.shared.write_f64(unit * self.norm.groups * 2..(unit + 1) * self.norm.groups * 2) };
            for (g, out) in out.chunks_exact_mut(2).enumerate() {
                out[0] = sum[g * size..(g + 1) * size].iter().sum();
                out[1] = square[g * size..(g + 1) * size].iter().sum();
            }
        }
    }

    /// # Safety
    /// - The task's contract, in phase 1.
    unsafe fn statistics(&self, gamma: &[f32], worker: &Worker<'_>) {
        let (c, size) = (self.channels, self.channels / self.norm.groups);
        // SAFETY: nobody writes the sums in this phase.
        let sums = unsafe { worker.shared.read_f64(0..self.sums()) };
        for unit in worker.units(self.samples * self.norm.groups) {
            let (sample, g) = (unit / self.norm.groups, unit % self.norm.groups);
            let part =
                |i: usize| (0..self.blocks()).map(|b| sums[((sample * self.blocks() + b) * self.norm.groups + g) * 2 + i]).sum::<f64>();
            let count = (self.pixels * size) as f64;
            let mean = part(0) / count;
            let factor = 1.0 / ((part(1) / count - mean * mean).max(0.0) + f64::from(self.norm.eps)).sqrt();
            let at = self.sums() * 2 + sample * 2 * c + g * size;
            // SAFETY: the group's channels of the sample are this thread's.
            unsafe {
                worker.shared.write(at..at + size).fill(mean as f32);
                let factors = worker.shared.write(at + c..at + c + size);
                factors.iter_mut().zip(&gamma[g * size..]).for_each(|(f, &gamma)| *f = (factor * f64::from(gamma)) as f32);
            }
        }
    }
}

impl Task for Groups {
    fn needs(&self, _threads: usize) -> Needs {
        Needs { phases: 3, own: 4 * self.channels, shared: self.sums() * 2 + self.samples * 2 * self.channels }
    }

    unsafe fn run(&self, phase: usize, args: &Args, worker: &mut Worker<'_>) {
        let c = self.channels;
        // SAFETY: the task's contract.
        let (x, gamma, beta) = unsafe { (args.input(0, self.samples * self.pixels * c), args.input(1, c), args.input(2, c)) };
        match phase {
            // SAFETY: the task's contract.
            0 => unsafe { self.accumulate(x, worker) },
            // SAFETY: the task's contract.
            1 => unsafe { self.statistics(gamma, worker) },
            _ => {
                for r in worker.units(self.samples * self.pixels) {
                    let at = self.sums() * 2 + r / self.pixels * 2 * c;
                    // SAFETY: row r is this thread's; phase 1 has ended; slices of c elements.
                    unsafe {
                        let (mean, factor) = (worker.shared.read(at..at + c), worker.shared.read(at + c..at + 2 * c));
                        let y = args.output_range(0, r * c..(r + 1) * c);
                        (self.apply)(&x[r * c..(r + 1) * c], mean, factor, beta, self.norm.activation, y);
                    }
                }
            }
        }
    }
}

variants! {
    /// Adds x and x^2 of every row to the sums of its columns.
    ///
    /// # Safety
    /// - None beyond the types; rows have `sum.len()` elements.
    unsafe fn add_rows(rows: &[f32], sum: &mut [f64], square: &mut [f64]) as AddRows = add_rows_body
}

#[inline(always)]
unsafe fn add_rows_body<S: Simd>(_: S, rows: &[f32], sum: &mut [f64], square: &mut [f64]) {
    for row in rows.chunks_exact(sum.len()) {
        for ((&x, sum), square) in row.iter().zip(&mut *sum).zip(&mut *square) {
            let x = f64::from(x);
            *sum += x;
            *square += x * x;
        }
    }
}

variants! {
    /// `y = activation((x - mean) * factor + beta)`.
    ///
    /// # Safety
    /// - All slices are equally long.
    unsafe fn apply(x: &[f32], mean: &[f32], factor: &[f32], beta: &[f32], activation: Activation, y: &mut [f32]) as Apply = apply_body
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn apply_body<S: Simd>(s: S, x: &[f32], mean: &[f32], factor: &[f32], beta: &[f32], activation: Activation, y: &mut [f32]) {
    let c = y.len();
    let mut i = 0;
    while i < c {
        let n = S::LANES.min(c - i);
        // SAFETY: elements i .. i + n of slices of c elements.
        unsafe {
            let v = s.mla(
                s.sub(s.load_n(x.as_ptr().add(i), n), s.load_n(mean.as_ptr().add(i), n)),
                s.load_n(factor.as_ptr().add(i), n),
                s.load_n(beta.as_ptr().add(i), n),
            );
            s.store_n(y.as_mut_ptr().add(i), activate(s, activation, v), n);
        }
        i += n;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, run_all, step, values};
    use super::*;

    #[test]
    fn against_f64() {
        let silu = |v: f64| v / (1.0 + (-v).exp());
        type F = fn(f64) -> f64;
        let activations: [(Activation, F); 3] = [(Activation::None, |v| v), (Activation::Relu, |v| v.max(0.0)), (Activation::Silu, silu)];
        for (n, h, w, c, groups) in [(1, 1, 1, 2, 1), (2, 5, 4, 12, 3), (2, 40, 50, 6, 6), (1, 8, 8, 70, 2)] {
            let x: Vec<f32> = values(n * h * w * c, 1).iter().map(|v| v + 5.0).collect();
            let (gamma, beta) = (values(c, 2), values(c, 3));
            let size = c / groups;
            let mut stats = vec![(0.0, 0.0); n * groups];
            let of = |i: usize| i / c / (h * w) * groups + i % c / size;
            let count = (h * w * size) as f64;
            x.iter().enumerate().for_each(|(i, &v)| stats[of(i)].0 += f64::from(v) / count);
            x.iter().enumerate().for_each(|(i, &v)| stats[of(i)].1 += (f64::from(v) - stats[of(i)].0).powi(2) / count);
            let want: Vec<f64> = x
                .iter()
                .enumerate()
                .map(|(i, &v)| {
                    let (mean, var) = stats[of(i)];
                    (f64::from(v) - mean) / (var + f64::from(1e-5f32)).sqrt() * f64::from(gamma[i % c]) + f64::from(beta[i % c])
                })
                .collect();
            for (activation, f) in activations {
                let want: Vec<f64> = want.iter().map(|&v| f(v)).collect();
                let kernel = GroupNorm { groups, eps: 1e-5, activation };
                let s = step(kernel, &[&[n, h, w, c], &[c], &[c]], &[&[n, h, w, c]]);
                run_all(&s, &[&x, &gamma, &beta], |y, what| close(&y[0], &want, 2e-6, what));
            }
        }
    }
}
