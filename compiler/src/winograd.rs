//! Which convolutions run by Winograd: those of 3x3 and stride 1 for which a model of the cost says so.
//!
//! By F(4x4, 3x3) a tile of 4x4 outputs takes 36 multiplications in place of 144. Of an image enlarged to twice its size, four
//! phases by F(5x5, 2x2) take 144 for 10x10 outputs, in place of 900 ([`Algorithm::WinogradPhases`]). Where tiles are few,
//! transforming the weights takes as long as that saves. The model counts, by the rates of the [`Target`], what arithmetic,
//! weights and the transformed values take.
//!
//! The model looks at one sample, whatever the batch: more of them only help, and so the bits of a picture do not depend on
//! the batch sizes that an artifact was compiled for.

use fcdm_ir::ops::FusedConv2d;
use fcdm_ir::{Function, Inst};
use fcdm_runtime::kernels::Algorithm;
use fcdm_runtime::plan::PANEL;

use crate::target::Target;

/// Products of a tile, one at each point, for every pair of channels.
const POINTS: f64 = 36.0;

/// Transforming a kernel takes as long as so many multiply-accumulates: 100 ns for 16 of them.
const TRANSFORM: f64 = 350.0;

/// How many times as fast Winograd has to be: a CPU with more cores to a memory channel gains less.
const ADVANTAGE: f64 = 1.25;

/// Least channels on either side. Below, the transforms take the time: 4 -> 128, 128 -> 8, 4 -> 512 and 512 -> 8 channels
/// at 32x32 were measured 1.0 to 1.6 times as fast as directly.
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

impl Winograd {
    /// How a convolution of `f` that can run by Winograd does, if it is meant to.
    pub fn algorithm(self, f: &Function, inst: &Inst, target: &Target) -> Algorithm {
        self.choice(f, inst, target, target.macs_per_second)
    }

    /// True if so does one that would be computed by products of codes else, in whole numbers.
    pub fn beats_codes(self, f: &Function, inst: &Inst, target: &Target) -> bool {
        self.choice(f, inst, target, target.code_macs_per_second).is_winograd()
    }

    fn choice(self, f: &Function, inst: &Inst, target: &Target, directly: f64) -> Algorithm {
        let Some(FusedConv2d { stride, pad, upsample, .. }) = FusedConv2d::from_op(&inst.op) else { return Algorithm::Direct };
        let (x, w) = (&f.ty(inst.operands[0]).shape, &f.ty(inst.operands[1]).shape);
        if stride != 1 || w[1..3] != [3, 3] {
            return Algorithm::Direct;
        }
        // Not the result's extents, which may be those of a shuffled image.
        let (h, w_) = (x[1] * upsample + pad[0] + pad[2] - 2, x[2] * upsample + pad[1] + pad[3] - 2);
        let convolution = Convolution { h, w: w_, i: w[3], o: w[0], upsample };
        match self {
            Winograd::Never => Algorithm::Direct,
            Winograd::WhereFaster => convolution.fastest(target, directly),
            Winograd::Always => convolution.by_winograd(target).0,
        }
    }
}

/// The sizes of a convolution of 3x3 and stride 1: height and width of the result, channels in and out, and how many times its image
/// is enlarged first.
#[derive(Clone, Copy, Debug)]
struct Convolution {
    h: usize,
    w: usize,
    i: usize,
    o: usize,
    upsample: usize,
}

/// One of Winograd's ways: the outputs of a tile's edge, its products for every pair of channels, and what transforming a kernel costs, in
/// multiply-accumulates.
#[derive(Clone, Copy, Debug)]
struct Way {
    edge: usize,
    phases: f64,
    transform: f64,
}

const WHOLE: Way = Way { edge: 4, phases: 1.0, transform: TRANSFORM };
const PHASES: Way = Way { edge: 10, phases: 4.0, transform: 4.0 * TRANSFORM };

impl Convolution {
    /// Directly runs at so many multiply-accumulates a second.
    fn fastest(self, t: &Target, directly: f64) -> Algorithm {
        let (algorithm, seconds) = self.by_winograd(t);
        let wins = self.i.min(self.o) >= LEAST_CHANNELS && seconds * ADVANTAGE < self.direct_seconds(t, directly);
        if wins { algorithm } else { Algorithm::Direct }
    }

    /// The faster one of Winograd's ways.
    fn by_winograd(self, t: &Target) -> (Algorithm, f64) {
        let whole = self.winograd_seconds(t, WHOLE);
        let phases = if self.upsample == 2 { self.winograd_seconds(t, PHASES) } else { f64::INFINITY };
        if phases < whole { (Algorithm::WinogradPhases, phases) } else { (Algorithm::Winograd, whole) }
    }

    /// Input times output channels: weights of one tap or point.
    fn pairs(self) -> f64 {
        self.i as f64 * self.o as f64
    }

    /// Arithmetic, or the weights where these take longer: they are read ahead of it.
    fn direct_seconds(self, t: &Target, macs_per_second: f64) -> f64 {
        let pixels = self.h as f64 * self.w as f64;
        let taps = 9.0 * self.pairs();
        (pixels * taps / macs_per_second).max(4.0 * taps / t.memory_bytes_per_second)
    }

