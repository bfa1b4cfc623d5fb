//! Constant folding: what depends on weights alone moves to the function `@weights`, which is evaluated at compile
//! time, and its results are weights themselves: `add @b, linear(@beta, @w)` -> `@b.folded`.
//!
//! A bare constant (`fill`) stays where it is: it costs less than a weight. So does a `broadcast`, whose operand is folded: a
//! vector repeated over an image would be as large as the image.

use std::collections::HashSet;

use fcdm_ir::flow::{Copier, depends, sweep};
use fcdm_ir::{Builder, Def, Function, Inst, Module, Op, Value};

use crate::partition::{boundary, crossing_name};

/// The pass.
pub(crate) fn fold_weights(m: &Module) -> Module {
    let mut weights = Weights::of(m);
    let functions: Vec<Function> = m.functions.iter().filter(|f| f.name() != Module::WEIGHTS).map(|f| fold(f, &mut weights)).collect();
    let mut out = Module { functions };
    if !weights.results.is_empty() {
        out.functions.insert(0, weights.b.finish(weights.results));
    }
    out
}

/// The function `@weights` as it grows.
struct Weights {
    b: Builder,
    results: Vec<(String, Value)>,
    taken: HashSet<String>,
}

impl Weights {
    fn of(m: &Module) -> Weights {
        let mut w = Weights { b: Builder::new(Module::WEIGHTS), results: Vec::new(), taken: HashSet::new() };
        for f in &m.functions {
            w.taken.extend(f.weights().map(|(_, d)| d.name.clone()));
        }
        // A result of @weights is taken even while no function refers to it.
        if let Some(f) = m.function(Module::WEIGHTS) {
            let mut copier = Copier::new(f);
            for (name, v) in f.results() {
                let new = copier.copy(&mut w.b, *v);
                w.taken.insert(name.clone());
                w.results.push((name.clone(), new));
            }
        }
        w
    }

    /// The name of the weight that `new` is returned as.
    fn name(&mut self, base: &str, new: Value) -> String {
        if let Some((name, _)) = self.results.iter().find(|(_, v)| *v == new) {
            return name.clone();
        }
        let mut name = format!("{base}.folded");
        let mut k = 1;
        while !self.taken.insert(name.clone()) {
            k += 1;
            name = format!("{base}.folded{k}");
        }
        self.results.push((name.clone(), new));
        name
    }
}

/// The weight that a folded one is named after, the first that it is computed from; any other weight's name as it is.
pub fn folded_from(name: &str) -> &str {
    let origin = name.trim_end_matches(|c: char| c.is_ascii_digit()).strip_suffix(".folded");
    origin.unwrap_or(name)
}

/// The values to be folded: for what a broadcast repeats, that.
fn unrepeated(f: &Function, cut: Vec<Value>) -> Vec<Value> {
    let mut cut: Vec<Value> = cut
        .into_iter()
        .filter_map(|mut v| {
            while let Some(Inst { op: Op::Broadcast(_), operands, .. }) = f.def_inst(v) {
                v = operands[0];
            }
            f.def_inst(v).filter(|i| !matches!(i.op, Op::Fill(_))).map(|_| v)
        })
        .collect();
    cut.sort();
    cut.dedup();
    cut
}

fn fold(f: &Function, weights: &mut Weights) -> Function {
    // What is dead would become a weight that nothing uses.
    let f = &sweep(f);
    let late = depends(f, |v| matches!(f.value(v).def, Def::Input(_)));
    let early: Vec<bool> = late.iter().map(|l| !l).collect();
    let cut = unrepeated(f, boundary(f, &early));
    if cut.is_empty() {
        return f.clone();
    }
    let mut into_weights = Copier::new(f);
    // A weight that is itself a result of @weights is its definition there.
    for (v, data) in f.weights() {
        if let Some((_, new)) = weights.results.iter().find(|(n, _)| *n == data.name) {
            into_weights.bind(v, *new);
        }
    }
    let mut b = Builder::new(f.name());
    let mut rest = Copier::new(f);
    for &v in f.inputs() {
        rest.input(&mut b, v);
    }
    for v in cut {
        let folded = into_weights.copy(&mut weights.b, v);
        let name = weights.name(&crossing_name(f, v), folded);
        let new = b.weight(&name, f.ty(v).clone());
        rest.bind(v, new);
    }
    let results = f.results().iter().map(|(n, v)| (n.clone(), rest.copy(&mut b, *v))).collect();
    b.finish(results)
}
