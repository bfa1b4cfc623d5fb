//! AdamW and running averages of the weights, in one pass over memory: `g' = c g`, `m' = m + (1 - beta1) (g' - m)`,
//! `v' = beta2 v + (1 - beta2) g'^2`, `p' = d p - s m' / (r sqrt(v') + eps)`, `e' = a e + a' p'`. Results may lie where their old values do.

use serde::{Deserialize, Serialize};

use super::{Args, Input, KernelDef, Needs, Output, Signature, Task, Worker};
use crate::check::Fault;
use crate::check::rule::{ensure, epsilon, same_count};
use crate::cost::Cost;
use crate::plan::{Form, Operand};
use crate::simd::{Isa, Simd, variants};

/// Most averages of one step.
pub const MAX_AVERAGES: usize = 3;

/// `p, g, m, v, rates [4 + 2E], e.. -> p', m', v', e'..`, all but the rates of equal counts. The rates: c, d, s, r, then a and a' for each e.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adamw {
    /// `1 - beta1`.
    pub new_mean: f32,
    /// `beta2`.
    pub old_square: f32,
    /// `1 - beta2`, which is not that in f32.
    pub new_square: f32,
    /// Added to the root.
    pub eps: f32,
    /// E, how many averages there are.
    pub averages: usize,
}

const OLD: [&str; MAX_AVERAGES] = ["e1", "e2", "e3"];
const NEW: [&str; MAX_AVERAGES] = ["e1'", "e2'", "e3'"];
/// Inputs whose places results take: p, m, v, each average.
const TAKES: [&[usize]; 3 + MAX_AVERAGES] = [&[0], &[2], &[3], &[5], &[6], &[7]];

impl Adamw {
    /// As many as are there; the check refuses more.
    fn listed(&self) -> usize {
        self.averages.min(MAX_AVERAGES)
    }
}

impl KernelDef for Adamw {
    fn signature(&self) -> Signature {
        let inputs = ["p", "g", "m", "v", "rates"].iter().chain(&OLD[..self.listed()]).map(|name| Input::f32(name)).collect();
        let names = ["p'", "m'", "v'"].iter().chain(&NEW[..self.listed()]);
        let outputs = names.zip(TAKES).map(|(name, takes)| Output { name, form: Form::F32, takes, part: None }).collect();
        Signature { inputs, outputs }
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        ensure("adamw.1", self.averages <= MAX_AVERAGES, format!("at most {MAX_AVERAGES} averages"), self.averages)?;
        let alike = x.iter().enumerate().filter(|(i, _)| *i != 4).map(|(_, operand)| operand).chain(y);
        alike.into_iter().try_for_each(|operand| same_count("adamw.2", operand, &x[0]))?;
        ensure("adamw.3", x[4].count() == 4 + 2 * self.averages, format!("{} rates", 4 + 2 * self.averages), x[4].count())?;
        epsilon("adamw.4", self.eps)
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(0, x, y)
    }

    fn task(&self, x: &[Operand], _: &[Operand], isa: Isa) -> Box<dyn Task> {
        Box::new(Update { kernel: *self, count: x[0].count(), run: update(isa) })
    }
}

struct Update {
    kernel: Adamw,
    count: usize,
    run: UpdateRun,
}

/// Elements of a unit of work: cache lines.
const UNIT: usize = 64;

/// The addresses of a range.
#[derive(Clone, Copy)]
struct Range {
    p: [*const f32; 2],
    g: *const f32,
    m: [*const f32; 2],
    v: [*const f32; 2],
    averages: [[*const f32; 2]; MAX_AVERAGES],
    count: usize,
}

impl Task for Update {
    fn needs(&self, _threads: usize) -> Needs {
        Needs::PLAIN
    }

    unsafe fn run(&self, _phase: usize, args: &Args, worker: &mut Worker<'_>) {
        // SAFETY: the task's contract.
        let rates = unsafe { args.input(4, 4 + 2 * self.kernel.averages) };
        while let Some(units) = worker.claim(self.count.div_ceil(UNIT), usize::MAX) {
            let first = units.start * UNIT;
            let of = |input: usize, output: usize| {
                [args.address(input).cast::<f32>().wrapping_add(first), args.output(output).wrapping_add(first).cast_const()]
            };
            let mut averages = [[std::ptr::null(); 2]; MAX_AVERAGES];
            averages.iter_mut().enumerate().take(self.kernel.averages).for_each(|(i, a)| *a = of(5 + i, 3 + i));
            let range = Range {
                p: of(0, 0),
                g: args.address(1).cast::<f32>().wrapping_add(first),
                m: of(2, 1),
                v: of(3, 2),
                averages,
                count: (units.end * UNIT).min(self.count) - first,
            };
            // SAFETY: the task's contract; threads have disjoint ranges of operands of equal counts.
            unsafe { (self.run)(&self.kernel, rates, &range) };
        }
    }
}

