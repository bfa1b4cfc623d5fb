//! PNG files that say how they were made.

use std::io::{self, Write};
#[cfg(feature = "write")]
use std::{fs::File, io::BufReader, path::Path};

use super::Picture;
#[cfg(feature = "write")]
use crate::file::{FileError, replace_file};

/// A text chunk: keyword (1 to 79 Latin characters, as PNG wants) and text.
pub type Text<'a> = (&'a str, &'a str);

impl Picture {
    /// The bytes of a PNG file with these texts.
    ///
    /// # Panics
    /// If the pixels are not as many as the sides say, or a keyword is none.
    pub fn to_png(&self, texts: &[Text<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.put_png(&mut bytes, texts).expect("a picture that is one, into memory");
        bytes
    }

    /// Writes a PNG file.
    ///
    /// # Errors
    /// What the writer says.
    pub fn put_png(&self, to: impl Write, texts: &[Text<'_>]) -> io::Result<()> {
        let failed = |e| match e {
            png::EncodingError::IoError(e) => e,
            other => io::Error::other(other.to_string()),
        };
        let mut encoder = png::Encoder::new(to, self.width as u32, self.height as u32);
        encoder.set_color(if self.channels == 1 { png::ColorType::Grayscale } else { png::ColorType::Rgb });
        encoder.set_depth(png::BitDepth::Eight);
        for (keyword, text) in texts {
            encoder.add_itxt_chunk((*keyword).to_owned(), (*text).to_owned()).map_err(failed)?;
        }
        let mut writer = encoder.write_header().map_err(failed)?;
        writer.write_image_data(&self.pixels).map_err(failed)?;
        writer.finish().map_err(failed)
    }
}

/// Writes a picture whole or not at all.
///
/// # Errors
/// When the file cannot be written.
#[cfg(feature = "write")]
pub fn write_png(path: &Path, picture: &Picture, texts: &[Text<'_>]) -> Result<(), FileError> {
    replace_file(path, |file| picture.put_png(file, texts).map_err(FileError::writing(path)))
}

/// Reads back a picture that [`write_png`] wrote: 8 bits, grey or RGB.
///
/// # Errors
/// When the file cannot be read or is another kind of picture.
#[cfg(feature = "write")]
pub fn read_png(path: &Path) -> io::Result<Picture> {
    let mut decoder = png::Decoder::new(BufReader::new(File::open(path)?));
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(io::Error::other)?;
    let info = reader.info();
    let (width, height, kind) = (info.width as usize, info.height as usize, (info.color_type, info.bit_depth));
    let channels = match kind {
        (png::ColorType::Grayscale, png::BitDepth::Eight) => 1,
        (png::ColorType::Rgb, png::BitDepth::Eight) => 3,
        other => return Err(io::Error::other(format!("expected 8-bit grey or RGB, found {other:?}"))),
    };
    let size = reader.output_buffer_size().ok_or_else(|| io::Error::other("the picture is too large"))?;
    let mut pixels = vec![0; size];
    reader.next_frame(&mut pixels).map_err(io::Error::other)?;
    Ok(Picture { width, height, channels, pixels })
}

/// The text under a keyword of a PNG, if it has one.
///
/// # Errors
/// When the file cannot be read or is no PNG.
#[cfg(feature = "write")]
pub fn read_text(path: &Path, keyword: &str) -> io::Result<Option<String>> {
    let limits = png::Limits { bytes: TEXT_LIMIT };
    let mut reader = png::Decoder::new_with_limits(BufReader::new(File::open(path)?), limits).read_info().map_err(io::Error::other)?;
    // Texts may stand after the pixels.
    reader.finish().map_err(io::Error::other)?;
    let found = reader.info().utf8_text.iter().find(|t| t.keyword == keyword);
    found.map(|t| t.get_text().map_err(io::Error::other)).transpose()
}

/// Bytes that texts may take when they are read.
#[cfg(feature = "write")]
const TEXT_LIMIT: usize = 1 << 20;

#[cfg(all(test, feature = "write"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pixels_and_texts_come_back() {
        for channels in Picture::CHANNELS {
            let pixels = (0..6 * channels).map(|i| (i * 40) as u8).collect();
            let picture = Picture { width: 3, height: 2, channels, pixels };
            let texts = [("parameters", "Steps: 5, Klasse: Mütze"), ("Software", "fcdm")];
            let (folder, bytes) = (tempfile::tempdir().unwrap(), picture.to_png(&texts));
            let path = folder.path().join("a.png");
            write_png(&path, &picture, &texts).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
            assert_eq!(read_png(&path).unwrap(), picture);
            let text = |keyword| read_text(&path, keyword).unwrap();
            assert_eq!(text("parameters").as_deref(), Some("Steps: 5, Klasse: Mütze"));
            assert_eq!(text("Comment"), None);
            std::fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
            assert!(read_png(&path).is_err());
        }
    }
}
