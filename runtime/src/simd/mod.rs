//! One vector trait, so that every kernel body is written once. A value of an implementing type is the proof
//! that this CPU has the instructions: the only way to get one is to detect them. Therefore the arithmetic is safe to call;
//! only memory access through pointers is not. Products beside those of f32 are traits of their own ([`bf16`],
//! [`bytes`]). A lane may also hold other bits than an f32's: two bf16, four bytes; what passes them on does not change them.
//!
//! Rounding: `fma` and `mla` round once, save on [`Scalar`] on a target without the instruction, where `fma` rounds the sum to
//! f64 before it is rounded to f32 (a difference in rare ties), and `mla` product and sum. [`FusedScalar`] takes its place where
//! bits are to be those of vectors.
//!
//! Reductions do not know the length of a vector. Element `i` of a row goes to lane `i % 32` of 32 (`VirtualLanes`), and lanes are
//! brought together by halves: lane `i` takes in lane `i + 16`, then what is left lane `i + 8`, then `i + 4`, `i + 2`, `i + 1`.

pub mod bf16;
pub mod bytes;
mod isa;
pub mod math;
mod scalar;
mod virtual_lanes;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use isa::{Isa, IsaError};
pub(crate) use isa::{bf16_products, byte_products, vectors};
pub use scalar::{FusedScalar, Scalar};
pub(crate) use virtual_lanes::{VIRTUAL, VirtualLanes, sweep};
#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512, Avx512Bf16, Avx512Vnni, AvxVnni};

/// A vector of f32 and what the kernels do with it.
///
/// Methods are to be inlined into a function with the CPU features enabled: see the macro `variants`.
pub trait Simd: Copy {
    /// Names the implementation.
    const NAME: &'static str;
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
    /// `a * b + c`, rounded once; see the module for the exception.
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
    /// Sum of the lanes: lane `i` and lane `i + LANES / 2` are added, of the sums again, until one is left.
    fn reduce_add(self, a: Self::V) -> f32;
    /// Greatest lane, in the same order; unspecified if one is NaN.
    fn reduce_max(self, a: Self::V) -> f32;

