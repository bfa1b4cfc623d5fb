//! `fcdm encode`: a folder of pictures becomes latents for training.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use fcdm_models::autoencoder::Half;
use fcdm_models::latents::{Contents, Encoded, LatentLayout, PictureFile, Posteriors, Store, pictures};
use fcdm_models::pictures::{centre_square, load, size};
use fcdm_runtime::artifact::{Artifact, keys};
use fcdm_runtime::autoencoder::Encoder;
use fcdm_runtime::engine::Cpu;
use serde_json::json;

use crate::failure::Failure;
use crate::model::{self, WantedSize};
use crate::progress;
use crate::say::{self, sayln};

/// Encode a folder of pictures into latents for training.
#[derive(Args)]
pub struct Arguments {
    /// The folder; every sub-folder is a class, in the order of names.
    folder: PathBuf,
    /// Folder of the latents.
    #[arg(short, long, default_value = "latents", value_name = "FOLDER")]
    output: PathBuf,
    /// The autoencoder: its weights (see `compile --vae`), or an artifact compiled with --vae and --encoder [default: the one in the box].
    #[arg(long, alias = "model", value_name = "PATH")]
    vae: Option<PathBuf>,
    /// What the denoiser's latents are those of an ONNX autoencoder times, such as 0.18215 [default: 1].
    #[arg(long, value_name = "FACTOR", requires = "vae", value_parser = crate::compile::scale)]
    vae_scale: Option<f64>,
    /// Side of the pictures: their middle is cut out and scaled to it.
    #[arg(long, value_name = "PIXELS", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1 << 14))]
    size: u32,
    /// npy: a file for every picture; zarr: a store of one array.
    #[arg(long, value_enum, default_value = "npy")]
    format: Format,
    /// Store a sample of the posterior for every picture, as the official scripts do, in place of its mean and deviation. Half of the
    /// pictures, chosen at random, are mirrored.
    #[arg(long)]
    samples: bool,
    /// No mirrored pictures.
    #[arg(long)]
    no_flip: bool,
    /// Seed of samples and flips.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads [default: as many as the machine runs at once].
    #[arg(short, long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Print a summary as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Npy,
    Zarr,
}

/// Runs the command.
pub fn run(a: &Arguments) -> Result<(), Failure> {
    crate::signals::stop_when_asked();
    let (files, classes) = pictures(&a.folder).map_err(|e| Failure::new(1, format!("{}: {e}", a.folder.display())))?;
    if files.is_empty() {
        return Err(Failure::usage(format!("{}: expected pictures (PNG, JPEG, WebP), found none", a.folder.display())));
    }
    let artifact = model::autoencoder(a.vae.as_deref(), a.vae_scale, WantedSize::Square(a.size as usize), Half::Encoder)?;
    let mut verification = Some(artifact.verify_in_background());
    let encoder = Encoder::new(&artifact, &Cpu::new(crate::generate::threads(a.threads))?)?;
    let mut posteriors = Posteriors::new(encoder, a.samples.then_some(a.seed), !a.no_flip);
    let side = a.size as usize;
    if posteriors.picture()[..2] != [side, side] {
        let [h, w, _] = posteriors.picture();
        return Err(Failure::usage(format!("size: the artifact encodes pictures of {w} x {h}, found {side} x {side}")));
    }
    // A file that is no picture is better found now than after hours.
    files.iter().try_for_each(|f| size(&f.path).map(drop))?;
    let mut store = store(a, &files, &artifact, &posteriors)?;
    let todo: Vec<usize> = (0..files.len()).filter(|&i| !store.has(i)).collect();
    let mut bar = progress::steps(todo.len() as u64).with_message("encoding");
    let started = Instant::now();
    for (done, &index) in todo.iter().enumerate() {
        let square = centre_square(&load(&files[index].path)?, side);
        let encoded = Encoded { label: files[index].label, values: posteriors.encode(&square, index) };
        let verified = verification.take().map_or(Ok(true), |v| v.wait(&crate::signals::stopped))?;
        if !verified || crate::signals::stopped() {
            bar.finish_and_clear();
            return Err(Failure::cancelled(format!(
                "stopped; {} of {} pictures are encoded",
                files.len() - todo.len() + done,
                files.len()
            )));
        }
        store.add(index, encoded)?;
        bar.set_position(done as u64 + 1);
    }
    store.finish()?;
    bar.finish_and_clear();
    let (seconds, [h, w, c]) = (started.elapsed().as_secs_f64(), posteriors.latent());
    if a.json {
        let summary = json!({ "pictures": files.len(), "encoded": todo.len(), "classes": classes, "shape": [c, h, w], "seconds": seconds });
        say::json(&summary);
    } else {
        let each = seconds * 1e3 / todo.len().max(1) as f64;
        sayln!(
            "encoded {} of {} pictures, {} classes, to latents {c} x {h} x {w} in {}, {each:.1} ms each",
            todo.len(),
            files.len(),
            classes.len().max(1),
            a.output.display()
        );
    }
    Ok(())
}

fn store(a: &Arguments, files: &[PictureFile], artifact: &Artifact, posteriors: &Posteriors) -> Result<Store, Failure> {
    let [h, w, c] = posteriors.latent();
    let layout = match a.format {
        Format::Npy => LatentLayout::Npy,
        Format::Zarr => LatentLayout::Zarr,
    };
    let made = json!({
        "folder": a.folder, "size": a.size, "samples": a.samples, "flip": !a.no_flip, "seed": a.seed,
        "autoencoder": artifact.metadata(keys::CHECKSUM),
    });
    let contents = Contents { count: files.len(), shape: [c, h, w], arrays: posteriors.arrays().to_vec(), made };
    Ok(Store::open(&a.output, layout, contents)?)
}
