//! The innermost loops of every matrix product: `C[rows, 32] (+)= A[rows, K] B[K, 32]`, B being one or two panels.
//!
//! A tile of R rows and V vectors lives in registers over a stretch of k and is then stored to C, which stays in L1.
//! Rows of A are given by address, so that the same loop reads a matrix, a padded copy of one, or the pixels under a
//! convolution's tap. Every row goes through the same operations whatever tile it falls into, so where blocks begin
//! does not change a bit.

use super::line::{F32, Line};
use crate::plan::PANEL;
use crate::simd::{Simd, variants};

/// Columns of C: the panels that are multiplied by one visit to the rows of A.
pub(crate) const GROUP: usize = 2 * PANEL;

/// Most steps of k between two visits to C. A panel of that depth is 24 KB, three quarters of L1; and sums blocked so
/// have half the error of one long chain.
pub(crate) const DEPTH: usize = 384;

/// Steps of k in one turn of the innermost loop.
const UNROLL: usize = 4;

/// The stretches of at most [`DEPTH`] that `depth` is cut into, of nearly equal length.
pub(crate) fn stretches(depth: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let count = depth.div_ceil(DEPTH).max(1);
    let each = depth.div_ceil(count).next_multiple_of(UNROLL);
    (0..count).map(move |i| (i * each).min(depth)..((i + 1) * each).min(depth)).filter(|r| !r.is_empty())
}

/// A as the microkernel reads it: element `(r, k)` at `rows[r] + k * step`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left<'a> {
    pub rows: &'a [*const f32],
    pub step: usize,
}

/// One or two panels, a stretch of k of each: lines of f32, or of pairs of bf16 that count as one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Right {
    /// Element (0, 0) of the first.
    pub start: *const f32,
    /// f32 from one panel to the next.
    pub panel_step: usize,
    /// 1 or 2.
    pub panels: usize,
}

/// What is read after this product, and prefetched meanwhile. An address need not be valid; null stands for nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ahead {
    /// The next stretch of the first panel's weights, or the next panel's.
    pub weights: *const f32,
    /// The rows of a next A, one behind the other: as many lines each turn of the innermost loop as all turns need.
    pub rows: *const f32,
}

impl Ahead {
    pub const NOTHING: Ahead = Ahead::weights(std::ptr::null());

    pub const fn weights(weights: *const f32) -> Ahead {
        Ahead { weights, rows: std::ptr::null() }
    }
}

variants! {
    /// `C[r][j] = (first ? 0 : C[r][j]) + sum over k of A[r,k] B[k][j]` for every row of A and column of B; C has rows of
    /// [`GROUP`].
    ///
    /// # Safety
    /// - A, B and C are valid for `rows` x `depth`, `depth` x 16 a panel, and `rows` x 32; C overlaps neither.
    pub(crate) unsafe fn multiply_add(a: Left<'_>, b: Right, ahead: Ahead, depth: usize, c: *mut f32, first: bool) as MultiplyAdd =
        multiply_add_f32<TILE>
}

#[inline(always)]
unsafe fn multiply_add_f32<S: Simd, const R: usize, const V: usize>(
    s: S,
    a: Left<'_>,
    b: Right,
    ahead: Ahead,
    depth: usize,
    c: *mut f32,
    first: bool,
) {
    // SAFETY: the caller's contract.
    unsafe { multiply_add_body::<S, F32, R, V, true>(s, F32, a, b, ahead, depth, c, first) }
}

/// As [`multiply_add`], for a caller that has chosen the instructions, and for either kind of line. With
/// [`super::line::Bf16Pairs`], A holds pairs, and `depth` counts them. Only where `ROWS` says so, [`Ahead::rows`] are heeded.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn multiply_add_body<S: Simd, L: Line<S>, const R: usize, const V: usize, const ROWS: bool>(
    s: S,
    l: L,
    a: Left<'_>,
    b: Right,
    mut ahead: Ahead,
    depth: usize,
    c: *mut f32,
    first: bool,
) {
    let columns = b.panels * PANEL;
    let after = ahead.weights;
    let mut j = 0;
    while j < columns {
        let wide = (columns - j).min(V * S::LANES);
        // SAFETY: columns j .. j + wide of the panels and of C.
        unsafe {
            let start = b.start.add(j / PANEL * b.panel_step + j % PANEL);
            ahead.weights = if j + wide < columns { start.wrapping_add(b.panel_step) } else { after };
            let b = Right { start, ..b };
            if wide == V * S::LANES {
                rows_of_tiles::<S, L, R, V, ROWS>(s, l, a, b, &mut ahead, depth, c.add(j), first);
            } else {
                rows_of_tiles::<S, L, R, 1, ROWS>(s, l, a, b, &mut ahead, depth, c.add(j), first);
            }
        }
        j += if wide == V * S::LANES { wide } else { S::LANES };
    }
}

