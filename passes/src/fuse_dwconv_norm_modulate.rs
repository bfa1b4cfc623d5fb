//! `modulate(layer_norm(dwconv2d(x, w, b)), shift, scale)` -> `fused.dwconv_norm_modulate`: the row is normalised
//! and modulated while in cache. Legal only when neither the convolution nor the norm has another use.

use fcdm_ir::ops::{DwConv2d, DwConvNormModulate, LayerNorm};
use fcdm_ir::{Function, Op};

use crate::rewrite::rewrite;

/// The pass.
pub(crate) fn fuse_dwconv_norm_modulate(f: &Function) -> Function {
    rewrite(f, |r, inst| {
        let (Op::Modulate(_), &[n, shift, scale]) = (&inst.op, &inst.operands[..]) else { return None };
        let (&LayerNorm { eps }, norm) = r.def::<LayerNorm>(n)?;
        let h = norm.operands[0];
        let (&DwConv2d { pad }, conv) = r.def::<DwConv2d>(h)?;
        let &[x, w, bias] = &conv.operands[..] else { return None };
        if !r.used_once(n) || !r.used_once(h) {
            return None;
        }
        let operands = r.map_all(&[x, w, bias, shift, scale]);
        Some(r.b.emit(DwConvNormModulate { pad, eps }, &operands))
    })
}
