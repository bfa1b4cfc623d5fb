//! Convolutions: the 3x3 ones of FCDM-S and FCDM-XL, and the depthwise ones of every width.

use criterion::Criterion;
use fcdm_runtime::plan::{Kernel, Rearrange};

use crate::one_step::{bench, panels, value, weight};

/// Height (and width), channels in and out: embedding, down, up, up, output and final layer of FCDM-S; the three that
/// weigh most of FCDM-XL.
const CONV3X3: [(usize, usize, usize); 9] = [
    (32, 4, 128),
    (32, 128, 64),
    (8, 512, 1024),
    (16, 256, 512),
    (32, 128, 128),
    (32, 128, 8),
    (8, 2048, 4096),
    (16, 1024, 2048),
    (32, 512, 512),
];

/// Height (and width), channels.
const DEPTHWISE: [(usize, usize); 4] = [(32, 128), (32, 512), (16, 1024), (8, 2048)];

pub fn conv3x3(c: &mut Criterion) {
    for (side, i, o) in CONV3X3 {
        let kernel = Kernel::Conv2d { kernel: [3, 3], stride: 1, pad: [1; 4], then: Rearrange::Keep };
        let given = [value(&[1, side, side, i]), panels(o, 9 * i)];
        bench(c, "conv3x3", &format!("{side}x{side}x{i}x{o}"), kernel, &given, &[&[1, side, side, o]]);
    }
}

pub fn depthwise(c: &mut Criterion) {
    for (side, channels) in DEPTHWISE {
        let (x, name) = ([1, side, side, channels], format!("{side}x{side}x{channels}"));
        let given = [value(&x), weight(&[7, 7, channels]), weight(&[channels])];
        bench(c, "depthwise7x7", &name, Kernel::DwConv2d { pad: 3 }, &given, &[&x]);
        let vector = [1, channels];
        let given = [value(&x), weight(&[7, 7, channels]), weight(&[channels]), value(&vector), value(&vector)];
        bench(c, "depthwise7x7_norm_modulate", &name, Kernel::DwConvNormModulate { pad: 3, eps: 1e-6 }, &given, &[&x]);
    }
}
