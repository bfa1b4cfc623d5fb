//! The implementation that every CPU has. On x86 without the FMA feature `f32::mul_add` calls a library, so
//! `fma` goes through f64, whose product of two f32 is exact, and `mla` rounds twice.

use super::Simd;

/// One lane.
#[derive(Clone, Copy, Debug)]
pub struct Scalar;

const FUSED: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

/// The value of a binary16.
#[inline(always)]
fn from_f16(bits: u16) -> f32 {
    let (sign, magnitude) = (u32::from(bits & 0x8000) << 16, u32::from(bits & 0x7fff));
    // In f32's fields the exponent is too small by 127 - 15; a product makes up for it exactly, subnormal or not.
    let scaled = (f32::from_bits(magnitude << 13) * f32::from_bits((127 + 112) << 23)).to_bits();
    let special = 0x7f80_0000 | magnitude << 13;
    f32::from_bits(sign | if magnitude < 0x7c00 { scaled } else { special })
}

impl Simd for Scalar {
    const NAME: &'static str = "scalar";
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
        if FUSED { a.mul_add(b, c) } else { (f64::from(a) * f64::from(b) + f64::from(c)) as f32 }
    }
    #[inline(always)]
    fn mla(self, a: f32, b: f32, c: f32) -> f32 {
        if FUSED { a.mul_add(b, c) } else { a * b + c }
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
    use super::from_f16;

    #[test]
    fn every_binary16() {
        for bits in 0..=u16::MAX {
            let (found, want) = (from_f16(bits), half::f16::from_bits(bits).to_f32());
            assert!(found.to_bits() == want.to_bits() || found.is_nan() && want.is_nan(), "{bits:#06x}: expected {want}, found {found}");
        }
    }
}
