//! Which artifact a command works with: the one named, or the model in the box, which is compiled into the user's cache when it is
//! first used; and autoencoders that are named by their weights. What is compiled for one run alone is in a file without a name, or in
//! memory: nothing is left of it, however the run ends.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fcdm_compiler::kind::is_onnx;
use fcdm_models::autoencoder::{self, Autoencoder, Half};
use fcdm_models::bundled;
use fcdm_models::compile::{CompileError, Destination, Networks, Options, aside, compile, compile_to};
use fcdm_models::import::ImportError;
use fcdm_runtime::artifact::{Artifact, Fault};

use crate::failure::Failure;
use crate::failure::mistaken::{Wanted, explained, opened};
use crate::progress::Watcher;
use crate::say;

/// The artifact at `path`, its weights not verified yet, or the model in the box.
pub fn open(path: Option<&Path>) -> Result<Arc<Artifact>, Failure> {
    match path {
        Some(path) => Ok(Arc::new(opened(path, Wanted::Artifact, Artifact::open_unverified(path))?)),
        None => bundled_artifact(),
    }
}

/// The model in the box, compiled if it is not there, not what this version would make, or damaged. A cache that cannot be written to
/// is no obstacle: then the model is compiled for this run alone.
fn bundled_artifact() -> Result<Arc<Artifact>, Failure> {
    let name = format!("{}-{:016x}.fcdm", bundled::NAME, bundled::fingerprint());
    let kept = cache_folder().map(|folder| folder.join(&name));
    // It is small: that all of it is sound is soon known, and what is not can be made again.
    if let Some(artifact) = kept.as_deref().and_then(|path| Artifact::open(path).ok()) {
        return Ok(Arc::new(artifact));
    }
    let (import, autoencoder) = bundled::networks().map_err(CompileError::from)?;
    let networks = Networks { fcdm: Some(&import), autoencoder: Some(&autoencoder), preview: None };
    let why = match kept {
        Some(path) => match keep(networks, &path)? {
            Ok(artifact) => return Ok(Arc::new(artifact)),
            Err(why) => why,
        },
        None => "there is no folder for it (XDG_CACHE_HOME, HOME)".to_owned(),
    };
    say::note(format!("the model in the box is compiled for this run alone: {why}"));
    for_one_run(networks, &bundled::options(), &name)
}

/// Compiles the model in the box into the cache; else why it cannot be kept there.
fn keep(networks: Networks<'_>, path: &Path) -> Result<Result<Artifact, String>, Failure> {
    let folder = path.parent().unwrap_or(Path::new("."));
    if let Err(e) = std::fs::create_dir_all(folder) {
        return Ok(Err(format!("{}: cannot make the folder: {e}", folder.display())));
    }
    say::note(format!("compiling the model in the box to {} (once)", path.display()));
    match compile(networks, &bundled::options(), path, &mut Watcher::new(false)) {
        Ok(_) => Ok(Artifact::open(path).map_err(|e| e.to_string())),
        Err(CompileError::Write(e)) => Ok(Err(e.to_string())),
        Err(e) => Err(e.into()),
    }
}

/// Where the system keeps what can be made again for this user. A folder that others may write to is none: what is found there under a
/// name that they know could be theirs.
fn cache_folder() -> Option<PathBuf> {
    let named = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = || named("HOME").map(|home| home.join(if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" }));
    let folder = named("XDG_CACHE_HOME").or_else(|| named("LOCALAPPDATA")).or_else(home);
    folder.map(|folder| folder.join("fcdm"))
}

/// Compiles networks into what goes away again: a file without a name, or memory where there can be none. `name` stands for it in
/// messages.
pub fn for_one_run(networks: Networks<'_>, options: &Options, name: &str) -> Result<Arc<Artifact>, Failure> {
    let mut write = |to: Destination<'_>| compile_to(networks, options, to, &mut Watcher::new(false)).map(drop);
    Ok(aside(name, &mut write)?)
}

/// An autoencoder as an artifact: `path` is an artifact that has one, or an autoencoder's weights, which are compiled for latents of height and
/// width `size` for this run alone; without a path it is the one in the box.
pub fn autoencoder(path: Option<&Path>, scale: Option<f64>, size: WantedSize, half: Half) -> Result<Arc<Artifact>, Failure> {
    let opened_weights = match path {
        None => bundled::autoencoder(),
        Some(path) if bundled::is_autoencoder(path) || path.is_dir() || is_onnx(path) => weights(path, scale),
        Some(path) => match Artifact::open_unverified(path) {
            Ok(_) if scale.is_some() => {
                let line = "vae-scale: it is for ONNX autoencoders; an artifact says what it scales by";
                return Err(Failure::usage(line));
            }
            Ok(artifact) => return Ok(Arc::new(artifact)),
            Err(e) if matches!(e.fault, Fault::NotFcdm | Fault::NotSafetensors(_)) => weights(path, scale),
            Err(e) => return Err(explained(path, Wanted::Autoencoder, e.into())),
        },
    };
    let weights = opened_weights.map_err(|e| {
        let failure = Failure::from(CompileError::from(e));
        if let Some(path) = path { explained(path, Wanted::Autoencoder, failure) } else { failure }
    })?;
    for note in weights.notes() {
        crate::say::note(note);
    }
    let [height, width] = size.latents(&weights)?;
    let networks = Networks { autoencoder: Some(&weights), ..Networks::default() };
    let options = Options { decoder: half == Half::Decoder, encoder: half == Half::Encoder, ..Options::new(height, width) };
    let name = path.map_or_else(|| "the autoencoder in the box".to_owned(), |path| path.display().to_string());
    for_one_run(networks, &options, &name)
}

fn weights(path: &Path, scale: Option<f64>) -> Result<Autoencoder, ImportError> {
    // Halves of an ONNX autoencoder may be given together, as to `compile`.
    let together = path.to_str().filter(|text| text.contains(',') && !path.exists());
    let paths = together.map_or_else(|| vec![path.to_owned()], |text| text.split(',').map(PathBuf::from).collect());
    autoencoder::open_all(&paths, autoencoder::PREFIX, scale)
}

/// A size that an autoencoder is asked for.
#[derive(Clone, Copy)]
pub enum WantedSize {
    /// Height and width of latents.
    Latents([usize; 2]),
    /// The side of a square picture.
    Square(usize),
}

impl WantedSize {
    fn latents(self, a: &Autoencoder) -> Result<[usize; 2], Failure> {
        match self {
            WantedSize::Latents(size) => Ok(size),
            WantedSize::Square(side) if side.is_multiple_of(a.factor()) && side > 0 => Ok([side / a.factor(); 2]),
            WantedSize::Square(side) => Err(Failure::usage(format!("size: expected a multiple of {}, found {side}", a.factor()))),
        }
    }
}
