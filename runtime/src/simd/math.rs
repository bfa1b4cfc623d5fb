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
    let x = s.min(s.splat(89.0), s.max(s.splat(-104.0), x));
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    // ln 2 in two parts (Cody and Waite): n times the first is exact.
    let r = s.fma(n, s.splat(-0.693_359_375), x);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    // (exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2, to 1.8e-10 of exp(r).
    let p = poly(s, r, [1.989_099_082_5e-4, 1.393_364_999_63e-3, 8.333_310_925_48e-3, 4.166_646_492_53e-2, 0.166_666_666_816, 0.5]);
    let y = s.add(s.splat(1.0), s.fma(s.mul(r, r), p, r));
    // A power of two that may be out of range, as a product of two that are not.
    let half = s.round(s.mul(n, s.splat(0.5)));
    s.mul(s.mul(y, s.exp2_int(half)), s.exp2_int(s.sub(n, half)))
}

/// `$e` for each of `$n` vectors. A loop in place, since closures of `array::map` are not always inlined into code for the
/// vector instructions, and then take 20 times as long.
macro_rules! each {
    ($s:expr, $n:expr, |$i:ident| $e:expr) => {{
        let mut out = [$s.splat(0.0); $n];
        let mut $i = 0;
        while $i < $n {
            out[$i] = $e;
            $i += 1;
        }
        out
    }};
}

/// `2^23 * 1.5`: added to a number below 2^22 it leaves the nearest integer in the sum's low bits.
const ROUNDING: f32 = 12_582_912.0;

/// Above it the normal distribution's tail is no normal number.
const FAR: f32 = 13.1;

/// `W(a) = a exp(a^2/2) erfc(a / sqrt 2) / 2` on eight pieces of `0 ..= 15`, to 1e-8 of itself. The piece is told by the
/// exponent and first bit of `a + 1`, see [`Simd::piece`]: two to every octave. A row is a coefficient, that of the highest
/// power of `a - CENTRES` first.
const CENTRES: [f32; 8] = [1.5, 2.5, 4.0, 6.0, 9.0, 13.0, 0.0, 0.75];
/// The same, but for the middle of the first.
const NEAR_CENTRES: [f32; 8] = [1.5, 2.5, 4.0, 6.0, 9.0, 13.0, 0.25, 0.75];
#[rustfmt::skip]
const COEFFICIENTS: [[f32; 8]; 8] = [
    [0.000224112776917, 2.68193860957e-5, 2.02116499444e-6, 1.2202044831e-7, 5.5468577936e-9, 2.46884845873e-10, 0.00565405989556, 0.00134686563753],
    [-0.000745083688005, -0.000104818412659, -9.91886195512e-6, -7.73661155818e-7, -4.82825212285e-8, -2.95608547781e-9, -0.0236935317969, -0.00392775117332],
    [0.00220956358434, 0.000373918024787, 4.25013735743e-5, 4.48533014064e-6, 3.63942644122e-7, 3.25390920344e-8, 0.0615667156425, 0.0104722092933],
    [-0.00632650776395, -0.00128661810617, -0.000187208190192, -2.61049755203e-5, -2.94466229635e-6, -3.66440344103e-7, -0.132822628441, -0.0259122150002],
    [0.0164414560484, 0.0040704087389, 0.000771036818069, 0.000143371157394, 2.2752575313e-5, 3.94547192856e-6, 0.249987061566, 0.0574400162],
    [-0.0374912184317, -0.0114934130918, -0.00287625307381, -0.000723556327387, -0.000162453409974, -3.9568947962e-5, -0.398941879778, -0.110053018057],
    [0.0703737465481, 0.027296451459, 0.00921177994157, 0.00318094757426, 0.00102016366153, 0.000350818971843, 0.49999999796, 0.169906512089],
    [0.308671002411, 0.353328328651, 0.377642568303, 0.388675886092, 0.394189101082, 0.396622388479, 0.0, 0.225174346807],
];

