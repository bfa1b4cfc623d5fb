//! `gamma (x N) + beta + x` with `N = G / (mean_c G + eps)`, `G = sqrt(sum over positions of x^2)` -> `grn(x, gamma, beta)`, the
//! three terms and the three factors in any order. Legal only where gamma and beta are one vector for all samples.

use fcdm_ir::ops::{Add, Div, Grn, Mul, Reshape, Sqrt, Sum};
use fcdm_ir::{Function, Op, Value};

use crate::repeated::{either, mean_over, per_channel, shifted, unrepeated};
use crate::rewrite::{Rewriter, rewrite};

/// The pass.
pub(crate) fn recognise_grn(f: &Function) -> Function {
    rewrite(f, |r, inst| {
        let Op::Add(_) = &inst.op else { return None };
        let terms = three::<Add>(r, &inst.operands);
        let (x, gamma, beta, eps) = terms.into_iter().find_map(|[x, beta, product]| matched(r, x, beta, product))?;
        let c = r.old().ty(x).channels();
        let [gamma, beta] = [gamma, beta].map(|v| {
            let v = r.map(v);
            r.b.one(Reshape { shape: vec![c] }, &[v])
        });
        let x = r.map(x);
        Some(r.b.emit(Grn { eps }, &[x, gamma, beta]))
    })
}

/// All ways to see `op(a, b)` as three operands of a nest of two such ops, in all orders.
fn three<'a, O: 'a>(r: &Rewriter<'a>, x: &[Value]) -> Vec<[Value; 3]>
where
    &'a O: TryFrom<&'a Op>,
{
    let mut all = Vec::new();
    for [outer, nest] in either(x) {
        for [a, b] in r.operands::<O>(nest).map(either).into_iter().flatten() {
            all.extend([[outer, a, b], [a, outer, b], [a, b, outer]]);
        }
    }
    all
}

/// x, gamma, beta and eps, if the three terms are those of GRN.
fn matched(r: &Rewriter<'_>, x: Value, beta: Value, product: Value) -> Option<(Value, Value, Value, f64)> {
    let beta = vector(r, beta)?;
    let factors = three::<Mul>(r, r.operands::<Mul>(product)?);
    let (gamma, eps) = factors.into_iter().filter(|f| f[0] == x).find_map(|[_, gamma, n]| Some((vector(r, gamma)?, response(r, n, x)?)))?;
    (eps > 0.0).then_some((x, gamma, beta, eps))
}

/// A vector of the channels, the same for all samples.
fn vector(r: &Rewriter<'_>, v: Value) -> Option<Value> {
    let inner = per_channel(r, v)?;
    (r.old().ty(inner).count() == r.old().ty(inner).channels()).then_some(inner)
}

/// eps, if `n` is `G / (mean_c G + eps)` of x.
fn response(r: &Rewriter<'_>, n: Value, x: Value) -> Option<f64> {
    let rank = r.old().ty(x).rank();
    let quotient = r.operands::<Div>(unrepeated(r, n))?;
    let (eps, mean) = shifted(r, unrepeated(r, quotient[1]))?;
    let norm = quotient[0];
    let squares = r.operands::<Sqrt>(norm)?[0];
    let product = r.def::<Sum>(squares).filter(|(sum, _)| sum.axes == [1, 2])?.1.operands[0];
    let of_x = r.operands::<Mul>(product)? == [x, x];
    (rank == 4 && of_x && mean_over(r, mean, &[3])? == norm).then_some(eps)
}
