//! Autoencoders: pictures to latents and back. Each half is a function of the IR, `@encode` and `@decode`, that speaks the
//! denoiser's language: latents as it was trained on, pictures RGB in [-1,1].
//!
//! - [`tiny`]: the TAESD family;
//! - [`kl`]: diffusers' `AutoencoderKL`;
//! - [`graph`]: ONNX models;
//! - [`open`]: telling them apart and reading them; [`entries`]: their entry points.

pub mod entries;
mod fields;
mod files;
pub mod graph;
pub mod kl;
mod posterior;
mod single;
pub mod tiny;
mod weight_files;

use std::fmt;
use std::ops::Range;

use fcdm_compiler::weights::{WeightError, WeightSource};
use fcdm_ir::Function;
use fcdm_runtime::entry_name::{DecoderKind, EntryName};

pub use files::{open, open_all, taesd};

use crate::import::{ImportError, Sources, Survey, Surveyor, Tensors, survey};
use crate::role::Role;
use graph::Graph;
use kl::Kl;
use tiny::Tiny;

/// What the names of an autoencoder's weights begin with in the IR, so that they meet none of the denoiser's.
pub const PREFIX: &str = "vae.";

/// The same of a second one, for previews.
pub const PREVIEW_PREFIX: &str = "preview.";

/// RGB.
pub const PICTURE_CHANNELS: usize = 3;

/// Which half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// Picture to latents.
    Encoder,
    /// Latents to picture.
    Decoder,
}

impl Half {
    /// The name of its function.
    pub fn entry_name(self) -> EntryName {
        match self {
            Half::Encoder => EntryName::Encode,
            Half::Decoder => EntryName::Decode(DecoderKind::Own, None),
        }
    }
}

impl fmt::Display for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Half::Encoder => "encoder",
            Half::Decoder => "decoder",
        })
    }
}

/// An autoencoder in files: every tensor is there and has its shape.
pub struct Autoencoder {
    family: Family,
    /// The files' parameters, but for ONNX models.
    parts: Vec<Tensors>,
    /// What was assumed, in sentences.
    notes: Vec<String>,
}

enum Family {
    Tiny { encoder: Option<Box<Tiny>>, decoder: Option<Box<Tiny>> },
    Kl(Box<Kl>),
    Graphs { encoder: Option<Box<Graph>>, decoder: Option<Box<Graph>> },
}

