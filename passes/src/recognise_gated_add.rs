//! `x + gate * h` with a vector per sample and channel -> `gated_add(x, h, gate)`. Legal where the gate is repeated over the
//! positions between. A weight is no gate: it scales a layer, and belongs to its weights.

use fcdm_ir::ops::{GatedAdd, Mul, Reshape};
use fcdm_ir::{Def, Function, Op, Value};

use crate::repeated::{either, per_channel, rows_of};
use crate::rewrite::{Rewriter, rewrite};

/// The pass.
pub(crate) fn recognise_gated_add(f: &Function) -> Function {
    rewrite(f, |r, inst| {
        let Op::Add(_) = &inst.op else { return None };
        let (x, h, gate) = either(&inst.operands).into_iter().find_map(|[x, product]| {
            let factors = r.operands::<Mul>(product)?;
            let gated = |[h, gate]: [Value; 2]| Some((x, h, per_channel(r, gate).filter(|&g| computed(r, g))?));
            either(factors).into_iter().find_map(gated)
        })?;
        let n = r.old().ty(x).shape[0];
        let gate = r.map(gate);
        let gate = rows_of(r, gate, n);
        let (x, h) = (r.map(x), r.map(h));
        Some(r.b.emit(GatedAdd {}, &[x, h, gate]))
    })
}

/// True unless the value is a weight under another shape.
fn computed(r: &Rewriter<'_>, v: Value) -> bool {
    match r.operands::<Reshape>(v) {
        Some(x) => computed(r, x[0]),
        None => r.old().value(v).def != Def::Weight,
    }
}
