//! AVX2 with FMA and F16C, AVX-512F and BW, and products beside: of BF16, of bytes (VNNI, in either width). One intrinsic a method wherever there is one: right by inspection.

use std::arch::x86_64::*;

use super::Simd;
use super::bf16::Bf16Products;
use super::bytes::ByteProducts;

/// Proof of AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

/// Proof of AVX-512F and BW, which every CPU with AVX-512F has that is sold for more than arithmetic.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

/// Proof of AVX2 and AVX-VNNI.
#[derive(Clone, Copy, Debug)]
pub struct AvxVnni(Avx2);

/// Proof of AVX-512F, BW and AVX-512 VNNI.
#[derive(Clone, Copy, Debug)]
pub struct Avx512Vnni(Avx512);

/// Proof of AVX-512F and AVX-512 BF16.
#[derive(Clone, Copy, Debug)]
pub struct Avx512Bf16(Avx512);

/// Proof of AVX2, for products of codes of seven bits.
#[derive(Clone, Copy, Debug)]
pub struct Sevens(Avx2);

/// A token's two makers: with a look at the CPU, and on somebody's word.
macro_rules! token {
    ($name:ident($inner:expr), $($feature:tt)*) => {
        impl $name {
            /// The token, if this CPU has the features.
            pub(super) fn detect() -> Option<$name> {
                ($(is_x86_feature_detected!($feature))&&*).then_some($name($inner))
            }

            /// The token.
            ///
            /// # Safety
            /// - This CPU has the features.
            #[inline(always)]
            pub(crate) unsafe fn assume() -> $name {
                $name($inner)
            }
        }
    };
}
token!(Avx2(()), "avx2" "fma" "f16c");
token!(Avx512(()), "avx512f" "avx512bw");
// What `rustc` takes for granted beside AVX-512 BF16 is looked for too.
token!(AvxVnni(Avx2(())), "avx2" "fma" "f16c" "avxvnni");
token!(Avx512Vnni(Avx512(())), "avx512f" "avx512bw" "avx512vnni");
token!(Avx512Bf16(Avx512(())), "avx512f" "avx512bf16" "avx512bw" "avx512vl");

impl Avx2 {
    /// All ones in the first `n` lanes.
    #[inline(always)]
    fn mask(self, n: usize) -> __m256i {
        const WINDOW: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(n <= 8);
        // SAFETY: `self` proves AVX2; 8 elements from index 8 - n lie inside the 16.
        unsafe { _mm256_loadu_si256(WINDOW.as_ptr().add(8 - n).cast()) }
    }
}

/// Methods that are one expression of intrinsics.
macro_rules! methods {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $ret:ty = $e:expr;)*) => {
        $(#[inline(always)]
        fn $name(self, $($arg: $ty),*) -> $ret {
            // SAFETY: `self` proves the CPU features; these intrinsics touch registers only.
            unsafe { $e }
        })*
    };
}

