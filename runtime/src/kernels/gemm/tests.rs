//! Linear layers, convolutions and the fused products against f64 loops.

use crate::kernels::gemm::pack_panels;
use crate::kernels::testing::{close, packed, run_all, step, values};
use crate::plan::Kernel;

fn linear(x: &[f32], w: &[f32], b: Option<&[f32]>, k: usize, o: usize) -> Vec<f64> {
    let dot = |r: usize, c: usize| (0..k).map(|j| f64::from(x[r * k + j]) * f64::from(w[c * k + j])).sum::<f64>();
    (0..x.len() / k * o).map(|i| dot(i / o, i % o) + b.map_or(0.0, |b| f64::from(b[i % o]))).collect()
}

fn gelu(x: f64) -> f64 {
    x / 2.0 * libm::erfc(-x / std::f64::consts::SQRT_2)
}

#[test]
fn linear_over_tails() {
    let sizes = (1..=26).map(|m| (m, 19, 33)).chain((1..=34).map(|o| (7, 5, o))).chain([(1, 1, 1), (200, 513, 40), (3, 700, 100)]);
    for (m, k, o) in sizes {
        let (x, w, b) = (values(m * k, 1), values(o * k, 2), values(o, 3));
        let p = pack_panels(&w, o, k);
        let want = linear(&x, &w, Some(&b), k, o);
        let s = step(Kernel::Linear, &[&[m, k], &packed(o, k), &[o]], &[&[m, o]]);
        run_all(&s, &[&x, &p, &b], |y, what| close(&y[0], &want, 4e-6, what));
        let want = linear(&x, &w, None, k, o);
        let s = step(Kernel::Linear, &[&[m, k], &packed(o, k)], &[&[m, o]]);
        run_all(&s, &[&x, &p], |y, what| close(&y[0], &want, 4e-6, what));
    }
}

#[test]
fn linear_of_a_single_vector() {
    let (x, w) = (values(5, 1), values(3 * 5, 2));
    let want = linear(&x, &w, None, 5, 3);
    let s = step(Kernel::Linear, &[&[5], &packed(3, 5)], &[&[3]]);
    run_all(&s, &[&x, &pack_panels(&w, 3, 5)], |y, what| close(&y[0], &want, 4e-6, what));
}

#[test]
fn convolutions() {
    // n, h, w, i, o, kernel, stride, pad
    let cases = [
        (1, 1, 1, 1, 1, [1, 1], 1, [0; 4]),
        (2, 4, 5, 3, 5, [1, 1], 1, [0; 4]),
        (2, 5, 6, 3, 33, [3, 3], 1, [1; 4]),
        (1, 8, 8, 40, 64, [3, 3], 1, [1; 4]),
        (2, 9, 7, 4, 8, [3, 3], 2, [1; 4]),
        (1, 8, 6, 2, 3, [3, 2], 2, [0, 1, 1, 0]),
        (1, 3, 3, 2, 3, [2, 2], 1, [3, 3, 2, 2]),
        (1, 16, 16, 4, 9, [7, 7], 4, [3; 4]),
    ];
    for (n, h, w, i, o, kernel, stride, pad) in cases {
        let [kh, kw] = kernel;
        let (oh, ow) = ((h + pad[0] + pad[2] - kh) / stride + 1, (w + pad[1] + pad[3] - kw) / stride + 1);
        let (x, weights, b) = (values(n * h * w * i, 1), values(o * kh * kw * i, 2), values(o, 3));
        let mut want = Vec::new();
        for e in 0..n * oh * ow * o {
            let (c, ox, oy, s) = (e % o, e / o % ow, e / o / ow % oh, e / o / ow / oh);
            let mut sum = f64::from(b[c]);
            for t in 0..kh * kw * i {
                let (y, at) = ((oy * stride + t / i / kw).wrapping_sub(pad[0]), (ox * stride + t / i % kw).wrapping_sub(pad[1]));
                if y < h && at < w {
                    sum += f64::from(x[((s * h + y) * w + at) * i + t % i]) * f64::from(weights[c * kh * kw * i + t]);
                }
            }
            want.push(sum);
        }
        let k = kh * kw * i;
        let s = step(Kernel::Conv2d { kernel, stride, pad }, &[&[n, h, w, i], &packed(o, k), &[o]], &[&[n, oh, ow, o]]);
        run_all(&s, &[&x, &pack_panels(&weights, o, k), &b], |y, what| close(&y[0], &want, 4e-6, what));
    }
}

#[test]
fn gelu_and_squares() {
    for (n, h, w, k, o) in [(1, 1, 1, 3, 1), (2, 3, 5, 20, 33), (3, 10, 11, 8, 50), (2, 16, 16, 24, 7)] {
        let (x, weights, b) = (values(n * h * w * k, 1), values(o * k, 2), values(o, 3));
        let want: Vec<f64> = linear(&x, &weights, Some(&b), k, o).into_iter().map(gelu).collect();
        let mut ss = vec![0.0; n * o];
        want.iter().enumerate().for_each(|(i, v)| ss[i / o / (h * w) * o + i % o] += v * v);
        let s = step(Kernel::LinearGeluSumsq, &[&[n, h, w, k], &packed(o, k), &[o]], &[&[n, h, w, o], &[n, o]]);
        run_all(&s, &[&x, &pack_panels(&weights, o, k), &b], |y, what| {
            close(&y[0], &want, 2e-6, what);
            close(&y[1], &ss, 2e-6, what);
        });
    }
}

#[test]
fn scale_gate_and_residual() {
    for (n, h, w, k, o) in [(1, 1, 1, 3, 1), (2, 3, 5, 20, 33), (3, 7, 11, 40, 64), (2, 4, 4, 300, 5)] {
        let (hidden, a, weights, b) = (values(n * h * w * k, 1), values(n * k, 2), values(o * k, 3), values(o, 4));
        let (gate, x) = (values(n * o, 5), values(n * h * w * o, 6));
        let mut want = Vec::new();
        for (e, &x) in x.iter().enumerate() {
            let (c, r, s) = (e % o, e / o, e / o / (h * w));
            let term = |j: usize| f64::from(hidden[r * k + j]) * f64::from(a[s * k + j]) * f64::from(weights[c * k + j]);
            let product = (0..k).map(term).sum::<f64>() + f64::from(b[c]);
            want.push(f64::from(x) + f64::from(gate[s * o + c]) * product);
        }
        let shapes: [&[usize]; 6] = [&[n, h, w, k], &[n, k], &packed(o, k), &[o], &[n, o], &[n, h, w, o]];
        let s = step(Kernel::ScaleLinearGatedAdd, &shapes, &[&[n, h, w, o]]);
        run_all(&s, &[&hidden, &a, &pack_panels(&weights, o, k), &b, &gate, &x], |y, what| close(&y[0], &want, 4e-6, what));
    }
}
