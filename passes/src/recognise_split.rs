//! Slices of equal length that together are all of an axis -> one `split`. Legal only if every part is taken.

use fcdm_ir::ops::Split;
use fcdm_ir::{Function, Op};

use crate::rewrite::rewrite;

/// The most parts that a `split` has, by split.3.
const PARTS: usize = 1024;

/// The pass.
pub(crate) fn recognise_split(f: &Function) -> Function {
    rewrite(f, |r, inst| {
        let Op::Slice(part) = &inst.op else { return None };
        let x = inst.operands[0];
        let extent = r.old().ty(x).shape[part.axis];
        let parts = extent / part.len;
        if part.len * parts != extent || !(2..=PARTS).contains(&parts) || part.start % part.len != 0 {
            return None;
        }
        let mut taken = vec![false; parts];
        for user in r.users(x) {
            if let Op::Slice(s) = &user.op
                && (s.axis, s.len) == (part.axis, part.len)
                && s.start % s.len == 0
            {
                taken[s.start / s.len] = true;
            }
        }
        if !taken.iter().all(|&t| t) {
            return None;
        }
        let v = r.map(x);
        Some(vec![r.b.emit(Split { axis: part.axis, parts }, &[v])[part.start / part.len]])
    })
}