/// `x W(|x|) / |x| exp(-x^2/2)` without the sign: `|x| erfc(|x| / sqrt 2) / 2`, for N vectors at a time, since one alone is
/// bound by latency. Relative error at most 1.8e-7 up to 12.5; 0 above [`FAR`].
///
/// `exp(-h) = 2^n (1 + e)` with `1 + e` never rounded on its own: `W + W e` rounds once.
#[inline(always)]
fn weighted_tail<S: Simd, const N: usize>(s: S, a: [S::V; N]) -> [S::V; N] {
    // log2(e) / 2 in two parts.
    const HALF_LOG2E: [f32; 2] = [0.721_347_510_814_666_7, 9.629_815e-9];
    // (2^r - 1) / r for |r| <= 1/2, to 1.9e-9.
    const EXP2: [f32; 6] =
        [1.545_316_294_51e-4, 1.339_086_336_47e-3, 9.618_082_557_28e-3, 5.550_357_114_21e-2, 0.240_226_507_606, 0.693_147_188_026];
    let near = each!(s, N, |i| s.min(s.splat(FAR), a[i]));
    let square = each!(s, N, |i| s.mul(near[i], near[i]));
    let minus_half_log2e = [s.splat(-HALF_LOG2E[0]), s.splat(-HALF_LOG2E[1])];
    let shifted = each!(s, N, |i| s.fma(square[i], minus_half_log2e[0], s.splat(ROUNDING)));
    let r = each!(s, N, |i| {
        let n = s.sub(shifted[i], s.splat(ROUNDING));
        let r = s.fma(square[i], minus_half_log2e[0], s.neg(n));
        let r = s.fma(square[i], minus_half_log2e[1], r);
        s.fma(s.fma(near[i], near[i], s.neg(square[i])), minus_half_log2e[0], r)
    });
    let piece = each!(s, N, |i| s.add(near[i], s.splat(1.0)));
    let z = each!(s, N, |i| s.sub(near[i], s.piece(&CENTRES, piece[i])));
    let mut w = each!(s, N, |i| s.piece(&COEFFICIENTS[0], piece[i]));
    let mut e = [s.splat(EXP2[0]); N];
    for k in 1..8 {
        w = each!(s, N, |i| s.fma(w[i], z[i], s.piece(&COEFFICIENTS[k], piece[i])));
        if k < EXP2.len() {
            e = each!(s, N, |i| s.fma(e[i], r[i], s.splat(EXP2[k])));
        }
    }
    each!(s, N, |i| {
        let tail = s.times_exp2(s.fma(w[i], s.mul(e[i], r[i]), w[i]), shifted[i]);
        s.select(s.lt(a[i], s.splat(FAR)), tail, s.splat(0.0))
    })
}

/// `x/2 (1 + erf(x / sqrt 2))`, the exact GELU, of N vectors: relative error at most 2e-7 for `x >= -12.5`.
///
/// As `max(x, 0) - |x| tail(|x|)`, where nothing cancels.
#[inline(always)]
pub fn gelu<S: Simd, const N: usize>(s: S, x: [S::V; N]) -> [S::V; N] {
    let a = each!(s, N, |i| s.abs(x[i]));
    let tail = weighted_tail(s, a);
    each!(s, N, |i| s.sub(s.max(s.splat(0.0), x[i]), tail[i]))
}

/// GELU, as [`gelu`], and its derivative `Phi(x) + x phi(x)`, the normal distribution's function and density: to 2e-7 of its greatest value.
#[inline(always)]
pub fn gelu_and_slope<S: Simd, const N: usize>(s: S, x: [S::V; N]) -> ([S::V; N], [S::V; N]) {
    // Far from where products of it are no normal numbers, and small beside the next of x.
    let a = each!(s, N, |i| s.max(s.splat(1e-18), s.abs(x[i])));
    let tail = weighted_tail(s, a);
    let value = each!(s, N, |i| s.sub(s.max(s.splat(0.0), x[i]), tail[i]));
    let slope = each!(s, N, |i| {
        let beyond = s.div(tail[i], a[i]);
        let distribution = s.select(s.lt(x[i], s.splat(0.0)), beyond, s.sub(s.splat(1.0), beyond));
        let near = s.min(s.splat(FAR), a[i]);
        let density = s.mul(exp(s, s.mul(s.mul(near, near), s.splat(-0.5))), s.splat(0.398_942_28));
        s.mla(x[i], density, distribution)
    });
    (value, slope)
}

