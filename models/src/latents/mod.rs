//! Latents of a folder of pictures as trainers read them: one `.npy` per picture, or a zarr store, in the layouts of the official
//! scripts, and beside these what lets flips and posterior sampling happen at training time.
//!
//! | array | npy folder | shape of one | holds |
//! | --- | --- | --- | --- |
//! | `latents` | `latents_features` | `[1,C,h,w]` f32 | the posterior's mean, or a sample of it |
//! | `labels` | `latents_labels` | `[1]` i64 | class |
//! | `deviations` | `latents_deviations` | `[1,C,h,w]` f32 | the posterior's standard deviation |
//! | `flipped_latents`, `flipped_deviations` | `latents_flipped_features`, `latents_flipped_deviations` | as above | of the mirrored picture |
//!
//! All are scaled as the denoiser takes them. An official trainer reads the first two and passes over the rest.

mod folder;
mod npy;
mod posterior;
mod zarr;

use std::io::{self, Write};
use std::path::Path;

use fcdm_runtime::file::{FileError, replace_file};
use serde_json::{Value, json};

pub use folder::{PictureFile, pictures};
pub use posterior::Posteriors;

/// How latents are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatentLayout {
    /// A `.npy` file for every picture and array.
    Npy,
    /// A zarr store (version 2), uncompressed.
    Zarr,
}

/// An array of latents beside the labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Array {
    /// Mean, or a sample.
    Latents,
    /// Standard deviation.
    Deviations,
    /// Mean, of the mirrored picture.
    FlippedLatents,
    /// Standard deviation, of the mirrored picture.
    FlippedDeviations,
}

impl Array {
    /// Its name in a zarr store.
    fn name(self) -> &'static str {
        match self {
            Array::Latents => "latents",
            Array::Deviations => "deviations",
            Array::FlippedLatents => "flipped_latents",
            Array::FlippedDeviations => "flipped_deviations",
        }
    }

    /// Its folder of `.npy` files.
    fn folder(self) -> &'static str {
        match self {
            Array::Latents => "latents_features",
            Array::Deviations => "latents_deviations",
            Array::FlippedLatents => "latents_flipped_features",
            Array::FlippedDeviations => "latents_flipped_deviations",
        }
    }
}

/// What a store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Number of pictures.
    pub count: usize,
    /// Channels, height and width of latents.
    pub shape: [usize; 3],
    /// Arrays beside the labels.
    pub arrays: Vec<Array>,
    /// How they are made: whatever else decides their values. A store goes on only where this is the same.
    pub made: Value,
}

impl Contents {
    fn values(&self) -> usize {
        self.shape.iter().product()
    }
}

/// One picture's latents: for every array of the store its values `[C,h,w]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// Class.
    pub label: i64,
    /// In the order of [`Contents::arrays`].
    pub values: Vec<Vec<f32>>,
}

/// A store that is being written, in the order of the pictures. Files appear whole or not at all; what is there is not written
/// again, so that an interrupted run goes on where it was.
pub enum Store {
    /// See [`LatentLayout::Npy`].
    Npy(npy::NpyStore),
    /// See [`LatentLayout::Zarr`].
    Zarr(zarr::ZarrStore),
}

impl Store {
    /// Opens the store in a folder, and makes it if need be.
    ///
    /// # Errors
    /// When it cannot be made, or is there with other contents.
    pub fn open(folder: &Path, layout: LatentLayout, contents: Contents) -> Result<Store, FileError> {
        make_folder(folder)?;
        same_contents(folder, layout, &contents)?;
        Ok(match layout {
            LatentLayout::Npy => Store::Npy(npy::NpyStore::open(folder, contents)?),
            LatentLayout::Zarr => Store::Zarr(zarr::ZarrStore::open(folder, contents)?),
        })
    }

    /// Whether picture `index` is in it.
    pub fn has(&self, index: usize) -> bool {
        match self {
            Store::Npy(s) => s.has(index),
            Store::Zarr(s) => s.has(index),
        }
    }

    /// Adds picture `index`, which is the first that it has not.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, index: usize, encoded: Encoded) -> Result<(), FileError> {
        match self {
            Store::Npy(s) => s.add(index, &encoded),
            Store::Zarr(s) => s.add(index, encoded),
        }
    }

    /// Writes what is left. Without it a zarr store lacks its description.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(self) -> Result<(), FileError> {
        match self {
            Store::Npy(_) => Ok(()),
            Store::Zarr(s) => s.finish(),
        }
    }
}

