//! A group of columns of some rows of a product: summed over taps and channels while it is in L1, finished, and written.

use std::ops::Range;

use super::PARTS;
use super::epilogue::{Block, finish_body};
use super::micro::{Ahead, GROUP, Left, Right, multiply_add_body, stretches};
use super::panel::{Bf16Pairs, F32, Line, Weights};
use super::rows::Images;
use crate::plan::PANEL;
use crate::simd::{Simd, variants};

/// A group of columns of some rows of a product.
pub(super) struct Product<'a> {
    pub images: [Images; PARTS],
    /// The first row.
    pub first: usize,
    pub weights: Weights,
    pub right: Right,
    /// The weights that follow these; prefetched, so that the address need not be valid.
    pub after: *const f32,
    /// Room for the widened stretches of two panels, if the weights are of that kind.
    pub widened: &'a mut [f32],
    /// One address a row.
    pub table: &'a mut [*const f32],
    /// [`GROUP`] sums a row.
    pub sums: &'a mut [f32],
}

variants! {
    /// The product of a group of columns and a block of units, and what follows for each unit.
    ///
    /// # Safety
    /// - Addresses are valid for the product's extents.
    /// - As of [`finish_body`] for the block of every unit.
    pub(super) unsafe fn finished_product(product: Product<'_>, units: Range<usize>, block: &dyn Fn(usize) -> Block) =
        finished_product_body [scalar <4, 8>, avx2 <6, 2>, avx512 <12, 2>, avx512bf16 <12, 2>]
}

#[inline(always)]
unsafe fn finished_product_body<S: Simd, const R: usize, const V: usize>(
    s: S,
    mut p: Product<'_>,
    units: Range<usize>,
    block: &dyn Fn(usize) -> Block,
) {
    // SAFETY: the caller's contract.
    unsafe {
        match p.weights {
            Weights::F32 | Weights::F16 | Weights::Bf16 => multiply_taps::<S, F32, R, V>(s, &mut p),
            Weights::Bf16Pairs => multiply_taps::<S, Bf16Pairs, R, V>(s, &mut p),
        }
    }
    let mut at = 0;
    for unit in units {
        let block = block(unit);
        // SAFETY: the caller's contract.
        unsafe { finish_body(s, p.sums[at..at + block.rows * GROUP].as_ptr(), &block) };
        at += block.rows * GROUP;
    }
}

/// The sums, over all taps and channels.
///
/// # Safety
/// - As of [`finished_product`], the weights being stored as `L` says.
#[inline(always)]
unsafe fn multiply_taps<S: Simd, L: Line, const R: usize, const V: usize>(s: S, p: &mut Product<'_>) {
    let (taps, parts) = (p.images[0].taps.count(), p.images);
    let pixel: usize = parts.iter().map(|part| part.channels).sum();
    for tap in 0..taps {
        // k runs over taps, parts, channels; a part that there is not has no stretch.
        let mut k = 0;
        for (part, channels) in parts.iter().flat_map(|part| stretches(part.channels).map(move |channels| (part, channels))) {
            part.addresses(p.first, tap, &channels, p.table);
            let offset = |k: usize| p.weights.offset(k);
            let start = p.right.start.wrapping_add(tap * offset(pixel) + offset(k));
            let first = tap == 0 && k == 0;
            k += channels.len();
            let last = tap + 1 == taps && k == pixel;
            let after = if last { p.after } else { start.wrapping_add(offset(channels.len())) };
            let (left, step) = (Left { rows: p.table, step: 1 }, channels.len() * PANEL);
            // As many panels as a tile is wide are widened, and multiplied while they are in L1.
            let (panels, widened) = (p.right.panels, p.weights.are_widened());
            let visit = if widened { (V * S::LANES / PANEL).max(1) } else { panels };
            for panel in (0..panels).step_by(visit) {
                let from = start.wrapping_add(panel * p.right.panel_step);
                let mut right = Right { start: from, panels: visit.min(panels - panel), ..p.right };
                let next = if panel + visit < panels { from.wrapping_add(visit * p.right.panel_step) } else { after };
                if widened {
                    assert!(p.widened.len() >= right.panels * step);
                    for i in 0..right.panels {
                        // SAFETY: the panel's stretch; the scratch has room for it.
                        unsafe {
                            let from = from.add(i * right.panel_step);
                            p.weights.widen(s, from, channels.len(), p.widened.as_mut_ptr().add(i * step));
                        }
                    }
                    right = Right { start: p.widened.as_ptr(), panel_step: step, ..right };
                }
                // SAFETY: the caller's contract.
                unsafe {
                    let sums = p.sums.as_mut_ptr().add(panel * PANEL);
                    multiply_add_body::<S, L, R, V, false>(s, left, right, Ahead::weights(next), channels.len(), sums, first);
                }
            }
        }
    }
}
