//! `pixel_shuffle(conv2d(x, W, b))`, `pixel_unshuffle(conv2d(x, W, b))` -> `fused.conv2d` with that rearrangement: the
//! convolution, plain or fused, writes every channel to the pixel that it belongs to. Legal only when the convolution has no
//! other use, is not rearranged yet and has no residual, whose elements would lie elsewhere than the result's.

use fcdm_ir::Function;
use fcdm_ir::ops::{FusedConv2d, Rearrange};

use crate::rewrite::rewrite;

/// The pass.
pub(crate) fn fuse_conv_shuffle(f: &Function) -> Function {
    rewrite(f, |r, inst| {
        let rearrange = Rearrange::of(&inst.op)?;
        let image = inst.operands[0];
        let of_conv = r.old().def_inst(image)?;
        let conv = FusedConv2d::from_op(&of_conv.op)?;
        if conv.rearrange != Rearrange::Keep || conv.residual || !r.used_once(image) {
            return None;
        }
        let operands = r.map_all(&of_conv.operands);
        Some(r.b.emit(FusedConv2d { rearrange, ..conv }, &operands))
    })
}
