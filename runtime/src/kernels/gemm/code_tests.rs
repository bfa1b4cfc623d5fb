//! Products of codes against f64 loops over the same codes: on every variant, for every encoding of whole numbers.

use crate::encoding::Encoding;
use crate::kernels::testing::{close, run_all, step_with, stored, values};
use crate::kernels::{Left, Product, Window};

/// Codes of either width.
const LEFTS: [Left; 2] = [Left::U8, Left::U7];

/// A row as codes have it: the formula, operation by operation.
fn coded(x: &[f32], left: Left) -> Vec<f64> {
    let most = f32::from(left.most_code().expect("codes"));
    let least = x.iter().fold(0.0f32, |a, &v| a.min(v));
    let width = x.iter().fold(0.0f32, |a, &v| a.max(v)) - least;
    let rate = most / width;
    let rate = if rate.is_finite() { rate } else { 0.0 };
    let zero = (-least * rate).round_ties_even();
    let code = |v: f32| ((v * rate).round_ties_even() + zero).clamp(0.0, most);
    x.iter().map(|&v| f64::from(code(v) - zero) * f64::from(width / most)).collect()
}

fn rows(x: &[f32], k: usize, left: Left) -> Vec<f64> {
    x.chunks_exact(k).flat_map(|row| coded(row, left)).collect()
}

/// Every encoding of whole numbers, with codes of either width.
fn integers() -> impl Iterator<Item = (Encoding, Left)> {
    let all = Encoding::ALL.iter().copied().filter(|e| e.has_integers());
    assert!(all.clone().count() > 0);
    all.flat_map(|e| LEFTS.map(|left| (e, left)))
}

fn dot(x: &[f64], w: &[f64]) -> f64 {
    x.iter().zip(w).map(|(x, w)| x * w).sum()
}

#[test]
fn linear_over_tails() {
    let sizes = (1..=25).map(|m| (m, 19, 33)).chain((1..=34).map(|o| (7, 5, o))).chain((30..=70).map(|k| (5, k, 17)));
    for (m, k, o) in sizes.chain([(1, 1, 1), (26, 2, 16), (200, 513, 40), (3, 771, 100), (5, 1024, 17), (7, 2000, 20)]) {
        for (encoding, left) in integers() {
            let (x, b) = (values(m * k, 1), values(o, 3));
            let (w, packed) = stored(encoding, &values(o * k, 2), [o, 1, k]);
            let codes = rows(&x, k, left);
            let at = |i: usize| dot(&codes[i / o * k..][..k], &w[i % o * k..][..k]) + f64::from(b[i % o]);
            let want: Vec<f64> = (0..m * o).map(at).collect();
            let s = step_with(Product { left, ..Product::linear() }, &[&[m, k], &[o, 1, k], &[o]], &[&[m, o]], encoding);
            run_all(&s, &[&x, &packed, &b], |y, what| close(&y[0], &want, 2e-6, &format!("{encoding:?} {left:?} {what}")));
        }
    }
}

/// What would saturate 16 bits, over as many channels as networks have; sums are exact.
#[test]
fn the_largest_codes_do_not_saturate() {
    let (m, k, o) = (5, 6144, 20);
    let x: Vec<f32> = (0..m * k).map(|i| if i / k == 4 { (i % 2) as f32 } else { 1.0 }).collect();
    let signs: Vec<f32> = (0..o * k).map(|i| if i / k % 3 == 0 { -127.0 } else { 127.0 }).collect();
    let (w, packed) = stored(Encoding::I8, &signs, [o, 1, k]);
    let want: Vec<i64> = (0..m * o).map(|i| (0..k).map(|c| (x[i / o * k + c] as i64) * (w[i % o * k + c] as i64)).sum()).collect();
    for left in LEFTS {
        let s = step_with(Product { left, ..Product::linear() }, &[&[m, k], &[o, 1, k]], &[&[m, o]], Encoding::I8);
        run_all(&s, &[&x, &packed], |y, what| {
            // The greatest code m is worth a step of 1 / m, whose rounding is all that is not exact.
            for (&y, &want) in y[0].iter().zip(&want) {
                assert!((f64::from(y) - want as f64).abs() <= 2e-7 * (want as f64).abs(), "{left:?} {what}: expected {want}, found {y}");
            }
        });
    }
}

