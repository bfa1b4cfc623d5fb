//! Kernels that do little with each element: activations, norms, GRN, copies.

use criterion::Criterion;
use fcdm_runtime::kernels::{Activation, Copy, GrnScale, GroupNorm, LayerNorm, NormModulate, SumSquares, Unary};

use crate::one_step::{bench, value, weight};

/// Height (and width), channels, of a block's narrow side.
const SIZES: [(usize, usize); 3] = [(32, 128), (32, 512), (8, 2048)];

pub fn activations(c: &mut Criterion) {
    for (name, op) in [("gelu", Unary::Gelu), ("silu", Unary::Silu), ("erf", Unary::Erf), ("exp", Unary::Exp)] {
        let x = [1024, 384];
        bench(c, "unary", name, op, &[value(&x)], &[&x]);
    }
}

pub fn norms(c: &mut Criterion) {
    for (side, channels) in SIZES {
        let (x, vector, name) = ([1, side, side, channels], [1, channels], format!("{side}x{side}x{channels}"));
        bench(c, "layer_norm", &name, LayerNorm { eps: 1e-6 }, &[value(&x)], &[&x]);
        let given = [value(&x), value(&vector), value(&vector)];
        bench(c, "norm_modulate", &name, NormModulate { eps: 1e-6 }, &given, &[&x]);
    }
}

/// Of SD's decoder at 256 px, whose groups are 32; and of TAESD's pool branch.
pub fn group_norm(c: &mut Criterion) {
    for (side, channels, groups) in [(32, 512, 32), (64, 512, 32), (128, 256, 32), (256, 128, 32), (32, 256, 4)] {
        let x = [1, side, side, channels];
        let given = [value(&x), weight(&[channels]), weight(&[channels])];
        for (name, activation) in [("group_norm", Activation::None), ("group_norm_silu", Activation::Silu)] {
            let kernel = GroupNorm { groups, eps: 1e-6, activation };
            bench(c, name, &format!("{side}x{side}x{channels}"), kernel, &given, &[&x]);
        }
    }
}

pub fn grn(c: &mut Criterion) {
    for (side, channels) in SIZES {
        let (wide, name) = (3 * channels, format!("{side}x{side}x{}", 3 * channels));
        let (x, vector) = ([1, side, side, wide], [1, wide]);
        bench(c, "sum_squares", &name, SumSquares {}, &[value(&x)], &[&vector]);
        let given = [value(&vector), weight(&[wide])];
        bench(c, "grn_scale", &name, GrnScale { eps: 1e-6 }, &given, &[&vector]);
    }
}

/// What moves elements at the seams between the stages of FCDM-S, as the compiler lowers it.
pub fn copies(c: &mut Criterion) {
    let (side, channels) = (16usize, 64usize);
    let (fine, coarse) = ([1, 2 * side, 2 * side, channels], [1, side, side, 4 * channels]);
    // Row, column, channel, row and column within the cell of 2x2.
    let extents = vec![side, side, channels, 2, 2];
    let (n, s) = (channels as isize, side as isize);
    let fine_strides = vec![4 * s * n, 2 * n, 1, 2 * s * n, n];
    let coarse_strides = vec![4 * s * n, 4 * n, 4, 2, 1];
    let shuffle = |x_strides: &[isize], y_strides: &[isize]| Copy {
        extents: extents.clone(),
        from: 0,
        x_strides: x_strides.to_vec(),
        to: 0,
        y_strides: y_strides.to_vec(),
    };
    bench(c, "copy", "pixel_unshuffle", shuffle(&fine_strides, &coarse_strides), &[value(&fine)], &[&coarse]);
    bench(c, "copy", "pixel_shuffle", shuffle(&coarse_strides, &fine_strides), &[value(&coarse)], &[&fine]);
    let (rows, narrow, wide) = (1024usize, 128usize, 256usize);
    let half =
        Copy { extents: vec![rows, narrow], from: 0, x_strides: vec![narrow as isize, 1], to: narrow, y_strides: vec![wide as isize, 1] };
    bench(c, "copy", "half_of_concat", half, &[value(&[1, rows, narrow])], &[&[1, rows, wide]]);
}
