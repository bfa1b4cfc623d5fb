//! `fcdm generate`: pictures from an artifact.

mod start;

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use fcdm_command::generate;
use fcdm_models::pictures::write_npz;
use fcdm_runtime::file::{FileError, replace_file};
use fcdm_runtime::picture::files::Files;

use crate::failure::Failure;
use crate::help::{OUTPUT, SAMPLING, examples};
use crate::pictures::writable;

const EXAMPLES: &str = examples!(
    "fcdm generate",
    "fcdm generate --class-labels dress,shoes --num 4 --grid",
    "fcdm generate --class-labels hat --seed 7 --steps 20 --cfg-scale 3",
    "fcdm generate --init-image photo.jpg --strength 0.6 --class-labels shirt",
    "fcdm generate model.fcdm --class-labels 0-9 --seeds 0-99 --npz samples.npz",
    "fcdm generate model.fcdm --sampler dpm++2m --steps 20",
);

/// Generate pictures with a compiled model or that in the box.
///
/// The model in the box makes photographs of clothes: dress, hat, longsleeve, outwear, pants, shirt, shoes, shorts, skirt and t-shirt.
#[derive(Args)]
#[command(after_help = "More options, and examples: fcdm generate --help", after_long_help = EXAMPLES)]
pub struct Arguments {
    /// The .fcdm file [default: the model in the box].
    ///
    /// Without one, a grid of several pictures is written too.
    model: Option<PathBuf>,
    #[command(flatten)]
    generate: generate::Arguments,
    #[command(flatten)]
    init: start::Arguments,
    /// Begin from the noise of a safetensors file.
    ///
    /// It is `noise [n,C,H,W]`; stochastic samplers take `step_noise [steps,n,C,H,W]` from it.
    #[arg(long, value_name = "FILE", help_heading = SAMPLING, conflicts_with_all = ["seeds", "interpolate"], hide_short_help = true)]
    noise: Option<PathBuf>,
    /// Also write a NumPy archive, for FID and the like.
    ///
    /// It has one array `arr_0`, uint8 [n,H,W,C], as evaluators read it.
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
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
    // Whoever names no model wants to see something. One picture shows itself.
    if a.model.is_none() && work.count() > 1 {
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
    let pictures = files.pictures().map(|picture| picture.map(Cow::into_owned).map_err(io::Error::other));
    replace_file(path, |file| write_npz(file, shape, files.count(), pictures).map_err(FileError::writing(path)))
}
