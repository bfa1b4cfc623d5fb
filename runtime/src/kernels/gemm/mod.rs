//! Matrix products `y = epilogue(A W^T)` with weights in panels: linear layers, convolutions as implicit GEMM, and the two
//! fused products of a block. An input may come in two parts, which a concatenation would join.
//!
//! A unit of work is a block of rows or a group of columns, whichever the shape asks for ([`split`]). 32 columns of the
//! product at a time are finished in L1 and written. GRN's sums of squares are kept per [`UNIT`] of rows and added up in
//! order when all units are done.

pub(crate) mod destination;
pub(crate) mod epilogue;
#[cfg(test)]
mod half_tests;
pub(crate) mod micro;
mod pack;
pub(crate) mod panel;
mod product;
mod rows;
mod split;
#[cfg(test)]
mod tests;

use std::ops::Range;

use super::scratch::{addresses, row_step};
use super::{Args, Needs, Task, Worker};
use crate::plan::{Activation, Element, Epilogue, Kernel, PANEL, Rearrange, Step};
use crate::simd::Isa;
use destination::Destination;
use epilogue::{Block, Then};
use micro::{GROUP, Right};
pub use pack::{pack_pairs, pack_panels};
use panel::{WIDENED, Weights};
use product::{Product, finished_product};
use rows::{Images, round_row, scale_row};
pub(crate) use rows::{Taps, Window};
use split::{Extents, Order};

/// Rows of a unit: a whole number of tiles on every variant (4, 6 and 12 rows), and few enough that plain f32 sums of
/// squares over them are accurate. Units do not cross samples.
const UNIT: usize = 12;

/// Units of a block whose rows are copied or pass under all weights: 48 rows of 1536 are 288 KB.
const BLOCK_UNITS: usize = 4;

/// Elements of a block's rows that are aimed at where weights are widened for every block: 192 KB.
const WIDENED_BLOCK: usize = 48 * 1024;

/// Most units of a block that passes under one group of columns: 24 KB of product, three quarters of L1.
const COLUMN_UNITS: usize = 16;

/// Most inputs whose channels lie one behind the other in k.
const PARTS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    Store,
    /// Residual and activation of a convolution.
    Activate(Activation),
    GeluSumsq,
    GatedAdd,
}

/// A product over `samples` samples of `rows` rows each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gemm {
    pub taps: Taps,
    pub samples: usize,
    /// Rows of the product, and pixels of the input, per sample.
    pub rows: usize,
    pub pixels: usize,
    /// Elements of a pixel of each part of the input, 0 for a part that there is not; k is their sum for every tap.
    pub channels: [usize; PARTS],
    pub o: usize,
    pub destination: Destination,
    /// Input 1 scales the channels of the input, which has one part, by sample.
    pub scaled: bool,
    /// Elements from one sample's packed weights to the next's; 0 if they share them.
    pub weights_step: usize,
    pub finish: Finish,
    /// Which inputs of a step are the bias and, but for [`Finish::GatedAdd`], the residual.
    pub bias: Option<usize>,
    pub residual: Option<usize>,
    /// Of the packed weights.
    pub element: Element,
    /// Where the CPU multiplies pairs of bf16, the input is rounded to them.
    pub rounds: bool,
}

pub(super) fn task(step: &Step) -> Box<dyn Task> {
    let (x, y) = (&step.inputs[0].shape, &step.outputs[0].shape);
    let (k, o) = (*x.last().expect("checked: x has a rank"), *y.last().expect("checked: y has a rank"));
    let rows = step.outputs[0].count() / o;
    let all = Gemm::new(Taps::One, 1, rows, k, o);
    // A single vector has no axis of samples.
    let per_sample = rows / y[0].min(rows);
    let by_sample = Gemm::new(Taps::One, y[0], per_sample, k, o);
    let gemm = match step.kernel {
        Kernel::Linear => Gemm { bias: Some(2), ..all },
        Kernel::LinearGeluSumsq => Gemm { finish: Finish::GeluSumsq, bias: Some(2), ..by_sample },
        Kernel::ScaleLinearGatedAdd => Gemm { finish: Finish::GatedAdd, scaled: true, bias: Some(3), ..by_sample },
        Kernel::ConcatLinear => Gemm { channels: [k, *step.inputs[1].shape.last().expect("checked: as of x")], bias: Some(3), ..all },
        Kernel::Conv2d { kernel, stride, pad, upsample, epilogue, then } => {
            let window =
                Window { height: x[1], width: x[2], channels: k, out_width: 0, kernel, stride, top: pad[0], left: pad[1], upsample };
            let (bias, residual) = epilogue.operands(step.inputs.len());
            let finish = if epilogue == Epilogue::NONE { Finish::Store } else { Finish::Activate(epilogue.activation) };
            Gemm { bias, residual, finish, ..convolution(window, pad, then.source(image(y)).expect("checked"), then) }
        }
        _ => unreachable!("`kernels::task` sends no other kernel here"),
    };
    let element = step.inputs[step.kernel.packed_weights().expect("products have weights")].dtype;
    // A vector a sample is a condition.
    Box::new(Gemm { element, rounds: element == Element::BF16 && x.len() > 2, ..gemm })
}

