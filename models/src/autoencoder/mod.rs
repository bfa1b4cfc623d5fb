//! Autoencoders: pictures to latents and back. Each half is a function of the IR, `@encode` and `@decode`, that speaks the
//! denoiser's language: latents as it was trained on, pictures RGB in [-1,1].
//!
//! - [`tiny`]: the TAESD family;
//! - [`kl`]: diffusers' `AutoencoderKL`;
//! - [`open`]: telling them apart and reading them; [`entries`]: their entry points.

pub mod entries;
mod files;
pub mod kl;
pub mod tiny;

use std::ops::Range;

use fcdm_compiler::weights::{WeightError, WeightSource};
use fcdm_ir::Function;

pub use files::{open, taesd};

use crate::import::{Sources, Tensors};
use kl::Kl;
use tiny::{PICTURE_CHANNELS, Tiny};

/// What the names of an autoencoder's weights begin with in the IR, so that they meet none of the denoiser's.
pub const PREFIX: &str = "vae.";

/// The same of a second one, for previews.
pub const PREVIEW_PREFIX: &str = "preview.";

/// An autoencoder in files: every tensor is there and has its shape.
pub struct Autoencoder {
    network: Network,
    parts: Vec<Tensors>,
}

enum Network {
    Tiny { encoder: Option<Tiny>, decoder: Option<Tiny> },
    Kl(Box<Kl>),
}

impl Autoencoder {
    /// What people call it.
    pub fn family(&self) -> &'static str {
        match self.network {
            Network::Tiny { .. } => "TAESD",
            Network::Kl(_) => "AutoencoderKL",
        }
    }

    /// Channels of the latents.
    pub fn latent_channels(&self) -> usize {
        match &self.network {
            Network::Tiny { encoder, decoder } => encoder.as_ref().or(decoder.as_ref()).expect("there is a half").latent_channels(),
            Network::Kl(kl) => kl.config().latent_channels,
        }
    }

    /// Pixels of a picture that a latent stands for, along either axis.
    pub fn factor(&self) -> usize {
        match &self.network {
            Network::Tiny { .. } => tiny::FACTOR,
            Network::Kl(kl) => kl.config().factor(),
        }
    }

    /// Channels of pictures.
    pub fn picture_channels(&self) -> usize {
        PICTURE_CHANNELS
    }

    /// The greatest number of values per latent position that a layer gives.
    pub fn widest(&self) -> usize {
        match &self.network {
            Network::Tiny { encoder, decoder } => encoder.iter().chain(decoder).map(Tiny::widest).max().unwrap_or(0),
            Network::Kl(kl) => kl.widest(),
        }
    }

    /// `@decode(latent [1,h,w,C]) -> picture [1,fh,fw,3]`; `None` if the files have no decoder.
    pub fn decode(&self, height: usize, width: usize) -> Option<Function> {
        match &self.network {
            Network::Tiny { decoder, .. } => Some(decoder.as_ref()?.function(height, width)),
            Network::Kl(kl) => Some(kl.decode(height, width)),
        }
    }

    /// `@encode(picture [1,fh,fw,3]) -> mean [1,h,w,C]`, and `std` where the posterior has one; height and width are those of
    /// the latents. `None` if the files have no encoder.
    pub fn encode(&self, height: usize, width: usize) -> Option<Function> {
        match &self.network {
            Network::Tiny { encoder, .. } => Some(encoder.as_ref()?.function(height, width)),
            Network::Kl(kl) => Some(kl.encode(height, width)),
        }
    }

    /// The files' parameters.
    pub fn parts(&self) -> Vec<&Tensors> {
        self.parts.iter().collect()
    }

    fn sources(&self) -> Sources<'_> {
        Sources(self.parts.iter().map(|p| p as &dyn WeightSource).collect())
    }
}

impl WeightSource for Autoencoder {
    fn load(&self, name: &str) -> Result<Vec<f32>, WeightError> {
        self.sources().load(name)
    }

    fn load_rows(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>, WeightError> {
        self.sources().load_rows(name, rows)
    }
}
