//! Convolutions: the 3x3 ones of FCDM-S and FCDM-XL, and the depthwise ones of every width.

use criterion::Criterion;
use fcdm_runtime::kernels::{Activation, Algorithm, DwConv2d, DwConvNormModulate, Epilogue, Product, Window};

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
        let kernel = Product::conv2d(Window { pad: [1; 4], ..Window::square(3) });
        let given = [value(&[1, side, side, i]), panels(o, 9, i)];
        bench(c, "conv3x3", &format!("{side}x{side}x{i}x{o}"), kernel, &given, &[&[1, side, side, o]]);
    }
}

/// Height (and width), channels in and out, of an autoencoder's decoder at 256 px: those of SD's, then of TAESD.
const DECODER: [(usize, usize, usize); 11] = [
    (16, 256, 512),
    (16, 1024, 2048),
    (32, 512, 512),
    (64, 512, 512),
    (128, 512, 256),
    (128, 256, 256),
    (256, 256, 128),
    (256, 128, 128),
    (32, 64, 64),
    (128, 64, 64),
    (256, 64, 64),
];

/// By Winograd with bias, residual and ReLU; of an image half as large, enlarged or by phases; directly.
pub fn decoder(c: &mut Criterion) {
    let epilogue = Epilogue::Activate { residual: true, activation: Activation::Relu };
    for (side, i, o) in DECODER {
        let name = format!("{side}x{side}x{i}x{o}");
        let (x, half, y) = ([1, side, side, i], [1, side / 2, side / 2, i], [1, side, side, o]);
        let direct = |upsample| Product::conv2d(Window { pad: [1; 4], upsample, ..Window::square(3) });
        let winograd = |upsample, epilogue| Product { algorithm: Algorithm::Winograd, epilogue, ..direct(upsample) };
        bench(c, "winograd", &name, winograd(1, Epilogue::NONE), &[value(&x), panels(o, 9, i), weight(&[o])], &[&y]);
        let given = [value(&x), panels(o, 9, i), weight(&[o]), value(&y)];
        bench(c, "winograd_add_relu", &name, winograd(1, epilogue), &given, &[&y]);
        bench(c, "winograd_upsample", &name, winograd(2, Epilogue::NONE), &[value(&half), panels(o, 9, i), weight(&[o])], &[&y]);
        let phases = Product { algorithm: Algorithm::WinogradPhases, ..direct(2) };
        bench(c, "winograd_phases", &name, phases, &[value(&half), panels(o, 9, i), weight(&[o])], &[&y]);
        bench(c, "decoder_direct", &name, direct(1), &[value(&x), panels(o, 9, i), weight(&[o])], &[&y]);
    }
}

pub fn depthwise(c: &mut Criterion) {
    for (side, channels) in DEPTHWISE {
        let (x, name) = ([1, side, side, channels], format!("{side}x{side}x{channels}"));
        let given = [value(&x), weight(&[7, 7, channels]), weight(&[channels])];
        bench(c, "depthwise7x7", &name, DwConv2d { pad: 3 }, &given, &[&x]);
        let vector = [1, channels];
        let given = [value(&x), weight(&[7, 7, channels]), weight(&[channels]), value(&vector), value(&vector)];
        bench(c, "depthwise7x7_norm_modulate", &name, DwConvNormModulate { pad: 3, eps: 1e-6 }, &given, &[&x]);
    }
}
