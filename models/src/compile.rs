//! From trained networks to an artifact: functions at every size asked for, the pipeline, the plan, the file.

mod description;
mod networks;
mod specialise;
mod tensors;

use std::collections::BTreeMap;
use std::path::Path;

use fcdm_compiler::assemble::{Assembly, assemble_some};
use fcdm_compiler::compiled::{BuildError, Compiled};
use fcdm_compiler::weights::{Stored, WeightSource, WeightUse};
use fcdm_ir::Module;
use fcdm_passes::{Pass, Report};
use fcdm_runtime::artifact::{ArtifactContents, Output, WriteError};
use fcdm_runtime::check::check_plan;
use fcdm_runtime::engine::LoadError;
use fcdm_runtime::entry_name::DecoderKind;
use fcdm_runtime::entry_points;
use fcdm_runtime::plan::Plan;
use thiserror::Error;

use crate::autoencoder::entries as autoencoder;
use crate::calibrate::calibrate;
use crate::fcdm::{self, Config};
use crate::import::{ImportError, Survey};
pub use crate::options::Options;
use crate::options::{AfterPass, OptionError, WeightTypes};
use crate::types::{Rule, WeightType};
pub use description::passes_json;
use description::{provenance, report};
pub use networks::Networks;
pub use specialise::Condition;
use tensors::write_tensors;

