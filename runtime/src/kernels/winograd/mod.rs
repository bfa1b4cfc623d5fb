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
//!
//! An image that is enlarged to twice its size first, pixel by pixel, holds nothing new: a window of 3x3 sees 2x2 pixels of the
//! image itself, and which of its taps fall on the same one depends only on the output's row and column modulo 2, its
//! phase. So such a convolution is four of 2x2 ([`Tiling::Phases`]), with sums of taps for weights. A tile of 6x6 pixels gives 5x5
//! outputs of every phase, 10x10 in all, for 4 x 36 multiplications: 1.44 each in place of 2.25, and with a sixth of the
//! transformed pixels.

#[cfg(test)]
mod tests;
mod transform;

use std::ops::Range;

use super::gemm::destination::Destination;
use super::gemm::micro::{Ahead, GROUP, Left, MultiplyAdd, Right, multiply_add, stretches};
use super::product::{Inputs, Product};
use super::scratch::{addresses, row_step};
use super::{Activation, Algorithm, Args, Epilogue, Needs, Task, Worker};
use crate::encoding::{At, Encoding, Matrix, Parts};
use crate::plan::{Form, Operand, PANEL};
use crate::simd::Isa;
use transform::{
    EDGE, InputTile, KernelPanel, OutputTile, Outputs, PHASE_STEP, POINTS, Phase, Pixels, STEP, TAPS, input_tile, kernel_panel, output_tile,
};

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

/// How outputs are cut into tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tiling {
    /// 4x4 neighbours.
    Whole,
    /// 5x5 of a phase, those of the four phases one between the other.
    Phases,
}

impl Tiling {
    /// Phases of one direction.
    fn phases(self) -> usize {
        if self == Tiling::Phases { 2 } else { 1 }
    }

    /// Outputs of a tile's edge in one phase, which is also how many pixels lie from one tile to the next.
    fn edge(self) -> usize {
        if self == Tiling::Phases { PHASE_STEP } else { STEP }
    }

    /// Outputs of a tile's edge.
    fn step(self) -> usize {
        self.edge() * self.phases()
    }
}

