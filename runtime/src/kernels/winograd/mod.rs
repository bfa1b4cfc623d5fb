//! 3x3 convolutions of stride 1 by Winograd's F(4x4, 3x3): the image is cut into tiles of 4x4 outputs, which see 6x6
//! pixels each, and the convolution becomes 36 products `[tiles, I] x [I, O]`, one for each point (see
//! [`transform`]), with a quarter of the multiplications. Weights come as every convolution's do, and are transformed where
//! they are used: stored so they would be four times as many, and reading these takes about as long.
//!
//! Tiles are taken in batches, whose transformed pixels V are kept in shared scratch and stay in the outer cache. A
//! batch takes two phases. First every tile is transformed. Then, for two panels of 16 output channels and a block of
//! tiles, the panels are transformed into a thread's own scratch, U, the 36 products are made side by side and
//! transformed back while they are in its cache. Panels come first in the order of units, so that each one's weights leave
//! memory once a batch, and are transformed once a batch and thread.
//!
//! Every tile and every panel are computed alike wherever batches and blocks begin.

#[cfg(test)]
mod tests;
mod transform;

use std::ops::Range;

use super::gemm::destination::Destination;
use super::gemm::micro::{Ahead, GROUP, Left, MultiplyAdd, Right, multiply_add, stretches};
use super::product::{Inputs, Product};
use super::scratch::{addresses, row_step};
use super::{Activation, Args, Epilogue, Needs, Task, Worker};
use crate::encoding::{At, Encoding, Matrix, Parts};
use crate::plan::{Form, Operand, PANEL};
use crate::simd::Isa;
use transform::{EDGE, InputTile, KernelPanel, OutputTile, Outputs, POINTS, Pixels, STEP, TAPS, input_tile, kernel_panel, output_tile};

/// Elements of a batch's V that are aimed at: 8 MB, of an outer cache of 16 MB or more.
const BATCH: usize = 1 << 21;

/// Tiles of a batch, whatever they take: with fewer, reading the weights once more costs more than V's detour over
/// memory.
const LEAST_BATCH: usize = 64;

/// Most tiles of a block: their products of two panels are 330 KB, of an inner cache of 512 KB or more.
const BLOCK: usize = 72;

/// Least tiles of a block: U comes from the outer cache for every block.
const LEAST_BLOCK: usize = 24;

/// Units of a batch that are aimed at, so that threads have equal shares of them.
const UNITS: usize = 16;

/// Batches and blocks are a multiple of these tiles: rows of the product's tiles on every variant.
const ROWS: usize = 12;

/// Channels of a unit of the first phase.
const CHANNELS: usize = 256;

#[derive(Clone, Copy)]
struct Winograd {
    samples: usize,
    height: usize,
    width: usize,
    channels: usize,
    out_height: usize,
    out_width: usize,
    out_channels: usize,
    top: usize,
    left: usize,
    upsample: usize,
    inputs: Inputs,
    activation: Activation,
    destination: Destination,
    encoding: Encoding,
    kernel_panel: KernelPanel,
    input_tile: InputTile,
    output_tile: OutputTile,
    multiply_add: MultiplyAdd,
}

/// Panels and input channels whose U is in own scratch at a time.
struct Part {
    group: usize,
    channels: Range<usize>,
}

/// Of a step of the kernel, a convolution 3x3.
pub(super) fn task(product: &Product, x: &[Operand], y: &[Operand], isa: Isa) -> Box<dyn Task> {
    let inputs = Inputs::of(product, x.len());
    let window = product.window.expect("checked: it is a convolution");
    let (Epilogue::Activate { activation, .. }, Form::Encoded(encoding)) = (product.epilogue, x[inputs.weights].form) else {
        unreachable!("checked: an epilogue without other results, and encoded weights")
    };
    let y = y[0].shape.as_slice().try_into().ok().and_then(|y| product.rearrange.source(y)).expect("checked: y is an image after that");
    let x = &x[0].shape;
    Box::new(Winograd {
        samples: y[0],
        height: x[1],
        width: x[2],
        channels: x[3],
        out_height: y[1],
        out_width: y[2],
        out_channels: y[3],
        top: window.pad[0],
        left: window.pad[1],
        upsample: window.upsample,
        inputs,
        activation,
        destination: Destination::of(product.rearrange, y[2], y[3]),
        encoding,
        kernel_panel: kernel_panel(isa),
        input_tile: input_tile(isa),
        output_tile: output_tile(isa),
        multiply_add: multiply_add(isa),
    })
}

/// The least number of equal parts of at most `most` of `total` gives parts of this size, up to whole [`ROWS`].
fn even(total: usize, most: usize) -> usize {
    total.div_ceil(total.div_ceil(most)).next_multiple_of(ROWS).min(total)
}

impl Winograd {
    fn tiles(&self) -> usize {
        self.samples * self.out_height.div_ceil(STEP) * self.out_width.div_ceil(STEP)
    }

