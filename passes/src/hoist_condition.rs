//! Splits a network `f(x, t, y)` by dependence on `x`: what does not see the image (timestep MLPs, class tables, all
//! adaLN projections) becomes `@condition(t, y)`, which runs once for all steps of a schedule; the rest becomes
//! `@denoise(x, ...)`, which takes the results.
//!
//! Legal only when every value that crosses has one row per row of x, so that rows of different steps can be
//! evaluated as one batch. A value that depends on weights alone does not cross as such: `fold_weights` runs before.

use fcdm_ir::{Builder, Def, Function, Module, Value};

use crate::partition::{Copier, boundary, depends};

/// Name of the input that is the image.
const IMAGE: &str = "x";

/// The pass.
pub(crate) fn hoist_condition(m: &Module) -> Module {
    let functions = m.functions.iter().flat_map(|f| hoist(f).unwrap_or_else(|| vec![f.clone()])).collect();
    Module { functions }
}

fn hoist(f: &Function) -> Option<Vec<Function>> {
    let image = f.inputs().iter().copied().find(|&v| f.value(v).name == IMAGE)?;
    let rows = *f.ty(image).shape.first()?;
    let sees_image = depends(f, |v| v == image);
    let sees_condition = depends(f, |v| matches!(f.value(v).def, Def::Input(_)) && v != image);
    let early: Vec<bool> = sees_image.iter().zip(&sees_condition).map(|(i, c)| !i && *c).collect();
    let cut = boundary(f, &early);
    if cut.is_empty() || cut.iter().any(|&v| f.ty(v).shape.first() != Some(&rows)) {
        return None;
    }

    let mut condition = Builder::new("condition");
    let mut copier = Copier::new(f);
    for &v in f.inputs().iter().filter(|&&v| v != image) {
        let data = f.value(v);
        let new = condition.input(&data.name, data.ty.clone());
        copier.bind(v, new);
    }
    let outputs: Vec<(String, Value)> = cut.iter().map(|&v| (f.value(v).name.clone(), copier.copy(&mut condition, v))).collect();

    let mut denoise = Builder::new("denoise");
    let mut copier = Copier::new(f);
    let new = denoise.input(IMAGE, f.ty(image).clone());
    copier.bind(image, new);
    let late = |v: Value| f.insts().iter().any(|i| !early[i.results[0].index()] && i.operands.contains(&v));
    let returned = |v: Value| f.results().iter().any(|&(_, r)| r == v);
    for &v in f.inputs().iter().filter(|&&v| v != image && (late(v) || returned(v))).chain(&cut) {
        let data = f.value(v);
        let new = denoise.input(&data.name, data.ty.clone());
        copier.bind(v, new);
    }
    let results = f.results().iter().map(|(n, v)| (n.clone(), copier.copy(&mut denoise, *v))).collect();
    Some(vec![condition.finish(outputs), denoise.finish(results)])
}
