//! The implementations that every CPU has: the fast one, and one whose multiply-adds round once, as those of vectors do. They
//! are the same where the target has the instruction. On x86 without the FMA feature `f32::mul_add` calls a library, so
//! that the fast one's `fma` goes through f64, whose product of two f32 is exact, and its `mla` rounds twice.

use super::Simd;

/// Whether the target has fused multiply-adds.
const NATIVE: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

/// One lane. `FUSED`: `fma` and `mla` round once on every target, however long that takes.
#[derive(Clone, Copy, Debug)]
pub struct Scalar<const FUSED: bool = NATIVE>;

/// One lane that gives the bits of vectors: what reproducible plans run on in the place of [`Scalar`].
pub type FusedScalar = Scalar<true>;

/// `a * b + c`, rounded once, without an instruction for it.
///
/// The product is exact in f64. The sum is rounded to odd there: where it is no f64, to that one of its two neighbours whose last
/// bit is set. With two bits more than f32 or more, that is on the same side of every f32 and of every middle between two as
/// the sum itself, and rounds to the same (Boldo and Melquiond, Emulation of a FMA and correctly rounded sums: proved
/// algorithms using rounding to odd, 2008). Subnormal results have fewer bits still, and where f32 overflows f64 does not.
#[inline(always)]
fn rounded_once(a: f32, b: f32, c: f32) -> f32 {
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    // What rounding the sum took away, exactly (Knuth's two-sum); NaN if anything is infinite or NaN.
    let of_c = sum - product;
    let rest = (product - (sum - of_c)) + (c - of_c);
    let bits = sum.to_bits();
    // A sum with a rest is not zero: its bits are those of its magnitude, and a step of one leads to its neighbour.
    let neighbour = if (rest > 0.0) == (sum > 0.0) { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
    let odd = if rest.abs() > 0.0 && bits & 1 == 0 { neighbour } else { bits };
    f64::from_bits(odd) as f32
}

/// The value of a binary16.
#[inline(always)]
fn from_f16(bits: u16) -> f32 {
    let (sign, magnitude) = (u32::from(bits & 0x8000) << 16, u32::from(bits & 0x7fff));
    // In f32's fields the exponent is too small by 127 - 15; a product makes up for it exactly, subnormal or not.
    let scaled = (f32::from_bits(magnitude << 13) * f32::from_bits((127 + 112) << 23)).to_bits();
    let special = 0x7f80_0000 | magnitude << 13;
    f32::from_bits(sign | if magnitude < 0x7c00 { scaled } else { special })
}

impl<const FUSED: bool> Simd for Scalar<FUSED> {
    const NAME: &'static str = if FUSED && !NATIVE { "fused scalar" } else { "scalar" };
    const LANES: usize = 1;
    type V = f32;
    type M = bool;

    #[inline(always)]
    fn splat(self, x: f32) -> f32 {
        x
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> f32 {
        // SAFETY: the caller's contract.
        unsafe { *p }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: f32) {
        // SAFETY: the caller's contract.
        unsafe { *p = v }
    }
    #[inline(always)]
    unsafe fn load_partial(self, p: *const f32, n: usize) -> f32 {
        // SAFETY: the caller's contract.
        if n == 0 { 0.0 } else { unsafe { *p } }
    }
    #[inline(always)]
    unsafe fn store_partial(self, p: *mut f32, v: f32, n: usize) {
        if n > 0 {
            // SAFETY: the caller's contract.
            unsafe { *p = v }
        }
    }
    #[inline(always)]
    fn add(self, a: f32, b: f32) -> f32 {
        a + b
    }
    #[inline(always)]
    fn sub(self, a: f32, b: f32) -> f32 {
        a - b
    }
    #[inline(always)]
    fn mul(self, a: f32, b: f32) -> f32 {
        a * b
    }
    #[inline(always)]
    fn div(self, a: f32, b: f32) -> f32 {
        a / b
    }
    #[inline(always)]
    fn fma(self, a: f32, b: f32, c: f32) -> f32 {
        match (FUSED, NATIVE) {
            (true, true) => a.mul_add(b, c),
            (true, false) => rounded_once(a, b, c),
            (false, _) => (f64::from(a) * f64::from(b) + f64::from(c)) as f32,
        }
    }
    #[inline(always)]
    fn mla(self, a: f32, b: f32, c: f32) -> f32 {
        if FUSED { self.fma(a, b, c) } else { a * b + c }
    }
    #[inline(always)]
    fn max(self, a: f32, b: f32) -> f32 {
        if a > b { a } else { b }
    }
    #[inline(always)]
    fn min(self, a: f32, b: f32) -> f32 {
        if a < b { a } else { b }
    }
    #[inline(always)]
    fn sqrt(self, a: f32) -> f32 {
        a.sqrt()
    }
    #[inline(always)]
    fn round(self, a: f32) -> f32 {
        a.round_ties_even()
    }
    #[inline(always)]
    fn exp2_int(self, n: f32) -> f32 {
        // Wrapping, since a NaN on its way through `exp` arrives here as 0 and other garbage must not panic.
        f32::from_bits((n as i32).wrapping_add(127).wrapping_shl(23) as u32)
    }
    #[inline(always)]
    fn lt(self, a: f32, b: f32) -> bool {
        a < b
    }
    #[inline(always)]
    fn select(self, m: bool, yes: f32, no: f32) -> f32 {
        if m { yes } else { no }
    }
    #[inline(always)]
    fn reduce_add(self, a: f32) -> f32 {
        a
    }
    #[inline(always)]
    fn reduce_max(self, a: f32) -> f32 {
        a
    }
    #[inline(always)]
    fn piece(self, table: &[f32; 8], x: f32) -> f32 {
        table[(x.to_bits() >> 22) as usize % 8]
    }
    #[inline(always)]
    fn times_exp2(self, v: f32, shifted: f32) -> f32 {
        f32::from_bits(v.to_bits().wrapping_add(shifted.to_bits() << 23))
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> f32 {
        // SAFETY: the caller's contract.
        from_f16(unsafe { *p })
    }
    #[inline(always)]
    fn low_bf16(self, pairs: f32) -> f32 {
        f32::from_bits(pairs.to_bits() << 16)
    }
    #[inline(always)]
    fn high_bf16(self, pairs: f32) -> f32 {
        f32::from_bits(pairs.to_bits() & 0xffff_0000)
    }
    #[inline(always)]
    fn and_bits(self, a: f32, mask: u32) -> f32 {
        f32::from_bits(a.to_bits() & mask)
    }
    #[inline(always)]
    fn or_bits(self, a: f32, b: f32) -> f32 {
        f32::from_bits(a.to_bits() | b.to_bits())
    }
    #[inline(always)]
    fn shift_right(self, a: f32, n: u32) -> f32 {
        f32::from_bits(a.to_bits() >> n)
    }
    #[inline(always)]
    fn shift_left(self, a: f32, n: u32) -> f32 {
        f32::from_bits(a.to_bits() << n)
    }
    #[inline(always)]
    fn mul_bits(self, a: f32, b: f32) -> f32 {
        f32::from_bits(a.to_bits().wrapping_mul(b.to_bits()))
    }
    #[inline(always)]
    fn sub_bytes(self, a: f32, b: f32) -> f32 {
        let (a, b) = (a.to_bits().to_le_bytes(), b.to_bits().to_le_bytes());
        f32::from_bits(u32::from_le_bytes([0, 1, 2, 3].map(|i: usize| a[i].wrapping_sub(b[i]))))
    }
    #[inline(always)]
    fn widen_bytes(self, quads: f32) -> [f32; 4] {
        quads.to_bits().to_le_bytes().map(|byte| f32::from(byte as i8))
    }
    #[inline(always)]
    fn prefetch(self, _: *const f32) {}
}

#[cfg(test)]
mod tests {
    use super::{FusedScalar, Scalar, from_f16, rounded_once};
    use crate::kernels::testing::random;
    use crate::simd::Simd;

    /// Every sign of numbers at which something ends, and their neighbours.
    fn special() -> Vec<f32> {
        let magnitudes = [0.0, f32::MIN_POSITIVE, 1.0, 1.5, 4097.0, 1.0 / 4096.0, 16_777_216.0, 2f32.powi(-75), 2f32.powi(64), f32::MAX];
        let near = magnitudes.into_iter().flat_map(|x| [x, x.next_up(), x.next_down().abs()]);
        near.chain([f32::INFINITY, f32::NAN]).flat_map(|x| [x, -x]).collect()
    }

    #[track_caller]
    fn assert_fused(a: f32, b: f32, c: f32) {
        let want = a.mul_add(b, c);
        let s: FusedScalar = Scalar;
        for found in [rounded_once(a, b, c), s.fma(a, b, c), s.mla(a, b, c)] {
            assert!(
                found.to_bits() == want.to_bits() || found.is_nan() && want.is_nan(),
                "{a:e} * {b:e} + {c:e}: expected {want:e}, found {found:e}"
            );
        }
    }

    #[test]
    fn multiply_adds_at_the_ends() {
        let x = special();
        for &a in &x {
            for &b in &x {
                x.iter().for_each(|&c| assert_fused(a, b, c));
            }
        }
    }

    /// Any bits, and any digits at exponents where all of product and summand matter, or where f32 ends.
    #[test]
    fn multiply_adds_of_any_bits() {
        let mut next = random(1);
        for _ in 0..1_000_000 {
            let [a, b, c] = [(); 3].map(|()| f32::from_bits((next() >> 32) as u32));
            assert_fused(a, b, c);
            let scaled = |x: f32, exponent: u32| f32::from_bits(x.to_bits() & 0x807f_ffff | exponent << 23);
            let mut below = |count: u32| (next() >> 32) as u32 % count;
            assert_fused(scaled(a, 127), scaled(b, 127), scaled(c, 97 + below(61)));
            assert_fused(scaled(a, 60), scaled(b, 50 + below(30)), scaled(c, below(8)));
            assert_fused(scaled(a, 190), scaled(b, 190 + below(2)), scaled(c, 251 + below(4)));
        }
    }

    /// Sums beside the middle of two f32, by less than f64 can tell: it rounds to that middle, and then to the wrong side.
    #[test]
    fn multiply_adds_that_f64_rounds_twice() {
        for exponent in -90..90 {
            let scale = 2f32.powi(exponent);
            let (a, b, c) =
                (2f32.powi(-12) * (1.0 + f32::EPSILON), 2f32.powi(-12) * (1.0 - f32::EPSILON) * scale, (1.0 + f32::EPSILON) * scale);
            for (b, c) in [(b, c), (-b, c), (b, -c), (-b, -c)] {
                assert_ne!((f64::from(a) * f64::from(b) + f64::from(c)) as f32, a.mul_add(b, c));
                assert_fused(a, b, c);
            }
        }
    }

    #[test]
    fn every_binary16() {
        for bits in 0..=u16::MAX {
            let (found, want) = (from_f16(bits), half::f16::from_bits(bits).to_f32());
            assert!(found.to_bits() == want.to_bits() || found.is_nan() && want.is_nan(), "{bits:#06x}: expected {want}, found {found}");
        }
    }
}
