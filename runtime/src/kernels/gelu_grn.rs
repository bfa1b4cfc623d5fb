//! GELU and global response normalisation (ConvNeXt V2, eq. 1-3) in one, as blocks are trained with, and the gradient of that: what is kept of
//! the forward pass is x alone, and GELU is computed anew.
//!
//! `g = gelu(x)`, `G_c = sqrt(sum g^2)` by sample, `a_c = 1 + gamma_c G_c / (mean G + eps)`, `y = a g + beta`. With the cotangent dy:
//! `dx = (a dy + k g) gelu'(x)`, k being what comes through the statistic.

use serde::{Deserialize, Serialize};

use super::block_sums::BlockSums;
use super::{Args, KernelDef, Needs, Signature, Task, Worker};
use crate::check::Fault;
use crate::check::rule::{affine, epsilon, like, rank, shape};
use crate::cost::Cost;
use crate::plan::Operand;
use crate::simd::{Isa, Simd, math, variants};

/// `x [N,H,W,C], gamma [C], beta [C] -> grn(gelu(x))`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GeluGrn {
    /// Added to the mean of G.
    pub eps: f32,
}

/// `x [N,H,W,C], gamma [C], dy as x -> dx, dgamma [C], dbeta [C]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GeluGrnGrad {
    /// Added to the mean of G.
    pub eps: f32,
}

impl KernelDef for GeluGrn {
    fn signature(&self) -> Signature {
        Signature::of(&["x", "gamma", "beta"], &["y"]).taking(&[0])
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        epsilon("gelu_grn.1", self.eps)?;
        affine(["gelu_grn.2", "gelu_grn.3", "gelu_grn.4", "gelu_grn.5"], x, &y[0]).map(drop)
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(0, x, y)
    }

    fn task(&self, x: &[Operand], _: &[Operand], isa: Isa) -> Box<dyn Task> {
        Box::new(Forward { sums: block_sums(&x[0], 1), eps: self.eps, squares: sums(isa), apply: apply(isa) })
    }
}

impl KernelDef for GeluGrnGrad {
    fn signature(&self) -> Signature {
        Signature::of(&["x", "gamma", "dy"], &["dx", "dgamma", "dbeta"]).taking(&[2, 0])
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        epsilon("gelu_grn_grad.1", self.eps)?;
        let [_, _, _, c] = rank("gelu_grn_grad.2", "x", &x[0])?;
        shape("gelu_grn_grad.3", "gamma", &x[1], &[c])?;
        like("gelu_grn_grad.4", "dy", &x[2], &x[0])?;
        like("gelu_grn_grad.5", "dx", &y[0], &x[0])?;
        y[1..].iter().try_for_each(|v| shape("gelu_grn_grad.6", "a vector's gradient", v, &[c]))
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(0, x, y)
    }

    fn task(&self, x: &[Operand], _: &[Operand], isa: Isa) -> Box<dyn Task> {
        Box::new(Backward { sums: block_sums(&x[0], 3), eps: self.eps, add: sums(isa), apply: apply_grad(isa) })
    }
}

/// Of so many columns for each channel.
fn block_sums(x: &Operand, each: usize) -> BlockSums {
    let &[samples, h, w, c] = &x.shape[..] else { unreachable!("checked: x is an image") };
    BlockSums { samples, pixels: h * w, width: each * c }
}

/// Shared scratch: the blocks' sums, then a.
struct Forward {
    sums: BlockSums,
    eps: f32,
    squares: Sums,
    apply: Apply,
}

/// Shared scratch: the blocks' sums of g^2, dy g and dy, then for every sample a, k, and its parts of dgamma and dbeta.
struct Backward {
    sums: BlockSums,
    eps: f32,
    add: Sums,
    apply: ApplyGrad,
}

/// `1 / (mean G + eps)`, and G in the place of its squares.
fn rate(squares: &mut [f32], eps: f32) -> f64 {
    let mut sum = 0.0;
    for g in &mut *squares {
        *g = g.sqrt();
        sum += f64::from(*g);
    }
    1.0 / (sum / squares.len() as f64 + f64::from(eps))
}

