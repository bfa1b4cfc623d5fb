//! Products of bytes: rows of unsigned codes times whole numbers of weights, summed exactly in 32 bits.
//!
//! A row x of a pixel, of one source of channels, is rounded to codes of its own range, which always has 0 in it (asymmetric, per
//! token):
//!
//! ```text
//! lo = min(0, min x), hi = max(0, max x), r = m / (hi - lo), z = round(-lo r), c = clamp(round(x r) + z, 0, m)
//! x ~ (c - z) (hi - lo) / m
//! ```
//!
//! with m = 255, or 127 where codes have seven bits.
//!
//! A weight is a whole number times its row's scale, so that `W x ~ scale (sum over k of c q - z sum over k of q) (hi - lo) / m`: the second
//! sum is stored with the weights. Pixels of a window and sources that are joined have ranges of their own: their sums, the
//! *segments* of a product, become f32 before they are added. Everything else is exact, and all roundings are of single operations:
//! the result is the same on every CPU.

use std::ops::Range;

use super::epilogue::Block;
use super::line::Line;
use super::micro::{Ahead, DEPTH, GROUP, Left, Right, multiply_add_body, stretches};
use super::product::{Group, finish_units};
use crate::encoding::integers::{SUMS, scales};
use crate::encoding::{At, EncodingDef, Parts, encodings, of_encoding};
use crate::plan::PANEL;
use crate::simd::Simd;
use crate::simd::bytes::{ByteProducts, Bytes, SEVEN_BITS, byte_variants, row_bytes};

/// f32 of what a row has beside its codes: what a code's step is worth, and z as an i32.
pub(super) const RANGE: usize = 2;

/// What a code's row, as it is copied, has where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CodeLayout {
    /// The greatest code.
    pub most: u8,
    /// Words of four channels.
    pub words: usize,
}

impl CodeLayout {
    /// Words that are multiplied, of so many channels: the depth of a product.
    pub fn depth(self, channels: usize) -> usize {
        channels.div_ceil(4) * self.words
    }

    /// f32 of a row's codes and range.
    pub fn row(self, channels: usize) -> usize {
        self.range(channels) + RANGE
    }

    /// Where a row's range is.
    pub fn range(self, channels: usize) -> usize {
        channels.next_multiple_of(16) / 4 * self.words
    }
}

byte_variants! {
    /// Words of a row for four channels, whose codes are `most` at most.
    ///
    /// # Safety
    /// - None.
    pub(super) unsafe fn words(most: u8) -> usize as Words = words_body
}

#[inline(always)]
unsafe fn words_body<P: ByteProducts, const R: usize, const V: usize>(_: P, most: u8) -> usize {
    if most <= SEVEN_BITS { P::Sevens::LINES } else { P::LINES }
}

byte_variants! {
    /// Codes, of `most` at most, and range of `x * a`, or of `x` if `a` is empty.
    ///
    /// # Safety
    /// - `a` is empty or as long as `x`; `row` has [`CodeLayout::row`] f32 for so many channels.
    pub(super) unsafe fn code_row(x: &[f32], a: &[f32], row: &mut [f32], most: u8) as CodeRow = code_row_body
}

#[inline(always)]
unsafe fn code_row_body<P: ByteProducts, const R: usize, const V: usize>(p: P, x: &[f32], a: &[f32], row: &mut [f32], most: u8) {
    // SAFETY: the caller's contract.
    unsafe { if most <= SEVEN_BITS { row_of_codes(p.sevens(), x, a, row, most) } else { row_of_codes(p, x, a, row, most) } }
}

