//! `modulate(layer_norm(dwconv2d(x, w, b)), shift, scale)` -> `fused.dwconv_norm_modulate`: the row is normalised
//! and modulated while in cache. Legal only when neither the convolution nor the norm has another use.

use fcdm_ir::ops::DwConvNormModulate;
use fcdm_ir::{Function, Op};

use crate::rewrite::rewrite;

/// The pass.
pub(crate) fn fuse_dwconv_norm_modulate(f: &Function) -> Function {
    rewrite(f, |r, inst| {
        let (Op::Modulate(_), &[n, shift, scale]) = (&inst.op, &inst.operands[..]) else { return None };
        let (eps, norm) = r.def(n, |op| if let Op::LayerNorm(l) = op { Some(l.eps) } else { None })?;
        let h = norm.operands[0];
        let (pad, conv) = r.def(h, |op| if let Op::DwConv2d(c) = op { Some(c.pad) } else { None })?;
        let &[x, w, bias] = &conv.operands[..] else { return None };
        if !r.used_once(n) || !r.used_once(h) {
            return None;
        }
        let operands = r.map_all(&[x, w, bias, shift, scale]);
        Some(r.b.emit(DwConvNormModulate { pad, eps }, &operands))
    })
}
