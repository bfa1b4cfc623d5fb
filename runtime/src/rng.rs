//! Random numbers that are a pure function of what they are for: Philox4x32-10 (Salmon, Moraes, Dror, Shaw,
//! "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
//!
//! Layout, part of the format (a seed has to give the same picture for ever):
//! key = the 64-bit seed, low word first; counter = `[block, step, item, purpose]`. Each block gives four 32-bit
//! words; word `i` of a stream is word `i % 4` of block `i / 4`, so a stream has 2^34 words and nothing depends on
//! threads, on batches, or on how a request is cut into pieces.
//!
//! Normals are Box-Muller pairs: words `2j` and `2j + 1` give normals `2j` and `2j + 1`,
//! `r cos(2 pi b)` and `r sin(2 pi b)` with `r = sqrt(-2 ln a)`, `a = (w0 + 1) / 2^32` in (0, 1], `b = w1 / 2^32`
//! in [0, 1), in f64, rounded once to f32. The largest magnitude is `sqrt(64 ln 2)` = 6.66. `ln`, `cos` and `sin`
//! come from the `libm` crate, whose bits are the same on every machine; the standard library's are the platform's.

use std::f64::consts::TAU;

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const KEY_STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;
const TWO_POW_32: f64 = 4_294_967_296.0;

/// Words in a stream: more than that many are refused, since the block number has 32 bits.
const STREAM_WORDS: u64 = 1 << 34;

/// What numbers are for. Equal seeds give independent numbers for different purposes. The values are part of the
/// layout: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Purpose {
    /// The state that sampling starts from.
    InitialState = 0,
    /// Noise added by a sampler's step.
    SamplerNoise = 1,
    /// Initial weights; `item` is the parameter.
    Weights = 2,
    /// Order of training examples; `step` is the epoch.
    Shuffle = 3,
    /// Time of a training example.
    TrainingTime = 4,
    /// Noise of a training example.
    TrainingNoise = 5,
    /// Whether a training example loses its label.
    LabelDropout = 6,
    /// Whether a training example is mirrored.
    Flip = 7,
    /// Noise of an autoencoder's posterior.
    Posterior = 8,
    /// Which examples are held out from training.
    HeldOut = 9,
    /// Time and noise of a held-out example.
    Validation = 10,
}

/// One independent sequence of words under a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stream {
    /// What for.
    pub purpose: Purpose,
    /// Which picture, parameter or example.
    pub item: u32,
    /// Which step of a sampler or of training.
    pub step: u32,
}

/// Block number `index` of `stream`.
pub fn block(seed: u64, stream: Stream, index: u32) -> [u32; 4] {
    philox4x32([index, stream.step, stream.item, stream.purpose as u32], [seed as u32, (seed >> 32) as u32])
}

/// Word number `index` of `stream`. For runs of words [`normals`] is four times as fast.
///
/// # Panics
/// When `index` is 2^34 or more.
pub fn word(seed: u64, stream: Stream, index: u64) -> u32 {
    assert!(index < STREAM_WORDS, "a stream has 2^34 words");
    block(seed, stream, (index / 4) as u32)[(index % 4) as usize]
}

