//! Pictures that people have: PNG, JPEG, WebP of any size, as RGB; and cut to the size that a network takes.

use std::path::Path;

use fast_image_resize::images::Image;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{ImageReader, Limits};
use thiserror::Error;

use super::Picture;

/// Longest side that is read.
const LONGEST: u32 = 1 << 15;

/// Memory that reading one may take: 2^15 x 2^13 pixels of RGB.
const MEMORY: u64 = 1 << 30;

/// A picture that cannot be used.
#[derive(Debug, Error)]
pub enum PictureError {
    /// It cannot be read.
    #[error("{file}: expected a picture (PNG, JPEG, WebP), found {found}")]
    Unreadable {
        /// The file.
        file: String,
        /// What its reader says.
        found: String,
    },
    /// Of another size.
    #[error("{file}: expected a picture of {} x {} pixels, found {} x {}", expected[1], expected[0], found[1], found[0])]
    Size {
        /// The file.
        file: String,
        /// Height and width.
        expected: [usize; 2],
        /// The same.
        found: [usize; 2],
    },
}

/// Reads a picture as RGB; grey becomes RGB, transparency is dropped. The format is told by content.
///
/// # Errors
/// When it cannot be read, or has a side of more than 2^15 pixels.
pub fn load(path: &Path) -> Result<Picture, PictureError> {
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height, limits.max_alloc) = (Some(LONGEST), Some(LONGEST), Some(MEMORY));
    let opened = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
    let mut reader = opened.map_err(|e| unreadable(path, &e.to_string()))?;
    reader.limits(limits);
    let rgb = reader.decode().map_err(|e| unreadable(path, &e.to_string()))?.into_rgb8();
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    Ok(Picture { width, height, channels: 3, pixels: rgb.into_raw() })
}

/// Height and width, without reading the pixels.
///
/// # Errors
/// As [`load`], but for damage beyond the file's first bytes.
pub fn size(path: &Path) -> Result<[usize; 2], PictureError> {
    let opened = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
    let found = opened.map_err(|e| e.to_string()).and_then(|r| r.into_dimensions().map_err(|e| e.to_string()));
    let (width, height) = found.map_err(|e| unreadable(path, &e))?;
    Ok([height as usize, width as usize])
}

fn unreadable(path: &Path, found: &str) -> PictureError {
    let line: String = found.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    PictureError::Unreadable { file: path.display().to_string(), found: line }
}

/// As [`load`], of a picture that has to have that height and width.
///
/// # Errors
/// As there, and for another size.
pub fn load_exactly(path: &Path, expected: [usize; 2]) -> Result<Picture, PictureError> {
    let picture = load(path)?;
    let found = [picture.height, picture.width];
    if found == expected {
        return Ok(picture);
    }
    Err(PictureError::Size { file: path.display().to_string(), expected, found })
}

/// The square in the middle, `side` pixels wide: halved by means of 2 x 2 pixels while the shorter side has twice that, scaled by a
/// bicubic filter (a = -1/2) to have it, cut. As pictures are prepared for diffusion models since Dhariwal and Nichol 2021.
///
/// # Panics
/// If the picture is empty or not RGB.
pub fn centre_square(picture: &Picture, side: usize) -> Picture {
    let mut small = picture.clone();
    while small.width.min(small.height) >= 2 * side {
        small = resized(&small, small.width / 2, small.height / 2, FilterType::Box);
    }
    let scale = side as f64 / small.width.min(small.height) as f64;
    let [w, h] = [small.width, small.height].map(|d| ((d as f64 * scale).round_ties_even() as usize).max(side));
    small = resized(&small, w, h, FilterType::CatmullRom);
    let (top, left) = ((h - side) / 2, (w - side) / 2);
    let row = |y: usize| &small.pixels[((top + y) * w + left) * 3..][..side * 3];
    Picture { width: side, height: side, channels: 3, pixels: (0..side).flat_map(row).copied().collect() }
}

fn resized(picture: &Picture, width: usize, height: usize, filter: FilterType) -> Picture {
    if (picture.width, picture.height) == (width, height) {
        return picture.clone();
    }
    let from = Image::from_vec_u8(picture.width as u32, picture.height as u32, picture.pixels.clone(), PixelType::U8x3);
    let from = from.expect("three bytes a pixel");
    let mut to = Image::new(width as u32, height as u32, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
    Resizer::new().resize(&from, &mut to, &options).expect("both are of RGB");
    Picture { width, height, channels: 3, pixels: to.into_vec() }
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
    fn the_middle_is_kept() {
        let square = centre_square(&gradient(300, 100), 50);
        assert_eq!((square.width, square.height), (50, 50));
        // The middle third of the width: from 85 to 170 of red, all of green.
        let (first, last) = (&square.pixels[..3], &square.pixels[square.pixels.len() - 3..]);
        assert!(first[0].abs_diff(85) <= 2 && last[0].abs_diff(169) <= 2, "{first:?} {last:?}");
        assert!(first[1] <= 3 && last[1] >= 250 && first[2] == 7, "{first:?} {last:?}");
        let exact = gradient(64, 64);
        assert_eq!(centre_square(&exact, 64), exact);
    }

    /// Of the two pixels that 4 x 2 become, the first is the middle, as in the official scripts.
    #[test]
    fn halves_are_means() {
        let pixels = [10, 20, 30, 50, 20, 30, 40, 60].map(|v| [v; 3]).concat();
        assert_eq!(centre_square(&Picture { width: 4, height: 2, channels: 3, pixels }, 1).pixels, [20; 3]);
    }

    #[test]
    fn what_is_no_picture_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        for bytes in [&b""[..], b"no picture", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"] {
            std::fs::write(&path, bytes).unwrap();
            let line = load(&path).unwrap_err().to_string();
            assert!(line.contains("a.png: expected a picture (PNG, JPEG, WebP), found ") && !line.contains('\n'), "{line}");
        }
        super::super::write_png(&path, &gradient(6, 4), &[]).unwrap();
        assert_eq!(load(&path).unwrap(), gradient(6, 4));
        let line = load_exactly(&path, [8, 6]).unwrap_err().to_string();
        assert!(line.ends_with("a.png: expected a picture of 6 x 8 pixels, found 6 x 4"), "{line}");
    }
}