    /// As directly, the transform of the weights, and what passes through memory: the transformed pixels are written once and
    /// read for every panel, the products are written and read once.
    fn winograd_seconds(self, t: &Target, way: Way) -> f64 {
        let tiles = self.h.div_ceil(way.edge) as f64 * self.w.div_ceil(way.edge) as f64;
        let bytes = |channels: usize| 4.0 * POINTS * tiles * channels as f64;
        let passes = self.o.div_ceil(PANEL) as f64 * way.phases;
        let pixels = bytes(self.i) / t.memory_bytes_per_second + bytes(self.i) * passes / t.cache_bytes_per_second;
        let arithmetic = (tiles * POINTS * way.phases + way.transform) * self.pairs() / t.macs_per_second;
        let products = 2.0 * way.phases * bytes(self.o) / t.cache_bytes_per_second;
        arithmetic.max(4.0 * 9.0 * self.pairs() / t.memory_bytes_per_second) + pixels + products
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fcdm_ir::ops::{Activation, Conv2d};
    use fcdm_ir::{Builder, Op, Type};

    fn fastest(side: usize, i: usize, o: usize, upsample: usize) -> Algorithm {
        Convolution { h: side, w: side, i, o, upsample }.fastest(&Target::CPU, Target::CPU.macs_per_second)
    }

    fn wins(side: usize, i: usize, o: usize) -> bool {
        fastest(side, i, o, 1).is_winograd()
    }

    /// The convolutions of FCDM at 32x32 with width `d`: x_embedder, down1_2, down2_3, up3_2, up2_1, output_layer, final.
    fn convolutions(d: usize) -> [bool; 7] {
        let sizes = [(32, 4, d), (32, d, d / 2), (16, 2 * d, d), (8, 4 * d, 8 * d), (16, 2 * d, 4 * d), (32, d, d), (32, d, 8)];
        sizes.map(|(s, i, o)| wins(s, i, o))
    }

    #[test]
    fn wide_images_and_few_weights_win() {
        for d in [128, 256, 512] {
            assert_eq!(convolutions(d), [false, true, true, false, true, true, false], "width {d}");
        }
        // Sixteen tiles are enough arithmetic for the weights' way from memory.
        assert!(wins(16, 2048, 4096));
    }

    #[test]
    fn weights_without_tiles_lose() {
        assert!(!wins(4, 512, 512));
        assert!(!wins(1, 512, 512));
        assert!(wins(512, 128, 128));
    }

    /// Of SD's decoder and of TAESD's at 256 px: all but those to and from a few channels.
    #[test]
    fn decoders_win() {
        let wide = [(32, 512, 512), (64, 512, 512), (128, 512, 256), (128, 256, 256), (256, 256, 128), (256, 128, 128)];
        let narrow = [16, 32, 64, 128, 256].map(|side| (side, 64, 64));
        for (side, i, o) in wide.into_iter().chain(narrow) {
            assert!(wins(side, i, o), "{side} {i} {o}");
        }
        for (side, i, o) in [(32, 4, 512), (256, 128, 3), (256, 64, 3)] {
            assert!(!wins(side, i, o), "{side} {i} {o}");
        }
    }

    /// SD's and TAESD's images that are enlarged to twice their size first. Where tiles are few, four kernels in place of one cost more than
    /// they save.
    #[test]
    fn enlarged_images_have_phases() {
        for (side, channels) in [(64, 512), (128, 512), (256, 256), (64, 64), (128, 64), (256, 64)] {
            assert_eq!(fastest(side, channels, channels, 2), Algorithm::WinogradPhases, "{side} {channels}");
            for upsample in [1, 4] {
                assert_eq!(fastest(side, channels, channels, upsample), Algorithm::Winograd, "{side} {channels}");
            }
        }
        assert_eq!(fastest(16, 64, 64, 2), Algorithm::Winograd);
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
            let suits = |which: Winograd| f.insts().iter().any(|inst| which.algorithm(&f, inst, &Target::CPU).is_winograd());
            (suits(Winograd::Always), suits(Winograd::WhereFaster))
        };
        let pad = vec![1; 4];
        let conv = |stride: usize| FusedConv2d::new(stride, pad.clone());
        let relu = FusedConv2d { activation: Activation::Relu, ..conv(1) };
        assert_eq!(of(8, relu.clone().into(), false), of(8, Conv2d { stride: 1, pad: pad.clone() }.into(), false));
        assert!(of(8, FusedConv2d { residual: true, ..conv(1) }.into(), true).0);
        assert!(of(8, FusedConv2d { residual: true, ..relu }.into(), true).0);
        assert!(!of(16, FusedConv2d { residual: true, ..conv(2) }.into(), true).0);
        let upsampled = |upsample| of(4, FusedConv2d { upsample, ..conv(1) }.into(), false);
        assert_eq!([upsampled(1), upsampled(8)], [(true, false), (true, true)]);
    }

    #[test]
    fn the_batch_does_not_matter() {
        let suits = |batch: usize, side: usize, which: Winograd| {
            let mut b = Builder::new("f");
            let x = b.input("x", Type::f32([batch, side, side, 128]));
            let w = b.weight("w", Type::f32([128, 3, 3, 128]));
            let y = b.one(Conv2d { stride: 1, pad: vec![1; 4] }, &[x, w]);
            let f = b.finish(vec![("y".into(), y)]);
            f.insts().iter().any(|inst| which.algorithm(&f, inst, &Target::CPU).is_winograd())
        };
        assert!(suits(1, 32, Winograd::WhereFaster) && !suits(1, 32, Winograd::Never));
        assert!(!suits(64, 4, Winograd::WhereFaster) && suits(1, 4, Winograd::Always));
    }
}
