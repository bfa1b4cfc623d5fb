//! Pictures: pixels from network outputs, PNG files with their parameters, contact sheets, NumPy archives.

mod grid;
mod npz;
mod png;

pub use grid::grid;
pub use npz::write_npz;
pub use png::{Text, read_png, read_text, write_png};

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
