//! Which values treat the rows of a batch alike and apart: row i of the value is computed from row i of inputs, by the same
//! formula for every i. What is not known to be so is not. Hoisting of the condition and changes of the batch size rest on it; what
//! an op does with rows is its own ([`fcdm_ir::ops::OpDef::rows`]).

use fcdm_ir::ops::Share;
use fcdm_ir::{Def, Function, Inst, Value};

/// What is known of the rows of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Row i depends on row i of the inputs asked for, in the same way for every i.
    Apart,
    /// It depends on no input.
    Constant {
        /// Whether it has as many rows, and they are equal.
        alike: bool,
    },
    /// Anything else.
    Mixed,
}

impl Rows {
    /// True for what has a row for every row of the batch, by the same formula.
    fn has(self) -> bool {
        matches!(self, Rows::Apart | Rows::Constant { alike: true })
    }
}

/// What is known of every value, by index, where `rows` is the number of rows and `seed` tells the inputs that have them.
pub fn rows(f: &Function, rows: usize, seed: impl Fn(Value) -> bool) -> Vec<Rows> {
    let leads = |v: Value| f.ty(v).shape.first() == Some(&rows);
    let mut known: Vec<Rows> = Vec::with_capacity(f.value_count());
    for (v, data) in f.values() {
        known.push(match data.def {
            Def::Input(_) if seed(v) && leads(v) => Rows::Apart,
            // A single row is equal to all there are. Results are told below.
            Def::Weight => Rows::Constant { alike: rows == 1 && leads(v) },
            Def::Input(_) | Def::Result { .. } => Rows::Mixed,
        });
    }
    for inst in f.insts() {
        let apart = by_row(f, inst, &known);
        let constant = inst.operands.iter().all(|v| matches!(known[v.index()], Rows::Constant { .. }));
        for &v in &inst.results {
            known[v.index()] = match (constant, leads(v) && apart) {
                (true, apart) => Rows::Constant { alike: apart || rows == 1 && leads(v) },
                (false, true) => Rows::Apart,
                (false, false) => Rows::Mixed,
            };
        }
    }
    known
}

/// True if the operands have what every row of an instruction is made of.
fn by_row(f: &Function, inst: &Inst, known: &[Rows]) -> bool {
    let has = |(v, share): (&Value, Share)| match share {
        Share::Row => known[v.index()].has(),
        Share::Whole => matches!(known[v.index()], Rows::Constant { .. }),
    };
    f.rows(inst).is_some_and(|shares| inst.operands.iter().zip(shares).all(has))
}
