//! Reads trained checkpoints: what `torch.save` writes, and safetensors.
//!
//! A checkpoint comes from anywhere, so every byte of it is taken for hostile. Nothing in it is executed (the policy
//! on pickles is in `pickle.rs`); no input makes the reader panic, overflow or recurse without bound; every size is
//! checked before it is allocated, and tables of contents are paid from a budget in proportion to the file's size.
//! The format is told by content, not by extension. The file is mapped, and tensors are read from it on demand.
//!
//! ```no_run
//! use std::sync::Arc;
//! use fcdm_compiler::checkpoint::{Checkpoint, StateDict};
//! let checkpoint = Arc::new(Checkpoint::open("0400000.pt")?);
//! for weights in StateDict::found(&checkpoint, &["x_embedder.weight"])? {
//!     let bias: Vec<f32> = weights.read_f32("x_embedder.bias")?;
//!     println!("{}: {bias:?}", weights.name());
//! }
//! # Ok::<(), fcdm_compiler::checkpoint::CheckpointError>(())
//! ```

mod budget;
mod contents;
mod error;
mod names;
mod pickle;
mod safetensors;
mod state_dict;
mod tensor;
mod torch;
mod zip;

use std::collections::BTreeMap;
use std::path::Path;

use fcdm_runtime::mapped::MappedFile;

use crate::kind::{self, Kind};
use budget::Budget;
use contents::{Content, Contents, Entry};
pub use error::CheckpointError;
use error::shown;
pub use state_dict::StateDict;
pub use tensor::{ElementType, TensorInfo, count_nonfinite};
pub use torch::ROOT;

/// The format of a checkpoint file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A ZIP with a pickle and raw storages, as `torch.save` has written it since PyTorch 1.6.
    Torch,
    /// A JSON header and raw tensors.
    Safetensors,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Format::Torch => "PyTorch",
            Format::Safetensors => "safetensors",
        })
    }
}

/// Most notes that are kept; the rest is counted.
const NOTES: usize = 16;

/// Things a user may want to know that are no errors.
#[derive(Default)]
struct Notes {
    kept: Vec<String>,
    more: usize,
}

impl Notes {
    fn add(&mut self, note: String) {
        match self.kept.len() < NOTES {
            true => self.kept.push(note),
            false => self.more += 1,
        }
    }

    fn finish(mut self) -> Vec<String> {
        if self.more > 0 {
            self.kept.push(format!("{} further notes of this kind", self.more));
        }
        self.kept
    }
}

/// Where the bytes are.
enum Source {
    Mapped(MappedFile),
    Memory(Vec<u8>),
}

impl Source {
    fn bytes(&self) -> &[u8] {
        match self {
            Source::Mapped(file) => file.bytes(),
            Source::Memory(bytes) => bytes,
        }
    }
}

/// An opened checkpoint: every tensor's name, type, shape and place are known and checked; no value is read yet.
pub struct Checkpoint {
    file: String,
    source: Source,
    format: Format,
    /// In the file's order.
    entries: Vec<Entry>,
    /// Keys that lead to the dicts that they are in.
    dicts: Vec<String>,
    arguments: BTreeMap<String, String>,
    optimizer_step: Option<u64>,
    notes: Vec<String>,
}

impl Checkpoint {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// See [`CheckpointError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Checkpoint, CheckpointError> {
        let file: String = path.as_ref().display().to_string().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        match MappedFile::open(path.as_ref()) {
            Ok(map) => Checkpoint::read(file, Source::Mapped(map)),
            Err(source) => Err(CheckpointError::Io { file, source }),
        }
    }

    /// Reads a checkpoint that is in memory already; `name` stands for its path in messages.
    ///
    /// # Errors
    /// See [`CheckpointError`].
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Checkpoint, CheckpointError> {
        Checkpoint::read(name.to_string(), Source::Memory(bytes))
    }

    fn read(file: String, source: Source) -> Result<Checkpoint, CheckpointError> {
        let bytes = source.bytes();
        let mut budget = Budget::new(&file, bytes.len());
        let mut notes = Notes::default();
        let format = format(&file, bytes)?;
        let Contents { entries, dicts, arguments, optimizer_step } = match format {
            Format::Torch => torch::read(&file, bytes, &mut notes, &mut budget)?,
            Format::Safetensors => safetensors::read(&file, bytes, &mut budget)?,
        };
        // What a set of weights takes: a name and an index.
        budget.charge(size_of::<(String, usize)>() * entries.len())?;
        if !entries.iter().any(|e| !matches!(e.content, Content::Other(_))) {
            return Err(error::Place { file: &file, part: "contents" }.expected("tensors", "none"));
        }
        let notes = notes.finish();
        Ok(Checkpoint { file, source, format, entries, dicts, arguments, optimizer_step, notes })
    }

    /// The path as given.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The file's format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// What the file says about its making, as JSON text (strings are quoted): the attributes of the pickled
    /// `argparse.Namespace` in `args`, or the entries of a safetensors file's `__metadata__`. Very long values end in `…`.
    pub fn arguments(&self) -> &BTreeMap<String, String> {
        &self.arguments
    }

    /// How many steps the optimiser had made, when the file holds its state.
    pub fn optimizer_step(&self) -> Option<u64> {
        self.optimizer_step
    }

    /// What there is to say of the file as a whole, in sentences.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// Tells the format by content.
fn format(file: &str, bytes: &[u8]) -> Result<Format, CheckpointError> {
    if bytes.starts_with(zip::LOCAL) {
        return Ok(Format::Torch);
    }
    let start = &bytes[..bytes.len().min(kind::LOOK)];
    let found = match Kind::of_bytes(start, &[]) {
        // Every bare pickle is taken for PyTorch's.
        Kind::LegacyTorch | Kind::Pickle => return Err(CheckpointError::Legacy { file: file.to_string() }),
        _ if safetensors::looks_like(bytes) => return Ok(Format::Safetensors),
        Kind::Unknown => format!("a file that begins with `{}`", shown(&bytes[..bytes.len().min(8)])),
        kind => kind.to_string(),
    };
    Err(CheckpointError::Unrecognised { file: file.to_string(), found })
}