fn image(shape: &[usize]) -> [usize; 4] {
    shape.try_into().expect("checked: images have four axes")
}

/// A convolution whose own output, not yet rearranged, has the extents `product`.
fn convolution(window: Window, pad: [usize; 4], product: [usize; 4], then: Rearrange) -> Gemm {
    let [n, out_height, out_width, o] = product;
    let (rows, k) = (out_height * out_width, window.channels);
    let destination = Destination::of(then, out_width, o);
    if window.kernel == [1, 1] && window.stride == 1 && window.upsample == 1 && pad == [0; 4] {
        return Gemm { destination, ..Gemm::new(Taps::One, 1, n * rows, k, o) };
    }
    let window = Window { out_width, ..window };
    Gemm { destination, pixels: window.pixels(), ..Gemm::new(Taps::Window(window), n, rows, k, o) }
}

/// Addresses of a product's operands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operands {
    /// The parts of the input; null where there is none.
    pub x: [*const f32; PARTS],
    /// Factors of a scaled input, or null.
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
        Operands { x: [x, none], factors: none, weights, bias, gate: none, residual: none, y }
    }
}

impl Gemm {
    /// A product without epilogue, whose input has one part and as many pixels as the product has rows.
    pub fn new(taps: Taps, samples: usize, rows: usize, channels: usize, o: usize) -> Gemm {
        let (channels, destination) = ([channels, 0], Destination::Rows { columns: o });
        Gemm {
            taps,
            samples,
            rows,
            pixels: rows,
            channels,
            o,
            destination,
            scaled: false,
            weights_step: 0,
            finish: Finish::Store,
            bias: None,
            residual: None,
            element: Element::F32,
            rounds: false,
        }
    }

    pub fn k(&self) -> usize {
        self.taps.count() * self.pixel()
    }

    /// Elements of an input pixel, all parts together.
    fn pixel(&self) -> usize {
        self.channels.iter().sum()
    }

    pub fn panels(&self) -> usize {
        self.o.div_ceil(PANEL)
    }

    fn units_per_sample(&self) -> usize {
        self.rows.div_ceil(UNIT)
    }

    fn units(&self) -> usize {
        self.samples * self.units_per_sample()
    }

    /// The rows of the product from unit `unit` on, counted over all samples, where it begins.
    fn first_row(&self, unit: usize) -> usize {
        unit / self.units_per_sample() * self.rows + unit % self.units_per_sample() * UNIT
    }

    /// Most units of a block under which all weights pass.
    fn block_units(&self) -> usize {
        let most = if self.widened() > 0 { WIDENED_BLOCK / (UNIT * self.k()).max(1) } else { 0 };
        most.clamp(BLOCK_UNITS, 2 * BLOCK_UNITS)
    }

    fn order(&self, threads: usize) -> Order {
        let groups = Extents::groups(self.o);
        let (rows, units) = (self.samples * self.rows, self.units());
        Order::choose(Extents { rows, units, unit: UNIT, groups, k: self.k(), block: BLOCK_UNITS * UNIT }, threads)
    }

    /// Whether this product multiplies pairs of bf16.
    fn pairs(&self, isa: Isa) -> bool {
        self.rounds && isa.bf16_pairs()
    }

