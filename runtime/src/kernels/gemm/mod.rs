//! Matrix products `y = epilogue(gather(x) W^T)` with weights in panels: linear layers, convolutions as implicit
//! GEMM, and the two fused products of a block.
//!
//! A thread gathers a block of rows into its scratch once and lets all its panels pass over it; 32 columns of
//! the product at a time are finished in L1 and written. Rows are counted in units inside a sample; GRN's sums
//! of squares are kept per unit and added up in order when all units are done.

mod epilogue;
mod gather;
pub(crate) mod micro;
mod pack;
mod split;
#[cfg(test)]
mod tests;

use super::{Args, Needs, Task, Worker};
use crate::plan::{Kernel, PANEL, Step};
use crate::simd::{Isa, Simd, variants};
use epilogue::{Block, Then, finish_body};
pub(crate) use gather::Window;
use gather::scale_row;
use micro::{Left, multiply_add_body};
pub use pack::pack_panels;
use split::Grid;

/// Rows of a unit: a whole number of tiles on every variant (4, 6 and 12 rows).
const UNIT: usize = 12;

/// Rows of a unit over which squares are summed: few enough that plain f32 sums are accurate, and so many that
/// the partial sums are small beside the product.
const SQUARES_UNIT: usize = 48;

/// Elements of the gathered block that are aimed at: 1 MB, of which 256 columns at a time are in use.
const BLOCK: usize = 1 << 18;

/// Where the left matrix comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// The rows of input 0.
    Rows,
    /// The rows of input 0 times input 1's row of the sample.
    Scaled,
    /// The pixels under a convolution's window.
    Conv(Window),
    /// The pixels under an adjoint convolution's window.
    Adjoint(Window),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    Store,
    GeluSumsq,
    GatedAdd,
}

/// A product over `samples` samples of `rows` rows each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gemm {
    pub source: Source,
    pub samples: usize,
    pub rows: usize,
    pub k: usize,
    pub o: usize,
    /// Elements of x in one sample.
    pub image: usize,
    /// Elements from one sample's packed weights to the next's; 0 if they share them.
    pub weights_step: usize,
    pub finish: Finish,
}

pub(super) fn task(step: &Step) -> Box<dyn Task> {
    let (x, y) = (&step.inputs[0].shape, &step.outputs[0].shape);
    let (k, o) = (*x.last().expect("checked: x has a rank"), *y.last().expect("checked: y has a rank"));
    let rows = step.outputs[0].count() / o;
    let all = Gemm::new(Source::Rows, 1, rows, k, o);
    // A single vector has no axis of samples.
    let per_sample = rows / y[0].min(rows);
    let gemm = match step.kernel {
        Kernel::Linear => all,
        Kernel::LinearGeluSumsq => Gemm { finish: Finish::GeluSumsq, ..Gemm::new(Source::Rows, y[0], per_sample, k, o) },
        Kernel::ScaleLinearGatedAdd => Gemm { finish: Finish::GatedAdd, ..Gemm::new(Source::Scaled, y[0], per_sample, k, o) },
        Kernel::Conv2d { kernel: [1, 1], stride: 1, pad: [0, 0, 0, 0] } => all,
        Kernel::Conv2d { kernel, stride, pad } => {
            let window = Window { height: x[1], width: x[2], channels: k, out_width: y[2], kernel, stride, top: pad[0], left: pad[1] };
            Gemm { image: x[1] * x[2] * k, ..Gemm::new(Source::Conv(window), y[0], per_sample, kernel[0] * kernel[1] * k, o) }
        }
        _ => unreachable!("`kernels::task` sends no other kernel here"),
    };
    Box::new(gemm)
}

/// Addresses of a product's operands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operands {
    pub x: *const f32,
    /// Factors of [`Source::Scaled`], or null.
    pub factors: *const f32,
    pub weights: *const f32,
    pub bias: *const f32,
    pub gate: *const f32,
    pub residual: *const f32,
    pub y: *mut f32,
}

