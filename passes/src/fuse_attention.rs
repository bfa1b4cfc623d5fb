//! `matmul(softmax(scale(matmul(q, transpose(k)))), v)` -> `fused.attention`: the scores of some rows at a time, never the
//! whole matrix of them, and k is read as it lies. The scale may be at the scores, at q or at k, or missing. Legal only when
//! nothing in between has another use and the transposition swaps the last two axes.

use fcdm_ir::ops::Attention;
use fcdm_ir::{Function, Op, Value};

use crate::rewrite::{Rewriter, rewrite};

/// The pass.
pub(crate) fn fuse_attention(f: &Function) -> Function {
    rewrite(f, |r, inst| {
        let (Op::Matmul(_), &[shares, v]) = (&inst.op, &inst.operands[..]) else { return None };
        let ((), softmax) = r.def(shares, |op| matches!(op, Op::Softmax(_)).then_some(()))?;
        if !r.used_once(shares) {
            return None;
        }
        let (scores, of_scores) = unscaled(r, softmax.operands[0]);
        let ((), product) = r.def(scores, |op| matches!(op, Op::Matmul(_)).then_some(()))?;
        let &[q, transposed] = &product.operands[..] else { return None };
        let ((q, of_q), (transposed, of_transposed)) = (unscaled(r, q), unscaled(r, transposed));
        let ((), transpose) = r.def(transposed, |op| swaps_last(op).then_some(()))?;
        let (k, of_k) = unscaled(r, transpose.operands[0]);
        if !r.used_once(scores) || !r.used_once(transposed) {
            return None;
        }
        let operands = r.map_all(&[q, k, v]);
        Some(r.b.emit(Attention { scale: of_scores * of_q * of_transposed * of_k }, &operands))
    })
}

/// What is scaled to give the value, and the factor; the value itself and 1 if it is not, or if it has another use.
fn unscaled(r: &Rewriter<'_>, v: Value) -> (Value, f64) {
    let scale = r.def(v, |op| if let Op::Scale(s) = op { Some(s.by) } else { None });
    scale.filter(|_| r.used_once(v)).map_or((v, 1.0), |(by, inst)| (inst.operands[0], by))
}

/// True for a transposition of the last two axes.
fn swaps_last(op: &Op) -> bool {
    let Op::Transpose(t) = op else { return false };
    let n = t.perm.len();
    n >= 2 && t.perm[n - 2..] == [n - 1, n - 2] && t.perm[..n - 2].iter().enumerate().all(|(i, &p)| i == p)
}
