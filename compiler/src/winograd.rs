//! Which convolutions run by Winograd's F(4x4, 3x3): those of 3x3 and stride 1 for which a model of the cost says so.
//!
//! Per tile of 4x4 outputs it takes 36 multiplications in place of 144, but its weights are 4 times as many, and where
//! tiles are few, bringing them from memory is what takes the time. The model counts, for two cores of the machine
//! that this is tuned on (`55e9` multiply-accumulates a second each, DRAM at 32 GB/s, outer cache at 99 GB/s), what
//! arithmetic, weights and the transformed values take. The choice is made once for all CPUs.
//!
//! A weight has one form in an artifact: Winograd has to win in every function that uses it. The model looks at one
//! sample, whatever the batch: more of them only help it, and so the bits of a picture do not depend on the batch sizes that
//! an artifact was compiled for.

use std::collections::BTreeSet;

use fcdm_ir::{Def, Function, Inst, Op};
use fcdm_runtime::plan::{PANEL, POINTS};

/// Multiply-accumulates a second.
const MACS: f64 = 110e9;

/// Bytes a second from memory.
const DRAM: f64 = 32e9;

/// Bytes a second from the outer cache.
const CACHE: f64 = 99e9;

/// How many times as fast Winograd has to be: a CPU with more cores to a memory channel gains less, and the file grows.
const ADVANTAGE: f64 = 1.25;

/// Least channels on either side. Below, the transforms take the time: 4 -> 128, 128 -> 8, 4 -> 512 and 512 -> 8 channels
/// at 32x32 were measured 1.0 to 1.6 times as fast as directly, too little for a form of their own.
const LEAST_CHANNELS: usize = 32;

/// Which convolutions to compute by Winograd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Winograd {
    /// None.
    Never,
    /// Those that are faster.
    #[default]
    WhereFaster,
    /// All that can be.
    Always,
}

/// The names of the weights whose convolutions run by Winograd in all of the functions. None of them has another use.
pub fn choose<'a>(functions: impl Iterator<Item = &'a Function>, which: Winograd) -> BTreeSet<String> {
    let (mut chosen, mut others) = (BTreeSet::new(), BTreeSet::new());
    for f in functions {
        let name = |v| Some(f.value(v)).filter(|d| d.def == Def::Weight).map(|d| d.name.clone());
        for inst in f.insts() {
            for (i, &v) in inst.operands.iter().enumerate() {
                let suited = i == 1 && suits(f, inst, which);
                if suited { &mut chosen } else { &mut others }.extend(name(v));
            }
        }
        others.extend(f.results().iter().filter_map(|&(_, v)| name(v)));
    }
    &chosen - &others
}

/// True for a convolution that can run by Winograd and is meant to.
fn suits(f: &Function, inst: &Inst, which: Winograd) -> bool {
    let (stride, pad, upsample) = match &inst.op {
        Op::Conv2d(o) => (o.stride, &o.pad, 1),
        Op::ConvPixelShuffle(o) => (o.stride, &o.pad, 1),
        Op::ConvPixelUnshuffle(o) => (o.stride, &o.pad, 1),
        Op::ConvRelu(o) => (o.stride, &o.pad, 1),
        Op::ConvAdd(o) => (o.stride, &o.pad, 1),
        Op::ConvAddRelu(o) => (o.stride, &o.pad, 1),
        Op::UpsampleConv(o) => (o.stride, &o.pad, o.factor),
        _ => return false,
    };
    let (x, w) = (&f.ty(inst.operands[0]).shape, &f.ty(inst.operands[1]).shape);
    let possible = stride == 1 && w[1..3] == [3, 3];
    // Not the result's extents, which may be those of a shuffled image.
    let (height, width) = (x[1] * upsample, x[2] * upsample);
    let faster =
        || Convolution { h: height + pad[0] + pad[2] - 2, w: width + pad[1] + pad[3] - 2, i: w[3], o: w[0] }.is_faster_by_winograd();
    possible && (which == Winograd::Always || which == Winograd::WhereFaster && faster())
}

/// The sizes of a convolution of 3x3 and stride 1: height and width of the result, channels in and out.
#[derive(Clone, Copy, Debug)]
struct Convolution {
    h: usize,
    w: usize,
    i: usize,
    o: usize,
}

impl Convolution {
    fn is_faster_by_winograd(self) -> bool {
        self.i.min(self.o) >= LEAST_CHANNELS && self.winograd_seconds() * ADVANTAGE < self.direct_seconds()
    }

    /// Input times output channels: weights of one tap or point.
    fn pairs(self) -> f64 {
        self.i as f64 * self.o as f64
    }

    /// Arithmetic, or the weights where these take longer: they are read ahead of it.
    fn direct_seconds(self) -> f64 {
        let pixels = self.h as f64 * self.w as f64;
        let taps = 9.0 * self.pairs();
        (pixels * taps / MACS).max(4.0 * taps / DRAM)
    }