/// `-erfc(a / sqrt 2) / 2` on the first six pieces of [`COEFFICIENTS`], times a to 1.1e-5, and to 1e-6 below 3; further out it is 0.
#[rustfmt::skip]
const NEAR_COEFFICIENTS: [[f32; 8]; 6] = [
    [-0.00566227535, 0.0005698157004, 0.0002185317299, 1.276334263e-7, 0.0, 0.0, 0.008383429957, -0.000115241121],
    [0.006299825547, -0.005738814078, -0.0004192504068, -1.660830701e-7, 0.0, 0.0, 0.01165220375, 0.0226551243],
    [0.02696354479, 0.01534627085, 0.0003209709484, 5.812852229e-9, 0.0, 0.0, -0.06041484565, -0.02195868053],
    [-0.09715916389, -0.02192874915, -0.0002186425995, 3.029685597e-8, 0.0, 0.0, -0.0483293193, -0.1129199152],
    [0.1295178634, 0.01752817551, 0.0001345843288, 7.744692629e-9, 0.0, 0.0, 0.3866681097, 0.3011374347],
    [-0.0668069112, -0.006209409971, -3.439956077e-5, -3.731680125e-9, 0.0, 0.0, -0.4012936889, -0.2266273754],
];

/// GELU where 8 bits are all that is left of it: to 1.2e-5, and in a third of the instructions of [`gelu`].
#[inline(always)]
pub fn gelu_near<S: Simd, const N: usize>(s: S, x: [S::V; N]) -> [S::V; N] {
    let near = each!(s, N, |i| s.min(s.splat(FAR), s.abs(x[i])));
    let piece = each!(s, N, |i| s.add(near[i], s.splat(1.0)));
    let z = each!(s, N, |i| s.sub(near[i], s.piece(&NEAR_CENTRES, piece[i])));
    let mut q = each!(s, N, |i| s.piece(&NEAR_COEFFICIENTS[0], piece[i]));
    for row in &NEAR_COEFFICIENTS[1..] {
        q = each!(s, N, |i| s.fma(q[i], z[i], s.piece(row, piece[i])));
    }
    each!(s, N, |i| s.fma(near[i], q[i], s.max(s.splat(0.0), x[i])))
}

