//! Where the rows of the left matrix come from. They are gathered block by block into the thread's scratch, with
//! a row stride that is no power of two: rows a power of two apart would share cache sets.

use crate::simd::{Simd, variants};

/// A convolution's view of one image: `taps = KH KW` pixels of `c` channels for every output pixel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub out_width: usize,
    pub kernel: [usize; 2],
    pub stride: usize,
    pub top: usize,
    pub left: usize,
}

impl Window {
    /// Row of the matrix for output pixel `pixel` of `image`: `out[(ky, kx, c)]`, zero outside of the image.
    pub fn row(&self, image: &[f32], pixel: usize, out: &mut [f32]) {
        let (oy, ox) = (pixel / self.out_width, pixel % self.out_width);
        let c = self.channels;
        let [kh, kw] = self.kernel;
        // Taps lo .. hi of a row lie inside the image.
        let lo = self.left.saturating_sub(ox * self.stride).min(kw);
        let hi = (self.width + self.left).saturating_sub(ox * self.stride).clamp(lo, kw);
        for (ky, out) in out[..kh * kw * c].chunks_exact_mut(kw * c).enumerate() {
            let y = (oy * self.stride + ky).wrapping_sub(self.top);
            if y >= self.height || lo == hi {
                out.fill(0.0);
                continue;
            }
            let start = (y * self.width + ox * self.stride + lo - self.left) * c;
            out[..lo * c].fill(0.0);
            out[lo * c..hi * c].copy_from_slice(&image[start..start + (hi - lo) * c]);
            out[hi * c..].fill(0.0);
        }
    }

    /// Row for output pixel `pixel` of the adjoint convolution: the pixels of `image` that a convolution with this
    /// stride and padding would have sent there, by tap; zero where none.
    pub fn adjoint_row(&self, image: &[f32], pixel: usize, out: &mut [f32]) {
        let (oy, ox) = (pixel / self.out_width, pixel % self.out_width);
        let c = self.channels;
        let source = |o: usize, pad: usize, k: usize, extent: usize| {
            let i = (o + pad).checked_sub(k)?;
            (i % self.stride == 0 && i / self.stride < extent).then_some(i / self.stride)
        };
        let [kh, kw] = self.kernel;
        for (tap, out) in out[..kh * kw * c].chunks_exact_mut(c).enumerate() {
            let y = source(oy, self.top, tap / kw, self.height);
            match (y, source(ox, self.left, tap % kw, self.width)) {
                (Some(y), Some(x)) => out.copy_from_slice(&image[(y * self.width + x) * c..][..c]),
                _ => out.fill(0.0),
            }
        }
    }
}

variants! {
    /// `y = x * a`.
    ///
    /// # Safety
    /// - `x`, `a` and `y` are equally long.
    pub(super) unsafe fn scale_row(x: &[f32], a: &[f32], y: &mut [f32]) = scale_row_body
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
