//! Which picture every latent is of: `manifest.jsonl` beside the latents, a line of JSON a picture, in their order. With it a store
//! goes on only for the pictures that it was begun with, and who looks at `000003.npy` finds the photograph.

use std::io::{self, Write};
use std::path::Path;
use std::time::UNIX_EPOCH;

use fcdm_runtime::file::{FileError, replace_file};
use serde::{Deserialize, Serialize};

use super::folder::PictureFile;
use crate::pictures::Prepared;

/// Its name.
pub const MANIFEST: &str = "manifest.jsonl";

/// A picture that is to be encoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The number of its latents.
    pub index: usize,
    /// The file's name below the folder of pictures.
    pub file: String,
    /// Its class.
    pub label: usize,
    /// Bytes of the file.
    pub bytes: u64,
    /// When it was changed last, in nanoseconds since 1970.
    pub modified: u64,
    /// Height and width of the picture, upright.
    pub size: [usize; 2],
    /// The part of it that is encoded: left, top, width, height.
    pub crop: [usize; 4],
    /// Whether it is smaller than what is encoded.
    pub enlarged: bool,
}

impl Row {
    /// What is known of a file before it is read: its size and time.
    ///
    /// # Errors
    /// When the file is not there.
    pub fn stamp(path: &Path) -> io::Result<(u64, u64)> {
        let about = std::fs::metadata(path)?;
        let since = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok((about.len(), u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Of a picture that has been read.
    pub fn new(index: usize, file: &PictureFile, stamp: (u64, u64), read: &Prepared) -> Row {
        let (r, (bytes, modified)) = (read.shown, stamp);
        let crop = [r.left, r.top, r.width, r.height];
        Row { index, file: file.name.clone(), label: file.label, bytes, modified, size: read.size, crop, enlarged: read.enlarged }
    }
}

/// The pictures of a store, none if there is no such file.
///
/// # Errors
/// When it cannot be read, or is no manifest.
pub fn read(folder: &Path) -> Result<Vec<Row>, FileError> {
    let path = folder.join(MANIFEST);
    let text = match std::fs::read_to_string(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(reading(&path))?,
    };
    let row = |(i, line): (usize, &str)| {
        let row = serde_json::from_str(line).map_err(|e| io::Error::other(format!("line {}: expected a picture, {e}", i + 1)));
        row.map_err(reading(&path))
    };
    text.lines().enumerate().map(row).collect()
}

fn reading(path: &Path) -> impl Fn(io::Error) -> FileError + '_ {
    move |source| FileError { path: path.to_owned(), action: "read", source }
}

/// Writes it.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(folder: &Path, rows: &[Row]) -> Result<(), FileError> {
    let path = folder.join(MANIFEST);
    replace_file(&path, |file| {
        let mut out = io::BufWriter::new(file);
        let mut all = || {
            for row in rows {
                writeln!(out, "{}", serde_json::to_string(row).map_err(io::Error::other)?)?;
            }
            out.flush()
        };
        all().map_err(FileError::writing(&path))
    })
}

/// In what the pictures of a store differ from those that are to be stored, in words; `None` if in nothing.
pub(super) fn difference(there: &[Row], wanted: &[Row]) -> Option<String> {
    let of =
        |rows: &[Row]| rows.iter().map(|r| (r.file.clone(), (r.label, r.bytes, r.modified))).collect::<std::collections::BTreeMap<_, _>>();
    let (old, new) = (of(there), of(wanted));
    let added: Vec<&String> = new.keys().filter(|f| !old.contains_key(*f)).collect();
    let gone: Vec<&String> = old.keys().filter(|f| !new.contains_key(*f)).collect();
    let relabelled: Vec<&String> = new.iter().filter(|(f, n)| old.get(*f).is_some_and(|o| o.0 != n.0)).map(|(f, _)| f).collect();
    let changed: Vec<&String> = new.iter().filter(|(f, n)| old.get(*f).is_some_and(|o| o.0 == n.0 && o != *n)).map(|(f, _)| f).collect();
    let told = [("new", &added), ("gone", &gone), ("of another class", &relabelled), ("changed", &changed)];
    let parts: Vec<String> =
        told.iter().filter(|(_, files)| !files.is_empty()).map(|(what, files)| format!("{} {what} ({})", files.len(), files[0])).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}
