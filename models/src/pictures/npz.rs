//! The archive that evaluators of image generators read: `.npz` with one array `arr_0`, uint8 `[n,H,W,C]`.

use std::io::{self, Seek, Write};

use npyz::{WriteOptions, WriterBuilder};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::Picture;

/// Writes pictures of one size, one after another, so that none but the current one is in memory. `shape` is height,
/// width, channels.
///
/// # Errors
/// What the disk says, the first error of `pictures`, or that there are not exactly `count` of them.
pub fn write_npz(
    file: impl Write + Seek,
    shape: [usize; 3],
    count: usize,
    pictures: impl Iterator<Item = io::Result<Picture>>,
) -> io::Result<()> {
    let [h, w, c] = shape.map(|d| d as u64);
    let mut archive = ZipWriter::new(file);
    // Stored, as `numpy.savez` does; more than 4 GiB are usual for 50,000 pictures.
    archive.start_file("arr_0.npy", SimpleFileOptions::default().large_file(true)).map_err(io::Error::other)?;
    let mut array = WriteOptions::new().default_dtype().shape(&[count as u64, h, w, c]).writer(&mut archive).begin_nd()?;
    for picture in pictures {
        array.extend(picture?.pixels.iter().copied())?;
    }
    array.finish()?;
    archive.finish().map_err(io::Error::other)?;
    Ok(())
}