    /// f32 of a panel.
    fn panel_step(&self) -> usize {
        self.taps.count() * Weights::new(self.element, false).offset(self.pixel())
    }

    /// f32 of a copied pixel, be they channels or pairs of them.
    fn copied_pixel(&self, pairs: bool) -> usize {
        if pairs { self.pixel().div_ceil(2) } else { self.pixel() }
    }

    /// From one copied pixel, which holds all parts, to the next.
    fn copy_step(&self, pairs: bool) -> usize {
        row_step(self.copied_pixel(pairs))
    }

    /// Whether the input is read from a copy: rounded, scaled, because pixels a multiple of 4 KB apart share cache sets, or
    /// because a pair of weights belongs to two parts.
    fn copies(&self, pairs: bool) -> bool {
        let straddles = self.element == Element::BF16 && self.channels[1] > 0 && self.channels[0] % 2 == 1;
        pairs || self.scaled || straddles || self.channels.iter().any(|&c| c > 0 && c.is_multiple_of(1024))
    }

    /// Whether a thread copies its blocks of rows on its own.
    fn copies_blocks(&self, pairs: bool) -> bool {
        self.taps == Taps::One && self.copies(pairs)
    }

    /// f32 of the copy that all threads share.
    fn shared_copy(&self, threads: usize, pairs: bool) -> usize {
        let shared = match self.order(threads) {
            Order::ColumnsFirst { .. } => true,
            Order::RowsFirst => pairs && self.taps != Taps::One,
        };
        if shared && self.copies(pairs) { self.samples * self.pixels * self.copy_step(pairs) } else { 0 }
    }

    /// f32 reserved for that copy, whichever the instruction set is.
    fn reserved_copy(&self, threads: usize) -> usize {
        self.shared_copy(threads, false).max(if self.rounds { self.shared_copy(threads, true) } else { 0 })
    }

    /// f32 of a thread's own scratch: addresses of rows, 32 columns of the product, a copied block.
    pub fn own(&self, threads: usize) -> usize {
        let pairs = !self.copies(false);
        let (rows, copied) = match self.order(threads) {
            Order::RowsFirst if self.copies_blocks(self.rounds) => (self.block_units() * UNIT, self.copy_step(pairs)),
            Order::RowsFirst => (self.block_units() * UNIT, 0),
            Order::ColumnsFirst { .. } => (COLUMN_UNITS * UNIT, 0),
        };
        self.widened() + rows * (2 + GROUP + copied)
    }

    /// f32 of own scratch, at its beginning, for weights that are widened.
    fn widened(&self) -> usize {
        if Weights::new(self.element, false).are_widened() { WIDENED } else { 0 }
    }

    /// The parts of the input, where they lie.
    fn parts(&self, operands: &Operands) -> [Images; PARTS] {
        std::array::from_fn(|part| self.images(operands.x[part], self.channels[part], self.channels[part]))
    }

    /// The input as a copy, in which the parts are one.
    fn copied(&self, copy: *const f32, pairs: bool) -> [Images; PARTS] {
        let joined = self.images(copy, self.copy_step(pairs), self.copied_pixel(pairs));
        [joined, Images { channels: 0, ..joined }]
    }

    fn images(&self, start: *const f32, step: usize, channels: usize) -> Images {
        Images { start, step, channels, pixels: self.pixels, rows: self.rows, taps: self.taps }
    }

    /// Computes this thread's part of the product. For GELU with squares, `squares` takes `units() x o`.
    ///
    /// # Safety
    /// - The operands are valid for the product's extents, and y is written by this product alone.
    /// - `worker.own` has [`Gemm::own`] f32; `copy`, if there is one, is the whole input, copied.
    pub unsafe fn multiply(&self, operands: &Operands, copy: Option<*const f32>, squares: *mut f32, worker: &mut Worker<'_>) {
        let groups = Extents::groups(self.o);
        let pairs = self.pairs(worker.isa);
        let images = copy.map_or_else(|| self.parts(operands), |copy| self.copied(copy, pairs));
        match self.order(worker.threads) {
            Order::RowsFirst => {
                while let Some(units) = worker.claim(self.units(), self.block_units()) {
                    for block in self.blocks(units, self.block_units()) {
                        // SAFETY: the caller's contract; these rows are this thread's.
                        unsafe {
                            let images = if self.copies_blocks(pairs) { self.copy_block(operands, &block, worker) } else { images };
                            for group in 0..groups {
                                self.multiply_block(operands, images, squares, &block, group, worker);
                            }
                        }
                    }
                }
            }
            Order::ColumnsFirst { parts } => {
                while let Some(parts_of_groups) = worker.claim(parts * groups, groups) {
                    for unit in parts_of_groups {
                        let part = super::part(self.units(), unit / groups, parts);
                        for block in self.blocks(part, COLUMN_UNITS) {
                            // SAFETY: the caller's contract; these columns of these rows are this thread's.
                            unsafe { self.multiply_block(operands, images, squares, &block, unit % groups, worker) };
                        }
                    }
                }
            }
        }
    }

