//! A model compiled in memory and ready to run: for one evaluation, or to hold ours against another engine's.

use std::sync::Arc;

use fcdm_ir::DType;
use fcdm_runtime::engine::{Device, Engine, LoadError};
use fcdm_runtime::executor::Input;
use fcdm_runtime::plan::Plan;
use thiserror::Error;

use super::{Given, ModelPort, Onnx};
use crate::assemble::assemble;
use crate::compiled::BuildError;
use crate::in_memory::InMemory;
use crate::target::Target;

/// Why a model does not run.
#[derive(Debug, Error)]
pub enum SessionError {
    /// It does not become a plan.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The plan is wrong: a bug, or a model beyond all bounds; memory or threads.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// An input of another length, type or range.
    #[error("input `{input}`: expected {expected}, found {found}")]
    Input {
        /// Its name.
        input: String,
        /// What would do.
        expected: String,
        /// What was given.
        found: String,
    },
}

/// A model ready to run.
pub struct Session {
    engine: Box<dyn Engine>,
    inputs: Vec<ModelPort>,
    outputs: Vec<ModelPort>,
}

/// The values of an input in the function's order.
enum Arranged {
    Floats(Vec<f32>),
    Labels(Vec<i32>),
}

/// A model's plan and tensors.
fn built(onnx: &Onnx) -> Result<(Plan, InMemory), BuildError> {
    let compiled = onnx.whole()?;
    let derived = compiled.derived();
    let assembly = assemble(compiled.entries, derived.as_ref(), &Target::CPU)?;
    let weights = InMemory::new(&assembly, onnx)?;
    Ok((assembly.plan, weights))
}

impl Session {
    /// Compiles a model and binds its weights.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn new(onnx: &Onnx, device: &dyn Device) -> Result<Session, SessionError> {
        let (plan, weights) = built(onnx)?;
        let engine = device.load(plan, Arc::new(weights))?;
        Ok(Session { engine, inputs: onnx.inputs.clone(), outputs: onnx.outputs.clone() })
    }

    /// The outputs, in order, in ONNX's layout.
    ///
    /// # Errors
    /// [`SessionError::Input`].
    pub fn run(&mut self, inputs: &[Given<'_>]) -> Result<Vec<Vec<f32>>, SessionError> {
        let arranged = self.arranged(inputs)?;
        let given: Vec<Input<'_>> = arranged
            .iter()
            .map(|a| match a {
                Arranged::Floats(v) => Input::F32(v),
                Arranged::Labels(v) => Input::I32(v),
            })
            .collect();
        let mut values: Vec<Vec<f32>> = self.outputs.iter().map(|p| vec![0.0; p.ty.count()]).collect();
        let mut slots: Vec<&mut [f32]> = values.iter_mut().map(|v| &mut v[..]).collect();
        self.engine.run(0, &given, &mut slots);
        Ok(self.outputs.iter().zip(&values).map(|(p, v)| p.to_model(v)).collect())
    }

    fn arranged(&self, inputs: &[Given<'_>]) -> Result<Vec<Arranged>, SessionError> {
        let limits = self.engine.label_limits(0);
        let fail = |p: &ModelPort, expected: String, found: String| Err(SessionError::Input { input: p.name.clone(), expected, found });
        let mut out = Vec::new();
        for (i, p) in self.inputs.iter().enumerate() {
            let Some(given) = inputs.get(i) else { return fail(p, "values".to_owned(), "none".to_owned()) };
            let count = match given {
                Given::Floats(v) => v.len(),
                Given::Integers(v) => v.len(),
            };
            if count != p.ty.count() {
                return fail(p, format!("{} values for extents {:?}", p.ty.count(), p.dims), count.to_string());
            }
            out.push(match (given, p.ty.dtype) {
                (Given::Floats(v), DType::F32) => Arranged::Floats(p.to_function(v)),
                (Given::Integers(v), DType::F32) => Arranged::Floats(p.to_function(&v.iter().map(|&v| v as f32).collect::<Vec<_>>())),
                (Given::Floats(_), _) => return fail(p, "integers".to_owned(), "floats".to_owned()),
                (Given::Integers(v), _) => {
                    let below = limits[i].unwrap_or(i32::MAX as usize);
                    let label = |&v: &i64| i32::try_from(v).ok().filter(|&l| usize::try_from(l).is_ok_and(|l| l < below));
                    if let Some(bad) = v.iter().find(|v| label(v).is_none()) {
                        return fail(p, format!("labels from 0 to {}", below - 1), bad.to_string());
                    }
                    Arranged::Labels(p.to_function(&v.iter().filter_map(label).collect::<Vec<_>>()))
                }
            });
        }
        Ok(out)
    }
}