impl Task for Forward {
    fn needs(&self, _threads: usize) -> Needs {
        Needs { phases: 3, own: 0, shared: self.sums.shared() + self.sums.samples * self.sums.width }
    }

    unsafe fn run(&self, phase: usize, args: &Args, worker: &mut Worker<'_>) {
        let (q, c) = (&self.sums, self.sums.width);
        let factors = |sample: usize| q.shared() + sample * c..q.shared() + (sample + 1) * c;
        // Addresses, since y may lie where x does.
        let x = args.address(0).cast::<f32>();
        // SAFETY: the task's contract.
        let (gamma, beta) = unsafe { (args.input(1, c), args.input(2, c)) };
        match phase {
            0 => {
                for unit in worker.units(q.units()) {
                    let (_, rows) = q.rows(unit);
                    // SAFETY: the block is this thread's; its rows are there.
                    unsafe { (self.squares)(x.add(rows.start * c), std::ptr::null(), rows.len(), c, q.partial(worker, unit)) };
                }
            }
            1 => {
                for sample in worker.units(q.samples) {
                    // SAFETY: the sample's factors are this thread's; phase 0 has ended.
                    unsafe {
                        let a = worker.shared.write(factors(sample));
                        q.total(worker, sample, 0, a);
                        let rate = rate(a, self.eps);
                        a.iter_mut().zip(gamma).for_each(|(a, &gamma)| *a = (1.0 + f64::from(gamma) * f64::from(*a) * rate) as f32);
                    }
                }
            }
            _ => {
                for unit in worker.units(q.units()) {
                    let (sample, rows) = q.rows(unit);
                    // SAFETY: the block is this thread's; phase 1 has ended.
                    unsafe {
                        let a = worker.shared.read(factors(sample));
                        for r in rows {
                            (self.apply)(x.add(r * c), a.as_ptr(), beta.as_ptr(), args.output(0).add(r * c), c);
                        }
                    }
                }
            }
        }
    }
}

impl Backward {
    fn channels(&self) -> usize {
        self.sums.width / 3
    }

    /// What belongs to a sample: a, k, dgamma, dbeta.
    fn of_sample(&self, sample: usize) -> std::ops::Range<usize> {
        let (c, first) = (self.channels(), self.sums.shared());
        first + 4 * c * sample..first + 4 * c * (sample + 1)
    }

    /// Turns a sample's sums of g^2, dy g and dy, and a free place, into a, k, dgamma and dbeta.
    fn factors(&self, gamma: &[f32], all: &mut [f32]) {
        let c = self.channels();
        let (a, rest) = all.split_at_mut(c);
        let (k, rest) = rest.split_at_mut(c);
        let (dgamma, dbeta) = rest.split_at_mut(c);
        dbeta.copy_from_slice(dgamma);
        // Now a is G, k is da.
        let rate = rate(a, self.eps);
        let through = (0..c).map(|i| f64::from(k[i]) * f64::from(gamma[i]) * f64::from(a[i])).sum::<f64>();
        let level = -rate * rate * through / c as f64;
        for i in 0..c {
            let (g, da, gamma) = (f64::from(a[i]), f64::from(k[i]), f64::from(gamma[i]));
            dgamma[i] = (da * g * rate) as f32;
            a[i] = (1.0 + gamma * g * rate) as f32;
            // Of a map that is zero the root has derivative 0.
            k[i] = if g > 0.0 { ((da * gamma * rate + level) / g) as f32 } else { 0.0 };
        }
    }
}

impl Task for Backward {
    fn needs(&self, _threads: usize) -> Needs {
        Needs { phases: 3, own: 0, shared: self.sums.shared() + 4 * self.sums.samples * self.channels() }
    }

