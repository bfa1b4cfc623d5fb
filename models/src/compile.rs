//! From trained networks to an artifact: functions at every size asked for, the pipeline, the plan, the file.

mod aside;
mod description;
mod mixed;
mod networks;
mod planned;
mod specialise;
mod tensors;

use std::path::Path;

use fcdm_compiler::compiled::BuildError;
use fcdm_compiler::rounding::METHOD;
use fcdm_ir::Module;
use fcdm_passes::{Pass, Report};
use fcdm_runtime::artifact::{ArtifactError, Output, WriteError};
use fcdm_runtime::engine::LoadError;
use fcdm_runtime::plan::Plan;
use fcdm_runtime::simd::Isa;
use thiserror::Error;

use crate::calibrate::calibrate;
use crate::calibrate::records::Records;
use crate::calibrate::states::states;
use crate::fcdm::Config;
use crate::import::{ImportError, Survey};
use crate::options::OptionError;
pub use crate::options::Options;
use crate::types::WeightType;
pub use aside::aside;
pub use description::passes_json;
use mixed::{Seen, forced, mixed};
pub use networks::Networks;
pub(crate) use planned::planned;
use planned::{Planned, Source, check};
pub use specialise::Condition;

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
    /// What was written for this run alone.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
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
    /// Pieces of calibration's work that were there already.
    pub resumed: usize,
    /// Weights that rules make whole numbers of, but that are floats by themselves, and how close what is generated stays with each of
    /// them alone, dB, if that can be had.
    pub forced: Vec<(String, WeightType, Option<f64>)>,
    /// The plan.
    pub plan: Plan,
    /// The artifact's checksum.
    pub checksum: String,
}

/// What takes its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Values are read and looked at, in bytes.
    Reading,
    /// The condition becomes a table, in bytes.
    Specialising,
    /// Tensors are made and written, in bytes.
    Packing,
    /// The network's own trajectories, in steps.
    Generating,
    /// Weights are rounded for what they multiply, in layers.
    Calibrating,
    /// What rounding each layer does, in layers.
    Measuring,
    /// A mix of types against f32, in steps.
    Verifying,
}

impl Phase {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Reading => "reading",
            Phase::Specialising => "specialising",
            Phase::Packing => "packing",
            Phase::Generating => "generating",
            Phase::Calibrating => "calibrating",
            Phase::Measuring => "measuring",
            Phase::Verifying => "verifying",
        }
    }

    /// Whether it is counted in bytes.
    pub fn is_of_bytes(self) -> bool {
        matches!(self, Phase::Reading | Phase::Specialising | Phase::Packing)
    }
}

/// Who watches a compilation.
pub trait Observer {
    /// `done` of `total` bytes, steps or layers of a phase are behind us. False stops the compilation.
    fn progress(&mut self, phase: Phase, done: u64, total: u64) -> bool;
    /// A pass has run.
    fn pass(&mut self, pass: &'static Pass, module: &Module);
}

/// Watches nothing and stops nothing.
pub struct Silent;

impl Observer for Silent {
    fn progress(&mut self, _: Phase, _: u64, _: u64) -> bool {
        true
    }

    fn pass(&mut self, _: &'static Pass, _: &Module) {}
}

/// Where an artifact goes.
pub enum Destination<'a> {
    /// A file, whole or not at all.
    Path(&'a Path),
    /// Something open that goes away by itself, by the name that it has in messages.
    Open(&'a str, &'a mut dyn Output),
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
    let mut planned = Planned::new(networks, options, &mut |p, m| observer.pass(p, m))?;
    let mut progress = |done, total| observer.progress(Phase::Reading, done * 4, total * 4);
    let surveys = networks.surveys(&mut progress)?.ok_or(CompileError::Cancelled)?;
    let source = Source { networks, surveys: &surveys };
    let mut options = options.clone();
    let (mut quantised, mut resumed) = (None, 0);
    if let (Some(import), Some(calibration)) = (networks.fcdm, options.calibration) {
        let records = records(&source, &options)?;
        let states = states(import, &options, calibration, &records, observer)?;
        if let Some(mix) = options.mix {
            let seen = Seen { import, calibration, states: &states, records: &records };
            let found = mixed(&source, &options, mix, &planned.assembly, &seen, observer)?;
            (options, planned, quantised) = (found.options, found.planned, Some(found.report));
        } else {
            planned.assembly.prepared = calibrate(import, &planned.assembly, &options, calibration, &states, &records, observer)?;
        }
        resumed = records.taken();
    }
    let forced = match networks.fcdm {
        Some(import) => forced(import, &options, &planned.assembly, observer)?,
        None => Vec::new(),
    };
    let checksum = source.write(to, &planned, &options, quantised.as_ref(), observer)?;
    let config = networks.fcdm.map(|i| i.config().clone());
    let Planned { passes, condition, weight_bytes, assembly, .. } = planned;
    Ok(Summary { config, surveys, passes, condition, weight_bytes, forced, resumed, plan: assembly.plan, checksum })
}

/// Where calibration keeps what it has, by all that decides it.
fn records(source: &Source<'_>, options: &Options) -> Result<Records, CompileError> {
    let isa = Isa::from_env().map_or("none", |isa| isa.name());
    let (weights, version) = (source.surveys.first().map_or(0, |(_, survey)| survey.fingerprint), env!("CARGO_PKG_VERSION"));
    let Options { height, width, calibration, sampling, optimise, .. } = options;
    let null_class = source.networks.fcdm.map(|import| import.config().null_class);
    Records::new(
        options.calibration_folder.as_deref(),
        &format!("{version} {METHOD} {weights:016x} {height}x{width} {calibration:?} {sampling:?} {optimise} {null_class:?} {isa}"),
    )
}
