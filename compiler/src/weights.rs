//! Weights: where their values come from, and the tensors that an artifact holds of them.

use std::ops::Range;

use fcdm_ir::Type;
use fcdm_runtime::encoding::{Encoding, Matrix, Overflow, no_more_than};
use fcdm_runtime::kernels::Rearrange;
use fcdm_runtime::plan::{ALIGN, Element, Form, PANEL};

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
    /// It is too large for the encoding that it is to be stored in.
    #[error("weight `{weight}`: expected magnitudes of at most {} to store as {}, found {}", .overflow.most, .encoding.name(), .overflow.value)]
    Overflow {
        /// Its name.
        weight: String,
        /// The encoding.
        encoding: Encoding,
        /// The first value beyond it, and its greatest number.
        overflow: Overflow,
    },
}

/// A weight `[O, .., I]` as the matrix of a product: all axes between are taps.
pub fn matrix(shape: &[usize]) -> Matrix {
    let [rows, taps @ .., channels] = shape else { unreachable!("a matrix has two axes, by the ops' constraints") };
    Matrix { rows: *rows, taps: taps.iter().product(), channels: *channels }
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
    /// Of the weights of a convolution whose result is rearranged so.
    pub fn of(rearrange: Rearrange) -> Order {
        match rearrange {
            Rearrange::Shuffle { factor } => Order::Shuffled { factor },
            Rearrange::Keep | Rearrange::Unshuffle { .. } => Order::Given,
        }
    }

    /// Rows `rows`, counted in this order, of `values`, which has `o` of them as in the IR.
    pub fn rows(self, values: &[f32], o: usize, rows: Range<usize>) -> Vec<f32> {
        let row = values.len() / o;
        let Order::Shuffled { factor } = self else { return values[rows.start * row..rows.end * row].to_vec() };
        let square = factor * factor;
        let channels = o / square;
        let source = |to: usize| to % channels * square + to / channels;
        rows.flat_map(|to| &values[source(to) * row..][..row]).copied().collect()
    }

    /// All rows.
    fn arrange(self, values: Vec<f32>, o: usize) -> Vec<f32> {
        if self == Order::Given { values } else { self.rows(&values, o, 0..o) }
    }
}

/// A weight in a form: a tensor of the artifact, or some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightUse {
    /// Name in the IR.
    pub weight: String,
    /// How its numbers lie.
    pub form: Form,
    /// Order of its output channels.
    pub order: Order,
    /// Its type in the IR.
    pub ty: Type,
}

/// A tensor of the artifact: a part of a weight in a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// Which part it is.
    pub part: usize,
    /// Element type.
    pub element: Element,
    /// Extents: those that the kernels see, or, where its bytes would not be a multiple of the alignment, one axis with zeros at its
    /// end.
    pub shape: Vec<usize>,
}

impl Stored {
    fn new(name: String, part: usize, element: Element, shape: Vec<usize>) -> Stored {
        let (lanes, count) = (ALIGN / element.bytes(), shape.iter().product::<usize>());
        let shape = if count.is_multiple_of(lanes) { shape } else { vec![count.next_multiple_of(lanes)] };
        Stored { name, part, element, shape }
    }

    /// Its bytes.
    pub fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.element.bytes()
    }
}

impl WeightUse {
    /// What the plan calls it: the tensor's name, or what the names of its parts begin with.
    pub fn name(&self) -> String {
        match self.order {
            Order::Given => self.weight.clone(),
            Order::Shuffled { factor } => format!("{}.shuffled{factor}", self.weight),
        }
    }

    /// The name of its first tensor, which no other use has: the same weight may be there densely too.
    pub fn key(&self) -> String {
        self.stored().swap_remove(0).name
    }

    /// The tensors that it is.
    pub fn stored(&self) -> Vec<Stored> {
        match self.form {
            Form::Dense(element) => vec![Stored::new(self.name(), 0, element, self.ty.shape.clone())],
            Form::Encoded(encoding) => {
                let parts = encoding.parts(matrix(&self.ty.shape)).into_iter().enumerate();
                parts.map(|(i, p)| Stored::new(format!("{}{}", self.name(), p.suffix), i, p.element, p.shape)).collect()
            }
        }
    }

    /// Bytes as a kernel sees it.
    pub fn bytes(&self) -> usize {
        match self.form {
            Form::Dense(element) => self.ty.count() * element.bytes(),
            Form::Encoded(encoding) => encoding.bytes(matrix(&self.ty.shape), ALIGN),
        }
    }

    /// Pieces of the weight, ranges of rows in the order of [`WeightUse::order`], each of which makes the next piece of every tensor
    /// by itself; one range if it cannot be parted.
    pub fn pieces(&self) -> Vec<Range<usize>> {
        // Panels are a number of rows, and every piece but the last has a multiple of that.
        pieces(&self.ty.shape)
    }

    /// The same of a piece of the weight, whose rows are already in order.
    pub fn piece(&self, rows: &Range<usize>) -> WeightUse {
        let mut piece = WeightUse { order: Order::Given, ..self.clone() };
        piece.ty.shape.iter_mut().take(1).for_each(|extent| *extent = rows.len());
        piece
    }

    /// The bytes of a part from the weight's values.
    ///
    /// # Errors
    /// When a finite number has none in the encoding.
    pub fn encode(&self, values: Vec<f32>, part: usize) -> Result<Vec<u8>, WeightError> {
        Ok(self.encode_all(values)?.swap_remove(part))
    }