    /// Pairs of panels, whose products are made together.
    fn column_groups(&self) -> usize {
        self.out_channels.div_ceil(GROUP)
    }

    /// Elements from a tile's row of V to the next.
    fn row_step(&self) -> usize {
        row_step(self.channels)
    }

    /// Tiles of a batch.
    fn batch(&self) -> usize {
        even(self.tiles(), (BATCH / (POINTS * self.row_step())).max(LEAST_BATCH))
    }

    fn batches(&self) -> usize {
        self.tiles().div_ceil(self.batch())
    }

    /// Tiles of a block.
    fn block(&self) -> usize {
        let batch = self.batch();
        even(batch, (batch * self.column_groups() / UNITS).clamp(LEAST_BLOCK, BLOCK))
    }

    /// Elements from a point's part of V to the next: again an odd number of cache lines.
    fn v_step(&self) -> usize {
        (self.batch() | 1) * self.row_step()
    }

    /// Elements from a point's products to the next one's: an odd number of half lines, of which the last is read but not used.
    fn m_step(&self) -> usize {
        self.block() * GROUP + 16
    }

    /// Input channels whose U is made at a time: all, where several blocks of tiles use it; else as many as a product takes in
    /// one go, so that U stays near.
    fn depth(&self) -> usize {
        if self.batch() > self.block() { self.channels } else { stretches(self.channels).next().map_or(0, |first| first.len()) }
    }

    /// Elements from a point's part of U, which is two panels, to the next, an odd number of cache lines.
    fn u_step(&self) -> usize {
        row_step(GROUP * self.depth())
    }

    /// Sample, row and column of a tile's first output.
    fn place(&self, tile: usize) -> (usize, usize, usize) {
        let (rows, columns) = (self.out_height.div_ceil(STEP), self.out_width.div_ceil(STEP));
        (tile / columns / rows, tile / columns % rows * STEP, tile % columns * STEP)
    }

    /// # Safety
    /// - `x` is the input.
    unsafe fn pixels(&self, x: *const f32, tile: usize) -> Pixels {
        let (sample, row, column) = self.place(tile);
        std::array::from_fn(|p| {
            // A pixel before the image is far beyond it, and stays so.
            let y = (row + p / EDGE).wrapping_sub(self.top) / self.upsample;
            let x_ = (column + p % EDGE).wrapping_sub(self.left) / self.upsample;
            if y < self.height && x_ < self.width {
                // SAFETY: a pixel of the image.
                unsafe { x.add(((sample * self.height + y) * self.width + x_) * self.channels) }
            } else {
                std::ptr::null()
            }
        })
    }

    /// First phase of a batch: this thread's part of V.
    ///
    /// # Safety
    /// - The task's contract, in the batch's first phase.
    unsafe fn transform(&self, tiles: Range<usize>, x: *const f32, worker: &Worker<'_>) {
        let parts = self.channels.div_ceil(CHANNELS);
        for unit in worker.units(tiles.len() * parts) {
            let (tile, from) = (unit / parts, unit % parts * CHANNELS);
            let to = self.channels.min(from + CHANNELS);
            // SAFETY: the tile's row of each point is in the scratch; channels from .. to of it are this unit's.
            unsafe {
                let row = tile * self.row_step();
                let v = worker.shared.address(row..row + (POINTS - 1) * self.v_step() + self.channels);
                (self.input_tile)(&self.pixels(x, tiles.start + tile), from, to, v, self.v_step());
            }
        }
    }

    /// Second phase of a batch: this thread's columns and blocks.
    ///
    /// # Safety
    /// - The task's contract, in the batch's second phase.
    unsafe fn multiply(&self, tiles: Range<usize>, args: &Args, worker: &mut Worker<'_>) {
        let (block, depth) = (self.block(), self.depth());
        let blocks = tiles.len().div_ceil(block);
        // The group whose U is there as a whole.
        let mut held = None;
        for unit in worker.units(self.column_groups() * blocks) {
            let (group, first) = (unit / blocks, unit % blocks * block);
            let rows = block.min(tiles.len() - first);
            // SAFETY: the block's rows of V were written in the phase before; the panels exist.
            unsafe {
                let v = worker.shared.address(0..(POINTS - 1) * self.v_step() + (first + rows) * self.row_step());
                let v = v.add(first * self.row_step());
                for from in (0..self.channels).step_by(depth) {
                    let part = Part { group, channels: from..self.channels.min(from + depth) };
                    if depth < self.channels || held != Some(group) {
                        self.transform_kernels(&part, args, worker);
                    }
                    self.products(v, rows, &part, args, worker);
                }
                held = Some(group);
                let m = &worker.own[POINTS * self.u_step()..];
                for row in 0..rows {
                    let out = self.outputs(tiles.start + first + row, group, args);
                    (self.output_tile)(m.as_ptr().add(row * GROUP), self.m_step(), &out);
                }
            }
        }
    }

