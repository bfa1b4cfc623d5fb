//! What encodings of whole numbers share. A value is `scale * q`: the scale is its row's, an f32, and q a signed byte, which an
//! encoding may store in fewer bits.
//!
//! Numbers of four neighbouring channels of a row make a *quad*, the lowest channel in the lowest byte: `[panels, taps * ceil(channels /
//! 4), 16, 4]`, so that a line of quads is 64 bytes: a vector of AVX-512, four of NEON's dot products. Quads do not straddle taps; where
//! there is no channel, q is 0. The parts, in this order:
//!
//! | part | | |
//! | --- | --- | --- |
//! | `.codes` | q, as the encoding has it | |
//! | `.scales` | `[panels, 16]` | f32, since f16 underflows; 1 of a row of zeros, NaN of a row that is not finite |
//! | `.sums` | `[panels, taps, 16]` | the sums of q over a tap's channels, for factors that have an offset |

use super::{At, EncodingDef, Matrix, Part, Parts};
use crate::plan::{Element, PANEL};
use crate::simd::Simd;

/// Index of the part with a scale a row.
pub(crate) const SCALES: usize = 1;

/// Index of the part with a sum a row and tap.
pub(crate) const SUMS: usize = 2;

/// What of a row's greatest magnitude its range may end at; numbers beyond are clipped.
const CLIPS: [f32; 13] = [1.0, 0.97, 0.94, 0.91, 0.88, 0.85, 0.81, 0.77, 0.73, 0.68, 0.63, 0.58, 0.52];

/// The parts, the codes being of that element and shape; further ones may follow.
pub(super) fn parts(m: Matrix, element: Element, codes: Vec<usize>) -> Vec<Part> {
    vec![
        Part { suffix: ".codes", element, shape: codes },
        Part { suffix: ".scales", element: Element::F32, shape: vec![m.panels(), PANEL] },
        Part { suffix: ".sums", element: Element::I32, shape: vec![m.panels(), m.taps, PANEL] },
    ]
}

/// Quads of a tap.
pub(super) fn quads_of_tap(m: Matrix) -> usize {
    m.channels.div_ceil(4)
}

/// Rows of whole numbers, as they are before an encoding packs them.
pub(super) struct Rows {
    /// `[rows, taps * channels]`.
    pub q: Vec<i8>,
    /// A scale a row.
    pub scales: Vec<f32>,
}

/// The whole number nearest to `v`, of a magnitude up to `most`.
#[inline(always)]
pub(super) fn nearest(v: f32, most: f32) -> f32 {
    v.round_ties_even().clamp(-most, most)
}

/// Sum of the squared errors of rounding to multiples of `scale` up to `most` of them.
pub(super) fn squared_error(values: &[f32], scale: f32, [least, most]: [f32; 2]) -> f32 {
    let (rate, mut sums) = (1.0 / scale, [0.0; 16]);
    let mut add = |values: &[f32]| {
        for (sum, &v) in sums.iter_mut().zip(values) {
            let e = v - scale * (v * rate).round_ties_even().clamp(least, most);
            *sum += e * e;
        }
    };
    let whole = values.chunks_exact(16);
    let rest = whole.remainder();
    whole.for_each(&mut add);
    add(rest);
    sums.iter().sum()
}

/// The greatest magnitude; NaN if a value is not finite.
pub(super) fn greatest(values: &[f32]) -> f32 {
    let most = values.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    // `max` passes over NaN.
    if values.iter().all(|v| v.is_finite()) { most } else { f32::NAN }
}

/// Of the scales at which numbers up to `most` reach the greatest value or, clipping, a part of it, the one of the least squared error.
/// 1 for zeros, NaN for values that are not finite.
pub(super) fn best_scale(values: &[f32], range: [f32; 2]) -> f32 {
    let greatest = greatest(values);
    // A scale is a normal number, so that its reciprocal is finite.
    let scale = |clip: f32| (greatest * clip / range[1]).max(f32::MIN_POSITIVE);
    match greatest {
        0.0 => 1.0,
        g if g.is_nan() => f32::NAN,
        _ => {
            let errors = CLIPS.map(|clip| (scale(clip), squared_error(values, scale(clip), range)));
            // The first of equals; rows of 127 steps or more gain by clipping rarely, and then little.
            errors.into_iter().reduce(|best, other| if other.1 < best.1 { other } else { best }).map_or(1.0, |(scale, _)| scale)
        }
    }
}

/// Rounds every row to numbers up to `most` either way.
pub(super) fn rounded(values: &[f32], m: Matrix, most: f32) -> Rows {
    let mut rows = Rows { q: Vec::with_capacity(values.len()), scales: Vec::with_capacity(m.rows) };
    for row in values.chunks_exact(m.columns().max(1)) {
        let scale = best_scale(row, [-most, most]);
        let rate = if scale.is_nan() { 0.0 } else { 1.0 / scale };
        // NaN becomes 0, in a row whose scale is NaN.
        rows.q.extend(row.iter().map(|v| nearest(v * rate, most) as i8));
        rows.scales.push(scale);
    }
    rows
}

