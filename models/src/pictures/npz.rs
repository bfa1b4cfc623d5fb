//! The archive that evaluators of image generators read: `.npz` with one array `arr_0`, uint8 `[n,H,W,C]`.

use std::fs::File;
use std::io::{self, BufWriter};

use npyz::WriterBuilder;
use npyz::npz::NpzWriter as Archive;
use npyz::zip::write::SimpleFileOptions;

use super::Picture;

/// Writes pictures one after another; none is kept in memory.
pub struct NpzWriter;

impl NpzWriter {
    /// Writes `count` pictures of one size into an archive.
    ///
    /// # Errors
    /// What the disk says, or an error of the iterator, which is asked for exactly `count` pictures.
    pub fn write<'a>(
        file: &mut BufWriter<File>,
        shape: [usize; 3],
        pictures: impl ExactSizeIterator<Item = &'a Picture>,
    ) -> io::Result<()> {
        let [h, w, c] = shape.map(|d| d as u64);
        let mut archive = Archive::new(file);
        let options = SimpleFileOptions::default().large_file(true);
        let mut array = archive
            .array("arr_0", options)?
            .default_dtype()
            .shape(&[pictures.len() as u64, h, w, c])
            .begin_nd()?;
        for picture in pictures {
            array.extend(picture.pixels.iter().copied())?;
        }
        array.finish()
    }
}
