//! Reads trained checkpoints: what `torch.save` writes, and safetensors.
//!
//! A checkpoint comes from anywhere, so every byte of it is taken for hostile. Nothing in it is executed (the policy
//! on pickles is in `pickle.rs`); no input makes the reader panic, overflow or recurse without bound; every size is
//! checked before it is allocated, and tables of contents are paid from a budget in proportion to the file's size.
//! The format is told by content, not by extension. The file is mapped, and tensors are read from it on demand.
//!
//! ```no_run
//! use fcdm_compiler::checkpoint::{Checkpoint, StateDict};
//! let checkpoint = Checkpoint::open("0400000.pt", StateDict::Auto)?;
//! let bias: Vec<f32> = checkpoint.read_f32("x_embedder.bias")?;
//! # Ok::<(), fcdm_compiler::checkpoint::CheckpointError>(())
//! ```

mod budget;
mod error;
mod names;
mod pickle;
mod safetensors;
mod tensor;
mod torch;
mod zip;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use fcdm_runtime::mapped::MappedFile;

use budget::Budget;
pub use error::CheckpointError;
use error::shown;
use names::Named;
pub use tensor::{ElementType, TensorInfo, count_nonfinite};

/// Which of a training checkpoint's state dicts to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateDict {
    /// The exponential moving average: the ones to generate with.
    Ema,
    /// The weights under training.
    Model,
    /// `ema` if the file has it, else `model`, else whatever tensors there are.
    #[default]
    Auto,
}

impl StateDict {
    /// The name of the set asked for; `None` for [`StateDict::Auto`].
    fn set(self) -> Option<&'static str> {
        match self {
            StateDict::Ema => Some("ema"),
            StateDict::Model => Some("model"),
            StateDict::Auto => None,
        }
    }
}

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
    weights: &'static str,
    /// In the file's order.
    tensors: Vec<Named>,
    /// Indices into `tensors`, sorted by name.
    by_name: Vec<usize>,
    arguments: BTreeMap<String, String>,
    optimizer_step: Option<u64>,
    notes: Vec<String>,
}

impl Checkpoint {
    /// Opens the file at `path` and finds the weights asked for.
    pub fn open(path: impl AsRef<Path>, weights: StateDict) -> Result<Checkpoint, CheckpointError> {
        let file: String = path.as_ref().display().to_string().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        match MappedFile::open(path.as_ref()) {
            Ok(map) => Checkpoint::read(file, Source::Mapped(map), weights),
            Err(source) => Err(CheckpointError::Io { file, source }),
        }
    }

    /// Reads a checkpoint that is in memory already; `name` stands for its path in messages.
    pub fn from_bytes(name: &str, bytes: Vec<u8>, weights: StateDict) -> Result<Checkpoint, CheckpointError> {
        Checkpoint::read(name.to_string(), Source::Memory(bytes), weights)
    }

    fn read(file: String, source: Source, asked: StateDict) -> Result<Checkpoint, CheckpointError> {
        let bytes = source.bytes();
        let mut budget = Budget::new(&file, bytes.len());
        let mut notes = Notes::default();
        let format = format(&file, bytes)?;
        let torch::Contents { weights, tensors, arguments, optimizer_step } = match format {
            Format::Torch => torch::read(&file, bytes, asked, &mut notes, &mut budget)?,
            Format::Safetensors => {
                let (tensors, arguments) = safetensors::read(&file, bytes, &mut budget)?;
                let (weights, tensors) = names::choose(&file, tensors, asked, "all", &mut notes)?;
                torch::Contents { weights, tensors, arguments, optimizer_step: None }
            }
        };
        budget.charge(2 * size_of::<usize>() * tensors.len())?;
        let tensors = names::strip(&file, tensors)?;
        if tensors.is_empty() {
            return Err(error::Place { file: &file, part: "contents" }.expected("tensors", "none"));
        }
        let mut by_name: Vec<usize> = (0..tensors.len()).collect();
        by_name.sort_unstable_by(|&a, &b| tensors[a].0.cmp(&tensors[b].0));
        let notes = notes.finish();
        Ok(Checkpoint { file, source, format, weights, tensors, by_name, arguments, optimizer_step, notes })
    }

