//! Products of unsigned by signed bytes, summed in 32 bits: exact on every CPU, in whatever order.
//!
//! A weight matrix has the signed bytes of four neighbouring channels in a lane, a *quad*. What is multiplied at a step is a
//! *line*: quads as they are, or, on a CPU that multiplies pairs of 16 bits, two lines with a pair of the quad's bytes each. The rows
//! of the other factor, unsigned codes, are laid out to match by [`ByteProducts::store_codes`].
//!
//! Codes of seven bits have products of their own ([`ByteProducts::Sevens`]): the sum of two fits 16 bits, so that a CPU that knows no sum of
//! four products has them in three instructions, where codes of eight bits are widened and take four.

use super::{Scalar, Simd};

/// Multiplies vectors whose lanes hold bytes, or pairs made of them. A value is the proof that this CPU can.
pub trait ByteProducts: Copy {
    /// Names the implementation.
    const NAME: &'static str;
    /// The vectors in whose lanes the bytes are.
    type Vectors: Simd;
    /// Lines that a quad becomes, and 32-bit words that a row has for four channels.
    const LINES: usize;
    /// Products of codes of at most [`SEVEN_BITS`].
    type Sevens: ByteProducts<Vectors = Self::Vectors>;

    /// The proof of those.
    fn sevens(self) -> Self::Sevens;

    /// The proof of those vectors.
    fn vectors(self) -> Self::Vectors;

    /// Line `i` of quads.
    fn line(self, quads: Bytes<Self>, i: usize) -> Bytes<Self>;

    /// `sum + a . b` in every lane: `a` a word of a row, `b` a line, `sum` of 32 bits.
    fn dot(self, a: Bytes<Self>, b: Bytes<Self>, sum: Bytes<Self>) -> Bytes<Self>;

    /// `a + b` of 32 bits.
    fn add(self, a: Bytes<Self>, b: Bytes<Self>) -> Bytes<Self>;

    /// `sum - zero * columns` of 32 bits, rounded to f32.
    fn offset(self, sum: Bytes<Self>, zero: Bytes<Self>, columns: Bytes<Self>) -> Bytes<Self>;

    /// Writes LANES codes, whole numbers of 0 to 255, as those of the channels from `channel` on, a multiple of LANES.
    ///
    /// # Safety
    /// - `row` is valid for writes of [`row_bytes`] of all channels up to the last of these.
    unsafe fn store_codes(self, row: *mut u8, channel: usize, v: Bytes<Self>);
}

/// The greatest code of seven bits: two products with signed bytes are at most 2 x 127 x 128 = 32,512.
pub const SEVEN_BITS: u8 = 127;

/// A vector of an implementation.
pub type Bytes<P> = <<P as ByteProducts>::Vectors as Simd>::V;

/// Bytes of a row of so many channels, up to a whole vector.
pub const fn row_bytes<P: ByteProducts>(channels: usize) -> usize {
    channels.next_multiple_of(16) * P::LINES
}

impl<const FUSED: bool> ByteProducts for Scalar<FUSED> {
    const NAME: &'static str = <Scalar<FUSED> as Simd>::NAME;
    type Vectors = Scalar<FUSED>;
    const LINES: usize = 1;
    type Sevens = Scalar<FUSED>;

    #[inline(always)]
    fn sevens(self) -> Scalar<FUSED> {
        self
    }

    #[inline(always)]
    fn vectors(self) -> Scalar<FUSED> {
        self
    }

    #[inline(always)]
    fn line(self, quads: f32, _: usize) -> f32 {
        quads
    }

    #[inline(always)]
    fn dot(self, a: f32, b: f32, sum: f32) -> f32 {
        let products = a.to_bits().to_le_bytes().into_iter().zip(b.to_bits().to_le_bytes());
        let dot: i32 = products.map(|(a, b)| i32::from(a) * i32::from(b as i8)).sum();
        f32::from_bits(sum.to_bits().wrapping_add(dot as u32))
    }

    #[inline(always)]
    fn add(self, a: f32, b: f32) -> f32 {
        f32::from_bits(a.to_bits().wrapping_add(b.to_bits()))
    }

    #[inline(always)]
    fn offset(self, sum: f32, zero: f32, columns: f32) -> f32 {
        let part = (zero.to_bits() as i32).wrapping_mul(columns.to_bits() as i32);
        (sum.to_bits() as i32).wrapping_sub(part) as f32
    }

    #[inline(always)]
    unsafe fn store_codes(self, row: *mut u8, channel: usize, v: f32) {
        // SAFETY: the caller's contract.
        unsafe { *row.add(channel) = v as u8 }
    }
}

