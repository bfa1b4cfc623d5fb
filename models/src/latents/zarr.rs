//! A zarr store, version 2 (the specification at zarr-specs.readthedocs.io): a folder for every array, a file for every chunk of
//! [`CHUNK`] pictures, little-endian and uncompressed. The descriptions are written last: without them there is no store, and so no
//! unfinished one is taken for a whole one.

use std::path::{Path, PathBuf};

use fcdm_runtime::artifact::write_f32;
use fcdm_runtime::file::{FileError, replace_file};
use serde_json::{Value, json};

use super::{Contents, Encoded, make_folder};

/// Pictures a chunk. The last chunk is filled up with zeros.
const CHUNK: usize = 64;

pub(super) const LABELS: &str = "labels";

/// What says that the folder is a store.
pub(super) const GROUP: &str = ".zgroup";

/// See [`super::LatentLayout::Zarr`].
pub struct ZarrStore {
    folder: PathBuf,
    contents: Contents,
    /// Of the chunk that is being filled.
    pending: Vec<Encoded>,
    /// Whether every chunk was there when the store was opened.
    there: Vec<bool>,
}

impl ZarrStore {
    pub(super) fn open(folder: &Path, contents: Contents) -> Result<ZarrStore, FileError> {
        for name in contents.arrays.iter().map(|a| a.name()).chain([LABELS]) {
            make_folder(&folder.join(name))?;
        }
        // The labels' chunk comes last.
        let there = (0..contents.count().div_ceil(CHUNK)).map(|i| folder.join(LABELS).join(i.to_string()).is_file()).collect();
        Ok(ZarrStore { folder: folder.to_owned(), contents, pending: Vec::new(), there })
    }

    pub(super) fn has(&self, index: usize) -> bool {
        self.there[index / CHUNK]
    }

    pub(super) fn add(&mut self, index: usize, encoded: Encoded) -> Result<(), FileError> {
        self.pending.push(encoded);
        let full = (index + 1).is_multiple_of(CHUNK) || index + 1 == self.contents.count();
        if full { self.write_chunk(index / CHUNK) } else { Ok(()) }
    }

    fn write_chunk(&mut self, chunk: usize) -> Result<(), FileError> {
        let len = self.contents.values();
        for (i, array) in self.contents.arrays.iter().enumerate() {
            let mut values: Vec<f32> = self.pending.iter().flat_map(|e| &e.values[i]).copied().collect();
            values.resize(CHUNK * len, 0.0);
            let path = self.folder.join(array.name()).join(format!("{chunk}.0.0.0"));
            replace_file(&path, |file| write_f32(file, &values).map_err(FileError::writing(&path)))?;
        }
        let mut labels: Vec<i64> = self.pending.drain(..).map(|e| e.label).collect();
        labels.resize(CHUNK, 0);
        let bytes: Vec<u8> = labels.iter().flat_map(|l| l.to_le_bytes()).collect();
        write(&self.folder.join(LABELS).join(chunk.to_string()), &bytes)
    }

    pub(super) fn finish(self) -> Result<(), FileError> {
        let (count, Contents { shape: [c, h, w], arrays, .. }) = (self.contents.count(), &self.contents);
        for array in arrays {
            let description = description(json!([count, c, h, w]), json!([CHUNK, c, h, w]), "<f4");
            write(&self.folder.join(array.name()).join(".zarray"), description.to_string().as_bytes())?;
        }
        write(&self.folder.join(LABELS).join(".zarray"), description(json!([count]), json!([CHUNK]), "<i8").to_string().as_bytes())?;
        write(&self.folder.join(GROUP), json!({ "zarr_format": 2 }).to_string().as_bytes())
    }
}

fn description(shape: Value, chunks: Value, dtype: &str) -> Value {
    json!({
        "zarr_format": 2, "shape": shape, "chunks": chunks, "dtype": dtype, "compressor": null, "fill_value": 0, "order": "C",
        "filters": null, "dimension_separator": ".",
    })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    replace_file(path, |file| std::io::Write::write_all(file, bytes).map_err(FileError::writing(path)))
}
