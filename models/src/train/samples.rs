//! The sheet of pictures that comes with a checkpoint, made of its file on the way that everybody goes: it is compiled and generated from.
//! Seeds are fixed, so that sheets of different checkpoints show the same pictures becoming better.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use fcdm_compiler::checkpoint::{Checkpoint, CheckpointError};
use fcdm_runtime::artifact::Sampling;
use fcdm_runtime::file::FileError;
use fcdm_runtime::generate::{GenerateError, Generator, Options as Generation, Seeds, Setup};
use fcdm_runtime::network::NetworkError;
use fcdm_runtime::picture::png::write_png;
use fcdm_runtime::picture::{GAP, Picture, columns_of, grid};
use thiserror::Error;

use crate::autoencoder::Autoencoder;
use crate::compile::{CompileError, Destination, Networks, Options, Silent, aside, compile_to};
use crate::fcdm::Import;
use crate::import::ImportError;

/// Why there is no sheet.
#[derive(Debug, Error)]
pub enum SamplesError {
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// It has no network.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// It does not compile.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The network does not run.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// No pictures come of it.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// They cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What pictures to make.
pub struct Wanted<'a> {
    /// How many.
    pub count: usize,
    /// Steps of the sampler.
    pub steps: usize,
    /// Guidance.
    pub cfg_scale: f64,
    /// Height and width of what the network makes.
    pub size: [usize; 2],
    /// Names of the classes.
    pub classes: &'a [String],
    /// Whether the last class is none.
    pub null_class: bool,
    /// What shows latents; without it the network makes pictures.
    pub autoencoder: Option<&'a Autoencoder>,
    /// Threads.
    pub threads: usize,
}

/// Makes a sheet of a checkpoint; `stopped` ends it. Returns whether it was written.
///
/// # Errors
/// See [`SamplesError`].
pub fn sheet(checkpoint: &Path, wanted: &Wanted<'_>, to: &Path, stopped: &dyn Fn() -> bool) -> Result<bool, SamplesError> {
    let import = Import::open(Checkpoint::open(checkpoint)?, None, wanted.null_class)?;
    let all = import.config().num_classes;
    let guided = import.config().null_class;
    let names = if wanted.classes.len() == all { wanted.classes.to_vec() } else { Vec::new() };
    let sampling = Sampling { steps: wanted.steps, cfg_scale: if guided { wanted.cfg_scale } else { 1.0 }, all_channels: true };
    let options =
        Options { batches: vec![2], class_names: names, sampling: Some(sampling), ..Options::new(wanted.size[0], wanted.size[1]) };
    let networks = Networks { fcdm: Some(&import), autoencoder: wanted.autoencoder, preview: None };
    let mut write = |to: Destination<'_>| compile_to(networks, &options, to, &mut Silent).map(drop);
    let artifact = aside("samples.fcdm", &mut write)?;
    // Several of each of few classes, one of each of some of many.
    let each = wanted.count.div_ceil(all.min(wanted.count));
    let classes: Vec<String> = (0..all.min(wanted.count)).map(|i| (i * all / all.min(wanted.count)).to_string()).collect();
    let generation = Generation { class_labels: classes, seeds: Seeds::From { first: 0, count: each as u32 }, ..Generation::default() };
    let pictures = pictures(artifact, &generation, wanted.threads, stopped)?;
    let Some(pictures) = pictures else { return Ok(false) };
    let columns = if each > 1 { each } else { columns_of(pictures.len()) };
    write_png(to, &grid(&pictures, columns, GAP), &[])?;
    Ok(true)
}

fn pictures(
    artifact: Arc<fcdm_runtime::artifact::Artifact>,
    generation: &Generation,
    threads: usize,
    stopped: &dyn Fn() -> bool,
) -> Result<Option<Vec<Picture>>, SamplesError> {
    let mut generator = Generator::new(artifact, &Setup { threads, ..Setup::default() })?;
    let order = generation.order(generator.model()).map_err(GenerateError::from)?;
    let jobs = generation.jobs(generator.model()).map_err(GenerateError::from)?;
    let mut go_on = |_: &mut fcdm_runtime::generate::Step<'_>| if stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    Ok(generator.pictures(&order, &jobs, &mut go_on)?)
}
