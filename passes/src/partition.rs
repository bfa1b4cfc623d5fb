//! Splits a function in two by what its values depend on: an early part, computed once, and a late part that takes
//! the early part's values. Folding of weights and hoisting of the condition are both this.

use fcdm_ir::{Def, Function, Op, Value};

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