impl Autoencoder {
    /// What people call it.
    pub fn family(&self) -> &'static str {
        match self.family {
            Family::Tiny { .. } => "TAESD",
            Family::Kl(_) => "AutoencoderKL",
            Family::Graphs { .. } => "ONNX",
        }
    }

    /// What was assumed or left out, in sentences.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        let of_files = self.parts.iter().flat_map(|p| p.weights().notes());
        let of_graphs = self.graphs().flat_map(Graph::notes);
        self.notes.iter().chain(of_graphs).map(String::as_str).chain(of_files)
    }

    /// Of an ONNX autoencoder, which has one half at least.
    fn graphs(&self) -> impl Iterator<Item = &Graph> {
        let halves =
            if let Family::Graphs { encoder, decoder } = &self.family { [encoder.as_deref(), decoder.as_deref()] } else { [None; 2] };
        halves.into_iter().flatten()
    }

    /// Channels of the latents.
    pub fn latent_channels(&self) -> usize {
        match &self.family {
            Family::Tiny { encoder, decoder } => encoder.as_ref().or(decoder.as_ref()).expect("there is a half").latent_channels(),
            Family::Kl(kl) => kl.config().latent_channels,
            Family::Graphs { .. } => self.graphs().next().expect("there is a half").latent_channels(),
        }
    }

    /// Pixels of a picture that a latent stands for, along either axis.
    pub fn factor(&self) -> usize {
        match &self.family {
            Family::Tiny { .. } => tiny::FACTOR,
            Family::Kl(kl) => kl.config().factor(),
            Family::Graphs { .. } => self.graphs().next().expect("there is a half").factor(),
        }
    }

    /// Height and width of the latents that an ONNX autoencoder is fixed to, if its files have one size only.
    pub fn own_size(&self) -> Option<[usize; 2]> {
        let of = |axis: usize| self.graphs().find_map(|g| g.own_size()[axis]);
        Some([of(0)?, of(1)?])
    }

    /// Whether the files have that half.
    pub fn has(&self, half: Half) -> bool {
        match &self.family {
            Family::Tiny { encoder, decoder } => if half == Half::Encoder { encoder } else { decoder }.is_some(),
            Family::Kl(_) => true,
            Family::Graphs { .. } => self.graphs().any(|g| g.half() == half),
        }
    }

    /// Why a half cannot be had at that height and width of the latents, if its file says so: one line.
    pub fn refuses(&self, half: Half, height: usize, width: usize) -> Option<String> {
        self.graphs().find(|g| g.half() == half)?.refuses(height, width)
    }

    /// The greatest number of values per latent position that a layer gives.
    pub fn widest(&self) -> usize {
        match &self.family {
            Family::Tiny { encoder, decoder } => encoder.iter().chain(decoder).map(|half| half.widest()).max().unwrap_or(0),
            Family::Kl(kl) => kl.widest(),
            Family::Graphs { .. } => self.graphs().map(Graph::widest).max().unwrap_or(0),
        }
    }

    /// `@decode(latent [1,h,w,C]) -> picture [1,fh,fw,3]`.
    ///
    /// # Errors
    /// One line, if the files have no decoder, or an ONNX model not at that size.
    pub fn decode(&self, height: usize, width: usize) -> Result<Function, String> {
        let function = match &self.family {
            Family::Tiny { decoder, .. } => decoder.as_ref().map(|d| Ok(d.function(height, width))),
            Family::Kl(kl) => Some(Ok(kl.decode(height, width))),
            Family::Graphs { decoder, .. } => decoder.as_ref().map(|d| d.function(height, width)),
        };
        function.unwrap_or_else(|| Err("vae: the decoder is missing".to_owned()))
    }

    /// `@encode(picture [1,fh,fw,3]) -> mean [1,h,w,C]`, and `std` where the posterior has one; height and width are those of
    /// the latents.
    ///
    /// # Errors
    /// One line, if the files have no encoder, or an ONNX model not at that size.
    pub fn encode(&self, height: usize, width: usize) -> Result<Function, String> {
        let function = match &self.family {
            Family::Tiny { encoder, .. } => encoder.as_ref().map(|e| Ok(e.function(height, width))),
            Family::Kl(kl) => Some(Ok(kl.encode(height, width))),
            Family::Graphs { encoder, .. } => encoder.as_ref().map(|e| e.function(height, width)),
        };
        function.unwrap_or_else(|| Err("encoder: the autoencoder's files have none".to_owned()))
    }

    /// Number of parameters.
    pub fn count(&self) -> u64 {
        let of_graphs = self.graphs().flat_map(Graph::weights).map(|(_, ty)| ty.count() as u64).sum::<u64>();
        of_graphs + self.parts.iter().map(Tensors::count).sum::<u64>()
    }

    /// What a weight is for.
    pub fn role(&self, weight: &str) -> Option<Role> {
        self.parts.iter().find_map(|p| p.role(weight)).or_else(|| self.graphs().find_map(|g| g.role(weight)))
    }

    /// Reads every value once, see [`survey`].
    ///
    /// # Errors
    /// A tensor that cannot be read. `Ok(None)` if `progress` said no.
    pub fn survey(&self, progress: &mut dyn FnMut(u64, u64) -> bool) -> Result<Option<Survey>, ImportError> {
        let mut graphs = self.graphs().peekable();
        if graphs.peek().is_none() {
            return survey(&self.parts.iter().collect::<Vec<_>>(), progress);
        }
        let mut surveyor = Surveyor::default();
        for (graph, (name, ty)) in graphs.flat_map(|g| g.weights().map(move |w| (g, w))) {
            let values = graph.values(name).map_err(|e| ImportError::Model(e.to_string()))?;
            surveyor.tensor(name, &ty.shape, |see| {
                see(&values);
                Ok(())
            })?;
        }
        Ok(Some(surveyor.finish()))
    }

    /// Values that stand in a description and not among the tensors.
    fn constant(&self, weight: &str) -> Option<Vec<f32>> {
        if let Family::Kl(kl) = &self.family { kl.constant(weight) } else { None }
    }

    fn sources(&self) -> Sources<'_> {
        let tensors = self.parts.iter().map(|p| p as &dyn WeightSource);
        Sources(tensors.chain(self.graphs().map(|g| g as &dyn WeightSource)).collect())
    }
}

impl WeightSource for Autoencoder {
    fn load(&self, name: &str) -> Result<Vec<f32>, WeightError> {
        self.constant(name).map_or_else(|| self.sources().load(name), Ok)
    }

    fn load_rows(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>, WeightError> {
        // A constant has one row.
        self.constant(name).map_or_else(|| self.sources().load_rows(name, rows), Ok)
    }
}
