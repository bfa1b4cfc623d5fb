//! What depends on what within a function, and copies of a part of it into a builder: the primitive under the passes and the gradients.

use crate::function::{Builder, Def, Function, Inst, Value};

/// For every value, by index: whether it is, or is computed from, a value for which `seed` holds.
pub fn depends(f: &Function, seed: impl Fn(Value) -> bool) -> Vec<bool> {
    let mut on: Vec<bool> = f.values().map(|(v, _)| seed(v)).collect();
    for inst in f.insts() {
        let any = inst.operands.iter().any(|v| on[v.index()]);
        inst.results.iter().for_each(|r| on[r.index()] |= any);
    }
    on
}

/// For every value, by index: whether it is one of `wanted`, or one of them is computed from it; not through values for which
/// `known` holds.
pub fn needed(f: &Function, wanted: impl IntoIterator<Item = Value>, known: impl Fn(Value) -> bool) -> Vec<bool> {
    let mut need = vec![false; f.value_count()];
    wanted.into_iter().for_each(|v| need[v.index()] = true);
    for inst in f.insts().iter().rev() {
        if inst.results.iter().any(|&r| need[r.index()] && !known(r)) {
            inst.operands.iter().for_each(|v| need[v.index()] = true);
        }
    }
    need
}

/// Copies instructions of one function into a builder: which new value stands for which old one.
pub struct Copier<'a> {
    f: &'a Function,
    map: Vec<Option<Value>>,
}

impl<'a> Copier<'a> {
    /// Nothing copied yet.
    pub fn new(f: &'a Function) -> Self {
        Copier { f, map: vec![None; f.value_count()] }
    }

    /// One for which every input of the old function has been made an input of the new.
    pub fn with_inputs(f: &'a Function, b: &mut Builder) -> Self {
        let mut copier = Copier::new(f);
        for &v in f.inputs() {
            copier.input(b, v);
        }
        copier
    }

    /// The old function.
    pub fn old(&self) -> &'a Function {
        self.f
    }

    /// Lets `new` stand for the old value.
    pub fn bind(&mut self, old: Value, new: Value) {
        self.map[old.index()] = Some(new);
    }

    /// Lets `new` stand for the old value, and carry its name unless that is merely a number.
    pub fn replace(&mut self, b: &mut Builder, old: Value, new: Value) {
        self.bind(old, new);
        let name = &self.f.value(old).name;
        if !name.bytes().all(|c| c.is_ascii_digit()) {
            b.name(new, name);
        }
    }

    /// What stands for an old value, if anything does.
    pub fn get(&self, old: Value) -> Option<Value> {
        self.map[old.index()]
    }

    /// What stands for an old value.
    ///
    /// # Panics
    /// If nothing does: an input that was not bound, or an instruction that was not copied yet.
    pub fn map(&self, old: Value) -> Value {
        self.get(old).unwrap_or_else(|| panic!("nothing stands for %{} yet", self.f.value(old).name))
    }

    /// What stands for old values.
    ///
    /// # Panics
    /// As [`Copier::map`].
    pub fn map_all(&self, old: &[Value]) -> Vec<Value> {
        old.iter().map(|&v| self.map(v)).collect()
    }

    /// Makes an input of the name and type of the old value, which it stands for from here on.
    pub fn input(&mut self, b: &mut Builder, old: Value) -> Value {
        let data = self.f.value(old);
        let new = b.input(&data.name, data.ty.clone());
        self.bind(old, new);
        new
    }

    /// The weight that the old value is.
    pub fn weight(&mut self, b: &mut Builder, old: Value) -> Value {
        let data = self.f.value(old);
        let new = b.weight(&data.name, data.ty.clone());
        b.store(new, data.stored.clone());
        self.bind(old, new);
        new
    }

    /// Copies an instruction, for those of its results for which nothing stands yet.
    ///
    /// # Panics
    /// As [`Copier::map`].
    pub fn emit(&mut self, b: &mut Builder, inst: &Inst) {
        let operands = self.map_all(&inst.operands);
        for (&old, new) in inst.results.iter().zip(b.emit(inst.op.clone(), &operands)) {
            if self.get(old).is_none() {
                self.replace(b, old, new);
            }
        }
    }

    /// The new value for an old one, copying what defines it where nothing stands for it yet.
    ///
    /// # Panics
    /// If it depends on an input to which nothing was bound.
    pub fn copy(&mut self, b: &mut Builder, v: Value) -> Value {
        self.copy_all(b, &[v])[0]
    }

    /// The new values for old ones, copying what defines them, once and in order of definition, where nothing stands for it yet.
    ///
    /// # Panics
    /// If one depends on an input to which nothing was bound.
    pub fn copy_all(&mut self, b: &mut Builder, wanted: &[Value]) -> Vec<Value> {
        let f = self.f;
        let need = needed(f, wanted.iter().copied(), |v| self.get(v).is_some());
        let missing = |copier: &Self, v: Value| need[v.index()] && copier.get(v).is_none();
        for (v, data) in f.values() {
            if data.def == Def::Weight && missing(self, v) {
                self.weight(b, v);
            }
        }
        for inst in f.insts() {
            if inst.results.iter().any(|&r| missing(self, r)) {
                self.emit(b, inst);
            }
        }
        self.map_all(wanted)
    }
}

/// The function without what its results do not depend on, and with identical instructions once; inputs stay whether used or not.
pub fn sweep(f: &Function) -> Function {
    let mut b = Builder::new(f.name());
    let mut copier = Copier::with_inputs(f, &mut b);
    let wanted: Vec<Value> = f.results().iter().map(|&(_, v)| v).collect();
    let new = copier.copy_all(&mut b, &wanted);
    let results = f.results().iter().zip(new).map(|((name, _), v)| (name.clone(), v)).collect();
    b.finish(results)
}
