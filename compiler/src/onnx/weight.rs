//! Weights of an imported function: a constant of the model, in the layout that an op wants.

use std::ops::Range;
use std::sync::Arc;

use super::constant::{Constant, permuted};

/// How a weight is made of a constant: seen under the extents `view`, its axes permuted, and seen under `shape`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Arrangement {
    pub view: Vec<usize>,
    pub perm: Vec<usize>,
    pub shape: Vec<usize>,
}

/// A weight of an imported function.
#[derive(Clone, Debug)]
pub struct Weight {
    pub(super) constant: Arc<Constant>,
    pub(super) form: Arrangement,
}

impl Weight {
    /// True if it follows from the extents of an input: at other extents it may have other values, or another shape. All others
    /// follow from the file alone.
    pub fn of_size(&self) -> bool {
        self.constant.of_size
    }

    /// Whether another weight, of the same model or of another, has this one's shape and values.
    pub fn equals(&self, other: &Weight) -> bool {
        self.form.shape == other.form.shape
            && ((Arc::ptr_eq(&self.constant, &other.constant) && self.form == other.form)
                || self.values().iter().map(|v| v.to_bits()).eq(other.values().iter().map(|v| v.to_bits())))
    }

    /// The values in the function's layout.
    pub fn values(&self) -> Vec<f32> {
        permuted(&self.constant.as_floats(), &self.form.view, &self.form.perm)
    }

    /// Those of a range of the first axis.
    pub fn rows(&self, rows: Range<usize>) -> Vec<f32> {
        let values = self.values();
        let row = values.len() / self.form.shape.first().copied().unwrap_or(1).max(1);
        values[rows.start * row..rows.end * row].to_vec()
    }
}
