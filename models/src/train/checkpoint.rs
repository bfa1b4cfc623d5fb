//! Checkpoints: one file with the weights, their averages and all that is kept of training, under the names of the official trainer, so that
//! whatever reads weights reads it and a run goes on from it to the bit.
//!
//! | tensors | hold |
//! | --- | --- |
//! | `model.NAME` | the weights |
//! | `ema.NAME` | their running average: what pictures are made with |
//! | `optimizer.exp_avg.NAME`, `optimizer.exp_avg_sq.NAME` | what AdamW keeps |
//!
//! The metadata say in `fcdm.training` how far it is, in `fcdm.config` with which options, in `fcdm.classes` of which classes, in `fcdm.size` of which height and width.

use std::path::{Path, PathBuf};

use fcdm_compiler::checkpoint::{Checkpoint, CheckpointError, StateDict};
use fcdm_runtime::file::FileError;
use fcdm_runtime::file::tensors::write_tensors_about;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::examples::Statistics;
use super::schedule::Decay;
use super::step::{MEAN, SQUARE, Step};
use crate::size::INPUT;

/// The average that official checkpoints have too.
pub const EMA: &str = "ema.";

/// Tensors begin so, and the states that they hold.
const SETS: [(&str, &str); 4] = [("model.", ""), (EMA, EMA), ("optimizer.exp_avg.", MEAN), ("optimizer.exp_avg_sq.", SQUARE)];

/// Keys of the metadata.
const TRAINING: &str = "fcdm.training";
const CONFIG: &str = "fcdm.config";
/// Names of the classes.
pub const CLASSES: &str = "fcdm.classes";

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Updates that were made.
    pub step: u64,
    /// Where the learning rate goes down, once that has begun.
    pub decay: Option<Decay>,
    /// Seconds of training, all runs together.
    pub seconds: f64,
    /// What the latents are.
    pub statistics: Option<Statistics>,
}

/// A checkpoint that does not go on.
#[derive(Debug, Error)]
pub enum ResumeError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] CheckpointError),
    /// It is of something else.
    #[error("{file}: {field}: expected {expected}, found {found}")]
    Field {
        /// The file.
        file: String,
        /// What of it.
        field: String,
        /// What would do.
        expected: String,
        /// What is there.
        found: String,
    },
}

/// A checkpoint's name.
pub fn name(step: u64) -> String {
    format!("{step:07}.safetensors")
}

/// The checkpoints of a folder with their steps, the oldest first.
pub fn list(folder: &Path) -> Vec<(u64, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let step = |path: &Path| path.file_name()?.to_str()?.strip_suffix(".safetensors")?.parse().ok();
    let mut all: Vec<(u64, PathBuf)> = entries.flatten().filter_map(|e| Some((step(&e.path())?, e.path()))).collect();
    all.sort();
    all
}

/// Writes a checkpoint, whole or not at all.
///
/// # Errors
/// When it cannot be written; what was there stays.
pub fn save(path: &Path, step: &Step, progress: &Progress, config: &str, classes: &[String]) -> Result<(), FileError> {
    let about = [
        ("format", "pt".to_owned()),
        (TRAINING, serde_json::to_string(progress).expect("it is JSON")),
        (CONFIG, config.to_owned()),
        (CLASSES, serde_json::to_string(classes).expect("it is JSON")),
        (INPUT, format!("[{}, {}]", step.options().size.height, step.options().size.width)),
    ];
    let parameters = step.parameters();
    let trained = |name: &str| step.options().trained.iter().any(|t| t == name);
    // Weights that are not trained have no other state, but are in the average, which is complete without them.
    let of = |(tensor, state): (&'static str, &'static str)| {
        let kept = move |name: &str| state.is_empty() || state == EMA || trained(name);
        parameters.iter().filter(move |p| kept(&p.name)).map(move |p| (tensor, if trained(&p.name) { state } else { "" }, p))
    };
    let all: Vec<_> = SETS.into_iter().flat_map(of).collect();
    let tensors: Vec<(String, Vec<usize>)> = all.iter().map(|(tensor, _, p)| (format!("{tensor}{}", p.name), p.shape.clone())).collect();
    let mut values = |i: usize| {
        let (_, state, p) = all[i];
        let mut values = vec![0.0; p.count()];
        step.read(&format!("{state}{}", p.name), &mut values);
        Some(p.to_checkpoint(values))
    };
    write_tensors_about(path, &about, &tensors, &mut values).map(drop)
}

/// Reads a checkpoint into a step: everything that it was saved from.
///
/// # Errors
/// See [`ResumeError`].
pub fn load(path: &Path, step: &mut Step) -> Result<Progress, ResumeError> {
    let checkpoint = Checkpoint::open(path)?;
    let progress = progress(&checkpoint)?;
    let dict = StateDict::everything(checkpoint)?;
    for p in step.parameters().to_vec() {
        let trained = step.options().trained.contains(&p.name);
        for (tensor, state) in SETS.into_iter().filter(|(_, state)| state.is_empty() || trained) {
            let name = format!("{tensor}{}", p.name);
            let values = dict.read_f32(&name)?;
            if values.len() != p.count() {
                return Err(wrong(dict.file(), format!("tensor `{name}`"), format!("{:?}", p.shape), format!("{} values", values.len())));
            }
            step.write(&format!("{state}{}", p.name), &p.to_ir(values));
        }
    }
    Ok(progress)
}

/// How far the run of a checkpoint was.
///
/// # Errors
/// When it does not say.
pub fn progress(checkpoint: &Checkpoint) -> Result<Progress, ResumeError> {
    let said = checkpoint.arguments().get(TRAINING).and_then(|text| serde_json::from_str::<String>(text).ok());
    let parsed = said.as_deref().map(serde_json::from_str::<Progress>);
    match parsed {
        Some(Ok(progress)) => Ok(progress),
        Some(Err(e)) => Err(wrong(checkpoint.file(), TRAINING, "how far training is", e.to_string())),
        None => Err(wrong(checkpoint.file(), TRAINING, "how far training is, in the metadata", "nothing")),
    }
}

fn wrong(file: &str, field: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> ResumeError {
    ResumeError::Field { file: file.to_owned(), field: field.into(), expected: expected.into(), found: found.into() }
}
