//! Fused ops: an expansion each, and the shape rule, rows, meaning, gradient and cost that follow from it.

use super::{
    Activation, Add, Attention, Broadcast, Concat, ConcatLinear, Conv2d, Cost, Div, DwConv2d, DwConvNormModulate, FusedConv2d, FusedDef,
    FusedGradient, FusedGroupNorm, FusedLinear, GatedAdd, Gelu, GrnScale, GroupNorm, LayerNorm, Linear, LinearGeluSumsq, Matmul, Modulate,
    Mul, NormModulate, Offset, Op, QuantiseRows, Rearrange, Reshape, Scale, ScaleChannels, ScaleLinearGatedAdd, Share, Softmax, Sqrt, Sum,
    SumSquares, Transpose, UpsampleNearest, attr::Attr,
};
use crate::eval::{self, Tensor};
use crate::function::{Builder, Function, Value};
use crate::types::{Type, TypeError, ensure};
use crate::vjp;

impl FusedDef for GrnScale {
    fn operands(&self) -> &'static [&'static str] {
        &["ss", "gamma"]
    }

    fn expand(&self, b: &mut Builder, x: &[Value]) -> Result<Vec<Value>, TypeError> {
        let ss = b.ty(x[0]).clone();
        ensure!("grn_scale.1", ss.rank() == 2, "ss must be [N,C], found {ss}");
        ensure!("grn_scale.2", self.eps > 0.0, "eps must be positive, found {:?}", self.eps);
        let c = ss.shape[1];
        let norm = b.try_one(Sqrt {}, x[0])?;
        let sum = b.try_one(Sum { axes: vec![1] }, norm)?;
        let mean = b.try_one(Scale { by: 1.0 / c as f64 }, sum)?;
        let guarded = b.try_one(Offset { by: self.eps }, mean)?;
        let guarded = b.try_one(Broadcast { shape: ss.shape.clone() }, guarded)?;
        let relative = b.try_emit(Div {}, &[norm, guarded])?[0];
        let gamma = b.try_one(Reshape { shape: vec![1, c] }, x[1])?;
        let gamma = b.try_one(Broadcast { shape: ss.shape }, gamma)?;
        let product = b.try_emit(Mul {}, &[gamma, relative])?[0];
        b.try_emit(Offset { by: 1.0 }, &[product])
    }
}

impl FusedDef for DwConvNormModulate {
    fn operands(&self) -> &'static [&'static str] {
        &["x", "w", "b", "shift", "scale"]
    }

    fn expand(&self, b: &mut Builder, x: &[Value]) -> Result<Vec<Value>, TypeError> {
        let h = b.try_emit(DwConv2d { pad: self.pad }, &x[..3])?[0];
        let h = b.try_one(LayerNorm { eps: self.eps }, h)?;
        b.try_emit(Modulate {}, &[h, x[3], x[4]])
    }
}

impl FusedDef for LinearGeluSumsq {
    fn operands(&self) -> &'static [&'static str] {
        &["x", "w", "b"]
    }

    fn expand(&self, b: &mut Builder, x: &[Value]) -> Result<Vec<Value>, TypeError> {
        let h = b.try_emit(Linear {}, x)?[0];
        let h = b.try_one(Gelu {}, h)?;
        let statistic = b.try_one(SumSquares {}, h)?;
        Ok(vec![h, statistic])
    }
}

impl FusedDef for ScaleLinearGatedAdd {
    fn operands(&self) -> &'static [&'static str] {
        &["h", "a", "w", "b", "gate", "x"]
    }

    fn expand(&self, b: &mut Builder, x: &[Value]) -> Result<Vec<Value>, TypeError> {
        let h = b.try_emit(ScaleChannels {}, &x[..2])?[0];
        let h = if self.quantise { b.try_one(QuantiseRows { bits: 8 }, h)? } else { h };
        let h = b.try_emit(Linear {}, &[h, x[2], x[3]])?[0];
        b.try_emit(GatedAdd {}, &[x[5], h, x[4]])
    }
}

impl FusedDef for NormModulate {
    fn operands(&self) -> &'static [&'static str] {
        &["x", "shift", "scale"]
    }

    fn expand(&self, b: &mut Builder, x: &[Value]) -> Result<Vec<Value>, TypeError> {
        let h = b.try_one(LayerNorm { eps: self.eps }, x[0])?;
        b.try_emit(Modulate {}, &[h, x[1], x[2]])
    }
}

