//! `x/2 (1 + erf(x / sqrt 2))` in the orders in which exporters write it -> `gelu(x)`:
//!
//! - `(x * (erf(..) + 1)) / 2`
//! - `(x / 2) * (erf(..) + 1)`
//! - `x * ((erf(..) + 1) / 2)`, and with the half multiplied out
//!
//! Legal only where the constants are those of the formula, to the precision of f32.

use std::f64::consts::FRAC_1_SQRT_2;

use fcdm_ir::ops::{Erf, Gelu, Mul};
use fcdm_ir::{Function, Op, Value};

use crate::repeated::{close, either, scaled, shifted};
use crate::rewrite::{Rewriter, rewrite};

/// The pass.
pub(crate) fn recognise_gelu(f: &Function) -> Function {
    rewrite(f, |r, inst| {
        let x = match &inst.op {
            Op::Scale(o) if close(o.by, 0.5) => {
                let product = r.operands::<Mul>(inst.operands[0])?;
                either(product).into_iter().find_map(|[x, sum]| (doubled(r, sum)? == x).then_some(x))
            }
            Op::Mul(_) => either(&inst.operands).into_iter().find_map(|[a, b]| halved(r, a, b)),
            _ => None,
        }?;
        let x = r.map(x);
        Some(r.b.emit(Gelu {}, &[x]))
    })
}

/// `erf(x / sqrt 2)`: x.
fn error_function(r: &Rewriter<'_>, v: Value) -> Option<Value> {
    let (by, x) = scaled(r, r.operands::<Erf>(v)?[0])?;
    close(by, FRAC_1_SQRT_2).then_some(x)
}

/// `erf(x / sqrt 2) + 1`: x.
fn doubled(r: &Rewriter<'_>, v: Value) -> Option<Value> {
    let (by, inner) = shifted(r, v)?;
    if by == 1.0 { error_function(r, inner) } else { None }
}

/// `a b` with the half in either factor.
fn halved(r: &Rewriter<'_>, a: Value, b: Value) -> Option<Value> {
    let half = |v: Value| scaled(r, v).filter(|(by, _)| close(*by, 0.5)).map(|(_, x)| x);
    if let (Some(x), Some(of)) = (half(a), doubled(r, b)) {
        return (x == of).then_some(x);
    }
    let distribution = match half(b) {
        Some(sum) => doubled(r, sum),
        None => shifted(r, b).filter(|(by, _)| close(*by, 0.5)).and_then(|(_, inner)| error_function(r, half(inner)?)),
    };
    (distribution? == a).then_some(a)
}