    /// Of a table, the element with the index `(bits of x >> 22) % 8`: the exponent's two last bits and the
    /// fraction's first. For x in `1 .. 16`: two pieces an octave, the first at index 6.
    fn piece(self, table: &[f32; 8], x: Self::V) -> Self::V;
    /// `v * 2^n` for a normal result or zero v, n being given as `n + 1.5 * 2^23`.
    fn times_exp2(self, v: Self::V, shifted: Self::V) -> Self::V;
    /// Reads LANES binary16.
    ///
    /// # Safety
    /// - `p` is valid for reads of LANES elements.
    unsafe fn load_f16(self, p: *const u16) -> Self::V;
    /// Of every lane's two bf16, that in the lower half, as f32.
    fn low_bf16(self, pairs: Self::V) -> Self::V;
    /// Of every lane's two bf16, that in the upper half, as f32.
    fn high_bf16(self, pairs: Self::V) -> Self::V;
    /// Of every lane's bits, those of the mask.
    fn and_bits(self, a: Self::V, mask: u32) -> Self::V;
    /// The bits that are set in either.
    fn or_bits(self, a: Self::V, b: Self::V) -> Self::V;
    /// Every lane's bits by n to the right, n below 32; zeros come in.
    fn shift_right(self, a: Self::V, n: u32) -> Self::V;
    /// Every lane's bits by n to the left, n below 32.
    fn shift_left(self, a: Self::V, n: u32) -> Self::V;
    /// The low 32 bits of the product of the lanes as integers.
    fn mul_bits(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b` of every lane's four bytes, modulo 256.
    fn sub_bytes(self, a: Self::V, b: Self::V) -> Self::V;
    /// Every lane's four signed bytes, the lowest first, as f32.
    fn widen_bytes(self, quads: Self::V) -> [Self::V; 4];
    /// Brings the line at `p` near, if that is an address; else nothing.
    fn prefetch(self, p: *const f32);

    /// The bits in every lane.
    #[inline(always)]
    fn splat_bits(self, bits: u32) -> Self::V {
        self.splat(f32::from_bits(bits))
    }

    /// Reads LANES elements or, at the end of a row, the fewer that are there.
    ///
    /// # Safety
    /// - As of [`Simd::load_partial`].
    #[inline(always)]
    unsafe fn load_n(self, p: *const f32, n: usize) -> Self::V {
        // SAFETY: the caller's contract.
        unsafe { if n == Self::LANES { self.load(p) } else { self.load_partial(p, n) } }
    }

    /// As [`Simd::load_n`], the other lanes being `fill`.
    ///
    /// # Safety
    /// - As there.
    #[inline(always)]
    unsafe fn load_or(self, p: *const f32, n: usize, fill: f32) -> Self::V {
        if n == Self::LANES {
            // SAFETY: the caller's contract.
            return unsafe { self.load(p) };
        }
        let mut lanes = [fill; 16];
        // SAFETY: the caller's contract; no vector has more than 16 lanes, nor a part of one.
        unsafe {
            std::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr(), n);
            self.load(lanes.as_ptr())
        }
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

/// Declares a kernel's body for all vectors: `fn name(isa) -> Name`, a pointer to `body::<S>(s, ARGS)` compiled for the set, to be
/// chosen once, when a program is loaded. Behind `<TILE>` the body has two more constants, the product's tile in rows and vectors.
macro_rules! variants {
    ($(#[$doc:meta])* $vis:vis unsafe fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? as $alias:ident =
        $body:ident $(<$tile:ident>)?) => {
        #[doc = concat!("A variant of [`", stringify!($name), "`].")]
        $vis type $alias = unsafe fn($($ty),*) $(-> $ret)?;
        $(#[$doc])*
        $vis fn $name(isa: crate::simd::Isa) -> $alias {
            crate::simd::vectors! { crate::simd::variant { isa vectors ($($arg: $ty),*) [$($ret)?] $body [$($tile)?] } }
            if isa.vectors() == <crate::simd::FusedScalar as crate::simd::Simd>::NAME {
                return crate::simd::variant! { FusedScalar ($($arg: $ty),*) [$($ret)?] $body [$($tile)?] };
            }
            crate::simd::variant! { Scalar ($($arg: $ty),*) [$($ret)?] $body [$($tile)?] }
        }
    };
}
pub(crate) use variants;

/// One variant of what [`variants`] declares: returns it if the set is its own.
macro_rules! variant {
    ($isa:ident $kind:ident ($($arg:ident: $ty:ty),*) [$($ret:ty)?] $body:ident [$($tile:ident)?]
        $set:ident ($arch:tt, $features:tt, [$rows:tt, $wide:tt])) => {
        #[cfg(target_arch = $arch)]
        if $isa.$kind() == <crate::simd::$set as crate::simd::Simd>::NAME {
            #[target_feature(enable = $features)]
            #[allow(clippy::too_many_arguments)]
            unsafe fn run($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: an `Isa` of that name was made on a CPU that has the features.
                let s = unsafe { crate::simd::$set::assume() };
                // SAFETY: the contract of the whole is the body's.
                unsafe { crate::simd::tiled!($body, s, [$($tile)?] [crate::simd::$set, $rows, $wide] ($($arg),*)) }
            }
            return run;
        }
    };
    ($scalar:ident ($($arg:ident: $ty:ty),*) [$($ret:ty)?] $body:ident [$($tile:ident)?]) => {{
        #[allow(clippy::too_many_arguments)]
        unsafe fn run($($arg: $ty),*) $(-> $ret)? {
            // SAFETY: the contract of the whole is the body's.
            unsafe { crate::simd::tiled!($body, crate::simd::Scalar, [$($tile)?] [crate::simd::$scalar, 4, 8] ($($arg),*)) }
        }
        run
    }};
}
pub(crate) use variant;

/// A call with a set's tile, or without.
macro_rules! tiled {
    ($body:ident, $s:expr, [] [$set:ty, $rows:tt, $wide:tt] ($($arg:ident),*)) => {
        $body::<$set>($s, $($arg),*)
    };
    ($body:ident, $s:expr, [TILE] [$set:ty, $rows:tt, $wide:tt] ($($arg:ident),*)) => {
        $body::<$set, $rows, $wide>($s, $($arg),*)
    };
}
pub(crate) use tiled;

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: [f32; 8] = [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5];

    /// The result of each method for 16 elements; of the reductions, in every lane of the vector reduced.
    type Lanes = [[f32; 16]; 30];

    #[inline(always)]
    unsafe fn methods_body<S: Simd>(s: S, a: &[f32; 16], b: &[f32; 16], c: &[f32; 16], n: &[f32; 16], out: &mut Lanes) {
        for at in (0..16).step_by(S::LANES) {
            // SAFETY: LANES elements from a multiple of LANES lie inside 16.
            unsafe {
                let load = |x: &[f32; 16]| s.load(x.as_ptr().add(at));
                let (a, b, c) = (load(a), load(b), load(c));
                let results = [
                    s.add(a, b),
                    s.sub(a, b),
                    s.mul(a, b),
                    s.div(a, b),
                    s.fma(a, b, c),
                    s.max(a, b),
                    s.min(a, b),
                    s.sqrt(a),
                    s.round(a),
                    s.exp2_int(load(n)),
                    s.select(s.lt(a, b), a, c),
                    s.neg(a),
                    s.splat(s.reduce_add(load(n))),
                    s.splat(s.reduce_max(load(n))),
                    s.piece(&TABLE, c),
                    s.times_exp2(s.splat(1.5), s.add(load(n), s.splat(12_582_912.0))),
                    s.low_bf16(a),
                    s.high_bf16(a),
                    s.load_f16(n.as_ptr().cast::<u16>().add(at)),
                    s.mla(a, b, c),
                    s.and_bits(a, 0x0f0f_0ff0),
                    s.or_bits(a, b),
                    s.shift_right(a, 5),
                    s.shift_left(a, 7),
                    s.mul_bits(a, c),
                    s.sub_bytes(a, c),
                ];
                for (out, v) in out.iter_mut().zip(results.into_iter().chain(s.widen_bytes(a))) {
                    s.store(out.as_mut_ptr().add(at), v);
                }
            }
        }
    }
    variants! {
        unsafe fn methods(a: &[f32; 16], b: &[f32; 16], c: &[f32; 16], n: &[f32; 16], out: &mut Lanes) as Methods = methods_body
    }

    #[inline(always)]
    unsafe fn copy_first_body<S: Simd>(s: S, x: &[f32], read: usize, write: usize, y: &mut [f32]) {
        assert!(read.max(write) <= S::LANES.min(x.len()) && write <= y.len());
        // SAFETY: just checked.
        unsafe { s.store_partial(y.as_mut_ptr(), s.load_partial(x.as_ptr(), read), write) }
    }
    variants! { unsafe fn copy_first(x: &[f32], read: usize, write: usize, y: &mut [f32]) as CopyFirst = copy_first_body }

    #[inline(always)]
    unsafe fn lanes_body<S: Simd>(_: S) -> usize {
        S::LANES
    }
    variants! { unsafe fn lanes() -> usize as Width = lanes_body }

    #[test]
    fn every_method_as_documented() {
        let (nan, inf, e) = (f32::NAN, f32::INFINITY, 1.0 / 4096.0);
        let a = [nan, 1.0, nan, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, inf, -inf, 1.0 + e, 3.0, -7.25, 8_388_609.0, 1e-40];
        let b = [1.0, nan, nan, 0.0, 2.0, -2.0, 2.5, 0.25, -1.5, 1.0, 1.0, 1.0 + e, 7.0, 3.5, -1.0, 2.0];
        let c = [1.0, 1.0, 1.0, 1.0, 0.0, 5.0, 6.0, 7.0, 8.0, 9.0, 1.0, -1.0 - 2.0 * e, 0.5, 2.0, 4.0, 1e-40];
        let n: [f32; 16] = std::array::from_fn(|i| [-126.0, 127.0, 0.0, -1.0, 1.0, 23.0, -24.0, 100.0][i % 8]);
        let each = |f: &dyn Fn(usize) -> f32| -> [f32; 16] { std::array::from_fn(f) };
        let bits = |f: &dyn Fn(usize) -> u32| -> [f32; 16] { std::array::from_fn(|i| f32::from_bits(f(i))) };
        for isa in Isa::all().into_iter().flat_map(|isa| [isa, isa.reproducible()]) {
            let mut found = [[0.0; 16]; 30];
            // SAFETY: slices of these sizes.
            let lanes = unsafe {
                methods(isa)(&a, &b, &c, &n, &mut found);
                lanes(isa)()
            };
            let fused = isa.vectors() == isa.reproducible().vectors();
            let own = |i: usize| &n[i / lanes * lanes..][..lanes];
            let want: Lanes = [
                each(&|i| a[i] + b[i]),
                each(&|i| a[i] - b[i]),
                each(&|i| a[i] * b[i]),
                each(&|i| a[i] / b[i]),
                each(&|i| a[i].mul_add(b[i], c[i])),
                each(&|i| if a[i] > b[i] { a[i] } else { b[i] }),
                each(&|i| if a[i] < b[i] { a[i] } else { b[i] }),
                each(&|i| a[i].sqrt()),
                each(&|i| a[i].round_ties_even()),
                each(&|i| f64::from(n[i]).exp2() as f32),
                each(&|i| if a[i] < b[i] { a[i] } else { c[i] }),
                each(&|i| -a[i]),
                each(&|i| own(i).iter().sum()),
                each(&|i| own(i).iter().copied().fold(-inf, f32::max)),
                each(&|i| TABLE[(c[i].to_bits() >> 22) as usize % 8]),
                each(&|i| (1.5 * f64::from(n[i]).exp2()) as f32),
                each(&|i| f32::from_bits(a[i].to_bits() << 16)),
                each(&|i| f32::from_bits(a[i].to_bits() & 0xffff_0000)),
                each(&|i| half::f16::from_bits((n[i / 2].to_bits() >> (i % 2 * 16)) as u16).to_f32()),
                each(&|i| if fused { a[i].mul_add(b[i], c[i]) } else { a[i] * b[i] + c[i] }),
                bits(&|i| a[i].to_bits() & 0x0f0f_0ff0),
                bits(&|i| a[i].to_bits() | b[i].to_bits()),
                bits(&|i| a[i].to_bits() >> 5),
                bits(&|i| a[i].to_bits() << 7),
                bits(&|i| a[i].to_bits().wrapping_mul(c[i].to_bits())),
                bits(&|i| {
                    let (a, c) = (a[i].to_bits().to_le_bytes(), c[i].to_bits().to_le_bytes());
                    u32::from_le_bytes(std::array::from_fn(|b| a[b].wrapping_sub(c[b])))
                }),
                each(&|i| f32::from(a[i].to_bits() as i8)),
                each(&|i| f32::from((a[i].to_bits() >> 8) as i8)),
                each(&|i| f32::from((a[i].to_bits() >> 16) as i8)),
                each(&|i| f32::from((a[i].to_bits() >> 24) as i8)),
            ];
            for (method, (found, want)) in found.iter().zip(&want).enumerate() {
                for (i, (f, w)) in found.iter().zip(want).enumerate() {
                    assert!(
                        f.to_bits() == w.to_bits() || f.is_nan() && w.is_nan(),
                        "{isa}, method {method}, lane {i}: expected {w}, found {f}"
                    );
                }
            }
        }
    }

    #[test]
    fn partial_access_touches_nothing_else() {
        let x: Vec<f32> = (1..=16).map(|i| i as f32).collect();
        for isa in Isa::all() {
            // SAFETY: no pointers.
            let lanes = unsafe { lanes(isa)() };
            for (read, write) in (0..=lanes).flat_map(|r| (0..=lanes).map(move |w| (r, w))) {
                let mut y = [-1.0; 20];
                // SAFETY: slices of enough elements.
                unsafe { copy_first(isa)(&x, read, write, &mut y) };
                let want: [f32; 20] = std::array::from_fn(|i| {
                    if i >= write {
                        -1.0
                    } else if i < read {
                        x[i]
                    } else {
                        0.0
                    }
                });
                assert_eq!(y, want, "{isa}: read {read}, write {write}");
            }
        }
    }
}
