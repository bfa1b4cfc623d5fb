//! `linear(x, W) + b`, and `conv2d`, `dwconv2d` and `conv_transpose2d` alike, with a vector of the channels -> the bias of the
//! layer. Legal only when the layer has none, no other use, and the vector is a weight.

use fcdm_ir::ops::Reshape;
use fcdm_ir::{Def, Function, Inst, Op, Value};

use crate::repeated::{either, per_channel, unrepeated};
use crate::rewrite::{Rewriter, rewrite};

/// The pass.
pub(crate) fn recognise_bias(f: &Function) -> Function {
    rewrite(f, |r, inst| {
        let Op::Add(_) = &inst.op else { return None };
        let (layer, bias) = either(&inst.operands).into_iter().find_map(|[y, b]| {
            let layer = r.old().def_inst(y).filter(|i| lacks_bias(i) && r.used_once(y))?;
            Some((layer, vector(r, b)?))
        })?;
        let bias = r.map(bias);
        let c = r.b.ty(bias).count();
        let bias = r.b.one(Reshape { shape: vec![c] }, &[bias]);
        let mut operands = r.map_all(&layer.operands);
        operands.push(bias);
        Some(r.b.emit(layer.op.clone(), &operands))
    })
}

/// True for a layer whose bias was left out: of plain ops, the only operand that can be.
fn lacks_bias(inst: &Inst) -> bool {
    !inst.op.is_fused() && inst.operands.len() < inst.op.operands().len()
}

/// A weight with one number a channel that a value repeats.
fn vector(r: &Rewriter<'_>, v: Value) -> Option<Value> {
    let channels = r.old().ty(v).channels();
    let inner = per_channel(r, v).unwrap_or_else(|| unrepeated(r, v));
    let weight = r.operands::<Reshape>(inner).map_or(inner, |x| x[0]);
    let ty = r.old().ty(inner);
    (r.old().value(weight).def == Def::Weight && ty.count() == channels && ty.channels() == channels).then_some(inner)
}
