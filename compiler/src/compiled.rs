//! Entry points as they are collected, for [`crate::assemble::assemble`]: functions after the pipeline, and what they have folded; and
//! what may be wrong on the way from functions to a plan with its tensors.

use fcdm_ir::flow::Copier;
use fcdm_ir::{Builder, Function, Module, Value};
use fcdm_passes::{PassError, Report};
use thiserror::Error;

use crate::assemble::{AssembleError, EntryPoint};
use crate::weights::WeightError;

/// Why functions do not become a plan with its tensors.
#[derive(Debug, Error)]
pub enum BuildError {
    /// A pass left invalid IR: a bug.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// A function has no plan.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// A weight cannot be had.
    #[error(transparent)]
    Weight(#[from] WeightError),
}

/// Entry points after the pipeline, and the functions of derived weights.
#[derive(Default)]
pub struct Compiled {
    /// The entry points.
    pub entries: Vec<EntryPoint>,
    /// A function `@weights` for each network of which anything was folded.
    pub weights: Vec<Function>,
    /// The pipeline as it ran on the first function.
    pub report: Option<Report>,
}

impl Compiled {
    /// The functions `@weights` as one.
    pub fn derived(&self) -> Option<Function> {
        let mut b = Builder::new(Module::WEIGHTS);
        let mut results: Vec<(String, Value)> = Vec::new();
        for f in &self.weights {
            let mut copier = Copier::new(f);
            for (name, v) in f.results() {
                let new = copier.copy(&mut b, *v);
                // Two sizes of one network fold the same.
                if !results.iter().any(|(n, _)| n == name) {
                    results.push((name.clone(), new));
                }
            }
        }
        (!results.is_empty()).then(|| b.finish(results))
    }
}
