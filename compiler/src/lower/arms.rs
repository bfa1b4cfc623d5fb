//! One arm for every op: the kernel that computes it.

use fcdm_ir::ops::{self, FusedConv2d, FusedLinear};
use fcdm_ir::{Inst, Op, Value};
use fcdm_runtime::plan::{Activation, Binary, Epilogue, Kernel, Rearrange, Unary};

use super::{LowerError, Lowering, View, shares_buffer};
use crate::weights::Order;

impl Lowering<'_> {
    pub(super) fn instruction(&mut self, inst: &Inst) -> Result<(), LowerError> {
        let (x, y) = (&inst.operands, inst.results[0]);
        if shares_buffer(&inst.op) {
            self.place[y.index()] = Some(self.buffer_of(x[0]));
            return Ok(());
        }
        match &inst.op {
            Op::Fill(o) => self.kernel(inst, Kernel::Fill { value: o.value as f32 }),

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

            Op::Add(_) => self.kernel(inst, Kernel::Binary(Binary::Add)),
            Op::Sub(_) => self.kernel(inst, Kernel::Binary(Binary::Sub)),
            Op::Mul(_) => self.kernel(inst, Kernel::Binary(Binary::Mul)),
            Op::Div(_) => self.kernel(inst, Kernel::Binary(Binary::Div)),
            Op::DivNoNan(_) => self.kernel(inst, Kernel::Binary(Binary::DivNoNan)),

            Op::Sum(o) => self.kernel(inst, Kernel::Sum { axes: o.axes.clone(), scale: 1.0 }),
            Op::SumSquares(_) => self.kernel(inst, Kernel::SumSquares),
            Op::Softmax(_) => self.kernel(inst, Kernel::Softmax),
            Op::LayerNorm(o) => self.kernel(inst, Kernel::LayerNorm { eps: o.eps as f32 }),
            Op::GroupNorm(o) => self.group_norm(inst, o.groups, o.eps, Activation::None),
            Op::FusedGroupNorm(o) => self.group_norm(inst, o.groups, o.eps, activation(o.activation)),
            Op::Grn(o) => self.kernel(inst, Kernel::Grn { eps: o.eps as f32 }),
            Op::GrnScale(o) => self.kernel(inst, Kernel::GrnScale { eps: o.eps as f32 }),
            Op::Modulate(_) => self.kernel(inst, Kernel::Modulate),
            Op::GatedAdd(_) => self.kernel(inst, Kernel::GatedAdd),
            Op::ScaleChannels(_) => self.kernel(inst, Kernel::ScaleChannels),
            Op::NormModulate(o) => self.kernel(inst, Kernel::NormModulate { eps: o.eps as f32 }),

            Op::Linear(_) => self.packed(inst, 1, Kernel::Linear),
            Op::LinearGeluSumsq(_) => self.packed(inst, 1, Kernel::LinearGeluSumsq),
            Op::ScaleLinearGatedAdd(_) => self.packed(inst, 2, Kernel::ScaleLinearGatedAdd),
            Op::ConcatLinear(_) => self.packed(inst, 2, Kernel::ConcatLinear),
            Op::FusedLinear(o) => self.fused_linear(inst, o),
            Op::Matmul(_) => self.batched(inst, Kernel::Matmul),
            Op::Attention(o) => self.batched(inst, Kernel::Attention { scale: o.scale as f32 }),
            Op::Conv2d(o) => self.conv(inst, &FusedConv2d::new(o.stride, o.pad.clone())),
            Op::FusedConv2d(o) => self.conv(inst, o),
            Op::ConvTranspose2d(o) => self.kernel(inst, Kernel::ConvTranspose2d { stride: o.stride, pad: four(&o.pad) }),
            Op::Conv2dWeightGrad(o) => self.kernel(inst, Kernel::Conv2dWeightGrad { stride: o.stride, pad: four(&o.pad) }),
            Op::DwConv2d(o) => self.kernel(inst, Kernel::DwConv2d { pad: o.pad }),
            Op::DwConv2dWeightGrad(o) => self.kernel(inst, Kernel::DwConv2dWeightGrad { pad: o.pad }),
            Op::DwConvNormModulate(o) => self.kernel(inst, Kernel::DwConvNormModulate { pad: o.pad, eps: o.eps as f32 }),

            Op::AvgPool2d(o) => self.avg_pool(inst, o.size),
            Op::UpsampleNearest(o) => self.upsample(inst, o.factor),
            Op::PixelShuffle(o) => self.pixel_shuffle(inst, o.factor),
            Op::PixelUnshuffle(o) => self.pixel_unshuffle(inst, o.factor),
            Op::Reshape(_) => unreachable!("shares its operand's buffer"),
            Op::Transpose(o) => self.transpose(inst, &o.perm)?,
            Op::Broadcast(_) => self.broadcast(inst)?,
            Op::Concat(o) => self.concat(inst, o.axis),
            Op::Split(o) => self.split(inst, o.axis),
            Op::Slice(o) => self.slice(inst, o.axis, o.start),
            Op::Flip(o) => self.flip(inst, &o.axes)?,

            Op::TimestepEmbedding(_) => self.kernel(inst, Kernel::TimestepEmbedding),
            Op::Embedding(_) => self.kernel(inst, Kernel::Embedding),
            Op::OneHot(_) => self.kernel(inst, Kernel::OneHot),
        }
        Ok(())
    }

    /// A kernel that takes the op's operands as they are.
    fn kernel(&mut self, inst: &Inst, kernel: Kernel) {
        let inputs: Vec<View> = inst.operands.iter().map(|&v| self.view(v)).collect();
        self.call(inst, kernel, inputs);
    }

    fn unary(&mut self, inst: &Inst, f: Unary) {
        self.kernel(inst, Kernel::Unary(f));
    }

    /// As [`Lowering::kernel`], with operand `w` as packed panels.
    fn packed(&mut self, inst: &Inst, w: usize, kernel: Kernel) {
        let view = |l: &mut Self, (i, &v): (usize, &Value)| if i == w { l.panels(v, Order::Given) } else { l.view(v) };
        let inputs: Vec<View> = inst.operands.iter().enumerate().map(|o| view(self, o)).collect();
        self.call(inst, kernel, inputs);
    }

    fn group_norm(&mut self, inst: &Inst, groups: usize, eps: f64, activation: Activation) {
        self.kernel(inst, Kernel::GroupNorm { groups, eps: eps as f32, activation });
    }

    /// A convolution, directly or by Winograd. Where its result is shuffled, weights and bias have the order of the columns that
    /// it writes. The ops have a residual before the bias, which may be left out, the kernels behind.
    fn conv(&mut self, inst: &Inst, c: &FusedConv2d) {
        let x = &inst.operands;
        let (pad, upsample, epilogue) = (four(&c.pad), c.upsample, epilogue(c.residual, c.activation));
        let (order, then) = match c.rearrange {
            ops::Rearrange::Keep => (Order::Given, Rearrange::Keep),
            ops::Rearrange::Shuffle { factor } => (Order::Shuffled { factor }, Rearrange::Shuffle { factor }),
            ops::Rearrange::Unshuffle { factor } => (Order::Given, Rearrange::Unshuffle { factor }),
        };
        let kernel = if self.winograd.suits(self.f, inst) {
            Kernel::Conv2dWinograd { pad, upsample, epilogue, then }
        } else {
            let w = &self.f.ty(x[1]).shape;
            Kernel::Conv2d { kernel: [w[1], w[2]], stride: c.stride, pad, upsample, epilogue, then }
        };
        let (residual, bias) = residual_and_bias(x, c.residual);
        let mut inputs = vec![self.view(x[0]), self.panels(x[1], order)];
        inputs.extend(bias.map(|bias| self.ordered(bias, order)));
        inputs.extend(residual.map(|r| self.view(r)));
        self.call(inst, kernel, inputs);
    }

    /// A convolution 1x1 of an image of one line.
    fn fused_linear(&mut self, inst: &Inst, o: &FusedLinear) {
        let x = &inst.operands;
        let line = |mut v: View| {
            let channels = v.shape.pop().expect("linear's operands have an axis");
            v.shape = vec![1, 1, v.shape.iter().product(), channels];
            v
        };
        let (residual, bias) = residual_and_bias(x, o.residual);
        let mut inputs = vec![line(self.view(x[0])), self.panels(x[1], Order::Given)];
        inputs.extend(bias.map(|bias| self.view(bias)));
        inputs.extend(residual.map(|r| line(self.view(r))));
        let y = line(self.define(inst.results[0]));
        let epilogue = epilogue(o.residual, o.activation);
        let kernel = Kernel::Conv2d { kernel: [1, 1], stride: 1, pad: [0; 4], upsample: 1, epilogue, then: Rearrange::Keep };
        self.step(inst.results[0], kernel, inputs, vec![y]);
    }

    fn call(&mut self, inst: &Inst, kernel: Kernel, inputs: Vec<View>) {
        let outputs = inst.results.iter().map(|&r| self.define(r)).collect();
        self.step(inst.results[0], kernel, inputs, outputs);
    }

    /// A kernel of matrices: leading axes become one.
    fn batched(&mut self, inst: &Inst, kernel: Kernel) {
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
        let kernel = Kernel::Sum { axes: vec![2, 4], scale: 1.0 / (size * size) as f32 };
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
    Epilogue { residual, activation: activation(a) }
}

/// Of a product's operands `x, w, r?, b?`.
fn residual_and_bias(x: &[Value], residual: bool) -> (Option<Value>, Option<Value>) {
    if residual { (Some(x[2]), x.get(3).copied()) } else { (None, x.get(2).copied()) }
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