impl Simd for Avx2 {
    const NAME: &'static str = "avx2";
    const LANES: usize = 8;
    type V = __m256;
    type M = __m256;

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m256 {
        // SAFETY: the caller's contract; `self` proves AVX2.
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m256) {
        // SAFETY: the caller's contract; `self` proves AVX2.
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn load_partial(self, p: *const f32, n: usize) -> __m256 {
        // SAFETY: lanes from n on are not accessed; the caller's contract; `self` proves AVX2.
        unsafe { _mm256_maskload_ps(p, self.mask(n)) }
    }
    #[inline(always)]
    unsafe fn store_partial(self, p: *mut f32, v: __m256, n: usize) {
        // SAFETY: lanes from n on are not accessed; the caller's contract; `self` proves AVX2.
        unsafe { _mm256_maskstore_ps(p, self.mask(n), v) }
    }

    methods! {
        splat(x: f32) -> __m256 = _mm256_set1_ps(x);
        add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
        mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        div(a: __m256, b: __m256) -> __m256 = _mm256_div_ps(a, b);
        fma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        mla(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        max(a: __m256, b: __m256) -> __m256 = _mm256_max_ps(a, b);
        min(a: __m256, b: __m256) -> __m256 = _mm256_min_ps(a, b);
        sqrt(a: __m256) -> __m256 = _mm256_sqrt_ps(a);
        round(a: __m256) -> __m256 = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        exp2_int(n: __m256) -> __m256 =
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127))));
        times_exp2(v: __m256, shifted: __m256) -> __m256 =
            _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(v), _mm256_slli_epi32::<23>(_mm256_castps_si256(shifted))));
        lt(a: __m256, b: __m256) -> __m256 = _mm256_cmp_ps::<_CMP_LT_OQ>(a, b);
        select(m: __m256, yes: __m256, no: __m256) -> __m256 = _mm256_blendv_ps(no, yes, m);
        reduce_add(a: __m256) -> f32 = {
            let q = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let d = _mm_add_ps(q, _mm_movehl_ps(q, q));
            _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)))
        };
        reduce_max(a: __m256) -> f32 = {
            let q = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let d = _mm_max_ps(q, _mm_movehl_ps(q, q));
            _mm_cvtss_f32(_mm_max_ss(d, _mm_movehdup_ps(d)))
        };
        low_bf16(pairs: __m256) -> __m256 = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(pairs)));
        high_bf16(pairs: __m256) -> __m256 = _mm256_and_ps(pairs, _mm256_castsi256_ps(_mm256_set1_epi32(!0xffff)));
        and_bits(a: __m256, mask: u32) -> __m256 = _mm256_and_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(mask as i32)));
        or_bits(a: __m256, b: __m256) -> __m256 = _mm256_or_ps(a, b);
        mul_bits(a: __m256, b: __m256) -> __m256 =
            _mm256_castsi256_ps(_mm256_mullo_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b)));
        sub_bytes(a: __m256, b: __m256) -> __m256 =
            _mm256_castsi256_ps(_mm256_sub_epi8(_mm256_castps_si256(a), _mm256_castps_si256(b)));
        widen_bytes(quads: __m256) -> [__m256; 4] = {
            let q = _mm256_castps_si256(quads);
            let [a, b, c, d] = [_mm256_slli_epi32::<24>(q), _mm256_slli_epi32::<16>(q), _mm256_slli_epi32::<8>(q), q];
            [
                _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(a)),
                _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(b)),
                _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(c)),
                _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(d)),
            ]
        };
    }

    #[inline(always)]
    fn shift_right(self, a: __m256, n: u32) -> __m256 {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm256_castsi256_ps(_mm256_srl_epi32(_mm256_castps_si256(a), _mm_cvtsi32_si128(n as i32))) }
    }
    #[inline(always)]
    fn shift_left(self, a: __m256, n: u32) -> __m256 {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm256_castsi256_ps(_mm256_sll_epi32(_mm256_castps_si256(a), _mm_cvtsi32_si128(n as i32))) }
    }

    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> __m256 {
        // SAFETY: the caller's contract; `self` proves F16C.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
    }

    #[inline(always)]
    fn piece(self, table: &[f32; 8], x: __m256) -> __m256 {
        // SAFETY: the table has 8 elements; `self` proves AVX2.
        unsafe { _mm256_permutevar8x32_ps(_mm256_loadu_ps(table.as_ptr()), _mm256_srli_epi32::<22>(_mm256_castps_si256(x))) }
    }

    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        // SAFETY: a hint, which reads nothing and faults nowhere.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
}

/// The first `n` lanes.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    assert!(n <= 16);
    ((1u32 << n) - 1) as __mmask16
}

/// Lanes 8 to 15.
///
/// # Safety
/// - This CPU has AVX-512F.
#[inline(always)]
unsafe fn upper(a: __m512) -> __m256 {
    // SAFETY: the caller's contract.
    unsafe { _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(a))) }
}

