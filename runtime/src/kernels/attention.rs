//! `q [B,M,K], k [B,S,K], v [B,S,N] -> softmax(scale * q k^T) v`. The matrix of scores is never whole: a thread takes a
//! block of rows of q, and the block's scores stay in its own scratch from the first product to the second.
//!
//! The first phase packs k and v of a sample into panels, in memory that all threads share. k as it lies is the weight
//! matrix of a linear layer, so that its transposition costs nothing. Every row is computed alike wherever blocks begin.

use serde::{Deserialize, Serialize};

use super::gemm::micro::{Ahead, GROUP, Left, MultiplyAdd, Right, multiply_add, stretches};
use super::norm::{SoftmaxRow, softmax_row};
use super::scratch::{addresses, row_step};
use super::{Args, KernelDef, Needs, Signature, Task, Worker};
use crate::check::Fault;
use crate::check::rule::{ensure, rank, shape};
use crate::cost::{Cost, pixels};
use crate::plan::{Operand, PANEL};
use crate::simd::{Isa, Simd, variants};

/// `q [B,M,K], k [B,S,K], v [B,S,N] -> y [B,M,N]`: `softmax(scale * q k^T) v`, the softmax over S.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attention {
    /// Factor on the products of q and k.
    pub scale: f32,
}

impl KernelDef for Attention {
    fn signature(&self) -> Signature {
        Signature::of(&["q", "k", "v"], &["y"])
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        ensure("attention.1", self.scale.is_finite(), "a finite scale", self.scale)?;
        let ([b, m, k], [_, s, n]) = (rank("attention.2", "q", &x[0])?, rank("attention.3", "v", &x[2])?);
        shape("attention.4", "k", &x[1], &[b, s, k])?;
        shape("attention.5", "v", &x[2], &[b, s, n])?;
        shape("attention.6", "y", &y[0], &[b, m, n])
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(pixels(&x[0]).saturating_mul(x[1].shape[1]).saturating_mul(x[0].shape[2] + x[2].shape[2]), x, y)
    }

    fn task(&self, x: &[Operand], _: &[Operand], isa: Isa) -> Box<dyn Task> {
        let (q, v) = (&x[0].shape, &x[2].shape);
        Box::new(Blocks {
            samples: q[0],
            rows: q[1],
            positions: v[1],
            depth: q[2],
            width: v[2],
            scale: self.scale,
            scale_row: scale_row(isa),
            softmax_row: softmax_row(isa),
            multiply_add: multiply_add(isa),
        })
    }
}

/// Rows of a block; a whole number of tiles of the product on every variant. The scores of 1024 positions are 200 KB.
const ROWS: usize = 48;

struct Blocks {
    samples: usize,
    rows: usize,
    positions: usize,
    /// Channels of q and k, and of v.
    depth: usize,
    width: usize,
    scale: f32,
    scale_row: ScaleRow,
    softmax_row: SoftmaxRow,
    multiply_add: MultiplyAdd,
}

impl Blocks {
    /// f32 of k in panels.
    fn keys(&self) -> usize {
        self.positions.div_ceil(PANEL) * self.depth * PANEL
    }

    /// f32 of v in panels.
    fn values(&self) -> usize {
        self.width.div_ceil(PANEL) * self.positions * PANEL
    }

    fn score_step(&self) -> usize {
        row_step(self.positions)
    }

    /// From one row of a block's copy of q to the next.
    fn query_step(&self) -> usize {
        row_step(self.depth)
    }

