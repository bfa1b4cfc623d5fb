//! `fcdm generate`: pictures from an artifact.

mod start;

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use fcdm_command::generate;
use fcdm_models::pictures::write_npz;
use fcdm_runtime::file::{FileError, replace_file};
use fcdm_runtime::picture::files::Files;

use crate::failure::Failure;
use crate::pictures::writable;

/// Generate pictures.
#[derive(Args)]
pub struct Arguments {
    /// The artifact [default: the model in the box, photographs of clothes, and a grid of them].
    model: Option<PathBuf>,
    #[command(flatten)]
    generate: generate::Arguments,
    #[command(flatten)]
    init: start::Arguments,
    /// Start from `noise [n,C,H,W]` of a safetensors file; stochastic samplers take `step_noise [steps,n,C,H,W]` from it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "interpolate"])]
    noise: Option<PathBuf>,
    /// Also write an archive with one array `arr_0`, uint8 [n,H,W,C], as evaluators read it.
    #[arg(long, value_name = "FILE")]
    npz: Option<PathBuf>,
}

/// Runs the command.
pub fn run(a: &Arguments) -> Result<(), Failure> {
    crate::signals::stop_when_asked();
    a.npz.as_deref().map_or(Ok(()), writable)?;
    let mut work = a.generate.begin(crate::model::open(a.model.as_deref())?)?;
    if a.npz.is_some() && !work.has_pictures() {
        let found = work.model().in_channels;
        let line = format!("npz: expected a model of pictures or one with a decoder (compile --vae), found latents of {found} channels");
        return Err(Failure::usage(line));
    }
    // Whoever names no model wants to see something.
    if a.model.is_none() {
        work.grid = work.grid.or(Some(0));
    }
    if let Some(path) = &a.noise {
        work.order.noise = Some(start::noise(path, work.model(), work.count(), work.noise_steps()?)?);
    }
    if let Some(beginning) = a.init.open(work.artifact(), work.model(), a.generate.threads())? {
        work.order.init = Some(beginning.init);
        work.from = Some(beginning.text);
    }
    let done = work.run()?;
    if let (Some(path), Some(shape)) = (&a.npz, done.shape) {
        archive(path, shape, &done.files)?;
    }
    done.report();
    Ok(())
}

/// Writes pictures of height, width and channels `shape` as evaluators of image generators read them.
pub fn archive(path: &Path, shape: [usize; 3], files: &Files) -> Result<(), FileError> {
    let pictures = files.pictures().map(|picture| picture.map_err(io::Error::other));
    replace_file(path, |file| write_npz(file, shape, files.count(), pictures).map_err(FileError::writing(path)))
}
