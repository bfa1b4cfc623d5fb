//! `x * sigmoid(x)` -> `silu(x)`. Always legal.

use fcdm_ir::ops::{Sigmoid, Silu};
use fcdm_ir::{Function, Op};

use crate::repeated::either;
use crate::rewrite::rewrite;

/// The pass.
pub(crate) fn recognise_silu(f: &Function) -> Function {
    rewrite(f, |r, inst| {
        let Op::Mul(_) = &inst.op else { return None };
        let is_sigmoid = |[x, s]: &[fcdm_ir::Value; 2]| r.operands::<Sigmoid>(*s) == Some(&[*x]);
        let [x, _] = either(&inst.operands).into_iter().find(is_sigmoid)?;
        let x = r.map(x);
        Some(r.b.emit(Silu {}, &[x]))
    })
}
