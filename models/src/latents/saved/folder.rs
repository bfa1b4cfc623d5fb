//! A folder with a `.npy` file for every latent, as the official scripts and `encode` write it: `X_features` with `000000.npy` on, and
//! beside it folders of labels and, of `encode`, of deviations and of mirrored pictures, which are no latents of the pictures themselves.

use std::path::{Path, PathBuf};

use super::npy::Npy;
use super::wanted::FEATURES;
use super::{LatentsError, Opened, Source, Wanted, wrong};
use crate::latents::{Array, name_text};

struct Folder {
    path: PathBuf,
    /// In order.
    files: Vec<PathBuf>,
    shape: [usize; 3],
    wanted: Wanted,
}

impl Source for Folder {
    fn count(&self) -> usize {
        self.files.len()
    }

    fn read(&mut self, index: usize) -> Result<Vec<f32>, LatentsError> {
        Ok(one(&self.path.join(&self.files[index]), Some(self.shape), self.wanted)?.values(0))
    }

    fn name(&self, index: usize) -> Option<String> {
        self.files[index].file_stem().map(name_text)
    }
}

pub(super) fn open(path: &Path, wanted: Wanted) -> Result<Opened, LatentsError> {
    if wanted != Wanted::LATENTS {
        return open_files(path, wanted);
    }
    open_files(&features(path)?, wanted)
}

/// The folder beside that of the latents, if there is one.
pub(super) fn beside(path: &Path, wanted: Wanted) -> Result<Option<Opened>, LatentsError> {
    let features = features(path)?;
    let name = features.file_name().map(name_text).unwrap_or_default();
    let Some(stem) = name.strip_suffix(FEATURES) else { return Ok(None) };
    let folder = features.with_file_name(format!("{stem}{}", wanted.ending()));
    if folder.is_dir() { open_files(&folder, wanted).map(Some) } else { Ok(None) }
}

/// The folder of latents that a path leads to.
fn features(path: &Path) -> Result<PathBuf, LatentsError> {
    let file = path.display().to_string();
    let names = names(path)?;
    let ends_in = |name: &Path, ending: &str| name_text(name.as_os_str()).ends_with(ending);
    let no_latents = |name: &Path| Wanted::OTHERS.iter().any(|other| ends_in(name, other.ending()));
    let is_features = |name: &&PathBuf| ends_in(name, FEATURES) && !no_latents(name) && path.join(name).is_dir();
    let features: Vec<&PathBuf> = names.iter().filter(is_features).collect();
    let ours = features.iter().find(|name| name.as_os_str() == Array::Latents.folder());
    match (ours, &features[..]) {
        (Some(only), _) | (None, [only]) => return Ok(path.join(only)),
        (None, []) => {}
        (None, several) => {
            let list: Vec<String> = several.iter().map(|name| format!("`{}`", name_text(name.as_os_str()))).collect();
            return Err(wrong(&file, "folders", format!("one that ends in `{FEATURES}`"), list.join(", ")));
        }
    }
    let name = path.file_name().map(name_text).unwrap_or_default();
    if let Some(other) = Wanted::OTHERS.iter().find(|other| name.ends_with(other.ending())) {
        let found = format!("{} (`{}`)", other.what(), other.ending());
        return Err(wrong(&file, "folder", format!("latents, in a folder that ends in `{FEATURES}`"), found));
    }
    Ok(path.to_owned())
}

/// A folder of latents alone: every file is looked at, so that all are of one shape and as long as they say.
fn open_files(path: &Path, wanted: Wanted) -> Result<Opened, LatentsError> {
    let mut files: Vec<PathBuf> = names(path)?.into_iter().filter(|name| name.extension().is_some_and(|e| e == "npy")).collect();
    // Numbers need not have equally many digits.
    files.sort_by_cached_key(|name| {
        let stem = name.file_stem().map(name_text).unwrap_or_default();
        (stem.parse::<u64>().unwrap_or(u64::MAX), stem)
    });
    let Some(first) = files.first() else {
        let expected = format!("{} (.npy files, or a folder of them that ends in `{}`), or a zarr store", wanted.what(), wanted.ending());
        return Err(wrong(&path.display().to_string(), "folder", expected, "none"));
    };
    let [_, c, h, w] = one(&path.join(first), None, wanted)?.shape();
    for name in &files {
        one(&path.join(name), Some([c, h, w]), wanted)?;
    }
    Ok(Opened { source: Box::new(Folder { path: path.to_owned(), files, shape: [c, h, w], wanted }), shape: [c, h, w], note: None })
}

/// A file of one latent.
fn one(path: &Path, expected: Option<[usize; 3]>, wanted: Wanted) -> Result<Npy, LatentsError> {
    let npy = Npy::open(path, wanted)?;
    let [n, c, h, w] = npy.shape();
    match expected {
        _ if n != 1 => Err(wrong(&path.display().to_string(), "shape", "[1,C,h,w], one latent a file", format!("{:?}", npy.shape()))),
        Some(all) if all != [c, h, w] => {
            let expected = format!("[1, {}, {}, {}] as in the files before it", all[0], all[1], all[2]);
            Err(wrong(&path.display().to_string(), "shape", expected, format!("{:?}", npy.shape())))
        }
        _ => Ok(npy),
    }
}

/// Names in a folder, in order, but for hidden ones.
fn names(path: &Path) -> Result<Vec<PathBuf>, LatentsError> {
    let failed = |source| LatentsError::Read { file: path.display().to_string(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if !name.as_encoded_bytes().starts_with(b".") {
            names.push(PathBuf::from(name));
        }
    }
    names.sort();
    Ok(names)
}
