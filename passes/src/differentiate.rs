//! Reverse-mode differentiation: a function with a result `loss` gets, for every weight that is trained, a result `grad.NAME`: the
//! gradient of the sum of the loss's elements. `-> loss` becomes `-> loss, grad.W1, grad.W2, ..`, in the order of first mention.
//!
//! Legal on every function: gradients are instructions like any others ([`fcdm_ir::vjp`]). One without a result `loss`, or with a result
//! `grad.NAME` already, stays as it is. A weight that the loss does not depend on has gradient zero.

use fcdm_ir::flow::{Copier, sweep};
use fcdm_ir::ops::Fill;
use fcdm_ir::vjp::backward;
use fcdm_ir::{Builder, Function, Value};

use crate::pipeline::Settings;

/// The result that is differentiated.
pub const LOSS: &str = "loss";

/// What the name of a gradient has before the weight's.
pub const GRADIENT: &str = "grad.";

/// The pass.
pub(crate) fn differentiate(f: &Function, settings: &Settings<'_>) -> Function {
    let Some(loss) = f.result(LOSS).filter(|_| !f.results().iter().any(|(name, _)| name.starts_with(GRADIENT))) else {
        return f.clone();
    };
    let mut b = Builder::new(f.name());
    let mut copier = Copier::with_inputs(f, &mut b);
    let wanted: Vec<Value> = f.results().iter().map(|&(_, v)| v).collect();
    let mut results: Vec<(String, Value)> =
        f.results().iter().map(|(name, _)| name.clone()).zip(copier.copy_all(&mut b, &wanted)).collect();
    let trained: Vec<(String, Value)> = f
        .weights()
        .filter(|(_, data)| data.ty.dtype.is_float() && (settings.trained)(&data.name))
        .map(|(v, data)| (data.name.clone(), copier.copy(&mut b, v)))
        .collect();
    let loss = copier.map(loss);
    let one = fill(&mut b, loss, 1.0);
    let weights: Vec<Value> = trained.iter().map(|&(_, v)| v).collect();
    for ((name, weight), grad) in trained.into_iter().zip(backward(&mut b, &[(loss, one)], &weights)) {
        let grad = grad.unwrap_or_else(|| fill(&mut b, weight, 0.0));
        results.push((format!("{GRADIENT}{name}"), grad));
    }
    sweep(&b.finish(results))
}

/// A constant of a value's type.
fn fill(b: &mut Builder, like: Value, value: f64) -> Value {
    let ty = b.ty(like).clone();
    b.one(Fill { value, dtype: ty.dtype, shape: ty.shape }, &[])
}
