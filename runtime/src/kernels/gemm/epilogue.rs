//! What happens to some rows of a product while they are in L1: bias; residual and activation; GELU with the sum of squares for GRN, exact
//! but for products of codes, which are further from exact; gate and residual.

use super::destination::Destination;
use super::micro::GROUP;
use crate::kernels::{Activation, Epilogue};
use crate::simd::{Simd, math};

/// Where some rows of one sample, and columns of the product, go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    /// The output, and which element of it a row and a column are.
    pub y: *mut f32,
    pub destination: Destination,
    /// The first row, counted over all samples, and how many there are.
    pub row: usize,
    pub rows: usize,
    /// The first column, and how many exist, at most [`GROUP`].
    pub column: usize,
    pub columns: usize,
    /// Bias of the first column, or null.
    pub bias: *const f32,
    pub epilogue: Epilogue,
    /// The residual, laid out as y is, or null.
    pub residual: *const f32,
    /// Gate of the sample's first column, if the epilogue has one.
    pub gate: *const f32,
    /// Where the sums of y^2 over the block's rows go, if the epilogue has them.
    pub squares: *mut f32,
}

/// The activation of every lane.
#[inline(always)]
pub(crate) fn activate<S: Simd>(s: S, activation: Activation, v: S::V) -> S::V {
    match activation {
        Activation::None => v,
        Activation::Relu => s.max(s.splat(0.0), v),
        Activation::Silu => math::silu(s, v),
    }
}

/// GELU of a product, of codes or not.
#[inline(always)]
fn gelu<S: Simd, const CODES: bool, const N: usize>(s: S, x: [S::V; N]) -> [S::V; N] {
    if CODES { math::gelu_near(s, x) } else { math::gelu(s, x) }
}

/// Finishes the block whose product, in rows of [`GROUP`], is at `product`.
///
/// # Safety
/// - `product` and the block's addresses are valid for its extents, and only y and `squares` are written, by this call alone.
#[inline(always)]
pub(super) unsafe fn finish_body<S: Simd, const CODES: bool>(s: S, product: *const f32, block: &Block) {
    // SAFETY: the caller's contract.
    unsafe {
        match block.destination {
            Destination::Rows { columns } => finish_columns::<S, CODES, true>(s, product, block, columns),
            _ => finish_columns::<S, CODES, false>(s, product, block, 0),
        }
    }
}

/// As [`finish_body`]. Rows of a matrix, of `width` elements, are told apart when this is compiled: addresses that are
/// asked for store by store cost 10 % of a product with GELU.
#[inline(always)]
unsafe fn finish_columns<S: Simd, const CODES: bool, const ROWS: bool>(s: S, product: *const f32, block: &Block, width: usize) {
    let first = block.row * width + block.column;
    let mut j = 0;
    while j < block.columns {
        let run = if ROWS { usize::MAX } else { block.destination.run(block.column + j) };
        let n = S::LANES.min(block.columns - j).min(run);
        // SAFETY: columns j .. j + n of the block.
        unsafe {
            let bias = if block.bias.is_null() { s.splat(0.0) } else { s.load_n(block.bias.add(j), n) };
            let value = |r: usize| s.add(s.load_n(product.add(r * GROUP + j), n), bias);
            let at = |r: usize| if ROWS { first + r * width + j } else { block.destination.at(block.row + r, block.column + j) };
            let store = |r: usize, v: S::V| {
                let to = block.y.add(at(r));
                if ROWS { s.store_n(to, v, n) } else { block.destination.store(s, to, v, n) }
            };
            match block.epilogue {
                Epilogue::NONE => {
                    for r in 0..block.rows {
                        store(r, value(r));
                    }
                }
                Epilogue::Activate { residual, activation } => {
                    for r in 0..block.rows {
                        let v = value(r);
                        let sum = if residual { s.add(v, s.load_n(block.residual.add(at(r)), n)) } else { v };
                        store(r, activate(s, activation, sum));
                    }
                }
                Epilogue::GeluSumsq => {
                    let mut sum = s.splat(0.0);
                    let mut finish = |r: usize, v: S::V| {
                        sum = s.mla(v, v, sum);
                        store(r, v);
                    };
                    for r in (0..block.rows - block.rows % 2).step_by(2) {
                        let [first, second] = gelu::<S, CODES, 2>(s, [value(r), value(r + 1)]);
                        finish(r, first);
                        finish(r + 1, second);
                    }
                    if block.rows % 2 == 1 {
                        let [last] = gelu::<S, CODES, 1>(s, [value(block.rows - 1)]);
                        finish(block.rows - 1, last);
                    }
                    s.store_n(block.squares.add(j), sum, n);
                }
                Epilogue::GatedAdd => {
                    let gate = s.load_n(block.gate.add(j), n);
                    for r in 0..block.rows {
                        store(r, s.mla(gate, value(r), s.load_n(block.residual.add(at(r)), n)));
                    }
                }
            }
        }
        j += n;
    }
}
