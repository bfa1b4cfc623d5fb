//! Exponential, error function and their kin on vectors. Bounds of the error are in units of the last place
//! (ulp) or relative, checked by the tests below against f64 on dense grids, for every variant.
//!
//! Polynomials are Chebyshev interpolants computed with 40 digits; the error of the approximation itself is
//! given beside each and lies well below the rounding of f32. NaN comes out as NaN.

#![allow(clippy::excessive_precision)]

use super::Simd;

/// Horner's rule, highest coefficient first.
#[inline(always)]
fn poly<S: Simd, const N: usize>(s: S, x: S::V, c: [f32; N]) -> S::V {
    let mut y = s.splat(c[0]);
    for &k in &c[1..] {
        y = s.fma(y, x, s.splat(k));
    }
    y
}

/// `exp(x)`, within 1 ulp where the result is a normal number; infinity above 88.73, 0 below -104.
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    let e = exp_parts(s, s.min(s.splat(89.0), s.max(s.splat(-104.0), x)), s.splat(0.0));
    s.mul(s.mul(e.high, e.half), e.other_half)
}

/// `(high + low) * half * other_half`: twice the digits of f32, and a power of two that may be out of its range.
struct Parts<V> {
    high: V,
    low: V,
    half: V,
    other_half: V,
}

/// `exp(x + low)` for x in -104 ..= 89 and `low` below an ulp of x.
#[inline(always)]
fn exp_parts<S: Simd>(s: S, x: S::V, low: S::V) -> Parts<S::V> {
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    // ln 2 in two parts (Cody and Waite): n times the first is exact.
    let r = s.fma(n, s.splat(-0.693_359_375), x);
    let r = s.add(s.fma(n, s.splat(2.121_944_4e-4), r), low);
    // (exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2, to 1.8e-10 of exp(r).
    let p = poly(s, r, [1.989_099_082_5e-4, 1.393_364_999_63e-3, 8.333_310_925_48e-3, 4.166_646_492_53e-2, 0.166_666_666_816, 0.5]);
    let above_one = s.fma(s.mul(r, r), p, r);
    let high = s.add(s.splat(1.0), above_one);
    let low = s.sub(above_one, s.sub(high, s.splat(1.0)));
    let half = s.round(s.mul(n, s.splat(0.5)));
    Parts { high, low, half: s.exp2_int(half), other_half: s.exp2_int(s.sub(n, half)) }
}

/// The normal distribution's tail `erfc(a / sqrt 2) / 2` for `0 <= a <= 14`.
///
/// `exp(a^2/2) erfc(a / sqrt 2) / 2 = E(a) = t Q(u)`, `t = 1 / (a + 3)`, `u = (a - 3) / (a + 3)`: the substitution of
/// Shepherd and Laframboise (Math. Comp. 36, 1981), under which Q hardly varies. What each operation rounds away is
/// carried along in a low part, for in GELU the relative error of the tail is that of the result.
#[inline(always)]
fn normal_tail<S: Simd>(s: S, a: S::V) -> Parts<S::V> {
    let three = s.splat(3.0);
    let square = s.mul(a, a);
    let square_low = s.fma(a, a, s.neg(square));
    let e = exp_parts(s, s.mul(square, s.splat(-0.5)), s.mul(square_low, s.splat(-0.5)));
    let d = s.add(a, three);
    let t = s.div(s.splat(1.0), d);
    let u = s.fma(t, s.splat(-6.0), s.splat(1.0));
    // Q but for its constant, to 1.2e-9 of Q.
    let rest = poly(
        s,
        u,
        [
            5.517_462_393_84e-5,
            1.328_259_086_52e-4,
            -2.444_839_420_9e-4,
            -1.033_891_348_14e-3,
            1.024_157_668_22e-3,
            6.969_689_543_17e-3,
            -1.046_231_115_79e-2,
            -4.726_272_768_94e-2,
            0.230_017_679_713,
            -0.509_331_990_241,
        ],
    );
    let constant = s.splat(0.729_083_690_665);
    let q = s.fma(rest, u, constant);
    let q_low = s.fma(rest, u, s.sub(constant, q));
    // tQ is exact for 1/t - 3 rather than for a: the derivative, a E - 1 / sqrt(2 pi), makes up for the roundings
    // of the sum and of the division.
    let lost = s.sub(s.min(a, three), s.sub(d, s.max(a, three)));
    let off = s.fma(s.neg(d), s.fma(s.neg(t), d, s.splat(1.0)), lost);
    let scaled = s.mul(t, q);
    let scaled_low = s.fma(t, q_low, s.fma(t, q, s.neg(scaled)));
    let scaled_low = s.fma(off, s.fma(a, scaled, s.splat(-0.398_942_280_401)), scaled_low);
    let high = s.mul(scaled, e.high);
    let low = s.fma(scaled, e.low, s.fma(scaled_low, e.high, s.fma(scaled, e.high, s.neg(high))));
    Parts { high, low, ..e }
}

