//! Matrix products at the sizes of FCDM's blocks: `pixels x inputs x outputs`, of the widening layer and back.

use criterion::Criterion;
use fcdm_runtime::kernels::{Attention, Matmul, Product, Softmax};

use crate::one_step::{bench, panels, value, weight};

/// Height (and width) of the picture, width of the block; it widens by 3. Of FCDM-S, then of FCDM-XL.
const BLOCKS: [(usize, usize); 7] = [(64, 128), (32, 128), (16, 256), (8, 512), (32, 512), (16, 1024), (8, 2048)];

/// Products alone.
pub fn linear(c: &mut Criterion) {
    for (side, width) in BLOCKS {
        let pixels = side * side;
        for (k, o) in [(width, 3 * width), (3 * width, width)] {
            let given = [value(&[pixels, k]), panels(o, 1, k), weight(&[o])];
            bench(c, "linear", &format!("{pixels}x{k}x{o}"), Product::linear(), &given, &[&[pixels, o]]);
        }
    }
}

/// With what the passes fuse into them.
pub fn fused(c: &mut Criterion) {
    for (side, width) in BLOCKS {
        let (pixels, wide) = (side * side, 3 * width);
        let (x, h) = ([1, side, side, width], [1, side, side, wide]);
        let given = [value(&x), panels(wide, 1, width), weight(&[wide])];
        let name = format!("{pixels}x{width}x{wide}");
        bench(c, "linear_gelu_sumsq", &name, Product::linear_gelu_sumsq(), &given, &[&h, &[1, wide]]);
        let given = [value(&h), value(&[1, wide]), panels(width, 1, wide), weight(&[width]), value(&[1, width]), value(&x)];
        let name = format!("{pixels}x{wide}x{width}");
        bench(c, "scale_linear_gated_add", &name, Product::scale_linear_gated_add(), &given, &[&x]);
    }
}

/// Attention over all positions of an image of 32x32 with 512 channels, as in SD's decoder at 256 px.
pub fn attention(c: &mut Criterion) {
    let (x, scores) = ([1, 1024, 512], [1, 1024, 1024]);
    bench(c, "attention", "matmul 1024x512x1024", Matmul {}, &[value(&x), value(&[1, 512, 1024])], &[&scores]);
    bench(c, "attention", "matmul 1024x1024x512", Matmul {}, &[value(&scores), value(&x)], &[&x]);
    bench(c, "attention", "fused 1024x512", Attention { scale: 0.05 }, &[value(&x), value(&x), value(&x)], &[&x]);
    bench(c, "attention", "softmax 1024x1024", Softmax {}, &[value(&scores)], &[&scores]);
}
