//! Local identities: an instruction that does nothing is its operand, and two that undo or repeat each other are one.
//!
//! - `reshape`, `transpose`, `broadcast`, `slice`, `scale {by=1}`, `offset {by=0}`, `sum` over extents of 1,
//!   `upsample_nearest`, `avg_pool2d`, `pixel_shuffle`, `pixel_unshuffle` with factor 1 that change nothing -> operand
//! - `reshape(reshape(x))` -> `reshape(x)`; `transpose(transpose(x))` -> `transpose(x)`
//! - `pixel_shuffle(pixel_unshuffle(x))` and the other way round -> `x`, with equal factors
//! - `neg(neg(x))` -> `x`; `scale(scale(x))` -> `scale(x)`; `relu(relu(x))` -> `relu(x)`
//! - `x + 0`, `0 + x`, `x - 0`, `x * 1`, `1 * x`, `x / 1` with a `fill` -> `x`
//! - `slice(slice(x))` along one axis -> `slice(x)`

use fcdm_ir::ops::{Reshape, Scale, Slice, Transpose};
use fcdm_ir::{Function, Inst, Op, Value};

use crate::rewrite::{Rewriter, rewrite};

/// The pass.
pub(crate) fn simplify(f: &Function) -> Function {
    rewrite(f, |r, inst| nothing(r, inst).map(|v| vec![r.map(v)]).or_else(|| merged(r, inst)))
}

/// The old value that the instruction merely repeats.
fn nothing(r: &Rewriter<'_>, inst: &Inst) -> Option<Value> {
    let f = r.old();
    let x = *inst.operands.first()?;
    let unchanged = inst.results.len() == 1 && f.ty(inst.results[0]) == f.ty(x);
    let fill = |v: Value, value: f64| f.def_inst(v).is_some_and(|i| matches!(&i.op, Op::Fill(c) if c.value == value));
    let inner = |is: &dyn Fn(&Op) -> bool| f.def_inst(x).filter(|i| is(&i.op)).map(|i| i.operands[0]);
    match &inst.op {
        Op::Reshape(_) | Op::Broadcast(_) | Op::Slice(_) if unchanged => Some(x),
        Op::Transpose(t) if t.perm.iter().enumerate().all(|(i, &p)| i == p) => Some(x),
        Op::Sum(s) if s.axes.iter().all(|&a| f.ty(x).shape[a] == 1) => Some(x),
        Op::Scale(s) if s.by == 1.0 => Some(x),
        Op::Offset(o) if o.by == 0.0 => Some(x),
        Op::UpsampleNearest(_) | Op::AvgPool2d(_) | Op::PixelShuffle(_) | Op::PixelUnshuffle(_) if unchanged => Some(x),
        Op::PixelShuffle(s) => inner(&|op| matches!(op, Op::PixelUnshuffle(u) if u.factor == s.factor)),
        Op::PixelUnshuffle(s) => inner(&|op| matches!(op, Op::PixelShuffle(u) if u.factor == s.factor)),
        Op::Neg(_) => inner(&|op| matches!(op, Op::Neg(_))),
        Op::Relu(_) if f.def_inst(x).is_some_and(|i| matches!(i.op, Op::Relu(_))) => Some(x),
        Op::Add(_) | Op::Sub(_) if fill(inst.operands[1], 0.0) => Some(x),
        Op::Add(_) if fill(x, 0.0) => Some(inst.operands[1]),
        Op::Mul(_) | Op::Div(_) if fill(inst.operands[1], 1.0) => Some(x),
        Op::Mul(_) if fill(x, 1.0) => Some(inst.operands[1]),
        _ => None,
    }
}

/// The instruction and the one before it as one.
fn merged(r: &mut Rewriter<'_>, inst: &Inst) -> Option<Vec<Value>> {
    let f = r.old();
    let before = f.def_inst(*inst.operands.first()?)?;
    let x = *before.operands.first()?;
    let op: Op = match (&inst.op, &before.op) {
        (Op::Reshape(a), Op::Reshape(_)) => Reshape { shape: a.shape.clone() }.into(),
        (Op::Transpose(a), Op::Transpose(b)) => Transpose { perm: a.perm.iter().map(|&p| b.perm[p]).collect() }.into(),
        (Op::Scale(a), Op::Scale(b)) => Scale { by: a.by * b.by }.into(),
        (Op::Slice(a), Op::Slice(b)) if a.axis == b.axis => Slice { axis: a.axis, start: a.start + b.start, len: a.len }.into(),
        _ => return None,
    };
    let x = r.map(x);
    Some(r.b.emit(op, &[x]))
}
