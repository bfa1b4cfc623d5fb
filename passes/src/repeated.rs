//! What the recognisers share: vectors that are repeated over the positions of an image, as exporters write an operand per
//! channel: `broadcast(v [N,1,..,1,C])`.

use fcdm_ir::Value;
use fcdm_ir::ops::{Broadcast, Offset, Reshape, Scale, Sum};

use crate::rewrite::Rewriter;

/// An old value `[M,1,..,1,C]` whose broadcast an old value `[N,..,C]` is, `M` being N or 1.
pub fn per_channel(r: &Rewriter<'_>, v: Value) -> Option<Value> {
    let (_, inst) = r.def::<Broadcast>(v)?;
    let (from, to) = (&r.old().ty(inst.operands[0]).shape, &r.old().ty(v).shape);
    let last = from.len().checked_sub(1).filter(|&last| last >= 1)?;
    let positions = from[1..last].iter().all(|&d| d == 1);
    (positions && from[last] == to[last]).then_some(inst.operands[0])
}

/// A value `[M,1,..,1,C]` of the new function as `[N,C]`.
pub fn rows_of(r: &mut Rewriter<'_>, v: Value, n: usize) -> Value {
    let (m, c) = (r.b.ty(v).shape[0], r.b.ty(v).channels());
    let flat = r.b.one(Reshape { shape: vec![m, c] }, &[v]);
    if m == n { flat } else { r.b.one(Broadcast { shape: vec![n, c] }, &[flat]) }
}

/// The operands in both orders.
pub fn either(x: &[Value]) -> [[Value; 2]; 2] {
    [[x[0], x[1]], [x[1], x[0]]]
}

/// The operand of `scale` and its factor.
pub fn scaled(r: &Rewriter<'_>, v: Value) -> Option<(f64, Value)> {
    r.def::<Scale>(v).map(|(scale, inst)| (scale.by, inst.operands[0]))
}

/// The operand of `offset` and what is added.
pub fn shifted(r: &Rewriter<'_>, v: Value) -> Option<(f64, Value)> {
    r.def::<Offset>(v).map(|(offset, inst)| (offset.by, inst.operands[0]))
}

/// The operand whose mean over exactly those axes a value is, extents 1 kept.
pub fn mean_over(r: &Rewriter<'_>, v: Value, axes: &[usize]) -> Option<Value> {
    let (by, sum) = scaled(r, v)?;
    let (_, inst) = r.def::<Sum>(sum).filter(|(sum, _)| sum.axes == axes)?;
    let x = inst.operands[0];
    let count: usize = axes.iter().map(|&a| r.old().ty(x).shape[a]).product();
    close(by * count as f64, 1.0).then_some(x)
}

/// A value itself, or what it is the broadcast of.
pub fn unrepeated(r: &Rewriter<'_>, v: Value) -> Value {
    r.operands::<Broadcast>(v).map_or(v, |x| x[0])
}

/// Equal but for the rounding of a constant to f32.
pub fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 2e-7 * b.abs()
}
