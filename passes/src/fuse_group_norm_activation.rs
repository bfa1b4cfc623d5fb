//! `silu(group_norm(x, gamma, beta))` -> `fused.group_norm_silu`, `relu(group_norm(x, gamma, beta))` ->
//! `fused.group_norm_relu`: the activation is applied while values are normalised, one pass over memory less. Legal only
//! when the norm has no other use.

use fcdm_ir::ops::{GroupNormRelu, GroupNormSilu};
use fcdm_ir::{Function, Op};

use crate::rewrite::rewrite;

/// The pass.
pub(crate) fn fuse_group_norm_activation(f: &Function) -> Function {
    rewrite(f, |r, inst| {
        if !matches!(inst.op, Op::Relu(_) | Op::Silu(_)) {
            return None;
        }
        let h = inst.operands[0];
        let ((groups, eps), norm) = r.def(h, |op| if let Op::GroupNorm(n) = op { Some((n.groups, n.eps)) } else { None })?;
        if !r.used_once(h) {
            return None;
        }
        let fused: Op = match inst.op {
            Op::Relu(_) => GroupNormRelu { groups, eps }.into(),
            _ => GroupNormSilu { groups, eps }.into(),
        };
        let operands = r.map_all(&norm.operands);
        Some(r.b.emit(fused, &operands))
    })
}
