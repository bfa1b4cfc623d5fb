//! `matmul(softmax(scale(matmul(q, transpose(k)))), v)` -> `fused.attention`: the scores of some rows at a time, never the
//! whole matrix of them, and k is read as it lies. The scale may be at the scores, at q or at k, or missing. Legal only when
//! nothing in between has another use and the transposition swaps the last two axes.

use fcdm_ir::ops::{Attention, Matmul, Scale, Softmax, Transpose};
use fcdm_ir::{Function, Op, Value};

use crate::rewrite::{Rewriter, rewrite};

/// The pass.
pub(crate) fn fuse_attention(f: &Function) -> Function {
    rewrite(f, |r, inst| {
        let (Op::Matmul(_), &[shares, v]) = (&inst.op, &inst.operands[..]) else { return None };
        let (_, softmax) = r.def::<Softmax>(shares)?;
        if !r.used_once(shares) {
            return None;
        }
        let (scores, of_scores) = unscaled(r, softmax.operands[0]);
        let (_, product) = r.def::<Matmul>(scores)?;
        let &[q, transposed] = &product.operands[..] else { return None };
        let ((q, of_q), (transposed, of_transposed)) = (unscaled(r, q), unscaled(r, transposed));
        let (_, transpose) = r.def::<Transpose>(transposed).filter(|(t, _)| swaps_last(t))?;
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
    r.def::<Scale>(v).filter(|_| r.used_once(v)).map_or((v, 1.0), |(scale, inst)| (inst.operands[0], scale.by))
}

/// True for a transposition of the last two axes.
fn swaps_last(t: &Transpose) -> bool {
    let n = t.perm.len();
    n >= 2 && t.perm[n - 2..] == [n - 1, n - 2] && t.perm[..n - 2].iter().enumerate().all(|(i, &p)| i == p)
}
