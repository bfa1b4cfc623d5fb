//! From an imported model to entry points.

use fcdm_ir::{Function, Module};
use fcdm_passes::{IMPORTED, OPTIMISED, PassError, Report, Settings, rebatch};
use fcdm_runtime::entry_name::EntryName;

use super::Onnx;
use crate::assemble::EntryPoint;
use crate::compiled::Compiled;

impl Onnx {
    /// The whole model as one entry point, `network`, with the inputs and outputs of [`Onnx::inputs`] and [`Onnx::outputs`].
    ///
    /// # Errors
    /// [`PassError`] if a pass has a bug.
    pub fn whole(&self) -> Result<Compiled, PassError> {
        let passes: Vec<&str> = IMPORTED.iter().chain(OPTIMISED).copied().filter(|&p| p != "hoist_condition").collect();
        let (mut m, report) = run(&passes, &self.function)?;
        let weights = m.function(Module::WEIGHTS).cloned().into_iter().collect();
        let function = m.functions.pop().expect("passes keep functions, and @weights comes first");
        let rows = rows(&function);
        Ok(Compiled { entries: vec![EntryPoint::new(function, rows)], weights, report: Some(report) })
    }

    /// The model as a denoiser of its input `x`, at each number of rows, and its condition at `condition_rows`: the entry points
    /// `condition` and `denoise` of an FCDM's artifact. `None` if the model cannot be split so, or mixes the rows of a batch.
    ///
    /// # Errors
    /// [`PassError`] if a pass has a bug.
    pub fn conditioned(&self, condition_rows: usize, batches: &[usize], settings: &Settings<'_>) -> Result<Option<Compiled>, PassError> {
        let (mut m, mut recognised) = run(IMPORTED, &self.function)?;
        let function = m.functions.pop().expect("passes keep functions");
        let mut compiled = Compiled::default();
        for (i, &rows) in std::iter::once(&condition_rows).chain(batches).enumerate() {
            let Some(f) = rebatch(&function, rows) else { return Ok(None) };
            let (m, report) = run_with(OPTIMISED, &f, settings)?;
            let name = if i == 0 { EntryName::Condition } else { EntryName::Denoise };
            let Some(part) = m.function(&name.to_string()) else { return Ok(None) };
            if i == 0 {
                // Other numbers of rows fold the same.
                compiled.weights.extend(m.function(Module::WEIGHTS).cloned());
            }
            compiled.entries.push(EntryPoint::new(part.clone(), rows));
            if i == 1 {
                recognised.runs.extend(report.runs);
            }
        }
        Ok(Some(Compiled { report: Some(recognised), ..compiled }))
    }
}

fn run(passes: &[&str], f: &Function) -> Result<(Module, Report), PassError> {
    run_with(passes, f, &Settings::default())
}

fn run_with(passes: &[&str], f: &Function, settings: &Settings<'_>) -> Result<(Module, Report), PassError> {
    fcdm_passes::run_with(passes, Module { functions: vec![f.clone()] }, settings, &mut |_, _| {})
}

/// The first extent of the first input.
fn rows(f: &Function) -> usize {
    f.inputs().first().and_then(|&v| f.ty(v).shape.first().copied()).unwrap_or(1)
}
