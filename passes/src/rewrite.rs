//! The one primitive under every pass of a function.

use fcdm_ir::{Builder, Def, Function, Inst, Op, Value};

/// The state of a rewrite: the old function, what it has become so far, and which new value stands for which old.
pub struct Rewriter<'a> {
    old: &'a Function,
    uses: Vec<usize>,
    map: Vec<Option<Value>>,
    /// The function being built.
    pub b: Builder,
}

impl<'a> Rewriter<'a> {
    /// The function that is rewritten.
    pub fn old(&self) -> &'a Function {
        self.old
    }

    /// The instruction of the old function that defines `v`, if its op is an `O`.
    pub fn def<O>(&self, v: Value, is: impl Fn(&Op) -> Option<O>) -> Option<(O, &'a Inst)> {
        let inst = self.old.def_inst(v)?;
        is(&inst.op).map(|op| (op, inst))
    }

    /// True if the old value is used exactly once.
    pub fn used_once(&self, v: Value) -> bool {
        self.uses[v.index()] == 1
    }

    /// The users of an old value, in order.
    pub fn users(&self, v: Value) -> impl Iterator<Item = &'a Inst> {
        self.old.insts().iter().filter(move |i| i.operands.contains(&v))
    }

    /// The new value that stands for an old one.
    ///
    /// # Panics
    /// If the old value is defined later than the instruction being rewritten.
    pub fn map(&self, v: Value) -> Value {
        self.map[v.index()].expect("values are mapped in order of definition")
    }

    /// The new values that stand for old ones.
    pub fn map_all(&self, vs: &[Value]) -> Vec<Value> {
        vs.iter().map(|&v| self.map(v)).collect()
    }
}

/// Walks `f` in order. For every instruction `rule` either emits its replacement (through [`Rewriter::b`], on
/// mapped operands) and returns one new value for each result, or returns `None` to have it copied. Inputs stay,
/// names pass to the values that take over, instructions that nothing needs any more are dropped: before the walk, so
/// that a dead use does not count as a use, and after it.
pub fn rewrite(f: &Function, mut rule: impl FnMut(&mut Rewriter<'_>, &Inst) -> Option<Vec<Value>>) -> Function {
    let f = &sweep(f);
    let mut r = Rewriter { old: f, uses: f.use_counts(), map: vec![None; f.value_count()], b: Builder::new(f.name()) };
    for (v, data) in f.values() {
        r.map[v.index()] = match data.def {
            Def::Input(_) => Some(r.b.input(&data.name, data.ty.clone())),
            Def::Weight => Some(r.b.weight(&data.name, data.ty.clone())),
            Def::Result { .. } => None,
        };
    }
    for inst in f.insts() {
        let new = match rule(&mut r, inst) {
            Some(new) => new,
            None => {
                let operands = r.map_all(&inst.operands);
                r.b.emit(inst.op.clone(), &operands)
            }
        };
        assert_eq!(new.len(), inst.results.len(), "a rule replaces every result of `{}`", inst.op);
        for (&old, new) in inst.results.iter().zip(new) {
            r.map[old.index()] = Some(new);
            keep_name(&mut r.b, f, old, new);
        }
    }
    let results = f.results().iter().map(|(name, v)| (name.clone(), r.map(*v))).collect();
    sweep(&r.b.finish(results))
}

/// Copies what the results depend on, identical instructions once; inputs stay whether used or not.
pub fn sweep(f: &Function) -> Function {
    let mut live = vec![false; f.value_count()];
    for (_, v) in f.results() {
        live[v.index()] = true;
    }
    for inst in f.insts().iter().rev() {
        if inst.results.iter().any(|r| live[r.index()]) {
            inst.operands.iter().for_each(|v| live[v.index()] = true);
        }
    }
    let mut b = Builder::new(f.name());
    let mut map: Vec<Option<Value>> = vec![None; f.value_count()];
    for (v, data) in f.values() {
        map[v.index()] = match data.def {
            Def::Input(_) => Some(b.input(&data.name, data.ty.clone())),
            Def::Weight if live[v.index()] => Some(b.weight(&data.name, data.ty.clone())),
            _ => None,
        };
    }
    let mapped = |map: &[Option<Value>], v: Value| map[v.index()].expect("a live value is mapped before its use");
    for inst in f.insts().iter().filter(|i| i.results.iter().any(|r| live[r.index()])) {
        let operands: Vec<Value> = inst.operands.iter().map(|&v| mapped(&map, v)).collect();
        for (&old, new) in inst.results.iter().zip(b.emit(inst.op.clone(), &operands)) {
            map[old.index()] = Some(new);
            keep_name(&mut b, f, old, new);
        }
    }
    let results = f.results().iter().map(|(name, v)| (name.clone(), mapped(&map, *v))).collect();
    b.finish(results)
}

/// Lets `new` carry the name of `old`, unless `old` was merely numbered.
pub fn keep_name(b: &mut Builder, f: &Function, old: Value, new: Value) {
    let name = &f.value(old).name;
    if !name.bytes().all(|c| c.is_ascii_digit()) {
        b.name(new, name);
    }
}
