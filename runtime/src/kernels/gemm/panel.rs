//! How the weights of a panel are stored, and how a tile multiplies by them. A panel is a run of lines; a line has, for
//! each of the 16 channels, the weights of one step of k, or of two that are neighbours.
//!
//! The tile knows two kinds of lines, of f32 and of pairs of bf16. Half weights of f32 products are widened a stretch of k
//! at a time, into scratch that all rows of a block then pass over: once for eight tiles or more, and the tile stays as it is.

use super::micro::DEPTH;
use crate::plan::{Element, PANEL};
use crate::simd::Simd;

/// The ways of multiplying by stored weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weights {
    F32,
    F16,
    /// Pairs of steps of k, widened to f32.
    Bf16,
    /// The rows of A are bf16 as well: an f32 of them is a pair, and a pair counts as one step of k.
    Bf16Pairs,
}

/// f32 of the widened stretches of two panels.
pub(super) const WIDENED: usize = 2 * DEPTH * PANEL;

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

    /// f32 from a panel's first line to that of step `k`, which is even for [`Weights::Bf16`] or the end of a tap.
    pub fn offset(self, k: usize) -> usize {
        match self {
            Weights::F32 | Weights::Bf16Pairs => k * PANEL,
            Weights::F16 => k * PANEL / 2,
            Weights::Bf16 => k.div_ceil(2) * PANEL,
        }
    }

    /// Whether a tile cannot read them as they are.
    pub fn are_widened(self) -> bool {
        matches!(self, Weights::F16 | Weights::Bf16)
    }

    /// Channels `j ..` of step `k` of lines that begin at `lines`, as f32.
    ///
    /// # Safety
    /// - The step exists, and a vector of its channels from `j` on.
    #[inline(always)]
    pub unsafe fn lanes<S: Simd>(self, s: S, lines: *const f32, k: usize, j: usize) -> S::V {
        // SAFETY: the caller's contract.
        unsafe {
            match self {
                Weights::F32 => s.load(lines.add(k * PANEL + j)),
                Weights::F16 => s.load_f16(lines.cast::<u16>().add(k * PANEL + j)),
                Weights::Bf16 | Weights::Bf16Pairs => {
                    let pairs = s.load(lines.add(k / 2 * PANEL + j));
                    if k.is_multiple_of(2) { s.low_bf16(pairs) } else { s.high_bf16(pairs) }
                }
            }
        }
    }

    /// Widens `depth` steps of a panel, from `panel` on, to f32.
    ///
    /// # Safety
    /// - `panel` is valid for that many steps, and `out` for `depth` x 16.
    #[inline(always)]
    pub unsafe fn widen<S: Simd>(self, s: S, panel: *const f32, depth: usize, out: *mut f32) {
        // SAFETY: lines of 16 channels; steps below `depth` only are stored.
        unsafe {
            if self == Weights::F16 {
                for at in (0..depth * PANEL).step_by(S::LANES) {
                    s.store(out.add(at), s.load_f16(panel.cast::<u16>().add(at)));
                }
                return;
            }
            for k in (0..depth).step_by(2) {
                for j in (0..PANEL).step_by(S::LANES) {
                    let (pairs, out) = (s.load(panel.add(k / 2 * PANEL + j)), out.add(k * PANEL + j));
                    s.store(out, s.low_bf16(pairs));
                    if k + 1 < depth {
                        s.store(out.add(PANEL), s.high_bf16(pairs));
                    }
                }
            }
        }
    }
}

/// A line that a tile reads as it is. The method is to be inlined.
pub(crate) trait Line {
    /// `a * b + sum`: `a` as it lies in A, `b` as in the panel.
    fn multiply_add<S: Simd>(s: S, a: S::V, b: S::V, sum: S::V) -> S::V;
}

/// f32.
pub(crate) enum F32 {}

impl Line for F32 {
    #[inline(always)]
    fn multiply_add<S: Simd>(s: S, a: S::V, b: S::V, sum: S::V) -> S::V {
        s.mla(a, b, sum)
    }
}

/// Pairs of bf16, times such pairs.
pub(super) enum Bf16Pairs {}

impl Line for Bf16Pairs {
    #[inline(always)]
    fn multiply_add<S: Simd>(s: S, a: S::V, b: S::V, sum: S::V) -> S::V {
        s.dot_bf16(a, b, sum)
    }
}
