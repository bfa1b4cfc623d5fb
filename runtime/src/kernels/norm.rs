//! Layer norm over the last axis, with modulation or without, and softmax over the last axis.
//! `layer_norm: (x - mean) / sqrt(var + eps)`, biased variance; `modulate: x * (1 + scale) + shift`.
//!
//! The variance is of centred values, and the mean is corrected by what the centred values still add up to, so
//! that a large mean costs no accuracy. Sums run in virtual lanes, in the same order whatever the vectors.

use serde::{Deserialize, Serialize};

use super::{Args, KernelDef, Needs, Signature, Task, Worker};
use crate::check::Fault;
use crate::check::rule::{channelwise, epsilon, like, rows};
use crate::cost::Cost;
use crate::plan::Operand;
use crate::simd::{Isa, Simd, VirtualLanes, math, sweep, variants};

/// `x -> y` over the last axis, no affine part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerNorm {
    /// Added to the variance.
    pub eps: f32,
}

/// `x [N,..,C], shift [N,C], scale [N,C] -> modulate(layer_norm(x), shift, scale)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NormModulate {
    /// Added to the variance.
    pub eps: f32,
}

/// `x -> y` over the last axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Softmax {}

impl KernelDef for LayerNorm {
    fn signature(&self) -> Signature {
        Signature::of(&["x"], &["y"]).taking(&[0])
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        epsilon("layer_norm.1", self.eps)?;
        rows("layer_norm.2", "x", &x[0])?;
        like("layer_norm.3", "y", &y[0], &x[0])
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(0, x, y)
    }

    fn task(&self, _: &[Operand], y: &[Operand], isa: Isa) -> Box<dyn Task> {
        Rows::task(Op::LayerNorm(self.eps, normalise_row(isa)), &y[0])
    }
}

impl KernelDef for NormModulate {
    fn signature(&self) -> Signature {
        Signature::of(&["x", "shift", "scale"], &["y"]).taking(&[0])
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        epsilon("norm_modulate.1", self.eps)?;
        channelwise(["norm_modulate.2", "norm_modulate.3", "norm_modulate.4"], &x[0], &[&x[1], &x[2]], &y[0])
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(0, x, y)
    }

    fn task(&self, _: &[Operand], y: &[Operand], isa: Isa) -> Box<dyn Task> {
        Rows::task(Op::NormModulate(self.eps, normalise_row(isa)), &y[0])
    }
}

impl KernelDef for Softmax {
    fn signature(&self) -> Signature {
        Signature::of(&["x"], &["y"]).taking(&[0])
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        rows("softmax.1", "x", &x[0])?;
        like("softmax.2", "y", &y[0], &x[0])
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(0, x, y)
    }

    fn task(&self, _: &[Operand], y: &[Operand], isa: Isa) -> Box<dyn Task> {
        Rows::task(Op::Softmax(softmax_row(isa)), &y[0])
    }
}

struct Rows {
    op: Op,
    rows: usize,
    rows_per_sample: usize,
    width: usize,
}

enum Op {
    LayerNorm(f32, NormaliseRow),
    NormModulate(f32, NormaliseRow),
    Softmax(SoftmaxRow),
}

impl Rows {
    fn task(op: Op, y: &Operand) -> Box<dyn Task> {
        let width = *y.shape.last().expect("checked: y has a rank");
        let rows = y.count() / width;
        Box::new(Rows { op, rows, rows_per_sample: rows / y.shape[0].min(rows), width })
    }
}

impl Task for Rows {
    fn needs(&self, _threads: usize) -> Needs {
        Needs::PLAIN
    }

    unsafe fn run(&self, _phase: usize, args: &Args, worker: &mut Worker<'_>) {
        let c = self.width;
        for r in worker.units(self.rows) {
            // Addresses, since y may lie where x does.
            let (x, y) = (args.address(0).cast::<f32>().wrapping_add(r * c), args.output(0).wrapping_add(r * c));
            // SAFETY: the task's contract; row r is this thread's.
            unsafe {
                match self.op {
                    Op::LayerNorm(eps, run) => run(x, y, c, eps, None),
                    Op::NormModulate(eps, run) => {
                        let samples = self.rows / self.rows_per_sample;
                        let at = r / self.rows_per_sample * c;
                        let (shift, scale) = (args.input(1, samples * c), args.input(2, samples * c));
                        run(x, y, c, eps, Some(Affine { shift: &shift[at..at + c], scale: &scale[at..at + c] }));
                    }
                    Op::Softmax(run) => run(x, y, c),
                }
            }
        }
    }
}

/// The modulation of one sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct Affine<'a> {
    pub shift: &'a [f32],
    pub scale: &'a [f32],
}

