//! PNG files that say how they were made.

use std::io;
use std::path::Path;

use fcdm_runtime::file::{FileError, replace_file};

use super::Picture;

/// A text chunk: keyword (1 to 79 Latin characters, as PNG wants) and text.
pub type Text<'a> = (&'a str, &'a str);

/// Writes a picture whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn write_png(path: &Path, picture: &Picture, texts: &[Text<'_>]) -> Result<(), FileError> {
    replace_file(path, |file| {
        let failed = |e: png::EncodingError| {
            let e = match e {
                png::EncodingError::IoError(e) => e,
                other => io::Error::other(other.to_string()),
            };
            FileError::writing(path)(e)
        };
        let mut encoder = png::Encoder::new(file, picture.width as u32, picture.height as u32);
        encoder.set_color(if picture.channels == 1 { png::ColorType::Grayscale } else { png::ColorType::Rgb });
        encoder.set_depth(png::BitDepth::Eight);
        for (keyword, text) in texts {
            encoder.add_itxt_chunk((*keyword).to_owned(), (*text).to_owned()).map_err(failed)?;
        }
        let mut writer = encoder.write_header().map_err(failed)?;
        writer.write_image_data(&picture.pixels).map_err(failed)?;
        writer.finish().map_err(failed)
    })
}

/// Reads back a picture that [`write_png`] wrote: 8 bits, grey or RGB.
///
/// # Errors
/// When the file cannot be read or is another kind of picture.
pub fn read_png(path: &Path) -> io::Result<Picture> {
    let mut decoder = png::Decoder::new(io::BufReader::new(std::fs::File::open(path)?));
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
pub fn read_text(path: &Path, keyword: &str) -> io::Result<Option<String>> {
    let file = io::BufReader::new(std::fs::File::open(path)?);
    let mut reader = png::Decoder::new_with_limits(file, png::Limits { bytes: TEXT_LIMIT }).read_info().map_err(io::Error::other)?;
    // Texts may stand after the pixels.
    reader.finish().map_err(io::Error::other)?;
    let found = reader.info().utf8_text.iter().find(|t| t.keyword == keyword);
    found.map(|t| t.get_text().map_err(io::Error::other)).transpose()
}

/// Bytes that texts may take when they are read.
const TEXT_LIMIT: usize = 1 << 20;
