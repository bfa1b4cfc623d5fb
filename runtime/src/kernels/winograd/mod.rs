//! 3x3 convolutions of stride 1 by Winograd's F(4x4, 3x3): the image is cut into tiles of 4x4 outputs, which see 6x6
//! pixels each, and the convolution becomes 36 products `[tiles, I] x [I, O]`, one for each point (see
//! [`transform`]), with a quarter of the multiplications. Weights come transformed, four times as many as before.
//!
//! Tiles are taken in batches, whose transformed pixels V are kept in shared scratch and stay in the outer cache. A
//! batch takes two phases. First every tile is transformed. Then, for two panels of 16 output channels and a block of
//! tiles, the 36 products are made side by side in a thread's own scratch and transformed back while they are in its
//! cache. Panels come first in the order of units, so that each one's weights leave memory once a batch.
//!
//! Every tile and every panel are computed alike wherever batches and blocks begin.

#[cfg(test)]
mod tests;
mod transform;

use super::gemm::destination::Destination;
use super::gemm::micro::{Ahead, GROUP, Left, Right, multiply_add, stretches};
use super::scratch::{addresses, row_step};
use super::{Args, Needs, Task, Worker};
use crate::plan::{Activation, Kernel, PANEL, POINTS, Step};
use crate::simd::Isa;
pub use transform::winograd_panel;
use transform::{EDGE, Outputs, Pixels, STEP, input_tile, output_tile};

/// Elements of a batch's V that are aimed at: 8 MB, of an outer cache of 16 MB or more.
const BATCH: usize = 1 << 21;

/// Tiles of a batch, whatever they take: with fewer, reading the weights once more costs more than V's detour over
/// memory.
const LEAST_BATCH: usize = 64;

/// Most tiles of a block: their products of two panels are 330 KB, of an inner cache of 512 KB or more.
const BLOCK: usize = 72;

/// Least tiles of a block: the panels' weights come from the outer cache for every block.
const LEAST_BLOCK: usize = 24;

/// Units of a batch that are aimed at, so that threads have equal shares of them.
const UNITS: usize = 16;

/// Batches and blocks are a multiple of these tiles: rows of the product's tiles on every variant.
const ROWS: usize = 12;

/// Channels of a unit of the first phase.
const CHANNELS: usize = 256;

#[derive(Clone, Copy, Debug)]
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
    /// Which inputs are bias and residual.
    bias: Option<usize>,
    residual: Option<usize>,
    activation: Activation,
    destination: Destination,
}

