//! Weights: where their values come from, and the forms in which an artifact holds them.

use fcdm_ir::Type;
use fcdm_runtime::plan::{ALIGN, PANEL};

/// Gives the values of weights, in the IR's layout, row-major.
pub trait WeightSource {
    /// The values of the weight of that name.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    fn load(&self, name: &str) -> Result<Vec<f32>, WeightError>;
}

/// A weight that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum WeightError {
    /// Reading it from the checkpoint failed.
    #[error("{0}")]
    Read(String),
    /// The source does not have it.
    #[error("there is no weight `{0}`")]
    Missing(String),
}

/// How a kernel wants a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// Row-major, as in the IR.
    Dense,
    /// A matrix `[O, K]` (all axes but the first as one) in panels of [`PANEL`] output channels.
    Panels,
}

/// In which order a kernel wants the output channels, the first axis of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Order {
    /// As in the IR.
    Given,
    /// `(dy, dx, c)` where the IR has `(c, dy, dx)`: of a convolution whose result is shuffled by that factor.
    Shuffled {
        /// Pixels that a pixel becomes, along either axis.
        factor: usize,
    },
}

impl Order {
    /// Rows of `values`, which has `o` of them, in this order.
    fn arrange(self, values: Vec<f32>, o: usize) -> Vec<f32> {
        let Order::Shuffled { factor } = self else { return values };
        let (square, row) = (factor * factor, values.len() / o);
        let channels = o / square;
        let source = |to: usize| to % channels * square + to / channels;
        (0..o).flat_map(|to| &values[source(to) * row..][..row]).copied().collect()
    }
}

/// A weight in a form: one tensor of the artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightUse {
    /// Name in the IR.
    pub weight: String,
    /// Its form.
    pub form: Form,
    /// Order of its output channels.
    pub order: Order,
    /// Its type in the IR.
    pub ty: Type,
}

impl WeightUse {
    /// Name of the tensor in the artifact.
    pub fn tensor_name(&self) -> String {
        let form = match self.form {
            Form::Dense => "",
            Form::Panels => ".panels",
        };
        match self.order {
            Order::Given => format!("{}{form}", self.weight),
            Order::Shuffled { factor } => format!("{}{form}.shuffled{factor}", self.weight),
        }
    }

    /// Extents as the kernels see them.
    pub fn packed_shape(&self) -> Vec<usize> {
        match self.form {
            Form::Dense => self.ty.shape.clone(),
            Form::Panels => {
                let o = self.ty.shape[0];
                vec![o.div_ceil(PANEL), self.ty.count() / o.max(1), PANEL]
            }
        }
    }

    /// Number of values in this form.
    pub fn packed_count(&self) -> usize {
        self.packed_shape().iter().product()
    }

    /// Extents of the tensor in the artifact: those that the kernels see, or, where its bytes would not be a multiple
    /// of the alignment, one axis with zeros at its end.
    pub fn stored_shape(&self) -> Vec<usize> {
        let lanes = ALIGN / 4;
        let count = self.packed_count();
        if count.is_multiple_of(lanes) { self.packed_shape() } else { vec![count.next_multiple_of(lanes)] }
    }

    /// The tensor's values from the weight's.
    pub fn pack(&self, values: Vec<f32>) -> Vec<f32> {
        let values = self.order.arrange(values, self.ty.shape[0]);
        let mut out = match self.form {
            Form::Dense => values,
            Form::Panels => {
                let shape = self.packed_shape();
                fcdm_runtime::kernels::pack_panels(&values, self.ty.shape[0], shape[1])
            }
        };
        out.resize(self.stored_shape().iter().product(), 0.0);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_channels_of_a_shuffle_are_ordered_by_the_pixel_they_go_to() {
        let usage = |form| WeightUse { weight: "w".into(), form, order: Order::Shuffled { factor: 2 }, ty: Type::f32([12, 3]) };
        let values: Vec<f32> = (0..36).map(|i| i as f32).collect();
        let dense = usage(Form::Dense).pack(values.clone());
        let first: Vec<f32> = dense[..36].iter().step_by(3).map(|v| v / 3.0).collect();
        assert_eq!(first, [0.0, 4.0, 8.0, 1.0, 5.0, 9.0, 2.0, 6.0, 10.0, 3.0, 7.0, 11.0]);
        let panels = usage(Form::Panels);
        assert_eq!(panels.pack(values), fcdm_runtime::kernels::pack_panels(&dense[..36], 12, 3));
        assert_eq!((usage(Form::Dense).tensor_name(), panels.tensor_name()), ("w.shuffled2".into(), "w.panels.shuffled2".into()));
    }
}
