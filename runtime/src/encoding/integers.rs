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

use std::borrow::Cow;
use std::ops::Range;

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

/// The steps of a matrix's grid: what a whole number of a row, tap and channel is worth.
#[derive(Clone, Debug, PartialEq)]
pub struct Steps {
    /// A scale a row.
    pub scales: Vec<f32>,
    /// What it is multiplied by, for every row, tap and group of so many channels; 1 if there are none.
    pub multipliers: Vec<u8>,
    /// Channels of a group.
    pub group: usize,
}

impl Steps {
    fn multiplier(&self, m: Matrix, row: usize, tap: usize, channel: usize) -> u8 {
        if self.multipliers.is_empty() {
            return 1;
        }
        self.multipliers[(row * m.taps + tap) * m.channels.div_ceil(self.group) + channel / self.group]
    }

    /// What a number is worth there.
    pub fn at(&self, m: Matrix, row: usize, tap: usize, channel: usize) -> f32 {
        self.scales[row] * f32::from(self.multiplier(m, row, tap, channel))
    }

    /// The numbers times their multipliers.
    fn multiplied<'a>(&self, m: Matrix, numbers: &'a [i8]) -> Cow<'a, [i8]> {
        if self.multipliers.is_empty() {
            return Cow::Borrowed(numbers);
        }
        let groups = numbers.chunks_exact(m.channels.max(1)).flat_map(|tap| tap.chunks(self.group));
        groups.zip(&self.multipliers).flat_map(|(group, &by)| group.iter().map(move |&q| q * by as i8)).collect()
    }
}

/// An encoding of whole numbers, by what its grid is and how it packs.
pub(super) trait Integers {
    /// The least and the greatest number.
    const RANGE: [f32; 2];

    /// Steps of the least squared error, in which that of every column counts as much as its importance says, or alike if there is none.
    fn steps(values: &[f32], m: Matrix, importance: &[f32]) -> Steps;

    /// The bytes of every part but scales and sums, in their places; `numbers` are `[rows, taps * channels]`.
    fn pack(numbers: &[i8], steps: &Steps, m: Matrix) -> Packed;
}

/// Calls with row, tap and channel of every number, and the number.
#[inline(always)]
pub(super) fn each(m: Matrix, numbers: &[i8], mut f: impl FnMut(usize, usize, usize, i8)) {
    for (row, numbers) in numbers.chunks_exact(m.columns().max(1)).enumerate() {
        for (tap, numbers) in numbers.chunks_exact(m.channels).enumerate() {
            numbers.iter().enumerate().for_each(|(channel, &q)| f(row, tap, channel, q));
        }
    }
}

/// Bytes of the codes, and of a further part if there is one.
pub(super) struct Packed {
    pub codes: Vec<u8>,
    pub further: Option<Vec<u8>>,
}

/// Every part of numbers on a grid.
pub(super) fn packed<I: Integers>(numbers: &[i8], steps: &Steps, m: Matrix) -> Vec<Vec<u8>> {
    let Packed { codes, further } = I::pack(numbers, steps, m);
    let [scales, sums] = scales_and_sums(m, &steps.scales, &steps.multiplied(m, numbers));
    [codes, scales, sums].into_iter().chain(further).collect()
}

/// Every part of the numbers nearest to values.
pub(super) fn nearest<I: Integers>(values: &[f32], m: Matrix) -> Vec<Vec<u8>> {
    let steps = I::steps(values, m, &[]);
    let mut numbers = Vec::with_capacity(values.len());
    for (row, values) in values.chunks_exact(m.columns().max(1)).enumerate() {
        for (tap, values) in values.chunks_exact(m.channels).enumerate() {
            for (group, values) in values.chunks(steps.group).enumerate() {
                let step = steps.at(m, row, tap, group * steps.group);
                // NaN becomes 0, in a row whose scale is NaN; so does all of a group without steps.
                let rate = if step > 0.0 { 1.0 / step } else { 0.0 };
                numbers.extend(values.iter().map(|v| rounded(v * rate, I::RANGE) as i8));
            }
        }
    }
    packed::<I>(&numbers, &steps, m)
}