variants! {
    /// One range.
    ///
    /// # Safety
    /// - There are the kernel's averages, and their rates behind the first four.
    /// - Of each pair of addresses the first is valid for reads and the second for writes of `count` elements; the two are equal or do not
    ///   overlap, and nothing else does.
    unsafe fn update(kernel: &Adamw, rates: &[f32], range: &Range) as UpdateRun = update_body
}

#[inline(always)]
unsafe fn update_body<S: Simd>(s: S, kernel: &Adamw, rates: &[f32], range: &Range) {
    let (clip, decay, step, root) = (s.splat(rates[0]), s.splat(rates[1]), s.splat(rates[2]), s.splat(rates[3]));
    let (new_mean, eps) = (s.splat(kernel.new_mean), s.splat(kernel.eps));
    let (old_square, new_square) = (s.splat(kernel.old_square), s.splat(kernel.new_square));
    let mut i = 0;
    while i < range.count {
        let n = S::LANES.min(range.count - i);
        // SAFETY: i + n <= count; the caller's contract.
        unsafe {
            let g = s.mul(s.load_n(range.g.add(i), n), clip);
            let m = s.load_n(range.m[0].add(i), n);
            let m = s.mla(new_mean, s.sub(g, m), m);
            let v = s.load_n(range.v[0].add(i), n);
            let v = s.mla(old_square, v, s.mul(new_square, s.mul(g, g)));
            // In this order, so that no product is rounded with a sum but where it says so.
            let change = s.div(s.mul(step, m), s.add(s.mul(s.sqrt(v), root), eps));
            let p = s.sub(s.mul(s.load_n(range.p[0].add(i), n), decay), change);
            s.store_n(range.m[1].add(i).cast_mut(), m, n);
            s.store_n(range.v[1].add(i).cast_mut(), v, n);
            s.store_n(range.p[1].add(i).cast_mut(), p, n);
            let mut k = 0;
            while k < kernel.averages {
                let [from, to] = range.averages[k];
                let old = s.mul(s.splat(rates[4 + 2 * k]), s.load_n(from.add(i), n));
                s.store_n(to.add(i).cast_mut(), s.mla(s.splat(rates[5 + 2 * k]), p, old), n);
                k += 1;
            }
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
        for (count, averages) in (1..=35).map(|n| (n, n % 4)).chain([(1000, 1)]) {
            let kernel = Adamw { new_mean: 0.1, old_square: 0.99, new_square: 0.01, eps: 1e-3, averages };
            let rates: Vec<f32> = [0.5, 0.9, 0.125, 1.5, 0.75, 0.25, 0.5, 0.375, 0.9, 0.1][..4 + 2 * averages].to_vec();
            let mut x: Vec<Vec<f32>> = (0..4 + averages).map(|i| values(count, i as u64 + 1)).collect();
            x[3].iter_mut().for_each(|v| *v = v.abs());
            x.insert(4, rates);
            let at = |i: usize, k: usize| f64::from(x[i][k]);
            let (mut m, mut v, mut p) = (Vec::new(), Vec::new(), Vec::new());
            for k in 0..count {
                let g = 0.5 * at(1, k);
                m.push(at(2, k) + f64::from(0.1f32) * (g - at(2, k)));
                v.push(f64::from(0.99f32) * at(3, k) + f64::from(0.01f32) * g * g);
                p.push(f64::from(0.9f32) * at(0, k) - 0.125 * m[k] / (1.5 * v[k].sqrt() + 1e-3));
            }
            let average = |i: usize| (0..count).map(|k| at(4, 4 + 2 * i) * at(5 + i, k) + at(4, 5 + 2 * i) * p[k]).collect::<Vec<_>>();
            let want: Vec<Vec<f64>> = [p.clone(), m, v].into_iter().chain((0..averages).map(average)).collect();
            let like = [count];
            let inputs: Vec<&[usize]> =
                x.iter().map(|v| if v.len() == count { &like[..] } else { std::slice::from_ref(&RATES[averages]) }).collect();
            let s = step(kernel, &inputs, &vec![&like[..]; 3 + averages]);
            let x: Vec<&[f32]> = x.iter().map(Vec::as_slice).collect();
            run_all(&s, &x, |y, what| y.iter().zip(&want).for_each(|(y, want)| close(y, want, 1e-6, what)));
        }
    }

    const RATES: [usize; 4] = [4, 6, 8, 10];
}
