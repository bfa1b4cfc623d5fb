//! Linear layers, convolutions and the fused products against f64 loops.

use crate::kernels::testing::{close, convolve, epilogues, panels, run_all, shuffled, step, tiles_first, unshuffled, upsampled, values};
use crate::kernels::{Product, Rearrange, Window};

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
        let p = panels(&w, o);
        let want = linear(&x, &w, Some(&b), k, o);
        let s = step(Product::linear(), &[&[m, k], &[o, 1, k], &[o]], &[&[m, o]]);
        run_all(&s, &[&x, &p, &b], |y, what| close(&y[0], &want, 4e-6, what));
        let want = linear(&x, &w, None, k, o);
        let s = step(Product::linear(), &[&[m, k], &[o, 1, k]], &[&[m, o]]);
        run_all(&s, &[&x, &p], |y, what| close(&y[0], &want, 4e-6, what));
    }
}

#[test]
fn linear_of_a_single_vector() {
    let (x, w) = (values(5, 1), values(3 * 5, 2));
    let want = linear(&x, &w, None, 5, 3);
    let s = step(Product::linear(), &[&[5], &[3, 1, 5]], &[&[3]]);
    run_all(&s, &[&x, &panels(&w, 3)], |y, what| close(&y[0], &want, 4e-6, what));
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
        let (taps, k) = (kernel[0] * kernel[1], kernel[0] * kernel[1] * i);
        let (x, weights, b) = (values(n * h * w * i, 1), values(o * k, 2), values(o, 3));
        let (want, [oh, ow]) = convolve(&x, [n, h, w, i], &weights, Some(&b), kernel, stride, pad);
        let kernel = Product::conv2d(Window { kernel, stride, pad, upsample: 1 });
        let s = step(kernel, &[&[n, h, w, i], &[o, taps, i], &[o]], &[&[n, oh, ow, o]]);
        run_all(&s, &[&x, &panels(&weights, o), &b], |y, what| close(&y[0], &want, 4e-6, what));
    }
}

/// With and without bias; a window, and a product of pixels.
#[test]
fn epilogues_of_convolutions() {
    for (kernel, pad) in [([3, 3], [1; 4]), ([1, 1], [0; 4])] {
        let (x, o) = ([2, 5, 7, 6], 35);
        let (taps, k, pixels) = (kernel[0] * kernel[1], kernel[0] * kernel[1] * x[3], values(x.iter().product(), 1));
        let (weights, b, r) = (values(o * k, 2), values(o, 3), values(2 * 5 * 7 * o, 4));
        let p = panels(&weights, o);
        for bias in [None, Some(&b[..])] {
            let own = convolve(&pixels, x, &weights, bias, kernel, 1, pad).0;
            for (epilogue, residual, f) in epilogues() {
                let want: Vec<f64> = own.iter().zip(&r).map(|(&v, &r)| f(v, f64::from(r))).collect();
                let (y, w) = ([2, 5, 7, o], [o, taps, x[3]]);
                let mut given: Vec<(&[usize], &[f32])> = vec![(&x, &pixels), (&w, &p)];
                given.extend(bias.map(|b| (&[35][..], b)));
                given.extend(residual.then_some((&y[..], &r[..])));
                let (shapes, inputs): (Vec<&[usize]>, Vec<&[f32]>) = given.into_iter().unzip();
                let kernel = Product { epilogue, ..Product::conv2d(Window { kernel, stride: 1, pad, upsample: 1 }) };
                run_all(&step(kernel, &shapes, &[&y]), &inputs, |y, what| close(&y[0], &want, 4e-6, what));
            }
        }
    }
}

#[test]
fn convolutions_of_upsampled_images() {
    // x, kernel, stride, pad, factor
    let cases = [
        ([2, 3, 4, 3], [3, 3], 1, [1; 4], 2),
        ([1, 2, 3, 4], [1, 1], 1, [0; 4], 2),
        ([1, 3, 2, 2], [3, 2], 2, [2, 1, 0, 1], 3),
        ([2, 1, 1, 5], [3, 3], 1, [1; 4], 4),
    ];
    for (x, kernel, stride, pad, f) in cases {
        let (o, taps, k) = (20, kernel[0] * kernel[1], kernel[0] * kernel[1] * x[3]);
        let (pixels, weights) = (values(x.iter().product(), 1), values(o * k, 2));
        let large = upsampled(&pixels, x, f);
        let (want, [oh, ow]) = convolve(&large, [x[0], x[1] * f, x[2] * f, x[3]], &weights, None, kernel, stride, pad);
        let kernel = Product::conv2d(Window { kernel, stride, pad, upsample: f });
        let s = step(kernel, &[&x, &[o, taps, x[3]]], &[&[x[0], oh, ow, o]]);
        run_all(&s, &[&pixels, &panels(&weights, o)], |y, what| close(&y[0], &want, 4e-6, what));
    }
}

