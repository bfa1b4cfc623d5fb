//! `conv2d(upsample_nearest(x, factor), W, b)` -> `fused.conv2d` of x with that `upsample`: the convolution, plain or fused,
//! finds the small image's pixel under each of its taps, and the enlarged image is never written. Legal only when that has no
//! other use: else it is there anyway, and easier to read.

use fcdm_ir::Function;
use fcdm_ir::ops::{FusedConv2d, UpsampleNearest};

use crate::rewrite::rewrite;

/// The pass.
pub(crate) fn fuse_upsample_conv(f: &Function) -> Function {
    rewrite(f, |r, inst| {
        let conv = FusedConv2d::from_op(&inst.op).filter(|c| c.upsample == 1)?;
        let large = inst.operands[0];
        let (&UpsampleNearest { factor: upsample }, of_upsample) = r.def::<UpsampleNearest>(large)?;
        // A use as the kernel counts as one.
        if upsample == 1 || !r.used_once(large) {
            return None;
        }
        let operands = r.map_all(&[&of_upsample.operands[..1], &inst.operands[1..]].concat());
        Some(r.b.emit(FusedConv2d { upsample, ..conv }, &operands))
    })
}