pub(super) fn task(step: &Step) -> Box<dyn Task> {
    let Kernel::Conv2dWinograd { pad, upsample, epilogue, then } = step.kernel else {
        unreachable!("`kernels::task` sends no other kernel here")
    };
    let x = &step.inputs[0].shape;
    let y = step.outputs[0].shape.as_slice().try_into().ok().and_then(|y| then.source(y)).expect("checked: y is an image after that");
    let (bias, residual) = epilogue.operands(step.inputs.len());
    Box::new(Winograd {
        samples: y[0],
        height: x[1],
        width: x[2],
        channels: x[3],
        out_height: y[1],
        out_width: y[2],
        out_channels: y[3],
        top: pad[0],
        left: pad[1],
        upsample,
        bias,
        residual,
        activation: epilogue.activation,
        destination: Destination::of(then, y[2], y[3]),
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
    unsafe fn transform(&self, tiles: std::ops::Range<usize>, x: *const f32, worker: &Worker<'_>) {
        let parts = self.channels.div_ceil(CHANNELS);
        for unit in worker.units(tiles.len() * parts) {
            let (tile, from) = (unit / parts, unit % parts * CHANNELS);
            let to = self.channels.min(from + CHANNELS);
            // SAFETY: the tile's row of each point is in the scratch; channels from .. to of it are this unit's.
            unsafe {
                let row = tile * self.row_step();
                let v = worker.shared.address(row..row + (POINTS - 1) * self.v_step() + self.channels);
                input_tile(worker.isa, &self.pixels(x, tiles.start + tile), from, to, v, self.v_step());
            }
        }
    }

    /// Second phase of a batch: this thread's columns and blocks.
    ///
    /// # Safety
    /// - The task's contract, in the batch's second phase.
    unsafe fn multiply(&self, tiles: std::ops::Range<usize>, args: &Args, worker: &mut Worker<'_>) {
        let block = self.block();
        let blocks = tiles.len().div_ceil(block);
        for unit in worker.units(self.column_groups() * blocks) {
            let (group, first) = (unit / blocks, unit % blocks * block);
            let rows = block.min(tiles.len() - first);
            let (m, table) = worker.own.split_at_mut(POINTS * self.m_step());
            let table = addresses(table, rows);
            // SAFETY: the block's rows of V were written in the phase before; the panels exist.
            unsafe {
                let v = worker.shared.address(0..(POINTS - 1) * self.v_step() + (first + rows) * self.row_step());
                let v = v.add(first * self.row_step());
                let u = args.inputs[1].cast::<f32>().add(group * GROUP * POINTS * self.channels);
                let panels = (self.out_channels - group * GROUP).div_ceil(PANEL).min(GROUP / PANEL);
                self.products(worker.isa, v, u, panels, table, m);
                for row in 0..rows {
                    let out = self.outputs(tiles.start + first + row, group, args);
                    output_tile(worker.isa, m.as_ptr().add(row * GROUP), self.m_step(), &out);
                }
            }
        }
    }

    /// The products of as many tiles as `table` has places with one or two panels, point by point.
    ///
    /// # Safety
    /// - `v` is the first tile's row of V, `u` the first panel's weights; `m` holds 36 points of a block.
    unsafe fn products(&self, isa: Isa, v: *const f32, u: *const f32, panels: usize, table: &mut [*const f32], m: &mut [f32]) {
        let point = self.channels * PANEL;
        for (p, m) in m.chunks_exact_mut(self.m_step()).enumerate() {
            for channels in stretches(self.channels) {
                let start = u.wrapping_add(p * point + channels.start * PANEL);
                let right = Right { start, panel_step: POINTS * point, panels };
                let first = v.wrapping_add(p * self.v_step() + channels.start);
                // The next stretch of weights, and this stretch's share of the next point's rows.
                let share = table.len() * channels.start / self.channels * self.row_step();
                let rows = v.wrapping_add((p + 1) * self.v_step() + share);
                let ahead = Ahead { weights: start.wrapping_add(channels.len() * PANEL), rows };
                table.iter_mut().enumerate().for_each(|(row, address)| *address = first.wrapping_add(row * self.row_step()));
                let left = Left { rows: table, step: 1 };
                // SAFETY: the rows of V and of m, the point's part of the panels; the scratches and weights are apart.
                unsafe { multiply_add(isa, left, right, ahead, channels.len(), m.as_mut_ptr(), channels.start == 0) };
            }
        }
    }

    /// Where the outputs of a tile and a group of columns go, and what becomes of them.
    fn outputs(&self, tile: usize, group: usize, args: &Args) -> Outputs {
        let (sample, row, column) = self.place(tile);
        let channel = group * GROUP;
        let pixel = (sample * self.out_height + row) * self.out_width + column;
        let bias = self.bias.map_or(std::ptr::null(), |i| args.inputs[i].cast::<f32>().wrapping_add(channel));
        Outputs {
            y: args.output(0),
            destination: self.destination,
            at: std::array::from_fn(|i| self.destination.at(pixel + i / STEP * self.out_width + i % STEP, 0)),
            height: STEP.min(self.out_height - row),
            width: STEP.min(self.out_width - column),
            channel,
            channels: GROUP.min(self.out_channels - channel),
            bias,
            residual: self.residual.map_or(std::ptr::null(), |i| args.inputs[i].cast()),
            activation: self.activation,
        }
    }
}

impl Task for Winograd {
    fn needs(&self, _threads: usize) -> Needs {
        Needs { phases: 2 * self.batches(), own: POINTS * self.m_step() + 2 * self.block(), shared: POINTS * self.v_step() }
    }

    unsafe fn run(&self, phase: usize, args: &Args, worker: &mut Worker<'_>) {
        let first = phase / 2 * self.batch();
        let tiles = first..self.tiles().min(first + self.batch());
        // SAFETY: the task's contract; phases alternate.
        unsafe {
            if phase.is_multiple_of(2) {
                self.transform(tiles, args.inputs[0].cast(), worker);
            } else {
                self.multiply(tiles, args, worker);
            }
        }
    }
}