/// The parts of scales and sums, the numbers being `[rows, taps * channels]`.
pub(super) fn scales_and_sums(m: Matrix, scales: &[f32], q: &[i8]) -> [Vec<u8>; 2] {
    let mut padded = vec![1.0f32; m.panels() * PANEL];
    padded[..m.rows].copy_from_slice(scales);
    let mut sums = vec![0i32; m.panels() * m.taps * PANEL];
    for (row, q) in q.chunks_exact(m.columns().max(1)).enumerate() {
        for (tap, q) in q.chunks_exact(m.channels.max(1)).enumerate() {
            sums[(row / PANEL * m.taps + tap) * PANEL + row % PANEL] = q.iter().map(|&q| i32::from(q)).sum();
        }
    }
    [padded.iter().flat_map(|v| v.to_le_bytes()).collect(), sums.iter().flat_map(|v| v.to_le_bytes()).collect()]
}

/// The values from numbers and the bytes of the part of scales.
pub(super) fn scaled(m: Matrix, scales: &[u8], q: impl Fn(usize, usize, usize) -> i8) -> Vec<f32> {
    let scale = |row: usize| f32::from_le_bytes(scales[4 * row..4 * row + 4].try_into().expect("four bytes"));
    let places = (0..m.rows).flat_map(|row| (0..m.taps).flat_map(move |tap| (0..m.channels).map(move |channel| (row, tap, channel))));
    places.map(|(row, tap, channel)| f32::from(q(row, tap, channel)) * scale(row)).collect()
}

/// The scales of rows `j ..` of a panel.
///
/// # Safety
/// - The parts have that panel; `j + LANES <= PANEL`.
#[inline(always)]
pub(crate) unsafe fn scales<S: Simd>(s: S, parts: &Parts, panel: usize, j: usize) -> S::V {
    // SAFETY: the caller's contract.
    unsafe { s.load(parts.addresses[SCALES].cast::<f32>().add(panel * PANEL + j)) }
}

/// [`EncodingDef::lanes`] of whole numbers.
///
/// # Safety
/// - As there.
#[inline(always)]
pub(super) unsafe fn lanes<E: EncodingDef, S: Simd>(s: S, parts: &Parts, at: At, j: usize) -> S::V {
    // SAFETY: the caller's contract.
    unsafe {
        let quads = E::quads(s, parts, At { channel: at.channel & !3, ..at }, j);
        let [q, ..] = s.widen_bytes(s.shift_right(quads, 8 * (at.channel % 4) as u32));
        s.mul(q, scales(s, parts, at.panel, j))
    }
}

/// [`EncodingDef::widen`] of whole numbers.
///
/// # Safety
/// - As there.
#[inline(always)]
pub(super) unsafe fn widen<E: EncodingDef, S: Simd>(s: S, parts: &Parts, at: At, count: usize, out: *mut f32) {
    for j in (0..PANEL).step_by(S::LANES) {
        // SAFETY: the caller's contract; channels below `count` only are stored.
        unsafe {
            let scales = scales(s, parts, at.panel, j);
            let out = out.add(j);
            for k in (0..count).step_by(4) {
                let quads = E::quads(s, parts, At { channel: at.channel + k, ..at }, j);
                for (i, q) in s.widen_bytes(quads).into_iter().enumerate() {
                    if k + i < count {
                        s.store(out.add((k + i) * PANEL), s.mul(q, scales));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_end_where_the_error_is_least() {
        // Two values of 127 steps lose nothing to a range that both fill.
        assert_eq!(best_scale(&[127.0, -127.0, 1.0], [-127.0, 127.0]), 1.0);
        assert_eq!(best_scale(&[0.0; 5], [-127.0, 127.0]), 1.0);
        assert!(best_scale(&[1.0, f32::NAN], [-7.0, 7.0]).is_nan() && best_scale(&[f32::INFINITY], [-7.0, 7.0]).is_nan());
        // Many small values and one outlier: finer steps win.
        let values: Vec<f32> = (0..1000).map(|i| (i % 21) as f32 - 10.0).chain([16.0]).collect();
        let scale = best_scale(&values, [-7.0, 7.0]);
        assert!(scale < 16.0 / 7.0, "{scale}");
        for clip in CLIPS {
            let other = 16.0 / 7.0 * clip;
            assert!(squared_error(&values, scale, [-7.0, 7.0]) <= squared_error(&values, other, [-7.0, 7.0]) * 1.0001, "{clip}");
        }
    }

    #[test]
    fn rows_of_zeros_and_of_the_smallest_numbers() {
        let m = Matrix { rows: 4, taps: 1, channels: 3 };
        let values = [0.0, 0.0, 0.0, 1e-30, -5e-31, 0.0, 1e-45, 0.0, 0.0, f32::NAN, 1.0, 2.0];
        let rows = rounded(&values, m, 127.0);
        assert_eq!((rows.scales[0], &rows.q[..3]), (1.0, &[0, 0, 0][..]));
        assert_eq!((rows.q[3], rows.q[5], rows.q[6]), (127, 0, 0));
        assert!((f32::from(rows.q[4]) + 63.5).abs() <= 0.5);
        assert!(rows.scales[1].is_normal() && rows.scales[2].is_normal() && rows.scales[3].is_nan());
    }
}