impl Simd for Avx512 {
    const NAME: &'static str = "avx512";
    const LANES: usize = 16;
    type V = __m512;
    type M = __mmask16;

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        // SAFETY: the caller's contract; `self` proves AVX-512F.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        // SAFETY: the caller's contract; `self` proves AVX-512F.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn load_partial(self, p: *const f32, n: usize) -> __m512 {
        // SAFETY: lanes from n on are not accessed; the caller's contract; `self` proves AVX-512F.
        unsafe { _mm512_maskz_loadu_ps(first(n), p) }
    }
    #[inline(always)]
    unsafe fn store_partial(self, p: *mut f32, v: __m512, n: usize) {
        // SAFETY: lanes from n on are not accessed; the caller's contract; `self` proves AVX-512F.
        unsafe { _mm512_mask_storeu_ps(p, first(n), v) }
    }

    methods! {
        splat(x: f32) -> __m512 = _mm512_set1_ps(x);
        add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        mla(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        min(a: __m512, b: __m512) -> __m512 = _mm512_min_ps(a, b);
        sqrt(a: __m512) -> __m512 = _mm512_sqrt_ps(a);
        round(a: __m512) -> __m512 = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        exp2_int(n: __m512) -> __m512 =
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127))));
        times_exp2(v: __m512, shifted: __m512) -> __m512 =
            _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(v), _mm512_slli_epi32::<23>(_mm512_castps_si512(shifted))));
        lt(a: __m512, b: __m512) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b);
        select(m: __mmask16, yes: __m512, no: __m512) -> __m512 = _mm512_mask_blend_ps(m, no, yes);
        // Not `_mm512_reduce_add_ps`, whose order nobody promises.
        reduce_add(a: __m512) -> f32 = Avx2(()).reduce_add(_mm256_add_ps(_mm512_castps512_ps256(a), upper(a)));
        reduce_max(a: __m512) -> f32 = Avx2(()).reduce_max(_mm256_max_ps(_mm512_castps512_ps256(a), upper(a)));
        low_bf16(pairs: __m512) -> __m512 = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(pairs)));
        high_bf16(pairs: __m512) -> __m512 =
            _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(pairs), _mm512_set1_epi32(!0xffff)));
        and_bits(a: __m512, mask: u32) -> __m512 =
            _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(mask as i32)));
        or_bits(a: __m512, b: __m512) -> __m512 =
            _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(a), _mm512_castps_si512(b)));
        mul_bits(a: __m512, b: __m512) -> __m512 =
            _mm512_castsi512_ps(_mm512_mullo_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
        sub_bytes(a: __m512, b: __m512) -> __m512 =
            _mm512_castsi512_ps(_mm512_sub_epi8(_mm512_castps_si512(a), _mm512_castps_si512(b)));
        widen_bytes(quads: __m512) -> [__m512; 4] = {
            let q = _mm512_castps_si512(quads);
            let [a, b, c, d] = [_mm512_slli_epi32::<24>(q), _mm512_slli_epi32::<16>(q), _mm512_slli_epi32::<8>(q), q];
            [
                _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(a)),
                _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(b)),
                _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(c)),
                _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(d)),
            ]
        };
    }

    #[inline(always)]
    fn shift_right(self, a: __m512, n: u32) -> __m512 {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm512_castsi512_ps(_mm512_srl_epi32(_mm512_castps_si512(a), _mm_cvtsi32_si128(n as i32))) }
    }
    #[inline(always)]
    fn shift_left(self, a: __m512, n: u32) -> __m512 {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm512_castsi512_ps(_mm512_sll_epi32(_mm512_castps_si512(a), _mm_cvtsi32_si128(n as i32))) }
    }

    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> __m512 {
        // SAFETY: the caller's contract; `self` proves AVX-512F.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }

    #[inline(always)]
    fn piece(self, table: &[f32; 8], x: __m512) -> __m512 {
        // SAFETY: the table has 8 elements; `self` proves AVX-512F. Both halves are the table, so that a fourth bit of the index
        // does not matter.
        unsafe {
            let table = _mm512_castpd_ps(_mm512_broadcast_f64x4(_mm256_castps_pd(_mm256_loadu_ps(table.as_ptr()))));
            _mm512_permutexvar_ps(_mm512_srli_epi32::<22>(_mm512_castps_si512(x)), table)
        }
    }

    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        // SAFETY: a hint, which reads nothing and faults nowhere.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
}

impl Bf16Products for Avx512Bf16 {
    const NAME: &'static str = "avx512bf16";
    type Vectors = Avx512;

