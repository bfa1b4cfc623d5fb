//! `dw[o, k] = sum over pixels p of dy[p, o] x_col[p, k]`: a product whose k are pixels, so that both factors lie across it and are copied,
//! a stretch of pixels at a time: dy in groups of rows that lie one behind the other as tiles read them, x in panels.
//!
//! A unit of work is a block of rows of dw and a chunk of its columns, whose sums stay in L2 over all pixels.

use crate::kernels::gemm::ImageWindow;
use crate::kernels::gemm::micro::{Ahead, GROUP, Left, MultiplyAdd, Right, multiply_add};
use crate::kernels::scratch::{addresses, zeroed_f64};
use crate::kernels::{Args, Needs, Task, Worker};
use crate::plan::PANEL;
use crate::simd::Isa;

/// Rows of dw in a unit.
const ROWS: usize = 96;
/// Rows of a group: whole tiles of 4, 6 and 12 rows.
const TOGETHER: usize = 12;
/// Pixels of a stretch: a group of rows and a panel of that many are 28 KB.
const STRETCH: usize = 256;
/// Groups of columns of a chunk at the most: with 96 rows 72 KB of sums.
const GROUPS: usize = 6;

/// Where the columns of x come from.
#[derive(Clone, Copy)]
pub(super) enum Columns {
    /// Pixels are rows of so many.
    Rows { width: usize },
    /// A pixel sees the image through a window; a sample has so many pixels.
    Window { window: ImageWindow, pixels: usize },
}

impl Columns {
    fn count(&self) -> usize {
        match self {
            Columns::Rows { width } => *width,
            Columns::Window { window, .. } => window.kernel[0] * window.kernel[1] * window.channels,
        }
    }

    /// f32 of x, of which so many pixels come.
    fn input(&self, all: usize) -> usize {
        match self {
            Columns::Rows { width } => all * width,
            Columns::Window { window, pixels } => all / pixels * window.height * window.width * window.channels,
        }
    }

    /// Columns `first .. first + n` of pixels `start ..`, a line each; zeros behind them.
    fn panel(&self, x: &[f32], start: usize, first: usize, n: usize, lines: &mut [[f32; PANEL]]) {
        match self {
            Columns::Rows { width } if n == PANEL => {
                let rows = x[start * width..].chunks_exact(*width);
                lines.iter_mut().zip(rows).for_each(|(line, row)| *line = whole(&row[first..]));
            }
            Columns::Window { window, pixels } if n == PANEL && window.channels.is_multiple_of(PANEL) => {
                let w = window;
                let (tap, c) = (first / w.channels, first % w.channels);
                // Counted on: a division a line would take as long as what the line is for.
                let (mut sample, mut row, mut column) = (start / pixels, start % pixels / w.out_width, start % w.out_width);
                let [ky, kx] = [tap / w.kernel[1], tap % w.kernel[1]];
                for line in lines {
                    let y = (row * w.stride + ky).wrapping_sub(w.top);
                    let at = (column * w.stride + kx).wrapping_sub(w.left);
                    let inside = y < w.height && at < w.width;
                    let from =
                        (sample * w.height).wrapping_add(y).wrapping_mul(w.width).wrapping_add(at).wrapping_mul(w.channels).wrapping_add(c);
                    *line = if inside { whole(&x[from..]) } else { [0.0; PANEL] };
                    column += 1;
                    if column == w.out_width {
                        (row, column) = (row + 1, 0);
                    }
                    if row * w.out_width == *pixels {
                        (sample, row) = (sample + 1, 0);
                    }
                }
            }
            Columns::Rows { width } => {
                for (line, row) in lines.iter_mut().zip(x[start * width..].chunks_exact(*width)) {
                    line[..n].copy_from_slice(&row[first..first + n]);
                    line[n..].fill(0.0);
                }
            }
            Columns::Window { window, pixels } => {
                let image = window.height * window.width * window.channels;
                for (i, line) in lines.iter_mut().enumerate() {
                    let (sample, pixel) = ((start + i) / pixels, (start + i) % pixels);
                    gathered(window, &x[sample * image..][..image], pixel, first, &mut line[..n]);
                    line[n..].fill(0.0);
                }
            }
        }
    }
}

/// So many elements of a slice, of a number that is known: such copies are a few instructions.
fn whole<const N: usize>(x: &[f32]) -> [f32; N] {
    *x.first_chunk().expect("that many are there")
}

/// Columns `first ..` of what one pixel sees.
fn gathered(w: &ImageWindow, image: &[f32], pixel: usize, first: usize, out: &mut [f32]) {
    let mut done = 0;
    while done < out.len() {
        let (tap, c) = ((first + done) / w.channels, (first + done) % w.channels);
        let n = (w.channels - c).min(out.len() - done);
        let out = &mut out[done..done + n];
        match w.pixel(pixel, tap) {
            Some(at) => out.copy_from_slice(&image[at * w.channels + c..][..n]),
            None => out.fill(0.0),
        }
        done += n;
    }
}

/// See the module.
pub(super) struct WeightProduct {
    columns: Columns,
    pixels: usize,
    o: usize,
    /// Whether the second output is the sum of dy over all pixels.
    bias: bool,
    multiply_add: MultiplyAdd,
}

impl WeightProduct {
    /// Over so many pixels, of all samples together.
    pub fn new(columns: Columns, pixels: usize, o: usize, bias: bool, isa: Isa) -> WeightProduct {
        WeightProduct { columns, pixels, o, bias, multiply_add: multiply_add(isa) }
    }

