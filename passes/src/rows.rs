//! Which values treat the rows of a batch alike and apart: row i of the value is computed from row i of inputs, by the same
//! formula for every i. What is not known to be so is not. Hoisting of the condition and changes of the batch size rest on it.

use fcdm_ir::ops::{FusedConv2d, FusedLinear};
use fcdm_ir::{Def, Function, Inst, Op, Value};

use crate::partition::depends;

/// For every value, by index: whether its row i depends on row i of those inputs for which `seed` holds, in the same way for
/// every i. `rows` is the number of rows.
pub fn by_row(f: &Function, rows: usize, seed: impl Fn(Value) -> bool) -> Vec<bool> {
    let leads = |v: Value| f.ty(v).shape.first() == Some(&rows);
    let mut by_row: Vec<bool> = f.values().map(|(v, d)| matches!(d.def, Def::Input(_)) && seed(v) && leads(v)).collect();
    let constant = constants(f);
    for inst in f.insts() {
        if keeps_rows(f, inst, &by_row, &constant) && inst.results.iter().all(|&v| leads(v)) {
            inst.results.iter().for_each(|v| by_row[v.index()] = true);
        }
    }
    by_row
}

/// For every value, by index: whether it depends on no input.
pub fn constants(f: &Function) -> Vec<bool> {
    depends(f, |v| matches!(f.value(v).def, Def::Input(_))).iter().map(|on| !on).collect()
}

/// True if a constant's rows are known to be equal: `fill`, or a broadcast of one row. Any other may hold another number in
/// every row.
pub fn rows_alike(f: &Function, constant: &[bool], v: Value) -> bool {
    let one_row = |x: Value| f.ty(x).shape.first() == Some(&1);
    constant[v.index()]
        && f.def_inst(v).is_some_and(|i| match i.op {
            Op::Fill(_) => true,
            Op::Broadcast(_) => one_row(i.operands[0]),
            _ => false,
        })
}

fn keeps_rows(f: &Function, inst: &Inst, by_row: &[bool], constant: &[bool]) -> bool {
    let x = &inst.operands;
    let row = |v: &Value| by_row[v.index()];
    let alike = |v: &Value| row(v) || rows_alike(f, constant, *v);
    let weights = |from: usize| x[from..].iter().all(|v| constant[v.index()]);
    let any = x.iter().any(row);
    match &inst.op {
        Op::Linear(_) | Op::LinearGeluSumsq(_) => row(&x[0]) && f.ty(x[0]).rank() > 1 && weights(1),
        Op::Conv2d(_) | Op::ConvTranspose2d(_) | Op::DwConv2d(_) => row(&x[0]) && weights(1),
        // A residual stands between weight and bias.
        Op::FusedConv2d(FusedConv2d { residual: true, .. }) | Op::FusedLinear(FusedLinear { residual: true, .. }) => {
            any && alike(&x[0]) && alike(&x[2]) && f.ty(x[0]).rank() > 1 && constant[x[1].index()] && weights(3)
        }
        Op::FusedConv2d(_) | Op::FusedLinear(_) => row(&x[0]) && f.ty(x[0]).rank() > 1 && weights(1),
        Op::GroupNorm(_) | Op::FusedGroupNorm(_) | Op::Grn(_) | Op::GrnScale(_) => row(&x[0]) && weights(1),
        Op::ConcatLinear(_) => any && alike(&x[0]) && alike(&x[1]) && f.ty(x[0]).rank() > 1 && weights(2),
        Op::DwConvNormModulate(_) => row(&x[0]) && x[1..3].iter().all(|v| constant[v.index()]) && x[3..].iter().all(alike),
        Op::ScaleLinearGatedAdd(_) => {
            any && alike(&x[0]) && alike(&x[1]) && x[2..4].iter().all(|v| constant[v.index()]) && x[4..].iter().all(alike)
        }
        Op::SumSquares(_) | Op::UpsampleNearest(_) | Op::AvgPool2d(_) | Op::PixelShuffle(_) | Op::PixelUnshuffle(_) => any,
        // The leading axes of both are equal: that of rows is one if there are three axes or more.
        Op::Matmul(_) | Op::Attention(_) => any && f.ty(x[0]).rank() > 2 && x.iter().all(alike),
        Op::Embedding(_) => constant[x[0].index()] && row(&x[1]),
        Op::TimestepEmbedding(_) | Op::OneHot(_) => any,
        Op::LayerNorm(_) | Op::Softmax(_) => any && f.ty(x[0]).rank() > 1,
        Op::Neg(_) | Op::Scale(_) | Op::Offset(_) | Op::Exp(_) | Op::Log(_) | Op::Sqrt(_) | Op::Erf(_) | Op::Sigmoid(_) | Op::Silu(_) => {
            any
        }
        Op::Gelu(_) | Op::Tanh(_) | Op::Cos(_) | Op::Sin(_) | Op::Relu(_) | Op::LeakyRelu(_) | Op::Clamp(_) | Op::Step(_) => any,
        Op::Add(_) | Op::Sub(_) | Op::Mul(_) | Op::Div(_) | Op::DivNoNan(_) => any && x.iter().all(alike),
        Op::Modulate(_) | Op::GatedAdd(_) | Op::ScaleChannels(_) | Op::NormModulate(_) => any && x.iter().all(alike),
        // Row-major: an equal leading extent keeps the rows together, which the caller checks.
        Op::Reshape(_) | Op::Broadcast(_) => any,
        Op::Transpose(o) => any && o.perm[0] == 0,
        Op::Split(o) => any && o.axis != 0,
        Op::Slice(o) => any && o.axis != 0,
        Op::Concat(o) => o.axis != 0 && any && x.iter().all(alike),
        Op::Sum(o) => any && !o.axes.contains(&0),
        Op::Flip(o) => any && !o.axes.contains(&0),
        Op::Fill(_) | Op::Conv2dWeightGrad(_) | Op::DwConv2dWeightGrad(_) => false,
    }
}
