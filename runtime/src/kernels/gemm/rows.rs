//! The left matrix of a product by addresses: row r of it is an output pixel, its k runs over taps and channels. A linear
//! layer has one tap, a convolution one for each element of its window; nothing is gathered.

use std::ops::Range;

use super::micro::DEPTH;
use crate::simd::{Simd, variants};

/// What a tap outside of the image reads.
static ZEROS: [f32; DEPTH] = [0.0; DEPTH];

/// Whether an address of [`Images::addresses`] is of a tap outside of the image.
pub(super) fn is_outside(row: *const f32) -> bool {
    row == ZEROS.as_ptr()
}

/// A convolution's view of one image: `KH KW` pixels for every output pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ImageWindow {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub out_width: usize,
    pub kernel: [usize; 2],
    pub stride: usize,
    pub top: usize,
    pub left: usize,
    /// Every pixel of the image stands for so many by so many.
    pub upsample: usize,
}

impl ImageWindow {
    /// The input pixel under tap `tap` of output pixel `pixel`.
    pub fn pixel(&self, pixel: usize, tap: usize) -> Option<usize> {
        let y = (pixel / self.out_width * self.stride + tap / self.kernel[1]).wrapping_sub(self.top);
        let x = (pixel % self.out_width * self.stride + tap % self.kernel[1]).wrapping_sub(self.left);
        // A pixel before the image is far beyond it, and stays so.
        let (y, x) = if self.upsample == 1 { (y, x) } else { (y / self.upsample, x / self.upsample) };
        (y < self.height && x < self.width).then(|| y * self.width + x)
    }

    /// The input pixel that a convolution with this stride and padding sends to `pixel` by tap `tap`.
    fn adjoint_pixel(&self, pixel: usize, tap: usize) -> Option<usize> {
        let source = |o: usize, pad: usize, k: usize, extent: usize| {
            let i = (o + pad).checked_sub(k)?;
            (i % self.stride == 0 && i / self.stride < extent).then_some(i / self.stride)
        };
        let y = source(pixel / self.out_width, self.top, tap / self.kernel[1], self.height)?;
        let x = source(pixel % self.out_width, self.left, tap % self.kernel[1], self.width)?;
        Some(y * self.width + x)
    }

    /// Pixels of the image.
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Elements of the window of one channel.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }
}

/// Which pixels of the input an output pixel sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taps {
    /// Its own.
    One,
    /// Those under a convolution's window.
    Window(ImageWindow),
    /// Those under an adjoint convolution's window.
    Adjoint(ImageWindow),
}

impl Taps {
    pub fn count(&self) -> usize {
        match self {
            Taps::One => 1,
            Taps::Window(w) | Taps::Adjoint(w) => w.taps(),
        }
    }
}

/// Images whose pixels are `step` elements apart; `channels` of each pixel are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Images {
    pub start: *const f32,
    pub step: usize,
    pub channels: usize,
    /// Pixels of one image, and rows of the matrix made of it.
    pub pixels: usize,
    pub rows: usize,
    pub taps: Taps,
}

impl Images {
    /// Where the channels `channels` of tap `tap` begin, for consecutive rows of the matrix from `first` on. There are at
    /// most [`DEPTH`] channels.
    pub fn addresses(&self, first: usize, tap: usize, channels: &Range<usize>, out: &mut [*const f32]) {
        debug_assert!(channels.len() <= DEPTH);
        let at = |pixel: usize| self.start.wrapping_add(pixel * self.step + channels.start);
        match &self.taps {
            Taps::One => out.iter_mut().enumerate().for_each(|(r, out)| *out = at(first + r)),
            Taps::Window(w) => self.windowed(first, out, at, |row| w.pixel(row, tap)),
            Taps::Adjoint(w) => self.windowed(first, out, at, |row| w.adjoint_pixel(row, tap)),
        }
    }

    /// As [`Images::addresses`], `pixel` being the one that a row of an image sees, if it sees one, and `at` an address.
    fn windowed(&self, first: usize, out: &mut [*const f32], at: impl Fn(usize) -> *const f32, pixel: impl Fn(usize) -> Option<usize>) {
        for (r, out) in (first..).zip(out) {
            let (image, row) = (r / self.rows, r % self.rows);
            *out = pixel(row).map_or(ZEROS.as_ptr(), |p| at(image * self.pixels + p));
        }
    }
}

variants! {
    /// `y = x * a`.
    ///
    /// # Safety
    /// - `x`, `a` and `y` are equally long.
    pub(super) unsafe fn scale_row(x: &[f32], a: &[f32], y: &mut [f32]) as ScaleRow = scale_row_body
}

#[inline(always)]
unsafe fn scale_row_body<S: Simd>(s: S, x: &[f32], a: &[f32], y: &mut [f32]) {
    let count = y.len();
    let mut i = 0;
    while i < count {
        let n = S::LANES.min(count - i);
        // SAFETY: elements i .. i + n of slices of `count` elements.
        unsafe {
            let v = s.mul(s.load_n(x.as_ptr().add(i), n), s.load_n(a.as_ptr().add(i), n));
            s.store_n(y.as_mut_ptr().add(i), v, n);
        }
        i += S::LANES;
    }
}

/// The bf16 nearest to `x`, ties to even. A NaN stays one.
#[inline(always)]
fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    (if bits & 0x7fff_ffff > 0x7f80_0000 { bits >> 16 | 0x40 } else { nearest }) as u16
}

variants! {
    /// `y = x * a`, or `y = x` if `a` is empty, in bf16; what y has more is zero.
    ///
    /// # Safety
    /// - `x` is at most as long as `y`, and as long as `a` if that is not empty.
    pub(super) unsafe fn round_row(x: &[f32], a: &[f32], y: &mut [u16]) as RoundRow = round_row_body
}

#[inline(always)]
unsafe fn round_row_body<S: Simd>(_: S, x: &[f32], a: &[f32], y: &mut [u16]) {
    let (y, rest) = y.split_at_mut(x.len());
    rest.fill(0);
    if a.is_empty() {
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = to_bf16(x));
    } else {
        y.iter_mut().zip(x.iter().zip(a)).for_each(|(y, (&x, &a))| *y = to_bf16(x * a));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::values;
    use crate::simd::Isa;

    #[test]
    fn bf16_is_the_nearest() {
        let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 0.0, -0.0, 1e-40, f32::from_bits(0x7f80_0001)];
        let ties = (0..64).map(|i| f32::from_bits(0x3f80_8000 + (i << 15)));
        let x: Vec<f32> = special.into_iter().chain(ties).chain(values(1000, 1)).collect();
        let a = values(x.len(), 2);
        for isa in Isa::all() {
            for scaled in [false, true] {
                let mut y = vec![1; x.len() + 1];
                // SAFETY: slices of these lengths.
                unsafe { round_row(isa)(&x, if scaled { &a } else { &[] }, &mut y) };
                for (i, (&x, &y)) in x.iter().zip(&y).enumerate() {
                    let want = half::bf16::from_f32(if scaled { x * a[i] } else { x });
                    assert!(y == want.to_bits() || want.is_nan() && half::bf16::from_bits(y).is_nan(), "{isa}: {x}: {y:#06x}, {want}");
                }
                assert_eq!(y.last(), Some(&0));
            }
        }
    }
}