    /// The weights as they are stored.
    fn weights(&self, args: &Args) -> Parts {
        let matrix = Matrix { rows: self.out_channels, taps: TAPS * TAPS, channels: self.channels };
        Parts { encoding: self.encoding, matrix, addresses: args.inputs[self.inputs.weights] }
    }

    /// The panels of a group, one or two.
    fn panels(&self, group: usize) -> Range<usize> {
        let each = GROUP / PANEL;
        group * each..self.out_channels.div_ceil(PANEL).min((group + 1) * each)
    }

    /// U of a part, into own scratch.
    ///
    /// # Safety
    /// - The task's contract.
    unsafe fn transform_kernels(&self, part: &Part, args: &Args, worker: &mut Worker<'_>) {
        let u = &mut worker.own[..POINTS * self.u_step()];
        let weights = self.weights(args);
        for (i, panel) in self.panels(part.group).enumerate() {
            // SAFETY: the panels exist; each has its place in every point's part of U.
            unsafe {
                let u = u.as_mut_ptr().add(i * self.depth() * PANEL);
                (self.kernel_panel)(&weights, panel, part.channels.clone(), u, self.u_step());
            }
        }
    }

    /// The products of a part of as many tiles as `rows` says, point by point, added to those of the channels before it.
    ///
    /// # Safety
    /// - `v` is the first tile's row of V, own scratch holds the part's U; the panels exist.
    unsafe fn products(&self, v: *const f32, rows: usize, part: &Part, args: &Args, worker: &mut Worker<'_>) {
        let Part { group, channels } = part;
        let (u, rest) = worker.own.split_at_mut(POINTS * self.u_step());
        let (m, table) = rest.split_at_mut(POINTS * self.m_step());
        let (table, panels, weights) = (addresses(table, rows), self.panels(*group).len(), self.weights(args));
        let (u_step, v_step, row_step, panel_step) = (self.u_step(), self.v_step(), self.row_step(), self.depth() * PANEL);
        // What is transformed next is fetched meanwhile, a tap at every point.
        let (next, from) = if channels.end < self.channels { (*group, channels.end) } else { (group + 1, 0) };
        let mut taps = self.panels(next).flat_map(|panel| (0..TAPS * TAPS).map(move |tap| At { panel, tap, channel: from }));
        for (p, m) in m.chunks_exact_mut(self.m_step()).enumerate() {
            let tap = taps.next();
            for depth in stretches(channels.len()) {
                let start = u.as_ptr().wrapping_add(p * u_step + depth.start * PANEL);
                let right = Right { start, panel_step, panels };
                let first = v.wrapping_add(p * v_step + channels.start + depth.start);
                // This stretch's share of the next point's rows.
                let share = rows * depth.start / channels.len() * row_step;
                let ahead = Ahead {
                    weights: tap
                        .map_or(start.wrapping_add(depth.len() * PANEL), |at| weights.line(At { channel: at.channel + depth.start, ..at })),
                    rows: v.wrapping_add((p + 1) * v_step + channels.start + share),
                };
                table.iter_mut().enumerate().for_each(|(row, address)| *address = first.wrapping_add(row * row_step));
                let (left, begin) = (Left { rows: table, step: 1 }, channels.start + depth.start == 0);
                // SAFETY: the rows of V and of m, the point's part of U; the scratches are apart.
                unsafe { (self.multiply_add)(left, right, ahead, depth.len(), m.as_mut_ptr(), begin) };
            }
        }
    }

    /// Where the outputs of a tile and a group of columns go, and what becomes of them.
    fn outputs(&self, tile: usize, group: usize, args: &Args) -> Outputs {
        let (sample, row, column) = self.place(tile);
        let channel = group * GROUP;
        let pixel = (sample * self.out_height + row) * self.out_width + column;
        let bias = args.given(self.inputs.bias);
        Outputs {
            y: args.output(0),
            destination: self.destination,
            at: std::array::from_fn(|i| self.destination.at(pixel + i / STEP * self.out_width + i % STEP, 0)),
            height: STEP.min(self.out_height - row),
            width: STEP.min(self.out_width - column),
            channel,
            channels: GROUP.min(self.out_channels - channel),
            bias: if bias.is_null() { bias } else { bias.wrapping_add(channel) },
            residual: args.given(self.inputs.residual),
            activation: self.activation,
        }
    }
}

impl Task for Winograd {
    fn needs(&self, _threads: usize) -> Needs {
        Needs {
            phases: 2 * self.batches(),
            own: POINTS * (self.u_step() + self.m_step()) + 2 * self.block(),
            shared: POINTS * self.v_step(),
        }
    }

    unsafe fn run(&self, phase: usize, args: &Args, worker: &mut Worker<'_>) {
        let first = phase / 2 * self.batch();
        let tiles = first..self.tiles().min(first + self.batch());
        // SAFETY: the task's contract; phases alternate.
        unsafe {
            if phase.is_multiple_of(2) {
                self.transform(tiles, args.address(0).cast(), worker);
            } else {
                self.multiply(tiles, args, worker);
            }
        }
    }
}
