//! Splits a function in two by what its values depend on: an early part, computed once, and a late part that takes
//! the early part's values. Folding of weights and hoisting of the condition are both this.

use fcdm_ir::{Builder, Def, Function, Op, Value};

use crate::rewrite::keep_name;

/// For every value, by index: whether it depends on a value for which `seed` holds.
pub fn depends(f: &Function, seed: impl Fn(Value) -> bool) -> Vec<bool> {
    let mut on: Vec<bool> = f.values().map(|(v, _)| seed(v)).collect();
    for inst in f.insts() {
        let any = inst.operands.iter().any(|v| on[v.index()]);
        inst.results.iter().for_each(|r| on[r.index()] |= any);
    }
    on
}

/// The values that cross from early to late, in order of definition: results of early instructions that a late
/// instruction uses or the function returns. A constant never crosses: both sides can make it.
pub fn boundary(f: &Function, early: &[bool]) -> Vec<Value> {
    let crosses = |v: Value| early[v.index()] && f.def_inst(v).is_some_and(|i| !matches!(i.op, Op::Fill(_)));
    let late = f.insts().iter().filter(|i| !early[i.results[0].index()]);
    let used = late.flat_map(|i| i.operands.iter().copied()).chain(f.results().iter().map(|&(_, v)| v));
    let mut cut: Vec<Value> = used.filter(|&v| crosses(v)).collect();
    cut.sort();
    cut.dedup();
    cut
}

/// Copies instructions of one function into a builder.
pub struct Copier<'a> {
    f: &'a Function,
    map: Vec<Option<Value>>,
}

impl<'a> Copier<'a> {
    /// Nothing copied yet.
    pub fn new(f: &'a Function) -> Self {
        Copier { f, map: vec![None; f.value_count()] }
    }

    /// Lets `new` stand for the old value.
    pub fn bind(&mut self, old: Value, new: Value) {
        self.map[old.index()] = Some(new);
    }

    /// Makes an input of the name and type of the old value, which it stands for from here on.
    pub fn input(&mut self, b: &mut Builder, old: Value) -> Value {
        let data = self.f.value(old);
        let new = b.input(&data.name, data.ty.clone());
        self.bind(old, new);
        new
    }

    /// The new value for an old one, copying what defines it, in order of definition, where nothing stands for it yet.
    ///
    /// # Panics
    /// If it depends on an input to which nothing was bound.
    pub fn copy(&mut self, b: &mut Builder, v: Value) -> Value {
        let mut need = vec![false; self.f.value_count()];
        need[v.index()] = true;
        for inst in self.f.insts().iter().rev() {
            if inst.results.iter().any(|r| need[r.index()] && self.map[r.index()].is_none()) {
                inst.operands.iter().for_each(|o| need[o.index()] = true);
            }
        }
        for (w, data) in self.f.weights().filter(|(w, _)| need[w.index()]) {
            if self.map[w.index()].is_none() {
                self.map[w.index()] = Some(b.weight(&data.name, data.ty.clone()));
            }
        }
        for inst in self.f.insts() {
            if inst.results.iter().any(|r| need[r.index()] && self.map[r.index()].is_none()) {
                self.emit(b, inst);
            }
        }
        self.map[v.index()].unwrap_or_else(|| panic!("%{} depends on an unbound input", self.f.value(v).name))
    }

    fn emit(&mut self, b: &mut Builder, inst: &fcdm_ir::Inst) {
        let bound = |v: &Value| self.map[v.index()].unwrap_or_else(|| panic!("%{} is an unbound input", self.f.value(*v).name));
        let operands: Vec<Value> = inst.operands.iter().map(bound).collect();
        for (&old, new) in inst.results.iter().zip(b.emit(inst.op.clone(), &operands)) {
            if self.map[old.index()].is_none() {
                self.map[old.index()] = Some(new);
                keep_name(b, self.f, old, new);
            }
        }
    }
}

/// The name under which a value crosses: its own, or, if it is merely numbered, that of the first weight it is
/// computed from, or `value`.
pub fn crossing_name(f: &Function, v: Value) -> String {
    let data = f.value(v);
    if data.def == Def::Weight || !data.name.bytes().all(|c| c.is_ascii_digit()) {
        return data.name.clone();
    }
    let mut todo = vec![v];
    while let Some(v) = todo.pop() {
        let data = f.value(v);
        if data.def == Def::Weight {
            return data.name.clone();
        }
        if let Some(inst) = f.def_inst(v) {
            todo.extend(inst.operands.iter().rev());
        }
    }
    "value".to_owned()
}