/// # Safety
/// - As of [`multiply_add`], for V vectors of columns.
#[inline(always)]
#[allow(clippy::int_plus_one, clippy::too_many_arguments)]
unsafe fn rows_of_tiles<S: Simd, L: Line<S>, const R: usize, const V: usize, const ROWS: bool>(
    s: S,
    l: L,
    a: Left<'_>,
    b: Right,
    ahead: &mut Ahead,
    depth: usize,
    c: *mut f32,
    first: bool,
) {
    let (rows, turns) = (a.rows.len(), depth / UNROLL);
    let mut r = 0;
    // The next panel's lines are shared out among the first tiles: one a turn. Then there is nothing but what is near.
    let mut weights = Lines { at: if ahead.weights.is_null() { b.start } else { ahead.weights }, step: PANEL };
    let nothing = Lines { at: b.start, step: 0 };
    let mut next_rows = if ROWS && !ahead.rows.is_null() { Lines { at: ahead.rows, step: PANEL } } else { nothing };
    macro_rules! tiles {
        ($n:expr, $rows:expr) => {
            while r + $rows <= $n {
                // SAFETY: rows r .. r + $rows exist.
                unsafe {
                    let x = a.rows.as_ptr().add(r);
                    tile::<S, L, { $rows }, V, ROWS>(s, l, x, a, b, [weights, next_rows], depth, c.add(r * GROUP), first);
                }
                weights.at = if r < (UNROLL - 1) * R { weights.at.wrapping_add(turns * PANEL) } else { b.start };
                next_rows.at = next_rows.at.wrapping_add(turns * row_lines::<S>($rows, V) * next_rows.step);
                r += $rows;
            }
        };
    }
    tiles!(rows, R);
    if R > 8 {
        tiles!(rows, 8);
    }
    if R > 4 {
        tiles!(rows, 4);
    }
    tiles!(rows, 2);
    tiles!(rows, 1);
    if next_rows.step > 0 {
        ahead.rows = next_rows.at;
    }
}

/// Lines of as many rows as these that a turn has to fetch, so that the turns of all columns fetch them whole: 1 for 6 rows of 16 columns,
/// 3 for 12 rows of 32.
#[inline(always)]
const fn row_lines<S: Simd>(rows: usize, vectors: usize) -> usize {
    (rows * UNROLL * vectors * S::LANES).div_ceil(PANEL * GROUP)
}

/// Cache lines to be prefetched, step by step.
#[derive(Clone, Copy)]
struct Lines {
    at: *const f32,
    step: usize,
}

