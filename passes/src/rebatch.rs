//! The same function for another number of rows: `f(x [n,..]) -> y [n,..]` becomes `f(x [rows,..]) -> y [rows,..]`.
//!
//! Legal only if every instruction treats the rows alike and apart, which [`crate::rows`] judges, and every input and result
//! has them; what depends on no input stays as it is, but for constants that are repeated over the rows. Not a pass: it
//! changes what the function takes.

use fcdm_ir::flow::{Copier, sweep};
use fcdm_ir::ops::{Broadcast, Fill, Reshape, Share};
use fcdm_ir::{Builder, Def, Function, Inst, Op, Value};

use crate::rows::{self, Rows};

/// The function at `rows` rows; `None` if that is not known to be legal.
pub fn rebatch(f: &Function, rows: usize) -> Option<Function> {
    let f = &sweep(f);
    let before = *f.ty(*f.inputs().first()?).shape.first()?;
    let known = rows::rows(f, before, |_| true);
    let ported = f.inputs().iter().copied().chain(f.results().iter().map(|(_, v)| *v));
    if rows == 0 || !ported.into_iter().all(|v| known[v.index()] == Rows::Apart) {
        return None;
    }
    let mut b = Builder::new(f.name());
    let mut same = Copier::new(f);
    // Constants of equal rows, with as many as the new function has.
    let mut wide = Copier::new(f);
    for (v, data) in f.values() {
        match data.def {
            Def::Input(_) => same.bind(v, b.input(&data.name, data.ty.with_shape(led(&data.ty.shape, rows)))),
            Def::Weight => {
                let weight = same.weight(&mut b, v);
                widen_single(&mut b, &mut wide, &known, v, weight, rows);
            }
            Def::Result { .. } => {}
        }
    }
    for inst in f.insts() {
        match known[inst.results[0].index()] {
            Rows::Apart => {
                let operands = operands(f, inst, &same, &wide)?;
                for (&old, new) in inst.results.iter().zip(b.try_emit(resized(&inst.op, rows), &operands).ok()?) {
                    same.replace(&mut b, old, new);
                }
            }
            Rows::Constant { alike } => {
                same.emit(&mut b, inst);
                let operands = if alike && before != 1 { operands(f, inst, &same, &wide) } else { None };
                if let Some(new) = operands.and_then(|operands| b.try_emit(resized(&inst.op, rows), &operands).ok()) {
                    inst.results.iter().zip(new).for_each(|(&old, new)| wide.bind(old, new));
                }
                for &v in &inst.results {
                    let copy = same.map(v);
                    widen_single(&mut b, &mut wide, &known, v, copy, rows);
                }
            }
            Rows::Mixed => return None,
        }
    }
    let results = f.results().iter().map(|(n, v)| Some((n.clone(), same.get(*v)?))).collect::<Option<Vec<_>>>()?;
    Some(sweep(&b.finish(results)))
}

/// The operands of an instruction for the other number of rows.
fn operands(f: &Function, inst: &Inst, same: &Copier<'_>, wide: &Copier<'_>) -> Option<Vec<Value>> {
    let operand = |(&v, share): (&Value, Share)| match share {
        Share::Row => wide.get(v).or_else(|| same.get(v)),
        Share::Whole => same.get(v),
    };
    inst.operands.iter().zip(f.rows(inst)?).map(operand).collect()
}

/// Repeats a constant that is a single row, `new`, if every row is to have it and it is not wide yet.
fn widen_single(b: &mut Builder, wide: &mut Copier<'_>, known: &[Rows], v: Value, new: Value, rows: usize) {
    let single = b.ty(new).shape.first() == Some(&1);
    if single && known[v.index()] == (Rows::Constant { alike: true }) && wide.get(v).is_none() {
        let repeated = match b.so_far().def_inst(new).map(|i| i.op.clone()) {
            Some(op @ Op::Fill(_)) => b.one(resized(&op, rows), &[]),
            Some(op @ Op::Broadcast(_)) => {
                let row = b.so_far().def_inst(new).expect("it is a broadcast").operands[0];
                b.one(resized(&op, rows), &[row])
            }
            _ => b.one(Broadcast { shape: led(&b.ty(new).shape.clone(), rows) }, &[new]),
        };
        wide.bind(v, repeated);
    }
}

/// The extents with another number of rows.
fn led(shape: &[usize], rows: usize) -> Vec<usize> {
    [&[rows], &shape[1..]].concat()
}

/// The op for results of that many rows.
fn resized(op: &Op, rows: usize) -> Op {
    match op {
        Op::Reshape(o) => Reshape { shape: led(&o.shape, rows) }.into(),
        Op::Broadcast(o) => Broadcast { shape: led(&o.shape, rows) }.into(),
        Op::Fill(o) => Fill { shape: led(&o.shape, rows), ..o.clone() }.into(),
        other => other.clone(),
    }
}