impl Operands {
    /// Those of a product with nothing but a bias, which may be null.
    pub fn new(x: *const f32, weights: *const f32, bias: *const f32, y: *mut f32) -> Operands {
        let none = std::ptr::null();
        Operands { x, factors: none, weights, bias, gate: none, residual: none, y }
    }
}

impl Gemm {
    /// A product without epilogue over rows of `k` elements.
    pub fn new(source: Source, samples: usize, rows: usize, k: usize, o: usize) -> Gemm {
        Gemm { source, samples, rows, k, o, image: rows * k, weights_step: 0, finish: Finish::Store }
    }

    fn unit(&self) -> usize {
        if self.finish == Finish::GeluSumsq { SQUARES_UNIT } else { UNIT }
    }

    fn units_per_sample(&self) -> usize {
        self.rows.div_ceil(self.unit())
    }

    fn units(&self) -> usize {
        self.samples * self.units_per_sample()
    }

    pub fn panels(&self) -> usize {
        self.o.div_ceil(PANEL)
    }

    /// From one gathered row to the next: whole cache lines, and an odd number of them.
    fn row_step(&self) -> usize {
        (self.k.div_ceil(16) | 1) * 16
    }

    /// Rows of a gathered block, a multiple of the unit.
    fn block_rows(&self) -> usize {
        let most = self.units_per_sample() * self.unit();
        (BLOCK / self.k.max(1) / SQUARES_UNIT * SQUARES_UNIT).clamp(SQUARES_UNIT, 4 * SQUARES_UNIT).min(most)
    }

    /// f32 of a thread's own scratch: the gathered block and 32 columns of its product.
    pub fn own(&self) -> usize {
        self.block_rows() * (self.row_step() + PANEL)
    }

    /// Computes this thread's part of the product. For GELU with squares, `squares` takes `units() x o`.
    ///
    /// # Safety
    /// - The operands are valid for the product's extents, and y is written by this product alone.
    /// - `worker.own` has [`Gemm::own`] f32.
    pub unsafe fn multiply(&self, operands: &Operands, worker: &mut Worker<'_>) {
        let (unit, per_sample) = (self.unit(), self.units_per_sample());
        let grid = Grid::choose(self.units(), unit, self.panels(), worker.threads);
        let (units, panels) = grid.share(worker.thread, self.units(), self.panels());
        if panels.is_empty() {
            return;
        }
        let (gathered, product) = worker.own[..self.own()].split_at_mut(self.block_rows() * self.row_step());
        let mut next = units.start;
        while next < units.end {
            let (sample, u) = (next / per_sample, next % per_sample);
            let take = (units.end - next).min(per_sample - u).min(self.block_rows() / unit);
            let first = u * unit;
            let rows = (take * unit).min(self.rows - first);
            // SAFETY: rows first .. first + rows of the sample exist; the block holds them.
            unsafe { self.gather(worker.isa, operands, sample, first..first + rows, gathered) };
            let row = sample * self.rows + first;
            for panel in panels.clone() {
                // SAFETY: the panel exists; its columns of these rows are this thread's.
                unsafe {
                    let column = panel * PANEL;
                    let at = row * self.o + column;
                    let offset = |p: *const f32| if p.is_null() { p } else { p.add(column) };
                    let then = match self.finish {
                        Finish::Store => Then::Store,
                        Finish::GeluSumsq => {
                            let partial = next * self.o + column;
                            let end = partial + (take - 1) * self.o + 1;
                            Then::GeluSumsq { squares: worker.shared.address(partial..end), unit }
                        }
                        Finish::GatedAdd => Then::GatedAdd {
                            x: operands.residual.add(at),
                            gate: operands.gate.add(column),
                            row,
                            rows_per_sample: self.rows,
                        },
                    };
                    let block = Block {
                        y: operands.y.add(at),
                        width: self.o,
                        rows,
                        columns: PANEL.min(self.o - column),
                        bias: offset(operands.bias),
                        then,
                    };
                    let weights = operands.weights.add(sample * self.weights_step + column * self.k);
                    let left = Left { start: gathered.as_ptr(), row: self.row_step(), step: 1 };
                    panel_product(worker.isa, left, weights, self.k, product, &block);
                }
            }
            next += take;
        }
    }

