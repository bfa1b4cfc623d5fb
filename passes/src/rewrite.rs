//! The one primitive under every pass of a function.

use fcdm_ir::flow::{Copier, sweep};
use fcdm_ir::{Builder, Def, Function, Inst, Op, Value};

/// The state of a rewrite: the old function, what it has become so far, and which new value stands for which old.
pub struct Rewriter<'a> {
    copier: Copier<'a>,
    uses: Vec<usize>,
    /// The function being built.
    pub b: Builder,
}

impl<'a> Rewriter<'a> {
    /// The function that is rewritten.
    pub fn old(&self) -> &'a Function {
        self.copier.old()
    }

    /// The op of the old function that defines `v`, and its instruction, if it is an `O`.
    pub fn def<O>(&self, v: Value) -> Option<(&'a O, &'a Inst)>
    where
        &'a O: TryFrom<&'a Op>,
    {
        let inst = self.old().def_inst(v)?;
        Some((inst.op.get()?, inst))
    }

    /// The operands of the instruction that defines an old value, if it is an `O`.
    pub fn operands<O: 'a>(&self, v: Value) -> Option<&'a [Value]>
    where
        &'a O: TryFrom<&'a Op>,
    {
        self.def::<O>(v).map(|(_, inst)| &inst.operands[..])
    }

    /// True if the old value is used exactly once.
    pub fn used_once(&self, v: Value) -> bool {
        self.uses[v.index()] == 1
    }

    /// The users of an old value, in order.
    pub fn users(&self, v: Value) -> impl Iterator<Item = &'a Inst> {
        self.old().insts().iter().filter(move |i| i.operands.contains(&v))
    }

    /// The new value that stands for an old one.
    ///
    /// # Panics
    /// If the old value is defined later than the instruction being rewritten.
    pub fn map(&self, v: Value) -> Value {
        self.copier.map(v)
    }

    /// The new values that stand for old ones.
    pub fn map_all(&self, vs: &[Value]) -> Vec<Value> {
        self.copier.map_all(vs)
    }
}

/// Walks `f` in order. For every instruction `rule` either emits its replacement (through [`Rewriter::b`], on
/// mapped operands) and returns one new value for each result, or returns `None` to have it copied. Inputs stay,
/// names pass to the values that take over, instructions that nothing needs any more are dropped: before the walk, so
/// that a dead use does not count as a use, and after it.
pub fn rewrite(f: &Function, mut rule: impl FnMut(&mut Rewriter<'_>, &Inst) -> Option<Vec<Value>>) -> Function {
    let f = &sweep(f);
    let mut b = Builder::new(f.name());
    let mut copier = Copier::new(f);
    for (v, data) in f.values() {
        match data.def {
            Def::Input(_) => copier.input(&mut b, v),
            Def::Weight => copier.weight(&mut b, v),
            Def::Result { .. } => continue,
        };
    }
    let mut r = Rewriter { copier, uses: f.use_counts(), b };
    for inst in f.insts() {
        let Some(new) = rule(&mut r, inst) else {
            r.copier.emit(&mut r.b, inst);
            continue;
        };
        assert_eq!(new.len(), inst.results.len(), "a rule replaces every result of `{}`", inst.op);
        for (&old, new) in inst.results.iter().zip(new) {
            r.copier.replace(&mut r.b, old, new);
        }
    }
    let results = f.results().iter().map(|(name, v)| (name.clone(), r.map(*v))).collect();
    sweep(&r.b.finish(results))
}
