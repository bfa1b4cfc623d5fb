//! What a tile multiplies at a step of k: lines of f32, lines of pairs of bf16 as they are stored, or of bytes ([`super::codes`]). Any other weights are widened
//! to lines of f32 a stretch of k at a time, into scratch that all rows of a block then pass over: once for eight tiles or more,
//! and the tile stays as it is.

use crate::simd::Simd;
use crate::simd::bf16::Bf16Products;

/// A kind of line. The method is to be inlined.
pub(crate) trait Line<S: Simd>: Copy {
    /// Columns of the matrix that a line has.
    const STEPS: usize;
    /// Whether lines are read as their encoding has them, which is this one.
    const AS_STORED: bool;

    /// `a * b + sum`: `a` as it lies in A, `b` as in the panel.
    fn multiply_add(self, s: S, a: S::V, b: S::V, sum: S::V) -> S::V;

    /// `a + b` of such sums.
    fn add(self, s: S, a: S::V, b: S::V) -> S::V;
}

/// f32.
#[derive(Clone, Copy)]
pub(crate) struct F32;

impl<S: Simd> Line<S> for F32 {
    const STEPS: usize = 1;
    const AS_STORED: bool = false;

    #[inline(always)]
    fn multiply_add(self, s: S, a: S::V, b: S::V, sum: S::V) -> S::V {
        s.mla(a, b, sum)
    }

    #[inline(always)]
    fn add(self, s: S, a: S::V, b: S::V) -> S::V {
        s.add(a, b)
    }
}

/// Pairs of bf16, times such pairs.
#[derive(Clone, Copy)]
pub(crate) struct Bf16Pairs<B>(pub B);

impl<B: Bf16Products> Line<B::Vectors> for Bf16Pairs<B> {
    const STEPS: usize = 2;
    const AS_STORED: bool = true;

    #[inline(always)]
    fn multiply_add(
        self,
        _: B::Vectors,
        a: <B::Vectors as Simd>::V,
        b: <B::Vectors as Simd>::V,
        sum: <B::Vectors as Simd>::V,
    ) -> <B::Vectors as Simd>::V {
        self.0.dot(a, b, sum)
    }

    #[inline(always)]
    fn add(self, s: B::Vectors, a: <B::Vectors as Simd>::V, b: <B::Vectors as Simd>::V) -> <B::Vectors as Simd>::V {
        s.add(a, b)
    }
}
