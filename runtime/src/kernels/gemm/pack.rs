//! The packed layout of a weight matrix `W [O,K]`: panels of 16 output channels, `[ceil(O/16)][K][16]`, zero
//! where there is no channel.

use crate::plan::PANEL;

/// Packs a row-major matrix of `o` rows and `k` columns.
///
/// # Panics
/// If `w` does not hold `o * k` elements.
pub fn pack_panels(w: &[f32], o: usize, k: usize) -> Vec<f32> {
    assert_eq!(w.len(), o * k, "a matrix of {o} x {k}");
    let mut packed = vec![0.0; o.div_ceil(PANEL) * k * PANEL];
    for (row, w) in w.chunks_exact(k.max(1)).enumerate() {
        let panel = &mut packed[row / PANEL * k * PANEL..][..k * PANEL];
        for (k, &w) in w.iter().enumerate() {
            panel[k * PANEL + row % PANEL] = w;
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
