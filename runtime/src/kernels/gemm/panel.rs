//! How the weights of a panel are stored, and how a tile multiplies by them. A panel is a run of lines; a line has, for
//! each of the 16 channels, the weights of one step of k, or of two that are neighbours.

use crate::plan::{Element, PANEL};
use crate::simd::Simd;

/// The ways of multiplying by stored weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weights {
    F32,
    F16,
    /// The weights are widened to f32.
    Bf16,
    /// The rows of A are bf16 as well: an f32 of them is a pair.
    Bf16Pairs,
}

/// What a tile needs to know of a line. Methods are to be inlined.
pub(crate) trait Line {
    /// Steps of k that a line holds.
    const STEPS: usize;
    /// Bytes of a weight's storage per channel and line.
    const BYTES: usize;

    /// f32 from the panel's first line to that of step `k`, a multiple of [`Line::STEPS`] or the panel's end.
    #[inline(always)]
    fn offset(k: usize) -> usize {
        k.div_ceil(Self::STEPS) * PANEL * Self::BYTES / size_of::<f32>()
    }

    /// Step `step` of the line's channels at `p`.
    ///
    /// # Safety
    /// - `p` is valid for LANES channels of a line.
    unsafe fn load<S: Simd>(s: S, p: *const u8, step: usize) -> S::V;

    /// `a * b + sum`: `a` as it lies in A, `b` as [`Line::load`] gives it.
    #[inline(always)]
    fn multiply_add<S: Simd>(s: S, a: S::V, b: S::V, sum: S::V) -> S::V {
        s.mla(a, b, sum)
    }
}

/// f32.
pub(crate) enum F32 {}

impl Line for F32 {
    const STEPS: usize = 1;
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const u8, _: usize) -> S::V {
        // SAFETY: the caller's contract.
        unsafe { s.load(p.cast()) }
    }
}

/// f16.
pub(super) enum F16 {}

impl Line for F16 {
    const STEPS: usize = 1;
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const u8, _: usize) -> S::V {
        // SAFETY: the caller's contract.
        unsafe { s.load_f16(p.cast()) }
    }
}

/// Pairs of bf16, times f32.
pub(super) enum Bf16 {}

impl Line for Bf16 {
    const STEPS: usize = 2;
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const u8, step: usize) -> S::V {
        // SAFETY: the caller's contract.
        let pairs = unsafe { s.load(p.cast()) };
        if step == 0 { s.low_bf16(pairs) } else { s.high_bf16(pairs) }
    }
}

/// Pairs of bf16, times such pairs. A pair counts as one step of k.
pub(super) enum Bf16Pairs {}

impl Line for Bf16Pairs {
    const STEPS: usize = 1;
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const u8, _: usize) -> S::V {
        // SAFETY: the caller's contract.
        unsafe { s.load(p.cast()) }
    }

    #[inline(always)]
    fn multiply_add<S: Simd>(s: S, a: S::V, b: S::V, sum: S::V) -> S::V {
        s.dot_bf16(a, b, sum)
    }
}

impl Weights {
    /// For weights of that type; `pairs` if the rows of A are bf16.
    pub fn new(element: Element, pairs: bool) -> Weights {
        match element {
            Element::BF16 if pairs => Weights::Bf16Pairs,
            Element::BF16 => Weights::Bf16,
            Element::F16 => Weights::F16,
            Element::F32 | Element::I32 => Weights::F32,
        }
    }
}
