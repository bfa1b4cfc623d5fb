//! One vector trait, so that every kernel body is written once. A value of an implementing type is the proof
//! that this CPU has the instructions: the only way to get one is [`Isa`], which detects them. Therefore the
//! arithmetic is safe to call; only memory access through pointers is not.
//!
//! Rounding: `fma` rounds once on every implementation, `mla` may round twice on the scalar one (there the
//! fused operation is a slow library call). `reduce_add` adds in an order fixed per implementation.

mod isa;
pub mod math;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use isa::{Isa, IsaError};
pub use scalar::Scalar;
#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

/// A vector of f32 and what the kernels do with it.
///
/// Methods are to be inlined into a function with the CPU features enabled: see the macro `variants`.
pub trait Simd: Copy {
    /// Elements of a vector; a power of two, at most 16.
    const LANES: usize;
    /// The vector.
    type V: Copy;
    /// One truth value a lane.
    type M: Copy;

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::V;
    /// Reads LANES elements.
    ///
    /// # Safety
    /// - `p` is valid for reads of LANES elements.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// Writes LANES elements.
    ///
    /// # Safety
    /// - `p` is valid for writes of LANES elements.
    unsafe fn store(self, p: *mut f32, v: Self::V);
    /// Reads the first `n` elements; the other lanes are zero.
    ///
    /// # Safety
    /// - `n <= LANES`, and `p` is valid for reads of `n` elements.
    unsafe fn load_partial(self, p: *const f32, n: usize) -> Self::V;
    /// Writes the first `n` lanes.
    ///
    /// # Safety
    /// - `n <= LANES`, and `p` is valid for writes of `n` elements.
    unsafe fn store_partial(self, p: *mut f32, v: Self::V, n: usize);
    /// `a + b`.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`, correctly rounded.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a * b + c`, the fastest way.
    fn mla(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `b` unless `a > b`: a NaN in `b` is kept.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `b` unless `a < b`: a NaN in `b` is kept.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// Square root, correctly rounded.
    fn sqrt(self, a: Self::V) -> Self::V;
    /// The nearest integer, ties to even.
    fn round(self, a: Self::V) -> Self::V;
    /// `2^n` for an integral `n` in `-126 ..= 127`.
    fn exp2_int(self, n: Self::V) -> Self::V;
    /// `a < b`; false for NaN.
    fn lt(self, a: Self::V, b: Self::V) -> Self::M;
    /// `yes` where `m`, else `no`.
    fn select(self, m: Self::M, yes: Self::V, no: Self::V) -> Self::V;
    /// Sum of the lanes.
    fn reduce_add(self, a: Self::V) -> f32;
    /// Greatest lane; unspecified if one is NaN.
    fn reduce_max(self, a: Self::V) -> f32;

    /// Reads LANES elements or, at the end of a row, the fewer that are there.
    ///
    /// # Safety
    /// - As of [`Simd::load_partial`].
    #[inline(always)]
    unsafe fn load_n(self, p: *const f32, n: usize) -> Self::V {
        // SAFETY: the caller's contract.
        unsafe { if n == Self::LANES { self.load(p) } else { self.load_partial(p, n) } }
    }

    /// Writes LANES elements or, at the end of a row, the fewer that are there.
    ///
    /// # Safety
    /// - As of [`Simd::store_partial`].
    #[inline(always)]
    unsafe fn store_n(self, p: *mut f32, v: Self::V, n: usize) {
        // SAFETY: the caller's contract.
        unsafe { if n == Self::LANES { self.store(p, v) } else { self.store_partial(p, v, n) } }
    }

    /// `-a`.
    #[inline(always)]
    fn neg(self, a: Self::V) -> Self::V {
        self.sub(self.splat(-0.0), a)
    }

    /// `|a|`, up to the sign of zero.
    #[inline(always)]
    fn abs(self, a: Self::V) -> Self::V {
        self.max(self.neg(a), a)
    }
}

/// Declares a kernel entry: `fn name(isa: Isa, ARGS)` that runs `body::<S>(s, ARGS)` compiled for that ISA.
/// Constant arguments per ISA may follow the body's name: `body [scalar <4, 8>, avx2 <6, 2>, avx512 <12, 2>]`.
macro_rules! variants {
    ($(#[$doc:meta])* $vis:vis unsafe fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident) => {
        crate::simd::variants!($(#[$doc])* $vis unsafe fn $name($($arg: $ty),*) $(-> $ret)? =
            $body [scalar <>, avx2 <>, avx512 <>]);
    };
    ($(#[$doc:meta])* $vis:vis unsafe fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? =
        $body:ident [scalar <$($s:literal),*>, avx2 <$($a:literal),*>, avx512 <$($z:literal),*>]) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $vis unsafe fn $name(isa: crate::simd::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx512(s: crate::simd::Avx512, $($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the contract of `$name` is the body's.
                unsafe { $body::<crate::simd::Avx512 $(, $z)*>(s, $($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx2(s: crate::simd::Avx2, $($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the contract of `$name` is the body's.
                unsafe { $body::<crate::simd::Avx2 $(, $a)*>(s, $($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            {
                if let Some(s) = isa.avx512() {
                    // SAFETY: `s` proves the features; the rest is the caller's contract.
                    return unsafe { avx512(s, $($arg),*) };
                }
                if let Some(s) = isa.avx2() {
                    // SAFETY: `s` proves the features; the rest is the caller's contract.
                    return unsafe { avx2(s, $($arg),*) };
                }
            }
            let _ = isa;
            // SAFETY: the caller's contract.
            unsafe { $body::<crate::simd::Scalar $(, $s)*>(crate::simd::Scalar, $($arg),*) }
        }
    };
}
pub(crate) use variants;
