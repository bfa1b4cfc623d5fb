//! The same function for another number of rows: `f(x [n,..]) -> y [n,..]` becomes `f(x [rows,..]) -> y [rows,..]`.
//!
//! Legal only if every instruction treats the rows alike and apart, which [`crate::rows`] judges, and every input and result
//! has them; what depends on no input stays as it is, but for constants that are repeated over the rows. Not a pass: it
//! changes what the function takes.

use fcdm_ir::ops::{Broadcast, Fill, Reshape};
use fcdm_ir::{Builder, Def, Function, Inst, Op, Value};

use crate::rewrite::{keep_name, sweep};
use crate::rows::{by_row, constants, rows_alike};

/// The function at `rows` rows; `None` if that is not known to be legal.
pub fn rebatch(f: &Function, rows: usize) -> Option<Function> {
    let f = &sweep(f);
    let before = *f.ty(*f.inputs().first()?).shape.first()?;
    let apart = by_row(f, before, |_| true);
    let ported = f.inputs().iter().copied().chain(f.results().iter().map(|(_, v)| *v));
    if rows == 0 || !ported.into_iter().all(|v| apart[v.index()]) {
        return None;
    }
    let constant = constants(f);
    let mut b = Builder::new(f.name());
    let mut map: Vec<Option<Value>> = vec![None; f.value_count()];
    for (v, data) in f.values() {
        map[v.index()] = match data.def {
            Def::Input(_) => Some(b.input(&data.name, data.ty.with_shape(led(&data.ty.shape, rows)))),
            Def::Weight => Some(b.weight(&data.name, data.ty.clone())),
            Def::Result { .. } => None,
        };
    }
    for inst in f.insts() {
        let of_rows = apart[inst.results[0].index()];
        if !of_rows && !constant[inst.results[0].index()] {
            return None;
        }
        let mut operands = Vec::new();
        for &v in &inst.operands {
            let same = map[v.index()]?;
            let repeated = of_rows && f.ty(v).shape.first() == Some(&before) && rows_alike(f, &constant, v);
            operands.push(if repeated && shares_rows(f, inst, v) { widened(&mut b, f, v, same, rows) } else { same });
        }
        let op = if of_rows { resized(&inst.op, rows) } else { inst.op.clone() };
        let results = b.try_emit(op, &operands).ok()?;
        for (&old, new) in inst.results.iter().zip(results) {
            map[old.index()] = Some(new);
            keep_name(&mut b, f, old, new);
        }
    }
    let results = f.results().iter().map(|(n, v)| Some((n.clone(), map[v.index()]?))).collect::<Option<Vec<_>>>()?;
    Some(sweep(&b.finish(results)))
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
        other => other.clone(),
    }
}

/// True if an instruction takes a constant row by row, as an operand of those that [`rows_alike`] is asked for.
fn shares_rows(f: &Function, inst: &Inst, v: Value) -> bool {
    let weights: &[usize] = match inst.op {
        Op::Linear(_) | Op::LinearGeluSumsq(_) | Op::Conv2d(_) | Op::ConvTranspose2d(_) | Op::DwConv2d(_) => &[1, 2],
        Op::GroupNorm(_) | Op::Grn(_) | Op::DwConvNormModulate(_) => &[1, 2],
        Op::GrnScale(_) => &[1],
        Op::ConcatLinear(_) | Op::ScaleLinearGatedAdd(_) => &[2, 3],
        Op::Embedding(_) => &[0],
        _ => &[],
    };
    debug_assert!(f.ty(v).rank() > 0);
    !weights.iter().any(|&i| inst.operands.get(i) == Some(&v))
}

/// A constant of equal rows with another number of them.
fn widened(b: &mut Builder, f: &Function, v: Value, same: Value, rows: usize) -> Value {
    let shape = led(&f.ty(v).shape, rows);
    match f.def_inst(v).map(|i| &i.op) {
        Some(Op::Fill(o)) => b.one(Fill { shape, ..o.clone() }, &[]),
        _ => {
            // A broadcast of one row, whose operand the builder still has.
            let row = b.so_far().def_inst(same).expect("a broadcast was copied as one").operands[0];
            b.one(Broadcast { shape }, &[row])
        }
    }
}
