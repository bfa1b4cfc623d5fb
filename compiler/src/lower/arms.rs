//! One arm for every op: the kernel that computes it.

use fcdm_ir::ops::{self, FusedConv2d, FusedLinear, ProductOperands};
use fcdm_ir::{Inst, Op, Value};
use fcdm_runtime::encoding::{Encoding, Matrix};
use fcdm_runtime::kernels::{
    Activation, Adamw, Algorithm, Attention, Binary, Conv2dWeightGrad, ConvTranspose2d, DwConv2d, DwConv2dWeightGrad, DwConvNormModulate,
    Embedding, Epilogue, Fill, GatedAdd, GatedAddGrad, GeluGrn, GeluGrnGrad, Grn, GrnScale, GroupNorm, Kernel, LayerNorm, Left,
    LinearWeightGrad, Matmul, Modulate, NormModulate, NormModulateGrad, OneHot, Product, QuantiseRows, Rearrange, ScaleChannels, Softmax,
    Sum, SumSquares, TimestepEmbedding, TimestepFrequencies, Unary, Window,
};

use super::{LowerError, Lowering, View, shares_buffer};
use crate::weights::{Order, matrix};

/// What is multiplied in a product that a kernel makes codes for.
struct Multiplied {
    /// Images, of which a concatenation has two.
    images: Vec<Value>,
    /// Whether the op itself rounds them, to codes of 8 bits.
    quantise: bool,
    w: Value,
}

impl Multiplied {
    fn of(inst: &Inst) -> Option<Multiplied> {
        let x = &inst.operands;
        let of = |images: usize, quantise, w: usize| Some(Multiplied { images: x[..images].to_vec(), quantise, w: x[w] });
        match &inst.op {
            Op::Linear(_) | Op::FusedLinear(_) | Op::LinearGeluSumsq(_) | Op::Conv2d(_) | Op::FusedConv2d(_) => of(1, false, 1),
            Op::ScaleLinearGatedAdd(o) => of(1, o.quantise, 2),
            Op::ConcatLinear(_) => of(2, false, 2),
            _ => None,
        }
    }
}

/// Whether an instruction takes a value as the matrix of a product, in the order of its rows, and for nothing else.
pub(super) fn packs(inst: &Inst, v: Value) -> bool {
    let kept = FusedConv2d::from_op(&inst.op).is_none_or(|c| c.rearrange == ops::Rearrange::Keep);
    kept && Multiplied::of(inst).is_some_and(|m| m.w == v) && inst.operands.iter().filter(|&&x| x == v).count() == 1
}

/// Rows of codes of so many bits, of which the verifier allows 7 and 8.
fn code_rows(bits: usize) -> Left {
    if bits == 7 { Left::U7 } else { Left::U8 }
}

