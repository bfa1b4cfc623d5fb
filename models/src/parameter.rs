//! A parameter of a network: its name and shape in checkpoints, how it lies in the IR, and what it is for.
//!
//! PyTorch stores convolutions as `[O,I,KH,KW]`; the IR is channels last.

use std::ops::Range;

use fcdm_ir::Type;

use crate::role::Role;

/// How a checkpoint tensor is laid out anew for the IR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointLayout {
    /// As it is: vectors, linear weights `[O,I]`, tables.
    Same,
    /// `[O,I,KH,KW] -> [O,KH,KW,I]`.
    Convolution,
    /// `[O,I,1,1] -> [O,I]`.
    Pointwise,
    /// `[C,1,KH,KW] -> [KH,KW,C]`.
    Depthwise,
    /// `[1,C,1,1] -> [C]`.
    Channels,
}

/// One parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Name in checkpoints and, as a weight, in the IR.
    pub name: String,
    /// Shape in checkpoints.
    pub shape: Vec<usize>,
    /// How it lies in the IR.
    pub layout: CheckpointLayout,
    /// What it is for.
    pub role: Role,
}

impl Parameter {
    /// Type of the weight in the IR.
    pub fn ty(&self) -> Type {
        let s = &self.shape;
        Type::f32(match self.layout {
            CheckpointLayout::Same => s.clone(),
            CheckpointLayout::Convolution => vec![s[0], s[2], s[3], s[1]],
            CheckpointLayout::Pointwise => vec![s[0], s[1]],
            CheckpointLayout::Depthwise => vec![s[2], s[3], s[0]],
            CheckpointLayout::Channels => vec![s[1]],
        })
    }

    /// Number of values.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// The same of some of the output channels; `None` where they are not the first axis in both orders.
    pub fn part(&self, rows: &Range<usize>) -> Option<Parameter> {
        match self.layout {
            CheckpointLayout::Same | CheckpointLayout::Pointwise | CheckpointLayout::Convolution => {
                let mut part = self.clone();
                *part.shape.first_mut()? = rows.len();
                Some(part)
            }
            CheckpointLayout::Depthwise | CheckpointLayout::Channels => None,
        }
    }

    /// Checkpoint order to IR order.
    pub fn to_ir(&self, values: Vec<f32>) -> Vec<f32> {
        debug_assert_eq!(values.len(), self.count());
        let s = &self.shape;
        match self.layout {
            CheckpointLayout::Same | CheckpointLayout::Pointwise | CheckpointLayout::Channels => values,
            CheckpointLayout::Depthwise => each_transposed(&values, s[0], s[2] * s[3]),
            CheckpointLayout::Convolution => {
                let (i, taps) = (s[1], s[2] * s[3]);
                each_transposed(&values, i, taps)
            }
        }
    }

    /// IR order to checkpoint order.
    pub fn to_checkpoint(&self, values: Vec<f32>) -> Vec<f32> {
        debug_assert_eq!(values.len(), self.count());
        let s = &self.shape;
        match self.layout {
            CheckpointLayout::Same | CheckpointLayout::Pointwise | CheckpointLayout::Channels => values,
            CheckpointLayout::Depthwise => each_transposed(&values, s[2] * s[3], s[0]),
            CheckpointLayout::Convolution => {
                let (i, taps) = (s[1], s[2] * s[3]);
                each_transposed(&values, taps, i)
            }
        }
    }
}

/// Matrices `[rows, columns]`, one after another, to `[columns, rows]` each.
fn each_transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    let size = (rows * columns).max(1);
    for (to, from) in out.chunks_exact_mut(size).zip(values.chunks_exact(size)) {
        for (r, row) in from.chunks_exact(columns).enumerate() {
            row.iter().enumerate().for_each(|(c, &v)| to[c * rows + r] = v);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::role::{LayerKind, ParameterKind, Region, Resolution};

    #[test]
    fn parts_are_laid_out_as_the_whole() {
        for (layout, shape, parted) in [
            (CheckpointLayout::Same, vec![5, 6], true),
            (CheckpointLayout::Pointwise, vec![5, 6, 1, 1], true),
            (CheckpointLayout::Convolution, vec![5, 3, 2, 2], true),
            (CheckpointLayout::Depthwise, vec![5, 1, 3, 3], false),
            (CheckpointLayout::Channels, vec![1, 5, 1, 1], false),
        ] {
            let role =
                Role { layer: LayerKind::Linear, part: ParameterKind::Weight, region: Region::Trunk, resolution: Resolution::Reduced };
            let p = Parameter { name: "w".into(), shape, layout, role };
            let values: Vec<f32> = (0..p.count()).map(|i| i as f32).collect();
            let whole = p.to_ir(values.clone());
            assert_eq!(p.to_checkpoint(whole.clone()), values, "{layout:?}");
            let row = p.count() / 5;
            let part = |rows: Range<usize>| Some(p.part(&rows)?.to_ir(values[rows.start * row..rows.end * row].to_vec()));
            let parts = [0..2, 2..2, 2..5].map(part).into_iter().collect::<Option<Vec<_>>>();
            assert_eq!(parts.map(|parts| parts.concat()), parted.then_some(whole), "{layout:?}");
        }
    }
}
