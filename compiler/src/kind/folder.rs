//! What a folder is, by names in it and the beginnings of some of its files.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{Kind, PictureFormat};

/// Files and folders that are looked at; the others will be like them.
const MOST: usize = 64;

pub(super) fn kind(path: &Path) -> io::Result<Kind> {
    let is_array = |folder: &Path| [".zarray", "zarr.json"].iter().any(|name| folder.join(name).is_file());
    if is_array(path) || path.join(".zgroup").is_file() || is_array(&path.join("latents")) {
        return Ok(Kind::Zarr);
    }
    let is_diffusers = |folder: &Path| folder.join("config.json").is_file();
    if path.join("model_index.json").is_file() || is_diffusers(path) || is_diffusers(&path.join("vae")) {
        return Ok(Kind::Diffusers);
    }
    let (folders, files) = entries(path)?;
    if let Some(kind) = of_files(&files) {
        return Ok(kind);
    }
    // One that cannot be opened says nothing of the others.
    let mut inner = folders.iter().filter_map(|folder| entries(folder).ok());
    Ok(inner.find_map(|(_, files)| of_files(&files)).unwrap_or(Kind::Folder))
}

fn entries(path: &Path) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let shown = |path: &PathBuf| path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."));
    let entries = std::fs::read_dir(path)?.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(entries.filter(shown).take(MOST).partition(|path| path.is_dir()))
}

fn of_files(files: &[PathBuf]) -> Option<Kind> {
    files.iter().find_map(|path| {
        let mut start = Vec::new();
        let file = path.is_file().then(|| File::open(path).ok()).flatten()?;
        file.take(64).read_to_end(&mut start).ok()?;
        match start {
            start if start.starts_with(b"\x93NUMPY") => Some(Kind::NpyFolder),
            start => PictureFormat::of(&start).map(|_| Kind::Pictures),
        }
    })
}
