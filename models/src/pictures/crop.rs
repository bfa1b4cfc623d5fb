//! The middle of a picture at the size that a network takes, as pictures are prepared for diffusion models since Dhariwal and Nichol
//! 2021: halved by means of 2 x 2 pixels while both sides have twice what is wanted, scaled by a bicubic filter (a = -1/2) until the
//! shorter side fits, cut. What the cut throws away is not computed: every stage has only the part that the next one sees.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::Picture;

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Rows above it.
    pub top: usize,
    /// Columns left of it.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// The stages from a picture to its middle.
pub struct Middle {
    /// Height and width of the whole picture at every stage, the first its own.
    sizes: Vec<[usize; 2]>,
    /// What is needed of each; of the last, the middle.
    regions: Vec<Region>,
}

/// Pixels on either side that the bicubic filter sees, and the mean, at scale 1.
const REACH: f64 = 2.0;

impl Middle {
    /// Of a picture of height and width `source`, `target` of it; none is zero.
    pub fn new(source: [usize; 2], target: [usize; 2]) -> Middle {
        let mut sizes = vec![source];
        let mut size = source;
        while size[0] >= 2 * target[0] && size[1] >= 2 * target[1] {
            size = size.map(|d| d / 2);
            sizes.push(size);
        }
        let scale = (target[0] as f64 / size[0] as f64).max(target[1] as f64 / size[1] as f64);
        let scaled = |axis: usize| ((size[axis] as f64 * scale).round_ties_even() as usize).max(target[axis]);
        let last = [scaled(0), scaled(1)];
        sizes.push(last);
        let [height, width] = target;
        let mut regions = vec![Region { top: (last[0] - height) / 2, left: (last[1] - width) / 2, height, width }];
        for pair in sizes.windows(2).rev() {
            let next = regions[regions.len() - 1];
            let span = |axis: usize, start: usize, len: usize| {
                let (from, scale) = (pair[0][axis], pair[0][axis] as f64 / pair[1][axis] as f64);
                let reach = if from == pair[1][axis] { 0.0 } else { REACH * scale.max(1.0) + 1.0 };
                let low = (start as f64 * scale - reach).floor().max(0.0) as usize;
                let high = ((start + len) as f64 * scale + reach).ceil().min(from as f64) as usize;
                (low, high - low)
            };
            let ((top, height), (left, width)) = (span(0, next.top, next.height), span(1, next.left, next.width));
            regions.push(Region { top, left, height, width });
        }
        regions.reverse();
        Middle { sizes, regions }
    }

    /// The part of the picture that is looked at, margins for the filters included.
    pub fn needed(&self) -> Region {
        self.regions[0]
    }

    /// The part of the picture that is shown, to the nearest pixel.
    pub fn shown(&self) -> Region {
        let (last, source) = (self.regions[self.regions.len() - 1], self.sizes[0]);
        let scaled = self.sizes[self.sizes.len() - 1];
        let back = |axis: usize, at: usize| (at as f64 * source[axis] as f64 / scaled[axis] as f64).round() as usize;
        let (top, left) = (back(0, last.top), back(1, last.left));
        Region { top, left, height: back(0, last.top + last.height) - top, width: back(1, last.left + last.width) - left }
    }

    /// Whether the picture is smaller than what is made of it.
    pub fn enlarges(&self) -> bool {
        self.sizes[self.sizes.len() - 1][0] > self.sizes[0][0]
    }

    /// The middle of a picture of which the part [`Middle::needed`] is there.
    ///
    /// # Panics
    /// If the picture is of another size than that part, or not RGB.
    pub fn of(&self, part: Picture) -> Picture {
        let first = self.regions[0];
        assert_eq!([part.height, part.width, part.channels], [first.height, first.width, 3], "the part that is needed");
        let mut held = part;
        for stage in 1..self.sizes.len() {
            let filter = if stage + 1 < self.sizes.len() { FilterType::Box } else { FilterType::CatmullRom };
            held = self.next(&held, stage, filter);
        }
        held
    }

