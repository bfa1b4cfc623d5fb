//! Splits a network `f(x, t, y)` by dependence on `x`: what does not see the image (timestep MLPs, class tables, all
//! adaLN projections) becomes `@condition(t, y)`, which runs once for all steps of a schedule; the rest becomes
//! `@denoise(x, ...)`, which takes the results.
//!
//! Legal only when row i of every value that crosses is computed from row i of the inputs, and by the same formula for
//! every i: then rows of different steps can be evaluated as one batch of any size. Works on the one function of the
//! module that can be split; two would need two conditions. A value that depends on weights alone does not cross:
//! `fold_weights` runs before.

use fcdm_ir::flow::{Copier, depends, sweep};
use fcdm_ir::{Builder, Def, Function, Module, Value};

use crate::partition::boundary;
use crate::rows::{Rows, rows};

/// Name of the input that is the image.
const IMAGE: &str = "x";
/// Names of the two parts.
const PARTS: [&str; 2] = ["condition", "denoise"];

/// The pass.
pub(crate) fn hoist_condition(m: &Module) -> Module {
    let mut out = m.clone();
    let mut splits = m.functions.iter().enumerate().filter_map(|(at, f)| Some((at, hoist(&sweep(f))?)));
    let (Some((at, parts)), None) = (splits.next(), splits.next()) else { return out };
    let taken = m.functions.iter().enumerate().any(|(i, f)| i != at && PARTS.contains(&f.name()));
    if !taken {
        out.functions.splice(at..=at, parts);
    }
    out
}

fn hoist(f: &Function) -> Option<[Function; 2]> {
    let image = f.inputs().iter().copied().find(|&v| f.value(v).name == IMAGE)?;
    let batch = *f.ty(image).shape.first()?;
    let sees_image = depends(f, |v| v == image);
    let sees_condition = depends(f, |v| matches!(f.value(v).def, Def::Input(_)) && v != image);
    let early: Vec<bool> = sees_image.iter().zip(&sees_condition).map(|(i, c)| !i && *c).collect();
    let cut = boundary(f, &early);
    let known = rows(f, batch, |v| v != image);
    if cut.is_empty() || !cut.iter().all(|v| known[v.index()] == Rows::Apart) {
        return None;
    }

    let mut condition = Builder::new(PARTS[0]);
    let mut copier = Copier::new(f);
    for &v in f.inputs().iter().filter(|&&v| v != image) {
        copier.input(&mut condition, v);
    }
    let outputs: Vec<(String, Value)> = cut.iter().map(|&v| (f.value(v).name.clone(), copier.copy(&mut condition, v))).collect();

    let mut denoise = Builder::new(PARTS[1]);
    let mut copier = Copier::new(f);
    copier.input(&mut denoise, image);
    let late = |v: Value| f.insts().iter().any(|i| !early[i.results[0].index()] && i.operands.contains(&v));
    let returned = |v: Value| f.results().iter().any(|&(_, r)| r == v);
    for &v in f.inputs().iter().filter(|&&v| v != image && (late(v) || returned(v))).chain(&cut) {
        copier.input(&mut denoise, v);
    }
    let results = f.results().iter().map(|(n, v)| (n.clone(), copier.copy(&mut denoise, *v))).collect();
    Some([condition.finish(outputs), denoise.finish(results)])
}
