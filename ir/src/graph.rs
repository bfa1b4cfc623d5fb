//! A function as a graph.

use crate::function::Function;
use crate::ops::Cost;
use crate::types::Type;

/// Cost of all instructions of a verified function.
pub fn cost(f: &Function) -> Cost {
    let types = |values: &[crate::function::Value]| values.iter().map(|&v| f.ty(v)).collect::<Vec<&Type>>();
    f.insts().iter().map(|i| i.op.cost(&types(&i.operands), &types(&i.results))).sum()
}