/// `x/2 (1 + erf(x / sqrt 2))`, the exact GELU: relative error at most 2e-7 for `x >= -12.5`.
///
/// As `max(x, 0) - |x| tail(|x|)`, where nothing cancels.
#[inline(always)]
pub fn gelu<S: Simd>(s: S, x: S::V) -> S::V {
    let a = s.min(s.splat(14.0), s.abs(x));
    let tail = normal_tail(s, a);
    let factor = s.neg(s.mul(s.mul(a, tail.half), tail.other_half));
    s.fma(factor, tail.low, s.fma(factor, tail.high, s.max(s.splat(0.0), x)))
}

/// `erf(x)`: relative error at most 2e-7.
#[inline(always)]
pub fn erf<S: Simd>(s: S, x: S::V) -> S::V {
    let a = s.abs(x);
    let tail = normal_tail(s, s.min(s.splat(14.0), s.mul(a, s.splat(std::f32::consts::SQRT_2))));
    let factor = s.mul(s.mul(s.splat(-2.0), tail.half), tail.other_half);
    let far = with_sign(s, s.fma(factor, tail.high, s.splat(1.0)), x);
    // erf(x) / x for |x| <= 1, to 1.4e-9.
    let c = [
        7.875_875_062_69e-5,
        -8.016_864_287_17e-4,
        5.189_087_423_43e-3,
        -2.685_421_201_06e-2,
        0.112_835_947_152,
        -0.376_126_266_667,
        1.128_379_165_85,
    ];
    let near = s.mul(x, poly(s, s.mul(x, x), c));
    s.select(s.lt(a, s.splat(1.0)), near, far)
}

/// `1 / (1 + exp(-x))`: relative error at most 3e-7 where the result is a normal number.
#[inline(always)]
pub fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.neg(x))))
}

/// `x / (1 + exp(-x))`: relative error as of [`sigmoid`].
#[inline(always)]
pub fn silu<S: Simd>(s: S, x: S::V) -> S::V {
    s.div(x, s.add(s.splat(1.0), exp(s, s.neg(x))))
}

/// `tanh(x)`: relative error at most 2e-7.
#[inline(always)]
pub fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let a = s.abs(x);
    let one = s.splat(1.0);
    let far = s.sub(one, s.div(s.splat(2.0), s.add(exp(s, s.add(a, a)), one)));
    // tanh(x) / x for |x| <= 0.625, to 1.5e-10.
    let c = [
        2.127_435_363_5e-3,
        -8.157_853_372_48e-3,
        2.169_126_531_65e-2,
        -5.394_458_467_82e-2,
        0.133_331_817_485,
        -0.333_333_296_629,
        0.999_999_999_854,
    ];
    let near = s.mul(x, poly(s, s.mul(x, x), c));
    s.select(s.lt(a, s.splat(0.625)), near, with_sign(s, far, x))
}