/// Steps of a scale a row alone.
pub(super) fn row_steps(values: &[f32], m: Matrix, importance: &[f32], range: [f32; 2]) -> Steps {
    let scales = values.chunks_exact(m.columns().max(1)).map(|values| best_scale(Weighed { values, importance }, range)).collect();
    Steps { scales, multipliers: Vec::new(), group: m.channels.max(1) }
}

/// The nearest whole number of a range, of two the even one; NaN stays. As `round_ties_even`, which on CPUs without an instruction for it is
/// a call for every number.
#[inline(always)]
pub(super) fn rounded(v: f32, [least, most]: [f32; 2]) -> f32 {
    // Numbers from 2^23 to 2^24 are whole.
    const WHOLE: f32 = 12_582_912.0;
    // Unlike `clamp`, these are one instruction each: NaN comes second.
    let within = if v > most { most } else { v };
    let within = if within < least { least } else { within };
    (within + WHOLE) - WHOLE
}

/// Values whose errors count so much each, or alike where nothing is said of that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weighed<'a> {
    pub values: &'a [f32],
    /// As many, or none.
    pub importance: &'a [f32],
}

impl<'a> Weighed<'a> {
    /// Some of them.
    pub fn part(self, range: Range<usize>) -> Weighed<'a> {
        let importance = if self.importance.is_empty() { self.importance } else { &self.importance[range.clone()] };
        Weighed { values: &self.values[range], importance }
    }

    /// Sum of the squared errors of rounding to multiples of `scale` in a range.
    pub fn squared_error(self, scale: f32, range: [f32; 2]) -> f32 {
        let rate = 1.0 / scale;
        let square = |v: f32| {
            let e = v - scale * rounded(v * rate, range);
            e * e
        };
        if self.importance.is_empty() {
            return sum_of(self.values, |i| square(self.values[i]));
        }
        sum_of(self.values, |i| square(self.values[i]) * self.importance[i])
    }
}