/// # Safety
/// - As of [`code_row`].
#[inline(always)]
unsafe fn row_of_codes<P: ByteProducts>(p: P, x: &[f32], a: &[f32], row: &mut [f32], most: u8) {
    let (s, count, lanes) = (p.vectors(), x.len(), P::Vectors::LANES);
    let range = row_bytes::<P>(count) / 4;
    assert!(row.len() >= range + RANGE && (a.is_empty() || a.len() == count));
    let values = Values { x: x.as_ptr(), factors: if a.is_empty() { std::ptr::null() } else { a.as_ptr() }, count };
    // SAFETY: slices of `count` elements; `row` has room for whole vectors of codes.
    let scale = unsafe { code_scale(s, values, most) };
    for i in (0..count).step_by(lanes) {
        // SAFETY: as above.
        unsafe { p.store_codes(row.as_mut_ptr().cast(), i, scale.code(s, values.at(s, i))) };
    }
    row[range] = scale.step;
    row[range + 1] = f32::from_bits(scale.origin as i32 as u32);
}

/// How the values of a row become codes.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) struct CodeScale {
    /// Codes a unit; 0 of a range of zeros.
    rate: f32,
    /// What a code's step is worth; NaN if a value is not finite.
    pub step: f32,
    /// The code of 0, a whole number.
    pub origin: f32,
    /// The greatest code.
    most: f32,
}

impl CodeScale {
    /// Codes of values, whole numbers from 0 on.
    #[inline(always)]
    pub fn code<S: Simd>(self, s: S, v: S::V) -> S::V {
        let code = s.add(s.round(s.mul(v, s.splat(self.rate))), s.splat(self.origin));
        s.min(s.splat(self.most), s.max(s.splat(0.0), code))
    }
}

/// The values of a row that becomes codes, times factors unless these are null.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) struct Values {
    pub x: *const f32,
    pub factors: *const f32,
    pub count: usize,
}

impl Values {
    /// Those from the i-th on, and zeros behind the last.
    ///
    /// # Safety
    /// - Both are valid for `count` elements, or there are no factors; there is an i-th.
    #[inline(always)]
    pub unsafe fn at<S: Simd>(self, s: S, i: usize) -> S::V {
        let n = S::LANES.min(self.count - i);
        // SAFETY: the caller's contract.
        unsafe {
            let v = s.load_n(self.x.add(i), n);
            if self.factors.is_null() { v } else { s.mul(v, s.load_n(self.factors.add(i), n)) }
        }
    }
}

/// That of a row, for codes of `most` at most.
///
/// # Safety
/// - As of [`Values::at`].
#[inline(always)]
pub(in crate::kernels) unsafe fn code_scale<S: Simd>(s: S, values: Values, most: u8) -> CodeScale {
    let zero = s.splat(0.0);
    let (mut least, mut greatest, mut odd) = (zero, zero, zero);
    for i in (0..values.count).step_by(S::LANES) {
        // SAFETY: the caller's contract.
        let v = unsafe { values.at(s, i) };
        least = s.max(least, s.neg(v));
        greatest = s.max(greatest, v);
        // NaN where a value is not finite, which the others would pass over.
        odd = s.fma(v, zero, odd);
    }
    let (least, greatest) = (-s.reduce_max(least), s.reduce_max(greatest));
    let (width, most) = (greatest - least, f32::from(most));
    let rate = most / width;
    // A range that has no rate is of zeros, or as good as that.
    let rate = if rate.is_finite() { rate } else { 0.0 };
    CodeScale { rate, step: width / most + s.reduce_add(odd), origin: (-least * rate).round_ties_even(), most }
}

/// Lines of bytes, times words of codes.
#[derive(Clone, Copy)]
struct ByteLines<P>(P);

impl<P: ByteProducts> Line<P::Vectors> for ByteLines<P> {
    const STEPS: usize = 4 / P::LINES;
    const AS_STORED: bool = false;

    #[inline(always)]
    fn multiply_add(self, _: P::Vectors, a: Bytes<P>, b: Bytes<P>, sum: Bytes<P>) -> Bytes<P> {
        self.0.dot(a, b, sum)
    }

    #[inline(always)]
    fn add(self, _: P::Vectors, a: Bytes<P>, b: Bytes<P>) -> Bytes<P> {
        self.0.add(a, b)
    }
}