/// Holds what the folder's store says of itself against what is to be stored, and writes it down if it says nothing yet.
fn same_contents(folder: &Path, layout: LatentLayout, contents: &Contents) -> Result<(), FileError> {
    let path = folder.join(DESCRIPTION);
    let arrays: Vec<&str> = contents.arrays.iter().map(|a| a.name()).collect();
    let layout = if layout == LatentLayout::Npy { "npy" } else { "zarr" };
    let expected = json!({ "layout": layout, "count": contents.count, "shape": contents.shape, "arrays": arrays, "made": contents.made });
    match std::fs::read(&path) {
        Ok(bytes) if serde_json::from_slice::<Value>(&bytes).is_ok_and(|found| found == expected) => Ok(()),
        Ok(_) => {
            let line = "it is of other latents: give an empty folder, or the options that these were made with";
            Err(FileError::writing(&path)(io::Error::new(io::ErrorKind::AlreadyExists, line)))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            replace_file(&path, |file| write!(file, "{expected:#}").map_err(FileError::writing(&path)))
        }
        Err(e) => Err(FileError::writing(&path)(e)),
    }
}

/// What a store says of itself.
const DESCRIPTION: &str = "latents.json";

fn make_folder(path: &Path) -> Result<(), FileError> {
    std::fs::create_dir_all(path).map_err(FileError::writing(path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn contents(count: usize) -> Contents {
        let arrays = vec![Array::Latents, Array::Deviations];
        Contents { count, shape: [2, 1, 3], arrays, made: json!({ "seed": 1 }) }
    }

    fn encoded(index: usize) -> Encoded {
        let values = |offset: usize| (0..6).map(|i| (index * 100 + offset + i) as f32).collect();
        Encoded { label: index as i64 % 7, values: vec![values(0), values(50)] }
    }

    fn fill(folder: &Path, layout: LatentLayout, count: usize, until: usize) -> usize {
        let mut store = Store::open(folder, layout, contents(count)).unwrap();
        let mut added = 0;
        for i in (0..until).filter(|&i| !store.has(i)).collect::<Vec<_>>() {
            store.add(i, encoded(i)).unwrap();
            added += 1;
        }
        if until == count {
            store.finish().unwrap();
        }
        added
    }

    fn f32s(bytes: &[u8]) -> Vec<f32> {
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    #[test]
    fn npy_files_are_numpy_s_and_are_not_written_twice() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(fill(dir.path(), LatentLayout::Npy, 5, 3), 3);
        assert_eq!(fill(dir.path(), LatentLayout::Npy, 5, 5), 2);
        let read = |path: &str| npyz::NpyFile::new(std::fs::File::open(dir.path().join(path)).unwrap()).unwrap();
        let latent = read("latents_features/000003.npy");
        assert_eq!(latent.shape(), [1, 2, 1, 3]);
        assert_eq!(latent.into_vec::<f32>().unwrap(), encoded(3).values[0]);
        assert_eq!(read("latents_deviations/000004.npy").into_vec::<f32>().unwrap(), encoded(4).values[1]);
        assert_eq!(read("latents_labels/000004.npy").into_vec::<i64>().unwrap(), [4]);
    }

    #[test]
    fn a_zarr_store_has_whole_chunks_and_goes_on_after_an_interruption() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(fill(dir.path(), LatentLayout::Zarr, 130, 100), 100);
        assert!(!dir.path().join(".zgroup").exists(), "unfinished");
        // One chunk of 64 was whole.
        assert_eq!(fill(dir.path(), LatentLayout::Zarr, 130, 130), 66);
        let last = f32s(&std::fs::read(dir.path().join("deviations/2.0.0.0")).unwrap());
        assert_eq!(last.len(), 64 * 6);
        assert_eq!(last[..6], encoded(128).values[1]);
        assert!(last[12..].iter().all(|&v| v == 0.0));
        let array: Value = serde_json::from_slice(&std::fs::read(dir.path().join("latents/.zarray")).unwrap()).unwrap();
        assert_eq!((&array["shape"], &array["chunks"], &array["dtype"]), (&json!([130, 2, 1, 3]), &json!([64, 2, 1, 3]), &json!("<f4")));
        let labels = std::fs::read(dir.path().join("labels/1")).unwrap();
        assert_eq!(labels[..8], (64i64 % 7).to_le_bytes());
    }

    #[test]
    fn other_latents_are_not_mixed_in() {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), LatentLayout::Npy, 5, 2);
        let refused = |layout, contents| Store::open(dir.path(), layout, contents).err().unwrap().to_string();
        for line in [
            refused(LatentLayout::Zarr, contents(5)),
            refused(LatentLayout::Npy, contents(6)),
            refused(LatentLayout::Npy, Contents { made: json!({ "seed": 2 }), ..contents(5) }),
        ] {
            assert!(line.contains("latents.json") && line.contains("it is of other latents"), "{line}");
        }
    }
}
