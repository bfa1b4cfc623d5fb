//! A group of columns of some rows of a product: summed over taps and channels while it is in L1, finished, and written.

use std::ops::Range;

use super::PARTS;
use super::epilogue::{Block, finish_body};
use super::line::{Bf16Pairs, F32, Line};
use super::micro::{Ahead, DEPTH, GROUP, Left, Right, multiply_add_body, stretches};
use super::rows::Images;
use crate::encoding::{At, Parts};
use crate::plan::PANEL;
use crate::simd::bf16::{Bf16Products, bf16_variants};
use crate::simd::{Simd, variants};

/// f32 of the widened stretches of two panels.
pub(super) const WIDENED: usize = 2 * DEPTH * PANEL;

/// A group of columns of some rows of a product.
pub(super) struct Group<'a> {
    pub images: [Images; PARTS],
    /// The first row.
    pub first: usize,
    pub weights: Parts,
    /// The group's first panel, and how many it has, 1 or 2.
    pub panel: usize,
    pub panels: usize,
    /// Room for the widened stretches of two panels, if the weights are widened.
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
    pub(super) unsafe fn finished_product(group: Group<'_>, units: Range<usize>, block: &dyn Fn(usize) -> Block) as FinishedProduct =
        finished_product_body<TILE>
}

bf16_variants! {
    /// As [`finished_product`], rows and weights being pairs of bf16, if they are to be multiplied so.
    ///
    /// # Safety
    /// - As there.
    pub(super) unsafe fn finished_pairs(group: Group<'_>, units: Range<usize>, block: &dyn Fn(usize) -> Block) as FinishedProduct =
        finished_pairs_body
}

#[inline(always)]
unsafe fn finished_product_body<S: Simd, const R: usize, const V: usize>(
    s: S,
    mut group: Group<'_>,
    units: Range<usize>,
    block: &dyn Fn(usize) -> Block,
) {
    // SAFETY: the caller's contract.
    unsafe {
        multiply_taps::<S, F32, R, V>(s, F32, &mut group);
        finish_units::<_, false>(s, &group, units, block);
    }
}

#[inline(always)]
unsafe fn finished_pairs_body<B: Bf16Products, const R: usize, const V: usize>(
    b: B,
    mut group: Group<'_>,
    units: Range<usize>,
    block: &dyn Fn(usize) -> Block,
) {
    // SAFETY: the caller's contract.
    unsafe {
        multiply_taps::<B::Vectors, Bf16Pairs<B>, R, V>(b.vectors(), Bf16Pairs(b), &mut group);
        finish_units::<_, false>(b.vectors(), &group, units, block);
    }
}

/// # Safety
/// - As of [`finished_product`].
#[inline(always)]
pub(super) unsafe fn finish_units<S: Simd, const CODES: bool>(
    s: S,
    group: &Group<'_>,
    units: Range<usize>,
    block: &dyn Fn(usize) -> Block,
) {
    let mut at = 0;
    for unit in units {
        let block = block(unit);
        // SAFETY: the caller's contract.
        unsafe { finish_body::<S, CODES>(s, group.sums[at..at + block.rows * GROUP].as_ptr(), &block) };
        at += block.rows * GROUP;
    }
}

/// The sums, over all taps and channels.
///
/// # Safety
/// - As of [`finished_product`], the rows being what `L` multiplies.
#[inline(always)]
unsafe fn multiply_taps<S: Simd, L: Line<S>, const R: usize, const V: usize>(s: S, l: L, g: &mut Group<'_>) {
    let (taps, parts, panels) = (g.images[0].taps.count(), g.images, g.panels);
    let pixel: usize = parts.iter().map(|part| part.channels).sum();
    let panel_step = g.weights.encoding.panel_step(g.weights.matrix);
    let widened = !L::AS_STORED && !g.weights.encoding.has_lines_of_f32();
    // As many panels as a tile is wide are widened, and multiplied while they are in L1.
    let visit = if widened { (V * S::LANES / PANEL).max(1) } else { panels };
    for tap in 0..taps {
        // k runs over taps, parts, channels; a part that there is not has no stretch.
        let mut k = 0;
        for (part, channels) in parts.iter().flat_map(|part| stretches(part.channels).map(move |channels| (part, channels))) {
            part.addresses(g.first, tap, &channels, g.table);
            let at = |panel: usize, k: usize| At { panel: g.panel + panel, tap, channel: k * L::STEPS };
            let (first, last) = (tap == 0 && k == 0, tap + 1 == taps && k + channels.len() == pixel);
            // What is read next: the next stretch, or the next group's panels. The address need not be valid.
            let after = if last {
                g.weights.line(At { panel: g.panel + panels, tap: 0, channel: 0 })
            } else {
                g.weights.line(at(0, k + channels.len()))
            };
            let (left, step) = (Left { rows: g.table, step: 1 }, channels.len() * PANEL);
            for panel in (0..panels).step_by(visit) {
                let count = visit.min(panels - panel);
                let next = if panel + visit < panels { g.weights.line(at(panel + visit, k)) } else { after };
                let mut right = Right { start: g.weights.line(at(panel, k)), panel_step, panels: count };
                if widened {
                    assert!(g.widened.len() >= count * step);
                    for i in 0..count {
                        // SAFETY: the panel's stretch; the scratch has room for it.
                        unsafe { g.weights.widen(s, at(panel + i, k), channels.len(), g.widened.as_mut_ptr().add(i * step)) };
                    }
                    right = Right { start: g.widened.as_ptr(), panel_step: step, panels: count };
                }
                // SAFETY: the caller's contract.
                unsafe {
                    let sums = g.sums.as_mut_ptr().add(panel * PANEL);
                    multiply_add_body::<S, L, R, V, false>(s, l, left, right, Ahead::weights(next), channels.len(), sums, first);
                }
            }
            k += channels.len();
        }
    }
}