/// `erf(x)`: relative error at most 2e-7.
#[inline(always)]
pub fn erf<S: Simd>(s: S, x: S::V) -> S::V {
    let a = s.abs(x);
    let scaled = s.mul(a, s.splat(std::f32::consts::SQRT_2));
    let [tail] = weighted_tail(s, [scaled]);
    let far = with_sign(s, s.sub(s.splat(1.0), s.div(s.add(tail, tail), scaled)), x);
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
        ($($body:ident, $run:ident, $alias:ident, $f:ident;)*) => {$(
            #[inline(always)]
            unsafe fn $body<S: Simd>(s: S, x: &[f32], y: &mut [f32]) {
                for (x, y) in x.chunks(S::LANES).zip(y.chunks_mut(S::LANES)) {
                    // SAFETY: both chunks have x.len() <= LANES elements.
                    unsafe { s.store_partial(y.as_mut_ptr(), $f(s, s.load_partial(x.as_ptr(), x.len())), x.len()) }
                }
            }
            variants! { unsafe fn $run(x: &[f32], y: &mut [f32]) as $alias = $body }
        )*};
    }
    on_slices! {
        exp_body, run_exp, Exp, exp;
        gelu_body, run_gelu, Gelu, gelu_of_one;
        gelu_near_body, run_gelu_near, GeluNear, gelu_near_of_one;
        slope_body, run_slope, Slope, slope_of_one;
        erf_body, run_erf, Erf, erf;
        sigmoid_body, run_sigmoid, Sigmoid, sigmoid;
        silu_body, run_silu, Silu, silu;
        tanh_body, run_tanh, Tanh, tanh;
    }
    #[inline(always)]
    fn gelu_of_one<S: Simd>(s: S, x: S::V) -> S::V {
        gelu(s, [x])[0]
    }
    #[inline(always)]
    fn gelu_near_of_one<S: Simd>(s: S, x: S::V) -> S::V {
        gelu_near(s, [x])[0]
    }
    #[inline(always)]
    fn slope_of_one<S: Simd>(s: S, x: S::V) -> S::V {
        gelu_and_slope(s, [x]).1[0]
    }
    type Run = fn(Isa) -> unsafe fn(&[f32], &mut [f32]);

    /// How far off a result is that should be another.
    type Error = fn(f64, f64) -> f64;

    fn relative(y: f64, exact: f64) -> f64 {
        if exact == 0.0 { y.abs() } else { (y / exact - 1.0).abs() }
    }

    fn absolute(y: f64, exact: f64) -> f64 {
        (y - exact).abs()
    }

    /// Greatest relative error over 400,001 points of `from ..= to`, and where, for every variant.
    fn check(name: &str, run: Run, exact: impl Fn(f64) -> f64, from: f64, to: f64, bound: f64) {
        check_by(relative, name, run, exact, from, to, bound);
    }

    /// The same of another error.
    fn check_by(error: Error, name: &str, run: Run, exact: impl Fn(f64) -> f64, from: f64, to: f64, bound: f64) {
        let x: Vec<f32> = (0..=400_000).map(|i| (from + (to - from) * f64::from(i) / 400_000.0) as f32).collect();
        for isa in Isa::all() {
            let mut y = vec![0.0; x.len()];
            // SAFETY: slices of equal length.
            unsafe { run(isa)(&x, &mut y) };
            let (mut worst, mut at) = (0.0, 0.0);
            for (&x, &y) in x.iter().zip(&y) {
                let error = error(f64::from(y), exact(f64::from(x)));
                if error > worst || error.is_nan() {
                    (worst, at) = (error, x);
                }
            }
            println!("{name} {isa} on {from}..{to}: {worst:.2e} at {at}");
            assert!(worst <= bound, "{name} {isa}: {worst:e} at {at}, bound {bound:e}");
        }
        let of = |isa: Isa| {
            let mut y = vec![0.0; x.len()];
            // SAFETY: slices of equal length.
            unsafe { run(isa.reproducible())(&x, &mut y) };
            y.iter().map(|y| y.to_bits()).collect::<Vec<_>>()
        };
        let want = of(Isa::SCALAR);
        Isa::all().into_iter().for_each(|isa| assert!(of(isa) == want, "{name}, reproducible: {isa} gives other bits than scalar code"));
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
    fn gelu_near_absolute() {
        check_by(absolute, "gelu_near", run_gelu_near, exact_gelu, -15.0, 15.0, 1.2e-5);
        check_by(absolute, "gelu_near", run_gelu_near, exact_gelu, -2.99, 2.99, 1.2e-6);
        check("gelu_near", run_gelu_near, exact_gelu, -1e-2, 1e-2, 3e-7);
        // 0 is right where less than a hundred-thousandth is left; further out there is nothing to get wrong.
        check_by(absolute, "gelu_near", run_gelu_near, exact_gelu, -1e3, -15.0, 1e-30);
        check("gelu_near", run_gelu_near, exact_gelu, 15.0, 1e3, 1e-7);
    }

    #[test]
    fn gelu_slope_absolute() {
        let slope = |x: f64| {
            let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
            libm::erfc(-x / std::f64::consts::SQRT_2) / 2.0 + x * density
        };
        check_by(absolute, "gelu slope", run_slope, slope, -15.0, 15.0, 3e-7);
        check_by(absolute, "gelu slope", run_slope, slope, -1e-3, 1e-3, 2e-7);
        check_by(absolute, "gelu slope", run_slope, slope, 15.0, 1e3, 1e-7);
        check_by(absolute, "gelu slope", run_slope, slope, -1e3, -15.0, 1e-30);
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
                unsafe { run(isa)(&x, &mut y) };
                y
            };
            for y in [of(run_exp), of(run_gelu), of(run_gelu_near), of(run_erf), of(run_sigmoid), of(run_silu), of(run_tanh)] {
                assert!(y[0].is_nan());
            }
            assert_eq!(of(run_exp)[1..], [f32::INFINITY, 0.0, 1.0, f32::INFINITY, 0.0]);
            for y in [of(run_gelu), of(run_gelu_near)] {
                assert_eq!((y[1], y[3], y[4]), (f32::INFINITY, 0.0, 89.5));
                assert!(y[2].abs() < 1e-40 && y[5].abs() < 1e-40);
            }
            assert_eq!(of(run_erf)[1..], [1.0, -1.0, 0.0, 1.0, -1.0]);
            assert_eq!(of(run_sigmoid)[1..], [1.0, 0.0, 0.5, 1.0, 0.0]);
            assert_eq!(of(run_tanh)[1..], [1.0, -1.0, 0.0, 1.0, -1.0]);
        }
    }
}
