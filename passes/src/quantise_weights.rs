//! Says of weights how they are stored: `linear(x, @w, b)` with `@w` as what [`Settings::types`] says of its name.
//!
//! Legal only for weights, not for matrices that are computed, and only where every use reads that: matrices of linear layers and
//! convolutions, and tables, in any encoding; taps of depthwise convolutions in f16. Anything else reads f32. What `@weights` does with
//! them does not count: it is evaluated when the artifact is made. `w8a8` and the like are no encodings yet: [`crate::quantise_rows`]
//! makes them that.

use std::collections::HashMap;

use fcdm_ir::{Def, Function, Inst, Module, Op, Value};

use crate::pipeline::Settings;

/// Whether it is a product, whose matrix is the second operand.
pub(crate) fn is_product(inst: &Inst) -> bool {
    matches!(inst.op, Op::Linear(_) | Op::Conv2d(_))
}

/// Whether the operand at that place may be stored so.
fn reads(inst: &Inst, at: usize, ty: &str) -> bool {
    match inst.op {
        Op::Linear(_) | Op::Conv2d(_) => at == 1,
        Op::Embedding(_) => at == 0,
        Op::DwConv2d(_) => at == 1 && ty == "f16",
        _ => false,
    }
}

/// The pass.
pub(crate) fn quantise_weights(m: &Module, settings: &Settings<'_>) -> Module {
    let mut types: HashMap<String, Option<String>> = HashMap::new();
    for f in m.functions.iter().filter(|f| f.name() != Module::WEIGHTS) {
        for (v, data) in f.values().filter(|(_, data)| data.def == Def::Weight) {
            let ty = data.stored.clone().or_else(|| (settings.types)(&data.name)).filter(|ty| read_everywhere(f, v, ty));
            // One function that reads f32 is enough.
            let known = types.entry(data.name.clone()).or_insert_with(|| ty.clone());
            *known = known.take().filter(|_| ty.is_some());
        }
    }
    let stored = |f: &Function| f.clone().stored(|weight| types.get(weight).cloned().flatten());
    Module { functions: m.functions.iter().map(stored).collect() }
}

/// Whether every use of a weight reads it so.
fn read_everywhere(f: &Function, w: Value, ty: &str) -> bool {
    let read = |inst: &Inst| inst.operands.iter().enumerate().all(|(at, &v)| v != w || reads(inst, at, ty));
    f.insts().iter().all(read) && !f.results().iter().any(|&(_, r)| r == w)
}