    /// The bytes of every part, which are made together.
    ///
    /// # Errors
    /// As of [`WeightUse::encode`].
    pub fn encode_all(&self, values: Vec<f32>) -> Result<Vec<Vec<u8>>, WeightError> {
        let values = self.order.arrange(values, self.ty.shape.first().copied().unwrap_or(1));
        match self.form {
            Form::Dense(Element::F16) => {
                let overflow = |overflow| WeightError::Overflow { weight: self.weight.clone(), encoding: Encoding::F16, overflow };
                no_more_than(&values, half::f16::MAX.to_f32()).map_err(overflow)?;
                Ok(vec![values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect()])
            }
            Form::Dense(_) => {
                let mut bytes = vec![0; values.len() * size_of::<f32>()];
                bytes.chunks_exact_mut(size_of::<f32>()).zip(values).for_each(|(b, v)| b.copy_from_slice(&v.to_le_bytes()));
                Ok(vec![bytes])
            }
            Form::Encoded(encoding) => {
                let overflow = |overflow| WeightError::Overflow { weight: self.weight.clone(), encoding, overflow };
                encoding.encode(&values, matrix(&self.ty.shape)).map_err(overflow)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn usage(form: Form, shape: &[usize]) -> WeightUse {
        WeightUse { weight: "w".into(), form, order: Order::Given, ty: Type::f32(shape.to_vec()) }
    }

    fn forms() -> impl Iterator<Item = Form> {
        [Form::F32].into_iter().chain(Encoding::ALL.iter().map(|&e| Form::Encoded(e)))
    }

    #[test]
    fn stored_bytes_are_whole_lines() {
        for shape in [&[5, 3][..], &[16, 1], &[33, 3, 3, 5], &[1, 1]] {
            for form in forms() {
                let usage = usage(form, shape);
                for stored in usage.stored() {
                    assert!(stored.bytes().is_multiple_of(ALIGN), "{form:?} {shape:?}");
                    let bytes = usage.encode(vec![1.0; usage.ty.count()], stored.part).unwrap();
                    assert!(bytes.len() <= stored.bytes() && bytes.len() + ALIGN > stored.bytes(), "{form:?} {shape:?}");
                }
            }
        }
    }

    #[test]
    fn what_has_no_number_is_refused() {
        let e = usage(Form::Encoded(Encoding::F16), &[1, 2]).encode(vec![1.0, -65505.0], 0).unwrap_err().to_string();
        assert_eq!(e, "weight `w`: expected magnitudes of at most 65504 to store as f16, found -65505");
    }

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
            for form in [Form::F32, Form::Encoded(Encoding::F32), Form::Encoded(Encoding::Bf16)] {
                if form != Form::F32 && shape.len() < 2 {
                    continue;
                }
                let usage = usage(form, shape);
                let values: Vec<f32> = (0..usage.ty.count()).map(|i| i as f32 + 1.0).collect();
                let row = values.len() / shape.first().copied().unwrap_or(1).max(1);
                let pieces = usage.pieces();
                let made = pieces.iter().flat_map(|r| usage.piece(r).encode(values[r.start * row..r.end * row].to_vec(), 0).unwrap());
                let made: Vec<u8> = made.collect();
                assert!(made == usage.encode(values, 0).unwrap(), "{shape:?} {form:?}: {pieces:?}");
                let most = pieces.iter().map(|r| r.len() * row).max().expect("there is a piece");
                assert!(most <= PIECE.max(PANEL * row), "{shape:?}: {most} values at once");
            }
        }
    }

    #[test]
    fn output_channels_of_a_shuffle_are_ordered_by_the_pixel_they_go_to() {
        let shuffled =
            |form, rows: usize, columns: usize| WeightUse { order: Order::Shuffled { factor: 2 }, ..usage(form, &[rows, columns]) };
        let values: Vec<f32> = (0..36).map(|i| i as f32).collect();
        let dense = shuffled(Form::F32, 12, 3).encode(values.clone(), 0).unwrap();
        let dense: Vec<f32> = dense.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let first: Vec<f32> = dense.iter().step_by(3).map(|v| v / 3.0).collect();
        assert_eq!(first, [0.0, 4.0, 8.0, 1.0, 5.0, 9.0, 2.0, 6.0, 10.0, 3.0, 7.0, 11.0]);
        let panels = shuffled(Form::Encoded(Encoding::F32), 12, 3);
        assert_eq!(panels.encode(values, 0).unwrap(), usage(panels.form, &[12, 3]).encode(dense, 0).unwrap());
        // Pieces of the ordered rows make the tensor.
        let long = shuffled(panels.form, 40, 9);
        let values: Vec<f32> = (0..360).map(|i| ((i * 7) % 31) as f32).collect();
        let pieces = [0..16, 16..32, 32..40].map(|rows| long.piece(&rows).encode(long.order.rows(&values, 40, rows), 0).unwrap());
        assert_eq!(pieces.concat(), long.encode(values, 0).unwrap());
        assert_eq!(
            (shuffled(Form::F32, 12, 3).stored()[0].name.as_str(), panels.stored()[0].name.as_str()),
            ("w.shuffled2", "w.shuffled2.panels")
        );
    }
}
