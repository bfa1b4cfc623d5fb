//! Weights: where their values come from, and the forms in which an artifact holds them.

use std::ops::Range;

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

    /// As [`WeightSource::load`], of a part: `rows` are indices of the weight's first axis, all of which it has.
    ///
    /// # Errors
    /// As there.
    fn load_rows(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>, WeightError>;
}

/// Values of a piece of a weight, about: 4 MB, so that what is made of it is still in the cache when it is written, and
/// that memory does not hold whole weights, which have up to hundreds of megabytes.
const PIECE: usize = 1 << 20;

/// Cuts a tensor of this shape along its first axis: at most about [`PIECE`] values each. All but the last have a multiple of
/// [`PANEL`] rows, hence also whole units of the artifact's alignment.
pub fn pieces(shape: &[usize]) -> Vec<Range<usize>> {
    let rows = shape.first().copied().unwrap_or(1);
    let row: usize = shape.iter().skip(1).product();
    let at_once = (PIECE / row.max(1)).max(PANEL) / PANEL * PANEL;
    (0..rows.max(1)).step_by(at_once).map(|start| start..rows.min(start + at_once)).collect()
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

    /// Parts of the weight, ranges of indices of its first axis in order, each of which makes the next part of the tensor by
    /// itself; one range if it cannot be parted.
    pub fn pieces(&self) -> Vec<Range<usize>> {
        // Panels are a number of rows, transformed or not, and every piece but the last has a multiple of that.
        pieces(&self.ty.shape)
    }

    /// The same of a part of the weight.
    pub fn part(&self, rows: &Range<usize>) -> WeightUse {
        let mut part = self.clone();
        part.ty.shape.iter_mut().take(1).for_each(|extent| *extent = rows.len());
        part
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_the_tensor() {
        let shapes: [&[usize]; 10] = [
            &[40, 3, 3, 3000],
            &[],
            &[0, 3],
            &[5],
            &[(1 << 20) + 7],
            &[70, 5],
            &[33, 40_000],
            &[96, 30_000],
            &[100, 1, 200, 100],
            &[7, 7, 40_000],
        ];
        for shape in shapes {
            for form in [Form::Dense, Form::Panels, Form::Winograd] {
                if form == Form::Panels && shape.is_empty() || form == Form::Winograd && (shape.len() != 4 || shape[1..3] != [3, 3]) {
                    continue;
                }
                let usage = WeightUse { weight: "w".into(), form, ty: Type::f32(shape.to_vec()) };
                let values: Vec<f32> = (0..usage.ty.count()).map(|i| i as f32 + 1.0).collect();
                let row = values.len() / shape.first().copied().unwrap_or(1).max(1);
                let pieces = usage.pieces();
                let parts = pieces.iter().flat_map(|r| usage.part(r).pack(values[r.start * row..r.end * row].to_vec()));
                let made: Vec<f32> = parts.collect();
                assert!(made == usage.pack(values), "{shape:?} {form:?}: {pieces:?}");
                let most = pieces.iter().map(|r| r.len() * row).max().expect("there is a piece");
                assert!(most <= PIECE.max(PANEL * row), "{shape:?}: {most} values at once");
            }
        }
    }
}