impl FusedDef for ConcatLinear {
    fn operands(&self) -> &'static [&'static str] {
        &["a", "b", "w", "bias?"]
    }

    fn expand(&self, b: &mut Builder, x: &[Value]) -> Result<Vec<Value>, TypeError> {
        // Without an axis there is no last one: concat.2 refuses axis 0.
        let axis = b.ty(x[0]).rank().saturating_sub(1);
        let joined = b.try_emit(Concat { axis }, &x[..2])?[0];
        b.try_emit(Linear {}, &[&[joined], &x[2..]].concat())
    }
}

/// Operands of a product that may have a residual: before the bias, which may be left out.
fn product_operands(residual: bool) -> &'static [&'static str] {
    if residual { &["x", "w", "r", "b?"] } else { &["x", "w", "b?"] }
}

/// Those operands by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProductOperands {
    /// What is multiplied.
    pub x: Value,
    /// The weight.
    pub w: Value,
    /// What is added before the activation.
    pub residual: Option<Value>,
    /// What is added to every pixel or row.
    pub bias: Option<Value>,
}

impl ProductOperands {
    fn of(residual: bool, operands: &[Value]) -> ProductOperands {
        let (residual, bias) = operands[2..].split_at(usize::from(residual));
        ProductOperands { x: operands[0], w: operands[1], residual: residual.first().copied(), bias: bias.first().copied() }
    }

    /// Those that the plain op takes, of another x.
    fn plain(&self, x: Value) -> Vec<Value> {
        [x, self.w].into_iter().chain(self.bias).collect()
    }
}

/// `activation(y + r)`.
fn end(b: &mut Builder, y: Value, residual: Option<Value>, activation: Activation) -> Result<Value, TypeError> {
    let sum = match residual {
        Some(r) => b.try_emit(Add {}, &[y, r])?[0],
        None => y,
    };
    activation.expand(b, sum)
}

impl FusedConv2d {
    /// A plain convolution.
    pub fn new(stride: usize, pad: Vec<usize>) -> FusedConv2d {
        FusedConv2d { stride, pad, upsample: 1, residual: false, activation: Activation::None, rearrange: Rearrange::Keep }
    }

    /// The convolution that an op is, plain or fused.
    pub fn from_op(op: &Op) -> Option<FusedConv2d> {
        match op {
            Op::Conv2d(o) => Some(FusedConv2d::new(o.stride, o.pad.clone())),
            Op::FusedConv2d(o) => Some(o.clone()),
            _ => None,
        }
    }

    /// Its operands by name.
    pub fn named(&self, operands: &[Value]) -> ProductOperands {
        ProductOperands::of(self.residual, operands)
    }
}

impl FusedDef for FusedConv2d {
    fn operands(&self) -> &'static [&'static str] {
        product_operands(self.residual)
    }

    fn expand(&self, b: &mut Builder, x: &[Value]) -> Result<Vec<Value>, TypeError> {
        let kept = self.rearrange == Rearrange::Keep;
        ensure!("fused.conv2d.1", !self.residual || kept, "a result with a residual is not rearranged, found `{}`", self.rearrange.print());
        let operands = self.named(x);
        let x = if self.upsample == 1 { operands.x } else { b.try_one(UpsampleNearest { factor: self.upsample }, operands.x)? };
        let y = b.try_emit(Conv2d { stride: self.stride, pad: self.pad.clone() }, &operands.plain(x))?[0];
        let y = end(b, y, operands.residual, self.activation)?;
        Ok(vec![self.rearrange.expand(b, y)?])
    }
}

impl FusedLinear {
    /// The linear layer that an op is, plain or fused.
    pub fn from_op(op: &Op) -> Option<FusedLinear> {
        match op {
            Op::Linear(_) => Some(FusedLinear { residual: false, activation: Activation::None }),
            Op::FusedLinear(o) => Some(o.clone()),
            _ => None,
        }
    }

    /// Its operands by name.
    pub fn named(&self, operands: &[Value]) -> ProductOperands {
        ProductOperands::of(self.residual, operands)
    }
}

impl FusedDef for FusedLinear {
    fn operands(&self) -> &'static [&'static str] {
        product_operands(self.residual)
    }

    fn expand(&self, b: &mut Builder, x: &[Value]) -> Result<Vec<Value>, TypeError> {
        let operands = self.named(x);
        let y = b.try_emit(Linear {}, &operands.plain(operands.x))?[0];
        Ok(vec![end(b, y, operands.residual, self.activation)?])
    }
}

impl FusedGroupNorm {
    /// The group norm that an op is, plain or fused.
    pub fn from_op(op: &Op) -> Option<FusedGroupNorm> {
        match op {
            Op::GroupNorm(o) => Some(FusedGroupNorm { groups: o.groups, eps: o.eps, activation: Activation::None }),
            Op::FusedGroupNorm(o) => Some(o.clone()),
            _ => None,
        }
    }
}

