//! Drops every instruction that no result depends on.

use fcdm_ir::Function;

/// The pass.
pub(crate) fn eliminate_dead_code(f: &Function) -> Function {
    crate::rewrite::sweep(f)
}
