//! bf16, rounded to nearest even, neighbouring channels in pairs: what a CPU that multiplies pairs reads as they are, and any
//! other widens.

use half::bf16;

use super::{At, EncodingDef, Matrix, Overflow, Part, Parts, no_more_than, placed, taken};
use crate::plan::{Element, PANEL};
use crate::simd::Simd;

/// See [`super::Encoding::Bf16`].
pub(crate) enum Bf16 {}

/// Pairs of a tap.
fn pairs(m: Matrix) -> usize {
    m.channels.div_ceil(2)
}

fn place(m: Matrix) -> impl Fn(usize, usize, usize) -> usize {
    move |row, tap, channel| (((row / PANEL * m.taps + tap) * pairs(m) + channel / 2) * PANEL + row % PANEL) * 2 + channel % 2
}

impl EncodingDef for Bf16 {
    const LINES_OF_F32: bool = false;
    const INTEGERS: bool = false;
    const TOGETHER: usize = 2;
    const QUADS: bool = false;

    fn parts(m: Matrix) -> Vec<Part> {
        vec![Part { suffix: ".panels", element: Element::BF16, shape: vec![m.panels(), m.taps * pairs(m), PANEL, 2] }]
    }

    fn encode(values: &[f32], m: Matrix) -> Result<Vec<Vec<u8>>, Overflow> {
        no_more_than(values, bf16::MAX.to_f32())?;
        Ok(vec![placed(values, m, m.panels() * m.taps * pairs(m) * PANEL * 2, place(m), |v| bf16::from_f32(v).to_le_bytes())])
    }

    fn decode(parts: &[&[u8]], m: Matrix) -> Vec<f32> {
        taken(m, place(m), |i| bf16::from_le_bytes([parts[0][2 * i], parts[0][2 * i + 1]]).to_f32())
    }

    fn panel_bytes(m: Matrix) -> usize {
        m.taps * pairs(m) * PANEL * 4
    }

    fn line(m: Matrix, tap: usize, channel: usize) -> usize {
        (tap * pairs(m) + channel.div_ceil(2)) * PANEL * 4
    }

    #[inline(always)]
    unsafe fn lanes<S: Simd>(s: S, parts: &Parts, at: At, j: usize) -> S::V {
        let even = At { channel: at.channel & !1, ..at };
        // SAFETY: the caller's contract.
        let pair = unsafe { s.load(parts.line_of::<Self>(even).add(j)) };
        if at.channel.is_multiple_of(2) { s.low_bf16(pair) } else { s.high_bf16(pair) }
    }

    unsafe fn quads<S: Simd>(_: S, _: &Parts, _: At, _: usize) -> S::V {
        unreachable!("asked of whole numbers alone")
    }

    #[inline(always)]
    unsafe fn widen<S: Simd>(s: S, parts: &Parts, at: At, count: usize, out: *mut f32) {
        let from = parts.line_of::<Self>(at);
        for k in (0..count).step_by(2) {
            for j in (0..PANEL).step_by(S::LANES) {
                // SAFETY: the caller's contract; channels below `count` only are stored.
                unsafe {
                    let (pair, out) = (s.load(from.add(k / 2 * PANEL + j)), out.add(k * PANEL + j));
                    s.store(out, s.low_bf16(pair));
                    if k + 1 < count {
                        s.store(out.add(PANEL), s.high_bf16(pair));
                    }
                }
            }
        }
    }
}
