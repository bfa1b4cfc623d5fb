//! f32: lines that products read as they are.

use super::{At, EncodingDef, Matrix, Overflow, Part, Parts, placed, taken};
use crate::plan::{Element, PANEL};
use crate::simd::Simd;

/// See [`super::Encoding::F32`].
pub(crate) enum F32 {}

fn place(m: Matrix) -> impl Fn(usize, usize, usize) -> usize {
    move |row, tap, channel| (row / PANEL * m.columns() + tap * m.channels + channel) * PANEL + row % PANEL
}

impl EncodingDef for F32 {
    const LINES_OF_F32: bool = true;
    const INTEGERS: bool = false;
    const TOGETHER: usize = 1;
    const QUADS: bool = false;

    fn parts(m: Matrix) -> Vec<Part> {
        vec![Part { suffix: ".panels", element: Element::F32, shape: vec![m.panels(), m.columns(), PANEL] }]
    }

    fn encode(values: &[f32], m: Matrix) -> Result<Vec<Vec<u8>>, Overflow> {
        Ok(vec![placed(values, m, m.panels() * m.columns() * PANEL, place(m), f32::to_le_bytes)])
    }

    fn decode(parts: &[&[u8]], m: Matrix) -> Vec<f32> {
        taken(m, place(m), |i| f32::from_le_bytes(parts[0][4 * i..4 * i + 4].try_into().expect("four bytes")))
    }

    fn panel_bytes(m: Matrix) -> usize {
        m.columns() * PANEL * 4
    }

    fn line(m: Matrix, tap: usize, channel: usize) -> usize {
        (tap * m.channels + channel) * PANEL * 4
    }

    #[inline(always)]
    unsafe fn lanes<S: Simd>(s: S, parts: &Parts, at: At, j: usize) -> S::V {
        // SAFETY: the caller's contract.
        unsafe { s.load(parts.line_of::<Self>(at).add(j)) }
    }

    unsafe fn quads<S: Simd>(_: S, _: &Parts, _: At, _: usize) -> S::V {
        unreachable!("asked of whole numbers alone")
    }

    #[inline(always)]
    unsafe fn widen<S: Simd>(s: S, parts: &Parts, at: At, count: usize, out: *mut f32) {
        let from = parts.line_of::<Self>(at);
        for i in (0..count * PANEL).step_by(S::LANES) {
            // SAFETY: the caller's contract.
            unsafe { s.store(out.add(i), s.load(from.add(i))) };
        }
    }
}
