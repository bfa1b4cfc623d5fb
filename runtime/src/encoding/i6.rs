//! Whole numbers of -31 to 31 times a scale a row, stored as `q + 32`: the low four bits of eight channels in the codes, and the
//! upper two of sixteen in a part of their own, the crumbs.
//!
//! A code's byte b of a row has channel `k + b` in its low half and `k + 4 + b` in its high one, k being a multiple of 8. A crumb's byte
//! b has the channels `k + b`, `k + 4 + b`, `k + 8 + b` and `k + 12 + b`, from the lowest bits up, k being a multiple of 16.

use super::integers::{self, Integers, Packed, Steps, each, lanes, nearest, row_steps, scaled, widen};
use super::{At, EncodingDef, Matrix, Overflow, Part, Parts};
use crate::plan::{Element, PANEL};
use crate::simd::Simd;

/// See [`super::Encoding::I6`].
pub(crate) enum I6 {}

/// What is added to a number.
const OFFSET: u8 = 32;

/// Index of the part of crumbs.
const CRUMBS: usize = 3;

/// Byte, and bits to the left in it, where `of` channels share the bytes of a quad.
fn place(m: Matrix, of: usize, bits: usize, row: usize, tap: usize, channel: usize) -> (usize, usize) {
    let line = (row / PANEL * m.taps + tap) * m.channels.div_ceil(of) + channel / of;
    ((line * PANEL + row % PANEL) * 4 + channel % 4, channel % of / 4 * bits)
}

impl Integers for I6 {
    const RANGE: [f32; 2] = [-31.0, 31.0];

    fn steps(values: &[f32], m: Matrix, importance: &[f32]) -> Steps {
        row_steps(values, m, importance, Self::RANGE)
    }

    fn pack(numbers: &[i8], _: &Steps, m: Matrix) -> Packed {
        // Where there is no row or channel the number is 0 as well.
        let zeros = |of: usize, byte: u8| vec![byte; m.panels() * m.taps * m.channels.div_ceil(of) * PANEL * 4];
        let (mut codes, mut crumbs) = (zeros(8, 0), zeros(16, 0b1010_1010));
        each(m, numbers, |row, tap, channel, q| {
            let stored = (q + OFFSET as i8) as u8;
            let (byte, shift) = place(m, 8, 4, row, tap, channel);
            codes[byte] |= (stored & 15) << shift;
            let (byte, shift) = place(m, 16, 2, row, tap, channel);
            crumbs[byte] = crumbs[byte] & !(3 << shift) | (stored >> 4) << shift;
        });
        Packed { codes, further: Some(crumbs) }
    }
}

impl EncodingDef for I6 {
    const LINES_OF_F32: bool = false;
    const INTEGERS: bool = true;
    const TOGETHER: usize = 4;
    const QUADS: bool = false;

    fn parts(m: Matrix) -> Vec<Part> {
        let shape = |of| vec![m.panels(), m.taps * m.channels.div_ceil(of), PANEL, 4];
        let mut parts = integers::parts(m, Element::U8, shape(8));
        parts.push(Part { suffix: ".crumbs", element: Element::U8, shape: shape(16) });
        parts
    }

    fn encode(values: &[f32], m: Matrix) -> Result<Vec<Vec<u8>>, Overflow> {
        Ok(nearest::<Self>(values, m))
    }

    fn decode(parts: &[&[u8]], m: Matrix) -> Vec<f32> {
        scaled(m, parts[integers::SCALES], |row, tap, channel| {
            let (code, crumb) = (place(m, 8, 4, row, tap, channel), place(m, 16, 2, row, tap, channel));
            let stored = parts[0][code.0] >> code.1 & 15 | (parts[CRUMBS][crumb.0] >> crumb.1 & 3) << 4;
            stored as i8 - OFFSET as i8
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
            let crumbs = s.load(parts.addresses[CRUMBS].cast::<f32>().add(line(16) + j));
            let low = s.and_bits(s.shift_right(codes, (at.channel % 8) as u32), 0x0f0f_0f0f);
            let high = s.and_bits(s.shift_right(crumbs, (at.channel % 16 / 2) as u32), 0x0303_0303);
            s.sub_bytes(s.or_bits(low, s.shift_left(high, 4)), s.splat_bits(0x0101_0101 * u32::from(OFFSET)))
        }
    }

    #[inline(always)]
    unsafe fn widen<S: Simd>(s: S, parts: &Parts, at: At, count: usize, out: *mut f32) {
        // SAFETY: the caller's contract.
        unsafe { widen::<Self, S>(s, parts, at, count, out) }
    }
}