/// As [`super::variants`], for bodies over [`ByteProducts`] with a product's tile.
macro_rules! byte_variants {
    ($(#[$doc:meta])* $vis:vis unsafe fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? as $alias:ident = $body:ident) => {
        #[doc = concat!("A variant of [`", stringify!($name), "`].")]
        $vis type $alias = unsafe fn($($ty),*) $(-> $ret)?;
        $(#[$doc])*
        $vis fn $name(isa: crate::simd::Isa) -> $alias {
            crate::simd::byte_products! { crate::simd::bytes::byte_variant { isa ($($arg: $ty),*) [$($ret)?] $body } }
            if isa.bytes() == <crate::simd::FusedScalar as crate::simd::bytes::ByteProducts>::NAME {
                return crate::simd::variant! { FusedScalar ($($arg: $ty),*) [$($ret)?] $body [TILE] };
            }
            crate::simd::variant! { Scalar ($($arg: $ty),*) [$($ret)?] $body [TILE] }
        }
    };
}
pub(crate) use byte_variants;

/// One variant of what [`byte_variants`] declares.
macro_rules! byte_variant {
    ($isa:ident ($($arg:ident: $ty:ty),*) [$($ret:ty)?] $body:ident $set:ident ($arch:tt, $features:tt, [$rows:tt, $wide:tt])) => {
        #[cfg(target_arch = $arch)]
        if $isa.bytes() == <crate::simd::$set as crate::simd::bytes::ByteProducts>::NAME {
            #[target_feature(enable = $features)]
            #[allow(clippy::too_many_arguments)]
            unsafe fn run($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: an `Isa` of that name was made on a CPU that has the features.
                let s = unsafe { crate::simd::$set::assume() };
                // SAFETY: the contract of the whole is the body's.
                unsafe { $body::<crate::simd::$set, $rows, $wide>(s, $($arg),*) }
            }
            return run;
        }
    };
}
pub(crate) use byte_variant;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;

    /// Codes of 64 channels, whether they have seven bits, weights of 16 rows of them as quads `[16][16][4]`, sums, zeros, column sums, and
    /// what comes of it.
    struct Case {
        sevens: bool,
        codes: [f32; 64],
        quads: [f32; 256],
        sums: [f32; 16],
        zero: u32,
        columns: [f32; 16],
        out: [f32; 16],
    }

    #[inline(always)]
    unsafe fn row_body<P: ByteProducts, const R: usize, const V: usize>(p: P, case: &mut Case) {
        // SAFETY: none is needed.
        unsafe { if case.sevens { products(p.sevens(), case) } else { products(p, case) } }
    }

    #[inline(always)]
    unsafe fn products<P: ByteProducts>(p: P, case: &mut Case) {
        let s = p.vectors();
        let mut row = [0u32; 64];
        for c in (0..64).step_by(P::Vectors::LANES) {
            // SAFETY: LANES of 64 codes; the row has two words for four channels.
            unsafe { p.store_codes(row.as_mut_ptr().cast(), c, s.load(case.codes.as_ptr().add(c))) };
        }
        for j in (0..16).step_by(P::Vectors::LANES) {
            // SAFETY: LANES from a multiple of LANES lie inside 16.
            unsafe {
                let mut sum = s.load(case.sums.as_ptr().add(j));
                for (k, words) in row[..16 * P::LINES].chunks_exact(P::LINES).enumerate() {
                    let quads = s.load(case.quads.as_ptr().add(k * 16 + j));
                    for (i, &word) in words.iter().enumerate() {
                        sum = p.dot(s.splat_bits(word), p.line(quads, i), sum);
                    }
                }
                let sum = p.add(sum, s.load(case.sums.as_ptr().add(j)));
                let columns = s.load(case.columns.as_ptr().add(j));
                s.store(case.out.as_mut_ptr().add(j), p.offset(sum, s.splat_bits(case.zero), columns));
            }
        }
    }
    byte_variants! { unsafe fn row(case: &mut Case) as Row = row_body }

    #[test]
    fn rows_times_columns_are_exact() {
        let int = |i: i32| f32::from_bits(i as u32);
        type Of<T> = fn(usize) -> T;
        let cases: [(Of<usize>, Of<i8>); 6] = [
            (|i| i * 37 % 256, |i| (i * 91 % 255) as i8),
            (|_| 255, |_| -128),
            (|_| 255, |_| 127),
            (|i| i * 37 % 128, |i| (i * 91 % 255) as i8),
            (|_| 127, |_| -128),
            (|_| 127, |_| 127),
        ];
        for (i, (code, weight)) in cases.into_iter().enumerate() {
            // Row j's weight of channel c is number 16 c + j.
            let at = |j: usize, c: usize| weight(16 * c + j);
            let quad = |i: usize| u32::from_le_bytes([0, 1, 2, 3].map(|b| at(i % 16, i / 16 * 4 + b) as u8));
            let mut case = Case {
                sevens: i >= 3,
                codes: std::array::from_fn(|c| code(c) as f32),
                quads: std::array::from_fn(|i| f32::from_bits(quad(i))),
                sums: std::array::from_fn(|j| int(j as i32 * 1000 - 7000)),
                zero: 200,
                columns: std::array::from_fn(|j| int(j as i32 * 100_000 - 500_000)),
                out: [0.0; 16],
            };
            for isa in Isa::all() {
                // SAFETY: no pointers.
                unsafe { row(isa)(&mut case) };
                for (j, &found) in case.out.iter().enumerate() {
                    let dot: i32 = (0..64).map(|c| code(c) as i32 * i32::from(at(j, c))).sum();
                    let want = dot + 2 * (j as i32 * 1000 - 7000) - 200 * (j as i32 * 100_000 - 500_000);
                    assert_eq!(found, want as f32, "{isa}: row {j}");
                }
            }
        }
    }
}
