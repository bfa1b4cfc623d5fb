//! Sums over axes, and GRN's sums of squares. Both are done in blocks that the shape fixes, and the blocks' sums
//! are added up in order: the result does not know how many threads there were.

use serde::{Deserialize, Serialize};

use super::scratch::zeroed_f64;
use super::{Args, KernelDef, Needs, Signature, Task, Worker};
use crate::check::Fault;
use crate::check::rule::{ensure, rank, shape};
use crate::cost::Cost;
use crate::plan::Operand;
use crate::simd::{Isa, Simd, variants};

/// `x -> y`: sum over `axes` of x's shape, which has extent 1 there in y's, times `scale`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sum {
    /// Axes summed over.
    pub axes: Vec<usize>,
    /// Factor on the sum; `1/count` makes it a mean.
    pub scale: f32,
}

/// `x [N,H,W,C] -> y [N,C]`: sum over H and W of x^2, reduced in an order that does not depend on threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SumSquares {}

impl KernelDef for Sum {
    fn signature(&self) -> Signature {
        Signature::of(&["x"], &["y"])
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        let (axes, rank) = (&self.axes, x[0].shape.len());
        let sound = rank > 0 && axes.iter().enumerate().all(|(i, &a)| a < rank && !axes[..i].contains(&a));
        ensure("sum.1", sound, format!("different axes below {rank}"), axes)?;
        let want: Vec<usize> = x[0].shape.iter().enumerate().map(|(a, &e)| if axes.contains(&a) { 1 } else { e }).collect();
        shape("sum.2", "y", &y[0], &want)
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(0, x, y)
    }

    fn task(&self, x: &[Operand], _: &[Operand], _: Isa) -> Box<dyn Task> {
        Box::new(Summation::new(&x[0].shape, &self.axes, self.scale))
    }
}

impl KernelDef for SumSquares {
    fn signature(&self) -> Signature {
        Signature::of(&["x"], &["y"])
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        let [n, _, _, c] = rank("sum_squares.1", "x", &x[0])?;
        shape("sum_squares.2", "y", &y[0], &[n, c])
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(0, x, y)
    }

    fn task(&self, x: &[Operand], _: &[Operand], isa: Isa) -> Box<dyn Task> {
        Box::new(Squares::new(&x[0].shape, isa))
    }
}

/// Pixels of a block of squares: so few that plain f32 sums are accurate.
const PIXELS: usize = 64;

/// `x [N,H,W,C] -> [N,C]`: sum over H and W of x^2. The shared scratch begins with `[samples][blocks][channels]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Squares {
    pub samples: usize,
    pub pixels: usize,
    pub channels: usize,
    run: SquaresRun,
}

impl Squares {
    pub fn new(x: &[usize], isa: Isa) -> Squares {
        Squares { samples: x[0], pixels: x[1] * x[2], channels: x[3], run: squares(isa) }
    }

    fn blocks(&self) -> usize {
        self.pixels.div_ceil(PIXELS)
    }

    /// f32 of the partial sums.
    pub fn partials(&self) -> usize {
        self.samples * self.blocks() * self.channels
    }

    /// # Safety
    /// - The shared scratch begins with room for the partial sums, and all threads are in this phase.
    pub unsafe fn accumulate(&self, x: &[f32], worker: &Worker<'_>) {
        let c = self.channels;
        for unit in worker.units(self.samples * self.blocks()) {
            let (sample, block) = (unit / self.blocks(), unit % self.blocks());
            let first = sample * self.pixels + block * PIXELS;
            let rows = PIXELS.min(self.pixels - block * PIXELS);
            // SAFETY: the unit's sums are this thread's; rows have as many elements as sums.
            unsafe { (self.run)(&x[first * c..(first + rows) * c], worker.shared.write(unit * c..(unit + 1) * c)) };
        }
    }

    /// The sums of channels `first ..` of a sample.
    ///
    /// # Safety
    /// - [`Squares::accumulate`] has ended on all threads.
    pub unsafe fn total(&self, worker: &Worker<'_>, sample: usize, first: usize, ss: &mut [f32]) {
        // SAFETY: nobody writes the partial sums in this phase.
        let partials = unsafe { worker.shared.read(0..self.partials()) };
        for (c, ss) in ss.iter_mut().enumerate() {
            let parts = (0..self.blocks()).map(|b| partials[(sample * self.blocks() + b) * self.channels + first + c]);
            *ss = parts.map(f64::from).sum::<f64>() as f32;
        }
    }
}

