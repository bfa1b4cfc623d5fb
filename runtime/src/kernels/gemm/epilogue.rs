//! What happens to 32 columns of a product while they are in L1: bias; exact GELU with the sum of squares for
//! GRN; gate and residual.

use crate::plan::PANEL;
use crate::simd::{Simd, math};

/// Where a block of the product goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    /// Element of the output at the block's first row and column; rows are `width` apart.
    pub y: *mut f32,
    pub width: usize,
    pub rows: usize,
    /// Columns that exist, at most 32.
    pub columns: usize,
    /// Bias of the first column, or null.
    pub bias: *const f32,
    pub then: Then,
}

/// After the bias.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    Store,
    /// `y = gelu(v)`; for every `unit` rows the sum of y^2 goes to the next row of `squares`, `width` apart.
    GeluSumsq {
        squares: *mut f32,
        unit: usize,
    },
    /// `y = x + gate v`, the gate's row being that of the sample; `row` is the block's first, `x` at its first
    /// element as y is, `gate` at the first column of sample 0.
    GatedAdd {
        x: *const f32,
        gate: *const f32,
        row: usize,
        rows_per_sample: usize,
    },
}

/// Finishes the block whose product, in rows of 32, is at `product`.
///
/// # Safety
/// - `product` and the block's addresses are valid for its extents, and only y and `squares` are written, by this call alone.
#[inline(always)]
pub(super) unsafe fn finish_body<S: Simd>(s: S, product: *const f32, block: &Block) {
    for j in (0..block.columns).step_by(S::LANES) {
        let n = S::LANES.min(block.columns - j);
        // SAFETY: columns j .. j + n of the block.
        unsafe {
            let bias = if block.bias.is_null() { s.splat(0.0) } else { s.load_n(block.bias.add(j), n) };
            match block.then {
                Then::Store => {
                    for r in 0..block.rows {
                        let v = s.add(s.load(product.add(r * PANEL + j)), bias);
                        s.store_n(block.y.add(r * block.width + j), v, n);
                    }
                }
                Then::GeluSumsq { squares, unit } => {
                    for (i, first) in (0..block.rows).step_by(unit).enumerate() {
                        let mut sum = s.splat(0.0);
                        for r in first..block.rows.min(first + unit) {
                            let v = math::gelu(s, s.add(s.load(product.add(r * PANEL + j)), bias));
                            sum = s.mla(v, v, sum);
                            s.store_n(block.y.add(r * block.width + j), v, n);
                        }
                        s.store_n(squares.add(i * block.width + j), sum, n);
                    }
                }
                Then::GatedAdd { x, gate, row, rows_per_sample } => {
                    for r in 0..block.rows {
                        let sample = (row + r) / rows_per_sample;
                        let gate = s.load_n(gate.add(sample * block.width + j), n);
                        let v = s.add(s.load(product.add(r * PANEL + j)), bias);
                        let at = r * block.width + j;
                        s.store_n(block.y.add(at), s.mla(gate, v, s.load_n(x.add(at), n)), n);
                    }
                }
            }
        }
    }
}
