//! A `.npy` file for every picture and array, `000000.npy` on; the label's comes last and says that a picture is complete.

use std::io;
use std::path::{Path, PathBuf};

use fcdm_runtime::file::{FileError, replace_file};
use npyz::WriterBuilder;

use super::{Contents, Encoded, make_folder};

pub(super) const LABELS: &str = "latents_labels";

/// See [`super::LatentLayout::Npy`].
pub struct NpyStore {
    folder: PathBuf,
    contents: Contents,
}

impl NpyStore {
    pub(super) fn open(folder: &Path, contents: Contents) -> Result<NpyStore, FileError> {
        for name in contents.arrays.iter().map(|a| a.folder()).chain([LABELS]) {
            make_folder(&folder.join(name))?;
        }
        Ok(NpyStore { folder: folder.to_owned(), contents })
    }

    fn file(&self, folder: &str, index: usize) -> PathBuf {
        self.folder.join(folder).join(format!("{index:06}.npy"))
    }

    pub(super) fn has(&self, index: usize) -> bool {
        self.file(LABELS, index).is_file()
    }

    pub(super) fn add(&mut self, index: usize, encoded: &Encoded) -> Result<(), FileError> {
        let [c, h, w] = self.contents.shape.map(|d| d as u64);
        for (array, values) in self.contents.arrays.iter().zip(&encoded.values) {
            write(&self.file(array.folder(), index), &[1, c, h, w], values)?;
        }
        write(&self.file(LABELS, index), &[1], &[encoded.label])
    }
}

fn write<T: npyz::AutoSerialize + Copy>(path: &Path, shape: &[u64], values: &[T]) -> Result<(), FileError> {
    replace_file(path, |file| {
        let mut written = || -> io::Result<()> {
            let mut array = npyz::WriteOptions::new().default_dtype().shape(shape).writer(&mut *file).begin_nd()?;
            array.extend(values.iter().copied())?;
            array.finish()
        };
        written().map_err(FileError::writing(path))
    })
}
