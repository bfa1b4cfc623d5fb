//! Depthwise convolution, stride 1, and the same followed by layer norm and modulation.
//! `y[n, oy, ox, c] = b[c] + sum over taps of x[n, oy + ky - pad, ox + kx - pad, c] w[ky, kx, c]`, zero outside.
//!
//! A unit of work is a band of rows by 32 channels. Its part of the image is copied into scratch: in channels-last images
//! pixels are often a power of two apart, and the 98 lines under a tile would share one set of L1. Eight pixels of a row by
//! one vector of channels stay in registers over all taps; every input is loaded once a row of taps and meets all weights of
//! that row, which are in registers too. Taps outside of the image are left out, not multiplied by zero: of an 8x8 image
//! they are 38 %. Norm and modulation follow in a phase of their own, for they need all channels.

use serde::{Deserialize, Serialize};

use super::norm::{Affine, NormaliseRow, normalise_row};
use super::{Args, KernelDef, Kind, Needs, Signature, Task, Worker};
use crate::check::Fault;
use crate::check::rule::{convolved, epsilon, like, rank, shape};
use crate::cost::Cost;
use crate::plan::{Element, Form, Operand};
use crate::simd::{Isa, Simd, variants};

/// `x [N,H,W,C], w [KH,KW,C], b [C]? -> y [N,OH,OW,C]`, stride 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DwConv2d {
    /// On all four sides.
    pub pad: usize,
}

/// `x [N,H,W,C], w [KH,KW,C], b [C], shift [N,C], scale [N,C] -> y [N,H,W,C]`, stride 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DwConvNormModulate {
    /// On all four sides.
    pub pad: usize,
    /// Added to the variance.
    pub eps: f32,
}

impl KernelDef for DwConv2d {
    fn signature(&self) -> Signature {
        Signature::of(&["x", "w", "b?"], &["y"]).with("w", Kind::Floats)
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        let c = convolution(["dw_conv2d.1", "dw_conv2d.2", "dw_conv2d.3", "dw_conv2d.4"], self.pad, x, &y[0])?;
        x.get(2).map_or(Ok(()), |b| shape("dw_conv2d.5", "b", b, &[c]))
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(y[0].count().saturating_mul(x[1].shape[0] * x[1].shape[1]), x, y)
    }

    fn task(&self, x: &[Operand], y: &[Operand], isa: Isa) -> Box<dyn Task> {
        Box::new(Depthwise::new(x, y, self.pad, None, isa))
    }
}

impl KernelDef for DwConvNormModulate {
    fn signature(&self) -> Signature {
        Signature::of(&["x", "w", "b", "shift", "scale"], &["y"]).with("w", Kind::Floats)
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        epsilon("dw_conv_norm_modulate.1", self.eps)?;
        let rules = ["dw_conv_norm_modulate.2", "dw_conv_norm_modulate.3", "dw_conv_norm_modulate.4", "dw_conv_norm_modulate.5"];
        let c = convolution(rules, self.pad, x, &y[0])?;
        like("dw_conv_norm_modulate.6", "y", &y[0], &x[0])?;
        shape("dw_conv_norm_modulate.7", "b", &x[2], &[c])?;
        shape("dw_conv_norm_modulate.8", "shift", &x[3], &[x[0].shape[0], c])?;
        shape("dw_conv_norm_modulate.9", "scale", &x[4], &[x[0].shape[0], c])
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(y[0].count().saturating_mul(x[1].shape[0] * x[1].shape[1]), x, y)
    }

    fn task(&self, x: &[Operand], y: &[Operand], isa: Isa) -> Box<dyn Task> {
        Box::new(Depthwise::new(x, y, self.pad, Some((self.eps, normalise_row(isa))), isa))
    }
}