    /// Chunks of columns, and groups of each: of nearly equal size.
    fn chunks(&self) -> (usize, usize) {
        let groups = self.columns.count().div_ceil(GROUP);
        let chunks = groups.div_ceil(GROUPS);
        (chunks, groups.div_ceil(chunks))
    }
}

/// A thread's own scratch, part by part.
struct Own<'a> {
    table: &'a mut [*const f32],
    bias: &'a mut [f64],
    left: &'a mut [f32],
    right: &'a mut [f32],
    sums: &'a mut [f32],
}

const LEFT: usize = ROWS * STRETCH;
const RIGHT: usize = GROUP * STRETCH;

impl Own<'_> {
    const COUNT: usize = 4 * ROWS + LEFT + RIGHT + GROUPS * ROWS * GROUP;

    fn of(own: &mut [f32]) -> Own<'_> {
        let (table, rest) = own.split_at_mut(2 * ROWS);
        let (bias, rest) = rest.split_at_mut(2 * ROWS);
        let (left, rest) = rest.split_at_mut(LEFT);
        let (right, sums) = rest.split_at_mut(RIGHT);
        Own { table: addresses(table, ROWS), bias: zeroed_f64(bias, ROWS), left, right, sums }
    }
}

impl Task for WeightProduct {
    fn needs(&self, _threads: usize) -> Needs {
        Needs { phases: 1, own: Own::COUNT, shared: 0 }
    }

    unsafe fn run(&self, _phase: usize, args: &Args, worker: &mut Worker<'_>) {
        // SAFETY: the task's contract.
        let (x, dy) = unsafe { (args.input(0, self.columns.input(self.pixels)), args.input(1, self.pixels * self.o)) };
        let (columns, (chunks, groups)) = (self.columns.count(), self.chunks());
        let blocks = self.o.div_ceil(ROWS);
        for unit in worker.units(blocks * chunks) {
            let (chunk, first_row) = (unit / blocks, unit % blocks * ROWS);
            let rows = ROWS.min(self.o - first_row);
            let wanted = chunk * groups * GROUP..((chunk + 1) * groups * GROUP).min(columns);
            let bias = self.bias && chunk == 0;
            let own = Own::of(worker.own);
            for (r, address) in own.table[..rows].iter_mut().enumerate() {
                *address = &raw const own.left[r / TOGETHER * TOGETHER * STRETCH + r % TOGETHER];
            }
            for start in (0..self.pixels).step_by(STRETCH) {
                let depth = STRETCH.min(self.pixels - start);
                let seen = &dy[start * self.o..(start + depth) * self.o];
                copy_left(seen, self.o, first_row..first_row + rows, own.left, bias.then_some(&mut *own.bias));
                for (group, first) in wanted.clone().step_by(GROUP).enumerate() {
                    let n = GROUP.min(wanted.end - first);
                    let panels = n.div_ceil(PANEL);
                    for panel in 0..panels {
                        let (lines, _) = own.right[panel * PANEL * STRETCH..].as_chunks_mut();
                        let m = PANEL.min(n - panel * PANEL);
                        self.columns.panel(x, start, first + panel * PANEL, m, &mut lines[..depth]);
                    }
                    let left = Left { rows: &own.table[..rows], step: TOGETHER };
                    let right = Right { start: own.right.as_ptr(), panel_step: PANEL * STRETCH, panels };
                    let sums = own.sums[group * ROWS * GROUP..].as_mut_ptr();
                    // SAFETY: `depth` steps of the groups that the table leads to and of the panels; `rows` rows of sums.
                    unsafe { (self.multiply_add)(left, right, Ahead::NOTHING, depth, sums, start == 0) };
                }
            }
            for (group, first) in wanted.clone().step_by(GROUP).enumerate() {
                let n = GROUP.min(wanted.end - first);
                for (r, sums) in own.sums[group * ROWS * GROUP..].chunks_exact(GROUP).take(rows).enumerate() {
                    let at = (first_row + r) * columns + first;
                    // SAFETY: these rows and columns are this unit's.
                    unsafe { args.output_range(0, at..at + n) }.copy_from_slice(&sums[..n]);
                }
            }
            if bias {
                // SAFETY: these rows are this unit's, and no other chunk's.
                let db = unsafe { args.output_range(1, first_row..first_row + rows) };
                db.iter_mut().zip(&*own.bias).for_each(|(db, &sum)| *db = sum as f32);
            }
        }
    }
}

/// Rows `wanted` of a stretch of dy, in groups; adds them to `bias`, if that is there.
fn copy_left(seen: &[f32], o: usize, wanted: std::ops::Range<usize>, left: &mut [f32], bias: Option<&mut [f64]>) {
    for (p, row) in seen.chunks_exact(o).enumerate() {
        let (groups, rest) = row[wanted.clone()].as_chunks::<TOGETHER>();
        for (group, part) in groups.iter().enumerate() {
            let to = left[group * TOGETHER * STRETCH + p * TOGETHER..].first_chunk_mut();
            *to.expect("the group is there") = *part;
        }
        if !rest.is_empty() {
            left[groups.len() * TOGETHER * STRETCH + p * TOGETHER..][..rest.len()].copy_from_slice(rest);
        }
    }
    if let Some(bias) = bias {
        let mut sums = [0.0f32; ROWS];
        for row in seen.chunks_exact(o) {
            sums.iter_mut().zip(&row[wanted.clone()]).for_each(|(sum, v)| *sum += v);
        }
        bias.iter_mut().zip(&sums).for_each(|(bias, &sum)| *bias += f64::from(sum));
    }
}