variants! {
    /// Sums of squares of the columns.
    ///
    /// # Safety
    /// - `x` is a whole number of rows of `sums.len()` elements.
    unsafe fn squares(x: &[f32], sums: &mut [f32]) as SquaresRun = squares_body
}

#[inline(always)]
unsafe fn squares_body<S: Simd>(s: S, x: &[f32], sums: &mut [f32]) {
    let c = sums.len();
    let rows = x.len() / c;
    let mut i = 0;
    while i < c {
        let n = S::LANES.min(c - i);
        let mut sum = s.splat(0.0);
        // SAFETY: elements i .. i + n of rows of c elements.
        unsafe {
            for r in 0..rows {
                let p = x.as_ptr().add(r * c + i);
                let v = s.load_n(p, n);
                sum = s.mla(v, v, sum);
            }
            s.store_partial(sums.as_mut_ptr().add(i), sum, n);
        }
        i += n;
    }
}

impl Task for Squares {
    fn needs(&self, _threads: usize) -> Needs {
        Needs { phases: 2, own: 0, shared: self.partials() }
    }

    unsafe fn run(&self, phase: usize, args: &Args, worker: &mut Worker<'_>) {
        let c = self.channels;
        if phase == 0 {
            // SAFETY: the task's contract.
            return unsafe { self.accumulate(args.input(0, self.samples * self.pixels * c), worker) };
        }
        while let Some(share) = worker.claim(self.samples * c, usize::MAX) {
            let mut next = share.start;
            while next < share.end {
                let (sample, first) = (next / c, next % c);
                let n = (c - first).min(share.end - next);
                // SAFETY: these elements are this thread's; phase 0 has ended.
                unsafe { self.total(worker, sample, first, args.output_range(0, next..next + n)) };
                next += n;
            }
        }
    }
}

/// Columns that one unit of work of a sum covers.
const COLUMNS: usize = 256;

/// Elements of a contiguous run that one index of the summed space covers.
const RUN: usize = 4096;

/// `x -> y`: sum over axes, times `scale`, in f64. The innermost axis is either kept (`columns` outputs side by
/// side) or summed (`run` elements in stretches). Shared scratch: f64 `[blocks][outputs]`.
struct Summation {
    /// Extent and stride of the kept axes outside of the columns, outermost first.
    kept: Vec<(usize, usize)>,
    /// The same of the summed axes outside of the run.
    summed: Vec<(usize, usize)>,
    columns: usize,
    run: usize,
    blocks: usize,
    scale: f32,
}

impl Summation {
    fn new(x: &[usize], axes: &[usize], scale: f32) -> Summation {
        let (mut kept, mut summed) = (Vec::new(), Vec::new());
        let mut stride = 1;
        for (axis, &extent) in x.iter().enumerate().rev() {
            if axes.contains(&axis) { &mut summed } else { &mut kept }.push((extent, stride));
            stride *= extent;
        }
        // The innermost axis is the one that was seen first.
        let last_summed = axes.contains(&(x.len() - 1));
        let (columns, run) = match last_summed {
            true => (1, summed.remove(0).0),
            false => (kept.remove(0).0, 1),
        };
        kept.reverse();
        summed.reverse();
        let mut sum = Summation { kept, summed, columns, run, blocks: 1, scale };
        sum.blocks = (16384 / sum.outputs()).clamp(1, 64).min(sum.terms());
        sum
    }

    fn rows(&self) -> usize {
        self.kept.iter().map(|a| a.0).product()
    }

    fn outputs(&self) -> usize {
        self.rows() * self.columns
    }

    /// Indices of the summed space, of one element for each column or of a stretch of the run.
    fn terms(&self) -> usize {
        self.summed.iter().map(|a| a.0).product::<usize>() * self.run.div_ceil(RUN)
    }
}

/// Offset of index `i` of a space of axes.
fn offset(axes: &[(usize, usize)], mut i: usize) -> usize {
    axes.iter().rev().fold(0, |at, &(extent, stride)| {
        let here = i % extent;
        i /= extent;
        at + here * stride
    })
}