/// The convolution's x, w and y; returns the channels.
fn convolution(rules: [&'static str; 4], pad: usize, x: &[Operand], y: &Operand) -> Result<usize, Fault> {
    let ([n, h, w, c], [kh, kw, _]) = (rank(rules[0], "x", &x[0])?, rank(rules[1], "w", &x[1])?);
    shape(rules[1], "w", &x[1], &[kh, kw, c])?;
    let out = [convolved(rules[2], h, [pad; 2], kh, 1)?, convolved(rules[2], w, [pad; 2], kw, 1)?];
    shape(rules[3], "y", y, &[n, out[0], out[1], c])?;
    Ok(c)
}

/// Output rows of a unit: the more, the fewer rows are copied for several units.
const ROWS: usize = 8;

/// Channels of a unit.
const CHANNELS: usize = 32;

/// Pixels held in registers.
const TILE: usize = 8;

/// Width of the kernels whose row of weights is held in registers: that of ConvNeXt.
const WIDTH: usize = 7;

struct Depthwise {
    samples: usize,
    height: usize,
    width: usize,
    channels: usize,
    out: [usize; 2],
    kernel: [usize; 2],
    /// What the weights are widened by, if they are f16.
    widen: Option<WidenRow>,
    pad: usize,
    /// Layer norm's epsilon, if it and modulation follow.
    norm: Option<(f32, NormaliseRow)>,
    run: ConvolveStrip,
}

impl Depthwise {
    fn new(x: &[Operand], y: &[Operand], pad: usize, norm: Option<(f32, NormaliseRow)>, isa: Isa) -> Depthwise {
        let widen = (x[1].form == Form::Dense(Element::F16)).then(|| widen_row(isa));
        let (x, w, y) = (&x[0].shape, &x[1].shape, &y[0].shape);
        let (out, kernel, run) = ([y[1], y[2]], [w[0], w[1]], convolve_strip(isa));
        Depthwise { samples: x[0], height: x[1], width: x[2], channels: x[3], out, kernel, widen, pad, norm, run }
    }
}

/// Some rows and channels of the output of one sample.
#[derive(Clone, Copy, Debug)]
struct Part {
    sample: usize,
    row: usize,
    rows: usize,
    channel: usize,
}

impl Depthwise {
    /// f32 of the copied part of the image: the rows that a band sees, at most all.
    fn window(&self) -> usize {
        (ROWS.min(self.out[0]) + self.kernel[0] - 1).min(self.height) * self.width * CHANNELS
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    fn bands(&self) -> usize {
        self.out[0].div_ceil(ROWS)
    }

    /// # Safety
    /// - The task's contract; the part is this thread's.
    unsafe fn convolve(&self, args: &Args, part: Part, worker: &mut Worker<'_>) {
        let c = self.channels;
        let image = self.height * self.width * c;
        // SAFETY: the task's contract.
        let (x, b) = unsafe { (args.input(0, self.samples * image), args.optional(2, c)) };
        let n = CHANNELS.min(c - part.channel);
        let (window, rest) = worker.own.split_at_mut(self.window());
        let (weights, bias) = rest.split_at_mut(self.taps() * CHANNELS);
        let fill = |cells: &mut [f32], from: &[f32]| {
            for (cell, from) in cells.chunks_exact_mut(CHANNELS).zip(from.chunks_exact(c)) {
                cell[..n].copy_from_slice(&from[part.channel..part.channel + n]);
                cell[n..].fill(0.0);
            }
        };
        let top = part.row.saturating_sub(self.pad).min(self.height);
        let bottom = (part.row + part.rows + self.kernel[0] - 1).saturating_sub(self.pad).clamp(top, self.height);
        fill(window, &x[part.sample * image..][top * self.width * c..bottom * self.width * c]);
        // SAFETY: the task's contract: as many weights, of whichever type.
        unsafe {
            match self.widen {
                None => fill(weights, args.input(1, self.taps() * c)),
                Some(widen) => {
                    let w = std::slice::from_raw_parts(args.address(1).cast::<u16>(), self.taps() * c);
                    for (cell, from) in weights.chunks_exact_mut(CHANNELS).zip(w.chunks_exact(c)) {
                        cell[n..].fill(0.0);
                        widen(&from[part.channel..part.channel + n], &mut cell[..n]);
                    }
                }
            }
        }
        bias[..CHANNELS].fill(0.0);
        fill(&mut bias[..CHANNELS], b);
        let first = (part.sample * self.out[0] + part.row) * self.out[1] * c + part.channel;
        let strip = Strip {
            window: window.as_ptr(),
            top,
            bottom,
            width: self.width,
            kernel: self.kernel,
            pad: self.pad,
            weights: weights.as_ptr(),
            bias: bias.as_ptr(),
            row: part.row,
            rows: part.rows,
            pixels: self.out[1],
            channels: n,
            y: args.output(0).wrapping_add(first),
            y_pixel: c,
        };
        // SAFETY: the window holds rows top .. bottom of the image; the output's part is this thread's.
        unsafe { (self.run)(&strip) };
    }
}

/// A part of the image and where its convolution goes.
#[derive(Clone, Copy, Debug)]
struct Strip {
    /// Rows `top .. bottom` of the image, `width` cells of 32 channels each.
    window: *const f32,
    top: usize,
    bottom: usize,
    width: usize,
    kernel: [usize; 2],
    pad: usize,
    /// A cell of 32 channels for every tap.
    weights: *const f32,
    bias: *const f32,
    /// Output rows `row .. row + rows` of `pixels` pixels.
    row: usize,
    rows: usize,
    pixels: usize,
    channels: usize,
    y: *mut f32,
    y_pixel: usize,
}

variants! {
    /// Binary16 as f32.
    ///
    /// # Safety
    /// - The slices are equally long.
    unsafe fn widen_row(from: &[u16], to: &mut [f32]) as WidenRow = widen_row_body
}

#[inline(always)]
unsafe fn widen_row_body<S: Simd>(s: S, from: &[u16], to: &mut [f32]) {
    let whole = to.len() / S::LANES * S::LANES;
    for i in (0..whole).step_by(S::LANES) {
        // SAFETY: elements i .. i + LANES of both.
        unsafe { s.store(to.as_mut_ptr().add(i), s.load_f16(from.as_ptr().add(i))) };
    }
    for (to, from) in to[whole..].iter_mut().zip(&from[whole..]) {
        *to = half::f16::from_bits(*from).to_f32();
    }
}

variants! {
    /// # Safety
    /// - The window holds all pixels of rows `top .. bottom`, which are those of the image that the strip's rows see.
    /// - y is valid for the strip's rows, pixels and channels, and written here alone.
    unsafe fn convolve_strip(strip: &Strip) as ConvolveStrip = convolve_strip_body
}

#[inline(always)]
unsafe fn convolve_strip_body<S: Simd>(s: S, strip: &Strip) {
    for c in (0..strip.channels).step_by(S::LANES) {
        let n = S::LANES.min(strip.channels - c);
        for row in strip.row..strip.row + strip.rows {
            for pixel in (0..strip.pixels).step_by(TILE) {
                // SAFETY: the caller's contract; of y only what exists is written.
                unsafe {
                    let sums = if strip.kernel[1] == WIDTH { tile_of_rows(s, strip, row, pixel, c) } else { tile(s, strip, row, pixel, c) };
                    let y = strip.y.add(((row - strip.row) * strip.pixels + pixel) * strip.y_pixel + c);
                    for (p, &sum) in sums.iter().enumerate().take(strip.pixels - pixel) {
                        s.store_n(y.add(p * strip.y_pixel), sum, n);
                    }
                }
            }
        }
    }
}

/// The rows of taps that lie inside of the image for an output row, each with the address of its first pixel.
#[inline(always)]
fn rows_of_taps(strip: &Strip, row: usize, c: usize) -> impl Iterator<Item = (usize, *const f32)> {
    let inside = strip.top.max(row.saturating_sub(strip.pad))..strip.bottom.min((row + strip.kernel[0]).saturating_sub(strip.pad));
    inside.map(move |y| (y + strip.pad - row, strip.window.wrapping_add((y - strip.top) * strip.width * CHANNELS + c)))
}

/// Kernels of width 7.
///
/// # Safety
/// - As of [`convolve_strip`]; row, pixel and channel lie in the strip.
#[inline(always)]
unsafe fn tile_of_rows<S: Simd>(s: S, strip: &Strip, row: usize, pixel: usize, c: usize) -> [S::V; TILE] {
    const SEEN: usize = TILE + WIDTH - 1;
    // SAFETY: the bias has a cell of 32 channels.
    let mut sums = [unsafe { s.load(strip.bias.add(c)) }; TILE];
    // Of the pixels pixel - pad .. that the tile sees, those inside of the image.
    let (lo, hi) = (strip.pad.saturating_sub(pixel), (strip.width + strip.pad).saturating_sub(pixel).min(SEEN));
    for (ky, line) in rows_of_taps(strip, row, c) {
        let x = line.wrapping_add(pixel * CHANNELS).wrapping_sub(strip.pad * CHANNELS);
        let weights = strip.weights.wrapping_add(ky * WIDTH * CHANNELS + c);
        // SAFETY: the tap's row of weights; pixels lo .. hi are in the window.
        unsafe {
            let w: [S::V; WIDTH] = std::array::from_fn(|kx| s.load(weights.add(kx * CHANNELS)));
            macro_rules! pixels {
                ($($j:literal)*) => {$(
                    if lo <= $j && $j < hi {
                        let v = s.load(x.wrapping_add($j * CHANNELS));
                        for kx in ($j + 1usize).saturating_sub(TILE)..=if $j < WIDTH { $j } else { WIDTH - 1 } {
                            sums[$j - kx] = s.mla(v, w[kx], sums[$j - kx]);
                        }
                    }
                )*};
            }
            pixels!(0 1 2 3 4 5 6 7 8 9 10 11 12 13);
        }
    }
    sums
}

/// Kernels of any width.
///
/// # Safety
/// - As of [`tile_of_rows`].
#[inline(always)]
unsafe fn tile<S: Simd>(s: S, strip: &Strip, row: usize, pixel: usize, c: usize) -> [S::V; TILE] {
    // SAFETY: the bias has a cell of 32 channels.
    let mut sums = [unsafe { s.load(strip.bias.add(c)) }; TILE];
    for (ky, line) in rows_of_taps(strip, row, c) {
        for kx in 0..strip.kernel[1] {
            // SAFETY: the tap's weights; pixels inside of the image are in the window.
            unsafe {
                let weight = s.load(strip.weights.add((ky * strip.kernel[1] + kx) * CHANNELS + c));
                for (p, sum) in sums.iter_mut().enumerate() {
                    let x = (pixel + p + kx).wrapping_sub(strip.pad);
                    if x < strip.width {
                        *sum = s.mla(s.load(line.add(x * CHANNELS)), weight, *sum);
                    }
                }
            }
        }
    }
    sums
}

impl Task for Depthwise {
    fn needs(&self, _threads: usize) -> Needs {
        let phases = 1 + usize::from(self.norm.is_some());
        Needs { phases, own: self.window() + (self.taps() + 1) * CHANNELS, shared: 0 }
    }

    unsafe fn run(&self, phase: usize, args: &Args, worker: &mut Worker<'_>) {
        let c = self.channels;
        if phase == 0 {
            let (blocks, bands) = (c.div_ceil(CHANNELS), self.bands());
            for unit in worker.units(self.samples * bands * blocks) {
                let (block, band) = (unit % blocks, unit / blocks);
                let row = band % bands * ROWS;
                let rows = ROWS.min(self.out[0] - row);
                let part = Part { sample: band / bands, row, rows, channel: block * CHANNELS };
                // SAFETY: the task's contract; the unit is this thread's.
                unsafe { self.convolve(args, part, worker) };
            }
            return;
        }
        let (eps, normalise) = self.norm.expect("there is a second phase only then");
        // SAFETY: the task's contract.
        let (shift, scale) = unsafe { (args.input(3, self.samples * c), args.input(4, self.samples * c)) };
        let pixels = self.out[0] * self.out[1];
        for pixel in worker.units(self.samples * pixels) {
            let sample = pixel / pixels;
            let affine = Affine { shift: &shift[sample * c..][..c], scale: &scale[sample * c..][..c] };
            // SAFETY: the phase before has written the pixel; its channels are this thread's now.
            unsafe {
                let y = args.output_range(0, pixel * c..(pixel + 1) * c).as_mut_ptr();
                normalise(y, y, c, eps, Some(affine));
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
        let cases = [
            ([1, 1, 1, 1], [1, 1], 0),
            ([2, 5, 9, 33], [3, 3], 1),
            ([1, 9, 70, 5], [7, 7], 3),
            ([1, 6, 7, 40], [2, 3], 0),
            // Images narrower than the kernel, padding wider than it, bands of rows, rows of taps that see nothing.
            ([1, 3, 2, 9], [7, 7], 3),
            ([1, 2, 3, 8], [7, 7], 9),
            ([2, 17, 9, 17], [7, 7], 0),
            ([1, 19, 8, 33], [7, 7], 3),
            ([1, 1, 4, 3], [3, 3], 4),
        ];
        for (shape, k, pad) in cases.into_iter().chain((1..=34).map(|c| ([1, 3, 10, c], [3, 3], 1))) {
            let [n, h, w, c] = shape;
            let (x, weights, b) = (values(n * h * w * c, 1), values(k[0] * k[1] * c, 2), values(c, 3));
            let want = convolution(&x, shape, &weights, k, &b, pad);
            let y = [n, h + 2 * pad + 1 - k[0], w + 2 * pad + 1 - k[1], c];
            let s = step(DwConv2d { pad }, &[&shape, &[k[0], k[1], c], &[c]], &[&y]);
            run_all(&s, &[&x, &weights, &b], |y, what| close(&y[0], &want, 2e-6, what));
            let want = convolution(&x, shape, &weights, k, &vec![0.0; c], pad);
            let s = step(DwConv2d { pad }, &[&shape, &[k[0], k[1], c]], &[&y]);
            run_all(&s, &[&x, &weights], |y, what| close(&y[0], &want, 2e-6, what));
        }
    }

    #[test]
    fn weights_of_half_the_size() {
        for c in [2, 8, 34, 70] {
            let shape = [2, 5, 9, c];
            let w: Vec<half::f16> = values(49 * c, 2).into_iter().map(half::f16::from_f32).collect();
            let (x, weights, b) = (values(2 * 5 * 9 * c, 1), w.iter().map(|w| w.to_f32()).collect::<Vec<_>>(), values(c, 3));
            let bits: Vec<u16> = w.iter().map(|w| w.to_bits()).collect();
            let words: Vec<f32> = bits.chunks_exact(2).map(|w| f32::from_bits(u32::from(w[0]) | u32::from(w[1]) << 16)).collect();
            let want = convolution(&x, shape, &weights, [7, 7], &b, 3);
            let mut s = step(DwConv2d { pad: 3 }, &[&shape, &[7, 7, c], &[c]], &[&shape]);
            s.inputs[1].form = Form::Dense(Element::F16);
            run_all(&s, &[&x, &words, &b], |y, what| close(&y[0], &want, 2e-6, what));
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
            let kernel = DwConvNormModulate { pad, eps: 1e-6 };
            let s = step(kernel, &[&shape, &[k, k, c], &[c], &[n, c], &[n, c]], &[&shape]);
            run_all(&s, &[&x, &weights, &b, &shift, &scale], |y, what| close(&y[0], &want, 3e-6, what));
        }
    }
}
