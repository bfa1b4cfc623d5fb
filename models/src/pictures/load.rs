//! Pictures that people have, of any format that is read and any size, as RGB and as viewers show them; and their middle.
//!
//! What reading one takes is counted before anything is allocated: the decoder's own memory, the pixels as they are stored, and
//! every copy that is made of them on the way.

use std::io::BufReader;
use std::path::Path;

use fcdm_compiler::kind::Kind;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use thiserror::Error;

use super::Picture;
use super::crop::{Middle, Region};
use super::jpeg;

/// Longest side that is read.
const LONGEST: u32 = 1 << 15;

/// Memory that reading one may take in all.
const MEMORY: u64 = 1 << 31;

/// What [`load`] reads, in words.
pub const FORMATS: &str = "PNG, JPEG, WebP, BMP, GIF, TIFF";

/// A picture that cannot be used.
#[derive(Debug, Error)]
pub enum PictureError {
    /// It cannot be read.
    #[error("{file}: expected a picture ({FORMATS}), found {found}")]
    Unreadable {
        /// The file.
        file: String,
        /// What its reader says.
        found: String,
    },
    /// Reading it takes too much.
    #[error("{file}: expected a picture that takes at most {MEMORY} bytes to read, found one of {} x {} pixels that takes {bytes}", size[1], size[0])]
    Large {
        /// The file.
        file: String,
        /// Height and width.
        size: [usize; 2],
        /// What it takes.
        bytes: u64,
    },
}

/// The middle of a picture, and where it lies in it.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The middle.
    pub picture: Picture,
    /// Height and width of the picture, upright.
    pub size: [usize; 2],
    /// The part of it that the middle shows.
    pub shown: Region,
    /// Whether the picture is smaller than the middle.
    pub enlarged: bool,
}

/// Reads a picture as RGB, upright; grey becomes RGB, transparency is dropped. The format is told by content.
///
/// # Errors
/// When it cannot be read to its end, or takes too much memory.
pub fn load(path: &Path) -> Result<Picture, PictureError> {
    let source = Source::open(path)?;
    let [height, width] = source.size;
    source.part(Region { top: 0, left: 0, height, width })
}

/// Reads the middle of a picture, at height and width `target`.
///
/// # Errors
/// As [`load`].
pub fn load_middle(path: &Path, target: [usize; 2]) -> Result<Prepared, PictureError> {
    let source = Source::open(path)?;
    let (size, middle) = (source.size, Middle::new(source.size, target));
    let part = source.part(middle.needed())?;
    Ok(Prepared { picture: middle.of(part), size, shown: middle.shown(), enlarged: middle.enlarges() })
}

/// Height and width of a picture, upright; its pixels are not read.
///
/// # Errors
/// When it is no picture.
pub fn picture_size(path: &Path) -> Result<[usize; 2], PictureError> {
    Ok(Source::open(path)?.size)
}

/// How bright a picture is, 0 to 255 a pixel, at height and width `target`: its middle, as [`load_middle`] has it. Where it is transparent
/// it is dark, whatever colour is stored there.
///
/// # Errors
/// As [`load`].
pub fn load_brightness(path: &Path, target: [usize; 2]) -> Result<Picture, PictureError> {
    let source = Source::open(path)?;
    let middle = Middle::new(source.size, target);
    let part = source.decoded(middle.needed())?.into_luma_alpha8();
    // Three equal channels, which are scaled as any other picture.
    let pixels = part.pixels().flat_map(|p| [(u16::from(p.0[0]) * u16::from(p.0[1]) / 255) as u8; 3]).collect();
    let part = Picture { width: part.width() as usize, height: part.height() as usize, channels: 3, pixels };
    Ok(middle.of(part))
}

/// A picture whose header has been read.
struct Source<'a> {
    path: &'a Path,
    decoder: Box<dyn ImageDecoder + 'a>,
    format: ImageFormat,
    orientation: Orientation,
    /// Height and width, upright.
    size: [usize; 2],
}

