//! One or more small instances of every op.
#![allow(dead_code)]

use fcdm_ir::eval::Tensor;
use fcdm_ir::ops::*;
use fcdm_ir::{DType, Op, Type};

/// Which values an operand takes.
#[derive(Clone)]
pub enum Values {
    /// Of both signs, at least 0.1 from zero: away from the kinks of `relu` and its like.
    Signed,
    /// Between 0.5 and 1.5.
    Positive,
    /// Integers below.
    Labels(usize),
}

/// An op and the types of its operands.
pub struct Case {
    pub op: Op,
    pub operands: Vec<Type>,
    pub values: Vec<Values>,
    /// Operands that have no gradient.
    pub without_gradient: Vec<usize>,
    /// What its gradient is held against.
    pub gradient: Gradient,
}

/// What a gradient is held against.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Gradient {
    /// Differences of values.
    Differences,
    /// The cotangent itself: by definition it is that of `y = x`.
    StraightThrough,
    /// Something else, in a test of its own: values are rounded, by definition, too coarsely for differences.
    Apart,
}

/// Seeded values (SplitMix64).
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Noise {
        Noise(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    pub fn tensor(&mut self, ty: &Type, values: &Values) -> Tensor {
        Tensor::from_shape_simple_fn(ty.shape.clone(), || match values {
            Values::Signed => (0.1 + self.unit()) * if self.bits() & 1 == 0 { 1.0 } else { -1.0 },
            Values::Positive => 0.5 + self.unit(),
            Values::Labels(n) => self.below(*n) as f64,
        })
    }
}

pub fn case(op: impl Into<Op>, shapes: &[&[usize]]) -> Case {
    let operands = shapes.iter().map(|&s| Type::f32(s)).collect();
    Case { op: op.into(), operands, values: vec![Values::Signed; shapes.len()], without_gradient: vec![], gradient: Gradient::Differences }
}

fn straight_through(op: impl Into<Op>, shapes: &[&[usize]]) -> Case {
    Case { gradient: Gradient::StraightThrough, ..case(op, shapes) }
}

fn positive(op: impl Into<Op>, shapes: &[&[usize]]) -> Case {
    Case { values: vec![Values::Positive; shapes.len()], ..case(op, shapes) }
}

fn flat(op: impl Into<Op>, without: &[usize]) -> Case {
    Case { without_gradient: without.to_vec(), ..case(op, &[&[5]]) }
}

fn conv(stride: usize, pad: [usize; 4]) -> FusedConv2d {
    FusedConv2d::new(stride, pad.to_vec())
}

pub fn cases() -> Vec<Case> {
    let p = |a: [usize; 4]| a.to_vec();
    let labels = Type::new(DType::I32, [4]);
    let mut all = vec![
        case(Fill { value: 1.5, dtype: DType::F32, shape: vec![2, 3] }, &[]),
        case(Neg {}, &[&[2, 3]]),
        case(Scale { by: -1.7 }, &[&[2, 3]]),
        case(Offset { by: 0.3 }, &[&[2, 3]]),
        case(Exp {}, &[&[2, 3]]),
        positive(Log {}, &[&[2, 3]]),
        positive(Sqrt {}, &[&[2, 3]]),
        case(Erf {}, &[&[2, 3]]),
        case(Sigmoid {}, &[&[2, 3]]),
        case(Silu {}, &[&[2, 3]]),
        case(Gelu {}, &[&[2, 3]]),
        case(Tanh {}, &[&[2, 3]]),
        case(Cos {}, &[&[2, 3]]),
        case(Sin {}, &[&[2, 3]]),
        case(Relu {}, &[&[2, 3]]),
        case(LeakyRelu { slope: 0.2 }, &[&[2, 3]]),
        case(Clamp { min: -0.42, max: 0.57 }, &[&[4, 5]]),
        flat(Step {}, &[0]),
        case(Add {}, &[&[2, 3], &[2, 3]]),
        case(Sub {}, &[&[2, 3], &[2, 3]]),
        case(Mul {}, &[&[2, 3], &[2, 3]]),
        case(Div {}, &[&[2, 3], &[2, 3]]),
        case(DivNoNan {}, &[&[2, 3], &[2, 3]]),
        case(Sum { axes: vec![0, 2] }, &[&[2, 3, 2]]),
        case(Sum { axes: vec![] }, &[&[2, 3]]),
        case(SumSquares {}, &[&[2, 2, 3, 2]]),
        case(Softmax {}, &[&[2, 4]]),
        case(LayerNorm { eps: 1e-3 }, &[&[2, 2, 4]]),
        case(LayerNorm { eps: 1e-3 }, &[&[4]]),
        case(GroupNorm { groups: 2, eps: 1e-3 }, &[&[2, 2, 2, 4], &[4], &[4]]),
        case(Grn { eps: 1e-2 }, &[&[2, 2, 3, 3], &[3], &[3]]),
        straight_through(QuantiseRows { bits: 8 }, &[&[2, 2, 5]]),
        straight_through(QuantiseRows { bits: 7 }, &[&[5]]),
        case(Modulate {}, &[&[2, 2, 2, 3], &[2, 3], &[2, 3]]),
        case(Modulate {}, &[&[2, 3], &[2, 3], &[2, 3]]),
        case(GatedAdd {}, &[&[2, 2, 2, 3], &[2, 2, 2, 3], &[2, 3]]),
        case(ScaleChannels {}, &[&[2, 3, 2], &[2, 2]]),
        case(Linear {}, &[&[2, 2, 3], &[4, 3], &[4]]),
        case(Linear {}, &[&[3], &[2, 3]]),
        case(LinearWeightGrad {}, &[&[2, 2, 3], &[2, 2, 4]]),
        case(LinearWeightGrad {}, &[&[3], &[2]]),
        case(Matmul {}, &[&[2, 3], &[3, 4]]),
        case(Matmul {}, &[&[2, 2, 2, 3], &[2, 2, 3, 2]]),
        case(Conv2d { stride: 1, pad: p([1, 1, 1, 1]) }, &[&[2, 3, 4, 2], &[3, 3, 3, 2], &[3]]),
        case(Conv2d { stride: 2, pad: p([0, 2, 1, 3]) }, &[&[1, 5, 4, 2], &[2, 2, 3, 2]]),
        case(ConvTranspose2d { stride: 2, pad: p([1, 1, 1, 1]), output: vec![6, 5] }, &[&[2, 3, 3, 2], &[2, 3, 3, 3], &[3]]),
        case(ConvTranspose2d { stride: 1, pad: p([0, 1, 0, 0]), output: vec![3, 3] }, &[&[1, 2, 3, 2], &[2, 2, 2, 1]]),
        case(Conv2dWeightGrad { stride: 2, pad: p([1, 0, 1, 1]), kernel: vec![3, 2] }, &[&[2, 4, 5, 2], &[2, 2, 3, 3]]),
        case(DwConv2d { pad: 1 }, &[&[2, 3, 4, 2], &[3, 3, 2], &[2]]),
        case(DwConv2d { pad: 0 }, &[&[1, 3, 4, 2], &[2, 2, 2]]),
        case(DwConv2dWeightGrad { pad: 1, kernel: vec![3, 3] }, &[&[2, 3, 4, 2], &[2, 3, 4, 2]]),
        case(DwConv2dWeightGrad { pad: 1, kernel: vec![2, 2] }, &[&[1, 3, 3, 2], &[1, 4, 4, 2]]),
        case(UpsampleNearest { factor: 2 }, &[&[1, 2, 3, 2]]),
        case(AvgPool2d { size: 2 }, &[&[1, 2, 4, 2]]),
        case(PixelShuffle { factor: 2 }, &[&[1, 2, 3, 8]]),
        case(PixelUnshuffle { factor: 2 }, &[&[1, 4, 2, 2]]),
        case(Reshape { shape: vec![3, 4] }, &[&[2, 6]]),
        case(Transpose { perm: vec![2, 0, 1] }, &[&[2, 3, 4]]),
        case(Broadcast { shape: vec![2, 3, 2] }, &[&[2, 1, 1]]),
        case(Concat { axis: 1 }, &[&[2, 3], &[2, 2]]),
        case(Split { axis: 1, parts: 3 }, &[&[2, 6]]),
        case(Slice { axis: 1, start: 1, len: 3 }, &[&[2, 5]]),
        case(Slice { axis: 0, start: 0, len: 2 }, &[&[2, 2]]),
        case(Flip { axes: vec![0, 2] }, &[&[2, 3, 2]]),
        case(Barrier { id: 1 }, &[&[2, 3]]),
        flat(StopGradient {}, &[0]),
        Case { gradient: Gradient::Apart, ..case(TimestepEmbedding { dim: 4 }, &[&[5]]) },
        case(TimestepFrequencies { dim: 4 }, &[]),
        case(GrnScale { eps: 1e-2 }, &[&[2, 3], &[3]]),
        case(DwConvNormModulate { pad: 1, eps: 1e-3 }, &[&[2, 3, 2, 3], &[3, 3, 3], &[3], &[2, 3], &[2, 3]]),
        case(LinearGeluSumsq {}, &[&[2, 2, 2, 3], &[4, 3], &[4]]),
        case(ScaleLinearGatedAdd { quantise: false }, &[&[2, 2, 2, 3], &[2, 3], &[2, 3], &[2], &[2, 2], &[2, 2, 2, 2]]),
        case(NormModulate { eps: 1e-3 }, &[&[2, 2, 2, 3], &[2, 3], &[2, 3]]),
        case(NormModulateGrad { eps: 1e-2 }, &[&[2, 2, 3], &[2, 3], &[2, 2, 3]]),
        case(GeluGrn { eps: 1e-2 }, &[&[2, 2, 2, 3], &[3], &[3]]),
        case(GeluGrnGrad { eps: 1e-2 }, &[&[2, 1, 2, 3], &[3], &[2, 1, 2, 3]]),
        case(GatedAddGrad {}, &[&[2, 2, 3], &[2, 3], &[2, 2, 3]]),
        case(ConcatLinear {}, &[&[2, 2, 3], &[2, 2, 1], &[3, 4], &[3]]),
        case(ConcatLinear {}, &[&[2], &[3], &[2, 5]]),
        case(FusedConv2d { rearrange: Rearrange::Shuffle { factor: 2 }, ..conv(1, [1; 4]) }, &[&[2, 2, 3, 2], &[8, 3, 3, 2], &[8]]),
        case(FusedConv2d { rearrange: Rearrange::Shuffle { factor: 2 }, ..conv(2, [0, 1, 0, 0]) }, &[&[1, 3, 4, 2], &[4, 2, 2, 2]]),
        case(FusedConv2d { rearrange: Rearrange::Unshuffle { factor: 2 }, ..conv(1, [1; 4]) }, &[&[2, 2, 4, 2], &[3, 3, 3, 2], &[3]]),
        case(FusedConv2d { rearrange: Rearrange::Unshuffle { factor: 2 }, ..conv(2, [1; 4]) }, &[&[1, 3, 4, 2], &[2, 3, 3, 2]]),
        case(FusedConv2d { activation: Activation::Relu, ..conv(1, [1; 4]) }, &[&[2, 2, 3, 2], &[3, 3, 3, 2], &[3]]),
        case(FusedConv2d { residual: true, ..conv(2, [1, 0, 1, 1]) }, &[&[1, 3, 4, 2], &[2, 2, 3, 2], &[1, 2, 2, 2]]),
        case(
            FusedConv2d { residual: true, activation: Activation::Relu, ..conv(1, [1; 4]) },
            &[&[2, 2, 3, 2], &[3, 3, 3, 2], &[2, 2, 3, 3], &[3]],
        ),
        case(FusedConv2d { upsample: 2, ..conv(1, [1; 4]) }, &[&[2, 2, 3, 2], &[3, 3, 3, 2], &[3]]),
        case(
            FusedConv2d { upsample: 2, residual: true, activation: Activation::Silu, ..conv(2, [1; 4]) },
            &[&[1, 2, 3, 2], &[3, 3, 3, 2], &[1, 2, 3, 3], &[3]],
        ),
        case(
            FusedConv2d { upsample: 2, activation: Activation::Silu, rearrange: Rearrange::Shuffle { factor: 2 }, ..conv(1, [0; 4]) },
            &[&[1, 1, 2, 2], &[4, 1, 1, 2]],
        ),
        case(conv(1, [0; 4]), &[&[1, 1, 2, 2], &[4, 1, 1, 2]]),
        case(FusedLinear { residual: true, activation: Activation::None }, &[&[2, 2, 3], &[4, 3], &[2, 2, 4], &[4]]),
        case(FusedLinear { residual: true, activation: Activation::Silu }, &[&[2, 2, 3], &[4, 3], &[2, 2, 4]]),
        case(FusedLinear { residual: false, activation: Activation::Relu }, &[&[2, 2, 3], &[4, 3], &[4]]),
        case(FusedGroupNorm { groups: 2, eps: 1e-3, activation: Activation::Relu }, &[&[2, 2, 2, 4], &[4], &[4]]),
        case(FusedGroupNorm { groups: 2, eps: 1e-3, activation: Activation::Silu }, &[&[2, 2, 2, 4], &[4], &[4]]),
        positive(Adamw { beta1: 0.9, beta2: 0.99, eps: 1e-3 }, &[&[2, 3], &[2, 3], &[2, 3], &[2, 3], &[4]]),
        positive(Adamw { beta1: 0.9, beta2: 0.99, eps: 1e-3 }, &[&[3], &[3], &[3], &[3], &[8], &[3], &[3]]),
        case(Attention { scale: 0.7 }, &[&[2, 3, 4], &[2, 2, 4], &[2, 2, 3]]),
        Case {
            op: Embedding {}.into(),
            operands: vec![Type::f32([3, 2]), labels.clone()],
            values: vec![Values::Signed, Values::Labels(3)],
            without_gradient: vec![1],
            gradient: Gradient::Differences,
        },
        Case {
            op: OneHot { depth: 3 }.into(),
            operands: vec![labels],
            values: vec![Values::Labels(3)],
            without_gradient: vec![0],
            gradient: Gradient::Differences,
        },
    ];
    for case in &mut all {
        if matches!(case.op, Op::GrnScale(_)) {
            case.values[0] = Values::Positive;
        }
    }
    all
}
