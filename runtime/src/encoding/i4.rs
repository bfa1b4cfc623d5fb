//! Whole numbers of -8 to 7 times a multiplier of 0 to 15 for every 32 channels of a tap, times a scale a row. What a product of bytes
//! multiplies is number times multiplier, which a signed byte holds, so that sums need one scale a row (QServe's two levels,
//! arXiv 2405.04532). Numbers are stored as `q + 8`.
//!
//! A code's byte b of a row has channel `k + b` in its low half and `k + 4 + b` in its high one, k being a multiple of 8. The multipliers
//! are a part of their own: a word of a row has those of eight groups, the first in the lowest bits.

use super::integers::{self, Integers, Packed, Steps, Weighed, best_scale, each, greatest, lanes, nearest, scaled, widen};
use super::{At, EncodingDef, Matrix, Overflow, Part, Parts};
use crate::plan::{Element, PANEL};
use crate::simd::Simd;

/// See [`super::Encoding::I4`].
pub(crate) enum I4 {}

/// What is added to a number.
const OFFSET: i8 = 8;

/// Channels that share a multiplier.
const GROUP: usize = 32;

/// Channels whose multipliers share a word.
const WORD: usize = 8 * GROUP;

/// The greatest multiplier.
const MOST: f32 = 15.0;

/// Index of the part of multipliers.
const MULTIPLIERS: usize = 3;

/// Byte and bits to the left in it.
fn place(m: Matrix, row: usize, tap: usize, channel: usize) -> (usize, usize) {
    let line = (row / PANEL * m.taps + tap) * m.channels.div_ceil(8) + channel / 8;
    ((line * PANEL + row % PANEL) * 4 + channel % 4, channel % 8 / 4 * 4)
}

/// Word, and bits to the left in it.
fn place_of_multiplier(m: Matrix, row: usize, tap: usize, channel: usize) -> (usize, usize) {
    let line = (row / PANEL * m.taps + tap) * m.channels.div_ceil(WORD) + channel / WORD;
    (line * PANEL + row % PANEL, channel % WORD / GROUP * 4)
}

/// A row's scale, and the multiplier of every group of its taps.
fn scales(row: Weighed<'_>, m: Matrix) -> (f32, Vec<f32>) {
    let starts = || (0..m.taps).flat_map(|tap| (0..m.channels).step_by(GROUP).map(move |channel| (tap * m.channels, channel)));
    let groups = || starts().map(|(tap, channel)| row.part(tap + channel..tap + (channel + GROUP).min(m.channels)));
    // Zeros have no scale of their own, and 0 as their multiplier.
    let own: Vec<f32> = groups().map(|group| if greatest(group.values) == 0.0 { 0.0 } else { best_scale(group, I4::RANGE) }).collect();
    let most = greatest(&own);
    if most == 0.0 || most.is_nan() {
        return (if most == 0.0 { 1.0 } else { f32::NAN }, vec![0.0; own.len()]);
    }
    let scale = (most / MOST).max(f32::MIN_POSITIVE);
    let multiplier = |(group, own): (Weighed<'_>, &f32)| {
        if *own == 0.0 {
            return 0.0;
        }
        // Of the two multiples next to the group's own scale, the better one.
        let below = (own / scale).floor().clamp(1.0, MOST);
        let above = (below + 1.0).min(MOST);
        let error = |by: f32| group.squared_error(scale * by, I4::RANGE);
        if error(above) < error(below) { above } else { below }
    };
    (scale, groups().zip(&own).map(multiplier).collect())
}

impl Integers for I4 {
    const RANGE: [f32; 2] = [-8.0, 7.0];

    fn steps(values: &[f32], m: Matrix, importance: &[f32]) -> Steps {
        let mut steps = Steps { scales: Vec::with_capacity(m.rows), multipliers: Vec::new(), group: GROUP };
        for values in values.chunks_exact(m.columns().max(1)) {
            let (scale, multipliers) = scales(Weighed { values, importance }, m);
            steps.scales.push(scale);
            steps.multipliers.extend(multipliers.iter().map(|&by| by as u8));
        }
        steps
    }

