//! A parameter of a network: its name and shape in checkpoints, and how it lies in the IR.
//!
//! PyTorch stores convolutions as `[O,I,KH,KW]`; the IR is channels last.

use std::ops::Range;

use fcdm_ir::Type;

/// How a checkpoint tensor is laid out anew for the IR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
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
    pub layout: Layout,
}

impl Parameter {
    /// Type of the weight in the IR.
    pub fn ty(&self) -> Type {
        let s = &self.shape;
        Type::f32(match self.layout {
            Layout::Same => s.clone(),
            Layout::Convolution => vec![s[0], s[2], s[3], s[1]],
            Layout::Pointwise => vec![s[0], s[1]],
            Layout::Depthwise => vec![s[2], s[3], s[0]],
            Layout::Channels => vec![s[1]],
        })
    }

    /// Number of values.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// The same of some of the output channels; `None` where they are not the first axis in both orders.
    pub fn part(&self, rows: &Range<usize>) -> Option<Parameter> {
        match self.layout {
            Layout::Same | Layout::Pointwise | Layout::Convolution => {
                let mut part = self.clone();
                *part.shape.first_mut()? = rows.len();
                Some(part)
            }
            Layout::Depthwise | Layout::Channels => None,
        }
    }

    /// Checkpoint order to IR order.
    pub fn to_ir(&self, values: Vec<f32>) -> Vec<f32> {
        debug_assert_eq!(values.len(), self.count());
        let s = &self.shape;
        match self.layout {
            Layout::Same | Layout::Pointwise | Layout::Channels => values,
            Layout::Depthwise => each_transposed(&values, s[0], s[2] * s[3]),
            Layout::Convolution => {
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
            Layout::Same | Layout::Pointwise | Layout::Channels => values,
            Layout::Depthwise => each_transposed(&values, s[2] * s[3], s[0]),
            Layout::Convolution => {
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

/// Parameters in order, as layers bring them.
#[derive(Default)]
pub struct ParameterList(pub Vec<Parameter>);

impl ParameterList {
    /// One parameter.
    pub fn add(&mut self, name: String, shape: Vec<usize>, layout: Layout) {
        self.0.push(Parameter { name, shape, layout });
    }

    /// `NAME.bias [O]`.
    pub fn bias(&mut self, name: &str, o: usize) {
        self.add(format!("{name}.bias"), vec![o], Layout::Same);
    }

    /// `NAME.weight [O,I]` and bias.
    pub fn linear(&mut self, name: &str, o: usize, i: usize) {
        self.add(format!("{name}.weight"), vec![o, i], Layout::Same);
        self.bias(name, o);
    }

    /// `NAME.weight [O,I,1,1]`, perhaps a bias.
    pub fn pointwise(&mut self, name: &str, o: usize, i: usize, bias: bool) {
        self.add(format!("{name}.weight"), vec![o, i, 1, 1], Layout::Pointwise);
        if bias {
            self.bias(name, o);
        }
    }

    /// `NAME.weight [O,I,3,3]`, perhaps a bias.
    pub fn convolution(&mut self, name: &str, o: usize, i: usize, bias: bool) {
        self.add(format!("{name}.weight"), vec![o, i, 3, 3], Layout::Convolution);
        if bias {
            self.bias(name, o);
        }
    }

    /// `NAME.weight [C]` and bias: the affine part of a normalisation.
    pub fn norm(&mut self, name: &str, c: usize) {
        self.add(format!("{name}.weight"), vec![c], Layout::Same);
        self.bias(name, c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_laid_out_as_the_whole() {
        for (layout, shape, parted) in [
            (Layout::Same, vec![5, 6], true),
            (Layout::Pointwise, vec![5, 6, 1, 1], true),
            (Layout::Convolution, vec![5, 3, 2, 2], true),
            (Layout::Depthwise, vec![5, 1, 3, 3], false),
            (Layout::Channels, vec![1, 5, 1, 1], false),
        ] {
            let p = Parameter { name: "w".into(), shape, layout };
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