impl Lowering<'_> {
    pub(super) fn instruction(&mut self, inst: &Inst) -> Result<(), LowerError> {
        let (x, y) = (&inst.operands, inst.results[0]);
        if shares_buffer(&inst.op) {
            self.place[y.index()] = Some(self.buffer_of(x[0]));
            return Ok(());
        }
        if matches!(inst.op, Op::Transpose(_) | Op::Flip(_)) && self.is_only_packed(y) {
            return Ok(());
        }
        match &inst.op {
            Op::Fill(o) => self.kernel(inst, Fill { value: o.value as f32 }),

            Op::Neg(_) => self.unary(inst, Unary::Neg),
            Op::Scale(o) => self.unary(inst, Unary::Scale { by: o.by as f32 }),
            Op::Offset(o) => self.unary(inst, Unary::Offset { by: o.by as f32 }),
            Op::Exp(_) => self.unary(inst, Unary::Exp),
            Op::Log(_) => self.unary(inst, Unary::Log),
            Op::Sqrt(_) => self.unary(inst, Unary::Sqrt),
            Op::Erf(_) => self.unary(inst, Unary::Erf),
            Op::Sigmoid(_) => self.unary(inst, Unary::Sigmoid),
            Op::Silu(_) => self.unary(inst, Unary::Silu),
            Op::Gelu(_) => self.unary(inst, Unary::Gelu),
            Op::Tanh(_) => self.unary(inst, Unary::Tanh),
            Op::Cos(_) => self.unary(inst, Unary::Cos),
            Op::Sin(_) => self.unary(inst, Unary::Sin),
            Op::Relu(_) => self.unary(inst, Unary::Relu),
            Op::LeakyRelu(o) => self.unary(inst, Unary::LeakyRelu { slope: o.slope as f32 }),
            Op::Clamp(o) => self.unary(inst, Unary::Clamp { min: o.min as f32, max: o.max as f32 }),
            Op::Step(_) => self.unary(inst, Unary::Step),

            Op::Add(_) => self.kernel(inst, Binary::Add),
            Op::Sub(_) => self.kernel(inst, Binary::Sub),
            Op::Mul(_) => self.kernel(inst, Binary::Mul),
            Op::Div(_) => self.kernel(inst, Binary::Div),
            Op::DivNoNan(_) => self.kernel(inst, Binary::DivNoNan),

            Op::Sum(o) => self.kernel(inst, Sum { axes: o.axes.clone(), scale: 1.0 }),
            Op::SumSquares(_) => self.kernel(inst, SumSquares {}),
            Op::Softmax(_) => self.kernel(inst, Softmax {}),
            Op::LayerNorm(o) => self.kernel(inst, LayerNorm { eps: o.eps as f32 }),
            Op::GroupNorm(o) => self.group_norm(inst, o.groups, o.eps, Activation::None),
            Op::FusedGroupNorm(o) => self.group_norm(inst, o.groups, o.eps, activation(o.activation)),
            Op::Grn(o) => self.kernel(inst, Grn { eps: o.eps as f32 }),
            Op::GrnScale(o) => self.kernel(inst, GrnScale { eps: o.eps as f32 }),
            Op::Modulate(_) => self.kernel(inst, Modulate {}),
            Op::GatedAdd(_) => self.kernel(inst, GatedAdd {}),
            Op::ScaleChannels(_) => self.kernel(inst, ScaleChannels {}),
            Op::NormModulate(o) => self.kernel(inst, NormModulate { eps: o.eps as f32 }),
            Op::NormModulateGrad(o) => self.kernel(inst, NormModulateGrad { eps: o.eps as f32 }),
            Op::GeluGrn(o) => self.kernel(inst, GeluGrn { eps: o.eps as f32 }),
            Op::GeluGrnGrad(o) => self.kernel(inst, GeluGrnGrad { eps: o.eps as f32 }),
            Op::GatedAddGrad(_) => self.kernel(inst, GatedAddGrad {}),

            Op::Linear(_) => self.product(inst, Product::linear()),
            Op::LinearGeluSumsq(_) => self.product(inst, Product::linear_gelu_sumsq()),
            Op::ScaleLinearGatedAdd(_) => self.product(inst, Product::scale_linear_gated_add()),
            Op::QuantiseRows(o) => self.quantise_rows(inst, o.bits),
            Op::ConcatLinear(_) => self.product(inst, Product::concat_linear()),
            Op::FusedLinear(o) => self.linear(inst, o),
            Op::LinearWeightGrad(_) => self.kernel(inst, LinearWeightGrad {}),
            Op::Matmul(_) => self.batched(inst, Matmul {}),
            Op::Attention(o) => self.batched(inst, Attention { scale: o.scale as f32 }),
            Op::Conv2d(o) => self.conv(inst, &FusedConv2d::new(o.stride, o.pad.clone())),
            Op::FusedConv2d(o) => self.conv(inst, o),
            Op::ConvTranspose2d(o) => self.kernel(inst, ConvTranspose2d { stride: o.stride, pad: four(&o.pad) }),
            Op::Conv2dWeightGrad(o) => self.kernel(inst, Conv2dWeightGrad { stride: o.stride, pad: four(&o.pad) }),
            Op::DwConv2d(o) => self.depthwise(inst, DwConv2d { pad: o.pad }),
            Op::DwConv2dWeightGrad(o) => self.kernel(inst, DwConv2dWeightGrad { pad: o.pad }),
            Op::DwConvNormModulate(o) => self.depthwise(inst, DwConvNormModulate { pad: o.pad, eps: o.eps as f32 }),

            Op::AvgPool2d(o) => self.avg_pool(inst, o.size),
            Op::UpsampleNearest(o) => self.upsample(inst, o.factor),
            Op::PixelShuffle(o) => self.pixel_shuffle(inst, o.factor),
            Op::PixelUnshuffle(o) => self.pixel_unshuffle(inst, o.factor),
            Op::Reshape(_) | Op::Barrier(_) | Op::StopGradient(_) => unreachable!("shares its operand's buffer"),
            Op::Transpose(o) => self.transpose(inst, &o.perm)?,
            Op::Broadcast(_) => self.broadcast(inst)?,
            Op::Concat(o) => self.concat(inst, o.axis),
            Op::Split(o) => self.split(inst, o.axis),
            Op::Slice(o) => self.slice(inst, o.axis, o.start),
            Op::Flip(o) => self.flip(inst, &o.axes)?,

            Op::TimestepEmbedding(_) => self.kernel(inst, TimestepEmbedding {}),
            Op::TimestepFrequencies(_) => self.kernel(inst, TimestepFrequencies {}),
            Op::Embedding(_) => self.embedding(inst),
            Op::OneHot(_) => self.kernel(inst, OneHot {}),

            Op::Adamw(o) => self.adamw(inst, o),
        }
        Ok(())
    }

    /// A kernel that takes the op's operands as they are.
    fn kernel(&mut self, inst: &Inst, kernel: impl Into<Kernel>) {
        let inputs: Vec<View> = inst.operands.iter().map(|&v| self.view(v)).collect();
        self.call(inst, kernel, inputs);
    }

    fn unary(&mut self, inst: &Inst, f: Unary) {
        self.kernel(inst, f);
    }

    /// A linear layer. The kernel has the residual behind the bias.
    fn linear(&mut self, inst: &Inst, o: &FusedLinear) {
        let ProductOperands { x, w, residual, bias } = o.named(&inst.operands);
        let operands: Vec<Value> = [x, w].into_iter().chain(bias).chain(residual).collect();
        self.product_of(inst, &operands, Product { epilogue: epilogue(o.residual, o.activation), ..Product::linear() });
    }

    /// A product without window whose op has the kernel's order of operands.
    fn product(&mut self, inst: &Inst, product: Product) {
        self.product_of(inst, &inst.operands, product);
    }

    fn product_of(&mut self, inst: &Inst, operands: &[Value], product: Product) {
        let w = 1 + usize::from(product.concat) + usize::from(product.scaled);
        let left = self.left(inst);
        let view = |l: &mut Self, (i, &v): (usize, &Value)| match i {
            _ if i == w => l.factor(v, product.concat, left),
            0 => l.rows_of(v, left),
            1 if product.concat => l.rows_of(v, left),
            _ => l.view(v),
        };
        let inputs: Vec<View> = operands.iter().enumerate().map(|o| view(self, o)).collect();
        self.call(inst, Product { left, ..product }, inputs);
    }

    /// Taps may be stored as halves.
    fn depthwise(&mut self, inst: &Inst, kernel: impl Into<Kernel>) {
        let view = |l: &mut Self, (i, &v): (usize, &Value)| if i == 1 { l.halves(v) } else { l.view(v) };
        let inputs: Vec<View> = inst.operands.iter().enumerate().map(|o| view(self, o)).collect();
        self.call(inst, kernel, inputs);
    }

    fn embedding(&mut self, inst: &Inst) {
        let inputs = vec![self.matrix(inst.operands[0], Rearrange::Keep), self.view(inst.operands[1])];
        self.call(inst, Embedding {}, inputs);
    }

    /// The matrix of a product without window. Where two inputs are codes, which have ranges of their own, it is parted as they are.
    fn factor(&mut self, w: Value, concat: bool, left: Left) -> View {
        let m = matrix(&self.f.ty(w).shape);
        let parted = Matrix { taps: 2, channels: m.channels / 2, ..m };
        self.matrix_of(w, if concat && left.is_codes() { parted } else { m }, Rearrange::Keep)
    }

    /// What a product multiplies its image as. A vector a sample is a condition, which is computed in f32.
    fn left(&self, inst: &Inst) -> Left {
        let Some(Multiplied { images, quantise, w }) = Multiplied::of(inst) else { return Left::F32 };
        let same = images.iter().all(|&x| self.f.ty(x).channels() == self.f.ty(images[0]).channels());
        let bits = |x: Value| if quantise { Some(8) } else { self.codes(x).map(|(_, bits)| bits) };
        let codes = bits(images[0]).filter(|_| same && images.iter().all(|&x| bits(x) == bits(images[0])));
        match (self.encoding(w), codes) {
            (encoding, Some(bits)) if encoding.has_integers() => code_rows(bits),
            (Encoding::Bf16, _) if self.f.ty(images[0]).rank() > 2 => Left::Bf16,
            _ => Left::F32,
        }
    }

    /// What a value is the codes of, and of how many bits.
    fn codes(&self, v: Value) -> Option<(Value, usize)> {
        let inst = self.f.def_inst(v)?;
        if let Op::QuantiseRows(codes) = &inst.op { Some((inst.operands[0], codes.bits)) } else { None }
    }

    /// An image as a product reads it, which makes codes of it by itself.
    fn rows_of(&mut self, x: Value, left: Left) -> View {
        let rows = if left.is_codes() { self.codes(x) } else { None };
        self.view(rows.map_or(x, |(rows, _)| rows))
    }

    /// Rows that products make codes of need no step.
    fn quantise_rows(&mut self, inst: &Inst, bits: usize) {
        let y = inst.results[0];
        let codes = |i: &Inst| {
            self.left(i).is_codes()
                && Multiplied::of(i)
                    .is_some_and(|m| i.operands.iter().filter(|&&v| v == y).count() == m.images.iter().filter(|&&v| v == y).count())
        };
        let read = self.f.insts().iter().filter(|i| i.operands.contains(&y)).any(|i| !codes(i));
        if read || self.f.results().iter().any(|&(_, r)| r == y) {
            self.kernel(inst, QuantiseRows { rows: code_rows(bits) });
        }
    }

    fn adamw(&mut self, inst: &Inst, o: &ops::Adamw) {
        let kernel = Adamw {
            new_mean: (1.0 - o.beta1) as f32,
            old_square: o.beta2 as f32,
            new_square: (1.0 - o.beta2) as f32,
            eps: o.eps as f32,
            averages: inst.results.len() - 3,
        };
        self.kernel(inst, kernel);
    }

    fn group_norm(&mut self, inst: &Inst, groups: usize, eps: f64, activation: Activation) {
        self.kernel(inst, GroupNorm { groups, eps: eps as f32, activation });
    }

    /// A convolution, directly or by Winograd. Where its result is shuffled, weights and bias have the order of the columns that
    /// it writes.
    fn conv(&mut self, inst: &Inst, c: &FusedConv2d) {
        let ProductOperands { x, w, residual, bias } = c.named(&inst.operands);
        let rearrange = match c.rearrange {
            ops::Rearrange::Keep => Rearrange::Keep,
            ops::Rearrange::Shuffle { factor } => Rearrange::Shuffle { factor },
            ops::Rearrange::Unshuffle { factor } => Rearrange::Unshuffle { factor },
        };
        let shape = &self.f.ty(w).shape;
        let left = self.left(inst);
        // Codes are asked for by the function, Winograd by the target alone.
        let algorithm = if left.is_codes() { Algorithm::Direct } else { self.target.winograd.algorithm(self.f, inst, self.target) };
        let product = Product {
            window: Some(Window { kernel: [shape[1], shape[2]], stride: c.stride, pad: four(&c.pad), upsample: c.upsample }),
            left: if algorithm.is_winograd() { Left::F32 } else { left },
            epilogue: epilogue(c.residual, c.activation),
            rearrange,
            algorithm,
            ..Product::default()
        };
        let mut inputs = vec![self.rows_of(x, left), self.matrix(w, rearrange)];
        inputs.extend(bias.map(|bias| self.ordered(bias, Order::of(rearrange))));
        inputs.extend(residual.map(|r| self.view(r)));
        self.call(inst, product, inputs);
    }

    fn call(&mut self, inst: &Inst, kernel: impl Into<Kernel>, inputs: Vec<View>) {
        let kernel = kernel.into();
        let outputs = inst.results.iter().enumerate().map(|(k, &r)| self.define_of(r, k, &kernel, &inputs)).collect();
        self.step(inst.results[0], kernel, inputs, outputs);
    }

    /// A kernel of matrices: leading axes become one.
    fn batched(&mut self, inst: &Inst, kernel: impl Into<Kernel>) {
        let inputs = inst.operands.iter().map(|&v| batched(self.view(v))).collect();
        let y = batched(self.define(inst.results[0]));
        self.step(inst.results[0], kernel, inputs, vec![y]);
    }

    /// The mean over tiles is a sum over two axes of a finer shape.
    fn avg_pool(&mut self, inst: &Inst, size: usize) {
        let mut x = self.view(inst.operands[0]);
        let mut y = self.define(inst.results[0]);
        let &[n, h, w, c] = &y.shape[..] else { unreachable!("rank 4 by avg_pool2d.1") };
        x.shape = vec![n, h, size, w, size, c];
        y.shape = vec![n, h, 1, w, 1, c];
        let kernel = Sum { axes: vec![2, 4], scale: 1.0 / (size * size) as f32 };
        self.step(inst.results[0], kernel, vec![x], vec![y]);
    }
}

fn activation(a: ops::Activation) -> Activation {
    match a {
        ops::Activation::None => Activation::None,
        ops::Activation::Relu => Activation::Relu,
        ops::Activation::Silu => Activation::Silu,
    }
}

fn epilogue(residual: bool, a: ops::Activation) -> Epilogue {
    Epilogue::Activate { residual, activation: activation(a) }
}

fn four(pad: &[usize]) -> [usize; 4] {
    pad.try_into().expect("four pads, by the op's constraint")
}

fn batched(mut v: View) -> View {
    let at = v.shape.len() - 2;
    let batch = v.shape[..at].iter().product();
    v.shape.splice(..at, [batch]);
    v
}