    /// # Safety
    /// - As of [`Gemm::multiply`]; the rows exist in the sample and fit into `out`.
    unsafe fn gather(&self, isa: Isa, operands: &Operands, sample: usize, rows: std::ops::Range<usize>, out: &mut [f32]) {
        // SAFETY: the sample's elements of x.
        let x = unsafe { std::slice::from_raw_parts(operands.x.add(sample * self.image), self.image) };
        let k = self.k;
        for (r, out) in rows.zip(out.chunks_exact_mut(self.row_step())) {
            match &self.source {
                Source::Rows => out[..k].copy_from_slice(&x[r * k..(r + 1) * k]),
                Source::Scaled => {
                    // SAFETY: the sample's k factors; three slices of k elements.
                    unsafe {
                        let factors = std::slice::from_raw_parts(operands.factors.add(sample * k), k);
                        scale_row(isa, &x[r * k..(r + 1) * k], factors, &mut out[..k]);
                    }
                }
                Source::Conv(window) => window.row(x, r, out),
                Source::Adjoint(window) => window.adjoint_row(x, r, out),
            }
        }
    }

    /// Adds up the units' sums of squares, in order.
    ///
    /// # Safety
    /// - [`Gemm::multiply`] has ended on all threads; `ss` has room for `samples x o` and is written here alone.
    unsafe fn sum_squares(&self, worker: &Worker<'_>, ss: *mut f32) {
        // SAFETY: nobody writes the shared scratch in this phase.
        let partial = unsafe { worker.shared.read(0..self.units() * self.o) };
        for i in worker.part(self.samples * self.o) {
            let (sample, o) = (i / self.o, i % self.o);
            let units = (0..self.units_per_sample()).map(|u| partial[(sample * self.units_per_sample() + u) * self.o + o]);
            // SAFETY: element i of ss is this thread's.
            unsafe { *ss.add(i) = units.map(f64::from).sum::<f64>() as f32 };
        }
    }
}

variants! {
    /// One panel of the product of a block of rows, with its epilogue.
    ///
    /// # Safety
    /// - `a` and `weights` are valid for `block.rows` x `k` and `k` x 32; `product` holds `block.rows` x 32.
    /// - As of [`epilogue::finish_body`] for the block.
    unsafe fn panel_product(a: Left, weights: *const f32, k: usize, product: &mut [f32], block: &Block) =
        panel_product_body [scalar <4, 8>, avx2 <6, 2>, avx512 <12, 2>]
}

#[inline(always)]
unsafe fn panel_product_body<S: Simd, const R: usize, const V: usize>(
    s: S,
    a: Left,
    weights: *const f32,
    k: usize,
    product: &mut [f32],
    block: &Block,
) {
    product[..block.rows * PANEL].fill(0.0);
    // SAFETY: the caller's contract.
    unsafe {
        let product = product.as_mut_ptr();
        multiply_add_body::<S, R, V>(s, a, weights, k, block.rows, block.columns, product);
        finish_body(s, product, block);
    }
}

impl Task for Gemm {
    fn needs(&self, _threads: usize) -> Needs {
        match self.finish {
            Finish::GeluSumsq => Needs { phases: 2, own: self.own(), shared: self.units() * self.o },
            _ => Needs { phases: 1, own: self.own(), shared: 0 },
        }
    }

    unsafe fn run(&self, phase: usize, args: &Args, worker: &mut Worker<'_>) {
        if phase == 1 {
            // SAFETY: the task's contract; phase 0 has ended.
            return unsafe { self.sum_squares(worker, args.output(1)) };
        }
        let input = |i: usize| args.inputs[i].cast::<f32>();
        let plain = Operands::new(input(0), input(1), input(2), args.output(0));
        let operands = match self.finish {
            Finish::GatedAdd => {
                Operands { factors: input(1), weights: input(2), bias: input(3), gate: input(4), residual: input(5), ..plain }
            }
            _ => plain,
        };
        // SAFETY: the task's contract.
        unsafe { self.multiply(&operands, worker) }
    }
}