    /// Cuts units into blocks of nearly equal size, of at most `most` units, and inside of one sample where every sample
    /// has weights of its own.
    fn blocks(&self, units: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (per_sample, apart) = (self.units_per_sample(), self.weights_step != 0);
        let mut next = units.start;
        std::iter::from_fn(move || {
            if next == units.end {
                return None;
            }
            let left = if apart { (units.end - next).min(per_sample - next % per_sample) } else { units.end - next };
            let take = left.div_ceil(left.div_ceil(most));
            next += take;
            Some(next - take..next)
        })
    }

    /// Copies the block's rows into own scratch, scaled if need be; for products with one tap.
    ///
    /// # Safety
    /// - As of [`Gemm::multiply`].
    unsafe fn copy_block(&self, operands: &Operands, block: &Range<usize>, worker: &mut Worker<'_>) -> [Images; PARTS] {
        let rows = self.first_row(block.start)..self.first_row(block.end);
        let at = self.widened() + self.block_units() * UNIT * (2 + GROUP);
        let step = self.copy_step(self.pairs(worker.isa));
        let copy = &mut worker.own[at..at + rows.len() * step];
        for (r, out) in rows.clone().zip(copy.chunks_exact_mut(step)) {
            // SAFETY: row r exists.
            unsafe { self.copy_pixel(worker.isa, operands, r, out) };
        }
        // Rows are counted from the first of all.
        self.copied(copy.as_ptr().wrapping_sub(rows.start * step), self.pairs(worker.isa))
    }

    /// # Safety
    /// - The pixel exists.
    unsafe fn copy_pixel(&self, isa: Isa, operands: &Operands, pixel: usize, out: &mut [f32]) {
        let mut before = 0;
        for (x, &c) in operands.x.iter().zip(self.channels.iter().filter(|&&c| c > 0)) {
            // SAFETY: the pixel's channels, and the sample's factors; an f32 holds two bf16.
            unsafe {
                let x = std::slice::from_raw_parts(x.add(pixel * c), c);
                let of_sample = |factors: *const f32| std::slice::from_raw_parts(factors.add(pixel / self.pixels * c), c);
                let factors = if self.scaled { of_sample(operands.factors) } else { &[] };
                if self.pairs(isa) {
                    let out = std::slice::from_raw_parts_mut(out.as_mut_ptr().cast::<u16>(), self.pixel().next_multiple_of(2));
                    round_row(isa, x, factors, &mut out[before..]);
                } else if self.scaled {
                    scale_row(isa, x, factors, &mut out[before..before + c]);
                } else {
                    out[before..before + c].copy_from_slice(x);
                }
            }
            before += c;
        }
    }

