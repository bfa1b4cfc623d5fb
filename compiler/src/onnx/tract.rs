//! The whole graph run by `tract-core`: another implementation beside ours, for checking and measuring.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use tract_core::prelude::{DatumType, IntoRunnable, IntoTValue, Tensor, TypedSimplePlan};
use tract_onnx::prelude::{InferenceFact, InferenceModelExt, TractResult};

use super::error::OnnxError;
use super::source::{Source, one_line};

/// Values of an input, in ONNX's order.
#[derive(Clone, Copy, Debug)]
pub enum Given<'a> {
    /// Of a float input.
    Floats(&'a [f32]),
    /// Of an integer input.
    Integers(&'a [i64]),
}

/// A model ready to run.
pub struct TractModel {
    file: String,
    plan: Arc<TypedSimplePlan>,
    /// Element type and extents of every input.
    inputs: Vec<(DatumType, Vec<usize>)>,
}

/// Runs a part of tract. It panics on models it does not expect (indices out of range, arms that are not written), and a model comes
/// from anywhere; what it leaves behind is dropped.
fn contained<T>(file: &str, f: impl FnOnce() -> TractResult<T>) -> Result<T, OnnxError> {
    let fail = |reason: String| OnnxError::Tract { file: file.to_owned(), reason };
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result.map_err(|e| fail(one_line(&e))),
        Err(_) => Err(fail("it panicked on this model".to_owned())),
    }
}

impl TractModel {
    /// Reads a model and prepares it, at extents of inputs as for [`super::Onnx::open_at`].
    ///
    /// # Errors
    /// See [`OnnxError`]; what tract refuses is its own choice.
    pub fn open(path: &Path, shapes: &[(String, Vec<usize>)]) -> Result<TractModel, OnnxError> {
        let source = Source::open(path)?;
        let declared = source.inputs(shapes)?;
        let fail = |reason: String| OnnxError::Tract { file: source.file.clone(), reason };
        let element = |kind: i32| match kind {
            1 => Ok(DatumType::F32),
            6 => Ok(DatumType::I32),
            7 => Ok(DatumType::I64),
            other => Err(fail(format!("expected inputs of f32, i32 or i64, found element type {other}"))),
        };
        let inputs = declared.into_iter().map(|d| Ok((element(d.element)?, d.dims))).collect::<Result<Vec<_>, OnnxError>>()?;
        let folder = source.folder.to_str();
        let plan = contained(&source.file, || {
            // Declared extents of results may be symbolic, while these follow from the inputs'.
            let onnx = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
            let mut model = onnx.parse(&source.model, folder)?.model;
            for (i, (element, dims)) in inputs.iter().enumerate() {
                model.set_input_fact(i, InferenceFact::dt_shape(*element, dims))?;
            }
            model.into_optimized()?.into_runnable()
        })?;
        Ok(TractModel { file: source.file, plan, inputs })
    }

    /// The outputs, in order, in ONNX's layout.
    ///
    /// # Errors
    /// When the inputs are not those that the model was prepared for, or tract fails.
    pub fn run(&self, inputs: &[Given<'_>]) -> Result<Vec<Vec<f32>>, OnnxError> {
        let fail = |reason: String| OnnxError::Tract { file: self.file.clone(), reason };
        if inputs.len() != self.inputs.len() {
            return Err(fail(format!("expected {} inputs, found {}", self.inputs.len(), inputs.len())));
        }
        contained(&self.file, || {
            let tensor = |(given, (element, dims)): (&Given<'_>, &(DatumType, Vec<usize>))| {
                let t = match given {
                    Given::Floats(v) => Tensor::from_shape(dims, v),
                    Given::Integers(v) => Tensor::from_shape(dims, v),
                };
                Ok(t?.cast_to_dt(*element)?.into_owned().into_tvalue())
            };
            let given = inputs.iter().zip(&self.inputs).map(tensor).collect::<TractResult<_>>()?;
            let results = self.plan.run(given)?;
            let floats = |t: &Tensor| Ok(t.cast_to::<f32>()?.to_plain_array_view::<f32>()?.iter().copied().collect());
            results.iter().map(|t| floats(t)).collect()
        })
    }
}
