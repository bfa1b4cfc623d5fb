//! Weights: where their values come from, and the forms in which an artifact holds them.

use fcdm_ir::Type;
use fcdm_runtime::kernels::{pack_panels, winograd_panel};
use fcdm_runtime::plan::{ALIGN, PANEL, POINTS};

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
    /// The weights `[O, 3, 3, I]` of a convolution, transformed for `Conv2dWinograd`, in panels as well.
    Winograd,
}

/// A weight in a form: one tensor of the artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightUse {
    /// Name in the IR.
    pub weight: String,
    /// Its form.
    pub form: Form,
    /// Its type in the IR.
    pub ty: Type,
}

impl WeightUse {
    /// Name of the tensor in the artifact.
    pub fn tensor_name(&self) -> String {
        match self.form {
            Form::Dense => self.weight.clone(),
            Form::Panels => format!("{}.panels", self.weight),
            Form::Winograd => format!("{}.winograd", self.weight),
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
            Form::Winograd => vec![self.ty.shape[0].div_ceil(PANEL), POINTS, self.ty.shape[3], PANEL],
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
        let mut out = match self.form {
            Form::Dense => values,
            Form::Panels => {
                let shape = self.packed_shape();
                pack_panels(&values, self.ty.shape[0], shape[1])
            }
            Form::Winograd => {
                let (channels, mut out) = (self.ty.shape[3], vec![0.0; self.packed_count()]);
                let panels = out.chunks_exact_mut(POINTS * channels * PANEL);
                values.chunks(PANEL * 9 * channels).zip(panels).for_each(|(w, panel)| winograd_panel(w, channels, panel));
                out
            }
        };
        out.resize(self.stored_shape().iter().product(), 0.0);
        out
    }
}
