//! Depthwise convolution, stride 1, and the same followed by layer norm and modulation.
//! `y[n, oy, ox, c] = b[c] + sum over taps of x[n, oy + ky - pad, ox + kx - pad, c] w[ky, kx, c]`, zero outside.
//!
//! A few rows of 32 channels are copied with their border into scratch, so that the inner loop knows no border,
//! reads dense memory, and does the same for every pixel: eight pixels of a row by one vector of channels stay in
//! registers over all taps. The fused kernel normalises the rows just written while they are in cache.

use super::norm::{Affine, normalise_row};
use super::{Args, Needs, Task, Worker};
use crate::plan::{Kernel, Step};
use crate::simd::{Simd, variants};

/// Output rows computed from one copied window.
const ROWS: usize = 4;

/// Output pixels of a row computed from one copied window.
const PIXELS: usize = 64;

/// Channels of a window.
const CHANNELS: usize = 32;

/// Pixels held in registers.
const TILE: usize = 8;

struct Depthwise {
    samples: usize,
    height: usize,
    width: usize,
    channels: usize,
    out: [usize; 2],
    kernel: [usize; 2],
    pad: usize,
    /// Layer norm's epsilon, if it and modulation follow.
    norm: Option<f32>,
}

pub(super) fn task(step: &Step) -> Box<dyn Task> {
    let (pad, norm) = match step.kernel {
        Kernel::DwConv2d { pad } => (pad, None),
        Kernel::DwConvNormModulate { pad, eps } => (pad, Some(eps)),
        _ => unreachable!("`kernels::task` sends no other kernel here"),
    };
    let (x, w, y) = (&step.inputs[0].shape, &step.inputs[1].shape, &step.outputs[0].shape);
    Box::new(Depthwise { samples: x[0], height: x[1], width: x[2], channels: x[3], out: [y[1], y[2]], kernel: [w[0], w[1]], pad, norm })
}

/// Some rows, pixels and channels of the output of one sample.
#[derive(Clone, Copy, Debug)]
struct Part {
    sample: usize,
    row: usize,
    rows: usize,
    channel: usize,
}

impl Depthwise {
    /// Pixels of a row of the window, for `pixels` of the output.
    fn window_width(&self, pixels: usize) -> usize {
        pixels.div_ceil(TILE) * TILE + self.kernel[1] - 1
    }