#[test]
fn shuffles_behind_convolutions() {
    // n, h, w, i, channels of a shuffled pixel, kernel, pad, factor
    let cases = [
        (1, 1, 1, 1, 1, [1, 1], [0; 4], 1),
        (2, 3, 5, 3, 1, [1, 1], [0; 4], 2),
        (2, 3, 5, 3, 5, [3, 3], [1; 4], 2),
        (1, 4, 4, 8, 16, [3, 3], [1; 4], 2),
        (2, 5, 7, 2, 24, [3, 3], [1; 4], 2),
        (1, 2, 3, 4, 40, [3, 3], [1; 4], 3),
    ];
    for (n, h, w, i, c, kernel, pad, f) in cases {
        let (o, taps, k) = (c * f * f, kernel[0] * kernel[1], kernel[0] * kernel[1] * i);
        let (x, weights, bias) = (values(n * h * w * i, 1), values(o * k, 2), values(o, 3));
        let packed = panels(&tiles_first(&weights, o, f * f), o);
        let kernel_of = |rearrange| Product { rearrange, ..Product::conv2d(Window { kernel, stride: 1, pad, upsample: 1 }) };
        for bias in [None, Some(&bias[..])] {
            let want = shuffled(&convolve(&x, [n, h, w, i], &weights, bias, kernel, 1, pad).0, [h, w, c], f);
            let bias = bias.map(|b| tiles_first(b, o, f * f));
            let shapes: [&[usize]; 3] = [&[n, h, w, i], &[o, taps, i], &[o]];
            let inputs: Vec<&[f32]> = [&x[..], &packed[..]].into_iter().chain(bias.as_deref()).collect();
            let s = step(kernel_of(Rearrange::Shuffle { factor: f }), &shapes[..inputs.len()], &[&[n, h * f, w * f, c]]);
            run_all(&s, &inputs, |y, what| close(&y[0], &want, 4e-6, what));
        }
    }
}

#[test]
fn unshuffles_behind_convolutions() {
    // n, height and width of the result, i, o, kernel, pad, factor
    let cases = [
        (1, 1, 1, 1, 1, [1, 1], [0; 4], 2),
        (2, 3, 2, 3, 5, [1, 1], [0; 4], 2),
        (2, 3, 4, 3, 17, [3, 3], [1; 4], 2),
        (1, 4, 4, 8, 64, [3, 3], [1; 4], 2),
        (2, 2, 3, 4, 40, [3, 3], [1; 4], 3),
    ];
    for (n, h, w, i, o, kernel, pad, f) in cases {
        let (taps, k) = (kernel[0] * kernel[1], kernel[0] * kernel[1] * i);
        let image = [n, h * f, w * f, i];
        let (x, weights, b) = (values(image.iter().product(), 1), values(o * k, 2), values(o, 3));
        let want = unshuffled(&convolve(&x, image, &weights, Some(&b), kernel, 1, pad).0, [h, w, o], f);
        let window = Window { kernel, stride: 1, pad, upsample: 1 };
        let kernel = Product { rearrange: Rearrange::Unshuffle { factor: f }, ..Product::conv2d(window) };
        let s = step(kernel, &[&image, &[o, taps, i], &[o]], &[&[n, h, w, o * f * f]]);
        run_all(&s, &[&x, &panels(&weights, o), &b], |y, what| close(&y[0], &want, 4e-6, what));
    }
}

#[test]
fn linear_of_two_parts() {
    // The last three are read from a copy: by blocks of rows, by columns, with one part that needs it.
    let sizes =
        [(1, 1, 1, 1), (7, 5, 3, 33), (13, 40, 7, 40), (200, 385, 384, 20), (64, 1024, 1024, 40), (300, 1024, 1024, 64), (5, 3, 1024, 70)];
    for (m, i, j, o) in sizes {
        let (a, b, w, bias) = (values(m * i, 1), values(m * j, 2), values(o * (i + j), 3), values(o, 4));
        let joined: Vec<f32> = (0..m).flat_map(|r| [&a[r * i..][..i], &b[r * j..][..j]].concat()).collect();
        let p = panels(&w, o);
        for bias in [None, Some(&bias[..])] {
            let want = linear(&joined, &w, bias, i + j, o);
            let shapes: [&[usize]; 4] = [&[m, i], &[m, j], &[o, 1, i + j], &[o]];
            let inputs: Vec<&[f32]> = [&a[..], &b[..], &p[..]].into_iter().chain(bias).collect();
            let s = step(Product::concat_linear(), &shapes[..inputs.len()], &[&[m, o]]);
            run_all(&s, &inputs, |y, what| close(&y[0], &want, 6e-6, what));
        }
    }
}

#[test]
fn gelu_and_squares() {
    for (n, h, w, k, o) in [(1, 1, 1, 3, 1), (2, 3, 5, 20, 33), (3, 10, 11, 8, 50), (2, 16, 16, 24, 7)] {
        let (x, weights, b) = (values(n * h * w * k, 1), values(o * k, 2), values(o, 3));
        let want: Vec<f64> = linear(&x, &weights, Some(&b), k, o).into_iter().map(gelu).collect();
        let mut ss = vec![0.0; n * o];
        want.iter().enumerate().for_each(|(i, v)| ss[i / o / (h * w) * o + i % o] += v * v);
        let s = step(Product::linear_gelu_sumsq(), &[&[n, h, w, k], &[o, 1, k], &[o]], &[&[n, h, w, o], &[n, o]]);
        run_all(&s, &[&x, &panels(&weights, o), &b], |y, what| {
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
        let shapes: [&[usize]; 6] = [&[n, h, w, k], &[n, k], &[o, 1, k], &[o], &[n, o], &[n, h, w, o]];
        let s = step(Product::scale_linear_gated_add(), &shapes, &[&[n, h, w, o]]);
        run_all(&s, &[&hidden, &a, &panels(&weights, o), &b, &gate, &x], |y, what| close(&y[0], &want, 4e-6, what));
    }
}
