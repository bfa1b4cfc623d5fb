//! The gradient of layer norm with modulation, over the last axis: `n = (x - mean) / sqrt(var + eps)`, `y = n (1 + scale) + shift`. With
//! `d = dy (1 + scale)`: `dx = (d - mean(d) - n mean(d n)) / sqrt(var + eps)`; by sample and channel `dshift` is the sum of dy over pixels,
//! `dscale` that of `dy n`. Mean and deviation are computed anew: a row is in the nearest cache.

use serde::{Deserialize, Serialize};

use super::block_sums::BlockSums;
use super::{Args, KernelDef, Needs, Signature, Task, Worker};
use crate::check::Fault;
use crate::check::rule::{ends, epsilon, like, shape};
use crate::cost::Cost;
use crate::plan::Operand;
use crate::simd::{Isa, Simd, VirtualLanes, sweep, variants};

/// `x [N,..,C], scale [N,C], dy as x -> dx, dshift [N,C], dscale [N,C]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NormModulateGrad {
    /// Added to the variance.
    pub eps: f32,
}

impl KernelDef for NormModulateGrad {
    fn signature(&self) -> Signature {
        Signature::of(&["x", "scale", "dy"], &["dx", "dshift", "dscale"]).taking(&[2, 0])
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        epsilon("norm_modulate_grad.1", self.eps)?;
        let (n, c) = ends("norm_modulate_grad.2", "x", &x[0])?;
        shape("norm_modulate_grad.3", "scale", &x[1], &[n, c])?;
        like("norm_modulate_grad.4", "dy", &x[2], &x[0])?;
        like("norm_modulate_grad.5", "dx", &y[0], &x[0])?;
        y[1..].iter().try_for_each(|v| shape("norm_modulate_grad.6", "a vector's gradient", v, &[n, c]))
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(0, x, y)
    }

    fn task(&self, x: &[Operand], _: &[Operand], isa: Isa) -> Box<dyn Task> {
        let (samples, c) = (x[1].shape[0], x[1].shape[1]);
        let sums = BlockSums { samples, pixels: x[0].count() / samples / c, width: 2 * c };
        Box::new(Rows { sums, eps: self.eps, run: row(isa) })
    }
}

struct Rows {
    sums: BlockSums,
    eps: f32,
    run: Row,
}

impl Task for Rows {
    fn needs(&self, _threads: usize) -> Needs {
        Needs { phases: 2, own: 0, shared: self.sums.shared() }
    }

    unsafe fn run(&self, phase: usize, args: &Args, worker: &mut Worker<'_>) {
        let (q, c) = (&self.sums, self.sums.width / 2);
        if phase == 0 {
            // Addresses, since dx may lie where x or dy does.
            let (x, dy) = (args.address(0).cast::<f32>(), args.address(2).cast::<f32>());
            for unit in worker.units(q.units()) {
                let (sample, rows) = q.rows(unit);
                // SAFETY: the task's contract; the block is this thread's.
                unsafe {
                    let scale = &args.input(1, q.samples * c)[sample * c..(sample + 1) * c];
                    let sums = q.partial(worker, unit);
                    sums.fill(0.0);
                    for r in rows {
                        (self.run)(x.add(r * c), scale, dy.add(r * c), self.eps, sums, args.output(0).add(r * c), c);
                    }
                }
            }
            return;
        }
        for unit in worker.units(2 * q.samples) {
            let (sample, part) = (unit / 2, unit % 2);
            // SAFETY: the vector is this thread's; phase 0 has ended.
            unsafe { q.total(worker, sample, part * c, args.output_range(1 + part, sample * c..(sample + 1) * c)) };
        }
    }
}

