//! Import of ONNX models: every op against ONNX Runtime's results and `tract-core`'s; an FCDM, whose plan must be that of its
//! checkpoint; networks made elsewhere; and what is refused.
#![allow(clippy::unwrap_used)]

#[path = "onnx/bad.rs"]
mod bad;
#[path = "onnx/fcdm.rs"]
mod fcdm;
#[path = "onnx/ops.rs"]
mod ops;
#[path = "onnx/real.rs"]
mod real;

use std::path::PathBuf;
use std::sync::Arc;

use fcdm_compiler::assemble::assemble;
use fcdm_compiler::in_memory::InMemory;
use fcdm_compiler::onnx::{Compiled, Onnx};
use fcdm_compiler::winograd::Winograd;
use fcdm_ir::DType;
use fcdm_runtime::executor::{Executor, Input, Program};
use fcdm_runtime::plan::Element;

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/onnx")
}

/// A compiled model ready to run.
fn executor(onnx: &Onnx, compiled: Compiled, winograd: Winograd) -> Executor {
    let assembly = assemble(compiled.entries, compiled.weights.as_ref(), winograd, &|_| Element::F32).unwrap();
    let weights = InMemory::new(&assembly, onnx).unwrap();
    Executor::new(Arc::new(Program::load(assembly.plan, Arc::new(weights)).unwrap()), 2).unwrap()
}

/// The outputs of the compiled model, in ONNX's order, for inputs in that order.
fn run(onnx: &Onnx, inputs: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let mut ex = executor(onnx, onnx.whole().unwrap_or_else(|e| panic!("{e}")), Winograd::WhereFaster);
    let floats: Vec<Vec<f32>> = onnx.inputs().iter().zip(inputs).map(|(p, v)| p.to_function(v)).collect();
    let labels: Vec<Vec<i32>> = floats.iter().map(|v| v.iter().map(|&x| x as i32).collect()).collect();
    let given = onnx.inputs().iter().enumerate().map(|(i, p)| match p.ty.dtype {
        DType::I32 => Input::I32(&labels[i]),
        _ => Input::F32(&floats[i]),
    });
    let mut outputs: Vec<Vec<f32>> = onnx.outputs().iter().map(|p| vec![f32::NAN; p.ty.count()]).collect();
    let mut slots: Vec<&mut [f32]> = outputs.iter_mut().map(|v| &mut v[..]).collect();
    ex.run(0, &given.collect::<Vec<_>>(), &mut slots);
    onnx.outputs().iter().zip(&outputs).map(|(p, v)| p.to_model(v)).collect()
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