variants! {
    /// Layer norm of one row, modulated if `affine` says how.
    ///
    /// # Safety
    /// - `x` and `y` are valid for `c` elements; they are equal or do not overlap. The affine vectors have `c`.
    pub(super) unsafe fn normalise_row(x: *const f32, y: *mut f32, c: usize, eps: f32, affine: Option<Affine<'_>>) as NormaliseRow =
        normalise_row_body
}

variants! {
    /// `y = exp(x - max x) / sum of the same`.
    ///
    /// # Safety
    /// - `x` and `y` are valid for `c` elements; they are equal or do not overlap.
    pub(super) unsafe fn softmax_row(x: *const f32, y: *mut f32, c: usize) as SoftmaxRow = softmax_row_body
}

#[inline(always)]
unsafe fn normalise_row_body<S: Simd>(s: S, x: *const f32, y: *mut f32, c: usize, eps: f32, affine: Option<Affine<'_>>) {
    // SAFETY: the sweeps visit elements i .. i + n of the c; the caller's contract.
    unsafe {
        let mut sums = VirtualLanes::splat(s, 0.0);
        sweep!(S, c, |i, n, v| sums.0[v] = s.add(sums.0[v], s.load_n(x.add(i), n)));
        let average = sums.sum(s) / c as f32;
        let mean = s.splat(average);
        let (mut sums, mut squares) = (VirtualLanes::splat(s, 0.0), VirtualLanes::splat(s, 0.0));
        sweep!(S, c, |i, n, v| {
            // Lanes beyond the row hold the mean itself, so that they are zero once centred.
            let d = s.sub(s.load_or(x.add(i), n, average), mean);
            sums.0[v] = s.add(sums.0[v], d);
            squares.0[v] = s.mla(d, d, squares.0[v]);
        });
        let rest = f64::from(sums.sum(s)) / c as f64;
        let variance = f64::from(squares.sum(s)) / c as f64 - rest * rest;
        let factor = 1.0 / (variance + f64::from(eps)).sqrt();
        let (offset, factor) = (s.splat((-rest * factor) as f32), s.splat(factor as f32));
        match affine {
            None => sweep!(S, c, |i, n, _v| {
                let d = s.sub(s.load_n(x.add(i), n), mean);
                s.store_n(y.add(i), s.mla(d, factor, offset), n);
            }),
            Some(affine) => sweep!(S, c, |i, n, _v| {
                let d = s.sub(s.load_n(x.add(i), n), mean);
                let scale = s.add(s.splat(1.0), s.load_n(affine.scale.as_ptr().add(i), n));
                let v = s.mla(s.mla(d, factor, offset), scale, s.load_n(affine.shift.as_ptr().add(i), n));
                s.store_n(y.add(i), v, n);
            }),
        }
    }
}

#[inline(always)]
unsafe fn softmax_row_body<S: Simd>(s: S, x: *const f32, y: *mut f32, c: usize) {
    // SAFETY: the sweeps visit elements i .. i + n of the c; the caller's contract.
    unsafe {
        let mut greatest = VirtualLanes::splat(s, f32::NEG_INFINITY);
        sweep!(S, c, |i, n, v| greatest.0[v] = s.max(greatest.0[v], s.load_or(x.add(i), n, f32::NEG_INFINITY)));
        let greatest = s.splat(greatest.max(s));
        let mut sums = VirtualLanes::splat(s, 0.0);
        sweep!(S, c, |i, n, v| {
            let e = math::exp(s, s.sub(s.load_n(x.add(i), n), greatest));
            s.store_n(y.add(i), e, n);
            // Read back at the end of a row, so that lanes beyond it are zero.
            sums.0[v] = s.add(sums.0[v], if n == S::LANES { e } else { s.load_partial(y.add(i), n) });
        });
        let sum = s.splat(sums.sum(s));
        sweep!(S, c, |i, n, _v| s.store_n(y.add(i), s.div(s.load_n(y.add(i), n), sum), n));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, run_all, run_in_place, step, values};
    use super::*;

    fn layer_norm(x: &[f32], c: usize) -> Vec<f64> {
        x.chunks(c)
            .flat_map(|row| {
                let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / c as f64;
                let var = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / c as f64;
                row.iter().map(|&v| (f64::from(v) - mean) / (var + f64::from(1e-6f32)).sqrt()).collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn layer_norm_over_tails() {
        for c in (1..=70).chain([512]) {
            let x = values(5 * c, 1);
            let want = layer_norm(&x, c);
            let s = step(LayerNorm { eps: 1e-6 }, &[&[5, c]], &[&[5, c]]);
            run_all(&s, &[&x], |y, what| close(&y[0], &want, 1e-6, what));
            let (shift, scale) = (values(2 * c, 2), values(2 * c, 3));
            let x = values(6 * c, 4);
            let at = |i: usize| i / (3 * c) * c + i % c;
            let want: Vec<f64> =
                layer_norm(&x, c).iter().enumerate().map(|(i, v)| v * (1.0 + f64::from(scale[at(i)])) + f64::from(shift[at(i)])).collect();
            let s = step(NormModulate { eps: 1e-6 }, &[&[2, 3, 1, c], &[2, c], &[2, c]], &[&[2, 3, 1, c]]);
            run_all(&s, &[&x, &shift, &scale], |y, what| close(&y[0], &want, 1e-6, what));
            run_in_place(&s, &[&x, &shift, &scale]);
        }
    }

    #[test]
    fn a_large_mean_costs_nothing() {
        let x: Vec<f32> = values(300, 1).iter().map(|v| v + 3000.0).collect();
        let want = layer_norm(&x, 300);
        let s = step(LayerNorm { eps: 1e-6 }, &[&[300]], &[&[300]]);
        run_all(&s, &[&x], |y, what| close(&y[0], &want, 1e-6, what));
    }

    #[test]
    fn softmax_over_tails() {
        for c in (1..=40).chain([257]) {
            let x: Vec<f32> = values(3 * c, 1).iter().map(|v| v * 30.0).collect();
            let row = |row: &[f32]| {
                let m = row.iter().fold(f64::MIN, |m, &v| m.max(f64::from(v)));
                let e: Vec<f64> = row.iter().map(|&v| (f64::from(v) - m).exp()).collect();
                let sum: f64 = e.iter().sum();
                e.into_iter().map(|e| e / sum).collect::<Vec<_>>()
            };
            let want: Vec<f64> = x.chunks(c).flat_map(row).collect();
            let s = step(Softmax {}, &[&[3, c]], &[&[3, c]]);
            run_all(&s, &[&x], |y, what| close(&y[0], &want, 1e-6, what));
            run_in_place(&s, &[&x]);
        }
    }
}
