//! `fcdm decode`: latents that were saved become pictures.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use fcdm_models::autoencoder::Half;
use fcdm_models::latents::saved::Latents;
use fcdm_models::pictures::{Picture, sheet_bytes};
use fcdm_models::tensors::channels_last;
use fcdm_runtime::autoencoder::Decoder;
use fcdm_runtime::engine::Cpu;
use fcdm_runtime::entry_name::DecoderKind;
use fcdm_runtime::memory::Need;
use serde_json::json;

use crate::failure::Failure;
use crate::failure::mistaken::{Wanted, opened};
use crate::model::{self, WantedSize};
use crate::pictures::{self, shown};
use crate::progress;
use crate::say::{self, sayln};

/// Decode latents into pictures.
#[derive(Args)]
pub struct Arguments {
    /// Latents: a file of `generate --save-latents`, what `encode` writes (a folder of .npy or a zarr store), a .npz or .npy, or a
    /// safetensors or PyTorch file with `latents [n,C,h,w]`, one such tensor, or a list of them.
    latents: PathBuf,
    /// The autoencoder: an artifact compiled with --vae, or the weights (see `compile --vae`) [default: the one in the box].
    #[arg(long, alias = "model", value_name = "PATH")]
    vae: Option<PathBuf>,
    /// What the denoiser's latents are the autoencoder's times, where its files do not say so, see `compile --vae-scale`.
    #[arg(long, value_name = "FACTOR", requires = "vae", value_parser = crate::compile::scale)]
    vae_scale: Option<f64>,
    /// Memory that decoding may take, such as 200MB; large pictures are then decoded in tiles.
    #[arg(long, value_name = "SIZE", value_parser = crate::progress::parse_size)]
    max_memory: Option<u64>,
    /// Threads [default: as many as the machine runs at once].
    #[arg(short, long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    #[command(flatten)]
    pictures: pictures::Arguments,
    /// Print a summary as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(a: &Arguments) -> Result<(), Failure> {
    crate::signals::stop_when_asked();
    let mut latents = opened(&a.latents, Wanted::Latents, Latents::open(&a.latents))?;
    latents.note().into_iter().for_each(say::note);
    let (n, image) = (latents.count(), latents.shape());
    let artifact = model::autoencoder(a.vae.as_deref(), a.vae_scale, WantedSize::Latents([image[1], image[2]]), Half::Decoder)?;
    if let Some(info) = artifact.autoencoder().filter(|i| i.latent_channels != image[0]) {
        let (file, expected, found) = (a.latents.display(), info.latent_channels, image[0]);
        return Err(Failure::usage(format!("{file}: expected latents of {expected} channels, as the autoencoder has, found {found}")));
    }
    let verification = artifact.verify_in_background();
    let threads = crate::generate::threads(a.threads);
    let mut decoder = Decoder::new(&artifact, DecoderKind::Own, [image[1], image[2]], &Cpu::new(threads)?, a.max_memory)?;
    let [h, w, c] = decoder.picture();
    Need::of(format!("{n} pictures")).with("contact sheet", sheet_bytes(a.pictures.grid, n, [h, w, c])).reserve()?;
    check(&mut latents)?;
    let started = Instant::now();
    let mut pictures = a.pictures.open(a.pictures.grid)?;
    let mut bar = progress::steps(n as u64).with_message("decoding");
    let mut picture = vec![0.0; h * w * c];
    let mut verification = Some(verification);
    for i in 0..n {
        decoder.decode(&channels_last(&latents.read(i)?, image), &mut picture);
        let verified = verification.take().map_or(Ok(true), |v| v.wait(&crate::signals::stopped))?;
        if !verified || crate::signals::stopped() {
            bar.finish_and_clear();
            return Err(Failure::cancelled(format!("stopped; {i} of {n} pictures are finished")));
        }
        pictures.add(i, &latents.name(i), &Picture::from_unit(h, w, c, &picture), &[("Software", "fcdm")])?;
        bar.set_position(i as u64 + 1);
    }
    bar.finish_and_clear();
    pictures.finish([h, w, c])?;
    let seconds = started.elapsed().as_secs_f64();
    if a.json {
        let files: Vec<String> = pictures.files().map(shown).collect();
        let summary = json!({ "pictures": files, "tiles": decoder.tiles(), "bytes": decoder.bytes(), "seconds": seconds });
        say::json(&summary);
    } else {
        let tiles = if decoder.tiles() > 1 { format!(" in {} tiles", decoder.tiles()) } else { String::new() };
        let each = seconds * 1e3 / n as f64;
        sayln!("decoded {n} pictures of {w} x {h}{tiles} to {}, {each:.1} ms each", a.pictures.output.display());
    }
    Ok(())
}

/// Reads every latent once: what cannot be read is better found now than after hours.
fn check(latents: &mut Latents) -> Result<(), Failure> {
    let n = latents.count();
    let mut bar = progress::steps(n as u64).with_message("checking");
    for i in 0..n {
        if crate::signals::stopped() {
            bar.finish_and_clear();
            return Err(Failure::cancelled("stopped; nothing is decoded"));
        }
        latents.read(i)?;
        bar.set_position(i as u64 + 1);
    }
    bar.finish_and_clear();
    Ok(())
}
