//! Structural similarity of pictures: Wang, Bovik, Sheikh, Simoncelli 2004, "Image quality assessment: from error visibility to structural
//! similarity". Windows of 11 x 11, Gaussian of 1.5 pixels, within the picture; K1 = 0.01, K2 = 0.03, L = 255; variances of the population;
//! the mean over places, and over channels. Of pictures smaller than a window the window is what fits, of an odd side.

use fcdm_runtime::picture::Picture;

const SIDE: usize = 11;
const SIGMA: f64 = 1.5;
const C1: f64 = (0.01 * 255.0) * (0.01 * 255.0);
const C2: f64 = (0.03 * 255.0) * (0.03 * 255.0);

/// The weights along one axis, which sum to 1.
fn window(side: usize) -> Vec<f64> {
    let at = |i: usize| (-(i as f64 - (side / 2) as f64).powi(2) / (2.0 * SIGMA * SIGMA)).exp();
    let sum: f64 = (0..side).map(at).sum();
    (0..side).map(|i| at(i) / sum).collect()
}

/// The means of a plane under the window, wherever it fits: rows, then columns.
fn means(plane: &[f64], [height, width]: [usize; 2], [rows, columns]: [&[f64]; 2]) -> Vec<f64> {
    let (h, w) = (height + 1 - rows.len(), width + 1 - columns.len());
    let row = |y: usize, x: usize| columns.iter().enumerate().map(|(i, k)| k * plane[y * width + x + i]).sum();
    let across: Vec<f64> = (0..height).flat_map(|y| (0..w).map(move |x| (y, x))).map(|(y, x)| row(y, x)).collect();
    let column = |y: usize, x: usize| rows.iter().enumerate().map(|(i, k)| k * across[(y + i) * w + x]).sum();
    (0..h).flat_map(|y| (0..w).map(move |x| (y, x))).map(|(y, x)| column(y, x)).collect()
}

/// Of two pictures of one size, 1 for equal ones.
///
/// # Panics
/// If their sizes differ.
pub fn ssim(a: &Picture, b: &Picture) -> f64 {
    assert_eq!((a.height, a.width, a.channels), (b.height, b.width, b.channels), "pictures of one size");
    let side = |extent: usize| if extent >= SIDE { SIDE } else { extent - (extent + 1) % 2 };
    let (rows, columns) = (window(side(a.height)), window(side(a.width)));
    let of_channel = |channel: usize| {
        let plane = |p: &Picture| p.pixels.iter().skip(channel).step_by(p.channels).map(|&v| f64::from(v)).collect::<Vec<f64>>();
        let (x, y) = (plane(a), plane(b));
        let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).collect::<Vec<f64>>();
        let mean = |plane: &[f64]| means(plane, [a.height, a.width], [&rows, &columns]);
        let (mx, my, xx, yy, xy) = (mean(&x), mean(&y), mean(&product(&x, &x)), mean(&product(&y, &y)), mean(&product(&x, &y)));
        let place = |i: usize| {
            let (vx, vy, cov) = (xx[i] - mx[i] * mx[i], yy[i] - my[i] * my[i], xy[i] - mx[i] * my[i]);
            (2.0 * mx[i] * my[i] + C1) * (2.0 * cov + C2) / ((mx[i] * mx[i] + my[i] * my[i] + C1) * (vx + vy + C2))
        };
        (0..mx.len()).map(place).sum::<f64>() / mx.len() as f64
    };
    (0..a.channels).map(of_channel).sum::<f64>() / a.channels as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(channels: usize, f: impl Fn(usize, usize, usize) -> u8) -> Picture {
        let (width, height) = (24, 20);
        let at = |i: usize| f(i / channels / width, i / channels % width, i % channels);
        Picture { width, height, channels, pixels: (0..width * height * channels).map(at).collect() }
    }

    /// What scikit-image gives: `structural_similarity(a, b, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    /// channel_axis=-1)`, whose mean leaves out the same margin of five pixels.
    #[test]
    fn as_scikit_image_has_it() {
        let a = picture(3, |y, x, c| ((y * 37 + x * 11 + c * 71) % 256) as u8);
        let b = picture(3, |y, x, c| ((y * 37 + x * 11 + c * 71) % 256).saturating_sub((x * y) % 50) as u8);
        assert!((ssim(&a, &b) - 0.956_140_014_637_255).abs() < 1e-6, "{}", ssim(&a, &b));
        assert!((ssim(&a, &a) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn small_pictures_have_smaller_windows() {
        let small = |v: u8| Picture { width: 4, height: 8, channels: 1, pixels: (0..32).map(|i| i * 5 + v).collect() };
        let found = ssim(&small(0), &small(60));
        assert!(found > 0.0 && found < 1.0, "{found}");
    }
}