    /// As directly, and what passes through memory: the transformed pixels are written once and read for every panel, the
    /// products are written and read once. The kernel reads weights again for every 64 tiles or more; by then their
    /// arithmetic takes longer than that.
    fn winograd_seconds(self) -> f64 {
        let tiles = self.h.div_ceil(4) as f64 * self.w.div_ceil(4) as f64;
        let weights = POINTS as f64 * self.pairs();
        let bytes = |channels: usize| 4.0 * POINTS as f64 * tiles * channels as f64;
        let pixels = bytes(self.i) / DRAM + bytes(self.i) * self.o.div_ceil(PANEL) as f64 / CACHE;
        (tiles * weights / MACS).max(4.0 * weights / DRAM) + pixels + 2.0 * bytes(self.o) / CACHE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fcdm_ir::ops::{Conv2d, ConvAdd, ConvAddRelu, ConvRelu, Tanh, UpsampleConv};
    use fcdm_ir::{Builder, Type};

    /// The convolutions of FCDM at 32x32 with width `d`: x_embedder, down1_2, down2_3, up3_2, up2_1, output_layer, final.
    fn convolutions(d: usize) -> [bool; 7] {
        let sizes = [(32, 4, d), (32, d, d / 2), (16, 2 * d, d), (8, 4 * d, 8 * d), (16, 2 * d, 4 * d), (32, d, d), (32, d, 8)];
        sizes.map(|(s, i, o)| Convolution { h: s, w: s, i, o }.is_faster_by_winograd())
    }

    #[test]
    fn wide_images_and_few_weights_win() {
        for d in [128, 256, 512] {
            assert_eq!(convolutions(d), [false, true, true, false, true, true, false], "width {d}");
        }
        // Sixteen tiles are enough arithmetic for the weights' way from memory.
        assert!(Convolution { h: 16, w: 16, i: 2048, o: 4096 }.is_faster_by_winograd());
    }

    #[test]
    fn weights_without_tiles_lose() {
        assert!(!Convolution { h: 4, w: 4, i: 512, o: 512 }.is_faster_by_winograd());
        assert!(!Convolution { h: 1, w: 1, i: 512, o: 512 }.is_faster_by_winograd());
        assert!(Convolution { h: 512, w: 512, i: 128, o: 128 }.is_faster_by_winograd());
    }

    /// Of SD's decoder and of TAESD's at 256 px: all but those to and from a few channels.
    #[test]
    fn decoders_win() {
        let wide = [(32, 512, 512), (64, 512, 512), (128, 512, 256), (128, 256, 256), (256, 256, 128), (256, 128, 128)];
        let narrow = [16, 32, 64, 128, 256].map(|side| (side, 64, 64));
        for (side, i, o) in wide.into_iter().chain(narrow) {
            assert!(Convolution { h: side, w: side, i, o }.is_faster_by_winograd(), "{side} {i} {o}");
        }
        for (side, i, o) in [(32, 4, 512), (256, 128, 3), (256, 64, 3)] {
            assert!(!Convolution { h: side, w: side, i, o }.is_faster_by_winograd(), "{side} {i} {o}");
        }
    }

    /// The size that counts is that of the result, be it of an image that was never enlarged.
    #[test]
    fn fused_convolutions_are_convolutions() {
        let of = |side: usize, op: Op, residual: bool| {
            let mut b = Builder::new("f");
            let x = b.input("x", Type::f32([1, side, side, 128]));
            let r = b.input("r", Type::f32([1, 8, 8, 128]));
            let w = b.weight("w", Type::f32([128, 3, 3, 128]));
            let y = b.one(op, &[&[x, w][..], &[r][..usize::from(residual)]].concat());
            let f = b.finish(vec![("y".into(), y)]);
            (!choose(std::iter::once(&f), Winograd::Always).is_empty(), !choose(std::iter::once(&f), Winograd::WhereFaster).is_empty())
        };
        let pad = vec![1; 4];
        assert_eq!(
            of(8, ConvRelu { stride: 1, pad: pad.clone() }.into(), false),
            of(8, Conv2d { stride: 1, pad: pad.clone() }.into(), false)
        );
        assert!(of(8, ConvAdd { stride: 1, pad: pad.clone() }.into(), true).0);
        assert!(of(8, ConvAddRelu { stride: 1, pad: pad.clone() }.into(), true).0);
        assert!(!of(16, ConvAdd { stride: 2, pad: pad.clone() }.into(), true).0);
        let upsampled = |factor| of(4, UpsampleConv { factor, stride: 1, pad: pad.clone() }.into(), false);
        assert_eq!([upsampled(1), upsampled(8)], [(true, false), (true, true)]);
    }

    /// A function of one convolution whose weight `w` may be used otherwise too.
    fn function(batch: usize, size: usize, stride: usize, also: bool) -> Function {
        let mut b = Builder::new("f");
        let x = b.input("x", Type::f32([batch, size, size, 128]));
        let w = b.weight("w", Type::f32([128, 3, 3, 128]));
        let y = b.one(Conv2d { stride, pad: vec![1; 4] }, &[x, w]);
        let z = if also { b.one(Tanh {}, &[w]) } else { y };
        b.finish(vec![("y".into(), y), ("z".into(), z)])
    }

    #[test]
    fn one_form_for_all_functions() {
        let chosen = |functions: &[Function], which| !choose(functions.iter(), which).is_empty();
        let (large, small) = (function(1, 32, 1, false), function(1, 4, 1, false));
        assert!(chosen(std::slice::from_ref(&large), Winograd::WhereFaster));
        assert!(!chosen(std::slice::from_ref(&large), Winograd::Never));
        assert!(!chosen(&[large.clone(), small.clone()], Winograd::WhereFaster), "one size loses by it");
        assert!(!chosen(&[function(64, 4, 1, false)], Winograd::WhereFaster), "the batch does not matter");
        assert!(chosen(&[large.clone(), small], Winograd::Always));
        for other in [function(1, 32, 2, false), function(1, 32, 1, true)] {
            assert!(!chosen(&[large.clone(), other], Winograd::Always), "another use");
        }
    }
}
