//! Drops every instruction that no result depends on, and all but the first of identical instructions. Inputs stay,
//! used or not: they are the function's signature.

use fcdm_ir::Function;

/// The pass.
pub(crate) fn eliminate_dead_code(f: &Function) -> Function {
    fcdm_ir::flow::sweep(f)
}