    fn pack(numbers: &[i8], steps: &Steps, m: Matrix) -> Packed {
        // Where there is no row or channel the number is 0 as well.
        let mut codes = vec![0x88; m.panels() * m.taps * m.channels.div_ceil(8) * PANEL * 4];
        each(m, numbers, |row, tap, channel, q| {
            let (byte, shift) = place(m, row, tap, channel);
            codes[byte] = codes[byte] & !(15 << shift) | ((q + OFFSET) as u8) << shift;
        });
        let mut words = vec![0u32; m.panels() * m.taps * m.channels.div_ceil(WORD) * PANEL];
        let groups = m.channels.div_ceil(GROUP);
        for (i, &by) in steps.multipliers.iter().enumerate() {
            let (word, shift) = place_of_multiplier(m, i / groups / m.taps, i / groups % m.taps, i % groups * GROUP);
            words[word] |= u32::from(by) << shift;
        }
        Packed { codes, further: Some(words.iter().flat_map(|w| w.to_le_bytes()).collect()) }
    }
}

impl EncodingDef for I4 {
    const LINES_OF_F32: bool = false;
    const INTEGERS: bool = true;
    const TOGETHER: usize = 4;
    const QUADS: bool = false;

    fn parts(m: Matrix) -> Vec<Part> {
        let mut parts = integers::parts(m, Element::U8, vec![m.panels(), m.taps * m.channels.div_ceil(8), PANEL, 4]);
        let shape = vec![m.panels(), m.taps * m.channels.div_ceil(WORD), PANEL];
        parts.push(Part { suffix: ".multipliers", element: Element::I32, shape });
        parts
    }

    fn encode(values: &[f32], m: Matrix) -> Result<Vec<Vec<u8>>, Overflow> {
        Ok(nearest::<Self>(values, m))
    }

    fn decode(parts: &[&[u8]], m: Matrix) -> Vec<f32> {
        scaled(m, parts[integers::SCALES], |row, tap, channel| {
            let (byte, shift) = place(m, row, tap, channel);
            let (word, by) = place_of_multiplier(m, row, tap, channel);
            let word = u32::from_le_bytes(parts[MULTIPLIERS][4 * word..4 * word + 4].try_into().expect("four bytes"));
            ((parts[0][byte] >> shift & 15) as i8 - OFFSET) * (word >> by & 15) as i8
        })
    }

    fn panel_bytes(m: Matrix) -> usize {
        m.taps * m.channels.div_ceil(8) * PANEL * 4
    }

    fn line(m: Matrix, tap: usize, channel: usize) -> usize {
        (tap * m.channels.div_ceil(8) + channel.div_ceil(8)) * PANEL * 4
    }

    #[inline(always)]
    unsafe fn lanes<S: Simd>(s: S, parts: &Parts, at: At, j: usize) -> S::V {
        // SAFETY: the caller's contract.
        unsafe { lanes::<Self, S>(s, parts, at, j) }
    }

    #[inline(always)]
    unsafe fn quads<S: Simd>(s: S, parts: &Parts, at: At, j: usize) -> S::V {
        let m = parts.matrix;
        let line = |of: usize| ((at.panel * m.taps + at.tap) * m.channels.div_ceil(of) + at.channel / of) * PANEL;
        // SAFETY: the caller's contract.
        unsafe {
            let codes = s.load(parts.addresses[0].cast::<f32>().add(line(8) + j));
            let words = s.load(parts.addresses[MULTIPLIERS].cast::<f32>().add(line(WORD) + j));
            let by = s.and_bits(s.shift_right(words, (at.channel % WORD / GROUP * 4) as u32), 15);
            // A product of a lane multiplies all four bytes, none of which overflows: 15 * 15, and 8 * 15.
            let stored = s.and_bits(s.shift_right(codes, (at.channel % 8) as u32), 0x0f0f_0f0f);
            s.sub_bytes(s.mul_bits(stored, by), s.mul_bits(by, s.splat_bits(0x0101_0101 * OFFSET as u32)))
        }
    }

    #[inline(always)]
    unsafe fn widen<S: Simd>(s: S, parts: &Parts, at: At, count: usize, out: *mut f32) {
        // SAFETY: the caller's contract.
        unsafe { widen::<Self, S>(s, parts, at, count, out) }
    }
}