/// The sum of what there is of every element, in 16 parts.
#[inline(always)]
fn sum_of(values: &[f32], of: impl Fn(usize) -> f32) -> f32 {
    let (mut sums, whole) = ([0.0; 16], values.len() / 16 * 16);
    for first in (0..whole).step_by(16) {
        sums.iter_mut().enumerate().for_each(|(i, sum)| *sum += of(first + i));
    }
    (whole..values.len()).zip(&mut sums).for_each(|(i, sum)| *sum += of(i));
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
pub(super) fn best_scale(values: Weighed<'_>, range: [f32; 2]) -> f32 {
    let greatest = greatest(values.values);
    // A scale is a normal number, so that its reciprocal is finite.
    let scale = |clip: f32| (greatest * clip / range[1]).max(f32::MIN_POSITIVE);
    match greatest {
        0.0 => 1.0,
        g if g.is_nan() => f32::NAN,
        _ => {
            let errors = CLIPS.map(|clip| (scale(clip), values.squared_error(scale(clip), range)));
            // The first of equals; rows of 127 steps or more gain by clipping rarely, and then little.
            errors.into_iter().reduce(|best, other| if other.1 < best.1 { other } else { best }).map_or(1.0, |(scale, _)| scale)
        }
    }
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

    fn alike(values: &[f32]) -> Weighed<'_> {
        Weighed { values, importance: &[] }
    }

    #[test]
    fn ranges_end_where_the_error_is_least() {
        // Two values of 127 steps lose nothing to a range that both fill.
        assert_eq!(best_scale(alike(&[127.0, -127.0, 1.0]), [-127.0, 127.0]), 1.0);
        assert_eq!(best_scale(alike(&[0.0; 5]), [-127.0, 127.0]), 1.0);
        for odd in [[1.0, f32::NAN], [f32::INFINITY, 0.0]] {
            assert!(best_scale(alike(&odd), [-7.0, 7.0]).is_nan());
        }
        // Many small values and one outlier: finer steps win, unless the outlier counts more than all others.
        let values: Vec<f32> = (0..1000).map(|i| (i % 21) as f32 - 10.0).chain([16.0]).collect();
        let importance: Vec<f32> = (0..1000).map(|_| 1e-4).chain([1.0]).collect();
        assert!(best_scale(alike(&values), [-7.0, 7.0]) < 16.0 / 7.0);
        assert_eq!(best_scale(Weighed { values: &values, importance: &importance }, [-7.0, 7.0]), 16.0 / 7.0);
    }

    /// The error of rounding, written out in f64.
    fn error(values: Weighed<'_>, scale: f32, [least, most]: [f32; 2]) -> f64 {
        let one = |(i, &v): (usize, &f32)| {
            let nearest = (f64::from(v) / f64::from(scale)).round_ties_even().clamp(f64::from(least), f64::from(most));
            let e = f64::from(v) - nearest * f64::from(scale);
            e * e * f64::from(values.importance.get(i).copied().unwrap_or(1.0))
        };
        values.values.iter().enumerate().map(one).sum()
    }

    /// Against all scales there are, a thousandth of the greatest value apart. Those that are tried are a few: of steps as fine as `i8` has, some
    /// other fits a short row better by chance.
    #[test]
    fn scales_are_nearly_the_best_there_are() {
        let mut state = 1u32;
        let mut uniform = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        for (range, slack) in [([-127.0, 127.0], 1.2), ([-31.0, 31.0], 1.1), ([-8.0, 7.0], 1.02)] {
            let mut ratios = Vec::new();
            for _ in 0..50 {
                let values: Vec<f32> = (0..96).map(|_| (0..4).map(|_| uniform() - 0.5).sum()).collect();
                let importance: Vec<f32> = (0..96).map(|_| uniform()).collect();
                for values in [alike(&values), Weighed { values: &values, importance: &importance }] {
                    let whole = greatest(values.values) / range[1];
                    let best = (300..=1100).map(|i| error(values, whole * i as f32 / 1000.0, range)).fold(f64::INFINITY, f64::min);
                    ratios.push(error(values, best_scale(values, range), range) / best);
                }
            }
            let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
            assert!(mean <= slack, "{range:?}: {mean:.3} times the least error");
        }
    }

    #[test]
    fn rounding_is_to_the_nearest_and_of_two_the_even_one() {
        for range in [[-127.0, 127.0], [-8.0, 7.0]] {
            let values = (-2000..2000).map(|i| i as f32 / 8.0).chain([f32::INFINITY, -f32::INFINITY, 1e30, 1e-40, -0.0, 0.499_999_97]);
            for v in values {
                assert_eq!(rounded(v, range), v.round_ties_even().clamp(range[0], range[1]), "{v}");
            }
            assert!(rounded(f32::NAN, range).is_nan());
        }
    }

    #[test]
    fn rows_of_zeros_and_of_the_smallest_numbers() {
        let m = Matrix { rows: 4, taps: 1, channels: 3 };
        let values = [0.0, 0.0, 0.0, 1e-30, -5e-31, 0.0, 1e-45, 0.0, 0.0, f32::NAN, 1.0, 2.0];
        let parts = crate::encoding::Encoding::I8.encode(&values, m).expect("any value has a number");
        let decoded = crate::encoding::Encoding::I8.decode(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>(), m);
        let scales = row_steps(&values, m, &[], [-127.0, 127.0]).scales;
        assert!(scales[0] == 1.0 && scales[1].is_normal() && scales[2].is_normal() && scales[3].is_nan(), "{scales:?}");
        assert_eq!(decoded[..3], [0.0; 3]);
        assert!((decoded[3] - 1e-30).abs() < 1e-36 && (decoded[4] + 5e-31).abs() < 4e-33 && decoded[5..9] == [0.0; 4], "{decoded:?}");
        assert!(decoded[9..].iter().all(|v| v.is_nan()));
    }
}