    fn next(&self, held: &Picture, stage: usize, filter: FilterType) -> Picture {
        let (from, to) = (self.regions[stage - 1], self.regions[stage]);
        let scale = [0, 1].map(|axis| self.sizes[stage - 1][axis] as f64 / self.sizes[stage][axis] as f64);
        let window = |start: usize, len: usize, scale: f64, before: usize, there: usize| {
            let low = (start as f64 * scale - before as f64).max(0.0);
            (low, (len as f64 * scale).min(there as f64 - low))
        };
        let (top, height) = window(to.top, to.height, scale[0], from.top, from.height);
        let (left, width) = window(to.left, to.width, scale[1], from.left, from.width);
        let source = ImageRef::new(held.width as u32, held.height as u32, &held.pixels, PixelType::U8x3).expect("three bytes a pixel");
        let mut result = Image::new(to.width as u32, to.height as u32, PixelType::U8x3);
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).crop(left, top, width, height);
        Resizer::new().resize(&source, &mut result, &options).expect("a window of the picture, both of RGB");
        Picture { width: to.width, height: to.height, channels: 3, pixels: result.into_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(height: usize, width: usize) -> Picture {
        let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| [(x * 255 / width) as u8, (y * 255 / height) as u8, 7]));
        Picture { width, height, channels: 3, pixels: pixels.collect() }
    }

    fn cut(picture: &Picture, r: Region) -> Picture {
        let row = |y: usize| picture.pixels[(y * picture.width + r.left) * 3..][..r.width * 3].to_vec();
        let pixels = (r.top..r.top + r.height).flat_map(row).collect();
        Picture { width: r.width, height: r.height, channels: 3, pixels }
    }

    fn middle(picture: &Picture, target: [usize; 2]) -> Picture {
        let middle = Middle::new([picture.height, picture.width], target);
        middle.of(cut(picture, middle.needed()))
    }

    /// The same with nothing left out on the way.
    fn whole(picture: &Picture, target: [usize; 2]) -> Picture {
        let mut middle = Middle::new([picture.height, picture.width], target);
        let last = middle.regions.len() - 1;
        let shown = middle.regions[last];
        for (region, &[height, width]) in middle.regions.iter_mut().zip(&middle.sizes) {
            *region = Region { top: 0, left: 0, height, width };
        }
        cut(&middle.of(picture.clone()), shown)
    }

    #[test]
    fn the_middle_is_kept() {
        let square = middle(&gradient(100, 300), [50, 50]);
        assert_eq!((square.width, square.height), (50, 50));
        // The middle third of the width: from 85 to 170 of red, all of green.
        let (first, last) = (&square.pixels[..3], &square.pixels[square.pixels.len() - 3..]);
        assert!(first[0].abs_diff(85) <= 2 && last[0].abs_diff(169) <= 2, "{first:?} {last:?}");
        assert!(first[1] <= 3 && last[1] >= 250 && first[2] == 7, "{first:?} {last:?}");
        let exact = gradient(64, 64);
        assert_eq!(middle(&exact, [64, 64]), exact);
    }

    #[test]
    fn what_is_left_out_makes_no_difference() {
        for (size, target) in
            [([97, 1000], [32, 32]), ([700, 333], [50, 50]), ([40, 41], [64, 64]), ([513, 257], [64, 96]), ([9, 9], [9, 8])]
        {
            let picture = gradient(size[0], size[1]);
            let (part, all) = (middle(&picture, target), whole(&picture, target));
            let differs = part.pixels.iter().zip(&all.pixels).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(differs <= Some(1) && part.pixels.len() == all.pixels.len(), "{size:?} {target:?}: {differs:?}");
        }
        let needed = Middle::new([200, 32000], [128, 128]).needed();
        assert!(needed.width < 220, "{needed:?}");
    }

    /// Of the two pixels that 4 x 2 become, the first is the middle, as in the official scripts.
    #[test]
    fn halves_are_means() {
        let pixels = [10, 20, 30, 50, 20, 30, 40, 60].map(|v| [v; 3]).concat();
        assert_eq!(middle(&Picture { width: 4, height: 2, channels: 3, pixels }, [1, 1]).pixels, [20; 3]);
    }

    #[test]
    fn what_is_shown_is_told_in_pixels_of_the_picture() {
        let middle = Middle::new([200, 300], [50, 50]);
        assert_eq!(middle.shown(), Region { top: 0, left: 48, height: 200, width: 200 });
        assert!(!middle.enlarges() && Middle::new([20, 300], [50, 50]).enlarges());
    }
}
