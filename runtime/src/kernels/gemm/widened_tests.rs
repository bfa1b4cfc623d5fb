//! Products with weights that are widened against f64 loops over the rounded weights, and over rounded rows where pairs are
//! multiplied: on every variant, by its own instructions or, for pairs, by f32 in their place.

use crate::encoding::Encoding;
use crate::kernels::testing::{close, reproducible, run_on, step_with, stored, values};
use crate::kernels::{Left, Product, Window};
use crate::plan::Step;
use crate::simd::Isa;

/// Runs the step on every variant, and with bf16 weights also in pairs. `want` gives the outputs when its argument rounds
/// what the weights are multiplied by.
fn check(s: &Step, inputs: &[&[f32]], encoding: Encoding, rounds: bool, want: impl Fn(fn(f32) -> f64) -> Vec<Vec<f64>>) {
    let compare = |want: Vec<Vec<f64>>, pairs: bool, isas: &[Isa]| {
        run_on(isas, s, inputs, |y, what| {
            for (y, want) in y.iter().zip(&want) {
                close(y, want, 4e-6, &format!("{encoding:?}, pairs {pairs}: {what}"));
            }
        });
    };
    let isas: Vec<Isa> = Isa::all().into_iter().filter(|i| i.bf16().is_none()).collect();
    compare(want(f64::from), false, &isas);
    if encoding == Encoding::Bf16 {
        let pairs: Vec<Isa> = Isa::all().into_iter().map(Isa::with_bf16).collect();
        compare(if rounds { want(|x| half::bf16::from_f32(x).to_f64()) } else { want(f64::from) }, true, &pairs);
    }
    reproducible(s, inputs);
}

/// The product, its rows being rounded where the CPU multiplies pairs.
fn rounding(product: Product) -> Product {
    Product { left: Left::Bf16, ..product }
}

const WIDENED: [Encoding; 5] = [Encoding::F16, Encoding::Bf16, Encoding::I8, Encoding::I6, Encoding::I4];

#[test]
fn linear_over_tails() {
    let sizes = (1..=25).map(|m| (m, 19, 33)).chain((1..=34).map(|o| (7, 5, o)));
    for (m, k, o) in sizes.chain([(1, 1, 1), (26, 2, 16), (200, 513, 40), (3, 771, 100), (5, 1024, 17)]) {
        for encoding in WIDENED {
            let (x, b) = (values(m * k, 1), values(o, 3));
            let (w, packed) = stored(encoding, &values(o * k, 2), [o, 1, k]);
            let want = |round: fn(f32) -> f64| {
                let dot = |r: usize, c: usize| (0..k).map(|j| round(x[r * k + j]) * w[c * k + j]).sum::<f64>();
                vec![(0..m * o).map(|i| dot(i / o, i % o) + f64::from(b[i % o])).collect()]
            };
            let shape = [o, 1, k];
            // Rows may be rounded or not.
            let s = step_with(rounding(Product::linear()), &[&[1, m, k], &shape, &[o]], &[&[1, m, o]], encoding);
            check(&s, &[&x, &packed, &b], encoding, true, want);
            let s = step_with(Product::linear(), &[&[m, k], &shape, &[o]], &[&[m, o]], encoding);
            check(&s, &[&x, &packed, &b], encoding, false, want);
        }
    }
}

#[test]
fn convolutions() {
    // h, w, i, o, stride: odd channels leave a half of each tap's last pair empty.
    for (h, w, i, o, stride) in
        [(1, 1, 1, 1, 1), (5, 6, 3, 33, 1), (8, 8, 40, 64, 1), (9, 7, 5, 8, 2), (3, 4, 1024, 16, 1), (16, 16, 4, 8, 1)]
    {
        for encoding in WIDENED {
            let (oh, ow) = ((h - 1) / stride + 1, (w - 1) / stride + 1);
            let (x, b) = (values(2 * h * w * i, 1), values(o, 3));
            let (weights, packed) = stored(encoding, &values(o * 9 * i, 2), [o, 9, i]);
            let want = |round: fn(f32) -> f64| {
                let at = |e: usize| {
                    let (c, ox, oy, s) = (e % o, e / o % ow, e / o / ow % oh, e / o / ow / oh);
                    let term = |t: usize| {
                        let (y, x_at) = ((oy * stride + t / i / 3).wrapping_sub(1), (ox * stride + t / i % 3).wrapping_sub(1));
                        let inside = y < h && x_at < w;
                        if inside { round(x[((s * h + y) * w + x_at) * i + t % i]) * weights[c * 9 * i + t] } else { 0.0 }
                    };
                    f64::from(b[c]) + (0..9 * i).map(term).sum::<f64>()
                };
                vec![(0..2 * oh * ow * o).map(at).collect()]
            };
            let kernel = rounding(Product::conv2d(Window { stride, pad: [1; 4], ..Window::square(3) }));
            let s = step_with(kernel, &[&[2, h, w, i], &[o, 9, i], &[o]], &[&[2, oh, ow, o]], encoding);
            check(&s, &[&x, &packed, &b], encoding, true, want);
        }
    }
}