/// Sum of a run in f64, in eight chains.
fn sum_run(x: &[f32]) -> f64 {
    let mut sums = [0.0f64; 8];
    for x in x.chunks(8) {
        sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    sums.iter().sum()
}

impl Task for Summation {
    fn needs(&self, _threads: usize) -> Needs {
        Needs { phases: 2, own: 2 * COLUMNS, shared: 2 * self.blocks * self.outputs() }
    }

    unsafe fn run(&self, phase: usize, args: &Args, worker: &mut Worker<'_>) {
        let outputs = self.outputs();
        if phase == 1 {
            // SAFETY: phase 0 has ended; the outputs are this thread's.
            let partials = unsafe { worker.shared.read_f64(0..self.blocks * outputs) };
            for i in worker.units(outputs) {
                let sum: f64 = (0..self.blocks).map(|b| partials[b * outputs + i]).sum();
                // SAFETY: as above.
                unsafe { *args.output(0).add(i) = (sum * f64::from(self.scale)) as f32 };
            }
            return;
        }
        let extents: usize = self.kept.iter().chain(&self.summed).map(|a| a.0).product();
        // SAFETY: the task's contract.
        let x = unsafe { args.input(0, extents * self.columns * self.run) };
        let (pieces, stretches) = (self.columns.div_ceil(COLUMNS), self.run.div_ceil(RUN));
        for unit in worker.units(self.blocks * self.rows() * pieces) {
            let (piece, row, block) = (unit % pieces, unit / pieces % self.rows(), unit / pieces / self.rows());
            let first = piece * COLUMNS;
            let n = COLUMNS.min(self.columns - first);
            let sums = zeroed_f64(worker.own, n);
            let base = offset(&self.kept, row);
            for term in super::part(self.terms(), block, self.blocks) {
                let at = base + offset(&self.summed, term / stretches);
                if self.columns == 1 {
                    let start = term % stretches * RUN;
                    sums[0] += sum_run(&x[at + start..at + self.run.min(start + RUN)]);
                } else {
                    sums.iter_mut().zip(&x[at + first..]).for_each(|(sum, &x)| *sum += f64::from(x));
                }
            }
            let to = block * outputs + row * self.columns + first;
            // SAFETY: the unit's sums are this thread's.
            unsafe { worker.shared.write_f64(to..to + n) }.copy_from_slice(sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, run_all, step, values};
    use super::*;

    #[test]
    fn sums_over_any_axes() {
        let shapes: [&[usize]; 5] = [&[7], &[3, 5], &[2, 3, 4, 5], &[1, 9, 1, 300], &[20000]];
        for shape in shapes {
            for mask in 1..1 << shape.len() {
                let axes: Vec<usize> = (0..shape.len()).filter(|a| mask >> a & 1 == 1).collect();
                let y: Vec<usize> = shape.iter().enumerate().map(|(a, &e)| if axes.contains(&a) { 1 } else { e }).collect();
                let x = values(shape.iter().product(), mask);
                let mut want = vec![0.0; y.iter().product()];
                for (i, &v) in x.iter().enumerate() {
                    let (mut rest, mut at, mut stride) = (i, 0, 1);
                    for a in (0..shape.len()).rev() {
                        at += rest % shape[a] % y[a] * stride;
                        stride *= y[a];
                        rest /= shape[a];
                    }
                    want[at] += f64::from(v) * 0.5;
                }
                let s = step(Sum { axes, scale: 0.5 }, &[shape], &[&y]);
                run_all(&s, &[&x], |y, what| close(&y[0], &want, 1e-6, what));
            }
        }
    }

    #[test]
    fn squares_over_tails() {
        for (n, h, w, c) in (1..=34).map(|c| (2, 3, 5, c)).chain([(1, 1, 1, 1), (2, 30, 31, 20)]) {
            let x = values(n * h * w * c, 1);
            let mut want = vec![0.0; n * c];
            x.iter().enumerate().for_each(|(i, &v)| want[i / c / (h * w) * c + i % c] += f64::from(v) * f64::from(v));
            let s = step(SumSquares {}, &[&[n, h, w, c]], &[&[n, c]]);
            run_all(&s, &[&x], |y, what| close(&y[0], &want, 1e-6, what));
        }
    }
}
