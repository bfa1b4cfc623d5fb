//! One arm for every op: the kernel that computes it.

use fcdm_ir::{Inst, Op, Value};
use fcdm_runtime::plan::{Activation, Binary, Epilogue, Kernel, Rearrange, Unary};

use super::{LowerError, Lowering, View, shares_buffer};
use crate::weights::Order;

const RELU: Epilogue = Epilogue { residual: false, activation: Activation::Relu };
const ADD: Epilogue = Epilogue { residual: true, activation: Activation::None };
const ADD_RELU: Epilogue = Epilogue { residual: true, activation: Activation::Relu };

/// What the ops that contain a convolution say of it.
struct Convolution {
    stride: usize,
    pad: [usize; 4],
    upsample: usize,
    epilogue: Epilogue,
    then: Rearrange,
}

impl Convolution {
    /// Of the image as it is, stored as it comes.
    fn new(stride: usize, pad: &[usize]) -> Convolution {
        Convolution { stride, pad: four(pad), upsample: 1, epilogue: Epilogue::NONE, then: Rearrange::Keep }
    }
}

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
            Op::GroupNormRelu(o) => self.group_norm(inst, o.groups, o.eps, Activation::Relu),
            Op::GroupNormSilu(o) => self.group_norm(inst, o.groups, o.eps, Activation::Silu),
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
            Op::LinearAdd(_) => self.linear_add(inst),
            Op::Matmul(_) => self.batched(inst, Kernel::Matmul),
            Op::Attention(o) => self.batched(inst, Kernel::Attention { scale: o.scale as f32 }),
            Op::Conv2d(o) => self.conv(inst, &Convolution::new(o.stride, &o.pad)),
            Op::ConvPixelShuffle(o) => {
                self.conv(inst, &Convolution { then: Rearrange::Shuffle { factor: o.factor }, ..Convolution::new(o.stride, &o.pad) });
            }
            Op::ConvPixelUnshuffle(o) => {
                self.conv(inst, &Convolution { then: Rearrange::Unshuffle { factor: o.factor }, ..Convolution::new(o.stride, &o.pad) });
            }
            Op::UpsampleConv(o) => self.conv(inst, &Convolution { upsample: o.factor, ..Convolution::new(o.stride, &o.pad) }),
            Op::ConvRelu(o) => self.conv(inst, &Convolution { epilogue: RELU, ..Convolution::new(o.stride, &o.pad) }),
            Op::ConvAdd(o) => self.conv(inst, &Convolution { epilogue: ADD, ..Convolution::new(o.stride, &o.pad) }),
            Op::ConvAddRelu(o) => self.conv(inst, &Convolution { epilogue: ADD_RELU, ..Convolution::new(o.stride, &o.pad) }),
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
    fn conv(&mut self, inst: &Inst, c: &Convolution) {
        let x = &inst.operands;
        let Convolution { stride, pad, upsample, epilogue, then } = *c;
        let order = match then {
            Rearrange::Shuffle { factor } => Order::Shuffled { factor },
            Rearrange::Keep | Rearrange::Unshuffle { .. } => Order::Given,
        };
        let kernel = if self.winograd.suits(self.f, inst) {
            Kernel::Conv2dWinograd { pad, upsample, epilogue, then }
        } else {
            let w = &self.f.ty(x[1]).shape;
            Kernel::Conv2d { kernel: [w[1], w[2]], stride, pad, upsample, epilogue, then }
        };
        let (residual, bias) = if epilogue.residual { (Some(x[2]), x.get(3)) } else { (None, x.get(2)) };
        let mut inputs = vec![self.view(x[0]), self.panels(x[1], order)];
        inputs.extend(bias.map(|&bias| self.ordered(bias, order)));
        inputs.extend(residual.map(|r| self.view(r)));
        self.call(inst, kernel, inputs);
    }

    /// A convolution 1x1 of an image of one line.
    fn linear_add(&mut self, inst: &Inst) {
        let x = &inst.operands;
        let line = |mut v: View| {
            let channels = v.shape.pop().expect("linear's operands have an axis");
            v.shape = vec![1, 1, v.shape.iter().product(), channels];
            v
        };
        let mut inputs = vec![line(self.view(x[0])), self.panels(x[1], Order::Given)];
        inputs.extend(x.get(3).map(|&bias| self.view(bias)));
        inputs.push(line(self.view(x[2])));
        let y = line(self.define(inst.results[0]));
        let kernel = Kernel::Conv2d { kernel: [1, 1], stride: 1, pad: [0; 4], upsample: 1, epilogue: ADD, then: Rearrange::Keep };
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

fn four(pad: &[usize]) -> [usize; 4] {
    pad.try_into().expect("four pads, by the op's constraint")
}

fn batched(mut v: View) -> View {
    let at = v.shape.len() - 2;
    let batch = v.shape[..at].iter().product();
    v.shape.splice(..at, [batch]);
    v
}