    fn window(&self) -> usize {
        (ROWS + self.kernel[0] - 1) * self.window_width(PIXELS.min(self.out[1])) * CHANNELS
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Copies the channels of x under the part's pixels `start .. start + pixels`, with zeros for what is not there.
    fn fill_window(&self, x: &[f32], part: Part, start: usize, pixels: usize, window: &mut [f32]) {
        let width = self.window_width(pixels);
        let n = CHANNELS.min(self.channels - part.channel);
        for (ky, line) in window.chunks_exact_mut(width * CHANNELS).take(part.rows + self.kernel[0] - 1).enumerate() {
            let y = (part.row + ky).wrapping_sub(self.pad);
            for (kx, cell) in line.chunks_exact_mut(CHANNELS).enumerate() {
                let at = (start + kx).wrapping_sub(self.pad);
                if y < self.height && at < self.width {
                    let first = ((part.sample * self.height + y) * self.width + at) * self.channels + part.channel;
                    cell[..n].copy_from_slice(&x[first..first + n]);
                    cell[n..].fill(0.0);
                } else {
                    cell.fill(0.0);
                }
            }
        }
    }

    /// # Safety
    /// - The task's contract; the part is this thread's.
    unsafe fn convolve(&self, args: &Args, part: Part, worker: &mut Worker<'_>) {
        let c = self.channels;
        // SAFETY: the task's contract.
        let (x, w, b) =
            unsafe { (args.input(0, self.samples * self.height * self.width * c), args.input(1, self.taps() * c), args.optional(2, c)) };
        let n = CHANNELS.min(c - part.channel);
        let (window, rest) = worker.own.split_at_mut(self.window());
        let (weights, rest) = rest.split_at_mut(self.taps() * CHANNELS);
        let bias = &mut rest[..CHANNELS];
        for (cell, w) in weights.chunks_exact_mut(CHANNELS).zip(w.chunks_exact(c)) {
            cell[..n].copy_from_slice(&w[part.channel..part.channel + n]);
            cell[n..].fill(0.0);
        }
        bias.fill(0.0);
        if !b.is_empty() {
            bias[..n].copy_from_slice(&b[part.channel..part.channel + n]);
        }
        for start in (0..self.out[1]).step_by(PIXELS) {
            let pixels = PIXELS.min(self.out[1] - start);
            self.fill_window(x, part, start, pixels, window);
            let first = ((part.sample * self.out[0] + part.row) * self.out[1] + start) * c + part.channel;
            let strip = Strip {
                window: window.as_ptr(),
                window_width: self.window_width(pixels),
                kernel: self.kernel,
                weights: weights.as_ptr(),
                bias: bias.as_ptr(),
                rows: part.rows,
                pixels,
                channels: n,
                y: args.output(0).wrapping_add(first),
                y_row: self.out[1] * c,
                y_pixel: c,
            };
            // SAFETY: the window holds rows + KH - 1 rows of that width; the output's part is this thread's.
            unsafe { convolve_strip(worker.isa, &strip) };
        }
    }
}

/// A window and where its convolution goes.
#[derive(Clone, Copy, Debug)]
struct Strip {
    window: *const f32,
    window_width: usize,
    kernel: [usize; 2],
    weights: *const f32,
    bias: *const f32,
    rows: usize,
    pixels: usize,
    channels: usize,
    y: *mut f32,
    y_row: usize,
    y_pixel: usize,
}

variants! {
    /// # Safety
    /// - `window` holds `rows + KH - 1` rows of `window_width` cells of 32 channels, `weights` one cell a tap, `bias`
    ///   one cell; `window_width` is at least `pixels` rounded up to 8, plus `KW - 1`.
    /// - y is valid for the strip's rows, pixels and channels, and written here alone.
    unsafe fn convolve_strip(strip: &Strip) = convolve_strip_body
}

#[inline(always)]
unsafe fn convolve_strip_body<S: Simd>(s: S, strip: &Strip) {
    let [kh, kw] = strip.kernel;
    let line = strip.window_width * CHANNELS;
    for row in 0..strip.rows {
        for pixel in (0..strip.pixels).step_by(TILE) {
            for c in (0..strip.channels).step_by(S::LANES) {
                // SAFETY: rows row .. row + KH, pixels pixel .. pixel + 8 + KW - 1 of the window; a cell has 32
                // channels, a multiple of LANES; of y only what exists is written.
                unsafe {
                    let mut sums = [s.load(strip.bias.add(c)); TILE];
                    let mut w = strip.weights.add(c);
                    for ky in 0..kh {
                        let mut x = strip.window.add((row + ky) * line + pixel * CHANNELS + c);
                        for _ in 0..kw {
                            let weight = s.load(w);
                            for (p, sum) in sums.iter_mut().enumerate() {
                                *sum = s.mla(s.load(x.add(p * CHANNELS)), weight, *sum);
                            }
                            x = x.add(CHANNELS);
                            w = w.wrapping_add(CHANNELS);
                        }
                    }
                    let n = S::LANES.min(strip.channels - c);
                    for (p, &sum) in sums.iter().enumerate().take(strip.pixels - pixel) {
                        let y = strip.y.add(row * strip.y_row + (pixel + p) * strip.y_pixel + c);
                        s.store_n(y, sum, n);
                    }
                }
            }
        }
    }
}

impl Task for Depthwise {
    fn needs(&self, _threads: usize) -> Needs {
        Needs { phases: 1, own: self.window() + (self.taps() + 1) * CHANNELS, shared: 0 }
    }