    /// The path as given.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The file's format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Which weights these are: `ema`, `model`, or `all` when the file does not tell.
    pub fn weights_used(&self) -> &'static str {
        self.weights
    }

    /// The tensors' names without prefixes, in the file's order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.iter().map(|(name, _)| name.as_str())
    }

    /// Type and shape of a tensor.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.find(name).map(|stored| &stored.info)
    }

    fn find(&self, name: &str) -> Option<&tensor::Located> {
        let i = self.by_name.binary_search_by(|&i| self.tensors[i].0.as_str().cmp(name)).ok()?;
        Some(&self.tensors[self.by_name[i]].1)
    }

    /// A tensor's values in row-major order; f16 and bf16 are widened, f64 is rounded to nearest.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>, CheckpointError> {
        let stored = self.stored(name)?;
        stored.read(self.source.bytes()).ok_or_else(|| self.element_type(name, stored))
    }

    /// As [`Checkpoint::read_f32`], of a part of the tensor: `rows` are indices of its first axis.
    ///
    /// # Panics
    /// If the tensor does not have these rows.
    pub fn read_rows_f32(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>, CheckpointError> {
        let stored = self.stored(name)?;
        let ElementType::Other(_) = stored.info.dtype else {
            let part = stored.rows(rows).expect("the caller knows the shape");
            return Ok(part.read(self.source.bytes()).expect("the elements are floats"));
        };
        Err(self.element_type(name, stored))
    }

    /// The values of a tensor of integers (i32 or i64) in row-major order. No weights are; labels are.
    pub fn read_integers(&self, name: &str) -> Result<Vec<i64>, CheckpointError> {
        let stored = self.stored(name)?;
        stored.read_integers(self.source.bytes()).ok_or_else(|| self.element_type(name, stored))
    }

    fn stored(&self, name: &str) -> Result<&tensor::Located, CheckpointError> {
        self.find(name).ok_or_else(|| CheckpointError::NoTensor {
            file: self.file.clone(),
            tensor: shown(name.as_bytes()),
            weights: self.weights,
            count: self.tensors.len(),
        })
    }

    fn element_type(&self, name: &str, stored: &tensor::Located) -> CheckpointError {
        let found = stored.info.dtype.name();
        CheckpointError::ElementType { file: self.file.clone(), tensor: shown(name.as_bytes()), found }
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

    /// What was left out, in sentences.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// How PyTorch's format before 1.6 begins: the pickled number 0x1950a86a20f9469cfc6c. Every bare pickle is taken for it.
const LEGACY: u8 = 0x80;

/// Tells the format by content.
fn format(file: &str, bytes: &[u8]) -> Result<Format, CheckpointError> {
    if bytes.starts_with(zip::LOCAL) {
        return Ok(Format::Torch);
    }
    if safetensors::looks_like(bytes) {
        return Ok(Format::Safetensors);
    }
    let tar = bytes.get(257..262) == Some(b"ustar");
    if tar || (bytes.first() == Some(&LEGACY) && bytes.get(1).is_some_and(|version| *version <= 5)) {
        return Err(CheckpointError::Legacy { file: file.to_string() });
    }
    let found = match bytes {
        [] => "an empty file".to_string(),
        [b'v', b'e', b'r', b's', b'i', b'o', b'n', b' ', ..] => "text, perhaps a Git LFS pointer instead of the file".to_string(),
        [b'<', ..] => "text, perhaps a web page instead of the file".to_string(),
        _ => format!("a file that begins with `{}`", shown(&bytes[..bytes.len().min(8)])),
    };
    Err(CheckpointError::Unrecognised { file: file.to_string(), found })
}