/// # Safety
/// - As of [`multiply_add`], for R rows, whose addresses are at `rows`, and V vectors of columns.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn tile<S: Simd, L: Line<S>, const R: usize, const V: usize, const ROWS: bool>(
    s: S,
    l: L,
    rows: *const *const f32,
    a: Left<'_>,
    b: Right,
    [mut weights, mut next_rows]: [Lines; 2],
    depth: usize,
    c: *mut f32,
    first: bool,
) {
    let mut sums = [[s.splat(0.0); V]; R];
    // SAFETY: R addresses; the caller's contract.
    let x: [*const f32; R] = std::array::from_fn(|r| unsafe { *rows.add(r) });
    // Vector v of a step of k, which may be in the second panel.
    let column = |v: usize| v * S::LANES / PANEL * b.panel_step + v * S::LANES % PANEL;
    let mut w: [*const f32; V] = std::array::from_fn(|v| b.start.wrapping_add(column(v)));
    macro_rules! step {
        ($k:expr, $u:expr) => {{
            // SAFETY: step $k + $u is below `depth`; the caller's contract.
            unsafe {
                let columns: [S::V; V] = std::array::from_fn(|v| s.load(w[v].add($u * PANEL)));
                for r in 0..R {
                    let factor = s.splat(*x[r].add(($k + $u) * a.step));
                    for v in 0..V {
                        sums[r][v] = l.multiply_add(s, factor, columns[v], sums[r][v]);
                    }
                }
            }
        }};
    }
    let mut k = 0;
    while k + UNROLL <= depth {
        s.prefetch(weights.at);
        if V * S::LANES > PANEL {
            s.prefetch(weights.at.wrapping_add(b.panel_step));
        }
        weights.at = weights.at.wrapping_add(weights.step);
        if ROWS {
            for _ in 0..row_lines::<S>(R, V) {
                s.prefetch(next_rows.at);
                next_rows.at = next_rows.at.wrapping_add(next_rows.step);
            }
        }
        step!(k, 0);
        step!(k, 1);
        step!(k, 2);
        step!(k, 3);
        w.iter_mut().for_each(|w| *w = w.wrapping_add(UNROLL * PANEL));
        k += UNROLL;
    }
    while k < depth {
        step!(k, 0);
        w.iter_mut().for_each(|w| *w = w.wrapping_add(PANEL));
        k += 1;
    }
    for (r, sums) in sums.iter().enumerate() {
        for (v, &sum) in sums.iter().enumerate() {
            // SAFETY: the caller's contract.
            unsafe {
                let c = c.add(r * GROUP + v * S::LANES);
                s.store(c, if first { sum } else { l.add(s, s.load(c), sum) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{close, values};
    use crate::simd::Isa;

    #[test]
    fn stretches_cover() {
        for depth in [1, 3, 384, 385, 512, 1000, 6144] {
            let all: Vec<usize> = stretches(depth).flatten().collect();
            assert_eq!(all, (0..depth).collect::<Vec<_>>());
            assert!(stretches(depth).all(|r| r.len() <= DEPTH));
        }
    }

    #[test]
    fn every_tail_of_rows_and_depths() {
        for isa in Isa::all() {
            for rows in 1..=25 {
                for (depth, panels) in [(1, 2), (3, 1), (17, 1), (130, 2), (255, 1)] {
                    let (a, b) = (values(rows * depth, 1), values(depth * GROUP, 2));
                    // Once with k innermost, once with rows innermost.
                    for (row, step) in [(depth, 1), (1, rows)] {
                        let starts: Vec<*const f32> = (0..rows).map(|r| &raw const a[r * row]).collect();
                        let left = Left { rows: &starts, step };
                        let right = Right { start: b.as_ptr(), panel_step: depth * PANEL, panels };
                        for first in [true, false] {
                            let mut c = vec![0.5; rows * GROUP];
                            // SAFETY: buffers of these sizes.
                            unsafe { multiply_add(isa)(left, right, Ahead::NOTHING, depth, c.as_mut_ptr(), first) };
                            let x = |r: usize, k: usize| f64::from(a[r * row + k * step]);
                            let w = |k: usize, j: usize| f64::from(b[(j / PANEL * depth + k) * PANEL + j % PANEL]);
                            let old = if first { 0.0 } else { 0.5 };
                            let at = |i: usize| old + (0..depth).map(|k| x(i / GROUP, k) * w(k, i % GROUP)).sum::<f64>();
                            let columns = |r: usize| (0..panels * PANEL).map(move |j| r * GROUP + j);
                            let found: Vec<f32> = (0..rows).flat_map(columns).map(|i| c[i]).collect();
                            let want: Vec<f64> = (0..rows).flat_map(columns).map(at).collect();
                            close(&found, &want, 3e-6, &format!("{isa} {rows} {depth}"));
                        }
                    }
                }
            }
        }
    }
}