    unsafe fn run(&self, phase: usize, args: &Args, worker: &mut Worker<'_>) {
        let (q, c) = (&self.sums, self.channels());
        // Addresses, since dx may lie where x or dy does.
        let (x, dy) = (args.address(0).cast::<f32>(), args.address(2).cast::<f32>());
        match phase {
            0 => {
                for unit in worker.units(q.units()) {
                    let (_, rows) = q.rows(unit);
                    // SAFETY: the block is this thread's; its rows are there.
                    unsafe { (self.add)(x.add(rows.start * c), dy.add(rows.start * c), rows.len(), c, q.partial(worker, unit)) };
                }
            }
            1 => {
                // SAFETY: the task's contract.
                let gamma = unsafe { args.input(1, c) };
                for sample in worker.units(q.samples) {
                    // SAFETY: the sample's place is this thread's; phase 0 has ended.
                    unsafe {
                        let all = worker.shared.write(self.of_sample(sample));
                        q.total(worker, sample, 0, &mut all[..3 * c]);
                        self.factors(gamma, all);
                    }
                }
            }
            _ => {
                for unit in worker.units(q.units() + 1) {
                    // SAFETY: the unit is this thread's, the last being both vectors; phase 1 has ended.
                    unsafe {
                        if unit == q.units() {
                            for (part, output) in [(2, 1), (3, 2)] {
                                let of = |sample: usize, i: usize| worker.shared.read(self.of_sample(sample))[part * c + i];
                                let sum = |i: usize| (0..q.samples).map(|n| f64::from(of(n, i))).sum::<f64>() as f32;
                                args.output_range(output, 0..c).iter_mut().enumerate().for_each(|(i, v)| *v = sum(i));
                            }
                            continue;
                        }
                        let (sample, rows) = q.rows(unit);
                        let factors = worker.shared.read(self.of_sample(sample));
                        for r in rows {
                            (self.apply)(x.add(r * c), dy.add(r * c), factors, args.output(0).add(r * c), c);
                        }
                    }
                }
            }
        }
    }
}

variants! {
    /// Sums over rows of `gelu(x)^2`, and if there is a dy, behind them of `dy gelu(x)` and of dy.
    ///
    /// # Safety
    /// - x and, unless null, dy are valid for so many rows of `c` elements; there is a sum, or three, for each of these.
    unsafe fn sums(x: *const f32, dy: *const f32, rows: usize, c: usize, sums: &mut [f32]) as Sums = sums_body
}

variants! {
    /// `y = a gelu(x) + beta`, a row.
    ///
    /// # Safety
    /// - All are valid for `c` elements; y is equal to x or overlaps nothing.
    unsafe fn apply(x: *const f32, a: *const f32, beta: *const f32, y: *mut f32, c: usize) as Apply = apply_body
}

variants! {
    /// `dx = (a dy + k gelu(x)) gelu'(x)`, a row; a and k are in `factors`.
    ///
    /// # Safety
    /// - All are valid for `c` elements, `factors` for twice as many; dx is equal to x or dy or overlaps nothing.
    unsafe fn apply_grad(x: *const f32, dy: *const f32, factors: &[f32], dx: *mut f32, c: usize) as ApplyGrad = apply_grad_body
}

/// Calls `$f::<S, N>` for columns of two vectors, and of one at the end.
macro_rules! by_columns {
    ($c:expr, |$i:ident, $n:ident| $two:expr, $one:expr) => {{
        let mut $i = 0;
        while $i + 2 * S::LANES <= $c {
            let $n = S::LANES;
            $two;
            $i += 2 * S::LANES;
        }
        while $i < $c {
            let $n = S::LANES.min($c - $i);
            $one;
            $i += $n;
        }
    }};
}

#[inline(always)]
unsafe fn sums_body<S: Simd>(s: S, x: *const f32, dy: *const f32, rows: usize, c: usize, sums: &mut [f32]) {
    let to = sums.as_mut_ptr();
    // SAFETY: columns i .. of the c; the caller's contract.
    unsafe {
        by_columns!(c, |i, n| column_sums::<S, 2>(s, x, dy, rows, c, i, n, to), column_sums::<S, 1>(s, x, dy, rows, c, i, n, to));
    }
}

