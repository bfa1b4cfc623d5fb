//! From an imported model to entry points, for [`crate::assemble::assemble`].

use fcdm_ir::{Function, Module};
use fcdm_passes::{IMPORTED, OPTIMISED, PassError, Report, rebatch};

use super::Onnx;
use crate::assemble::EntryPoint;

/// A model after the pipeline.
pub struct Compiled {
    /// What can be run.
    pub entries: Vec<EntryPoint>,
    /// `@weights`, if anything was folded.
    pub weights: Option<Function>,
    /// The pipelines as they ran on the first entry point.
    pub report: Report,
}

impl Onnx {
    /// The whole model as one entry point, `network`, with the inputs and outputs of [`Onnx::inputs`] and [`Onnx::outputs`].
    ///
    /// # Errors
    /// [`PassError`] if a pass has a bug.
    pub fn whole(&self) -> Result<Compiled, PassError> {
        let passes: Vec<&str> = IMPORTED.iter().chain(OPTIMISED).copied().filter(|&p| p != "hoist_condition").collect();
        let (mut m, report) = run(&passes, &self.function)?;
        let weights = m.function(Module::WEIGHTS).cloned();
        let function = m.functions.pop().expect("passes keep functions, and @weights comes first");
        let rows = rows(&function);
        Ok(Compiled { entries: vec![EntryPoint::new(function, rows)], weights, report })
    }

    /// The model as a denoiser of its input `x`, at each number of rows, and its condition at `condition_rows`: the entry points
    /// `condition` and `denoise` of an FCDM's artifact. `None` if the model cannot be split so, or mixes the rows of a batch.
    ///
    /// # Errors
    /// [`PassError`] if a pass has a bug.
    pub fn conditioned(&self, condition_rows: usize, batches: &[usize]) -> Result<Option<Compiled>, PassError> {
        let (mut m, recognised) = run(IMPORTED, &self.function)?;
        let function = m.functions.pop().expect("passes keep functions");
        let mut compiled: Option<Compiled> = None;
        for (i, &rows) in std::iter::once(&condition_rows).chain(batches).enumerate() {
            let Some(f) = rebatch(&function, rows) else { return Ok(None) };
            let (m, report) = run(OPTIMISED, &f)?;
            let Some(part) = m.function(if i == 0 { "condition" } else { "denoise" }) else { return Ok(None) };
            let weights = m.function(Module::WEIGHTS).cloned();
            let entry = EntryPoint::new(part.clone(), rows);
            let all = compiled.get_or_insert_with(|| Compiled { entries: Vec::new(), weights, report: recognised.clone() });
            all.entries.push(entry);
            if i == 1 {
                all.report.runs.extend(report.runs);
            }
        }
        Ok(compiled)
    }
}

fn run(passes: &[&str], f: &Function) -> Result<(Module, Report), PassError> {
    fcdm_passes::run(passes, Module { functions: vec![f.clone()] }, &mut |_, _| {})
}

/// The first extent of the first input.
fn rows(f: &Function) -> usize {
    f.inputs().first().and_then(|&v| f.ty(v).shape.first().copied()).unwrap_or(1)
}
