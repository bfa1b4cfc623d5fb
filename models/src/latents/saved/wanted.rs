//! What is looked for where latents are saved: the latents, what `encode` stores beside them, or their labels.

use super::array::Element;
use crate::latents::Array;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// An array of the latents' shape: themselves, or what `encode` stores beside them.
    Array(Array),
    /// A class for each.
    Labels,
}

/// What the folder of latents ends in.
pub(super) const FEATURES: &str = "_features";

impl Wanted {
    /// The latents themselves.
    pub const LATENTS: Wanted = Wanted::Array(Array::Latents);

    /// Names of the array, the first in zarr stores.
    pub(super) fn names(self) -> &'static [&'static str] {
        match self {
            // NumPy's for an array without a name.
            Wanted::Array(Array::Latents) => &["latents", "arr_0"],
            Wanted::Array(Array::Deviations) => &["deviations"],
            Wanted::Array(Array::FlippedLatents) => &["flipped_latents"],
            Wanted::Array(Array::FlippedDeviations) => &["flipped_deviations"],
            Wanted::Labels => &["labels", "arr_1", "y"],
        }
    }

    /// What the folder of `.npy` files ends in, in the place of [`FEATURES`].
    pub(super) fn ending(self) -> &'static str {
        match self {
            Wanted::Array(Array::Latents) => FEATURES,
            Wanted::Array(Array::Deviations) => "_deviations",
            Wanted::Array(Array::FlippedLatents) => "_flipped_features",
            Wanted::Array(Array::FlippedDeviations) => "_flipped_deviations",
            Wanted::Labels => "_labels",
        }
    }

    /// The element type of that name, if it may be these.
    pub(super) fn element(self, descr: &str) -> Option<Element> {
        Element::named(descr).filter(|e| e.is_integer() == (self == Wanted::Labels))
    }

    /// Those types, in words.
    pub(super) fn elements(self) -> &'static str {
        if self == Wanted::Labels { "i1 to i8 or u1 to u8 elements" } else { "f2, f4 or f8 elements" }
    }

    /// Number and shape of each, of an array of such axes.
    pub(super) fn parts(self, shape: &[usize]) -> Option<(usize, [usize; 3])> {
        let parts = match (self, shape) {
            (Wanted::Array(_), &[c, h, w]) => (1, [c, h, w]),
            (Wanted::Array(_), &[n, c, h, w]) => (n, [c, h, w]),
            (Wanted::Labels, []) => (1, [1; 3]),
            (Wanted::Labels, &[n] | &[n, 1]) => (n, [1; 3]),
            _ => return None,
        };
        Some(parts).filter(|(n, image)| *n > 0 && !image.contains(&0))
    }

    /// Those axes, in words.
    pub(super) fn shapes(self) -> &'static str {
        if self == Wanted::Labels { "shape [n] or [n,1]" } else { "shape [n,C,h,w] or [C,h,w]" }
    }

    /// What they are called.
    pub(super) fn what(self) -> &'static str {
        match self {
            Wanted::Array(Array::Latents) => "latents",
            Wanted::Array(Array::Deviations | Array::FlippedDeviations) => "standard deviations",
            Wanted::Array(Array::FlippedLatents) => "latents of mirrored pictures",
            Wanted::Labels => "labels",
        }
    }

    /// All but the latents themselves.
    pub(super) const OTHERS: [Wanted; 4] =
        [Wanted::Labels, Wanted::Array(Array::Deviations), Wanted::Array(Array::FlippedLatents), Wanted::Array(Array::FlippedDeviations)];
}