/// # Safety
/// - As of [`sums`], for N vectors of columns from `i` on, of which the last has `n`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn column_sums<S: Simd, const N: usize>(
    s: S,
    x: *const f32,
    dy: *const f32,
    rows: usize,
    c: usize,
    i: usize,
    n: usize,
    to: *mut f32,
) {
    let zero = s.splat(0.0);
    let (mut squares, mut products, mut plain) = ([zero; N], [zero; N], [zero; N]);
    let mut r = 0;
    while r < rows {
        let at = r * c + i;
        let mut v = [zero; N];
        let mut k = 0;
        while k < N {
            // SAFETY: the caller's contract.
            v[k] = unsafe { s.load_n(x.add(at + k * S::LANES), n) };
            k += 1;
        }
        let g = math::gelu(s, v);
        k = 0;
        while k < N {
            squares[k] = s.mla(g[k], g[k], squares[k]);
            if !dy.is_null() {
                // SAFETY: the caller's contract.
                let d = unsafe { s.load_n(dy.add(at + k * S::LANES), n) };
                products[k] = s.mla(d, g[k], products[k]);
                plain[k] = s.add(plain[k], d);
            }
            k += 1;
        }
        r += 1;
    }
    let mut k = 0;
    while k < N {
        let at = i + k * S::LANES;
        // SAFETY: the caller's contract.
        unsafe {
            s.store_n(to.add(at), squares[k], n);
            if !dy.is_null() {
                s.store_n(to.add(c + at), products[k], n);
                s.store_n(to.add(2 * c + at), plain[k], n);
            }
        }
        k += 1;
    }
}

#[inline(always)]
unsafe fn apply_body<S: Simd>(s: S, x: *const f32, a: *const f32, beta: *const f32, y: *mut f32, c: usize) {
    // SAFETY: columns i .. of the c; the caller's contract.
    unsafe {
        by_columns!(c, |i, n| apply_columns::<S, 2>(s, x, a, beta, y, i, n), apply_columns::<S, 1>(s, x, a, beta, y, i, n));
    }
}

/// # Safety
/// - As of [`apply`], for N vectors from `i` on, of which the last has `n` elements.
#[inline(always)]
unsafe fn apply_columns<S: Simd, const N: usize>(s: S, x: *const f32, a: *const f32, beta: *const f32, y: *mut f32, i: usize, n: usize) {
    let mut v = [s.splat(0.0); N];
    let mut k = 0;
    while k < N {
        // SAFETY: the caller's contract.
        v[k] = unsafe { s.load_n(x.add(i + k * S::LANES), n) };
        k += 1;
    }
    let g = math::gelu(s, v);
    k = 0;
    while k < N {
        let at = i + k * S::LANES;
        // SAFETY: the caller's contract.
        unsafe { s.store_n(y.add(at), s.mla(g[k], s.load_n(a.add(at), n), s.load_n(beta.add(at), n)), n) };
        k += 1;
    }
}

#[inline(always)]
unsafe fn apply_grad_body<S: Simd>(s: S, x: *const f32, dy: *const f32, factors: &[f32], dx: *mut f32, c: usize) {
    // SAFETY: columns i .. of the c; the caller's contract.
    unsafe {
        let (a, k) = (factors.as_ptr(), factors.as_ptr().add(c));
        by_columns!(
            c,
            |i, n| grad_columns::<S, 2>(s, x.add(i), dy.add(i), a.add(i), k.add(i), dx.add(i), n),
            grad_columns::<S, 1>(s, x.add(i), dy.add(i), a.add(i), k.add(i), dx.add(i), n)
        );
    }
}