    #[inline(always)]
    fn vectors(self) -> Avx512 {
        self.0
    }

    #[inline(always)]
    fn dot(self, a: __m512, b: __m512, sum: __m512) -> __m512 {
        // SAFETY: `self` proves the feature; all three types are 64 bytes of which any value is valid.
        unsafe { _mm512_dpbf16_ps(sum, std::mem::transmute::<__m512, __m512bh>(a), std::mem::transmute::<__m512, __m512bh>(b)) }
    }
}

/// What AVX-512 without VNNI does too: pairs of 16 bits, which never saturate, as sums of bytes of full range would.
impl ByteProducts for Avx2 {
    const NAME: &'static str = "avx2";
    type Vectors = Avx2;
    const LINES: usize = 2;
    type Sevens = Sevens;

    #[inline(always)]
    fn sevens(self) -> Sevens {
        Sevens(self)
    }

    #[inline(always)]
    fn vectors(self) -> Avx2 {
        self
    }

    #[inline(always)]
    fn line(self, quads: __m256, i: usize) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let q = _mm256_castps_si256(quads);
            let low = if i == 0 { _mm256_slli_epi16::<8>(q) } else { q };
            _mm256_castsi256_ps(_mm256_srai_epi16::<8>(low))
        }
    }

    #[inline(always)]
    fn dot(self, a: __m256, b: __m256, sum: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { add_products_of_pairs(a, b, sum) }
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b))) }
    }

    #[inline(always)]
    fn offset(self, sum: __m256, zero: __m256, columns: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { offset_256(sum, zero, columns) }
    }

    #[inline(always)]
    unsafe fn store_codes(self, row: *mut u8, channel: usize, v: __m256) {
        // SAFETY: the caller's contract: 8 channels are 16 bytes; `self` proves AVX2.
        unsafe {
            let words = _mm256_cvtps_epi32(v);
            let words = _mm256_packus_epi32(words, words);
            // Of four channels a b c d, in the order a c b d.
            let order = _mm256_setr_epi8(
                0, 1, 4, 5, 2, 3, 6, 7, -1, -1, -1, -1, -1, -1, -1, -1, 0, 1, 4, 5, 2, 3, 6, 7, -1, -1, -1, -1, -1, -1, -1, -1,
            );
            let packed = _mm256_permute4x64_epi64::<0b1000>(_mm256_shuffle_epi8(words, order));
            _mm_storeu_si128(row.add(2 * channel).cast(), _mm256_castsi256_si128(packed));
        }
    }
}

/// `sum` and the products of pairs of 16 bits, by 32 bits.
///
/// Not by intrinsics: sums of integers may be reassociated, and those of several steps, done so, run out of registers (2.3 times the time).
///
/// # Safety
/// - The CPU has AVX2.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn add_products_of_pairs(a: __m256, b: __m256, sum: __m256) -> __m256 {
    let (total, _products): (__m256, __m256);
    // SAFETY: registers alone are read and written.
    unsafe {
        std::arch::asm!(
            "vpmaddwd {products}, {a}, {b}",
            "vpaddd {sum}, {sum}, {products}",
            a = in(ymm_reg) a, b = in(ymm_reg) b, sum = inout(ymm_reg) sum => total, products = out(ymm_reg) _products,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    total
}

/// `sum - zero * columns`, as f32.
///
/// # Safety
/// - The CPU has AVX2.
#[inline(always)]
unsafe fn offset_256(sum: __m256, zero: __m256, columns: __m256) -> __m256 {
    // SAFETY: the caller's contract.
    unsafe {
        let part = _mm256_mullo_epi32(_mm256_castps_si256(zero), _mm256_castps_si256(columns));
        _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_castps_si256(sum), part))
    }
}

