//! Products of pairs of bf16: what some CPUs do in one instruction, and any by vectors of f32.

use super::Simd;

/// Multiplies vectors whose lanes hold two bf16 each. A value is the proof that this CPU can.
pub trait Bf16Products: Copy {
    /// Names the implementation.
    const NAME: &'static str;
    /// The vectors in whose lanes the pairs are.
    type Vectors: Simd;

    /// The proof of those.
    fn vectors(self) -> Self::Vectors;

    /// `low(a) * low(b) + high(a) * high(b) + sum` of the bf16 in every lane. The products are exact; the sums are of
    /// f32, in an order of the implementation's.
    fn dot(self, a: Lanes<Self>, b: Lanes<Self>, sum: Lanes<Self>) -> Lanes<Self>;
}

/// A vector of an implementation.
pub type Lanes<B> = <<B as Bf16Products>::Vectors as Simd>::V;

/// By vectors of f32.
#[derive(Clone, Copy, Debug)]
pub struct Emulated<S>(pub S);

impl<S: Simd> Bf16Products for Emulated<S> {
    const NAME: &'static str = "emulated";
    type Vectors = S;

    #[inline(always)]
    fn vectors(self) -> S {
        self.0
    }

    #[inline(always)]
    fn dot(self, a: S::V, b: S::V, sum: S::V) -> S::V {
        let s = self.0;
        let sum = s.mla(s.high_bf16(a), s.high_bf16(b), sum);
        s.mla(s.low_bf16(a), s.low_bf16(b), sum)
    }
}

/// As [`super::variants`], for bodies over [`Bf16Products`] with a product's tile.
macro_rules! bf16_variants {
    ($(#[$doc:meta])* $vis:vis unsafe fn $name:ident($($arg:ident: $ty:ty),* $(,)?) as $alias:ident = $body:ident) => {
        $(#[$doc])*
        $vis fn $name(isa: crate::simd::Isa) -> Option<$alias> {
            fn chosen(isa: crate::simd::Isa, bf16: &str) -> $alias {
                // As there.
                let _ = bf16;
                crate::simd::bf16_products! { crate::simd::bf16::bf16_variant { bf16 ($($arg: $ty),*) $body } }
                emulated(isa)
            }
            crate::simd::variants! { unsafe fn emulated($($arg: $ty),*) as Emulated = emulated_body<TILE> }
            #[inline(always)]
            unsafe fn emulated_body<S: crate::simd::Simd, const R: usize, const V: usize>(s: S, $($arg: $ty),*) {
                // SAFETY: the contract of the whole is the body's.
                unsafe { $body::<crate::simd::bf16::Emulated<S>, R, V>(crate::simd::bf16::Emulated(s), $($arg),*) }
            }
            isa.bf16().map(|bf16| chosen(isa, bf16))
        }
    };
}
pub(crate) use bf16_variants;

/// One variant of what [`bf16_variants`] declares.
macro_rules! bf16_variant {
    ($bf16:ident ($($arg:ident: $ty:ty),*) $body:ident $set:ident ($arch:tt, $features:tt, [$rows:tt, $wide:tt])) => {
        #[cfg(target_arch = $arch)]
        if $bf16 == <crate::simd::$set as crate::simd::bf16::Bf16Products>::NAME {
            #[target_feature(enable = $features)]
            unsafe fn run($($arg: $ty),*) {
                // SAFETY: an `Isa` of that name was made on a CPU that has the features.
                let s = unsafe { crate::simd::$set::assume() };
                // SAFETY: the contract of the whole is the body's.
                unsafe { $body::<crate::simd::$set, $rows, $wide>(s, $($arg),*) }
            }
            return run;
        }
    };
}
pub(crate) use bf16_variant;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;

    /// Sixteen pairs, each times itself, and sixteen sums.
    type Pairs = [f32; 16];

    #[inline(always)]
    unsafe fn squared_body<B: Bf16Products, const R: usize, const V: usize>(b: B, x: &Pairs, sums: &Pairs, out: &mut Pairs) {
        let s = b.vectors();
        for at in (0..16).step_by(B::Vectors::LANES) {
            // SAFETY: LANES elements from a multiple of LANES lie inside 16.
            unsafe {
                let x = s.load(x.as_ptr().add(at));
                s.store(out.as_mut_ptr().add(at), b.dot(x, x, s.load(sums.as_ptr().add(at))));
            }
        }
    }
    type Squared = unsafe fn(&Pairs, &Pairs, &mut Pairs);
    bf16_variants! { unsafe fn squared(x: &Pairs, sums: &Pairs, out: &mut Pairs) as Squared = squared_body }

    #[test]
    fn pairs_are_multiplied_and_added() {
        // Exact in f32 in any order: small integers.
        let pair = |i: usize| (half::bf16::from_f32(i as f32 - 7.0), half::bf16::from_f32(0.5 * i as f32));
        let bits = |(low, high): (half::bf16, half::bf16)| f32::from_bits(u32::from(low.to_bits()) | u32::from(high.to_bits()) << 16);
        let x: Pairs = std::array::from_fn(|i| bits(pair(i)));
        let sums: Pairs = std::array::from_fn(|i| i as f32);
        for isa in Isa::all().into_iter().map(Isa::with_bf16) {
            let mut out = [0.0; 16];
            // SAFETY: arrays of that size.
            unsafe { squared(isa).expect("it multiplies pairs")(&x, &sums, &mut out) };
            for (i, &found) in out.iter().enumerate() {
                let (low, high) = (i as f32 - 7.0, 0.5 * i as f32);
                assert_eq!(found, low * low + high * high + i as f32, "{isa}");
            }
        }
    }
}