/// Why there is no artifact.
#[derive(Debug, Error)]
pub enum CompileError {
    /// The checkpoint.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// An option.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The networks do not become a plan with its tensors.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The condition's table cannot be made on this machine.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The file.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The denoiser's sizes.
    pub config: Option<Config>,
    /// What the look at the values found, by the names that the fingerprints have in the artifact's provenance.
    pub surveys: Vec<(&'static str, Survey)>,
    /// The pipeline as it ran on the first denoiser, or else on the first function.
    pub passes: Report,
    /// The condition, if it was to be specialised.
    pub condition: Option<Condition>,
    /// Bytes of tensors.
    pub weight_bytes: u64,
    /// The plan.
    pub plan: Plan,
    /// The artifact's checksum.
    pub checksum: String,
}

/// Who watches a compilation.
pub trait Observer {
    /// `done` of `total` bytes of a phase (`reading`, `specialising`, `packing`) are behind us. False stops the compilation.
    fn progress(&mut self, phase: &'static str, done: u64, total: u64) -> bool;
    /// A pass has run.
    fn pass(&mut self, pass: &'static Pass, module: &Module);
}

/// Watches nothing and stops nothing.
pub struct Silent;

impl Observer for Silent {
    fn progress(&mut self, _: &'static str, _: u64, _: u64) -> bool {
        true
    }

    fn pass(&mut self, _: &'static Pass, _: &Module) {}
}

/// Builds and optimises all functions of an artifact; no weights are needed.
fn functions(networks: Networks<'_>, options: &Options, observe: AfterPass<'_>) -> Result<Compiled, CompileError> {
    let mut all = Compiled::default();
    let types: WeightTypes<'_> = &|weight| {
        let ty = options.types.of(weight, networks.role(weight));
        (ty != WeightType::F32).then(|| ty.name())
    };
    if let Some(import) = networks.fcdm {
        all = fcdm::entries::functions(import, options, types, observe)?;
    }
    if let Some(a) = networks.autoencoder {
        if options.decoder {
            autoencoder::decoders(a, DecoderKind::Own, options, types, &mut all, observe).map_err(BuildError::from)?;
        }
        if options.encoder {
            autoencoder::encoder(a, options, types, &mut all, observe).map_err(BuildError::from)?;
        }
    }
    if let Some(a) = networks.preview {
        autoencoder::decoders(a, DecoderKind::Preview, options, types, &mut all, observe).map_err(BuildError::from)?;
    }
    Ok(all)
}

fn check(networks: Networks<'_>, options: &Options) -> Result<(), CompileError> {
    if let Some(import) = networks.fcdm {
        fcdm::entries::check(import, options)?;
    }
    for a in networks.autoencoders() {
        autoencoder::check(a, networks.fcdm.map(|i| i.config().in_channels), options)?;
    }
    Ok(())
}

/// Plan and tensors. Decoders that take more memory than allowed are left out.
fn assembled(compiled: Compiled, options: &Options) -> Result<Assembly, CompileError> {
    let derived = compiled.derived();
    let mut fitting = autoencoder::Fitting::new(options);
    let mut assembly =
        assemble_some(compiled.entries, derived.as_ref(), &options.target(), &mut |entry| fitting.fits(entry)).map_err(BuildError::from)?;
    fitting.finish()?;
    assembly.plan.reproducible &= !options.fast_math;
    Ok(assembly)
}

/// Where an artifact goes.
pub enum Destination<'a> {
    /// A file, whole or not at all.
    Path(&'a Path),
    /// Something open that goes away by itself, by the name that it has in messages.
    Open(&'a str, &'a mut dyn Output),
}

/// Whether every rule is about some weight, or a table that could be in the place of some.
fn check_rules(compiled: &Compiled, condition: Option<&Condition>, options: &Options) -> Result<(), OptionError> {
    let functions = || {
        compiled.entries.iter().map(|e| &e.function).chain(&compiled.weights).chain(condition.into_iter().flat_map(Condition::functions))
    };
    let about_one = |rule: &Rule| functions().any(|f| f.weights().any(|(_, data)| rule.matches(&data.name)));
    match options.types.rules.iter().find(|rule| !about_one(rule)) {
        Some(rule) => Err(OptionError(format!("type-rules: expected patterns of weights' names (see inspect), found `{}`", rule.text))),
        None => Ok(()),
    }
}

/// The tensors of an artifact by name.
fn tensors_of(assembly: &Assembly) -> BTreeMap<String, (Stored, &WeightUse)> {
    assembly.tensors().map(|(stored, usage)| (stored.name.clone(), (stored, usage))).collect()
}

/// Compiles networks and writes the artifact, whole or not at all.
///
/// # Errors
/// See [`CompileError`].
pub fn compile(networks: Networks<'_>, options: &Options, path: &Path, observer: &mut dyn Observer) -> Result<Summary, CompileError> {
    compile_to(networks, options, Destination::Path(path), observer)
}

/// As [`compile`], also into what has no path.
///
/// # Errors
/// See [`CompileError`].
pub fn compile_to(
    networks: Networks<'_>,
    options: &Options,
    to: Destination<'_>,
    observer: &mut dyn Observer,
) -> Result<Summary, CompileError> {
    check(networks, options)?;
    let mut compiled = functions(networks, options, &mut |p, m| observer.pass(p, m))?;
    let passes = compiled.report.take().unwrap_or_default();
    let mut model = networks.fcdm.map(|i| fcdm::entries::model_info(i.config(), options));
    let specialised = |(asked, model)| Condition::new(asked, model, options, &mut compiled);
    let condition = options.specialise.as_ref().zip(model.as_ref()).map(specialised).transpose()?;
    let table = condition.as_ref().filter(|c| c.is_table());
    if let (Some(model), Some(table)) = (&mut model, table) {
        model.specialisation = Some(table.specialisation.clone());
    }
    check_rules(&compiled, condition.as_ref(), options)?;
    let mut assembly = assembled(compiled, options)?;
    // What no runtime would load is not written: an arena beyond all bounds, say.
    let tensors = tensors_of(&assembly);
    let stored = |name: &str| tensors.get(name).map(|(s, _)| (s.element, s.shape.as_slice()));
    check_plan(&assembly.plan, &stored).map_err(|e| OptionError(e.to_string()))?;
    let info = networks.autoencoder.map(|a| a.info());
    let weight_bytes = tensors.values().map(|(s, _)| s.bytes() as u64).sum();
    entry_points::check(&assembly.plan, model.as_ref(), info.as_ref(), weight_bytes).map_err(OptionError)?;
    let mut progress = |done, total| observer.progress("reading", done * 4, total * 4);
    let surveys = networks.surveys(&mut progress)?.ok_or(CompileError::Cancelled)?;
    if let (Some(import), Some(calibration)) = (networks.fcdm, options.calibration) {
        assembly.prepared = calibrate(import, &assembly, options, calibration, observer)?;
    }
    let sources = networks.sources();
    let table = table.map(|condition| condition.table(options, &sources, observer)).transpose()?;
    let sources = sources.with(table.as_ref().map(|table| table as &dyn WeightSource));
    let contents = ArtifactContents {
        plan: assembly.plan.clone(),
        model,
        autoencoder: info,
        ir: Some(assembly.ir.clone()),
        provenance: Some(provenance(networks, options, &surveys)),
        report: Some(report(networks, options, condition.as_ref(), &passes)),
        license: options.license.clone(),
    };
    let checksum = write_tensors(to, &contents, &assembly, tensors_of(&assembly).into_values(), &sources, observer)?;
    let config = networks.fcdm.map(|i| i.config().clone());
    Ok(Summary { config, surveys, passes, condition, weight_bytes, plan: contents.plan, checksum })
}
