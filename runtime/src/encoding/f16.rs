//! binary16, rounded to nearest even.

use half::f16;

use super::{At, EncodingDef, Matrix, Overflow, Part, Parts, no_more_than, placed, taken};
use crate::plan::{Element, PANEL};
use crate::simd::Simd;

/// See [`super::Encoding::F16`].
pub(crate) enum F16 {}

fn place(m: Matrix) -> impl Fn(usize, usize, usize) -> usize {
    move |row, tap, channel| (row / PANEL * m.columns() + tap * m.channels + channel) * PANEL + row % PANEL
}

impl EncodingDef for F16 {
    const LINES_OF_F32: bool = false;
    const INTEGERS: bool = false;
    const TOGETHER: usize = 1;
    const QUADS: bool = false;

    fn parts(m: Matrix) -> Vec<Part> {
        vec![Part { suffix: ".panels", element: Element::F16, shape: vec![m.panels(), m.columns(), PANEL] }]
    }

    fn encode(values: &[f32], m: Matrix) -> Result<Vec<Vec<u8>>, Overflow> {
        no_more_than(values, f16::MAX.to_f32())?;
        Ok(vec![placed(values, m, m.panels() * m.columns() * PANEL, place(m), |v| f16::from_f32(v).to_le_bytes())])
    }

    fn decode(parts: &[&[u8]], m: Matrix) -> Vec<f32> {
        taken(m, place(m), |i| f16::from_le_bytes([parts[0][2 * i], parts[0][2 * i + 1]]).to_f32())
    }

    fn panel_bytes(m: Matrix) -> usize {
        m.columns() * PANEL * 2
    }

    fn line(m: Matrix, tap: usize, channel: usize) -> usize {
        (tap * m.channels + channel) * PANEL * 2
    }

    #[inline(always)]
    unsafe fn lanes<S: Simd>(s: S, parts: &Parts, at: At, j: usize) -> S::V {
        // SAFETY: the caller's contract.
        unsafe { s.load_f16(parts.line_of::<Self>(at).cast::<u16>().add(j)) }
    }

    unsafe fn quads<S: Simd>(_: S, _: &Parts, _: At, _: usize) -> S::V {
        unreachable!("asked of whole numbers alone")
    }

    #[inline(always)]
    unsafe fn widen<S: Simd>(s: S, parts: &Parts, at: At, count: usize, out: *mut f32) {
        let from = parts.line_of::<Self>(at).cast::<u16>();
        for i in (0..count * PANEL).step_by(S::LANES) {
            // SAFETY: the caller's contract.
            unsafe { s.store(out.add(i), s.load_f16(from.add(i))) };
        }
    }
}