/// Products by AVX2's vectors of quads as they are stored, for a CPU that has `sum + a . b` of them.
macro_rules! quads_by_avx2 {
    ($proof:ident, $name:literal, $dot:expr) => {
        impl ByteProducts for $proof {
            const NAME: &'static str = $name;
            type Vectors = Avx2;
            const LINES: usize = 1;
            type Sevens = $proof;

            #[inline(always)]
            fn sevens(self) -> $proof {
                self
            }

            #[inline(always)]
            fn vectors(self) -> Avx2 {
                self.0
            }

            #[inline(always)]
            fn line(self, quads: __m256, _: usize) -> __m256 {
                quads
            }

            #[inline(always)]
            fn dot(self, a: __m256, b: __m256, sum: __m256) -> __m256 {
                // SAFETY: `self` proves the features.
                unsafe { $dot(a, b, sum) }
            }

            #[inline(always)]
            fn add(self, a: __m256, b: __m256) -> __m256 {
                ByteProducts::add(self.0, a, b)
            }

            #[inline(always)]
            fn offset(self, sum: __m256, zero: __m256, columns: __m256) -> __m256 {
                self.0.offset(sum, zero, columns)
            }

            #[inline(always)]
            unsafe fn store_codes(self, row: *mut u8, channel: usize, v: __m256) {
                // SAFETY: the caller's contract: 8 channels are 8 bytes; `self` proves AVX2.
                unsafe {
                    let words = _mm256_cvtps_epi32(v);
                    let halves = _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
                    _mm_storel_epi64(row.add(channel).cast(), _mm_packus_epi16(halves, halves));
                }
            }
        }
    };
}
quads_by_avx2!(Sevens, "avx2", add_products_of_quads);
quads_by_avx2!(AvxVnni, "avxvnni", add_products_by_vnni);

/// `sum` and the products of four bytes, the unsigned of seven bits, by 32 bits. As [`add_products_of_pairs`].
///
/// # Safety
/// - The CPU has AVX2.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn add_products_of_quads(a: __m256, b: __m256, sum: __m256) -> __m256 {
    let (total, _products): (__m256, __m256);
    // SAFETY: registers alone are read and written.
    unsafe {
        std::arch::asm!(
            "vpmaddubsw {products}, {a}, {b}",
            "vpmaddwd {products}, {products}, {ones}",
            "vpaddd {sum}, {sum}, {products}",
            ones = in(ymm_reg) _mm256_set1_epi16(1), a = in(ymm_reg) a, b = in(ymm_reg) b,
            sum = inout(ymm_reg) sum => total, products = out(ymm_reg) _products,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    total
}

/// `sum` and the products of four bytes, by 32 bits.
///
/// # Safety
/// - The CPU has AVX2 and AVX-VNNI.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn add_products_by_vnni(a: __m256, b: __m256, sum: __m256) -> __m256 {
    let (a, b, sum) = (_mm256_castps_si256(a), _mm256_castps_si256(b), _mm256_castps_si256(sum));
    _mm256_castsi256_ps(_mm256_dpbusd_avx_epi32(sum, a, b))
}

impl ByteProducts for Avx512Vnni {
    const NAME: &'static str = "avx512vnni";
    type Vectors = Avx512;
    const LINES: usize = 1;
    type Sevens = Avx512Vnni;

    #[inline(always)]
    fn sevens(self) -> Avx512Vnni {
        self
    }

    #[inline(always)]
    fn vectors(self) -> Avx512 {
        self.0
    }

    #[inline(always)]
    fn line(self, quads: __m512, _: usize) -> __m512 {
        quads
    }

    #[inline(always)]
    fn dot(self, a: __m512, b: __m512, sum: __m512) -> __m512 {
        // SAFETY: `self` proves the feature.
        unsafe {
            let (a, b, sum) = (_mm512_castps_si512(a), _mm512_castps_si512(b), _mm512_castps_si512(sum));
            _mm512_castsi512_ps(_mm512_dpbusd_epi32(sum, a, b))
        }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b))) }
    }

    #[inline(always)]
    fn offset(self, sum: __m512, zero: __m512, columns: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe {
            let part = _mm512_mullo_epi32(_mm512_castps_si512(zero), _mm512_castps_si512(columns));
            _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_castps_si512(sum), part))
        }
    }

    #[inline(always)]
    unsafe fn store_codes(self, row: *mut u8, channel: usize, v: __m512) {
        // SAFETY: the caller's contract: 16 channels are 16 bytes; `self` proves AVX-512F.
        unsafe { _mm_storeu_si128(row.add(channel).cast(), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v))) }
    }
}
