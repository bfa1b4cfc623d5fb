//! `add(product, r)` in either order -> the product as `fused.conv2d` or `fused.linear` with `r` as its residual, which its
//! epilogue adds before it stores. Legal only when the product has no other use and ends with its bias, neither activated nor
//! rearranged; and for linear layers of images or sequences: those of single vectors are conditions, whose precision is their own.
//!
//! Where both sides of a sum are products, the one with more multiplications takes it: there the other's values arrive
//! while there is something else to do. Of equal ones it is the later, beside which the other needs no memory of its own for
//! longer.

use fcdm_ir::ops::{Activation, FusedConv2d, FusedLinear, Rearrange, Reshape};
use fcdm_ir::{Function, Inst, Op, Value};

use crate::rewrite::{Rewriter, rewrite};

/// The pass.
pub(crate) fn fuse_residual(f: &Function) -> Function {
    rewrite(f, |r, inst| {
        let Op::Add(_) = &inst.op else { return None };
        let sum = larger_product(r, inst)?;
        Some(emit(r, sum))
    })
}

/// A product and what is added to it.
struct Sum<'a> {
    fused: Op,
    product: &'a Inst,
    residual: Value,
}

/// The op that adds a residual to a product as well, if there is one.
fn with_residual(op: &Op) -> Option<Op> {
    if let Some(conv) = FusedConv2d::from_op(op) {
        let ends = !conv.residual && conv.activation == Activation::None && conv.rearrange == Rearrange::Keep;
        return ends.then(|| FusedConv2d { residual: true, ..conv }.into());
    }
    let linear = FusedLinear::from_op(op)?;
    let ends = !linear.residual && linear.activation == Activation::None;
    ends.then(|| FusedLinear { residual: true, ..linear }.into())
}

/// Which operand of a sum is a product that can take the other in its epilogue. The result of a linear layer may have
/// another shape by then: elements stay in order.
fn larger_product<'a>(r: &Rewriter<'a>, sum: &Inst) -> Option<Sum<'a>> {
    let f = r.old();
    let &[a, b] = &sum.operands[..] else { return None };
    let product = |v: Value, residual: Value| {
        let mut inst = f.def_inst(v).filter(|_| r.used_once(v))?;
        let reshaped = matches!(inst.op, Op::Reshape(_));
        if reshaped {
            inst = f.def_inst(inst.operands[0]).filter(|i| r.used_once(i.results[0]))?;
        }
        let fused = with_residual(&inst.op)?;
        let fits = match fused {
            Op::FusedConv2d(_) => !reshaped,
            _ => f.ty(inst.results[0]).rank() > 2,
        };
        let weights: usize = f.ty(inst.operands[1]).shape.iter().product();
        fits.then(|| (weights, inst.results[0].index(), Sum { fused, product: inst, residual }))
    };
    let candidates = product(a, b).into_iter().chain(product(b, a));
    candidates.max_by_key(|&(weights, defined, _)| (weights, defined)).map(|(.., sum)| sum)
}

/// The fused op in place of the sum, whose shape is the residual's.
fn emit(r: &mut Rewriter<'_>, Sum { fused, product, residual }: Sum<'_>) -> Vec<Value> {
    let (own, shape) = (r.old().ty(product.results[0]).shape.clone(), r.old().ty(residual).shape.clone());
    let mut operands = r.map_all(&product.operands);
    let residual = r.map(residual);
    operands.insert(2, if own == shape { residual } else { r.b.one(Reshape { shape: own.clone() }, &[residual]) });
    let y = r.b.emit(fused, &operands);
    if own == shape { y } else { vec![r.b.one(Reshape { shape }, &y)] }
}
