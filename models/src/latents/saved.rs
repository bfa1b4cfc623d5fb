//! Latents as people have them, read one by one: what `encode` writes, NumPy files, safetensors and PyTorch files.
//!
//! | path | holds |
//! | --- | --- |
//! | a folder of `.npy`, or one with such a folder for latents | one latent a file, in the order of their numbers |
//! | a zarr store (version 2), or an array of one | `latents [n,C,h,w]` |
//! | `.npy`, `.npz` | `[n,C,h,w]` or `[C,h,w]`; of several arrays `latents` or `arr_0` |
//! | safetensors, PyTorch | the same: `latents`, or the only tensor of such a shape; a list of tensors, one a latent |
//!
//! Which it is is told by content. Elements are f16, f32 or f64 (bf16 where there is such), in either order of bytes and axes. Latents are
//! taken as the denoiser has them, which is how `encode` and `generate` write them: what they are scaled by is the autoencoder's to say.
//!
//! Files come from anywhere: all sizes are held against those of the files before anything is allocated, and memory holds one latent, of a
//! compressed array in one file also that array, of a compressed store one chunk.

mod array;
mod error;
mod folder;
mod inflate;
mod npy;
mod npz;
mod tensors;
mod wanted;
mod zarr;

use std::path::Path;

use fcdm_compiler::kind::Kind;
use fcdm_runtime::memory::{Need, f32s};

pub use error::LatentsError;
pub use wanted::Wanted;

/// What latents are read from.
trait Source: Send {
    /// How many there are.
    fn count(&self) -> usize;
    /// Values of one, `[C,h,w]`.
    fn read(&mut self, index: usize) -> Result<Vec<f32>, LatentsError>;
    /// What it is called, where it has a name of its own.
    fn name(&self, _index: usize) -> Option<String> {
        None
    }
}

/// An opened source, the shape of its latents, and what was assumed.
struct Opened {
    source: Box<dyn Source>,
    shape: [usize; 3],
    note: Option<String>,
}

/// Latents of one shape.
pub struct Latents {
    file: String,
    opened: Opened,
}

impl Latents {
    /// Opens what `path` leads to. There is at least one latent, all have the shape, and the files are as long as that takes; no value is
    /// read yet.
    ///
    /// # Errors
    /// When it holds no latents, or none that are understood; see [`LatentsError`].
    pub fn open(path: &Path) -> Result<Latents, LatentsError> {
        Latents::open_as(path, Wanted::LATENTS)
    }

    /// As [`Latents::open`], of a path that leads to something else than latents; labels have shape `[1,1,1]`.
    ///
    /// # Errors
    /// As there.
    pub fn open_as(path: &Path, wanted: Wanted) -> Result<Latents, LatentsError> {
        let file = path.display().to_string();
        let opened = match Kind::of(path).map_err(|source| LatentsError::Read { file: file.clone(), source })? {
            // Its tensors are weights, whatever their shapes.
            kind @ Kind::Artifact => return Err(wrong(&file, "content", wanted.what(), kind.to_string())),
            Kind::Zarr => zarr::open(path, wanted)?,
            Kind::Npy => npy::open(path, wanted)?,
            Kind::Npz => npz::open(path, wanted)?,
            kind if kind.is_folder() => folder::open(path, wanted)?,
            _ => tensors::open(path, wanted)?,
        };
        Latents::reserved(file, opened)
    }

    /// What is stored beside the latents that `path` leads to; `None` if it is not there.
    ///
    /// # Errors
    /// As [`Latents::open`].
    pub fn beside(path: &Path, wanted: Wanted) -> Result<Option<Latents>, LatentsError> {
        let file = path.display().to_string();
        let opened = match Kind::of(path).map_err(|source| LatentsError::Read { file: file.clone(), source })? {
            Kind::Zarr => zarr::beside(path, wanted)?,
            Kind::Npz => npz::beside(path, wanted)?,
            Kind::Npy | Kind::Artifact => None,
            kind if kind.is_folder() => folder::beside(path, wanted)?,
            _ => tensors::beside(path, wanted)?,
        };
        opened.map(|opened| Latents::reserved(file, opened)).transpose()
    }

    fn reserved(file: String, opened: Opened) -> Result<Latents, LatentsError> {
        let bytes = f32s(&opened.shape);
        let need = Need::of("a latent").with("as it is read", bytes).with("in order", bytes);
        need.reserve().map_err(|source| LatentsError::NoMemory { file: file.clone(), source })?;
        Ok(Latents { file, opened })
    }

    /// The path as given.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// How many there are, at least one.
    pub fn count(&self) -> usize {
        self.opened.source.count()
    }

    /// Channels, height and width of each.
    pub fn shape(&self) -> [usize; 3] {
        self.opened.shape
    }

    /// What was assumed, in a sentence.
    pub fn note(&self) -> Option<&str> {
        self.opened.note.as_deref()
    }

    /// What latent `index` is called: its number with six digits, or its file's name.
    pub fn name(&self, index: usize) -> String {
        self.opened.source.name(index).unwrap_or_else(|| format!("{index:06}"))
    }

    /// Values of latent `index`, `[C,h,w]`, all of them finite.
    ///
    /// # Errors
    /// When it cannot be read, or has values that are no numbers.
    ///
    /// # Panics
    /// If there is no such latent.
    pub fn read(&mut self, index: usize) -> Result<Vec<f32>, LatentsError> {
        assert!(index < self.count(), "a latent that there is");
        let values = self.opened.source.read(index)?;
        match values.iter().find(|v| !v.is_finite()) {
            Some(found) => Err(wrong(&self.file, format!("latent {}", self.name(index)), "finite values", found.to_string())),
            None => Ok(values),
        }
    }
}

/// A field of a file that is not as expected.
fn wrong(file: &str, field: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> LatentsError {
    LatentsError::Field { file: file.to_owned(), field: field.into(), expected: expected.into(), found: found.into() }
}

#[cfg(test)]
mod tests;