#[derive(Clone, Copy)]
struct Winograd {
    tiling: Tiling,
    samples: usize,
    height: usize,
    width: usize,
    channels: usize,
    out_height: usize,
    out_width: usize,
    out_channels: usize,
    /// Pixels before the image that the first tile begins at, above and on the left.
    before: [usize; 2],
    /// Outputs before the first one that the first tile begins at: one, where the window begins on a pixel's second copy.
    skipped: [usize; 2],
    /// The image is enlarged while it is read.
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

/// Panels, phase and input channels whose U is in own scratch at a time.
struct Part {
    group: Group,
    channels: Range<usize>,
}

/// A pair of panels, whose products are made together, in one phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Group {
    panels: usize,
    phase: Option<Phase>,
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
    let tiling = if product.algorithm == Algorithm::WinogradPhases { Tiling::Phases } else { Tiling::Whole };
    let (phases, pad) = (tiling.phases(), [window.pad[0], window.pad[1]]);
    Box::new(Winograd {
        tiling,
        samples: y[0],
        height: x[1],
        width: x[2],
        channels: x[3],
        out_height: y[1],
        out_width: y[2],
        out_channels: y[3],
        before: pad.map(|pad| pad.div_ceil(phases)),
        skipped: pad.map(|pad| pad % phases),
        // Phases see the image as it is.
        upsample: window.upsample / phases,
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
    /// Rows and columns of tiles of a sample.
    fn grid(&self) -> [usize; 2] {
        let step = self.tiling.step();
        [(self.out_height + self.skipped[0]).div_ceil(step), (self.out_width + self.skipped[1]).div_ceil(step)]
    }

    fn tiles(&self) -> usize {
        let [rows, columns] = self.grid();
        self.samples * rows * columns
    }

    fn groups(&self) -> usize {
        self.out_channels.div_ceil(GROUP) * self.tiling.phases() * self.tiling.phases()
    }

    /// The phases of a pair of panels come one behind the other: its weights are near then.
    fn group(&self, index: usize) -> Group {
        match self.tiling {
            Tiling::Whole => Group { panels: index, phase: None },
            Tiling::Phases => Group { panels: index / 4, phase: Some([index / 2 % 2, index % 2]) },
        }
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
        even(batch, (batch * self.groups() / UNITS).clamp(LEAST_BLOCK, BLOCK))
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

    /// Sample, row and column of a tile.
    fn place(&self, tile: usize) -> (usize, [usize; 2]) {
        let [rows, columns] = self.grid();
        (tile / columns / rows, [tile / columns % rows, tile % columns])
    }

    /// # Safety
    /// - `x` is the input.
    unsafe fn pixels(&self, x: *const f32, tile: usize) -> Pixels {
        let (sample, at) = self.place(tile);
        // Its place in the image, if it has one: a pixel before it is far beyond it, and stays so.
        let inside = |axis: usize, i: usize, extent: usize| {
            let i = (at[axis] * self.tiling.edge() + i).wrapping_sub(self.before[axis]) / self.upsample;
            (i < extent).then_some(i)
        };
        let rows: [_; EDGE] = std::array::from_fn(|i| inside(0, i, self.height).map(|y| (sample * self.height + y) * self.width));
        let columns: [_; EDGE] = std::array::from_fn(|i| inside(1, i, self.width));
        std::array::from_fn(|p| match (rows[p / EDGE], columns[p % EDGE]) {
            // SAFETY: a pixel of the image.
            (Some(y), Some(x_)) => unsafe { x.add((y + x_) * self.channels) },
            _ => std::ptr::null(),
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
                let [pixels, next] = [tile, (tile + 1).min(tiles.len() - 1)].map(|tile| self.pixels(x, tiles.start + tile));
                (self.input_tile)(&pixels, &next, from, to, v, self.v_step());
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
        for unit in worker.units(self.groups() * blocks) {
            let (index, first) = (unit / blocks, unit % blocks * block);
            let group = self.group(index);
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
                    let next = if part.channels.end < self.channels { (group, part.channels.end) } else { (self.group(index + 1), 0) };
                    self.products(v, rows, &part, next, args, worker);
                }
                held = Some(group);
                let m = &worker.own[POINTS * self.u_step()..];
                let mut out = self.outputs(tiles.start + first, group, args);
                for row in 0..rows {
                    let next = self.outputs(tiles.start + first + (row + 1).min(rows - 1), group, args);
                    (self.output_tile)(m.as_ptr().add(row * GROUP), self.m_step(), &out, &next);
                    out = next;
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
    fn panels(&self, group: Group) -> Range<usize> {
        let each = GROUP / PANEL;
        group.panels * each..self.out_channels.div_ceil(PANEL).min((group.panels + 1) * each)
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
                (self.kernel_panel)(&weights, panel, part.group.phase, part.channels.clone(), u, self.u_step());
            }
        }
    }

    /// The products of a part of as many tiles as `rows` says, point by point, added to those of the channels before it; the weights
    /// of the `next` group, from a channel on, are fetched meanwhile.
    ///
    /// # Safety
    /// - `v` is the first tile's row of V, own scratch holds the part's U; the panels exist.
    unsafe fn products(&self, v: *const f32, rows: usize, part: &Part, next: (Group, usize), args: &Args, worker: &mut Worker<'_>) {
        let Part { group, channels } = part;
        let (u, rest) = worker.own.split_at_mut(POINTS * self.u_step());
        let (m, table) = rest.split_at_mut(POINTS * self.m_step());
        let (table, panels, weights) = (addresses(table, rows), self.panels(*group).len(), self.weights(args));
        let (u_step, v_step, row_step, panel_step) = (self.u_step(), self.v_step(), self.row_step(), self.depth() * PANEL);
        // A tap at every point.
        let (next, from) = next;
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
    fn outputs(&self, tile: usize, group: Group, args: &Args) -> Outputs {
        let (sample, at) = self.place(tile);
        let (step, edge, phases) = (self.tiling.step(), self.tiling.edge(), self.tiling.phases());
        let phase = group.phase.unwrap_or_default();
        // Output i of an edge is this one of the image, or none.
        let output = |axis: usize, i: usize| (at[axis] * step + phases * i + phase[axis]).wrapping_sub(self.skipped[axis]);
        let inside = |axis: usize, extent: usize| {
            let first = usize::from(output(axis, 0) >= extent && output(axis, 1) < extent);
            first..(first..edge).find(|&i| output(axis, i) >= extent).unwrap_or(edge)
        };
        let (rows, columns) = (inside(0, self.out_height), inside(1, self.out_width));
        let mut places = [[0; PHASE_STEP]; PHASE_STEP];
        for y in rows.clone() {
            for x in columns.clone() {
                let pixel = (sample * self.out_height + output(0, y)) * self.out_width + output(1, x);
                places[y][x] = self.destination.at(pixel, 0);
            }
        }
        let channel = group.panels * GROUP;
        let bias = args.given(self.inputs.bias);
        Outputs {
            y: args.output(0),
            destination: self.destination,
            edge,
            rows,
            columns,
            at: places,
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
