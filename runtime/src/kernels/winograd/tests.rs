//! Winograd convolutions against f64 loops, over every tail: tiles, channels, pads, batches, groups.

use crate::encoding::Encoding;
use crate::kernels::testing::{
    close, convolve, epilogues, panels, run_all, shuffled, step, step_with, stored, tiles_first, unshuffled, upsampled, values,
};
use crate::kernels::{Algorithm, Product, Rearrange, Window};

/// Of a single element, by the magnitude of the whole.
const TOLERANCE: f64 = 1.2e-5;
/// Outputs of a phase's edge have one power of the points more: 1.6e-5 was seen.
const TOLERANCE_OF_PHASES: f64 = 2e-5;

/// A convolution 3x3 with these pads.
fn winograd(pad: [usize; 4]) -> Product {
    Product { algorithm: Algorithm::Winograd, ..Product::conv2d(Window { pad, ..Window::square(3) }) }
}

fn case(x: [usize; 4], o: usize, pad: [usize; 4], with_bias: bool) {
    let i = x[3];
    let (pixels, w) = (values(x.iter().product(), 1), values(o * 9 * i, 2));
    let b = if with_bias { values(o, 3) } else { Vec::new() };
    let bias = if with_bias { Some(&b[..]) } else { None };
    let (want, [oh, ow]) = convolve(&pixels, x, &w, bias, [3, 3], 1, pad);
    let y = [x[0], oh, ow, o];
    let (u, weights) = (panels(&w, o), [o, 9, i]);
    let kernel = winograd(pad);
    let check = |y: &[Vec<f32>], what: &str| close(&y[0], &want, TOLERANCE, what);
    if with_bias {
        run_all(&step(kernel, &[&x, &weights, &[o]], &[&y]), &[&pixels, &u, &b], check);
    } else {
        run_all(&step(kernel, &[&x, &weights], &[&y]), &[&pixels, &u], check);
    }
}

/// Of an image enlarged to twice its size, by phases.
fn phases(pad: [usize; 4]) -> Product {
    Product { algorithm: Algorithm::WinogradPhases, window: Some(Window { pad, upsample: 2, ..Window::square(3) }), ..winograd(pad) }
}

fn case_of_phases(x: [usize; 4], o: usize, pad: [usize; 4]) {
    let (pixels, w, b) = (values(x.iter().product(), 1), values(o * 9 * x[3], 2), values(o, 3));
    let large = [x[0], 2 * x[1], 2 * x[2], x[3]];
    let (want, [oh, ow]) = convolve(&upsampled(&pixels, x, 2), large, &w, Some(&b), [3, 3], 1, pad);
    let s = step(phases(pad), &[&x, &[o, 9, x[3]], &[o]], &[&[x[0], oh, ow, o]]);
    run_all(&s, &[&pixels, &panels(&w, o), &b], |y, what| close(&y[0], &want, TOLERANCE_OF_PHASES, &format!("{x:?} {o} {pad:?}: {what}")));
}

/// With a result of `o` channels that is rearranged.
fn rearranged_case(x: [usize; 4], o: usize, pad: [usize; 4], by: Rearrange) {
    let i = x[3];
    let (pixels, w, b) = (values(x.iter().product(), 1), values(o * 9 * i, 2), values(o, 3));
    let (own, [oh, ow]) = convolve(&pixels, x, &w, Some(&b), [3, 3], 1, pad);
    let (want, w, b, y) = match by {
        Rearrange::Keep => unreachable!("has tests of its own"),
        Rearrange::Shuffle { factor: f } => {
            let c = o / (f * f);
            let want = shuffled(&own, [oh, ow, c], f);
            (want, tiles_first(&w, o, f * f), tiles_first(&b, o, f * f), [x[0], oh * f, ow * f, c])
        }
        Rearrange::Unshuffle { factor: f } => {
            let [h, w_] = [oh / f, ow / f];
            (unshuffled(&own, [h, w_, o], f), w, b, [x[0], h, w_, o * f * f])
        }
    };
    let (u, weights) = (panels(&w, o), [o, 9, i]);
    let s = step(Product { rearrange: by, ..winograd(pad) }, &[&x, &weights, &[o]], &[&y]);
    run_all(&s, &[&pixels, &u, &b], |y, what| close(&y[0], &want, TOLERANCE, what));
}