/// Uniform number `index` of `stream`, in [0, 1), a multiple of 2^-53; made of words `2 index` (high) and `2 index + 1`.
///
/// # Panics
/// When `index` is 2^33 or more.
pub fn uniform(seed: u64, stream: Stream, index: u64) -> f64 {
    let bits = u64::from(word(seed, stream, 2 * index)) << 32 | u64::from(word(seed, stream, 2 * index + 1));
    (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// Fills `out` with the first standard normals of `stream`.
///
/// # Panics
/// When `out` holds more than 2^34 values.
pub fn normals(seed: u64, stream: Stream, out: &mut [f32]) {
    normals_from(seed, stream, 0, out);
}

/// Fills `out` with the standard normals of `stream` from number `first` on. The pieces of a sequence, drawn in any
/// order, are the sequence.
///
/// # Panics
/// When a normal beyond number 2^34 is asked for.
pub fn normals_from(seed: u64, stream: Stream, first: u64, out: &mut [f32]) {
    assert!(first.checked_add(out.len() as u64).is_some_and(|end| end <= STREAM_WORDS), "a stream has 2^34 normals");
    let mut rest = out;
    let mut position = first;
    while !rest.is_empty() {
        let four = block_of_normals(block(seed, stream, (position / 4) as u32));
        let skip = (position % 4) as usize;
        let taken = rest.len().min(4 - skip);
        let (now, later) = rest.split_at_mut(taken);
        now.copy_from_slice(&four[skip..skip + taken]);
        position += taken as u64;
        rest = later;
    }
}

fn block_of_normals(words: [u32; 4]) -> [f32; 4] {
    let pair = |w0: u32, w1: u32| {
        let radius = (-2.0 * libm::log((f64::from(w0) + 1.0) / TWO_POW_32)).sqrt();
        let angle = TAU * (f64::from(w1) / TWO_POW_32);
        [(radius * libm::cos(angle)) as f32, (radius * libm::sin(angle)) as f32]
    };
    let ([a, b], [c, d]) = (pair(words[0], words[1]), pair(words[2], words[3]));
    [a, b, c, d]
}

fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..ROUNDS {
        if round > 0 {
            key = [key[0].wrapping_add(KEY_STEPS[0]), key[1].wrapping_add(KEY_STEPS[1])];
        }
        let p0 = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let p1 = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [(p1 >> 32) as u32 ^ counter[1] ^ key[0], p1 as u32, (p0 >> 32) as u32 ^ counter[3] ^ key[1], p0 as u32];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Stream = Stream { purpose: Purpose::InitialState, item: 0, step: 0 };

    /// The `philox4x32 10` lines of the authors' `kat_vectors`.
    #[test]
    fn published_known_answers() {
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        assert_eq!(philox4x32(pi, [0xa409_3822, 0x299f_31d0]), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    /// A change of these is a change of every picture ever made from a seed.
    #[test]
    fn first_values_of_seed_0() {
        let mut out = [0.0; 6];
        normals(0, START, &mut out);
        assert_eq!(out.map(f32::to_bits), EXPECTED, "{out:?}");
    }

    #[test]
    fn pieces_are_the_sequence() {
        let mut whole = vec![0.0; 103];
        normals(9, START, &mut whole);
        for size in [1, 2, 3, 5, 7, 64] {
            let mut pieces = vec![0.0; 103];
            for (i, piece) in pieces.chunks_mut(size).enumerate() {
                normals_from(9, START, (i * size) as u64, piece);
            }
            assert_eq!(whole, pieces, "pieces of {size}");
        }
    }

    #[test]
    fn moments_and_independence_of_streams() {
        let n = 200_000;
        let draw = |seed, stream| {
            let mut out = vec![0.0f32; n];
            normals(seed, stream, &mut out);
            out
        };
        let base = draw(1, START);
        let moment = |p: i32| base.iter().map(|&z| f64::from(z).powi(p)).sum::<f64>() / n as f64;
        // Five standard errors each: var(z^p) is 1, 2, 15, 96 for p = 1..4.
        for (p, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
            let error: f64 = (moment(p) - expected).abs();
            assert!(error < 5.0 * f64::sqrt(variance / n as f64), "moment {p} is off by {error}");
        }
        for other in [
            draw(2, START),
            draw(1 << 32, START),
            draw(1, Stream { step: 1, ..START }),
            draw(1, Stream { item: 1, ..START }),
            draw(1, Stream { purpose: Purpose::SamplerNoise, ..START }),
        ] {
            let correlation = base.iter().zip(&other).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>() / n as f64;
            assert!(correlation.abs() < 5.0 / f64::sqrt(n as f64), "correlation {correlation}");
        }
    }

    #[test]
    fn extreme_words_give_finite_normals() {
        for words in [[0; 4], [u32::MAX; 4], [0, u32::MAX, u32::MAX, 0]] {
            assert!(block_of_normals(words).iter().all(|z| z.is_finite() && z.abs() < 6.67), "{words:?}");
        }
    }

    #[test]
    fn uniforms_are_in_range_and_centred() {
        let n = 100_000;
        let sum: f64 = (0..n).map(|i| uniform(3, START, i)).inspect(|u| assert!((0.0..1.0).contains(u))).sum();
        assert!((sum / n as f64 - 0.5).abs() < 5.0 * f64::sqrt(1.0 / 12.0 / n as f64));
    }

    /// Bits of 0.9911377, -0.9246626, -0.6176090, -0.4820686, -0.1536382, 0.1808259.
    const EXPECTED: [u32; 6] = [0x3f7d_bb33, 0xbf6c_b6b0, 0xbf1e_1b9f, 0xbef6_d1b2, 0xbe1d_5357, 0x3e39_2a6d];
}
