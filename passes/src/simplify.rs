//! Local identities: an instruction that does nothing is its operand, and two that undo or repeat each other are one.
//!
//! - `reshape`, `transpose`, `broadcast`, `slice`, `scale {by=1}`, `offset {by=0}`, `sum` over extents of 1,
//!   `upsample_nearest`, `avg_pool2d`, `pixel_shuffle`, `pixel_unshuffle` with factor 1 that change nothing -> operand
//! - `reshape(reshape(x))` -> `reshape(x)`; `transpose(transpose(x))` -> `transpose(x)`
//! - `pixel_shuffle(pixel_unshuffle(x))` and the other way round -> `x`, with equal factors
//! - `neg(neg(x))` -> `x`; `relu(relu(x))` -> `relu(x)`
//! - `scale(scale(x))` -> `scale(x)`, unless the product of the factors leaves the range of normal numbers
//! - `x + 0`, `0 + x`, `x - 0`, `x * 1`, `1 * x`, `x / 1` with a `fill` -> `x`
//! - `slice(slice(x))` along one axis -> `slice(x)`
//!
//! Operands are simplified before their users, so chains of any length fall together in one run.

use fcdm_ir::ops::{Fill, Neg, PixelShuffle, PixelUnshuffle, Relu, Reshape, Scale, Slice, Transpose};
use fcdm_ir::{Builder, Function, Inst, Op, Value};

use crate::rewrite::rewrite;

/// The pass.
pub(crate) fn simplify(f: &Function) -> Function {
    rewrite(f, |r, inst| {
        let operands = r.map_all(&inst.operands);
        simplified(&mut r.b, inst.op.clone(), operands)
    })
}

/// The results of `op`, simplified; `None` if there is nothing to simplify.
fn simplified(b: &mut Builder, mut op: Op, mut operands: Vec<Value>) -> Option<Vec<Value>> {
    let mut changed = false;
    while let Some((outer, x)) = merged(b, &op, &operands) {
        (op, operands, changed) = (outer, vec![x], true);
    }
    match nothing(b, &op, &operands) {
        Some(v) => Some(vec![v]),
        None => changed.then(|| b.emit(op, &operands)),
    }
}

/// The instruction of the new function that defines `v`.
fn def(b: &Builder, v: Value) -> Option<&Inst> {
    b.so_far().def_inst(v)
}

/// The value that the instruction merely repeats.
fn nothing(b: &Builder, op: &Op, operands: &[Value]) -> Option<Value> {
    let x = *operands.first()?;
    let shape = &b.ty(x).shape;
    let fill = |v: Value, value: f64| def(b, v).and_then(|i| i.op.get::<Fill>()).is_some_and(|c| c.value == value);
    let inner = |is: &dyn Fn(&Op) -> bool| def(b, x).filter(|i| is(&i.op)).map(|i| i.operands[0]);
    match op {
        Op::Reshape(r) if r.shape == *shape => Some(x),
        Op::Broadcast(r) if r.shape == *shape => Some(x),
        Op::Slice(s) if s.len == shape[s.axis] => Some(x),
        Op::Transpose(t) if t.perm.iter().enumerate().all(|(i, &p)| i == p) => Some(x),
        Op::Sum(s) if s.axes.iter().all(|&a| shape[a] == 1) => Some(x),
        Op::Scale(s) if s.by == 1.0 => Some(x),
        Op::Offset(o) if o.by == 0.0 => Some(x),
        Op::UpsampleNearest(s) if s.factor == 1 => Some(x),
        Op::AvgPool2d(s) if s.size == 1 => Some(x),
        Op::PixelShuffle(s) if s.factor == 1 => Some(x),
        Op::PixelUnshuffle(s) if s.factor == 1 => Some(x),
        Op::PixelShuffle(s) => inner(&|op| op.get::<PixelUnshuffle>().is_some_and(|u| u.factor == s.factor)),
        Op::PixelUnshuffle(s) => inner(&|op| op.get::<PixelShuffle>().is_some_and(|u| u.factor == s.factor)),
        Op::Neg(_) => inner(&|op| op.get::<Neg>().is_some()),
        Op::Relu(_) => def(b, x)?.op.get::<Relu>().map(|_| x),
        Op::Add(_) | Op::Sub(_) if fill(operands[1], 0.0) => Some(x),
        Op::Add(_) if fill(x, 0.0) => Some(operands[1]),
        Op::Mul(_) | Op::Div(_) if fill(operands[1], 1.0) => Some(x),
        Op::Mul(_) if fill(x, 1.0) => Some(operands[1]),
        _ => None,
    }
}

/// The instruction and the one before it as one op of one operand.
fn merged(b: &Builder, op: &Op, operands: &[Value]) -> Option<(Op, Value)> {
    let before = def(b, *operands.first()?)?;
    let x = *before.operands.first()?;
    let op: Op = match (op, &before.op) {
        (Op::Reshape(outer), Op::Reshape(_)) => Reshape { shape: outer.shape.clone() }.into(),
        (Op::Transpose(outer), Op::Transpose(inner)) => Transpose { perm: outer.perm.iter().map(|&p| inner.perm[p]).collect() }.into(),
        (Op::Scale(outer), Op::Scale(inner)) if (outer.by * inner.by).is_normal() => Scale { by: outer.by * inner.by }.into(),
        (Op::Slice(outer), Op::Slice(inner)) if outer.axis == inner.axis => {
            Slice { axis: outer.axis, start: outer.start + inner.start, len: outer.len }.into()
        }
        _ => return None,
    };
    Some((op, x))
}
