//! The archive that evaluators of image generators read: `.npz` with one array `arr_0`, uint8 `[n,H,W,C]`.

use std::io::{self, Seek, SeekFrom, Write};

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
    let mut sink = Sink { file, failed: None, position: 0 };
    let written = write(&mut sink, [count as u64, h, w, c], pictures);
    sink.failed.map_or(written, Err)
}

fn write(file: &mut Sink<impl Write + Seek>, shape: [u64; 4], pictures: impl Iterator<Item = io::Result<Picture>>) -> io::Result<()> {
    let mut archive = ZipWriter::new(&mut *file);
    // Stored, as `numpy.savez` does; more than 4 GiB are usual for 50,000 pictures.
    archive.start_file("arr_0.npy", SimpleFileOptions::default().large_file(true)).map_err(io::Error::other)?;
    let mut array = WriteOptions::new().default_dtype().shape(&shape).writer(&mut archive).begin_nd()?;
    for picture in pictures {
        array.extend(picture?.pixels.iter().copied())?;
    }
    array.finish()?;
    archive.finish().map_err(io::Error::other)?;
    Ok(())
}

/// Keeps the first error of the file and from then on takes everything: an archive that is dropped unfinished tries to finish
/// itself, and writes to the standard error if it cannot.
struct Sink<F> {
    file: F,
    failed: Option<io::Error>,
    /// Where writing would be, for an archive that still counts.
    position: u64,
}

impl<F> Sink<F> {
    fn keep<T>(&mut self, result: io::Result<T>, instead: T) -> T {
        result.unwrap_or_else(|e| {
            self.failed.get_or_insert(e);
            instead
        })
    }
}

impl<F: Write> Write for Sink<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = if self.failed.is_some() { Ok(bytes.len()) } else { self.file.write(bytes) };
        let n = self.keep(result, bytes.len());
        self.position += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = if self.failed.is_some() { Ok(()) } else { self.file.flush() };
        self.keep(result, ());
        Ok(())
    }
}

impl<F: Seek> Seek for Sink<F> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let elsewhere = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::Current(by) | SeekFrom::End(by) => self.position.saturating_add_signed(by),
        };
        let result = if self.failed.is_some() { Ok(elsewhere) } else { self.file.seek(to) };
        self.position = self.keep(result, elsewhere);
        Ok(self.position)
    }
}
