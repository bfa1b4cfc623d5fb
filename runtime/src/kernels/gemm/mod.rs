//! Matrix products `y = epilogue(A W^T)` with weights in panels: linear layers, convolutions as implicit GEMM, and the two
//! fused products of a block. An input may come in two parts, which a concatenation would join.
//!
//! A unit of work is a block of rows or a group of columns, whichever the shape asks for ([`split`]). 32 columns of the
//! product at a time are finished in L1 and written. GRN's sums of squares are kept per [`UNIT`] of rows and added up in
//! order when all units are done.

#[cfg(test)]
mod code_tests;
pub(super) mod codes;
pub(crate) mod destination;
pub(crate) mod epilogue;
mod line;
pub(crate) mod micro;
mod product;
mod rows;
mod split;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod widened_tests;

use std::ops::Range;

use super::product::{Inputs, Left, Product};
use super::scratch::{addresses, row_step};
use super::{Args, Epilogue, Needs, Task, Window, Worker};
use crate::encoding::{Encoding, Matrix, Parts};
use crate::plan::{Form, Operand, PANEL};
use crate::simd::Isa;
use codes::{CodeGroup, CodeLayout, CodeRow, FinishedCodes, LINES, RANGE, code_row, finished_codes, words};
use destination::Destination;
use epilogue::Block;
use micro::GROUP;
use product::{FinishedProduct, Group, WIDENED, finished_pairs, finished_product};
pub(crate) use rows::{ImageWindow, Taps};
use rows::{Images, RoundRow, ScaleRow, round_row, scale_row};
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

/// A product over `samples` samples of `rows` rows each.
#[derive(Clone, Copy)]
pub(super) struct Gemm {
    taps: Taps,
    pub samples: usize,
    /// Rows of the product, and pixels of the input, per sample.
    rows: usize,
    pixels: usize,
    /// Elements of a pixel of each part of the input, 0 for a part that there is not; k is their sum for every tap.
    channels: [usize; PARTS],
    pub o: usize,
    destination: Destination,
    epilogue: Epilogue,
    encoding: Encoding,
    /// f32 from one sample's weights to the next's; 0 if they share them.
    pub weights_step: usize,
    inputs: Inputs,
    /// How rows are copied, and how they are multiplied.
    left: LeftRows,
    run: Run,
}

/// What multiplies a group of columns.
#[derive(Clone, Copy)]
enum Run {
    Floats(FinishedProduct),
    Codes(FinishedCodes),
}

/// Rows of the left factor, once they are copied.
#[derive(Clone, Copy)]
enum LeftRows {
    /// f32, scaled if need be.
    F32(ScaleRow),
    /// Pairs of bf16, scaled before they are rounded.
    Bf16Pairs(RoundRow),
    /// Codes, scaled before they are rounded; as many words of four channels.
    Codes(CodeRow, CodeLayout),
}

fn image(shape: &[usize]) -> [usize; 4] {
    shape.try_into().expect("checked: images have four axes")
}

/// Addresses of a product's operands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operands {
    /// The parts of the input; null where there is none.
    pub x: [*const f32; PARTS],
    /// Factors of a scaled input, or null.
    pub factors: *const f32,
    pub weights: Parts,
    pub bias: *const f32,
    pub gate: *const f32,
    pub residual: *const f32,
    pub y: *mut f32,
}

impl Gemm {
    /// Of a step of the kernel, by the direct algorithm.
    pub fn of(product: &Product, x: &[Operand], y: &[Operand], isa: Isa) -> Gemm {
        let inputs = Inputs::of(product, x.len());
        let (k, o) = (*x[0].shape.last().expect("checked: x has an axis"), *y[0].shape.last().expect("checked: y has an axis"));
        let gemm = match product.window {
            Some(window) => Gemm::convolution(window, image(&x[0].shape), image(&y[0].shape), product, isa),
            None if product.by_sample() => {
                let n = x[0].shape[0];
                Gemm::new(Taps::One, n, y[0].count() / o / n, k, o, isa)
            }
            None => Gemm::new(Taps::One, 1, y[0].count() / o, k, o, isa),
        };
        let Form::Encoded(encoding) = x[inputs.weights].form else { unreachable!("checked: the weights are encoded") };
        let (left, run) = match product.left {
            Left::Bf16 if encoding == Encoding::Bf16 => match finished_pairs(isa) {
                Some(run) => (LeftRows::Bf16Pairs(round_row(isa)), Run::Floats(run)),
                None => (gemm.left, gemm.run),
            },
            left => match left.most_code() {
                Some(most) => {
                    // SAFETY: it asks for nothing.
                    let layout = CodeLayout { most, words: unsafe { words(isa)(most) } };
                    (LeftRows::Codes(code_row(isa), layout), Run::Codes(finished_codes(isa)))
                }
                None => (gemm.left, gemm.run),
            },
        };
        let channels = [k, if product.concat { *x[1].shape.last().expect("checked: both parts have an axis") } else { 0 }];
        Gemm { channels, epilogue: product.epilogue, encoding, inputs, left, run, ..gemm }
    }