/// Tiles that reach over the image's edges, and groups that channels do not fill.
#[test]
fn epilogues_and_upsampled_images() {
    for (f, o) in [(1, 41), (2, 16), (3, 7)] {
        let x = [2, 4, 3, 5];
        let large = [x[0], x[1] * f, x[2] * f, x[3]];
        let (pixels, w, b) = (values(x.iter().product(), 1), values(o * 9 * x[3], 2), values(o, 3));
        let u = panels(&w, o);
        let y = [large[0], large[1], large[2], o];
        let r = values(y.iter().product(), 4);
        for bias in [None, Some(&b[..])] {
            let own = convolve(&upsampled(&pixels, x, f), large, &w, bias, [3, 3], 1, [1; 4]).0;
            for (epilogue, residual, e) in epilogues() {
                let want: Vec<f64> = own.iter().zip(&r).map(|(&v, &r)| e(v, f64::from(r))).collect();
                let (weights, of_bias) = ([o, 9, x[3]], [o]);
                let mut given: Vec<(&[usize], &[f32])> = vec![(&x, &pixels), (&weights, &u)];
                given.extend(bias.map(|b| (&of_bias[..], b)));
                given.extend(residual.then_some((&y[..], &r[..])));
                let (shapes, inputs): (Vec<&[usize]>, Vec<&[f32]>) = given.into_iter().unzip();
                let window = Window { pad: [1; 4], upsample: f, ..Window::square(3) };
                let enlarging = Product { window: Some(window), ..winograd([1; 4]) };
                let both = [(enlarging, TOLERANCE), (phases([1; 4]), TOLERANCE_OF_PHASES)];
                for (kernel, tolerance) in both.into_iter().take(1 + usize::from(f == 2)) {
                    let kernel = Product { epilogue, ..kernel };
                    run_all(&step(kernel, &shapes, &[&y]), &inputs, |y, what| close(&y[0], &want, tolerance, what));
                }
            }
        }
    }
}

/// Runs of channels shorter than a vector, across vectors and groups, and in step with them.
#[test]
fn shuffles() {
    for c in [1, 3, 5, 8, 12, 16, 24, 40, 64] {
        rearranged_case([2, 5, 6, 3], 4 * c, [1; 4], Rearrange::Shuffle { factor: 2 });
    }
    rearranged_case([1, 3, 9, 2], 18, [1; 4], Rearrange::Shuffle { factor: 3 });
    rearranged_case([1, 3, 4, 2], 7, [0, 2, 1, 1], Rearrange::Shuffle { factor: 1 });
}

#[test]
fn unshuffles() {
    for o in [1, 7, 16, 33, 64] {
        rearranged_case([2, 6, 10, 3], o, [1; 4], Rearrange::Unshuffle { factor: 2 });
    }
    rearranged_case([2, 9, 6, 2], 5, [1; 4], Rearrange::Unshuffle { factor: 3 });
    rearranged_case([1, 6, 5, 2], 18, [1, 2, 1, 1], Rearrange::Unshuffle { factor: 6 });
}

#[test]
fn every_tail_of_rows_and_columns() {
    for h in 1..=9 {
        case([1, h, 10 - h, 3], 5, [1; 4], true);
    }
    case([1, 13, 6, 2], 1, [1; 4], false);
}

#[test]
fn every_tail_of_channels() {
    for i in 1..=34 {
        case([1, 4, 5, i], 35 - i, [1; 4], i % 2 == 0);
    }
    case([1, 4, 4, 300], 65, [1; 4], true);
}

#[test]
fn pads_of_all_sides() {
    for pad in [[0; 4], [2, 0, 0, 0], [0, 3, 0, 0], [0, 0, 4, 1], [1, 0, 0, 5], [7; 4]] {
        case([2, 5, 4, 6], 7, pad, true);
    }
}

/// Tiles of 10x10 outputs that begin on either copy of a pixel, before the image and in it, and end anywhere.
#[test]
fn phases_of_all_sizes_and_pads() {
    for h in 1..=11 {
        case_of_phases([1, h, 12 - h, 3], 5, [1; 4]);
    }
    for pad in [[0; 4], [2, 0, 0, 0], [0, 3, 0, 0], [0, 0, 4, 1], [1, 0, 0, 5], [7; 4], [0, 1, 2, 3], [12, 11, 1, 1]] {
        case_of_phases([2, 5, 4, 6], 7, pad);
    }
    for i in 1..=34 {
        case_of_phases([1, 2, 3, i], 35 - i, [1; 4]);
    }
    // More tiles than a block, more than a group, more channels than a batch of many tiles has.
    case_of_phases([3, 18, 23, 9], 40, [1; 4]);
    case_of_phases([2, 22, 22, 900], 3, [1; 4]);
}

