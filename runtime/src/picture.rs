//! Pictures as bytes: from the values of networks and back, many of them on one sheet, and PNG files of them. To read pictures as people
//! have them is others' business.

#[cfg(all(feature = "png", feature = "write"))]
pub mod files;
#[cfg(feature = "png")]
pub mod png;

use std::borrow::Borrow;

/// An 8-bit picture, row-major, channels last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// 1 (grey) or 3 (RGB).
    pub channels: usize,
    /// `height * width * channels` values.
    pub pixels: Vec<u8>,
}

impl Picture {
    /// Channel counts that can be shown as they are.
    pub const CHANNELS: [usize; 2] = [1, 3];

    /// From values of nominal range [-1, 1], `[H,W,C]`: `clamp(127.5 x + 128, 0, 255)`, cut to whole numbers, as the
    /// official sampler stores its results. What is not a number becomes 0.
    ///
    /// # Panics
    /// If the number of values is not `height * width * channels`.
    pub fn from_unit(height: usize, width: usize, channels: usize, values: &[f32]) -> Picture {
        assert_eq!(values.len(), height * width * channels, "values of a picture");
        // `as` cuts the fraction off and turns NaN into 0.
        let pixels = values.iter().map(|&v| (127.5 * v + 128.0).clamp(0.0, 255.0) as u8).collect();
        Picture { width, height, channels, pixels }
    }

    /// Values in [-1, 1], `[H,W,C]`: `2 p / 255 - 1`.
    pub fn to_unit(&self) -> Vec<f32> {
        self.pixels.iter().map(|&p| f32::from(p) / 127.5 - 1.0).collect()
    }

    /// Left and right exchanged.
    pub fn mirrored(&self) -> Picture {
        let row = |row: &[u8]| row.chunks_exact(self.channels).rev().flatten().copied().collect::<Vec<u8>>();
        let pixels = self.pixels.chunks_exact(self.width * self.channels).flat_map(row).collect();
        Picture { pixels, ..*self }
    }
}

/// Gap between the pictures of a sheet.
pub const GAP: usize = 2;

/// Pictures of one size in rows of `columns`, `gap` black pixels around each.
///
/// # Panics
/// If there are none, or their sizes differ.
pub fn grid(pictures: &[impl Borrow<Picture>], columns: usize, gap: usize) -> Picture {
    let first = pictures[0].borrow();
    let columns = columns.clamp(1, pictures.len());
    let (w, h, c) = (first.width, first.height, first.channels);
    let width = columns * (w + gap) + gap;
    let height = pictures.len().div_ceil(columns) * (h + gap) + gap;
    let mut pixels = vec![0; width * height * c];
    for (i, p) in pictures.iter().map(Borrow::borrow).enumerate() {
        assert_eq!((p.width, p.height, p.channels), (w, h, c), "pictures of a grid have one size");
        let (top, left) = (i / columns * (h + gap) + gap, i % columns * (w + gap) + gap);
        for (y, row) in p.pixels.chunks_exact(w * c).enumerate() {
            let at = ((top + y) * width + left) * c;
            pixels[at..at + w * c].copy_from_slice(row);
        }
    }
    Picture { width, height, channels: c, pixels }
}

/// Columns of a grid of `n` pictures: about as many as rows, and such that the last row is full if that can be.
pub fn columns_of(n: usize) -> usize {
    let square = (n as f64).sqrt().ceil().max(1.0) as usize;
    (square..=square + square / 2).find(|c| n.is_multiple_of(*c)).unwrap_or(square)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_cut_and_clamped() {
        let p = Picture::from_unit(1, 6, 1, &[-1.0, -2.0, 0.0, 0.999, 1.0, f32::NAN]);
        assert_eq!(p.pixels, [0, 0, 128, 255, 255, 0]);
    }

    #[test]
    fn pixels_survive_the_way_there_and_back() {
        let pixels: Vec<u8> = (0..=255).collect();
        let p = Picture { width: 128, height: 2, channels: 1, pixels };
        assert_eq!(Picture::from_unit(2, 128, 1, &p.to_unit()), p);
        let m = Picture { width: 2, height: 1, channels: 3, pixels: vec![1, 2, 3, 4, 5, 6] }.mirrored();
        assert_eq!(m.pixels, [4, 5, 6, 1, 2, 3]);
    }

    #[test]
    fn a_grid_has_its_pictures_in_reading_order() {
        let one = |v| Picture { width: 2, height: 1, channels: 1, pixels: vec![v; 2] };
        let g = grid(&[one(10), one(20), one(30)], 2, 1);
        assert_eq!((g.width, g.height), (7, 5));
        assert_eq!(g.pixels[7 + 1..7 + 3], [10, 10]);
        assert_eq!(g.pixels[7 + 4..7 + 6], [20, 20]);
        assert_eq!(g.pixels[21 + 1..21 + 3], [30, 30]);
        assert_eq!(g.pixels.iter().filter(|&&v| v == 0).count(), 35 - 6);
    }
}