    /// A convolution of the image `x` whose result, rearranged, is `y`.
    fn convolution(window: Window, x: [usize; 4], y: [usize; 4], product: &Product, isa: Isa) -> Gemm {
        let [n, out_height, out_width, o] = product.rearrange.source(y).expect("checked: y is an image after that");
        let (rows, [_, height, width, channels]) = (out_height * out_width, x);
        let destination = Destination::of(product.rearrange, out_width, o);
        let Window { kernel, stride, pad, upsample } = window;
        if window == Window::square(1) && !product.by_sample() {
            return Gemm { destination, ..Gemm::new(Taps::One, 1, n * rows, channels, o, isa) };
        }
        let seen = ImageWindow { height, width, channels, out_width, kernel, stride, top: pad[0], left: pad[1], upsample };
        Gemm { destination, pixels: seen.pixels(), ..Gemm::new(Taps::Window(seen), n, rows, channels, o, isa) }
    }

    /// A product of f32 without epilogue, whose input has one part and as many pixels as the product has rows.
    pub fn new(taps: Taps, samples: usize, rows: usize, channels: usize, o: usize, isa: Isa) -> Gemm {
        let (channels, destination) = ([channels, 0], Destination::Rows { columns: o });
        Gemm {
            taps,
            samples,
            rows,
            pixels: rows,
            channels,
            o,
            destination,
            epilogue: Epilogue::NONE,
            encoding: Encoding::F32,
            weights_step: 0,
            inputs: Inputs::default(),
            left: LeftRows::F32(scale_row(isa)),
            run: Run::Floats(finished_product(isa)),
        }
    }

    /// The same of images that have so many pixels.
    pub fn of_pixels(self, pixels: usize) -> Gemm {
        Gemm { pixels, ..self }
    }

    /// The same with weights for every sample, so many f32 apart.
    pub fn with_weights_apart(self, weights_step: usize) -> Gemm {
        Gemm { weights_step, ..self }
    }

    /// Operands of a product with nothing but lines of f32 and a bias, which may be null.
    pub fn operands(&self, x: *const f32, weights: *const f32, bias: *const f32, y: *mut f32) -> Operands {
        let none = std::ptr::null();
        let weights = Parts::lines_of_f32(self.matrix(), weights);
        Operands { x: [x, none], factors: none, weights, bias, gate: none, residual: none, y }
    }

