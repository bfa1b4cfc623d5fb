//! The innermost loops of every matrix product: `C[rows, 32] += A[rows, K] B[K, 32]`.
//!
//! A tile of R rows and V vectors lives in registers over [`DEPTH`] steps of k and is then added to C, which
//! stays in L1: sums are blocked, which halves the error of one long chain. Every row goes through the same
//! operations whatever tile it falls into, so where blocks begin does not change a bit.

use crate::plan::PANEL;
use crate::simd::{Simd, variants};

/// Steps of k between two visits to C: half a panel of that depth is 16 KB, half of L1.
pub(crate) const DEPTH: usize = 256;

/// A as the microkernel reads it: element `(r, k)` at `start[r * row + k * step]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left {
    pub start: *const f32,
    pub row: usize,
    pub step: usize,
}

variants! {
    /// `C[r][j] += sum over k of A[r,k] B[k][j]` for `r < rows`, `j < columns`; `C` and `B` have rows of 32, and
    /// columns from `columns` on are left in an unspecified state.
    ///
    /// # Safety
    /// - A, `b` and `c` are valid for `rows` x `depth`, `depth` x 32 and `rows` x 32; `columns <= 32`.
    /// - `c` overlaps neither.
    pub(crate) unsafe fn multiply_add(a: Left, b: *const f32, depth: usize, rows: usize, columns: usize, c: *mut f32) =
        multiply_add_body [scalar <4, 8>, avx2 <6, 2>, avx512 <12, 2>]
}

/// As [`multiply_add`], for a caller that has chosen the instructions.
#[inline(always)]
pub(super) unsafe fn multiply_add_body<S: Simd, const R: usize, const V: usize>(
    s: S,
    a: Left,
    b: *const f32,
    depth: usize,
    rows: usize,
    columns: usize,
    c: *mut f32,
) {
    for k in (0..depth).step_by(DEPTH) {
        let deep = DEPTH.min(depth - k);
        for j in (0..columns).step_by(V * S::LANES) {
            let mut r = 0;
            // SAFETY: rows r.. of A and C, rows k .. k + deep of B, columns j .. j + V * LANES <= 32.
            unsafe {
                let at = |r: usize| Left { start: a.start.add(r * a.row + k * a.step), ..a };
                let b = b.add(k * PANEL + j);
                while r + R <= rows {
                    tile::<S, R, V>(s, at(r), b, deep, c.add(r * PANEL + j));
                    r += R;
                }
                if R > 8 && r + 8 <= rows {
                    tile::<S, 8, V>(s, at(r), b, deep, c.add(r * PANEL + j));
                    r += 8;
                }
                if R > 4 && r + 4 <= rows {
                    tile::<S, 4, V>(s, at(r), b, deep, c.add(r * PANEL + j));
                    r += 4;
                }
                if r + 2 <= rows {
                    tile::<S, 2, V>(s, at(r), b, deep, c.add(r * PANEL + j));
                    r += 2;
                }
                if r < rows {
                    tile::<S, 1, V>(s, at(r), b, deep, c.add(r * PANEL + j));
                }
            }
        }
    }
}

/// # Safety
/// - As of [`multiply_add`], for R rows and V vectors of columns.
#[inline(always)]
unsafe fn tile<S: Simd, const R: usize, const V: usize>(s: S, a: Left, b: *const f32, depth: usize, c: *mut f32) {
    let mut sums = [[s.splat(0.0); V]; R];
    let (mut x, mut w) = (a.start, b);
    for _ in 0..depth {
        let mut columns = [s.splat(0.0); V];
        for (v, column) in columns.iter_mut().enumerate() {
            // SAFETY: the caller's contract.
            *column = unsafe { s.load(w.add(v * S::LANES)) };
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's contract.
            let factor = s.splat(unsafe { *x.add(r * a.row) });
            for (sum, &column) in sums.iter_mut().zip(&columns) {
                *sum = s.mla(factor, column, *sum);
            }
        }
        x = x.wrapping_add(a.step);
        w = w.wrapping_add(PANEL);
    }
    for (r, sums) in sums.iter().enumerate() {
        for (v, &sum) in sums.iter().enumerate() {
            // SAFETY: the caller's contract.
            unsafe {
                let c = c.add(r * PANEL + v * S::LANES);
                s.store(c, s.add(s.load(c), sum));
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
    fn every_tail_of_rows_and_columns() {
        for isa in Isa::all() {
            for rows in 1..=25 {
                for (depth, columns) in [(1, 32), (3, 1), (17, 16), (300, 17), (600, 31)] {
                    let (a, b) = (values(rows * depth, 1), values(depth * PANEL, 2));
                    // Once with k innermost, once with rows innermost.
                    for (row, step) in [(depth, 1), (1, rows)] {
                        let mut c = vec![0.5; rows * PANEL];
                        // SAFETY: buffers of these sizes.
                        unsafe {
                            multiply_add(isa, Left { start: a.as_ptr(), row, step }, b.as_ptr(), depth, rows, columns, c.as_mut_ptr());
                        }
                        let x = |r: usize, k: usize| f64::from(a[r * row + k * step]);
                        let at = |r: usize, j: usize| 0.5 + (0..depth).map(|k| x(r, k) * f64::from(b[k * PANEL + j])).sum::<f64>();
                        let columns = |r: usize| (0..columns).map(move |j| r * PANEL + j);
                        let found: Vec<f32> = (0..rows).flat_map(columns).map(|i| c[i]).collect();
                        let want: Vec<f64> = (0..rows).flat_map(columns).map(|i| at(i / PANEL, i % PANEL)).collect();
                        close(&found, &want, 3e-6, &format!("{isa} {rows} {depth}"));
                    }
                }
            }
        }
    }
}
