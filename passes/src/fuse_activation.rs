//! `relu(y)`, `silu(y)` -> the product or group norm that y is, as `fused.conv2d`, `fused.linear` or `fused.group_norm` with
//! that activation, which it applies before it stores: one pass over memory less. Legal only when y has no other use and is not
//! activated yet; and for linear layers of images or sequences: those of single vectors are conditions, whose precision is
//! their own. A rearrangement may lie between, since an activation is the same for every element, and so may a residual.

use fcdm_ir::ops::{Activation, FusedConv2d, FusedGroupNorm, FusedLinear};
use fcdm_ir::{Function, Inst, Op};

use crate::rewrite::rewrite;

/// The pass.
pub(crate) fn fuse_activation(f: &Function) -> Function {
    rewrite(f, |r, inst| {
        let activation = Activation::of(&inst.op)?;
        let x = inst.operands[0];
        let producer = r.old().def_inst(x).filter(|_| r.used_once(x))?;
        let fused = activated(r.old(), producer, activation)?;
        let operands = r.map_all(&producer.operands);
        Some(r.b.emit(fused, &operands))
    })
}

/// The op that activates its result as well, if there is one.
fn activated(f: &Function, inst: &Inst, activation: Activation) -> Option<Op> {
    let free = |found: Activation| found == Activation::None;
    if let Some(conv) = FusedConv2d::from_op(&inst.op) {
        return free(conv.activation).then(|| FusedConv2d { activation, ..conv }.into());
    }
    if let Some(norm) = FusedGroupNorm::from_op(&inst.op) {
        return free(norm.activation).then(|| FusedGroupNorm { activation, ..norm }.into());
    }
    let linear = FusedLinear::from_op(&inst.op)?;
    (free(linear.activation) && f.ty(inst.results[0]).rank() > 2).then(|| FusedLinear { activation, ..linear }.into())
}
