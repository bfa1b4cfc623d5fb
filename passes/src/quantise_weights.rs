//! Says of the weights of products how they are stored: `linear(x, @w, b)` with `@w` as what [`Settings::types`] says of its name.
//!
//! Legal only for weights, not for matrices that are computed, and only where every use is as the matrix of a linear layer or a
//! convolution: anything else reads values. What `@weights` does with them does not count: it is evaluated when the artifact is made.
//! `w8a8` and the like are no encodings yet: [`crate::quantise_rows`] makes them that.

use std::collections::HashMap;

use fcdm_ir::ops::{Conv2d, Linear};
use fcdm_ir::{Def, Function, Inst, Module, Value};

use crate::pipeline::Settings;

/// Whether it is a product, whose matrix is the second operand.
pub(crate) fn is_product(inst: &Inst) -> bool {
    inst.op.get::<Linear>().is_some() || inst.op.get::<Conv2d>().is_some()
}

/// The pass.
pub(crate) fn quantise_weights(m: &Module, settings: &Settings<'_>) -> Module {
    let mut types: HashMap<String, Option<String>> = HashMap::new();
    for f in m.functions.iter().filter(|f| f.name() != Module::WEIGHTS) {
        for (v, data) in f.values().filter(|(_, data)| data.def == Def::Weight) {
            let ty = data.stored.clone().or_else(|| (settings.types)(&data.name)).filter(|_| multiplies_alone(f, v));
            // One function that reads values is enough.
            let known = types.entry(data.name.clone()).or_insert_with(|| ty.clone());
            *known = known.take().filter(|_| ty.is_some());
        }
    }
    let stored = |f: &Function| f.clone().stored(|weight| types.get(weight).cloned().flatten());
    Module { functions: m.functions.iter().map(stored).collect() }
}

/// Whether every use of a weight is as a product's matrix.
fn multiplies_alone(f: &Function, w: Value) -> bool {
    let matrix = |inst: &Inst| is_product(inst) && inst.operands.iter().enumerate().all(|(at, &v)| v != w || at == 1);
    f.insts().iter().filter(|inst| inst.operands.contains(&w)).all(matrix) && !f.results().iter().any(|&(_, r)| r == w)
}
