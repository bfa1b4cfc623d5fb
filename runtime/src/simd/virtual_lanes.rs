//! Reductions over a row whose order does not depend on a vector's length: see [`super`] for that order.

use super::Simd;

/// Lanes of a reduction: two of the longest vectors. On AVX2 they are four chains of additions, which hides their latency, and
/// leaves registers for a second reduction beside the first.
pub(crate) const VIRTUAL: usize = 32;

/// [`VIRTUAL`] lanes as vectors of S, the first `VIRTUAL / LANES` of these. What is added to vector `v` of them is what [`sweep`]
/// says belongs there.
#[derive(Clone, Copy)]
pub(crate) struct VirtualLanes<S: Simd>(pub [S::V; VIRTUAL]);

impl<S: Simd> VirtualLanes<S> {
    /// `x` in every lane.
    #[inline(always)]
    pub fn splat(s: S, x: f32) -> VirtualLanes<S> {
        VirtualLanes([s.splat(x); VIRTUAL])
    }

    /// Sum of the lanes.
    #[inline(always)]
    pub fn sum(mut self, s: S) -> f32 {
        let mut vectors = VIRTUAL / S::LANES;
        while vectors > 1 {
            vectors /= 2;
            for v in 0..vectors {
                self.0[v] = s.add(self.0[v], self.0[v + vectors]);
            }
        }
        s.reduce_add(self.0[0])
    }

    /// The greatest lane; unspecified if one is NaN.
    #[inline(always)]
    pub fn max(mut self, s: S) -> f32 {
        let mut vectors = VIRTUAL / S::LANES;
        while vectors > 1 {
            vectors /= 2;
            for v in 0..vectors {
                self.0[v] = s.max(self.0[v], self.0[v + vectors]);
            }
        }
        s.reduce_max(self.0[0])
    }
}

/// Visits the `$c` elements of a row in order, as vectors of `$S`: `$i` the index of the first element, `$n` the lanes that exist,
/// `$v` the vector of [`VirtualLanes`] that they belong to.
///
/// The last elements have a loop of their own with a fixed number of turns, so that it is unrolled and lanes stay in registers.
macro_rules! sweep {
    ($S:ident, $c:expr, |$i:ident, $n:ident, $v:ident| $body:expr) => {{
        const VIRTUAL: usize = crate::simd::VIRTUAL;
        let whole = $c / VIRTUAL * VIRTUAL;
        let mut first = 0;
        while first < whole {
            for $v in 0..VIRTUAL / $S::LANES {
                let ($i, $n) = (first + $v * $S::LANES, $S::LANES);
                $body;
            }
            first += VIRTUAL;
        }
        for $v in 0..VIRTUAL / $S::LANES {
            let $i = whole + $v * $S::LANES;
            if $i < $c {
                let $n = $S::LANES.min($c - $i);
                $body;
            }
        }
    }};
}
pub(crate) use sweep;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::values;
    use crate::simd::{Isa, variants};

    #[inline(always)]
    unsafe fn reduce_body<S: Simd>(s: S, x: &[f32]) -> [f32; 2] {
        let (mut sums, mut greatest) = (VirtualLanes::splat(s, 0.0), VirtualLanes::splat(s, f32::NEG_INFINITY));
        // SAFETY: elements i .. i + n of the slice.
        sweep!(S, x.len(), |i, n, v| unsafe {
            sums.0[v] = s.add(sums.0[v], s.load_n(x.as_ptr().add(i), n));
            greatest.0[v] = s.max(greatest.0[v], s.load_or(x.as_ptr().add(i), n, f32::NEG_INFINITY));
        });
        [sums.sum(s), greatest.max(s)]
    }
    variants! { unsafe fn reduce(x: &[f32]) -> [f32; 2] as Reduce = reduce_body }

    /// As the module above describes it, one lane at a time.
    fn described(x: &[f32], neutral: f32, f: impl Fn(f32, f32) -> f32) -> f32 {
        let mut lanes = [neutral; 32];
        x.iter().enumerate().for_each(|(i, &x)| lanes[i % 32] = f(lanes[i % 32], x));
        for half in [16, 8, 4, 2, 1] {
            (0..half).for_each(|i| lanes[i] = f(lanes[i], lanes[i + half]));
        }
        lanes[0]
    }

    #[test]
    fn in_the_order_that_is_described() {
        for count in (0..=100).chain([1000]) {
            let x: Vec<f32> = values(count, 1).iter().map(|x| x * x * x - 3.0).collect();
            let want = [described(&x, 0.0, |a, b| a + b), described(&x, f32::NEG_INFINITY, f32::max)];
            for isa in Isa::all() {
                // SAFETY: a slice.
                let found = unsafe { reduce(isa)(&x) };
                assert_eq!(found.map(f32::to_bits), want.map(f32::to_bits), "{isa}: {count} elements");
            }
        }
    }
}
