//! Whole numbers of -127 to 127 times a scale a row.

use super::integers::{self, Integers, Packed, Steps, each, lanes, nearest, quads_of_tap, row_steps, scaled, widen};
use super::{At, EncodingDef, Matrix, Overflow, Part, Parts};
use crate::plan::{Element, PANEL};
use crate::simd::Simd;

/// See [`super::Encoding::I8`].
pub(crate) enum I8 {}

fn place(m: Matrix, row: usize, tap: usize, channel: usize) -> usize {
    (((row / PANEL * m.taps + tap) * quads_of_tap(m) + channel / 4) * PANEL + row % PANEL) * 4 + channel % 4
}

impl Integers for I8 {
    const RANGE: [f32; 2] = [-127.0, 127.0];

    fn steps(values: &[f32], m: Matrix, importance: &[f32]) -> Steps {
        row_steps(values, m, importance, Self::RANGE)
    }

    fn pack(numbers: &[i8], _: &Steps, m: Matrix) -> Packed {
        let mut codes = vec![0; m.panels() * m.taps * quads_of_tap(m) * PANEL * 4];
        each(m, numbers, |row, tap, channel, q| {
            codes[place(m, row, tap, channel)] = q as u8;
        });
        Packed { codes, further: None }
    }
}

impl EncodingDef for I8 {
    const LINES_OF_F32: bool = false;
    const INTEGERS: bool = true;
    const TOGETHER: usize = 4;
    const QUADS: bool = true;

    fn parts(m: Matrix) -> Vec<Part> {
        integers::parts(m, Element::I8, vec![m.panels(), m.taps * quads_of_tap(m), PANEL, 4])
    }

    fn encode(values: &[f32], m: Matrix) -> Result<Vec<Vec<u8>>, Overflow> {
        Ok(nearest::<Self>(values, m))
    }

    fn decode(parts: &[&[u8]], m: Matrix) -> Vec<f32> {
        scaled(m, parts[integers::SCALES], |row, tap, channel| parts[0][place(m, row, tap, channel)] as i8)
    }

    fn panel_bytes(m: Matrix) -> usize {
        m.taps * quads_of_tap(m) * PANEL * 4
    }

    fn line(m: Matrix, tap: usize, channel: usize) -> usize {
        (tap * quads_of_tap(m) + channel.div_ceil(4)) * PANEL * 4
    }

    #[inline(always)]
    unsafe fn lanes<S: Simd>(s: S, parts: &Parts, at: At, j: usize) -> S::V {
        // SAFETY: the caller's contract.
        unsafe { lanes::<Self, S>(s, parts, at, j) }
    }

    #[inline(always)]
    unsafe fn quads<S: Simd>(s: S, parts: &Parts, at: At, j: usize) -> S::V {
        // SAFETY: the caller's contract.
        unsafe { s.load(parts.line_of::<Self>(at).add(j)) }
    }

    #[inline(always)]
    unsafe fn widen<S: Simd>(s: S, parts: &Parts, at: At, count: usize, out: *mut f32) {
        // SAFETY: the caller's contract.
        unsafe { widen::<Self, S>(s, parts, at, count, out) }
    }
}