#[test]
fn phases_that_are_shuffled() {
    let (x, o, c) = ([2, 3, 4, 5], 20, 5);
    let large = [x[0], 2 * x[1], 2 * x[2], x[3]];
    let (pixels, w, b) = (values(x.iter().product(), 1), values(o * 9 * x[3], 2), values(o, 3));
    let (own, [oh, ow]) = convolve(&upsampled(&pixels, x, 2), large, &w, Some(&b), [3, 3], 1, [1; 4]);
    let want = shuffled(&own, [oh, ow, c], 2);
    let kernel = Product { rearrange: Rearrange::Shuffle { factor: 2 }, ..phases([1; 4]) };
    let s = step(kernel, &[&x, &[o, 9, x[3]], &[o]], &[&[x[0], oh * 2, ow * 2, c]]);
    run_all(&s, &[&pixels, &panels(&tiles_first(&w, o, 4), o), &tiles_first(&b, o, 4)], |y, what| {
        close(&y[0], &want, TOLERANCE_OF_PHASES, what)
    });
}

#[test]
fn a_single_pixel() {
    case([1, 1, 1, 1], 1, [1; 4], false);
    case([3, 1, 1, 2], 2, [2; 4], true);
}

/// More tiles than a block, and more than a group.
#[test]
fn blocks_and_groups() {
    case([3, 18, 23, 9], 40, [1; 4], true);
    case([2, 22, 22, 900], 3, [1; 4], true);
}

/// Alone a sample is one block of tiles, with others it is not.
#[test]
fn a_batch_is_its_samples() {
    let (n, image, i, o) = (16, [6, 6], 900, 40);
    let (pixels, made) = (image[0] * image[1] * i, image[0] * image[1] * o);
    let (x, w) = (values(n * pixels, 1), values(o * 9 * i, 2));
    let u = panels(&w, o);
    let kernel = winograd([1; 4]);
    let s = |n: usize| step(kernel.clone(), &[&[n, image[0], image[1], i], &[o, 9, i]], &[&[n, image[0], image[1], o]]);
    for isa in crate::simd::Isa::NAMES.iter().filter_map(|name| crate::simd::Isa::named(name)) {
        let all = crate::kernels::testing::run(&s(n), &[&x, &u], isa, 2);
        let last = crate::kernels::testing::run(&s(1), &[&x[(n - 1) * pixels..], &u], isa, 2);
        assert_eq!(all[0][(n - 1) * made..], last[0], "{isa}");
    }
}

/// Odd channels leave half of each tap's last pair empty.
#[test]
fn weights_of_half_the_size() {
    for (x, o) in [([1, 5, 6, 3], 33), ([2, 4, 4, 64], 16), ([1, 3, 9, 131], 40), ([2, 22, 22, 9], 5), ([1, 4, 4, 1], 1)] {
        for encoding in [Encoding::F16, Encoding::Bf16] {
            let (pixels, given) = (values(x.iter().product(), 1), values(o * 9 * x[3], 2));
            let (rounded, u) = stored(encoding, &given, [o, 9, x[3]]);
            let w: Vec<f32> = rounded.iter().map(|&w| w as f32).collect();
            let large = [x[0], 2 * x[1], 2 * x[2], x[3]];
            let whole = (winograd([1; 4]), pixels.clone(), x, TOLERANCE);
            for (kernel, image, extents, tolerance) in [whole, (phases([1; 4]), upsampled(&pixels, x, 2), large, TOLERANCE_OF_PHASES)] {
                let (want, [oh, ow]) = convolve(&image, extents, &w, None, [3, 3], 1, [1; 4]);
                let s = step_with(kernel, &[&x, &[o, 9, x[3]]], &[&[x[0], oh, ow, o]], encoding);
                run_all(&s, &[&pixels, &u], |y, what| close(&y[0], &want, tolerance, &format!("{encoding:?}: {what}")));
            }
        }
    }
}