    /// Panels of k take 16 positions each, rows of v's panels 16 channels of a position.
    ///
    /// # Safety
    /// - The task's contract, in the first phase of the sample.
    unsafe fn pack(&self, sample: usize, args: &Args, worker: &Worker<'_>) {
        let (s, d, n) = (self.positions, self.depth, self.width);
        // SAFETY: the task's contract.
        let (k, v) = unsafe { (args.input(1, self.samples * s * d), args.input(2, self.samples * s * n)) };
        let (k, v) = (&k[sample * s * d..][..s * d], &v[sample * s * n..][..s * n]);
        let panels = s.div_ceil(PANEL);
        for unit in worker.units(2 * panels) {
            let first = unit % panels * PANEL;
            let count = PANEL.min(s - first);
            if unit < panels {
                // SAFETY: the panel is this thread's.
                let panel = unsafe { worker.shared.write(unit * d * PANEL..(unit + 1) * d * PANEL) };
                for (i, line) in panel.chunks_exact_mut(PANEL).enumerate() {
                    line.iter_mut().enumerate().for_each(|(j, out)| *out = if j < count { k[(first + j) * d + i] } else { 0.0 });
                }
                continue;
            }
            for position in first..first + count {
                for (panel, channels) in v[position * n..(position + 1) * n].chunks(PANEL).enumerate() {
                    let at = self.keys() + (panel * s + position) * PANEL;
                    // SAFETY: the position's lines are this thread's.
                    let line = unsafe { worker.shared.write(at..at + PANEL) };
                    line[..channels.len()].copy_from_slice(channels);
                    line[channels.len()..].fill(0.0);
                }
            }
        }
    }

    /// One block of rows of a sample.
    ///
    /// # Safety
    /// - The task's contract, in the second phase of the sample; the rows are this thread's.
    unsafe fn attend(&self, sample: usize, rows: std::ops::Range<usize>, args: &Args, worker: &mut Worker<'_>) {
        let (d, n, count) = (self.depth, self.width, rows.len());
        let first = sample * self.rows + rows.start;
        // SAFETY: the task's contract; the first phase has ended.
        let (q, packed) = unsafe { (args.input(0, self.samples * self.rows * d), worker.shared.read(0..self.keys() + self.values())) };
        let (keys, values) = packed.split_at(self.keys());
        let (sums, rest) = worker.own.split_at_mut(ROWS * GROUP);
        let (scores, rest) = rest.split_at_mut(ROWS * self.score_step());
        let (queries, table) = rest.split_at_mut(ROWS * self.query_step());
        for (query, q) in queries.chunks_exact_mut(self.query_step()).zip(q[first * d..(first + count) * d].chunks_exact(d)) {
            // SAFETY: equally long.
            unsafe { (self.scale_row)(q, self.scale, &mut query[..d]) };
        }
        let queries = Rows { start: queries.as_ptr(), step: self.query_step(), count };
        for column in (0..self.positions).step_by(GROUP) {
            // SAFETY: the group's panels exist.
            unsafe { queries.product(self.multiply_add, keys, d, column, self.positions, sums, table) };
            let columns = GROUP.min(self.positions - column);
            for (row, sums) in scores.chunks_exact_mut(self.score_step()).zip(sums.chunks_exact(GROUP)).take(count) {
                row[column..column + columns].copy_from_slice(&sums[..columns]);
            }
        }
        for row in scores.chunks_exact_mut(self.score_step()).take(count) {
            // SAFETY: the row has that many scores.
            unsafe { (self.softmax_row)(row.as_ptr(), row.as_mut_ptr(), self.positions) };
        }
        let scores = Rows { start: scores.as_ptr(), step: self.score_step(), count };
        for column in (0..n).step_by(GROUP) {
            let columns = GROUP.min(n - column);
            // SAFETY: the group's panels exist; the rows of y are this thread's.
            unsafe {
                scores.product(self.multiply_add, values, self.positions, column, n, sums, table);
                let y = args.output_range(0, first * n..(first + count) * n);
                for (row, sums) in y.chunks_exact_mut(n).zip(sums.chunks_exact(GROUP)) {
                    row[column..column + columns].copy_from_slice(&sums[..columns]);
                }
            }
        }
    }
}

/// The left matrix of a product.
#[derive(Clone, Copy)]
struct Rows {
    start: *const f32,
    step: usize,
    count: usize,
}

