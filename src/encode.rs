//! `fcdm encode`: a folder of pictures becomes latents for training.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::{Args, ValueEnum};
use fcdm_models::autoencoder::tiny::Half;
use fcdm_models::latents::{Array, Contents, Encoded, LatentLayout, PictureFile, Store, pictures};
use fcdm_models::pictures::{Picture, centre_square, load, size};
use fcdm_models::tensors::channels_first;
use fcdm_runtime::artifact::{Artifact, keys};
use fcdm_runtime::autoencoder::Encoder;
use fcdm_runtime::rng::{Purpose, Stream, normals, uniform};
use serde_json::json;

use crate::failure::Failure;
use crate::model::{self, Size};
use crate::progress;
use crate::say::sayln;

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
    progress::stop_on_interrupt();
    let (files, classes) = pictures(&a.folder).map_err(|e| Failure::new(1, format!("{}: {e}", a.folder.display())))?;
    if files.is_empty() {
        return Err(Failure::usage(format!("{}: expected pictures (PNG, JPEG, WebP), found none", a.folder.display())));
    }
    let artifact = model::autoencoder(a.vae.as_deref(), a.vae_scale, Size::Square(a.size as usize), Half::Encoder, a.json)?;
    let mut verification = Some(artifact.verify_in_background());
    let mut work = Work::new(a, &artifact)?;
    let side = a.size as usize;
    if work.encoder.picture()[..2] != [side, side] {
        let [h, w, _] = work.encoder.picture();
        return Err(Failure::usage(format!("size: the artifact encodes pictures of {w} x {h}, found {side} x {side}")));
    }
    // A file that is no picture is better found now than after hours.
    files.iter().try_for_each(|f| size(&f.path).map(drop))?;
    let mut store = work.store(&files, &artifact)?;
    let todo: Vec<usize> = (0..files.len()).filter(|&i| !store.has(i)).collect();
    let bar = progress::steps(todo.len() as u64, a.json).with_message("encoding");
    let started = Instant::now();
    for (done, &index) in todo.iter().enumerate() {
        let square = centre_square(&load(&files[index].path)?, side);
        let encoded = Encoded { label: files[index].label, values: work.encode(&square, index) };
        let verified = verification.take().map_or(Ok(true), |v| v.wait(&progress::stopped))?;
        if !verified || progress::stopped() {
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
    let (seconds, [h, w, c]) = (started.elapsed().as_secs_f64(), work.encoder.latent());
    if a.json {
        let summary = json!({ "pictures": files.len(), "encoded": todo.len(), "classes": classes, "shape": [c, h, w], "seconds": seconds });
        sayln!("{summary:#}");
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

/// An encoder and what is stored of its results.
struct Work<'a> {
    a: &'a Arguments,
    encoder: Encoder,
    arrays: Vec<Array>,
}

impl<'a> Work<'a> {
    fn new(a: &'a Arguments, artifact: &Arc<Artifact>) -> Result<Work<'a>, Failure> {
        let encoder = Encoder::new(artifact, crate::generate::threads(a.threads))?;
        let mut arrays = vec![Array::Latents];
        if !a.samples {
            let mut add = |array, wanted: bool| arrays.extend(wanted.then_some(array));
            add(Array::Deviations, encoder.has_deviation());
            add(Array::FlippedLatents, !a.no_flip);
            add(Array::FlippedDeviations, !a.no_flip && encoder.has_deviation());
        }
        Ok(Work { a, encoder, arrays })
    }

    fn store(&self, files: &[PictureFile], artifact: &Artifact) -> Result<Store, Failure> {
        let [h, w, c] = self.encoder.latent();
        let layout = match self.a.format {
            Format::Npy => LatentLayout::Npy,
            Format::Zarr => LatentLayout::Zarr,
        };
        let made = json!({
            "folder": self.a.folder, "size": self.a.size, "samples": self.a.samples, "flip": !self.a.no_flip, "seed": self.a.seed,
            "autoencoder": artifact.metadata(keys::CHECKSUM),
        });
        let contents = Contents { count: files.len(), shape: [c, h, w], arrays: self.arrays.clone(), made };
        Ok(Store::open(&self.a.output, layout, contents)?)
    }

    /// The values of all arrays for picture `index`.
    fn encode(&mut self, picture: &Picture, index: usize) -> Vec<Vec<f32>> {
        let stream = |purpose| Stream { purpose, item: index as u32, step: 0 };
        if self.a.samples {
            let flip = !self.a.no_flip && uniform(self.a.seed, stream(Purpose::Flip), 0) < 0.5;
            let (mut mean, deviation) = self.posterior(if flip { picture.mirrored() } else { picture.clone() });
            let mut noise = vec![0.0; mean.len()];
            normals(self.a.seed, stream(Purpose::Posterior), &mut noise);
            mean.iter_mut().zip(&deviation).zip(&noise).for_each(|((m, d), n)| *m += d * n);
            return vec![mean];
        }
        let straight = self.posterior(picture.clone());
        let mirrored = if self.a.no_flip { (vec![], vec![]) } else { self.posterior(picture.mirrored()) };
        let of = |array: &Array| match array {
            Array::Latents => straight.0.clone(),
            Array::Deviations => straight.1.clone(),
            Array::FlippedLatents => mirrored.0.clone(),
            Array::FlippedDeviations => mirrored.1.clone(),
        };
        self.arrays.iter().map(of).collect()
    }

    /// Mean and deviation, `[C,h,w]`.
    fn posterior(&mut self, picture: Picture) -> (Vec<f32>, Vec<f32>) {
        let [h, w, c] = self.encoder.latent();
        let (mut mean, mut deviation) = (vec![0.0; h * w * c], vec![0.0; h * w * c]);
        self.encoder.encode(&picture.to_unit(), &mut mean, &mut deviation);
        (channels_first(&mean, [c, h, w]), channels_first(&deviation, [c, h, w]))
    }
}