/// Parts of odd and even channels, few rows and many, with and without a copy of f32.
#[test]
fn linear_of_two_parts() {
    for (m, i, j, o) in
        [(1, 1, 1, 1), (7, 5, 4, 33), (7, 4, 5, 33), (200, 385, 383, 20), (13, 40, 7, 40), (64, 1024, 1024, 40), (5, 3, 1024, 70)]
    {
        for encoding in WIDENED {
            let (x, y, b) = (values(m * i, 1), values(m * j, 2), values(o, 4));
            let k = i + j;
            let (w, packed) = stored(encoding, &values(o * k, 3), [o, 1, k]);
            let want = |round: fn(f32) -> f64| {
                let at = |r: usize, c: usize| if c < i { x[r * i + c] } else { y[r * j + c - i] };
                let dot = |r: usize, c: usize| (0..k).map(|t| round(at(r, t)) * w[c * k + t]).sum::<f64>();
                vec![(0..m * o).map(|e| dot(e / o, e % o) + f64::from(b[e % o])).collect()]
            };
            let shapes: [&[usize]; 4] = [&[1, m, i], &[1, m, j], &[o, 1, k], &[o]];
            let s = step_with(rounding(Product::concat_linear()), &shapes, &[&[1, m, o]], encoding);
            check(&s, &[&x, &y, &packed, &b], encoding, true, want);
        }
    }
}

#[test]
fn gelu_and_squares() {
    for (n, h, w, k, o) in [(1, 1, 1, 3, 1), (2, 3, 5, 21, 33), (2, 16, 16, 24, 7)] {
        for encoding in WIDENED {
            let (x, b) = (values(n * h * w * k, 1), values(o, 3));
            let (weights, packed) = stored(encoding, &values(o * k, 2), [o, 1, k]);
            let want = |round: fn(f32) -> f64| {
                let dot = |r: usize, c: usize| (0..k).map(|j| round(x[r * k + j]) * weights[c * k + j]).sum::<f64>();
                let gelu = |v: f64| v / 2.0 * libm::erfc(-v / std::f64::consts::SQRT_2);
                let y: Vec<f64> = (0..n * h * w * o).map(|e| gelu(dot(e / o, e % o) + f64::from(b[e % o]))).collect();
                let mut squares = vec![0.0; n * o];
                y.iter().enumerate().for_each(|(e, v)| squares[e / o / (h * w) * o + e % o] += v * v);
                vec![y, squares]
            };
            let shapes: [&[usize]; 3] = [&[n, h, w, k], &[o, 1, k], &[o]];
            let s = step_with(rounding(Product::linear_gelu_sumsq()), &shapes, &[&[n, h, w, o], &[n, o]], encoding);
            check(&s, &[&x, &packed, &b], encoding, true, want);
        }
    }
}

#[test]
fn scale_gate_and_residual() {
    for (n, h, w, k, o) in [(1, 1, 1, 3, 1), (3, 7, 11, 41, 64), (2, 4, 4, 300, 5)] {
        for encoding in WIDENED {
            let (hidden, a, b) = (values(n * h * w * k, 1), values(n * k, 2), values(o, 4));
            let (gate, x) = (values(n * o, 5), values(n * h * w * o, 6));
            let (weights, packed) = stored(encoding, &values(o * k, 3), [o, 1, k]);
            let want = |round: fn(f32) -> f64| {
                let at = |(e, &x): (usize, &f32)| {
                    let (c, r, s) = (e % o, e / o, e / o / (h * w));
                    // The product that the kernel rounds is itself of f32.
                    let term = |j: usize| round(hidden[r * k + j] * a[s * k + j]) * weights[c * k + j];
                    f64::from(x) + f64::from(gate[s * o + c]) * ((0..k).map(term).sum::<f64>() + f64::from(b[c]))
                };
                vec![x.iter().enumerate().map(at).collect()]
            };
            let shapes: [&[usize]; 6] = [&[n, h, w, k], &[n, k], &[o, 1, k], &[o], &[n, o], &[n, h, w, o]];
            let s = step_with(rounding(Product::scale_linear_gated_add()), &shapes, &[&[n, h, w, o]], encoding);
            check(&s, &[&hidden, &a, &packed, &b, &gate, &x], encoding, true, want);
        }
    }
}
