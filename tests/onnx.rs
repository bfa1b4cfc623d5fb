//! Import of ONNX models: every op against ONNX Runtime's results and `tract-core`'s; an FCDM, whose plan must be that of its
//! checkpoint; halves of autoencoders, at any size; networks made elsewhere; and what is refused.
#![allow(clippy::unwrap_used)]

#[path = "onnx/autoencoders.rs"]
mod autoencoders;
#[path = "onnx/bad.rs"]
mod bad;
#[path = "onnx/fcdm.rs"]
mod fcdm;
mod loaded;
#[path = "onnx/ops.rs"]
mod ops;
#[path = "onnx/real.rs"]
mod real;

use std::path::{Path, PathBuf};

use fcdm_compiler::onnx::{Given, Onnx, OnnxError, Session, TractModel};

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/onnx")
}

/// What a model is given: the numbers, and whether they are integers.
type Values = (bool, Vec<f32>);

/// Calls `f` with values as the engines take them.
fn with_given<T>(values: &[Values], f: impl FnOnce(&[Given<'_>]) -> T) -> T {
    let integers: Vec<Vec<i64>> = values.iter().map(|(_, v)| v.iter().map(|&x| x as i64).collect()).collect();
    let given = values.iter().zip(&integers).map(|((whole, v), i)| if *whole { Given::Integers(i) } else { Given::Floats(v) });
    f(&given.collect::<Vec<_>>())
}

/// The outputs of our plan.
fn run(onnx: &Onnx, inputs: &[Values]) -> Vec<Vec<f32>> {
    let mut session = Session::new(onnx, &fcdm_runtime::engine::Cpu::new(2).unwrap()).unwrap_or_else(|e| panic!("{e}"));
    with_given(inputs, |given| session.run(given)).unwrap_or_else(|e| panic!("{e}"))
}

/// The outputs of tract.
fn by_tract(path: &Path, shapes: &[(String, Vec<usize>)], inputs: &[Values]) -> Result<Vec<Vec<f32>>, OnnxError> {
    let model = TractModel::open(path, shapes)?;
    with_given(inputs, |given| model.run(given))
}

/// Relative L2 distance.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let (mut diff, mut norm) = (0.0, 0.0);
    for (&f, &e) in found.iter().zip(expected) {
        diff += (f64::from(f) - f64::from(e)).powi(2);
        norm += f64::from(e).powi(2);
    }
    if norm == 0.0 { diff.sqrt() } else { (diff / norm).sqrt() }
}
