//! `x * (1 + scale) + shift` with vectors per sample and channel -> `modulate(x, shift, scale)`. Legal where both are repeated
//! over the positions between.

use fcdm_ir::ops::{Modulate, Mul};
use fcdm_ir::{Function, Op};

use crate::repeated::{either, per_channel, rows_of, shifted};
use crate::rewrite::rewrite;

/// The pass.
pub(crate) fn recognise_modulate(f: &Function) -> Function {
    rewrite(f, |r, inst| {
        let Op::Add(_) = &inst.op else { return None };
        let (x, scale, shift) = either(&inst.operands).into_iter().find_map(|[product, shift]| {
            let shift = per_channel(r, shift)?;
            let factors = r.operands::<Mul>(product)?;
            either(factors).into_iter().find_map(|[x, factor]| {
                let (by, scale) = shifted(r, per_channel(r, factor)?)?;
                (by == 1.0).then_some((x, scale, shift))
            })
        })?;
        let n = r.old().ty(x).shape[0];
        let [shift, scale] = [shift, scale].map(|v| {
            let v = r.map(v);
            rows_of(r, v, n)
        });
        let x = r.map(x);
        Some(r.b.emit(Modulate {}, &[x, shift, scale]))
    })
}
