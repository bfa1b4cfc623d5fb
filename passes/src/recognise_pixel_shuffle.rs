//! Pixel shuffles written as reshape, transpose, reshape -> `pixel_shuffle`, `pixel_unshuffle`. Legal only for PyTorch's order
//! of channels, `(c, dy, dx)`, and equal factors of rows and columns.

use fcdm_ir::ops::{PixelShuffle, PixelUnshuffle, Reshape, Transpose};
use fcdm_ir::{Function, Op};

use crate::rewrite::rewrite;

/// The pass.
pub(crate) fn recognise_pixel_shuffle(f: &Function) -> Function {
    rewrite(f, |r, inst| {
        let Op::Reshape(to) = &inst.op else { return None };
        let (Transpose { perm }, moved) = r.def::<Transpose>(inst.operands[0])?;
        let split = moved.operands[0];
        let x = r.operands::<Reshape>(split)?[0];
        let (from, to) = (&r.old().ty(x).shape[..], &to.shape[..]);
        let &[n, h, w, c] = from else { return None };
        let op: Op = match (&r.old().ty(split).shape[..], &perm[..]) {
            // [N,H,W,C,f,f] -> [N,H,f,W,f,C]
            (&[a, b, d, e, f, g], [0, 1, 4, 2, 5, 3]) if [a, b, d, e * f * g] == [n, h, w, c] && f == g && to == [n, h * f, w * f, e] => {
                PixelShuffle { factor: f }.into()
            }
            // [N,H,f,W,f,C] -> [N,H,W,C,f,f]
            (&[a, b, f, d, g, e], [0, 1, 3, 5, 2, 4]) if [a, b * f, d * g, e] == [n, h, w, c] && f == g && to == [n, b, d, e * f * g] => {
                PixelUnshuffle { factor: f }.into()
            }
            _ => return None,
        };
        let x = r.map(x);
        Some(r.b.emit(op, &[x]))
    })
}