impl FusedDef for FusedGroupNorm {
    fn operands(&self) -> &'static [&'static str] {
        &["x", "gamma", "beta"]
    }

    fn expand(&self, b: &mut Builder, x: &[Value]) -> Result<Vec<Value>, TypeError> {
        let y = b.try_emit(GroupNorm { groups: self.groups, eps: self.eps }, x)?[0];
        Ok(vec![self.activation.expand(b, y)?])
    }
}

impl FusedDef for Attention {
    fn operands(&self) -> &'static [&'static str] {
        &["q", "k", "v"]
    }

    fn expand(&self, b: &mut Builder, x: &[Value]) -> Result<Vec<Value>, TypeError> {
        let rank = b.ty(x[1]).rank();
        // Without two axes there is nothing to transpose: matmul refuses the operands.
        let mut perm: Vec<usize> = (0..rank).collect();
        if let [.., rows, columns] = &mut perm[..] {
            std::mem::swap(rows, columns);
        }
        let transposed = b.try_one(Transpose { perm }, x[1])?;
        let scores = b.try_emit(Matmul {}, &[x[0], transposed])?[0];
        let scaled = b.try_one(Scale { by: self.scale }, scores)?;
        let shares = b.try_one(Softmax {}, scaled)?;
        b.try_emit(Matmul {}, &[shares, x[2]])
    }
}

/// The expansion as a function of its operands; results are named by position.
fn expansion<F: FusedDef>(op: &F, x: impl IntoIterator<Item = Type>) -> Result<Function, TypeError> {
    let mut b = Builder::new("expansion");
    let inputs: Vec<Value> = x.into_iter().enumerate().map(|(i, ty)| b.input(&format!("x{i}"), ty)).collect();
    let results = op.expand(&mut b, &inputs)?;
    Ok(b.finish(results.into_iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect()))
}

/// Types of the expansion's results, or the constraint of the plain op that refuses.
pub(super) fn infer<F: FusedDef>(op: &F, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
    let f = expansion(op, x.iter().map(|&t| t.clone()))?;
    Ok(f.results().iter().map(|&(_, v)| f.ty(v).clone()).collect())
}

/// What the results' rows are made of: from the results back through the expansion.
pub(super) fn rows<F: FusedDef>(op: &F, x: &[&Type]) -> Option<Vec<Share>> {
    let f = expansion(op, x.iter().map(|&t| t.clone())).expect("operands obey `infer`");
    let mut shares: Vec<Option<Share>> = vec![None; f.value_count()];
    f.results().iter().for_each(|(_, v)| shares[v.index()] = Some(Share::Row));
    for inst in f.insts().iter().rev() {
        let asked: Vec<Share> = inst.results.iter().filter_map(|v| shares[v.index()]).collect();
        if asked.is_empty() {
            continue;
        }
        let whole = vec![Share::Whole; inst.operands.len()];
        let taken = if !asked.contains(&Share::Row) {
            whole
        } else if asked.contains(&Share::Whole) {
            return None;
        } else if let Some(taken) = f.rows(inst) {
            taken
        } else if f.ty(inst.results[0]).shape.first() == Some(&1) {
            // The only row there is takes all, and so would others.
            whole
        } else {
            return None;
        };
        for (v, share) in inst.operands.iter().zip(taken) {
            let known = shares[v.index()].get_or_insert(share);
            if *known != share {
                return None;
            }
        }
    }
    Some(f.inputs().iter().map(|v| shares[v.index()].unwrap_or(Share::Whole)).collect())
}

/// Evaluates the expansion.
pub(super) fn eval<F: FusedDef>(op: &F, x: &[&Tensor]) -> Vec<Tensor> {
    // No fused op takes labels, and the evaluator does not round to the element type.
    let f = expansion(op, x.iter().map(|t| Type::f32(t.shape()))).expect("operands obey `infer`");
    let inputs: Vec<Tensor> = x.iter().map(|&t| t.clone()).collect();
    eval::evaluate(&f, &inputs, &mut |_| None).expect("the expansion has no weights and no labels")
}

/// Differentiates the expansion.
pub(super) fn grad<F: FusedDef>(op: &F, b: &mut Builder, x: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
    vjp::through(b, x, dy, |b, x| op.expand(b, x))
}

/// The gradient that the op has of its own.
pub(super) fn own_grad<F: FusedGradient>(op: &F, b: &mut Builder, x: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
    op.grad(b, x, dy)
}

/// Cost of all plain ops of the expansion.
pub(super) fn cost<F: FusedDef>(op: &F, x: &[&Type]) -> Cost {
    let f = expansion(op, x.iter().map(|&t| t.clone())).expect("operands obey `infer`");
    crate::graph::cost(&f)
}
