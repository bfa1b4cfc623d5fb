//! `(x - mean) / sqrt(mean((x - mean)^2) + eps)` over the last axis -> `layer_norm(x)`; also multiplied by the reciprocal of
//! the root. Legal only where both means are over the last axis alone and eps is positive.

use fcdm_ir::ops::{Div, Fill, LayerNorm, Mul, Sqrt, Sub};
use fcdm_ir::{Function, Op, Value};

use crate::repeated::{either, mean_over, shifted, unrepeated};
use crate::rewrite::{Rewriter, rewrite};

/// The pass.
pub(crate) fn recognise_layer_norm(f: &Function) -> Function {
    rewrite(f, |r, inst| {
        let found = match &inst.op {
            Op::Div(_) => normalised(r, inst.operands[0], unrepeated(r, inst.operands[1])),
            Op::Mul(_) => either(&inst.operands).into_iter().find_map(|[c, s]| normalised(r, c, reciprocal(r, unrepeated(r, s))?)),
            _ => None,
        };
        let (x, eps) = found?;
        let x = r.map(x);
        Some(r.b.emit(LayerNorm { eps }, &[x]))
    })
}

/// `1 / v`: v.
fn reciprocal(r: &Rewriter<'_>, v: Value) -> Option<Value> {
    let quotient = r.operands::<Div>(v)?;
    let one = r.def::<Fill>(quotient[0]).filter(|(fill, _)| fill.value == 1.0);
    one.map(|_| unrepeated(r, quotient[1]))
}

/// The value that `centred` is, less its mean, and eps, if `deviation` is its deviation.
fn normalised(r: &Rewriter<'_>, centred: Value, deviation: Value) -> Option<(Value, f64)> {
    let last = r.old().ty(centred).rank().checked_sub(1)?;
    let difference = r.operands::<Sub>(centred)?;
    let x = difference[0];
    let mean = mean_over(r, unrepeated(r, difference[1]), &[last])?;
    let guarded = r.operands::<Sqrt>(deviation)?[0];
    let (eps, variance) = shifted(r, guarded)?;
    let square = mean_over(r, variance, &[last])?;
    let of_centred = r.operands::<Mul>(square)? == [centred, centred];
    (mean == x && of_centred && eps > 0.0).then_some((x, eps))
}