    unsafe fn run(&self, _phase: usize, args: &Args, worker: &mut Worker<'_>) {
        let c = self.channels;
        let blocks = c.div_ceil(CHANNELS);
        let Some(eps) = self.norm else {
            let bands = self.out[0].div_ceil(ROWS);
            for unit in worker.units(self.samples * bands * blocks) {
                let (block, band) = (unit % blocks, unit / blocks);
                let row = band % bands * ROWS;
                let rows = ROWS.min(self.out[0] - row);
                let part = Part { sample: band / bands, row, rows, channel: block * CHANNELS };
                // SAFETY: the task's contract; the unit is this thread's.
                unsafe { self.convolve(args, part, worker) };
            }
            return;
        };
        // SAFETY: the task's contract.
        let (shift, scale) = unsafe { (args.input(3, self.samples * c), args.input(4, self.samples * c)) };
        let bands = self.out[0].div_ceil(ROWS);
        for unit in worker.units(self.samples * bands) {
            let (sample, row) = (unit / bands, unit % bands * ROWS);
            let rows = ROWS.min(self.out[0] - row);
            let next = sample * self.out[0] + row;
            for block in 0..blocks {
                // SAFETY: the task's contract; these rows are this thread's.
                unsafe { self.convolve(args, Part { sample, row, rows, channel: block * CHANNELS }, worker) };
            }
            let affine = Affine { shift: &shift[sample * c..][..c], scale: &scale[sample * c..][..c] };
            for pixel in next * self.out[1]..(next + rows) * self.out[1] {
                // SAFETY: the pixel's channels are this thread's.
                unsafe {
                    let y = args.output_range(0, pixel * c..(pixel + 1) * c).as_mut_ptr();
                    normalise_row(worker.isa, y, y, c, eps, Some(affine));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, run_all, step, values};
    use super::*;

    fn convolution(x: &[f32], shape: [usize; 4], w: &[f32], k: [usize; 2], b: &[f32], pad: usize) -> Vec<f64> {
        let [n, h, wd, c] = shape;
        let (oh, ow) = (h + 2 * pad + 1 - k[0], wd + 2 * pad + 1 - k[1]);
        let at = |e: usize| {
            let (ch, ox, oy, s) = (e % c, e / c % ow, e / c / ow % oh, e / c / ow / oh);
            let tap = |t: usize| {
                let (y, x0) = ((oy + t / k[1]).wrapping_sub(pad), (ox + t % k[1]).wrapping_sub(pad));
                let inside = y < h && x0 < wd;
                if inside { f64::from(x[((s * h + y) * wd + x0) * c + ch]) * f64::from(w[t * c + ch]) } else { 0.0 }
            };
            f64::from(b[ch]) + (0..k[0] * k[1]).map(tap).sum::<f64>()
        };
        (0..n * oh * ow * c).map(at).collect()
    }

    #[test]
    fn convolutions() {
        let cases = [([1, 1, 1, 1], [1, 1], 0), ([2, 5, 9, 33], [3, 3], 1), ([1, 9, 70, 5], [7, 7], 3), ([1, 6, 7, 40], [2, 3], 0)];
        for (shape, k, pad) in cases.into_iter().chain((1..=34).map(|c| ([1, 3, 10, c], [3, 3], 1))) {
            let [n, h, w, c] = shape;
            let (x, weights, b) = (values(n * h * w * c, 1), values(k[0] * k[1] * c, 2), values(c, 3));
            let want = convolution(&x, shape, &weights, k, &b, pad);
            let y = [n, h + 2 * pad + 1 - k[0], w + 2 * pad + 1 - k[1], c];
            let s = step(Kernel::DwConv2d { pad }, &[&shape, &[k[0], k[1], c], &[c]], &[&y]);
            run_all(&s, &[&x, &weights, &b], |y, what| close(&y[0], &want, 2e-6, what));
            let want = convolution(&x, shape, &weights, k, &vec![0.0; c], pad);
            let s = step(Kernel::DwConv2d { pad }, &[&shape, &[k[0], k[1], c]], &[&y]);
            run_all(&s, &[&x, &weights], |y, what| close(&y[0], &want, 2e-6, what));
        }
    }

    #[test]
    fn with_norm_and_modulation() {
        for (shape, k, pad) in [([1, 1, 1, 2], 1, 0), ([2, 5, 9, 33], 3, 1), ([1, 9, 17, 70], 7, 3)] {
            let [n, h, w, c] = shape;
            let (x, weights, b) = (values(n * h * w * c, 1), values(k * k * c, 2), values(c, 3));
            let (shift, scale) = (values(n * c, 4), values(n * c, 5));
            let mut want = convolution(&x, shape, &weights, [k, k], &b, pad);
            for (p, row) in want.chunks_mut(c).enumerate() {
                let mean = row.iter().sum::<f64>() / c as f64;
                let var = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / c as f64;
                for (ch, v) in row.iter_mut().enumerate() {
                    let at = p / (h * w) * c + ch;
                    *v = (*v - mean) / (var + 1e-6).sqrt() * (1.0 + f64::from(scale[at])) + f64::from(shift[at]);
                }
            }
            let kernel = Kernel::DwConvNormModulate { pad, eps: 1e-6 };
            let s = step(kernel, &[&shape, &[k, k, c], &[c], &[n, c], &[n, c]], &[&shape]);
            run_all(&s, &[&x, &weights, &b, &shift, &scale], |y, what| close(&y[0], &want, 3e-6, what));
        }
    }
}
