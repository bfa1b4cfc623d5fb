//! `fcdm decode`: latents that were saved become pictures.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use fcdm_models::autoencoder::Half;
use fcdm_models::latents::saved::Latents;
use fcdm_models::pictures::Picture;
use fcdm_models::tensors::channels_last;
use fcdm_runtime::artifact::{Artifact, checksum, keys};
use fcdm_runtime::autoencoder::Decoder;
use fcdm_runtime::engine::Cpu;
use fcdm_runtime::entry_name::DecoderKind;
use fcdm_runtime::memory::Need;
use fcdm_runtime::picture::files::sheet_bytes;
use serde_json::json;

use crate::failure::Failure;
use crate::failure::mistaken::{Wanted, opened};
use crate::help::{AUTOENCODER, MACHINE, OUTPUT, examples};
use crate::model::{self, WantedSize};
use crate::pictures::{self, shown, writable};
use crate::progress;
use crate::say::{self, sayln};

const EXAMPLES: &str = examples!(
    "fcdm generate --save-latents latents.safetensors",
    "fcdm decode latents.safetensors --grid",
    "fcdm decode latents.safetensors --vae sd-vae-ft-ema -o pictures",
);

/// Decode latents into pictures.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Arguments {
    /// Latents, in a file or a folder.
    ///
    /// A file of `generate --save-latents`, what `encode` writes (a folder of .npy or a zarr store), a .npz or .npy, or a safetensors
    /// or PyTorch file with `latents [n,C,h,w]`, one such tensor, or a list of them.
    latents: PathBuf,
    /// The autoencoder [default: the one in the box].
    ///
    /// An artifact compiled with --vae, or the weights (see `compile --vae`).
    #[arg(long, alias = "model", value_name = "PATH", help_heading = AUTOENCODER)]
    vae: Option<PathBuf>,
    /// Scaling factor of the latents, if no file says it.
    ///
    /// See `compile --vae-scale`.
    #[arg(long, value_name = "FACTOR", requires = "vae", value_parser = crate::compile::scale, help_heading = AUTOENCODER)]
    vae_scale: Option<f64>,
    #[command(flatten)]
    pictures: pictures::Arguments,
    /// Also write a NumPy archive, for FID and the like.
    ///
    /// It has one array `arr_0`, uint8 [n,H,W,C], as evaluators read it.
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    npz: Option<PathBuf>,
    /// Print a summary as JSON.
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
    /// Threads [default: all].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = MACHINE)]
    threads: Option<u32>,
    /// Memory that decoding may take, such as 200MB.
    ///
    /// Large pictures are then decoded in tiles.
    #[arg(long, value_name = "SIZE", value_parser = crate::progress::parse_size, help_heading = MACHINE)]
    max_memory: Option<u64>,
}

/// Runs the command.
pub fn run(a: &Arguments) -> Result<(), Failure> {
    crate::signals::stop_when_asked();
    a.npz.as_deref().map_or(Ok(()), writable)?;
    a.pictures.goes_with_json(a.json)?;
    let mut latents = opened(&a.latents, Wanted::Latents, Latents::open(&a.latents))?;
    latents.note().into_iter().for_each(say::note);
    let (n, image) = (latents.count(), latents.shape());
    let artifact = model::autoencoder(a.vae.as_deref(), a.vae_scale, WantedSize::Latents([image[1], image[2]]), Half::Decoder)?;
    if let Some(info) = artifact.autoencoder().filter(|i| i.latent_channels != image[0]) {
        let (file, expected, found) = (a.latents.display(), info.latent_channels, image[0]);
        return Err(Failure::usage(format!("{file}: expected latents of {expected} channels, as the autoencoder has, found {found}")));
    }
    let verification = artifact.verify_in_background();
    let threads = fcdm_command::threads(a.threads);
    let mut decoder = Decoder::new(&artifact, DecoderKind::Own, [image[1], image[2]], &Cpu::new(threads)?, a.max_memory)?;
    let [h, w, c] = decoder.picture();
    Need::of(format!("{n} pictures")).with("contact sheet", sheet_bytes(a.pictures.grid, n, [h, w, c])).reserve()?;
    let mut files = a.pictures.open(a.pictures.grid, n)?;
    let all = parameters(&artifact, [h, w], &format!("{n} of {}", a.latents.display()));
    a.pictures.may_replace(files.sheet_path().as_deref(), &all)?;
    let made = |latent: &[f32]| {
        let bytes: Vec<u8> = latent.iter().flat_map(|v| v.to_le_bytes()).collect();
        parameters(&artifact, [h, w], &checksum::of(&bytes))
    };
    check(&mut latents, |name, latent| Ok(a.pictures.may_replace(files.path(name).as_deref(), &made(latent))?))?;
    let started = Instant::now();
    let mut bar = progress::steps(n as u64).with_message("decoding");
    let mut picture = vec![0.0; h * w * c];
    let mut verification = Some(verification);
    for i in 0..n {
        let latent = latents.read(i)?;
        decoder.decode(&channels_last(&latent, image), &mut picture);
        let verified = verification.take().map_or(Ok(true), |v| v.wait(&crate::signals::stopped))?;
        if !verified || crate::signals::stopped() {
            bar.finish_and_clear();
            return Err(Failure::cancelled(format!("stopped; {i} of {n} pictures are finished")));
        }
        files.add(i, &latents.name(i), Picture::from_unit(h, w, c, &picture), &made(&latent))?;
        bar.set_position(i as u64 + 1);
    }
    bar.finish_and_clear();
    if let Some(bytes) = files.finish([h, w, c], &all)? {
        say::bytes(&bytes);
    }
    if let Some(path) = &a.npz {
        crate::generate::archive(path, [h, w, c], &files)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    if a.json {
        let (pictures, grid): (Vec<String>, _) = (files.paths().iter().map(shown).collect(), files.sheet_path().map(shown));
        let summary = json!({ "pictures": pictures, "grid": grid, "tiles": decoder.tiles(), "bytes": decoder.bytes(), "seconds": seconds });
        say::json(&summary);
    } else {
        let tiles = if decoder.tiles() > 1 { format!(" in {} tiles", decoder.tiles()) } else { String::new() };
        let each = seconds * 1e3 / n as f64;
        a.pictures.announce(&files, n);
        sayln!("{w} x {h}{tiles}, {each:.1} ms each");
    }
    Ok(())
}

/// How a picture says what it was decoded from, and by what.
fn parameters(artifact: &Artifact, [h, w]: [usize; 2], latents: &str) -> String {
    let autoencoder = artifact.metadata(keys::CHECKSUM).unwrap_or_default();
    format!("Decoded, Size: {w}x{h}, Latents: {latents}, Artifact: {autoencoder}")
}

/// Reads every latent once, and asks of each with its name whether its picture may be written: what cannot be is better found now than
/// after hours.
fn check(latents: &mut Latents, may: impl Fn(&str, &[f32]) -> Result<(), Failure>) -> Result<(), Failure> {
    let n = latents.count();
    let mut bar = progress::steps(n as u64).with_message("checking");
    for i in 0..n {
        if crate::signals::stopped() {
            bar.finish_and_clear();
            return Err(Failure::cancelled("stopped; nothing is decoded"));
        }
        let latent = latents.read(i)?;
        may(&latents.name(i), &latent)?;
        bar.set_position(i as u64 + 1);
    }
    bar.finish_and_clear();
    Ok(())
}
