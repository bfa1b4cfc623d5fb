//! `linear(concat(a, b), W, bias)` -> `fused.concat_linear`: the product reads its rows where they lie, first a's channels,
//! then b's, and the concatenation is never written. Legal only when the concatenation is over the last axis and has no
//! other use.

use fcdm_ir::ops::{Concat, ConcatLinear};
use fcdm_ir::{Function, Op};

use crate::rewrite::rewrite;

/// The pass.
pub(crate) fn fuse_concat_linear(f: &Function) -> Function {
    rewrite(f, |r, inst| {
        let (Op::Linear(_), &[joined, ..]) = (&inst.op, &inst.operands[..]) else { return None };
        let (&Concat { axis }, concat) = r.def::<Concat>(joined)?;
        if axis + 1 != r.old().ty(joined).rank() || !r.used_once(joined) {
            return None;
        }
        let operands = r.map_all(&[&concat.operands[..], &inst.operands[1..]].concat());
        Some(r.b.emit(ConcatLinear {}, &operands))
    })
}
