//! `modulate(layer_norm(x), shift, scale)` -> `fused.norm_modulate`: one pass over memory. Legal only when the norm
//! has no other use. Runs after `fuse_dwconv_norm_modulate`, which takes the larger pattern.

use fcdm_ir::ops::{LayerNorm, NormModulate};
use fcdm_ir::{Function, Op};

use crate::rewrite::rewrite;

/// The pass.
pub(crate) fn fuse_norm_modulate(f: &Function) -> Function {
    rewrite(f, |r, inst| {
        let (Op::Modulate(_), &[n, shift, scale]) = (&inst.op, &inst.operands[..]) else { return None };
        let (&LayerNorm { eps }, norm) = r.def::<LayerNorm>(n)?;
        if !r.used_once(n) {
            return None;
        }
        let operands = r.map_all(&[norm.operands[0], shift, scale]);
        Some(r.b.emit(NormModulate { eps }, &operands))
    })
}