impl<'a> Source<'a> {
    fn open(path: &'a Path) -> Result<Source<'a>, PictureError> {
        let wrong = |e: &dyn std::fmt::Display| unreadable(path, &e.to_string());
        // The name says nothing: the reader would believe it.
        let file = std::fs::File::open(path).map_err(|e| wrong(&e))?;
        let mut reader = ImageReader::new(BufReader::new(file)).with_guessed_format().map_err(|e| wrong(&e))?;
        let format = reader.format().filter(ImageFormat::reading_enabled).ok_or_else(|| unreadable(path, &unknown(path)))?;
        let mut limits = Limits::default();
        (limits.max_image_width, limits.max_image_height, limits.max_alloc) = (Some(LONGEST), Some(LONGEST), Some(MEMORY));
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(|e| wrong(&e))?;
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let (w, h) = decoder.dimensions();
        if w == 0 || h == 0 {
            return Err(unreadable(path, "one without pixels"));
        }
        let size = if turned(orientation) { [w, h] } else { [h, w] }.map(|d| d as usize);
        Ok(Source { path, decoder: Box::new(decoder), format, orientation, size })
    }

    /// A part of the picture, RGB.
    fn part(self, region: Region) -> Result<Picture, PictureError> {
        let rgb = self.decoded(region)?.into_rgb8();
        Ok(Picture { width: rgb.width() as usize, height: rgb.height() as usize, channels: 3, pixels: rgb.into_raw() })
    }

    /// A part of the picture, upright, of whatever pixels it has.
    fn decoded(self, region: Region) -> Result<DynamicImage, PictureError> {
        let bytes = self.bytes(region);
        let file = || self.path.display().to_string();
        if bytes > MEMORY {
            return Err(PictureError::Large { file: file(), size: self.size, bytes });
        }
        if self.format == ImageFormat::Jpeg && !jpeg::is_whole(self.path).map_err(|e| unreadable(self.path, &e.to_string()))? {
            return Err(unreadable(self.path, "a JPEG file that ends too early"));
        }
        let (path, orientation) = (self.path, self.orientation);
        let whole = self.size == [region.height, region.width];
        let stored = stored(region, self.size, orientation);
        let mut image = DynamicImage::from_decoder(self.decoder).map_err(|e| unreadable(path, &e.to_string()))?;
        if !whole {
            image = image.crop_imm(stored.left as u32, stored.top as u32, stored.width as u32, stored.height as u32);
        }
        image.apply_orientation(orientation);
        Ok(image)
    }

    /// What decoding takes, and the copies of a part.
    fn bytes(&self, region: Region) -> u64 {
        let pixels = (self.size[0] * self.size[1]) as u64;
        let (all, part) = (self.decoder.total_bytes(), (region.height * region.width) as u64);
        // What decoders have beside the pixels: coefficients of progressive JPEG, planes of WebP.
        let beside = match self.format {
            ImageFormat::Jpeg => 2 * all,
            ImageFormat::WebP => all,
            _ => 0,
        };
        // The part as it is stored, turned, and as RGB.
        let each = all.div_ceil(pixels.max(1));
        all.saturating_add(beside).saturating_add(part.saturating_mul(2 * each + 3))
    }
}

/// Whether rows become columns.
fn turned(orientation: Orientation) -> bool {
    use Orientation::*;
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

/// Where a region of an upright picture of height and width `size` lies in the pixels as they are stored.
fn stored(r: Region, size: [usize; 2], orientation: Orientation) -> Region {
    use Orientation::*;
    let (bottom, right) = (size[0] - r.top - r.height, size[1] - r.left - r.width);
    // Rows from the top and columns from the left of what is stored, along which the upright picture may run backwards.
    let (top, left) = match orientation {
        NoTransforms => (r.top, r.left),
        FlipHorizontal => (r.top, right),
        Rotate180 => (bottom, right),
        FlipVertical => (bottom, r.left),
        Rotate90 => (right, r.top),
        Rotate90FlipH => (r.left, r.top),
        Rotate270 => (r.left, bottom),
        Rotate270FlipH => (right, bottom),
    };
    let [height, width] = if turned(orientation) { [r.width, r.height] } else { [r.height, r.width] };
    Region { top, left, height, width }
}

/// Why a file of no format that is read cannot be read: what it is, and what may be done.
pub fn unread(path: &Path) -> PictureError {
    unreadable(path, &unknown(path))
}

/// What a file of no known format is.
fn unknown(path: &Path) -> String {
    match Kind::of(path) {
        Err(e) => e.to_string(),
        Ok(Kind::Picture(format)) if !format.is_read() => {
            format!("{format}, which is not read: convert it to PNG or JPEG first, as `magick IN OUT.png` does")
        }
        Ok(Kind::Unknown | Kind::Text) => "another kind of file".into(),
        Ok(kind) => kind.to_string(),
    }
}

fn unreadable(path: &Path, found: &str) -> PictureError {
    let line: String = found.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    PictureError::Unreadable { file: path.display().to_string(), found: line }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn gradient(width: usize, height: usize) -> Picture {
        let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| [(x * 255 / width) as u8, (y * 255 / height) as u8, 7]));
        Picture { width, height, channels: 3, pixels: pixels.collect() }
    }

    #[test]
    fn what_is_no_picture_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        for bytes in [&b""[..], b"no picture", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"] {
            std::fs::write(&path, bytes).unwrap();
            let line = load(&path).unwrap_err().to_string();
            assert!(line.contains("a.png: expected a picture (PNG, JPEG, WebP, BMP, GIF, TIFF), found ") && !line.contains('\n'), "{line}");
        }
        super::super::write_png(&path, &gradient(6, 4), &[]).unwrap();
        assert_eq!(load(&path).unwrap(), gradient(6, 4));
    }

    /// Turning a part is the part of what is turned.
    #[test]
    fn parts_of_turned_pictures() {
        let picture = gradient(7, 5);
        let image = image::RgbImage::from_raw(7, 5, picture.pixels).unwrap();
        for exif in 1..=8 {
            let orientation = Orientation::from_exif(exif).unwrap();
            let mut upright = DynamicImage::from(image.clone());
            upright.apply_orientation(orientation);
            let size = [upright.height() as usize, upright.width() as usize];
            let region = Region { top: 1, left: 2, height: 3, width: 2 };
            let at = stored(region, size, orientation);
            let mut part = DynamicImage::from(image.clone()).crop_imm(at.left as u32, at.top as u32, at.width as u32, at.height as u32);
            part.apply_orientation(orientation);
            assert_eq!(part, upright.crop_imm(2, 1, 2, 3), "orientation {exif}");
        }
    }
}
