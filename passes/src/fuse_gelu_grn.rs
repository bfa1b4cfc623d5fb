//! `grn(gelu(x), gamma, beta)` -> `fused.gelu_grn`: what is kept for its gradient is x alone. Legal only when the activation has no other use.

use fcdm_ir::ops::{Gelu, GeluGrn};
use fcdm_ir::{Function, Op};

use crate::rewrite::rewrite;

/// The pass.
pub(crate) fn fuse_gelu_grn(f: &Function) -> Function {
    rewrite(f, |r, inst| {
        let (Op::Grn(grn), &[h, gamma, beta]) = (&inst.op, &inst.operands[..]) else { return None };
        let x = r.operands::<Gelu>(h)?[0];
        if !r.used_once(h) {
            return None;
        }
        let operands = r.map_all(&[x, gamma, beta]);
        Some(r.b.emit(GeluGrn { eps: grn.eps }, &operands))
    })
}
