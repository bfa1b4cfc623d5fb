//! The model in the box: a small FCDM of photographs of clothes and the autoencoder of its latents, so that pictures can be made
//! before anything is downloaded. Where they come from and their licences stand in `models/weights/README.md`.

use std::path::Path;
use std::sync::Arc;

use fcdm_compiler::checkpoint::{Checkpoint, StateDict};
use fcdm_runtime::artifact::Sampling;
use xxhash_rust::xxh3::Xxh3;

use crate::autoencoder::{Autoencoder, PREFIX, taesd};
use crate::fcdm::Import;
use crate::import::ImportError;
use crate::options::Options;

const FCDM: &[u8] = include_bytes!("../weights/clothing/clothing-latent.safetensors");
const ENCODER: &[u8] = include_bytes!("../weights/taef2/taef2_encoder.pth");
const DECODER: &[u8] = include_bytes!("../weights/taef2/taef2_decoder.pth");

/// What people call it.
pub const NAME: &str = "clothing";

/// Its classes, in order.
pub const CLASSES: [&str; 10] = ["dress", "hat", "longsleeve", "outwear", "pants", "shirt", "shoes", "shorts", "skirt", "t-shirt"];

/// Height and width of its latents: pictures of 128 pixels.
const SIZE: usize = 16;

/// A number that changes with the weights and with the compiler's version.
pub fn fingerprint() -> u64 {
    let mut hash = Xxh3::new();
    [FCDM, ENCODER, DECODER, env!("CARGO_PKG_VERSION").as_bytes()].iter().for_each(|bytes| hash.update(bytes));
    hash.digest()
}

/// Its FCDM and its autoencoder.
///
/// # Errors
/// None that a test would not have found.
pub fn networks() -> Result<(Import, Autoencoder), ImportError> {
    let import = Import::open(Checkpoint::from_bytes("clothing-latent", FCDM.to_vec())?, None, true)?;
    Ok((import, autoencoder()?))
}

/// Whether a path is none, but the name of the autoencoder in the box.
pub fn is_autoencoder(path: &Path) -> bool {
    path == Path::new("taef2") && !path.exists()
}

/// The autoencoder alone.
///
/// # Errors
/// As [`networks`].
pub fn autoencoder() -> Result<Autoencoder, ImportError> {
    autoencoder_under(PREFIX)
}

/// The same with other names in the IR, see [`crate::autoencoder::open`].
pub(crate) fn autoencoder_under(prefix: &str) -> Result<Autoencoder, ImportError> {
    let open = |name: &str, bytes: &[u8]| StateDict::only(&Arc::new(Checkpoint::from_bytes(name, bytes.to_vec())?));
    taesd(Some(open("taef2_encoder", ENCODER)?), Some(open("taef2_decoder", DECODER)?), prefix)
}

/// How to compile it.
pub fn options() -> Options {
    Options {
        class_names: CLASSES.map(str::to_owned).to_vec(),
        encoder: true,
        license: Some("CC0-1.0 (FCDM), MIT (autoencoder TAEF2, Ollin Boer Bohan)".to_owned()),
        sampling: Some(Sampling { steps: 50, cfg_scale: 2.0, all_channels: true }),
        ..Options::new(SIZE, SIZE)
    }
}
