//! `h = gelu(linear(x, W, b))`, `ss = sum_squares(h)` -> `h, ss = fused.linear_gelu_sumsq`: the activation and GRN's
//! statistic fall out of the product's epilogue. Legal only when the linear layer has no other use, has a bias and
//! works on images; fires only where the sum of squares is wanted.

use fcdm_ir::ops::{Linear, LinearGeluSumsq};
use fcdm_ir::{Function, Op};

use crate::rewrite::rewrite;

/// The pass.
pub(crate) fn fuse_linear_gelu_sumsq(f: &Function) -> Function {
    rewrite(f, |r, inst| match &inst.op {
        Op::Gelu(_) => {
            let (product, h) = (inst.operands[0], inst.results[0]);
            let (_, linear) = r.def::<Linear>(product)?;
            let wanted = r.users(h).any(|u| matches!(u.op, Op::SumSquares(_)));
            if !wanted || !r.used_once(product) || linear.operands.len() != 3 {
                return None;
            }
            let operands = r.map_all(&linear.operands);
            Some(vec![r.b.emit(LinearGeluSumsq {}, &operands)[0]])
        }
        Op::SumSquares(_) => {
            // Hash-consing makes this the instruction that the rule for the activation emitted.
            let h = r.map(inst.operands[0]);
            let f = r.b.so_far();
            let fused = f.def_inst(h).filter(|i| matches!(i.op, Op::LinearGeluSumsq(_)) && i.results[0] == h)?;
            Some(vec![fused.results[1]])
        }
        _ => None,
    })
}
