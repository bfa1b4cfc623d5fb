//! `conv2d(upsample_nearest(x, factor), W, b)` -> `fused.upsample_conv`: the convolution finds the small image's pixel under
//! each of its taps, and the enlarged image is never written. Legal only when that has no other use: else it is there
//! anyway, and easier to read.

use fcdm_ir::ops::UpsampleConv;
use fcdm_ir::{Function, Op};

use crate::rewrite::rewrite;

/// The pass.
pub(crate) fn fuse_upsample_conv(f: &Function) -> Function {
    rewrite(f, |r, inst| {
        let (Op::Conv2d(conv), &[large, ..]) = (&inst.op, &inst.operands[..]) else { return None };
        let (factor, upsample) = r.def(large, |op| if let Op::UpsampleNearest(o) = op { Some(o.factor) } else { None })?;
        // A use as the kernel counts as one.
        if !r.used_once(large) {
            return None;
        }
        let operands = r.map_all(&[&upsample.operands[..1], &inst.operands[1..]].concat());
        Some(r.b.emit(UpsampleConv { factor, stride: conv.stride, pad: conv.pad.clone() }, &operands))
    })
}
