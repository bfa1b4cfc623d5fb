//! Reverse-mode gradients of what a builder holds, as more instructions of the same builder.
//!
//! A cotangent is `None` where it is zero for certain; sums of cotangents are `add`s.

use crate::flow::{Copier, depends};
use crate::function::{Builder, Value};
use crate::ops::{Add, Fill};
use crate::types::TypeError;

/// Given the cotangents of some values, `(value, cotangent)`, the cotangents of the values `wrt`: the sums over all paths
/// through the instructions emitted so far. `None` for a value that none of them depends on differentiably.
///
/// An instruction that depends on none of `wrt` is not differentiated. One that does emits the cotangents of all its operands;
/// those that are not needed are left for the removal of dead code.
pub fn backward(b: &mut Builder, cotangents: &[(Value, Value)], wrt: &[Value]) -> Vec<Option<Value>> {
    let active = depends(b.so_far(), |v| wrt.contains(&v));
    let mut sums: Vec<Option<Value>> = vec![None; b.so_far().value_count()];
    // Counted before the cotangents of a value given twice are added up: that sum is not to be differentiated.
    let insts = b.so_far().insts().len();
    for &(v, dv) in cotangents {
        accumulate(b, &mut sums[v.index()], dv);
    }
    for i in (0..insts).rev() {
        let inst = &b.so_far().insts()[i];
        let reached = inst.results.iter().any(|r| sums[r.index()].is_some());
        if !reached || !inst.results.iter().any(|r| active[r.index()]) {
            continue;
        }
        let inst = inst.clone();
        let dy: Vec<Value> = inst.results.iter().map(|&r| sums[r.index()].unwrap_or_else(|| zeros(b, r))).collect();
        for (&x, dx) in inst.operands.iter().zip(inst.op.grad(b, &inst.operands, &inst.results, &dy)) {
            if let Some(dx) = dx.filter(|_| active[x.index()]) {
                accumulate(b, &mut sums[x.index()], dx);
            }
        }
    }
    wrt.iter().map(|v| sums[v.index()]).collect()
}

/// The vector-Jacobian product of `expand`, for an op that is defined by its expansion. The expansion is differentiated in a function
/// of its own, where its operands are distinct inputs, and only what the cotangents of `x` need is copied into `b`.
///
/// # Panics
/// If `expand` refuses operands of these types.
pub fn through(
    b: &mut Builder,
    x: &[Value],
    dy: &[Value],
    expand: impl FnOnce(&mut Builder, &[Value]) -> Result<Vec<Value>, TypeError>,
) -> Vec<Option<Value>> {
    let mut inner = Builder::new("gradient");
    let inputs: Vec<Value> = x.iter().map(|&v| inner.input("x", b.ty(v).clone())).collect();
    let seeds: Vec<Value> = dy.iter().map(|&v| inner.input("dy", b.ty(v).clone())).collect();
    let results = expand(&mut inner, &inputs).expect("the operands obey the op's shape rule");
    let cotangents: Vec<(Value, Value)> = results.into_iter().zip(seeds).collect();
    let grads = backward(&mut inner, &cotangents, &inputs);
    let inner = inner.so_far();
    let mut copier = Copier::new(inner);
    inner.inputs().iter().zip(x.iter().chain(dy)).for_each(|(&v, &outer)| copier.bind(v, outer));
    let wanted: Vec<Value> = grads.iter().flatten().copied().collect();
    copier.copy_all(b, &wanted);
    grads.into_iter().map(|v| v.map(|v| copier.map(v))).collect()
}

fn accumulate(b: &mut Builder, sum: &mut Option<Value>, more: Value) {
    *sum = Some(match *sum {
        Some(s) => b.one(Add {}, &[s, more]),
        None => more,
    });
}

fn zeros(b: &mut Builder, like: Value) -> Value {
    let ty = b.ty(like).clone();
    b.one(Fill { value: 0.0, dtype: ty.dtype, shape: ty.shape }, &[])
}
