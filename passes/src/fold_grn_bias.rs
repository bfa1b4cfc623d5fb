//! `linear(grn(h, gamma, beta), W, b)` -> `linear(scale_channels(h, grn_scale(sum_squares(h), gamma)), W, b + W beta)`.
//!
//! GRN is affine per channel once its statistics are known: `gamma (h N) + beta + h = h (1 + gamma N) + beta`. The
//! constant part passes through the linear layer and becomes part of its bias; what is left is one factor per
//! channel, which the layer can apply to its input. Legal only when the layer is the only user of the GRN
//! (otherwise nothing is saved) and has a bias.

use fcdm_ir::ops::{Add, Grn, GrnScale, Linear, ScaleChannels, SumSquares};
use fcdm_ir::{Function, Op};

use crate::rewrite::rewrite;

/// The pass.
pub(crate) fn fold_grn_bias(f: &Function) -> Function {
    rewrite(f, |r, inst| {
        let (Op::Linear(_), &[x, w, bias]) = (&inst.op, &inst.operands[..]) else { return None };
        let (&Grn { eps }, grn) = r.def::<Grn>(x)?;
        if !r.used_once(x) {
            return None;
        }
        let [h, gamma, beta] = r.map_all(&grn.operands)[..] else { return None };
        let (w, bias) = (r.map(w), r.map(bias));
        let through = r.b.one(Linear {}, &[beta, w]);
        let folded = r.b.one(Add {}, &[bias, through]);
        let ss = r.b.one(SumSquares {}, &[h]);
        let a = r.b.one(GrnScale { eps }, &[ss, gamma]);
        let scaled = r.b.one(ScaleChannels {}, &[h, a]);
        Some(r.b.emit(Linear {}, &[scaled, w, folded]))
    })
}
