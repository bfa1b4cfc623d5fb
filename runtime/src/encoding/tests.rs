//! What holds of every encoding.

use super::*;
use crate::kernels::testing::values;
use crate::simd::{Isa, variants};

/// A matrix's values as the encoding has them, and its parts as memory.
pub(crate) fn stored(encoding: Encoding, w: &[f32], m: Matrix) -> (Vec<f64>, Vec<Vec<f32>>) {
    let parts = encoding.encode(w, m).expect("values that it can represent");
    let rounded = encoding.decode(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>(), m);
    let word = |b: &[u8]| f32::from_bits(u32::from_le_bytes(b.try_into().expect("four bytes")));
    (rounded.into_iter().map(f64::from).collect(), parts.iter().map(|p| p.chunks_exact(4).map(word).collect()).collect())
}

/// Addresses of parts in memory.
pub(crate) fn parts(encoding: Encoding, matrix: Matrix, memory: &[Vec<f32>]) -> Parts {
    let addresses = std::array::from_fn(|i| memory.get(i).map_or(std::ptr::null(), |p| p.as_ptr().cast()));
    Parts { encoding, matrix, addresses }
}

fn matrices() -> impl Iterator<Item = Matrix> {
    // Of numbers with groups: none whole, some whole, more than share a word.
    let sizes = [(37, 1, 5), (16, 4, 3), (3, 9, 2), (1, 1, 1), (33, 9, 8), (5, 2, 71), (17, 1, 36), (2, 1, 555)];
    sizes.into_iter().map(|(rows, taps, channels)| Matrix { rows, taps, channels })
}

#[test]
fn parts_have_the_bytes_that_they_say_and_decoding_is_near() {
    for m in matrices() {
        let w = values(m.rows * m.columns(), 1);
        for &encoding in Encoding::ALL {
            let bytes: Vec<usize> = encoding.encode(&w, m).expect("small values").iter().map(Vec::len).collect();
            assert_eq!(bytes, encoding.parts(m).iter().map(Part::bytes).collect::<Vec<_>>(), "{encoding:?} {m:?}");
            let (decoded, _) = stored(encoding, &w, m);
            let most = w.iter().zip(&decoded).map(|(w, d)| (f64::from(*w) - d).abs()).fold(0.0, f64::max);
            // Values are below 2; half a step of the coarsest row or group, and what clipping adds.
            let bound = match encoding {
                Encoding::F32 => 0.0,
                Encoding::F16 | Encoding::Bf16 | Encoding::I8 => 2.0 / 128.0,
                Encoding::I6 => 2.0 / 31.0,
                Encoding::I4 => 2.0 / 3.0,
            };
            assert!(most <= bound, "{encoding:?} {m:?}: {most}");
        }
    }
}

#[test]
fn whole_panels_can_be_encoded_apart() {
    let m = Matrix { rows: 40, taps: 3, channels: 5 };
    let w = values(m.rows * m.columns(), 1);
    for &encoding in Encoding::ALL {
        let whole = encoding.encode(&w, m).expect("small values");
        let mut made = vec![Vec::new(); whole.len()];
        for rows in [0..16, 16..32, 32..40] {
            let part = Matrix { rows: rows.len(), ..m };
            let some = encoding.encode(&w[rows.start * m.columns()..rows.end * m.columns()], part).expect("small values");
            made.iter_mut().zip(some).for_each(|(all, part)| all.extend(part));
        }
        assert_eq!(made, whole, "{encoding:?}");
    }
}

#[test]
fn what_has_no_number_is_refused_and_halves_are_the_nearest() {
    let m = Matrix { rows: 1, taps: 1, channels: 1 };
    let one = |encoding: Encoding, v: f32| encoding.encode(&[v], m).map(|p| u16::from_le_bytes([p[0][0], p[0][1]]));
    assert_eq!(one(Encoding::F16, -65505.0), Err(Overflow { value: -65505.0, most: 65504.0 }));
    assert!(one(Encoding::Bf16, f32::MAX).is_err() && one(Encoding::F32, f32::MAX).is_ok());
    // Ties go to the even neighbour.
    assert_eq!([0x3f80_8000, 0x3f81_8000].map(|b| one(Encoding::Bf16, f32::from_bits(b))), [Ok(0x3f80), Ok(0x3f82)]);
    assert_eq!([1.0 + 1.0 / 2048.0, 1.0 + 3.0 / 2048.0].map(|v| one(Encoding::F16, v)), [Ok(0x3c00), Ok(0x3c02)]);
    assert_eq!([65504.0, f32::INFINITY, 1e-9].map(|v| one(Encoding::F16, v)), [Ok(0x7bff), Ok(0x7c00), Ok(0)]);
}

#[inline(always)]
unsafe fn lines_body<S: Simd>(s: S, parts: &Parts, at: At, count: usize, out: &mut [f32]) {
    assert!(out.len() == 2 * count * PANEL);
    // SAFETY: the caller's contract; room for the lines twice.
    unsafe {
        parts.widen(s, at, count, out.as_mut_ptr());
        for k in 0..count {
            for j in (0..PANEL).step_by(S::LANES) {
                let at = At { channel: at.channel + k, ..at };
                let v = encodings! { of_encoding { (parts.encoding) E => E::lanes(s, parts, at, j); } };
                s.store(out.as_mut_ptr().add((count + k) * PANEL + j), v);
            }
        }
    }
}
variants! {
    /// Lines by either way.
    ///
    /// # Safety
    /// - As of [`EncodingDef::widen`].
    unsafe fn lines(parts: &Parts, at: At, count: usize, out: &mut [f32]) as Lines = lines_body
}

#[test]
fn lines_hold_the_decoded_values() {
    for m in matrices() {
        for &encoding in Encoding::ALL {
            let (decoded, memory) = stored(encoding, &values(m.rows * m.columns(), 1), m);
            let parts = parts(encoding, m, &memory);
            for isa in Isa::all() {
                for (panel, tap) in (0..m.panels()).flat_map(|p| (0..m.taps).map(move |t| (p, t))) {
                    let mut out = vec![0.0; 2 * m.channels * PANEL];
                    // SAFETY: all channels of a tap of a panel.
                    unsafe { lines(isa)(&parts, At { panel, tap, channel: 0 }, m.channels, &mut out) };
                    for (i, &found) in out.iter().enumerate() {
                        let (row, channel) = (panel * PANEL + i % PANEL, i / PANEL % m.channels);
                        let want = if row < m.rows { decoded[(row * m.taps + tap) * m.channels + channel] } else { 0.0 };
                        assert_eq!(f64::from(found), want, "{isa} {encoding:?} {m:?} row {row} tap {tap} channel {channel}");
                    }
                }
            }
        }
    }
}
