//! Values of the forward pass that the backward pass computes once more, in place of keeping them: where an instruction of the backward pass uses
//! the result of a chosen one of the forward pass, it uses that of a copy, whose operands are behind `barrier`s and so are no others'.
//!
//! To the forward pass belongs what a result other than a gradient needs. Legal always: ops are pure. What is worth it is for the settings to say;
//! of those that are not asked, it is what multiplies nothing.

use std::collections::HashMap;

use fcdm_ir::flow::{needed, sweep};
use fcdm_ir::ops::Barrier;
use fcdm_ir::{Def, Function, Inst, Value};

use crate::differentiate::GRADIENT;
use crate::pipeline::Settings;
use crate::rewrite::{Rewriter, rewrite};

/// The pass.
pub(crate) fn recompute(f: &Function, settings: &Settings<'_>) -> Function {
    // As the rewriting below sees it.
    let f = &sweep(f);
    let chosen = candidates(f).map(|inst| inst.results[0]).filter(|&v| f.def_inst(v).is_some_and(|inst| (settings.recomputed)(f, inst)));
    let chosen: Vec<Value> = chosen.collect();
    let forward = forward(f);
    let mut again = Again { chosen: &chosen, copies: HashMap::new(), next: barriers(f) };
    rewrite(f, |r, inst| {
        if is_of(&forward, inst) || !inst.operands.iter().any(|&v| again.is_chosen(r.old(), v)) {
            return None;
        }
        let operands: Vec<Value> = inst.operands.iter().map(|&v| again.value(r, v)).collect();
        Some(r.b.emit(inst.op.clone(), &operands))
    })
}

/// By value: whether a result other than a gradient needs it.
fn forward(f: &Function) -> Vec<bool> {
    let results = f.results().iter().filter(|(name, _)| !name.starts_with(GRADIENT)).map(|&(_, v)| v);
    needed(f, results, |_| false)
}

/// Whether an instruction is of those that values are of.
fn is_of(values: &[bool], inst: &Inst) -> bool {
    inst.results.iter().any(|r| values[r.index()])
}

/// Instructions of the forward pass whose results the backward pass uses.
pub fn candidates(f: &Function) -> impl Iterator<Item = &Inst> {
    let forward = forward(f);
    let mut used = vec![false; f.value_count()];
    for inst in f.insts().iter().filter(|inst| !is_of(&forward, inst)) {
        inst.operands.iter().for_each(|v| used[v.index()] = true);
    }
    f.insts().iter().filter(move |inst| is_of(&forward, inst) && is_of(&used, inst))
}

/// The first number that no barrier has.
fn barriers(f: &Function) -> usize {
    f.insts().iter().filter_map(|inst| inst.op.get::<Barrier>()).map(|b| b.id + 1).max().unwrap_or(0)
}

/// Copies of chosen instructions.
struct Again<'a> {
    /// First results of these.
    chosen: &'a [Value],
    /// New values that stand for old ones in the backward pass.
    copies: HashMap<Value, Value>,
    /// Number of the next barrier.
    next: usize,
}

impl Again<'_> {
    fn is_chosen(&self, f: &Function, v: Value) -> bool {
        f.def_inst(v).is_some_and(|inst| self.chosen.contains(&inst.results[0]))
    }

    /// What stands for an old value in the backward pass: a copy's result, or the value that is kept.
    fn value(&mut self, r: &mut Rewriter<'_>, v: Value) -> Value {
        if let Some(&copy) = self.copies.get(&v) {
            return copy;
        }
        if !self.is_chosen(r.old(), v) {
            return r.map(v);
        }
        // From the operands on, in a loop of its own: chains may be long.
        let mut todo = vec![v];
        while let Some(&v) = todo.last() {
            let f = r.old();
            let inst = f.def_inst(v).expect("chosen values are results");
            let missing = inst.operands.iter().find(|&&x| self.is_chosen(f, x) && !self.copies.contains_key(&x));
            if let Some(&missing) = missing {
                todo.push(missing);
                continue;
            }
            todo.pop();
            let id = self.next;
            self.next += 1;
            let operands: Vec<Value> = inst
                .operands
                .iter()
                .map(|&x| match (self.copies.get(&x), f.value(x).def) {
                    (Some(&copy), _) => copy,
                    (None, Def::Weight) => r.map(x),
                    (None, _) => {
                        let kept = r.map(x);
                        r.b.one(Barrier { id }, &[kept])
                    }
                })
                .collect();
            for (&old, new) in inst.results.iter().zip(r.b.emit(inst.op.clone(), &operands)) {
                self.copies.insert(old, new);
            }
        }
        self.copies[&v]
    }
}
