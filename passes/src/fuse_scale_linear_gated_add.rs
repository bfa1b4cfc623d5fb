//! `gated_add(x, linear(scale_channels(h, a), W, b), gate)` -> `fused.scale_linear_gated_add`: GRN's factor is applied
//! to the product's input, gate and residual in its epilogue. A `quantise_rows` of 8 bits between scale and layer becomes an attribute. Legal only
//! when neither the product nor its scaled input has another use and the layer has a bias.

use fcdm_ir::ops::{Linear, QuantiseRows, ScaleChannels, ScaleLinearGatedAdd};
use fcdm_ir::{Function, Op};

use crate::rewrite::rewrite;

/// The pass.
pub(crate) fn fuse_scale_linear_gated_add(f: &Function) -> Function {
    rewrite(f, |r, inst| {
        let (Op::GatedAdd(_), &[x, product, gate]) = (&inst.op, &inst.operands[..]) else { return None };
        let (_, linear) = r.def::<Linear>(product)?;
        let &[input, w, bias] = &linear.operands[..] else { return None };
        let codes = r.def::<QuantiseRows>(input).filter(|(codes, _)| codes.bits == 8 && r.used_once(input));
        let scaled = codes.map_or(input, |(_, inst)| inst.operands[0]);
        let (_, scale) = r.def::<ScaleChannels>(scaled)?;
        if !r.used_once(product) || !r.used_once(scaled) {
            return None;
        }
        let operands = r.map_all(&[scale.operands[0], scale.operands[1], w, bias, gate, x]);
        Some(r.b.emit(ScaleLinearGatedAdd { quantise: codes.is_some() }, &operands))
    })
}
