//! `pixel_shuffle(conv2d(x, W, b))` -> `fused.conv_pixel_shuffle`, `pixel_unshuffle(conv2d(x, W, b))` ->
//! `fused.conv_pixel_unshuffle`: the convolution writes every channel to the pixel that it belongs to. Legal only when the
//! convolution has no other use.

use fcdm_ir::ops::{Conv2d, ConvPixelShuffle, ConvPixelUnshuffle};
use fcdm_ir::{Function, Op};

use crate::rewrite::rewrite;

/// The pass.
pub(crate) fn fuse_conv_shuffle(f: &Function) -> Function {
    rewrite(f, |r, inst| {
        if !matches!(inst.op, Op::PixelShuffle(_) | Op::PixelUnshuffle(_)) {
            return None;
        }
        let image = inst.operands[0];
        let (Conv2d { stride, pad }, conv) = r.def(image, |op| if let Op::Conv2d(c) = op { Some(c.clone()) } else { None })?;
        if !r.used_once(image) {
            return None;
        }
        let fused: Op = match &inst.op {
            Op::PixelShuffle(o) => ConvPixelShuffle { stride, pad, factor: o.factor }.into(),
            Op::PixelUnshuffle(o) => ConvPixelUnshuffle { stride, pad, factor: o.factor }.into(),
            _ => unreachable!("left above"),
        };
        let operands = r.map_all(&conv.operands);
        Some(r.b.emit(fused, &operands))
    })
}
