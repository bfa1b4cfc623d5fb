//! A mix of types on its way into an artifact: chosen for a goal, planned, rounded, and held against f32 on noise that nothing before
//! has seen.

use std::collections::BTreeMap;

use fcdm_compiler::assemble::Assembly;
use fcdm_runtime::encoding::Encoding;
use fcdm_runtime::plan::Form;
use serde_json::{Value, json};

use super::planned::{Planned, Source};
use super::{CompileError, Observer, aside};
use crate::calibrate::records::Records;
use crate::calibrate::states::States;
use crate::calibrate::{Calibration, calibrate};
use crate::fcdm::Import;
use crate::mix::{Chosen, Effects, Goal, Mix, alone, effects, verify};
use crate::options::{OptionError, Options};
use crate::types::{Types, WeightType};

/// How often a mix that falls short of what was asked for makes way for a better one.
const ATTEMPTS: usize = 4;

/// What a better one aims at beside what the last fell short of, dB.
const MORE: f64 = 0.1;

/// Bytes that the file may yet grow by: what was measured is written into it.
const SPARE: u64 = 256;

/// The network, on the states that calibration has seen.
pub(super) struct Seen<'a> {
    pub import: &'a Import,
    pub calibration: Calibration,
    pub states: &'a States,
    pub records: &'a Records,
}

/// A mix that is ready to be written.
pub(super) struct Mixture {
    pub options: Options,
    pub planned: Planned,
    /// What was chosen, predicted and measured.
    pub report: Value,
}

/// Chooses a mix. `assembly` says which weights the artifact has.
pub(super) fn mixed(
    source: &Source<'_>,
    options: &Options,
    mix: Mix,
    assembly: &Assembly,
    seen: &Seen<'_>,
    observer: &mut dyn Observer,
) -> Result<Mixture, CompileError> {
    let held = |weight: &str| assembly.weights.values().any(|usage| usage.weight == weight);
    let effects = effects(seen.import, options, seen.states, seen.calibration, &held, seen.records, observer)?;
    let (mut aim, mut best) = (mix, None);
    for _ in 0..ATTEMPTS {
        let (options, mut planned, chosen) = match settled(source, options, aim, &effects) {
            // One more step up is more than there is: what came nearest is the best.
            Err(CompileError::Option(_)) if best.is_some() => break,
            found => found?,
        };
        let Seen { import, calibration, states, records } = *seen;
        planned.assembly.prepared = calibrate(import, &planned.assembly, &options, calibration, states, records, observer)?;
        let artifact = aside("the quantised network", &mut |to| source.write(to, &planned, &options, None, observer).map(drop))?;
        let measured = verify(&effects.floats().expect("it was measured").clone(), &artifact, observer)?;
        let report = report(&chosen, mix.goal, Some(measured.to_json()));
        match mix.goal {
            Goal::Decibels(wanted) if measured.decibels() < wanted => {
                best = Some(best.unwrap_or(f64::MIN).max(measured.decibels()));
                let Goal::Decibels(aimed) = aim.goal else { unreachable!("goals stay of their kind") };
                aim.goal = Goal::Decibels(aimed + (wanted - measured.decibels()) + MORE);
            }
            _ => return Ok(Mixture { options, planned, report }),
        }
    }
    let Goal::Decibels(wanted) = mix.goal else { unreachable!("only what is too far off is tried again") };
    Err(OptionError(format!(
        "min-psnr: expected at most {:.1} dB, which the best mix that was tried comes to, found {wanted}",
        best.unwrap_or_default()
    ))
    .into())
}

/// The mix for a goal, and what becomes of it: a budget is one of the file, which holds more than layers.
fn settled(source: &Source<'_>, options: &Options, mix: Mix, effects: &Effects) -> Result<(Options, Planned, Chosen), CompileError> {
    let with = |chosen: BTreeMap<String, WeightType>| Options { types: Types { chosen, ..options.types.clone() }, ..options.clone() };
    let plan = |options: &Options| Planned::new(source.networks, options, &mut |_, _| {});
    let Goal::Bytes(budget) = mix.goal else {
        let chosen = effects.choose(mix, 0)?;
        let options = with(chosen.types.clone());
        let planned = plan(&options)?;
        return Ok((options, planned, chosen));
    };
    let smallest = effects.smallest(mix.codes);
    let options = with(smallest.types.clone());
    let bytes = source.file_bytes(&plan(&options)?, &options, Some(&report(&smallest, mix.goal, None)))?;
    let least = (bytes + SPARE).saturating_sub(smallest.bytes());
    let mut others = least;
    loop {
        // Fewer tensors make a shorter header: what was taken for it may be more than the smallest mix needs.
        let (chosen, is_last) = match effects.choose(mix, others) {
            Err(_) if others > least => (smallest.clone(), true),
            found => (found?, false),
        };
        let options = with(chosen.types.clone());
        let planned = plan(&options)?;
        let found = SPARE + source.file_bytes(&planned, &options, Some(&report(&chosen, mix.goal, None)))?;
        if found <= budget || is_last {
            return Ok((options, planned, chosen));
        }
        others += found - budget;
    }
}

fn report(chosen: &Chosen, goal: Goal, measured: Option<Value>) -> Value {
    let mut report = chosen.to_json();
    report["goal"] = match goal {
        Goal::Bytes(bytes) => json!({ "budget": bytes }),
        Goal::Decibels(db) => json!({ "min_db": db }),
    };
    report["measured"] = measured.unwrap_or_default();
    report
}

/// Weights that rules make whole numbers of although they would be floats by themselves, and how close what is generated stays with each of
/// them alone, dB, if that can be had.
pub(super) fn forced(
    import: &Import,
    options: &Options,
    assembly: &Assembly,
    observer: &mut dyn Observer,
) -> Result<Vec<(String, WeightType, Option<f64>)>, CompileError> {
    let usual = Types::from(Encoding::I8);
    let by_rule = |weight: &str| options.types.rules.iter().any(|rule| rule.matches(weight));
    let mut found: BTreeMap<String, WeightType> = BTreeMap::new();
    for usage in assembly.weights.values().filter(|usage| matches!(usage.form, Form::Encoded(encoding) if encoding.has_integers())) {
        let role = import.role(&usage.weight);
        if role.is_some() && by_rule(&usage.weight) && !usual.of(&usage.weight, role).encoding.has_integers() {
            found.insert(usage.weight.clone(), options.types.of(&usage.weight, role));
        }
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let known = match alone(import, options, &found, observer) {
        Err(CompileError::Cancelled) => return Err(CompileError::Cancelled),
        known => known.unwrap_or_default(),
    };
    let decibels = |weight: &str| known.get(weight).copied().filter(|db| db.is_finite());
    Ok(found.iter().map(|(weight, &ty)| (weight.clone(), ty, decibels(weight))).collect())
}
