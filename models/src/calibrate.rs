//! Calibration: rounding weights by what their products see where the network is used, on its own trajectories. No data is needed.
//!
//! The network generates in f32, with guidance, some pictures of many classes ([`states`]); of every product whose weights are to be whole
//! numbers the inputs are looked at ([`observe`]); weights are rounded for these ([`fcdm_compiler::rounding`]), and what the rounded ones are
//! short of on average is added to the bias behind.

pub(crate) mod observe;
pub(crate) mod states;

use std::collections::BTreeMap;

use fcdm_compiler::assemble::Assembly;
use fcdm_compiler::compiled::BuildError;
use fcdm_compiler::prepared::Prepared;
use fcdm_compiler::rounding::{Inputs, round};
use fcdm_compiler::weights::{Order, WeightSource, WeightUse, matrix};
use fcdm_runtime::encoding::Encoding;
use fcdm_runtime::plan::Form;
use fcdm_runtime::threads;

use crate::compile::{CompileError, Observer};
use crate::fcdm::Import;
use crate::options::Options;
use observe::{Observed, Product};
use states::States;

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calibration {
    /// The seed of the first trajectory; each has the next.
    pub seed: u64,
    /// Most trajectories; large networks take fewer.
    pub trajectories: usize,
    /// Steps of a trajectory.
    pub steps: usize,
    /// States that are taken of each.
    pub states: usize,
    /// Rows of inputs, about, that are looked at for each product.
    pub rows: usize,
}

impl Default for Calibration {
    fn default() -> Self {
        Calibration { seed: 1 << 32, trajectories: 80, steps: 25, states: 8, rows: 12_288 }
    }
}

/// Whole numbers for the weights of an assembly that are to be some, by what their products see on states, and what belongs into biases.
pub(crate) fn calibrate(
    import: &Import,
    assembly: &Assembly,
    options: &Options,
    calibration: Calibration,
    states: &States,
    observer: &mut dyn Observer,
) -> Result<Prepared, CompileError> {
    let mut prepared = Prepared::default();
    let wanted: BTreeMap<&str, (&WeightUse, Encoding)> = assembly.weights.values().filter_map(of_integers).collect();
    let mut observed = Observed::new(import, options, &|weight| wanted.contains_key(weight))?;
    let (groups, threads) = (observed.groups(), threads::available());
    let total: usize = groups.iter().map(Vec::len).sum();
    let mut done = 0;
    for group in groups {
        let inputs = observed.look(&group, states, calibration.rows, &mut |share| {
            let part = done as f64 + share * group.len() as f64;
            observer.progress("calibrating", (part * 1000.0) as u64, 1000 * total as u64)
        })?;
        for (product, inputs) in group.iter().zip(inputs) {
            let (usage, encoding) = wanted[product.weight.as_str()];
            if !inputs.is_finite() {
                let found = format!("expected finite inputs of `{}` while it generates, found others", product.weight);
                return Err(import.wrong(&found).into());
            }
            prepare(&mut prepared, import, product, usage, encoding, inputs, threads).map_err(BuildError::from)?;
        }
        done += group.len();
    }
    Ok(prepared)
}

/// A weight that is to be whole numbers.
fn of_integers(usage: &WeightUse) -> Option<(&str, (&WeightUse, Encoding))> {
    match usage.form {
        Form::Encoded(encoding) if encoding.has_integers() => Some((&usage.weight, (usage, encoding))),
        Form::Encoded(_) | Form::Dense(_) => None,
    }
}

fn prepare(
    prepared: &mut Prepared,
    source: &dyn WeightSource,
    product: &Product,
    usage: &WeightUse,
    encoding: Encoding,
    inputs: Inputs,
    threads: usize,
) -> Result<(), fcdm_compiler::weights::WeightError> {
    let m = matrix(&usage.ty.shape);
    let values = usage.order.rows(&source.load(&usage.weight)?, m.rows, 0..m.rows);
    let mean = inputs.mean();
    let rounded = round(&values, m, encoding, &inputs.feedback(), threads);
    if let (Some(bias), Order::Given) = (&product.bias, usage.order) {
        prepared.add(bias, rounded.shortfall(&mean).into_iter().map(|v| v as f32).collect());
    }
    prepared.parts(usage.key(), encoding.pack(&rounded.numbers, &rounded.steps, m).expect("an encoding of whole numbers"));
    Ok(())
}