/// A group of columns of some rows of codes.
pub(super) struct CodeGroup<'a> {
    /// As of any product; its images are copies, whose channels are words, and its sums end as f32.
    pub group: Group<'a>,
    /// Where a row of a source has its range, in f32 from where it begins.
    pub ranges: [usize; super::PARTS],
    /// [`RANGE`] f32 a row.
    pub range: &'a mut [f32],
    /// [`GROUP`] f32 a row for what the segments before have come to, if there are several.
    pub before: &'a mut [f32],
    /// The greatest code.
    pub most: u8,
}

byte_variants! {
    /// As [`super::product::finished_product`], of codes.
    ///
    /// # Safety
    /// - As there.
    pub(super) unsafe fn finished_codes(group: CodeGroup<'_>, units: Range<usize>, block: &dyn Fn(usize) -> Block) as FinishedCodes =
        finished_codes_body
}

#[inline(always)]
unsafe fn finished_codes_body<P: ByteProducts, const R: usize, const V: usize>(
    p: P,
    mut codes: CodeGroup<'_>,
    units: Range<usize>,
    block: &dyn Fn(usize) -> Block,
) {
    // SAFETY: the caller's contract.
    unsafe {
        if codes.most <= SEVEN_BITS {
            multiply_segments::<P::Sevens, R, V>(p.sevens(), &mut codes);
        } else {
            multiply_segments::<P, R, V>(p, &mut codes);
        }
        finish_units::<_, true>(p.vectors(), &codes.group, units, block);
    }
}

/// The sums over all segments.
///
/// # Safety
/// - As of [`finished_codes`].
#[inline(always)]
unsafe fn multiply_segments<P: ByteProducts, const R: usize, const V: usize>(p: P, codes: &mut CodeGroup<'_>) {
    let (taps, sources) = (codes.group.images[0].taps.count(), codes.group.images.iter().filter(|i| i.channels > 0).count());
    let segments = taps * sources;
    for segment in 0..segments {
        let (tap, source) = (segment / sources, segment % sources);
        // SAFETY: the caller's contract.
        unsafe {
            codes.look_up(tap, source);
            multiply_segment::<P, R, V>(p, &mut codes.group, segment, tap, source);
            codes.end(p, segment, segment + 1 == segments);
        }
    }
}

/// The sums of a segment, of 32 bits.
///
/// # Safety
/// - As of [`finished_codes`].
#[inline(always)]
unsafe fn multiply_segment<P: ByteProducts, const R: usize, const V: usize>(
    p: P,
    g: &mut Group<'_>,
    segment: usize,
    tap: usize,
    source: usize,
) {
    let s = p.vectors();
    let (image, encoding) = (g.images[source], g.weights.encoding);
    let panel_step = encoding.panel_step(g.weights.matrix);
    let stored = P::LINES == 1 && encoding.has_quads();
    let visit = if stored { g.panels } else { (V * P::Vectors::LANES / PANEL).max(1) };
    let channel = |line: usize| line * 4 / P::LINES;
    for lines in stretches(image.channels) {
        image.addresses(g.first, tap, &lines, g.table);
        let at = |panel: usize, line: usize| At { panel: g.panel + panel, tap: segment, channel: channel(line) };
        let step = lines.len() * PANEL;
        for panel in (0..g.panels).step_by(visit) {
            let count = visit.min(g.panels - panel);
            let next = if panel + visit < g.panels { at(panel + visit, lines.start) } else { at(0, lines.end) };
            let mut right = Right { start: g.weights.line(at(panel, lines.start)), panel_step, panels: count };
            if !stored {
                assert!(g.widened.len() >= count * step);
                for i in 0..count {
                    let out = g.widened[i * step..].as_mut_ptr();
                    // SAFETY: the panel's stretch; the scratch has room for it.
                    unsafe { lines_of(p, &g.weights, at(panel + i, lines.start), lines.len() / P::LINES, out) };
                }
                right = Right { start: g.widened.as_ptr(), panel_step: step, panels: count };
            }
            let (left, ahead) = (Left { rows: g.table, step: 1 }, Ahead::weights(g.weights.line(next)));
            // SAFETY: the caller's contract.
            unsafe {
                let sums = g.sums.as_mut_ptr().add(panel * PANEL);
                multiply_add_body::<_, _, R, V, false>(s, ByteLines(p), left, right, ahead, lines.len(), sums, lines.start == 0);
            }
        }
    }
}

/// Lines of `count` quads of a panel from `at` on.
///
/// # Safety
/// - As of [`EncodingDef::quads`], for all of them; `out` is valid for the lines.
#[inline(always)]
unsafe fn lines_of<P: ByteProducts>(p: P, parts: &Parts, at: At, count: usize, out: *mut f32) {
    // SAFETY: the caller's contract.
    encodings! { of_encoding { (parts.encoding) E => unsafe { lines_of_encoding::<P, E>(p, parts, at, count, out) }; } }
}

#[inline(always)]
unsafe fn lines_of_encoding<P: ByteProducts, E: EncodingDef>(p: P, parts: &Parts, at: At, count: usize, out: *mut f32) {
    let s = p.vectors();
    for quad in 0..count {
        for j in (0..PANEL).step_by(P::Vectors::LANES) {
            // SAFETY: the caller's contract.
            unsafe {
                let quads = E::quads(s, parts, At { channel: at.channel + 4 * quad, ..at }, j);
                for i in 0..P::LINES {
                    s.store(out.add((quad * P::LINES + i) * PANEL + j), p.line(quads, i));
                }
            }
        }
    }
}

impl CodeGroup<'_> {
    /// The ranges of the rows of a source that a tap sees. One outside of the image has none, and its codes count for nothing.
    ///
    /// # Safety
    /// - As of [`finished_codes`].
    unsafe fn look_up(&mut self, tap: usize, source: usize) {
        let g = &mut self.group;
        g.images[source].addresses(g.first, tap, &(0..0), g.table);
        for (row, range) in g.table.iter().zip(self.range.chunks_exact_mut(RANGE)) {
            if super::rows::is_outside(*row) {
                range.fill(0.0);
            } else {
                // SAFETY: the row exists, and has its range there.
                range.copy_from_slice(unsafe { std::slice::from_raw_parts(row.add(self.ranges[source]), RANGE) });
            }
        }
    }

    /// The sums of a segment as f32, and with those before if it is not the first; with scales if it is the last.
    ///
    /// # Safety
    /// - As of [`finished_codes`].
    #[inline(always)]
    unsafe fn end<P: ByteProducts>(&mut self, p: P, segment: usize, last: bool) {
        let (s, lanes) = (p.vectors(), P::Vectors::LANES);
        let g = &mut self.group;
        let m = g.weights.matrix;
        for panel in 0..g.panels {
            for j in (0..PANEL).step_by(lanes) {
                let at = ((g.panel + panel) * m.taps + segment) * PANEL + j;
                // SAFETY: the panel's sums of the segment, and its scales; rows of GROUP.
                unsafe {
                    let columns = s.load(g.weights.addresses[SUMS].cast::<f32>().add(at));
                    let scales = scales(s, &g.weights, g.panel + panel, j);
                    for (r, range) in self.range.chunks_exact(RANGE).enumerate() {
                        let at = r * GROUP + panel * PANEL + j;
                        let sum = g.sums.as_mut_ptr().add(at);
                        let (step, zero) = (s.splat(range[0]), s.splat(range[1]));
                        let value = p.offset(s.load(sum), zero, columns);
                        let value =
                            if segment == 0 { s.mul(value, step) } else { s.fma(value, step, s.load(self.before.as_ptr().add(at))) };
                        if last {
                            s.store(sum, s.mul(value, scales));
                        } else {
                            s.store(self.before.as_mut_ptr().add(at), value);
                        }
                    }
                }
            }
        }
    }
}

/// f32 of the lines of a stretch of two panels.
pub(super) const LINES: usize = 2 * DEPTH * PANEL;