    /// # Safety
    /// - As of [`Gemm::multiply`].
    unsafe fn multiply_block(
        &self,
        operands: &Operands,
        images: [Images; PARTS],
        squares: *mut f32,
        block: &Range<usize>,
        group: usize,
        worker: &mut Worker<'_>,
    ) {
        let (column, panel_step) = (group * GROUP, self.panel_step());
        let rows = self.first_row(block.start)..self.first_row(block.end);
        let (widened, rest) = worker.own.split_at_mut(self.widened());
        let (product, table) = rest.split_at_mut(rows.len() * GROUP);
        let table = addresses(table, rows.len());
        // SAFETY: the group exists; its columns of these rows are this thread's.
        unsafe {
            let sample = rows.start / self.rows;
            let start = operands.weights.add(sample * self.weights_step + column / PANEL * panel_step);
            let panels = (self.panels() - column / PANEL).min(2);
            let (right, after) = (Right { start, panel_step, panels }, start.wrapping_add(panels * panel_step));
            let of_unit = |unit: usize| {
                let rows = self.first_row(unit)..self.first_row(unit + 1);
                let then = match self.finish {
                    Finish::Store => Then::Store,
                    Finish::Activate(activation) => Then::Activate { residual: operands.residual, activation },
                    Finish::GeluSumsq => Then::GeluSumsq { squares: squares.add(unit * self.o + column) },
                    Finish::GatedAdd => {
                        let gate = operands.gate.add(rows.start / self.rows * self.o + column);
                        Then::GatedAdd { x: operands.residual, gate }
                    }
                };
                let bias = if operands.bias.is_null() { operands.bias } else { operands.bias.add(column) };
                let columns = GROUP.min(self.o - column);
                Block { y: operands.y, destination: self.destination, row: rows.start, rows: rows.len(), column, columns, bias, then }
            };
            let weights = Weights::new(self.element, self.pairs(worker.isa));
            let product = Product { images, first: rows.start, weights, right, after, widened, table, sums: product };
            finished_product(worker.isa, product, block.clone(), &of_unit);
        }
    }

    /// Adds up the units' sums of squares, in order.
    ///
    /// # Safety
    /// - [`Gemm::multiply`] has ended on all threads; `ss` has room for `samples x o` and is written here alone.
    unsafe fn sum_squares(&self, partial: &[f32], worker: &Worker<'_>, ss: *mut f32) {
        for i in worker.units(self.samples * self.o) {
            let (sample, o) = (i / self.o, i % self.o);
            let units = (0..self.units_per_sample()).map(|u| partial[(sample * self.units_per_sample() + u) * self.o + o]);
            // SAFETY: element i of ss is this thread's.
            unsafe { *ss.add(i) = units.map(f64::from).sum::<f64>() as f32 };
        }
    }
}

impl Task for Gemm {
    fn needs(&self, threads: usize) -> Needs {
        let (copy, squares) = (self.reserved_copy(threads), self.finish == Finish::GeluSumsq);
        let phases = 1 + usize::from(copy > 0) + usize::from(squares);
        Needs { phases, own: self.own(threads), shared: copy + if squares { self.units() * self.o } else { 0 } }
    }

    unsafe fn run(&self, phase: usize, args: &Args, worker: &mut Worker<'_>) {
        let input = |i: usize| args.inputs[i].cast::<f32>();
        let optional = |i: Option<usize>| i.map_or(std::ptr::null(), input);
        let plain =
            Operands { residual: optional(self.residual), ..Operands::new(input(0), input(1), optional(self.bias), args.output(0)) };
        let operands = match self.finish {
            Finish::GatedAdd => Operands { factors: input(1), weights: input(2), gate: input(4), residual: input(5), ..plain },
            _ if self.channels[1] > 0 => Operands { x: [input(0), input(1)], weights: input(2), ..plain },
            _ => plain,
        };
        let pairs = self.pairs(worker.isa);
        let (copy, copied) = (self.reserved_copy(worker.threads), self.shared_copy(worker.threads, pairs));
        if copy > 0 && phase == 0 {
            let (pixels, step) = (if copied > 0 { self.samples * self.pixels } else { 0 }, self.copy_step(pairs));
            for pixel in worker.units(pixels) {
                // SAFETY: the pixel exists; its copy is this thread's.
                unsafe {
                    let out = worker.shared.write(pixel * step..(pixel + 1) * step);
                    self.copy_pixel(worker.isa, &operands, pixel, out);
                }
            }
            return;
        }
        let squares = if self.finish == Finish::GeluSumsq { copy..copy + self.units() * self.o } else { 0..0 };
        if phase == usize::from(copy > 0) {
            let whole = (copied > 0).then(|| worker.shared.address(0..copied).cast_const());
            // SAFETY: the task's contract; the phase before has copied the input.
            return unsafe { self.multiply(&operands, whole, worker.shared.address(squares), worker) };
        }
        // SAFETY: the task's contract; the phase before has written the sums, and nobody writes them now.
        unsafe { self.sum_squares(worker.shared.read(squares), worker, args.output(1)) }
    }
}
