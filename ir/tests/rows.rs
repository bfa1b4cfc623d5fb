//! What ops say of their rows, held against what they compute: turn the rows that results are made of by one, and the results turn.
#![allow(clippy::unwrap_used)]

mod cases;

use cases::{Case, Noise, cases};
use fcdm_ir::Type;
use fcdm_ir::eval::Tensor;
use fcdm_ir::ops::Share;
use ndarray::{Axis, concatenate};

/// The rows, the first one last.
fn turned(x: &Tensor) -> Tensor {
    let (first, rest) = x.view().split_at(Axis(0), 1);
    concatenate(Axis(0), &[rest, first]).unwrap().as_standard_layout().into_owned()
}

fn types(case: &Case) -> Vec<&Type> {
    case.operands.iter().collect()
}

#[test]
fn results_turn_with_the_rows_that_they_are_made_of() {
    let mut noise = Noise::new(11);
    let mut held = 0;
    for case in cases() {
        let Some(shares) = case.op.rows(&types(&case)) else { continue };
        assert_eq!(shares.len(), case.operands.len(), "{}", case.op);
        let x: Vec<Tensor> = case.operands.iter().zip(&case.values).map(|(t, v)| noise.tensor(t, v)).collect();
        let moved: Vec<Tensor> = x.iter().zip(&shares).map(|(x, s)| if *s == Share::Row { turned(x) } else { x.clone() }).collect();
        let (y, found) = (case.op.eval(&x.iter().collect::<Vec<_>>()), case.op.eval(&moved.iter().collect::<Vec<_>>()));
        for ((y, found), ty) in y.iter().zip(&found).zip(case.op.infer(&types(&case)).unwrap()) {
            let rows = ty.shape.first().copied();
            for (operand, share) in case.operands.iter().zip(&shares) {
                assert!(
                    *share == Share::Whole || operand.shape.first().copied() == rows,
                    "{}: {operand} has other rows than {ty}",
                    case.op
                );
            }
            let close = turned(y).iter().zip(found).all(|(a, b)| (a - b).abs() <= 1e-12 * a.abs().max(1.0));
            assert!(close, "{}: results do not turn with {shares:?}", case.op);
            held += usize::from(rows > Some(1));
        }
    }
    assert!(held > 30, "only {held} results have rows to turn");
}

#[test]
fn a_single_row_is_made_as_several_are() {
    for case in cases() {
        let Some(shares) = case.op.rows(&types(&case)) else { continue };
        // The same op for one row, where none of its attributes says how many there are.
        let single = |(t, s): (&Type, &Share)| match s {
            Share::Row => t.with_shape([&[1], &t.shape[1..]].concat()),
            Share::Whole => t.clone(),
        };
        let operands: Vec<Type> = case.operands.iter().zip(&shares).map(single).collect();
        let operands: Vec<&Type> = operands.iter().collect();
        if !operands.is_empty() && case.op.infer(&operands).is_ok_and(|y| y[0].shape.first() == Some(&1)) {
            assert_eq!(case.op.rows(&operands), Some(shares), "{}", case.op);
        }
    }
}
