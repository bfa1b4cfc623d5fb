//! Calibration: rounding weights by what their products see where the network is used, on its own trajectories. No data is needed.
//!
//! The network generates in f32, with guidance, some pictures of many classes ([`states`]); of every product whose weights are to be whole
//! numbers the inputs are looked at ([`observe`]); weights are rounded for these ([`fcdm_compiler::rounding`]), and what the rounded ones are
//! short of on average is added to the bias behind.

pub(crate) mod observe;
pub(crate) mod records;
pub(crate) mod states;

use std::collections::BTreeMap;

use fcdm_compiler::assemble::Assembly;
use fcdm_compiler::compiled::BuildError;
use fcdm_compiler::prepared::{Bytes, Prepared};
use fcdm_compiler::rounding::{Inputs, round};
use fcdm_compiler::weights::{Order, WeightError, WeightSource, WeightUse, matrix};
use fcdm_runtime::encoding::{Encoding, Part};
use fcdm_runtime::plan::Form;
use fcdm_runtime::threads;

use crate::compile::{CompileError, Observer, Phase};
use crate::fcdm::Import;
use crate::options::Options;
use observe::{Observed, Product};
use records::Records;
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
/// What records have is taken.
pub(crate) fn calibrate(
    import: &Import,
    assembly: &Assembly,
    options: &Options,
    calibration: Calibration,
    states: &States,
    records: &Records,
    observer: &mut dyn Observer,
) -> Result<Prepared, CompileError> {
    let mut prepared = Prepared::default();
    let wanted: BTreeMap<&str, (&WeightUse, Encoding)> = assembly.weights.values().filter_map(of_integers).collect();
    let mut observed = Observed::new(import, options, &|weight| wanted.contains_key(weight))?;
    let (groups, threads) = (observed.groups(), threads::available());
    let total: usize = groups.iter().map(Vec::len).sum();
    let mut done = 0;
    for group in groups {
        let all = group.len();
        let mut go_on = |share: f64| {
            let part = done as f64 + share * all as f64;
            observer.progress(Phase::Calibrating, part as u64, total as u64)
        };
        let missing = |product: &Product| {
            let (usage, encoding) = wanted[product.weight.as_str()];
            let found = records.get(&named(product, encoding), &lengths(product, usage, encoding));
            found.is_none_or(|found| {
                let taken = take(&mut prepared, product, usage, found);
                taken.is_err()
            })
        };
        let group: Vec<Product> = group.into_iter().filter(missing).collect();
        if group.is_empty() {
            done += all;
            continue;
        }
        // Looking is about half of the work.
        let inputs = observed.look(&group, states, calibration.rows, &mut |share| go_on(0.5 * share))?;
        for (i, (product, inputs)) in group.iter().zip(inputs).enumerate() {
            if !go_on(0.5 + 0.5 * i as f64 / group.len() as f64) {
                return Err(CompileError::Cancelled);
            }
            let (usage, encoding) = wanted[product.weight.as_str()];
            if !inputs.is_finite() {
                let found = format!("expected finite inputs of `{}` while it generates, found others", product.weight);
                return Err(import.wrong(&found).into());
            }
            let made = made(import, product, usage, encoding, inputs, threads).map_err(BuildError::from)?;
            let made = records.put(&named(product, encoding), made).map_err(fcdm_runtime::artifact::WriteError::from)?;
            take(&mut prepared, product, usage, made).map_err(BuildError::from)?;
        }
        done += all;
    }
    Ok(prepared)
}

/// What the record of a product is called.
fn named(product: &Product, encoding: Encoding) -> String {
    format!("{} {}", product.weight, encoding.name())
}

/// Bytes of a record's sections: the parts of the weight, and for a bias what is added to it.
fn lengths(product: &Product, usage: &WeightUse, encoding: Encoding) -> Vec<usize> {
    let m = matrix(&usage.ty.shape);
    let bias = bias(product, usage).map_or(0, |_| m.rows * size_of::<f32>());
    encoding.parts(m).iter().map(Part::bytes).chain([bias]).collect()
}

/// The bias that takes what a product is short of.
fn bias<'a>(product: &'a Product, usage: &WeightUse) -> Option<&'a str> {
    product.bias.as_deref().filter(|_| usage.order == Order::Given)
}

/// Takes what a record has.
fn take(prepared: &mut Prepared, product: &Product, usage: &WeightUse, mut sections: Vec<Bytes>) -> Result<(), WeightError> {
    let shortfall = sections.pop().expect("a record has a section for the bias");
    if let Some(bias) = bias(product, usage) {
        let bytes = shortfall.read().map_err(|e| WeightError::Read(format!("{bias}: what calibration adds to it: {e}")))?;
        prepared.add(bias, bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect());
    }
    prepared.parts(usage.key(), sections);
    Ok(())
}

/// A weight that is to be whole numbers.
fn of_integers(usage: &WeightUse) -> Option<(&str, (&WeightUse, Encoding))> {
    match usage.form {
        Form::Encoded(encoding) if encoding.has_integers() => Some((&usage.weight, (usage, encoding))),
        Form::Encoded(_) | Form::Dense(_) => None,
    }
}

/// The sections of a product's record.
fn made(
    source: &dyn WeightSource,
    product: &Product,
    usage: &WeightUse,
    encoding: Encoding,
    inputs: Inputs,
    threads: usize,
) -> Result<Vec<Vec<u8>>, WeightError> {
    let m = matrix(&usage.ty.shape);
    let values = usage.order.rows(&source.load(&usage.weight)?, m.rows, 0..m.rows);
    let mean = inputs.mean();
    let rounded = round(&values, m, encoding, &inputs.feedback(threads), threads);
    let shortfall = bias(product, usage).map(|_| rounded.shortfall(&mean)).unwrap_or_default();
    let mut sections = encoding.pack(&rounded.numbers, &rounded.steps, m).expect("an encoding of whole numbers");
    sections.push(shortfall.into_iter().flat_map(|v| (v as f32).to_le_bytes()).collect());
    Ok(sections)
}
