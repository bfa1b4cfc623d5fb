//! Tensors exchanged with other frameworks: safetensors files of noise, latents, inputs and outputs. There images are
//! `[N,C,H,W]`; here they are channels last.

use std::io::Write;
use std::path::Path;

use fcdm_compiler::checkpoint::{Checkpoint, CheckpointError, StateDict};
use fcdm_runtime::artifact::write_f32;
use fcdm_runtime::file::{FileError, replace_file};
use fcdm_runtime::memory::{Need, NoMemory, bytes, f32s};
use serde_json::json;
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

/// Writes one f32 tensor into a safetensors file, whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn write_tensor(path: &Path, name: &str, shape: &[usize], values: &[f32]) -> Result<(), FileError> {
    write_tensors(path, &[(name.to_owned(), shape.to_vec())], &mut |_| Some(values.to_vec())).map(drop)
}

/// Writes f32 tensors into a safetensors file, whole or not at all; `values` makes each when its turn comes, so that memory
/// holds one, or stops it all by `None`. Returns whether the file was written.
///
/// # Errors
/// When the file cannot be written.
///
/// # Panics
/// If `values` makes another number of values than the shape says.
pub fn write_tensors(
    path: &Path,
    tensors: &[(String, Vec<usize>)],
    values: &mut dyn FnMut(usize) -> Option<Vec<f32>>,
) -> Result<bool, FileError> {
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in tensors {
        let begin = end;
        end += 4 * shape.iter().product::<usize>();
        header.insert(name.clone(), json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, end] }));
    }
    let mut header = serde_json::Value::Object(header).to_string().into_bytes();
    // The data of safetensors files begin at a multiple of 8.
    header.resize(header.len().next_multiple_of(8), b' ');
    let written = replace_file(path, |file| {
        let failed = |e| Unfinished::File(FileError::writing(path)(e));
        file.write_all(&(header.len() as u64).to_le_bytes()).and_then(|()| file.write_all(&header)).map_err(failed)?;
        for (i, (name, shape)) in tensors.iter().enumerate() {
            let values = values(i).ok_or(Unfinished::Stopped)?;
            assert_eq!(values.len(), shape.iter().product::<usize>(), "values of {name}");
            write_f32(file, &values).map_err(failed)?;
        }
        Ok(())
    });
    match written {
        Ok(()) => Ok(true),
        Err(Unfinished::Stopped) => Ok(false),
        Err(Unfinished::File(e)) => Err(e),
    }
}

/// Why a file of tensors was not written to its end.
enum Unfinished {
    File(FileError),
    Stopped,
}

impl From<FileError> for Unfinished {
    fn from(e: FileError) -> Unfinished {
        Unfinished::File(e)
    }
}

/// `[n,C,H,W]` to `[n,H,W,C]`; `image` is C, H, W.
pub fn channels_last(values: &[f32], image: [usize; 3]) -> Vec<f32> {
    let [c, h, w] = image;
    let one = |x: &[f32]| -> Vec<f32> { (0..h * w).flat_map(|p| (0..c).map(move |k| (k, p))).map(|(k, p)| x[k * h * w + p]).collect() };
    values.chunks_exact(c * h * w).flat_map(one).collect()
}

/// `[n,H,W,C]` to `[n,C,H,W]`; `image` is C, H, W.
pub fn channels_first(values: &[f32], image: [usize; 3]) -> Vec<f32> {
    let [c, h, w] = image;
    let one = |x: &[f32]| -> Vec<f32> { (0..c).flat_map(|k| (0..h * w).map(move |p| (k, p))).map(|(k, p)| x[p * c + k]).collect() };
    values.chunks_exact(c * h * w).flat_map(one).collect()
}
