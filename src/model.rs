//! Which artifact a command works with: the one named, or the model in the box, which is compiled into the user's cache when it is
//! first used; and autoencoders that are named by their weights.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fcdm_models::autoencoder::{self, Autoencoder, Half};
use fcdm_models::bundled;
use fcdm_models::compile::{CompileError, Networks, Options, compile};
use fcdm_models::import::ImportError;
use fcdm_runtime::artifact::{Artifact, Fault};

use crate::failure::Failure;
use crate::progress::Watcher;

/// The artifact at `path`, its weights not verified yet, or the model in the box.
pub fn open(path: Option<&Path>, json: bool) -> Result<Arc<Artifact>, Failure> {
    match path {
        Some(path) => Ok(Arc::new(Artifact::open_unverified(path)?)),
        None => bundled_artifact(json),
    }
}

/// The model in the box, compiled if it is not there or not what this version would make.
fn bundled_artifact(json: bool) -> Result<Arc<Artifact>, Failure> {
    let folder = cache_folder();
    let path = folder.join(format!("{}-{:016x}.fcdm", bundled::NAME, bundled::fingerprint()));
    if let Ok(artifact) = Artifact::open_unverified(&path) {
        return Ok(Arc::new(artifact));
    }
    std::fs::create_dir_all(&folder).map_err(|e| Failure::new(1, format!("{}: cannot make the folder: {e}", folder.display())))?;
    let (import, autoencoder) = bundled::networks().map_err(CompileError::from)?;
    let networks = Networks { fcdm: Some(&import), autoencoder: Some(&autoencoder), preview: None };
    if !json {
        eprintln!("compiling the model in the box to {} (once)", path.display());
    }
    compile(networks, &bundled::options(), &path, &mut Watcher::new(json, false))?;
    Ok(Arc::new(Artifact::open_unverified(&path)?))
}

/// Where the system keeps what can be made again.
fn cache_folder() -> PathBuf {
    let named = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = || named("HOME").map(|home| home.join(if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" }));
    named("XDG_CACHE_HOME").or_else(|| named("LOCALAPPDATA")).or_else(home).unwrap_or_else(std::env::temp_dir).join("fcdm")
}

/// An autoencoder as an artifact: `path` is an artifact that has one, or an autoencoder's weights, which are compiled for latents of height and
/// width `size` into a file that goes away again; without a path it is the one in the box.
pub fn autoencoder(path: Option<&Path>, scale: Option<f64>, size: WantedSize, half: Half, json: bool) -> Result<Arc<Artifact>, Failure> {
    let opened = match path {
        None => bundled::autoencoder(),
        Some(path) if path.is_dir() || crate::onnx::is_onnx(path) => weights(path, scale),
        Some(path) => match Artifact::open_unverified(path) {
            Ok(artifact) => return Ok(Arc::new(artifact)),
            Err(e) if matches!(e.fault, Fault::NotFcdm | Fault::NotSafetensors(_)) => weights(path, scale),
            Err(e) => return Err(e.into()),
        },
    };
    let weights = opened.map_err(CompileError::from)?;
    weights.notes().for_each(|note| eprintln!("note: {note}"));
    let [height, width] = size.latents(&weights)?;
    let file = tempfile::Builder::new().prefix("fcdm-").suffix(".fcdm").tempfile();
    let file = file.map_err(|e| Failure::new(1, format!("cannot create a temporary file: {e}")))?;
    let networks = Networks { autoencoder: Some(&weights), ..Networks::default() };
    let options = Options { decoder: half == Half::Decoder, encoder: half == Half::Encoder, ..Options::new(height, width) };
    compile(networks, &options, file.path(), &mut Watcher::new(json, false))?;
    // The open map keeps the contents when the file is gone.
    Ok(Arc::new(Artifact::open_unverified(file.path())?))
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
