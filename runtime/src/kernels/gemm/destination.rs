//! Where the elements of a product go: rows of a matrix, or the pixels of an image that is shuffled or unshuffled on its
//! way out of L1. Row `(sample * height + y) * width + x` of the product is a pixel of the convolution's own output, a
//! column one of its channels.

use crate::kernels::Rearrange;
use crate::plan::PANEL;
use crate::simd::Simd;

/// A map from row and column of a product to an element of the output, one to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Row-major.
    Rows { columns: usize },
    /// Column `(dy f + dx) C + c` of pixel `(y, x)` is channel `c` of pixel `(f y + dy, f x + dx)`.
    Shuffled { factor: usize, width: usize, channels: usize },
    /// Column `c` of pixel `(f y + dy, f x + dx)` is channel `c f^2 + dy f + dx` of pixel `(y, x)`.
    Unshuffled { factor: usize, width: usize, channels: usize },
}

impl Destination {
    /// That of a convolution whose own output has `width` pixels a line and `columns` channels.
    pub fn of(by: Rearrange, width: usize, columns: usize) -> Destination {
        match by {
            Rearrange::Keep => Destination::Rows { columns },
            Rearrange::Shuffle { factor } => Destination::Shuffled { factor, width, channels: columns / (factor * factor) },
            Rearrange::Unshuffle { factor } => Destination::Unshuffled { factor, width, channels: columns },
        }
    }

    /// The element of the output that `column` of `row` is, a sum of what either contributes: `at(row, 0) + at(0, column)`.
    /// Lines of pixels are counted over all samples, whose heights are divisible by an unshuffle's factor.
    #[inline(always)]
    pub fn at(&self, row: usize, column: usize) -> usize {
        match *self {
            Destination::Rows { columns } => row * columns + column,
            Destination::Shuffled { factor, width, channels } => {
                let (line, x, tile, c) = (row / width, row % width, column / channels, column % channels);
                let (line, x) = (line * factor + tile / factor, x * factor + tile % factor);
                (line * width * factor + x) * channels + c
            }
            Destination::Unshuffled { factor, width, channels } => {
                let (line, x) = (row / width, row % width);
                let pixel = line / factor * (width / factor) + x / factor;
                (pixel * channels + column) * factor * factor + line % factor * factor + x % factor
            }
        }
    }

    /// Columns from `column` on, that one included, whose elements are evenly spaced.
    #[inline(always)]
    pub fn run(&self, column: usize) -> usize {
        match *self {
            Destination::Shuffled { channels, .. } => channels - column % channels,
            Destination::Rows { .. } | Destination::Unshuffled { .. } => usize::MAX,
        }
    }

    /// Writes the first `n` lanes to columns `column .. column + n` of `row`, a part of one run. `to` is the first one's place.
    ///
    /// # Safety
    /// - The row has these columns, which this call alone writes.
    #[inline(always)]
    pub unsafe fn store<S: Simd>(&self, s: S, to: *mut f32, v: S::V, n: usize) {
        // SAFETY: the caller's contract; no vector is longer than a panel.
        unsafe {
            let Destination::Unshuffled { factor, .. } = *self else { return s.store_n(to, v, n) };
            let mut lanes = [0.0; PANEL];
            s.store(lanes.as_mut_ptr(), v);
            lanes[..n].iter().enumerate().for_each(|(i, &lane)| *to.add(i * factor * factor) = lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two samples of `height` x 6 pixels, 18 columns.
    fn destinations() -> [Destination; 5] {
        let of = |by| Destination::of(by, 6, 18);
        let [two, three] = [2, 3].map(|factor| of(Rearrange::Unshuffle { factor }));
        [of(Rearrange::Keep), of(Rearrange::Shuffle { factor: 3 }), of(Rearrange::Shuffle { factor: 1 }), two, three]
    }

    #[test]
    fn every_element_is_written_once() {
        for d in destinations() {
            let mut all: Vec<usize> = (0..2 * 6 * 6 * 18).map(|e| d.at(e / 18, e % 18)).collect();
            all.sort_unstable();
            assert!(all.iter().enumerate().all(|(i, &at)| i == at), "{d:?}");
            assert!((0..2 * 6 * 6 * 18).all(|e| d.at(e / 18, e % 18) == d.at(e / 18, 0) + d.at(0, e % 18)), "{d:?}");
        }
    }

    #[test]
    fn runs_are_evenly_spaced() {
        for d in destinations() {
            let step = if let Destination::Unshuffled { factor, .. } = d { factor * factor } else { 1 };
            for column in 0..18 {
                for i in 0..d.run(column).min(18 - column) {
                    assert_eq!(d.at(7, column + i), d.at(7, column) + i * step, "{d:?}");
                }
            }
        }
    }
}
