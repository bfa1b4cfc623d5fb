//! Contact sheets.

use super::Picture;

/// Pictures of one size in rows of `columns`, `gap` black pixels around each.
///
/// # Panics
/// If there are none, or their sizes differ.
pub fn grid(pictures: &[Picture], columns: usize, gap: usize) -> Picture {
    let first = &pictures[0];
    let columns = columns.clamp(1, pictures.len());
    let (w, h, c) = (first.width, first.height, first.channels);
    let width = columns * (w + gap) + gap;
    let height = pictures.len().div_ceil(columns) * (h + gap) + gap;
    let mut pixels = vec![0; width * height * c];
    for (i, p) in pictures.iter().enumerate() {
        assert_eq!((p.width, p.height, p.channels), (w, h, c), "pictures of a grid have one size");
        let (top, left) = (i / columns * (h + gap) + gap, i % columns * (w + gap) + gap);
        for (y, row) in p.pixels.chunks_exact(w * c).enumerate() {
            let at = ((top + y) * width + left) * c;
            pixels[at..at + w * c].copy_from_slice(row);
        }
    }
    Picture { width, height, channels: c, pixels }
}
