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
//! All are scaled as the denoiser takes them. An official trainer reads the first two and passes over the rest. `latents.json` says how
//! they were made and of which classes, `manifest.jsonl` of which pictures.

mod folder;
pub mod manifest;
mod npy;
mod posterior;
pub mod saved;
mod zarr;

use std::io::{self, Write};
use std::path::Path;

use fcdm_runtime::file::{FileError, replace_file};
use serde_json::{Value, json};

pub use folder::{Dataset, PictureFile, name_text};
use manifest::Row;
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
    const ALL: [Array; 4] = [Array::Latents, Array::Deviations, Array::FlippedLatents, Array::FlippedDeviations];

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
    /// The pictures, in order.
    pub pictures: Vec<Row>,
    /// Names of their classes, if they have any.
    pub classes: Vec<String>,
    /// Channels, height and width of latents.
    pub shape: [usize; 3],
    /// Arrays beside the labels.
    pub arrays: Vec<Array>,
    /// How they are made: whatever else decides their values. A store goes on only where this is the same.
    pub made: Value,
}

impl Contents {
    fn count(&self) -> usize {
        self.pictures.len()
    }

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
    /// When it cannot be made, or is there with other contents, unless `anew` says that those are to go.
    pub fn open(folder: &Path, layout: LatentLayout, contents: Contents, anew: bool) -> Result<Store, FileError> {
        make_folder(folder)?;
        if anew {
            clear(folder)?;
        }
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
    let expected =
        json!({ "layout": layout, "shape": contents.shape, "arrays": arrays, "classes": contents.classes, "made": contents.made });
    let other = |line: String| FileError::writing(&path)(io::Error::new(io::ErrorKind::AlreadyExists, line));
    match std::fs::read(&path) {
        Ok(bytes) => {
            let found: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            let there = manifest::read(folder)?;
            if let Some(difference) = manifest::difference(&there, &contents.pictures) {
                return Err(other(format!("the pictures are not those that it was begun with: {difference}; --force encodes all anew")));
            }
            let differs = expected.as_object().into_iter().flatten().find(|(key, value)| found.get(key.as_str()) != Some(value));
            match differs {
                None => Ok(()),
                Some((key, value)) => {
                    let found = found.get(key).map_or("none".into(), Value::to_string);
                    Err(other(format!("it is of other latents: {key}: expected {value}, found {found}; --force encodes all anew")))
                }
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            manifest::write(folder, &contents.pictures)?;
            replace_file(&path, |file| write!(file, "{expected:#}").map_err(FileError::writing(&path)))
        }
        Err(e) => Err(FileError::writing(&path)(e)),
    }
}

/// Takes away a store, and nothing else that is in its folder: what it says of itself first.
fn clear(folder: &Path) -> Result<(), FileError> {
    let there = |e: io::Error| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) };
    for name in [DESCRIPTION, manifest::MANIFEST, zarr::GROUP] {
        let path = folder.join(name);
        std::fs::remove_file(&path).or_else(there).map_err(FileError::writing(&path))?;
    }
    let folders = Array::ALL.iter().flat_map(|a| [a.folder(), a.name()]).chain([npy::LABELS, zarr::LABELS]);
    for path in folders.map(|name| folder.join(name)) {
        std::fs::remove_dir_all(&path).or_else(there).map_err(FileError::writing(&path))?;
    }
    Ok(())
}

/// The classes of a store, from what it says of itself in `latents.json`.
///
/// # Errors
/// One line, when the text is no such description.
pub fn classes(text: &str) -> Result<Vec<String>, String> {
    let description: Value = serde_json::from_str(text).map_err(|e| format!("expected a description of latents, {e}"))?;
    let names = description["classes"].as_array().and_then(|list| list.iter().map(|n| n.as_str().map(str::to_owned)).collect());
    names.ok_or_else(|| "classes: expected a list of names".to_owned())
}

/// Names of the classes of a store that `path` leads to, or to whose latents; `None` if nothing says.
pub fn classes_of(path: &Path) -> Option<Vec<String>> {
    let folders = [Some(path), path.parent()];
    let text = folders.into_iter().flatten().find_map(|folder| std::fs::read_to_string(folder.join(DESCRIPTION)).ok())?;
    classes(&text).ok()
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
        let row = |index| Row {
            index,
            file: format!("a/{index}.png"),
            label: index % 7,
            bytes: 10,
            modified: 1 << 60,
            size: [8, 24],
            crop: [8, 0, 8, 8],
            enlarged: false,
        };
        let pictures = (0..count).map(row).collect();
        Contents { pictures, classes: vec!["a".into()], shape: [2, 1, 3], arrays, made: json!({ "seed": 1 }) }
    }

    fn encoded(index: usize) -> Encoded {
        let values = |offset: usize| (0..6).map(|i| (index * 100 + offset + i) as f32).collect();
        Encoded { label: index as i64 % 7, values: vec![values(0), values(50)] }
    }

    fn fill(folder: &Path, layout: LatentLayout, count: usize, until: usize) -> usize {
        let mut store = Store::open(folder, layout, contents(count), false).unwrap();
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
        let refused = |layout, contents| Store::open(dir.path(), layout, contents, false).err().unwrap().to_string();
        let with = |change: &dyn Fn(&mut Contents)| {
            let mut other = contents(5);
            change(&mut other);
            refused(LatentLayout::Npy, other)
        };
        for (line, expected) in [
            (refused(LatentLayout::Zarr, contents(5)), "it is of other latents: layout: expected \"zarr\", found \"npy\""),
            (with(&|c| c.made = json!({ "seed": 2 })), "it is of other latents: made: expected {\"seed\":2}, found {\"seed\":1}"),
            (with(&|c| c.classes = vec!["b".into()]), "it is of other latents: classes: expected [\"b\"], found [\"a\"]"),
            (refused(LatentLayout::Npy, contents(6)), "1 new (a/5.png)"),
            (refused(LatentLayout::Npy, contents(3)), "2 gone (a/3.png)"),
            (with(&|c| c.pictures[1].modified += 1), "1 changed (a/1.png)"),
            (with(&|c| c.pictures.iter_mut().for_each(|p| p.label += 1)), "5 of another class (a/0.png)"),
        ] {
            assert!(line.contains("latents.json") && line.contains(expected) && line.ends_with("--force encodes all anew"), "{line}");
        }
        std::fs::write(dir.path().join("notes.txt"), "mine").unwrap();
        let store = Store::open(dir.path(), LatentLayout::Zarr, contents(3), true).unwrap();
        assert!(!store.has(0) && !dir.path().join("latents_features").exists() && dir.path().join("notes.txt").exists());
        assert_eq!(manifest::read(dir.path()).unwrap(), contents(3).pictures);
        assert_eq!(classes(&std::fs::read_to_string(dir.path().join(DESCRIPTION)).unwrap()).unwrap(), ["a"]);
    }
}