/// A row has the same codes alone as among others, and the same sums: bit by bit.
#[test]
fn a_row_alone_is_the_row_among_others() {
    let (m, k, o) = (29, 300, 40);
    let x: Vec<f32> = values(m * k, 1).iter().enumerate().map(|(i, v)| v * (1 + i / k * 7 % 5) as f32).collect();
    let (_, packed) = stored(Encoding::I8, &values(o * k, 2), [o, 1, k]);
    for left in LEFTS {
        let linear = |m: usize| step_with(Product { left, ..Product::linear() }, &[&[m, k], &[o, 1, k]], &[&[m, o]], Encoding::I8);
        run_all(&linear(m), &[&x, &packed], |all, what| {
            for row in [0, 13, m - 1] {
                run_all(&linear(1), &[&x[row * k..][..k], &packed], |one, _| {
                    assert_eq!(one[0], all[0][row * o..][..o], "{left:?} {what}: row {row}");
                });
            }
        });
    }
}

#[test]
fn rows_without_a_range_and_beyond_it() {
    let k = 24;
    let constant = |v: f32| vec![v; k];
    let mut odd = values(k, 5);
    odd[17] = f32::NAN;
    let mut infinite = values(k, 6);
    infinite[3] = f32::NEG_INFINITY;
    let lines =
        [constant(0.0), constant(-0.0), constant(3.0), constant(-1e-30), constant(1e-42), constant(1e5), constant(-3e38), odd, infinite];
    let x = lines.concat();
    let (w, packed) = stored(Encoding::I8, &vec![1.0; 16 * k], [16, 1, k]);
    for left in LEFTS {
        let s = step_with(Product { left, ..Product::linear() }, &[&[lines.len(), k], &[16, 1, k]], &[&[lines.len(), 16]], Encoding::I8);
        run_all(&s, &[&x, &packed], |y, what| {
            for (row, (line, y)) in lines.iter().zip(y[0].chunks_exact(16)).enumerate() {
                let want = dot(&coded(line, left), &w[..k]);
                let whole = line.iter().all(|v| v.is_finite());
                let good =
                    |&y: &f32| if whole { (f64::from(y) - want).abs() <= want.abs() * 1e-6 || f64::from(y) == want } else { y.is_nan() };
                // Sums of values near the greatest are beyond it.
                assert!(y.iter().all(good) || row == 6 && y.iter().all(|y| y.is_infinite()), "{what}: row {row}: {want}, {y:?}");
            }
        });
    }
}

#[test]
fn convolutions() {
    // h, w, i, o, stride
    for (h, w, i, o, stride) in
        [(1, 1, 1, 1, 1), (5, 6, 3, 33, 1), (8, 8, 40, 64, 1), (9, 7, 5, 8, 2), (3, 4, 1024, 16, 1), (16, 16, 4, 8, 1), (12, 12, 33, 5, 1)]
    {
        for (encoding, left) in integers() {
            let (oh, ow) = ((h - 1) / stride + 1, (w - 1) / stride + 1);
            let (x, b) = (values(2 * h * w * i, 1), values(o, 3));
            let (weights, packed) = stored(encoding, &values(o * 9 * i, 2), [o, 9, i]);
            let codes = rows(&x, i, left);
            let at = |e: usize| {
                let (c, ox, oy, s) = (e % o, e / o % ow, e / o / ow % oh, e / o / ow / oh);
                let tap = |t: usize| {
                    let (y, x_at) = ((oy * stride + t / 3).wrapping_sub(1), (ox * stride + t % 3).wrapping_sub(1));
                    let inside = y < h && x_at < w;
                    if inside { dot(&codes[((s * h + y) * w + x_at) * i..][..i], &weights[(c * 9 + t) * i..][..i]) } else { 0.0 }
                };
                f64::from(b[c]) + (0..9).map(tap).sum::<f64>()
            };
            let want: Vec<f64> = (0..2 * oh * ow * o).map(at).collect();
            let kernel = Product { left, ..Product::conv2d(Window { stride, pad: [1; 4], ..Window::square(3) }) };
            let s = step_with(kernel, &[&[2, h, w, i], &[o, 9, i], &[o]], &[&[2, oh, ow, o]], encoding);
            run_all(&s, &[&x, &packed, &b], |y, what| close(&y[0], &want, 2e-6, &format!("{encoding:?} {left:?} {what}")));
        }
    }
}