impl Rows {
    /// The product with columns `column ..` of a packed matrix of `depth` rows and `columns` columns, [`GROUP`] at most, into
    /// rows of [`GROUP`].
    ///
    /// # Safety
    /// - The rows are valid for `depth` elements, the panels of those columns exist.
    #[allow(clippy::too_many_arguments)]
    unsafe fn product(
        self,
        multiply_add: MultiplyAdd,
        packed: &[f32],
        depth: usize,
        column: usize,
        columns: usize,
        sums: &mut [f32],
        table: &mut [f32],
    ) {
        let panels = (columns - column).div_ceil(PANEL).min(GROUP / PANEL);
        let panels_of = &packed[column * depth..][..panels * depth * PANEL];
        let table = addresses(table, self.count);
        assert!(sums.len() >= self.count * GROUP);
        for k in stretches(depth) {
            table.iter_mut().enumerate().for_each(|(r, at)| *at = self.start.wrapping_add(r * self.step + k.start));
            let start = panels_of.as_ptr().wrapping_add(k.start * PANEL);
            let right = Right { start, panel_step: depth * PANEL, panels };
            let ahead = Ahead::weights(start.wrapping_add(k.len() * PANEL));
            // SAFETY: the stretch of the rows and of the panels; the sums were counted.
            unsafe { multiply_add(Left { rows: table, step: 1 }, right, ahead, k.len(), sums.as_mut_ptr(), k.start == 0) };
        }
    }
}

variants! {
    /// `y = by * x`.
    ///
    /// # Safety
    /// - `x` and `y` are equally long.
    unsafe fn scale_row(x: &[f32], by: f32, y: &mut [f32]) as ScaleRow = scale_row_body
}

#[inline(always)]
unsafe fn scale_row_body<S: Simd>(_: S, x: &[f32], by: f32, y: &mut [f32]) {
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = by * x);
}

impl Task for Blocks {
    fn needs(&self, _threads: usize) -> Needs {
        let own = ROWS * (GROUP + self.score_step() + self.query_step() + 2);
        Needs { phases: 2 * self.samples, own, shared: self.keys() + self.values() }
    }

    unsafe fn run(&self, phase: usize, args: &Args, worker: &mut Worker<'_>) {
        let sample = phase / 2;
        if phase.is_multiple_of(2) {
            // SAFETY: the task's contract; phases alternate.
            return unsafe { self.pack(sample, args, worker) };
        }
        for block in worker.units(self.rows.div_ceil(ROWS)) {
            let rows = block * ROWS..self.rows.min((block + 1) * ROWS);
            // SAFETY: as above; the block is this thread's.
            unsafe { self.attend(sample, rows, args, worker) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, run_all, step, values};
    use super::Attention;

    /// Rows of a sample's block, in f64.
    fn attention(q: &[f32], k: &[f32], v: &[f32], [m, s, d, n]: [usize; 4], scale: f32) -> Vec<f64> {
        let row = |r: usize| {
            let (sample, q) = (r / m, &q[r * d..][..d]);
            let dot = |p: usize| q.iter().zip(&k[(sample * s + p) * d..]).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum::<f64>();
            let scores: Vec<f64> = (0..s).map(|p| f64::from(scale) * dot(p)).collect();
            let most = scores.iter().fold(f64::MIN, |m, &x| m.max(x));
            let shares: Vec<f64> = scores.iter().map(|x| (x - most).exp()).collect();
            let total: f64 = shares.iter().sum();
            let of = |c: usize| (0..s).map(|p| shares[p] * f64::from(v[(sample * s + p) * n + c])).sum::<f64>() / total;
            (0..n).map(of).collect::<Vec<_>>()
        };
        (0..q.len() / d).flat_map(row).collect()
    }

    #[test]
    fn against_f64_over_tails() {
        let sizes = (1..=34).map(|s| (1, 3, s, 5, 35 - s)).chain([(2, 7, 5, 33, 3), (3, 50, 40, 16, 32), (1, 100, 513, 20, 17)]);
        for (b, m, s, d, n) in sizes {
            let (q, k, v) = (values(b * m * d, 1), values(b * s * d, 2), values(b * s * n, 3));
            let want = attention(&q, &k, &v, [m, s, d, n], 0.3);
            let step = step(Attention { scale: 0.3 }, &[&[b, m, d], &[b, s, d], &[b, s, n]], &[&[b, m, n]]);
            run_all(&step, &[&q, &k, &v], |y, what| close(&y[0], &want, 2e-6, what));
        }
    }
}
