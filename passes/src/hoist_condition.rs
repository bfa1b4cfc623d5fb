//! Splits a network `f(x, t, y)` by dependence on `x`: what does not see the image (timestep MLPs, class tables, all
//! adaLN projections) becomes `@condition(t, y)`, which runs once for all steps of a schedule; the rest becomes
//! `@denoise(x, ...)`, which takes the results.
//!
//! Legal only when row i of every value that crosses is computed from row i of the inputs, and by the same formula for
//! every i: then rows of different steps can be evaluated as one batch of any size. Works on the one function of the
//! module that can be split; two would need two conditions. A value that depends on weights alone does not cross:
//! `fold_weights` runs before.

use fcdm_ir::{Builder, Def, Function, Inst, Module, Op, Value};

use crate::partition::{Copier, boundary, depends};
use crate::rewrite::sweep;

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
    let rows = *f.ty(image).shape.first()?;
    let sees_image = depends(f, |v| v == image);
    let sees_condition = depends(f, |v| matches!(f.value(v).def, Def::Input(_)) && v != image);
    let early: Vec<bool> = sees_image.iter().zip(&sees_condition).map(|(i, c)| !i && *c).collect();
    let cut = boundary(f, &early);
    let by_row = by_row(f, image, rows);
    if cut.is_empty() || !cut.iter().all(|v| by_row[v.index()]) {
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

/// For every value, by index: whether its row i depends on row i of the inputs other than the image, in the same way
/// for every i. What is not known to be so is not.
fn by_row(f: &Function, image: Value, rows: usize) -> Vec<bool> {
    let leads = |v: Value| f.ty(v).shape.first() == Some(&rows);
    let mut by_row: Vec<bool> = f.values().map(|(v, d)| matches!(d.def, Def::Input(_)) && v != image && leads(v)).collect();
    let constant: Vec<bool> = depends(f, |v| matches!(f.value(v).def, Def::Input(_))).iter().map(|on| !on).collect();
    for inst in f.insts() {
        if keeps_rows(f, inst, &by_row, &constant) && inst.results.iter().all(|&v| leads(v)) {
            inst.results.iter().for_each(|v| by_row[v.index()] = true);
        }
    }
    by_row
}

fn keeps_rows(f: &Function, inst: &Inst, by_row: &[bool], constant: &[bool]) -> bool {
    let x = &inst.operands;
    let row = |v: &Value| by_row[v.index()];
    // A constant other than `fill` may hold another number in every row.
    let alike = |v: &Value| row(v) || f.def_inst(*v).is_some_and(|i| matches!(i.op, Op::Fill(_)));
    let any = x.iter().any(row);
    match &inst.op {
        Op::Linear(_) => row(&x[0]) && f.ty(x[0]).rank() > 1 && x[1..].iter().all(|v| constant[v.index()]),
        Op::Embedding(_) => constant[x[0].index()] && row(&x[1]),
        Op::TimestepEmbedding(_) | Op::OneHot(_) => any,
        Op::LayerNorm(_) | Op::Softmax(_) => any && f.ty(x[0]).rank() > 1,
        Op::Neg(_) | Op::Scale(_) | Op::Offset(_) | Op::Exp(_) | Op::Log(_) | Op::Sqrt(_) | Op::Erf(_) | Op::Sigmoid(_) | Op::Silu(_) => {
            any
        }
        Op::Gelu(_) | Op::Tanh(_) | Op::Relu(_) | Op::LeakyRelu(_) | Op::Clamp(_) | Op::Step(_) => any,
        Op::Add(_) | Op::Sub(_) | Op::Mul(_) | Op::Div(_) | Op::DivNoNan(_) => any && x.iter().all(alike),
        Op::Modulate(_) | Op::GatedAdd(_) | Op::ScaleChannels(_) => any && x.iter().all(alike),
        // Row-major: an equal leading extent keeps the rows together, which the caller checks.
        Op::Reshape(_) | Op::Broadcast(_) => any,
        Op::Transpose(o) => any && o.perm[0] == 0,
        Op::Split(o) => any && o.axis != 0,
        Op::Slice(o) => any && o.axis != 0,
        Op::Concat(o) => o.axis != 0 && any && x.iter().all(alike),
        Op::Sum(o) => any && !o.axes.contains(&0),
        Op::Flip(o) => any && !o.axes.contains(&0),
        _ => false,
    }
}
