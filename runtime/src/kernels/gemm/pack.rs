//! The packed layouts of a weight matrix `W [O,K]`: panels of 16 output channels, `[ceil(O/16)][K][16]`, or with
//! neighbouring k in pairs, `[ceil(O/16)][ceil(K/2)][16][2]`; zero where there is no channel and no k.

use crate::plan::PANEL;

/// Packs a row-major matrix of `o` rows and `k` columns.
///
/// # Panics
/// If `w` does not hold `o * k` elements.
pub fn pack_panels<T: Copy + Default>(w: &[T], o: usize, k: usize) -> Vec<T> {
    assert_eq!(w.len(), o * k, "a matrix of {o} x {k}");
    let mut packed = vec![T::default(); o.div_ceil(PANEL) * k * PANEL];
    for (row, w) in w.chunks_exact(k.max(1)).enumerate() {
        let panel = &mut packed[row / PANEL * k * PANEL..][..k * PANEL];
        for (k, &w) in w.iter().enumerate() {
            panel[k * PANEL + row % PANEL] = w;
        }
    }
    packed
}

/// Packs a row-major matrix of `o` rows and `taps * channels` columns in pairs of channels. Where their number is odd, the
/// last one of every tap is paired with zeros.
///
/// # Panics
/// If `w` does not hold `o * taps * channels` elements.
pub fn pack_pairs<T: Copy + Default>(w: &[T], o: usize, taps: usize, channels: usize) -> Vec<T> {
    assert_eq!(w.len(), o * taps * channels, "a matrix of {o} x ({taps} x {channels})");
    let pairs = channels.div_ceil(2);
    let mut packed = vec![T::default(); o.div_ceil(PANEL) * taps * pairs * PANEL * 2];
    for (at, w) in w.chunks_exact(channels.max(1)).enumerate() {
        let (row, tap) = (at / taps, at % taps);
        let first = (row / PANEL * taps + tap) * pairs;
        for (c, &w) in w.iter().enumerate() {
            packed[((first + c / 2) * PANEL + row % PANEL) * 2 + c % 2] = w;
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Element;

    #[test]
    fn elements_are_where_the_plan_says() {
        let (o, k) = (37, 5);
        let w: Vec<f32> = (0..o * k).map(|i| i as f32 + 1.0).collect();
        let packed = pack_panels(&w, o, k);
        assert_eq!(packed.len(), 3 * k * PANEL);
        for i in 0..48 {
            for j in 0..k {
                let want = if i < o { w[i * k + j] } else { 0.0 };
                assert_eq!(packed[(i / PANEL * k + j) * PANEL + i % PANEL], want);
            }
        }
    }

    #[test]
    fn pairs_are_where_the_plan_says_and_do_not_straddle_taps() {
        for (o, taps, channels) in [(37, 1, 5), (16, 4, 3), (3, 9, 2)] {
            let w: Vec<u16> = (1..=(o * taps * channels) as u16).collect();
            let packed = pack_pairs(&w, o, taps, channels);
            let pairs = channels.div_ceil(2);
            let shape = Element::BF16.packed(o, taps, channels);
            assert_eq!(packed.len(), shape.iter().product::<usize>());
            for (at, &found) in packed.iter().enumerate() {
                let (half, lane, pair, panel) = (at % 2, at / 2 % PANEL, at / 2 / PANEL % (taps * pairs), at / 2 / PANEL / (taps * pairs));
                let (row, tap, channel) = (panel * PANEL + lane, pair / pairs, pair % pairs * 2 + half);
                let want = if row < o && channel < channels { w[(row * taps + tap) * channels + channel] } else { 0 };
                assert_eq!(found, want, "{o} {taps} {channels}: element {at}");
            }
        }
    }
}
