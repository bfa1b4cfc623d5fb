//! What happens to some rows of a product while they are in L1: bias; exact GELU with the sum of squares for GRN; gate
//! and residual.

use super::micro::GROUP;
use crate::simd::{Simd, math};

/// Where some rows of one sample, and columns of the product, go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    /// Element of the output at the block's first row and column; rows are `width` apart.
    pub y: *mut f32,
    pub width: usize,
    pub rows: usize,
    /// Columns that exist, at most [`GROUP`].
    pub columns: usize,
    /// Bias of the first column, or null.
    pub bias: *const f32,
    pub then: Then,
}

/// After the bias.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    Store,
    /// `y = gelu(v)`; the sums of y^2 over the block's rows go to `squares`.
    GeluSumsq {
        squares: *mut f32,
    },
    /// `y = x + gate v`: `x` at its first element as y is, `gate` at the sample's first column.
    GatedAdd {
        x: *const f32,
        gate: *const f32,
    },
}

/// Finishes the block whose product, in rows of [`GROUP`], is at `product`.
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
            let value = |r: usize| s.add(s.load(product.add(r * GROUP + j)), bias);
            match block.then {
                Then::Store => {
                    for r in 0..block.rows {
                        s.store_n(block.y.add(r * block.width + j), value(r), n);
                    }
                }
                Then::GeluSumsq { squares } => {
                    let mut sum = s.splat(0.0);
                    let mut finish = |r: usize, v: S::V| {
                        sum = s.mla(v, v, sum);
                        s.store_n(block.y.add(r * block.width + j), v, n);
                    };
                    for r in (0..block.rows - block.rows % 2).step_by(2) {
                        let [first, second] = math::gelu(s, [value(r), value(r + 1)]);
                        finish(r, first);
                        finish(r + 1, second);
                    }
                    if block.rows % 2 == 1 {
                        let [last] = math::gelu(s, [value(block.rows - 1)]);
                        finish(block.rows - 1, last);
                    }
                    s.store_n(squares.add(j), sum, n);
                }
                Then::GatedAdd { x, gate } => {
                    let gate = s.load_n(gate.add(j), n);
                    for r in 0..block.rows {
                        let at = r * block.width + j;
                        s.store_n(block.y.add(at), s.mla(gate, value(r), s.load_n(x.add(at), n)), n);
                    }
                }
            }
        }
    }
}