/// Each part has ranges of its own.
#[test]
fn linear_of_two_parts() {
    for (m, i, o) in [(1, 1, 1), (7, 5, 33), (200, 385, 20), (13, 40, 40), (64, 1024, 40)] {
        for (encoding, left) in integers() {
            let (x, b) = (values(m * i, 1), values(o, 4));
            let y: Vec<f32> = values(m * i, 2).iter().map(|v| v * 50.0).collect();
            let (w, packed) = stored(encoding, &values(o * 2 * i, 3), [o, 2, i]);
            let (x_codes, y_codes) = (rows(&x, i, left), rows(&y, i, left));
            let at = |e: usize| {
                let (r, w) = (e / o * i, &w[e % o * 2 * i..][..2 * i]);
                dot(&x_codes[r..r + i], &w[..i]) + dot(&y_codes[r..r + i], &w[i..]) + f64::from(b[e % o])
            };
            let want: Vec<f64> = (0..m * o).map(at).collect();
            let shapes: [&[usize]; 4] = [&[1, m, i], &[1, m, i], &[o, 2, i], &[o]];
            let s = step_with(Product { left, ..Product::concat_linear() }, &shapes, &[&[1, m, o]], encoding);
            run_all(&s, &[&x, &y, &packed, &b], |y, what| close(&y[0], &want, 2e-6, &format!("{encoding:?} {left:?} {what}")));
        }
    }
}

#[test]
fn gelu_and_squares() {
    for (n, h, w, k, o) in [(1, 1, 1, 3, 1), (2, 3, 5, 21, 33), (2, 16, 16, 24, 7)] {
        for (encoding, left) in integers() {
            let (x, b) = (values(n * h * w * k, 1), values(o, 3));
            let (weights, packed) = stored(encoding, &values(o * k, 2), [o, 1, k]);
            let codes = rows(&x, k, left);
            let gelu = |v: f64| v / 2.0 * libm::erfc(-v / std::f64::consts::SQRT_2);
            let at = |e: usize| gelu(dot(&codes[e / o * k..][..k], &weights[e % o * k..][..k]) + f64::from(b[e % o]));
            let want: Vec<f64> = (0..n * h * w * o).map(at).collect();
            let mut squares = vec![0.0; n * o];
            want.iter().enumerate().for_each(|(e, v)| squares[e / o / (h * w) * o + e % o] += v * v);
            let shapes: [&[usize]; 3] = [&[n, h, w, k], &[o, 1, k], &[o]];
            let s = step_with(Product { left, ..Product::linear_gelu_sumsq() }, &shapes, &[&[n, h, w, o], &[n, o]], encoding);
            run_all(&s, &[&x, &packed, &b], |y, what| {
                close(&y[0], &want, 1.5e-5, &format!("{encoding:?} {left:?} {what}"));
                close(&y[1], &squares, 4e-6, &format!("{encoding:?} {left:?} squares {what}"));
            });
        }
    }
}

/// Scaled rows become codes: what the factors make of a row decides its range.
#[test]
fn scale_gate_and_residual() {
    for (n, h, w, k, o) in [(1, 1, 1, 3, 1), (3, 7, 11, 41, 64), (2, 4, 4, 300, 5)] {
        for (encoding, left) in integers() {
            let (hidden, a, b) = (values(n * h * w * k, 1), values(n * k, 2), values(o, 4));
            let (gate, x) = (values(n * o, 5), values(n * h * w * o, 6));
            let (weights, packed) = stored(encoding, &values(o * k, 3), [o, 1, k]);
            let scaled: Vec<f32> = hidden.iter().enumerate().map(|(e, v)| v * a[e / k / (h * w) * k + e % k]).collect();
            let codes = rows(&scaled, k, left);
            let at = |(e, &x): (usize, &f32)| {
                let (c, s) = (e % o, e / o / (h * w));
                let sum = dot(&codes[e / o * k..][..k], &weights[c * k..][..k]) + f64::from(b[c]);
                f64::from(x) + f64::from(gate[s * o + c]) * sum
            };
            let want: Vec<f64> = x.iter().enumerate().map(at).collect();
            let shapes: [&[usize]; 6] = [&[n, h, w, k], &[n, k], &[o, 1, k], &[o], &[n, o], &[n, h, w, o]];
            let s = step_with(Product { left, ..Product::scale_linear_gated_add() }, &shapes, &[&[n, h, w, o]], encoding);
            run_all(&s, &[&hidden, &a, &packed, &b, &gate, &x], |y, what| {
                close(&y[0], &want, 4e-6, &format!("{encoding:?} {left:?} {what}"))
            });
        }
    }
}