/// `y` with the sign of `x`, for `y >= 0`.
#[inline(always)]
fn with_sign<S: Simd>(s: S, y: S::V, x: S::V) -> S::V {
    s.select(s.lt(x, s.splat(0.0)), s.neg(y), y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Isa, variants};

    macro_rules! on_slices {
        ($($body:ident, $run:ident, $f:ident;)*) => {$(
            #[inline(always)]
            unsafe fn $body<S: Simd>(s: S, x: &[f32], y: &mut [f32]) {
                for (x, y) in x.chunks(S::LANES).zip(y.chunks_mut(S::LANES)) {
                    // SAFETY: both chunks have x.len() <= LANES elements.
                    unsafe { s.store_partial(y.as_mut_ptr(), $f(s, s.load_partial(x.as_ptr(), x.len())), x.len()) }
                }
            }
            variants! { unsafe fn $run(x: &[f32], y: &mut [f32]) = $body }
        )*};
    }
    on_slices! {
        exp_body, run_exp, exp;
        gelu_body, run_gelu, gelu;
        erf_body, run_erf, erf;
        sigmoid_body, run_sigmoid, sigmoid;
        silu_body, run_silu, silu;
        tanh_body, run_tanh, tanh;
    }
    type Run = unsafe fn(Isa, &[f32], &mut [f32]);

    /// Greatest relative error over 400,001 points of `from ..= to`, and where, for every variant.
    fn check(name: &str, run: Run, exact: impl Fn(f64) -> f64, from: f64, to: f64, bound: f64) {
        let x: Vec<f32> = (0..=400_000).map(|i| (from + (to - from) * f64::from(i) / 400_000.0) as f32).collect();
        for isa in Isa::all() {
            let mut y = vec![0.0; x.len()];
            // SAFETY: slices of equal length.
            unsafe { run(isa, &x, &mut y) };
            let (mut worst, mut at) = (0.0, 0.0);
            for (&x, &y) in x.iter().zip(&y) {
                let e = exact(f64::from(x));
                let error = if e == 0.0 { f64::from(y).abs() } else { (f64::from(y) / e - 1.0).abs() };
                if error > worst || error.is_nan() {
                    (worst, at) = (error, x);
                }
            }
            println!("{name} {isa} on {from}..{to}: {worst:.2e} at {at}");
            assert!(worst <= bound, "{name} {isa}: {worst:e} at {at}, bound {bound:e}");
        }
    }

    fn exact_gelu(x: f64) -> f64 {
        x / 2.0 * libm::erfc(-x / std::f64::consts::SQRT_2)
    }

    #[test]
    fn exp_within_an_ulp() {
        check("exp", run_exp, f64::exp, -87.3, 88.7, 1.2e-7);
        check("exp", run_exp, f64::exp, -1.0, 1.0, 1.2e-7);
    }

    #[test]
    fn gelu_relative() {
        check("gelu", run_gelu, exact_gelu, -5.0, 5.0, 2e-7);
        check("gelu", run_gelu, exact_gelu, -12.5, -5.0, 2e-7);
        check("gelu", run_gelu, exact_gelu, 5.0, 100.0, 2e-7);
        check("gelu", run_gelu, exact_gelu, -1e-3, 1e-3, 2e-7);
    }

    #[test]
    fn erf_relative() {
        check("erf", run_erf, libm::erf, -6.0, 6.0, 2e-7);
        check("erf", run_erf, libm::erf, -1e-3, 1e-3, 2e-7);
    }

    #[test]
    fn sigmoid_and_silu_relative() {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        check("sigmoid", run_sigmoid, sigmoid, -87.0, 30.0, 3e-7);
        check("silu", run_silu, |x| x * sigmoid(x), -80.0, 30.0, 3e-7);
        check("silu", run_silu, |x| x * sigmoid(x), -4.0, 4.0, 3e-7);
    }

    #[test]
    fn tanh_relative() {
        check("tanh", run_tanh, f64::tanh, -10.0, 10.0, 2e-7);
        check("tanh", run_tanh, f64::tanh, -0.7, 0.7, 2e-7);
    }

    #[test]
    fn ends_of_the_range() {
        let x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, 89.5, -200.0];
        for isa in Isa::all() {
            let of = |run: Run| {
                let mut y = [0.0; 6];
                // SAFETY: slices of equal length.
                unsafe { run(isa, &x, &mut y) };
                y
            };
            for y in [of(run_exp), of(run_gelu), of(run_erf), of(run_sigmoid), of(run_silu), of(run_tanh)] {
                assert!(y[0].is_nan());
            }
            assert_eq!(of(run_exp)[1..], [f32::INFINITY, 0.0, 1.0, f32::INFINITY, 0.0]);
            let y = of(run_gelu);
            assert_eq!((y[1], y[3], y[4]), (f32::INFINITY, 0.0, 89.5));
            assert!(y[2].abs() < 1e-40 && y[5].abs() < 1e-40);
            assert_eq!(of(run_erf)[1..], [1.0, -1.0, 0.0, 1.0, -1.0]);
            assert_eq!(of(run_sigmoid)[1..], [1.0, 0.0, 0.5, 1.0, 0.0]);
            assert_eq!(of(run_tanh)[1..], [1.0, -1.0, 0.0, 1.0, -1.0]);
        }
    }
}