variants! {
    /// One row; adds dy and dy n to `sums`, one behind the other.
    ///
    /// # Safety
    /// - `x`, `dy` and `dx` are valid for `c` elements; dx is equal to one of the others or overlaps neither. `scale` has `c`, `sums` 2 c.
    unsafe fn row(x: *const f32, scale: &[f32], dy: *const f32, eps: f32, sums: &mut [f32], dx: *mut f32, c: usize) as Row = row_body
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn row_body<S: Simd>(s: S, x: *const f32, scale: &[f32], dy: *const f32, eps: f32, sums: &mut [f32], dx: *mut f32, c: usize) {
    let (scale, to) = (scale.as_ptr(), sums.as_mut_ptr());
    // SAFETY: the sweeps visit elements i .. i + n of the c; the caller's contract.
    unsafe {
        let mut level = VirtualLanes::splat(s, 0.0);
        sweep!(S, c, |i, n, v| level.0[v] = s.add(level.0[v], s.load_n(x.add(i), n)));
        let average = level.sum(s) / c as f32;
        let mean = s.splat(average);
        let (mut rest, mut squares) = (VirtualLanes::splat(s, 0.0), VirtualLanes::splat(s, 0.0));
        sweep!(S, c, |i, n, v| {
            // Lanes beyond the row hold the mean itself, so that they are zero once centred.
            let d = s.sub(s.load_or(x.add(i), n, average), mean);
            rest.0[v] = s.add(rest.0[v], d);
            squares.0[v] = s.mla(d, d, squares.0[v]);
        });
        let rest = f64::from(rest.sum(s)) / c as f64;
        let variance = f64::from(squares.sum(s)) / c as f64 - rest * rest;
        let rate = 1.0 / (variance + f64::from(eps)).sqrt();
        let (offset, factor) = (s.splat((-rest * rate) as f32), s.splat(rate as f32));
        let one = s.splat(1.0);
        macro_rules! normalised {
            ($i:ident, $n:ident) => {
                s.mla(s.sub(s.load_n(x.add($i), $n), mean), factor, offset)
            };
        }
        macro_rules! through {
            ($i:ident, $n:ident, $d:ident) => {
                s.mul($d, s.add(one, s.load_n(scale.add($i), $n)))
            };
        }
        let (mut plain, mut along) = (VirtualLanes::splat(s, 0.0), VirtualLanes::splat(s, 0.0));
        sweep!(S, c, |i, n, v| {
            let (norm, d) = (normalised!(i, n), s.load_n(dy.add(i), n));
            s.store_n(to.add(i), s.add(s.load_n(to.add(i), n), d), n);
            s.store_n(to.add(c + i), s.mla(d, norm, s.load_n(to.add(c + i), n)), n);
            // Lanes beyond the row have dy 0.
            let d = through!(i, n, d);
            plain.0[v] = s.add(plain.0[v], d);
            along.0[v] = s.mla(d, norm, along.0[v]);
        });
        let (plain, along) = (s.splat(plain.sum(s) / c as f32), s.splat(along.sum(s) / c as f32));
        sweep!(S, c, |i, n, _v| {
            let (norm, d) = (normalised!(i, n), s.load_n(dy.add(i), n));
            let d = s.sub(s.sub(through!(i, n, d), plain), s.mul(norm, along));
            s.store_n(dx.add(i), s.mul(d, factor), n);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, run_all, run_in_place, step, values};
    use super::*;

    #[test]
    fn against_f64_over_tails() {
        for (n, pixels, c) in (1..=40).map(|c| (2, 3, c)).chain([(1, 70, 128), (3, 1, 65)]) {
            let (x, scale, dy) = (values(n * pixels * c, 1), values(n * c, 2), values(n * pixels * c, 3));
            let (mut dx, mut dshift, mut dscale) = (Vec::new(), vec![0.0; n * c], vec![0.0; n * c]);
            for r in 0..n * pixels {
                let at = |i: usize| f64::from(x[r * c + i]);
                let mean = (0..c).map(at).sum::<f64>() / c as f64;
                let variance = (0..c).map(|i| (at(i) - mean).powi(2)).sum::<f64>() / c as f64;
                let deviation = (variance + f64::from(1e-2f32)).sqrt();
                let norm = |i: usize| (at(i) - mean) / deviation;
                let sample = r / pixels * c;
                let d = |i: usize| f64::from(dy[r * c + i]) * (1.0 + f64::from(scale[sample + i]));
                let plain = (0..c).map(d).sum::<f64>() / c as f64;
                let along = (0..c).map(|i| d(i) * norm(i)).sum::<f64>() / c as f64;
                for i in 0..c {
                    dx.push((d(i) - plain - norm(i) * along) / deviation);
                    dshift[sample + i] += f64::from(dy[r * c + i]);
                    dscale[sample + i] += f64::from(dy[r * c + i]) * norm(i);
                }
            }
            let shape = [n, pixels, c];
            let s = step(NormModulateGrad { eps: 1e-2 }, &[&shape, &[n, c], &shape], &[&shape, &[n, c], &[n, c]]);
            run_all(&s, &[&x, &scale, &dy], |y, what| {
                // Of one channel everything cancels.
                let floor = |want: &[f64]| want.iter().map(|v| v.abs()).fold(0.0, f64::max) < 1e-12;
                if floor(&dx) {
                    assert!(y[0].iter().all(|v| v.abs() < 1e-4), "{what}");
                } else {
                    close(&y[0], &dx, 5e-6, what);
                }
                close(&y[1], &dshift, 2e-6, what);
                if !floor(&dscale) {
                    close(&y[2], &dscale, 5e-6, what);
                }
            });
            run_in_place(&s, &[&x, &scale, &dy]);
        }
    }
}