    /// Extents of the weights. Parts whose codes have ranges of their own are as taps.
    fn matrix(&self) -> Matrix {
        if self.codes().is_some() && self.channels[1] > 0 {
            return Matrix { rows: self.o, taps: PARTS, channels: self.channels[0] };
        }
        Matrix { rows: self.o, taps: self.taps.count(), channels: self.pixel() }
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

    fn scaled(&self) -> bool {
        self.inputs.factors.is_some()
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
        let row = self.taps.count() * self.copied_pixel();
        let most = if self.widened() > 0 { WIDENED_BLOCK / (UNIT * row).max(1) } else { 0 };
        most.clamp(BLOCK_UNITS, 2 * BLOCK_UNITS)
    }

    fn order(&self, threads: usize) -> Order {
        let groups = Extents::groups(self.o);
        let (rows, units) = (self.samples * self.rows, self.units());
        Order::choose(Extents { rows, units, unit: UNIT, groups, k: self.k(), block: BLOCK_UNITS * UNIT }, threads)
    }

    /// Whether this product multiplies pairs of bf16.
    fn pairs(&self) -> bool {
        matches!(self.left, LeftRows::Bf16Pairs(_))
    }

    /// The layout of codes, if this product multiplies them.
    fn codes(&self) -> Option<CodeLayout> {
        if let LeftRows::Codes(_, layout) = self.left { Some(layout) } else { None }
    }

    /// Whether rows are rounded, which is done once for all that see them.
    fn rounds(&self) -> bool {
        !matches!(self.left, LeftRows::F32(_))
    }

    /// f32 of a copied pixel, be they channels, pairs of them, or codes with their ranges.
    fn copied_pixel(&self) -> usize {
        match self.left {
            LeftRows::F32(_) => self.pixel(),
            LeftRows::Bf16Pairs(_) => self.pixel().div_ceil(2),
            LeftRows::Codes(_, layout) => self.sources().map(|c| layout.row(c)).sum(),
        }
    }

    /// Channels of the parts that there are.
    fn sources(&self) -> impl Iterator<Item = usize> + use<> {
        self.channels.into_iter().filter(|&c| c > 0)
    }

    /// Segments of a product of codes; 0 of any other.
    fn segments(&self) -> usize {
        if self.codes().is_some() { self.taps.count() * self.sources().count() } else { 0 }
    }

    /// From one copied pixel, which holds all parts, to the next.
    fn copy_step(&self) -> usize {
        row_step(self.copied_pixel())
    }

    /// Whether the input is read from a copy: rounded, scaled, because pixels a multiple of 4 KB apart share cache sets, or
    /// because weights that are neighbours in a line belong to two parts.
    fn copies(&self) -> bool {
        let straddles = self.channels[1] > 0 && !self.channels[0].is_multiple_of(self.encoding.together());
        self.rounds() || self.scaled() || straddles || self.channels.iter().any(|&c| c > 0 && c.is_multiple_of(1024))
    }

    /// Whether a thread copies its blocks of rows on its own.
    fn copies_blocks(&self) -> bool {
        self.taps == Taps::One && self.copies()
    }

    /// f32 of the copy that all threads share.
    fn shared_copy(&self, threads: usize) -> usize {
        let shared = match self.order(threads) {
            Order::ColumnsFirst { .. } => true,
            Order::RowsFirst => self.rounds() && self.taps != Taps::One,
        };
        if shared && self.copies() { self.samples * self.pixels * self.copy_step() } else { 0 }
    }

    /// f32 of a thread's own scratch: addresses of rows, 32 columns of the product, a copied block.
    pub fn own(&self, threads: usize) -> usize {
        let (rows, copied) = match self.order(threads) {
            Order::RowsFirst => (self.block_units() * UNIT, if self.copies_blocks() { self.copy_step() } else { 0 }),
            Order::ColumnsFirst { .. } => (COLUMN_UNITS * UNIT, 0),
        };
        self.widened() + rows * (self.beside() + GROUP + copied)
    }

    /// f32 of own scratch for a row of the product beside its sums: an address, and with codes a range and sums of other segments.
    fn beside(&self) -> usize {
        2 + match self.segments() {
            0 => 0,
            1 => RANGE,
            _ => RANGE + GROUP,
        }
    }

    /// f32 of own scratch, at its beginning, for weights that are widened.
    fn widened(&self) -> usize {
        match self.codes() {
            Some(layout) if layout.words == 1 && self.encoding.has_quads() => 0,
            Some(_) => LINES,
            None if self.encoding.has_lines_of_f32() || self.pairs() => 0,
            None => WIDENED,
        }
    }

    /// The parts of the input, where they lie.
    fn parts(&self, operands: &Operands) -> [Images; PARTS] {
        std::array::from_fn(|part| self.images(operands.x[part], self.channels[part], self.channels[part]))
    }

    /// The input as a copy, in which the parts are one, but for codes, whose ranges differ.
    fn copied(&self, copy: *const f32) -> [Images; PARTS] {
        if let Some(layout) = self.codes() {
            let second = copy.wrapping_add(layout.row(self.channels[0]));
            let part = |at: *const f32, channels: usize| self.images(at, self.copy_step(), layout.depth(channels));
            return [part(copy, self.channels[0]), part(second, self.channels[1])];
        }
        let joined = self.images(copy, self.copy_step(), self.copied_pixel());
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
        let images = copy.map_or_else(|| self.parts(operands), |copy| self.copied(copy));
        match self.order(worker.threads) {
            Order::RowsFirst => {
                while let Some(units) = worker.claim(self.units(), self.block_units()) {
                    for block in self.blocks(units, self.block_units()) {
                        // SAFETY: the caller's contract; these rows are this thread's.
                        unsafe {
                            let images = if self.copies_blocks() { self.copy_block(operands, &block, worker) } else { images };
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
        let at = self.widened() + self.block_units() * UNIT * (self.beside() + GROUP);
        let step = self.copy_step();
        let copy = &mut worker.own[at..at + rows.len() * step];
        for (r, out) in rows.clone().zip(copy.chunks_exact_mut(step)) {
            // SAFETY: row r exists.
            unsafe { self.copy_pixel(operands, r, out) };
        }
        // Rows are counted from the first of all.
        self.copied(copy.as_ptr().wrapping_sub(rows.start * step))
    }

    /// # Safety
    /// - The pixel exists.
    unsafe fn copy_pixel(&self, operands: &Operands, pixel: usize, out: &mut [f32]) {
        let mut before = 0;
        for (x, &c) in operands.x.iter().zip(self.channels.iter().filter(|&&c| c > 0)) {
            // SAFETY: the pixel's channels, and the sample's factors; an f32 holds two bf16.
            unsafe {
                let x = std::slice::from_raw_parts(x.add(pixel * c), c);
                let of_sample = |factors: *const f32| std::slice::from_raw_parts(factors.add(pixel / self.pixels * c), c);
                let factors = if self.scaled() { of_sample(operands.factors) } else { &[] };
                match self.left {
                    LeftRows::Bf16Pairs(round_row) => {
                        let out = std::slice::from_raw_parts_mut(out.as_mut_ptr().cast::<u16>(), self.pixel().next_multiple_of(2));
                        round_row(x, factors, &mut out[before..]);
                    }
                    LeftRows::Codes(code_row, layout) => {
                        let row = layout.row(c);
                        code_row(x, factors, &mut out[before..before + row], layout.most);
                        before += row;
                        continue;
                    }
                    LeftRows::F32(scale_row) if self.scaled() => scale_row(x, factors, &mut out[before..before + c]),
                    LeftRows::F32(_) => out[before..before + c].copy_from_slice(x),
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
        let (panel, column) = (group * (GROUP / PANEL), group * GROUP);
        let rows = self.first_row(block.start)..self.first_row(block.end);
        let (widened, rest) = worker.own.split_at_mut(self.widened());
        let (product, rest) = rest.split_at_mut(rows.len() * GROUP);
        let (table, rest) = rest.split_at_mut(2 * rows.len());
        let table = addresses(table, rows.len());
        let sample = rows.start / self.rows;
        let mut weights = operands.weights;
        weights.addresses[0] = weights.addresses[0].wrapping_add(sample * self.weights_step * size_of::<f32>());
        let panels = (self.panels() - panel).min(GROUP / PANEL);
        let of_unit = |unit: usize| {
            let rows = self.first_row(unit)..self.first_row(unit + 1);
            let given = |address: *const f32, at: usize| if address.is_null() { address } else { address.wrapping_add(at) };
            Block {
                y: operands.y,
                destination: self.destination,
                row: rows.start,
                rows: rows.len(),
                column,
                columns: GROUP.min(self.o - column),
                bias: given(operands.bias, column),
                epilogue: self.epilogue,
                residual: operands.residual,
                gate: given(operands.gate, rows.start / self.rows * self.o + column),
                squares: squares.wrapping_add(unit * self.o + column),
            }
        };
        let product = Group { images, first: rows.start, weights, panel, panels, widened, table, sums: product };
        // SAFETY: the group exists; its columns of these rows are this thread's.
        unsafe {
            match self.run {
                Run::Floats(run) => run(product, block.clone(), &of_unit),
                Run::Codes(run) => {
                    let (range, rest) = rest.split_at_mut(rows.len() * RANGE);
                    let before = &mut rest[..if self.segments() > 1 { rows.len() * GROUP } else { 0 }];
                    let layout = self.codes().expect("it multiplies codes");
                    let codes =
                        CodeGroup { group: product, ranges: self.channels.map(|c| layout.range(c)), range, before, most: layout.most };
                    run(codes, block.clone(), &of_unit);
                }
            }
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
        let (copy, squares) = (self.shared_copy(threads), self.epilogue == Epilogue::GeluSumsq);
        let phases = 1 + usize::from(copy > 0) + usize::from(squares);
        Needs { phases, own: self.own(threads), shared: copy + if squares { self.units() * self.o } else { 0 } }
    }

    unsafe fn run(&self, phase: usize, args: &Args, worker: &mut Worker<'_>) {
        let Inputs { weights, factors, bias, gate, residual } = self.inputs;
        let second = (self.channels[1] > 0).then_some(1);
        let operands = Operands {
            x: [args.given(Some(0)), args.given(second)],
            factors: args.given(factors),
            weights: Parts { encoding: self.encoding, matrix: self.matrix(), addresses: args.inputs[weights] },
            bias: args.given(bias),
            gate: args.given(gate),
            residual: args.given(residual),
            y: args.output(0),
        };
        let copy = self.shared_copy(worker.threads);
        if copy > 0 && phase == 0 {
            let step = self.copy_step();
            for pixel in worker.units(self.samples * self.pixels) {
                // SAFETY: the pixel exists; its copy is this thread's.
                unsafe { self.copy_pixel(&operands, pixel, worker.shared.write(pixel * step..(pixel + 1) * step)) };
            }
            return;
        }
        let squares = if self.epilogue == Epilogue::GeluSumsq { copy..copy + self.units() * self.o } else { 0..0 };
        if phase == usize::from(copy > 0) {
            let whole = (copy > 0).then(|| worker.shared.address(0..copy).cast_const());
            // SAFETY: the task's contract; the phase before has copied the input.
            return unsafe { self.multiply(&operands, whole, worker.shared.address(squares), worker) };
        }
        // SAFETY: the task's contract; the phase before has written the sums, and nobody writes them now.
        unsafe { self.sum_squares(worker.shared.read(squares), worker, args.output(1)) }
    }
}