/// # Safety
/// - As of [`apply_grad`], for N vectors, of which the last has `n` elements.
#[inline(always)]
unsafe fn grad_columns<S: Simd, const N: usize>(
    s: S,
    x: *const f32,
    dy: *const f32,
    a: *const f32,
    factor: *const f32,
    dx: *mut f32,
    n: usize,
) {
    let mut v = [s.splat(0.0); N];
    let mut k = 0;
    while k < N {
        // SAFETY: the caller's contract.
        v[k] = unsafe { s.load_n(x.add(k * S::LANES), n) };
        k += 1;
    }
    let (g, slope) = math::gelu_and_slope(s, v);
    k = 0;
    while k < N {
        let at = k * S::LANES;
        // SAFETY: the caller's contract.
        unsafe {
            let through = s.mul(g[k], s.load_n(factor.add(at), n));
            let d = s.mla(s.load_n(dy.add(at), n), s.load_n(a.add(at), n), through);
            s.store_n(dx.add(at), s.mul(d, slope[k]), n);
        }
        k += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, run_all, run_in_place, step, values};
    use super::*;

    fn gelu(x: f64) -> f64 {
        x / 2.0 * libm::erfc(-x / std::f64::consts::SQRT_2)
    }

    const EPS: f32 = 1e-6;

    /// `grn(gelu(x))` in f64.
    fn exact(x: &[f64], gamma: &[f32], beta: &[f32], pixels: usize) -> Vec<f64> {
        let c = gamma.len();
        let sample = |x: &[f64]| {
            let g: Vec<f64> = x.iter().map(|&x| gelu(x)).collect();
            let norm = |k: usize| g.iter().skip(k).step_by(c).map(|g| g * g).sum::<f64>().sqrt();
            let norms: Vec<f64> = (0..c).map(norm).collect();
            let mean = norms.iter().sum::<f64>() / c as f64 + f64::from(EPS);
            g.iter()
                .enumerate()
                .map(|(i, g)| g * (1.0 + f64::from(gamma[i % c]) * norms[i % c] / mean) + f64::from(beta[i % c]))
                .collect::<Vec<_>>()
        };
        x.chunks(pixels * c).flat_map(sample).collect()
    }

    #[test]
    fn values_and_gradients_against_f64() {
        for (n, h, w, c) in [(1, 1, 1, 1), (2, 3, 2, 5), (1, 9, 8, 33), (3, 2, 2, 16), (2, 1, 3, 40)] {
            let pixels = h * w;
            let (x, gamma, beta) = (values(n * pixels * c, 1), values(c, 2), values(c, 3));
            let wide: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
            let want = exact(&wide, &gamma, &beta, pixels);
            let s = step(GeluGrn { eps: EPS }, &[&[n, h, w, c], &[c], &[c]], &[&[n, h, w, c]]);
            run_all(&s, &[&x, &gamma, &beta], |y, what| close(&y[0], &want, 2e-6, what));
            run_in_place(&s, &[&x, &gamma, &beta]);

            let dy = values(x.len(), 4);
            let objective =
                |x: &[f64], gamma: &[f32]| exact(x, gamma, &beta, pixels).iter().zip(&dy).map(|(y, &d)| y * f64::from(d)).sum::<f64>();
            let slope = |moved: &dyn Fn(f64) -> f64| (moved(1e-5) - moved(-1e-5)) / 2e-5;
            let dx: Vec<f64> = (0..x.len())
                .map(|i| {
                    slope(&|by| {
                        let mut x = wide.clone();
                        x[i] += by;
                        objective(&x, &gamma)
                    })
                })
                .collect();
            // Linear in gamma and beta, so that any step does.
            let dgamma: Vec<f64> = (0..c)
                .map(|i| {
                    let mut other = gamma.clone();
                    other[i] += 1.0;
                    (objective(&wide, &other) - objective(&wide, &gamma)) / f64::from(other[i] - gamma[i])
                })
                .collect();
            let dbeta: Vec<f64> = (0..c).map(|i| dy.iter().skip(i).step_by(c).map(|&d| f64::from(d)).sum()).collect();
            let s = step(GeluGrnGrad { eps: EPS }, &[&[n, h, w, c], &[c], &[n, h, w, c]], &[&[n, h, w, c], &[c], &[c]]);
            run_all(&s, &[&x, &gamma, &dy], |y, what| {
                close(&y[0], &dx, 4e-6, what);
                close(&y[1], &dgamma, 4e-6, what);
                close(&y[2], &dbeta, 2e-6, what);
            });
        }
    }
}
