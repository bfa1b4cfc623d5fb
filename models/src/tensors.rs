//! Tensors exchanged with other frameworks: safetensors files of noise, latents, inputs and outputs. There images are
//! `[N,C,H,W]`; here they are channels last.

use std::path::Path;

use fcdm_compiler::checkpoint::{Checkpoint, CheckpointError, StateDict};
pub use fcdm_runtime::file::tensors::{channels_first, channels_last, write_tensor, write_tensors};
use fcdm_runtime::memory::{Need, NoMemory, bytes, f32s};
use thiserror::Error;

/// A file of tensors that cannot be used.
#[derive(Debug, Error)]
pub enum TensorsError {
    /// The file, or a tensor of it.
    #[error(transparent)]
    File(#[from] CheckpointError),
    /// A tensor of another shape.
    #[error("{file}: tensor `{tensor}`: expected shape {expected}, found {found:?}")]
    Shape {
        /// The file.
        file: String,
        /// The tensor.
        tensor: &'static str,
        /// What would do, with letters for free extents.
        expected: String,
        /// What is there.
        found: Vec<usize>,
    },
    /// A tensor with values that cannot be used.
    #[error("{file}: tensor `{tensor}`: expected {expected}, found {found}")]
    Values {
        /// The file.
        file: String,
        /// The tensor.
        tensor: &'static str,
        /// What would do.
        expected: String,
        /// The first that does not.
        found: String,
    },
    /// More values than the machine has memory for.
    #[error("{file}: tensor `{tensor}`: {source}")]
    NoMemory {
        /// The file.
        file: String,
        /// The tensor.
        tensor: &'static str,
        /// How much there is not.
        source: NoMemory,
    },
}

/// A safetensors file of inputs.
pub struct TensorFile(StateDict);

/// An expected extent: a number, or a letter for any.
#[derive(Clone, Copy, Debug)]
pub enum Extent {
    /// This many.
    Is(usize),
    /// Any number but zero, called so in messages.
    Any(&'static str),
    /// At least this many.
    AtLeast(usize),
}

impl std::fmt::Display for Extent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Extent::Is(n) => write!(f, "{n}"),
            Extent::Any(name) => f.write_str(name),
            Extent::AtLeast(n) => write!(f, ">={n}"),
        }
    }
}

impl TensorFile {
    /// Opens a file; its header is checked as that of a checkpoint.
    ///
    /// # Errors
    /// When it is not a safetensors file.
    pub fn open(path: &Path) -> Result<TensorFile, TensorsError> {
        Ok(TensorFile(StateDict::everything(Checkpoint::open(path)?)?))
    }

    /// Whether there is a tensor of that name.
    pub fn has(&self, name: &str) -> bool {
        self.0.tensor(name).is_some()
    }

    /// A float tensor of the shape expected, and its shape.
    ///
    /// # Errors
    /// When it is missing, of another shape or not of floats.
    pub fn floats(&self, name: &'static str, expected: &[Extent]) -> Result<(Vec<usize>, Vec<f32>), TensorsError> {
        let shape = self.shape(name, expected)?;
        self.enough_memory(name, &shape)?;
        Ok((shape, self.0.read_f32(name)?))
    }

    /// As [`TensorFile::floats`], also of integers, which become floats.
    ///
    /// # Errors
    /// As [`TensorFile::floats`].
    pub fn numbers(&self, name: &'static str, expected: &[Extent]) -> Result<Vec<f32>, TensorsError> {
        let shape = self.shape(name, expected)?;
        self.enough_memory(name, &shape)?;
        match self.0.read_integers(name) {
            Ok(values) => Ok(values.into_iter().map(|v| v as f32).collect()),
            Err(_) => Ok(self.0.read_f32(name)?),
        }
    }

    /// Class labels, stored as integers or as whole floats, below `classes`.
    ///
    /// # Errors
    /// As [`TensorFile::floats`], and for a value that is no class.
    pub fn labels(&self, name: &'static str, expected: &[Extent], classes: usize) -> Result<Vec<i32>, TensorsError> {
        let label = |v: f32| {
            let whole = v.fract() == 0.0 && v >= 0.0 && (v as usize) < classes;
            whole.then_some(v as i32).ok_or_else(|| TensorsError::Values {
                file: self.0.file().to_owned(),
                tensor: name,
                expected: format!("classes from 0 to {}", classes - 1),
                found: v.to_string(),
            })
        };
        self.numbers(name, expected)?.into_iter().map(label).collect()
    }

    /// Asks for a tensor's values, as they are read and in another order. A file may have holes: it need not be as long as it says.
    fn enough_memory(&self, name: &'static str, shape: &[usize]) -> Result<(), TensorsError> {
        let need = Need::of("its values").with("as they are read", bytes(shape, 8)).with("in order", f32s(shape));
        need.reserve().map_err(|source| TensorsError::NoMemory { file: self.0.file().to_owned(), tensor: name, source })
    }

    /// The extents of a tensor, which have to be as expected; none of its values is read.
    ///
    /// # Errors
    /// As [`TensorFile::floats`].
    pub fn shape(&self, name: &'static str, expected: &[Extent]) -> Result<Vec<usize>, TensorsError> {
        let Some(info) = self.0.tensor(name) else {
            self.0.read_f32(name)?;
            unreachable!("reading a missing tensor fails");
        };
        let fits = |(e, &n): (&Extent, &usize)| match *e {
            Extent::Is(want) => n == want,
            Extent::Any(_) => n > 0,
            Extent::AtLeast(least) => n >= least,
        };
        if info.shape.len() == expected.len() && expected.iter().zip(&info.shape).all(fits) {
            return Ok(info.shape.clone());
        }
        let list: Vec<String> = expected.iter().map(Extent::to_string).collect();
        let expected = format!("[{}]", list.join(", "));
        Err(TensorsError::Shape { file: self.0.file().to_owned(), tensor: name, expected, found: info.shape.clone() })
    }
}
