//! Weights: where their values come from, and the forms in which an artifact holds them.

use std::io::{self, Write};
use std::ops::Range;

use fcdm_ir::Type;
use fcdm_runtime::artifact::write_f32;
use fcdm_runtime::kernels::{pack_pairs, pack_panels};
use fcdm_runtime::plan::{ALIGN, Element, PANEL};

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
    /// It is too large for the type that it is to be stored in.
    #[error("weight `{weight}`: expected magnitudes of at most {most} to store as {element:?}, found {value}")]
    Overflow {
        /// Its name.
        weight: String,
        /// The type.
        element: Element,
        /// The type's greatest number.
        most: f32,
        /// The first value beyond it.
        value: f32,
    },
}

/// The element type that a weight's panels are stored in, by the weight's name: f32, bf16 or f16.
pub type Storage<'a> = dyn Fn(&str) -> Element + 'a;

/// How a kernel wants a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// Row-major, as in the IR.
    Dense,
    /// A matrix `[O, K]` (all axes but the first as one) in panels, as [`Element::packed`] says.
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
    /// The type that its values are stored in.
    pub element: Element,
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
                let (o, taps, channels) = self.matrix();
                self.element.packed(o, taps, channels)
            }
        }
    }

    /// Rows of the matrix, and taps and channels whose product its columns are.
    fn matrix(&self) -> (usize, usize, usize) {
        let [o, taps @ .., channels] = &self.ty.shape[..] else { unreachable!("a matrix has two axes, by the ops' constraints") };
        (*o, taps.iter().product(), *channels)
    }

    /// Number of values in this form.
    pub fn packed_count(&self) -> usize {
        self.packed_shape().iter().product()
    }

    /// Extents of the tensor in the artifact: those that the kernels see, or, where its bytes would not be a multiple
    /// of the alignment, one axis with zeros at its end.
    pub fn stored_shape(&self) -> Vec<usize> {
        let lanes = ALIGN / self.element.bytes();
        let count = self.packed_count();
        if count.is_multiple_of(lanes) { self.packed_shape() } else { vec![count.next_multiple_of(lanes)] }
    }

    /// Parts of the weight, ranges of rows in the order of [`WeightUse::order`], each of which makes the next part of the tensor
    /// by itself; one range if it cannot be parted.
    pub fn pieces(&self) -> Vec<Range<usize>> {
        // Panels are a number of rows, and every piece but the last has a multiple of that.
        pieces(&self.ty.shape)
    }

    /// The same of a part of the weight, whose rows are already in order.
    pub fn part(&self, rows: &Range<usize>) -> WeightUse {
        let mut part = WeightUse { order: Order::Given, ..self.clone() };
        part.ty.shape.iter_mut().take(1).for_each(|extent| *extent = rows.len());
        part
    }

    /// Bytes of the tensor in the artifact.
    pub fn stored_bytes(&self) -> usize {
        self.stored_shape().iter().product::<usize>() * self.element.bytes()
    }

    /// The tensor's values from the weight's, not yet rounded to its element type.
    ///
    /// # Errors
    /// When a number has no finite value in that type.
    pub fn pack(&self, values: Vec<f32>) -> Result<Vec<f32>, WeightError> {
        let most = greatest(self.element);
        if let Some(&value) = values.iter().find(|v| v.is_finite() && v.abs() > most) {
            return Err(WeightError::Overflow { weight: self.weight.clone(), element: self.element, most, value });
        }
        let values = self.order.arrange(values, self.ty.shape.first().copied().unwrap_or(1));
        let mut out = match self.form {
            Form::Dense => values,
            Form::Panels => {
                let (o, taps, channels) = self.matrix();
                match self.element {
                    Element::BF16 => pack_pairs(&values, o, taps, channels),
                    Element::F32 | Element::F16 | Element::I32 => pack_panels(&values, o, taps * channels),
                }
            }
        };
        out.resize(self.stored_shape().iter().product(), 0.0);
        Ok(out)
    }

    /// Writes the tensor's bytes, each value rounded to nearest even.
    ///
    /// # Errors
    /// What `w` says.
    pub fn write(&self, w: &mut dyn Write, values: &[f32]) -> io::Result<()> {
        let round: fn(f32) -> u16 = match self.element {
            Element::BF16 => |v| half::bf16::from_f32(v).to_bits(),
            Element::F16 => |v| half::f16::from_f32(v).to_bits(),
            Element::F32 | Element::I32 => return write_f32(w, values),
        };
        let mut buffer = [0u8; 4096];
        for chunk in values.chunks(buffer.len() / 2) {
            for (bytes, &value) in buffer.chunks_exact_mut(2).zip(chunk) {
                bytes.copy_from_slice(&round(value).to_le_bytes());
            }
            w.write_all(&buffer[..2 * chunk.len()])?;
        }
        Ok(())
    }
}

/// The greatest finite number of the type.
fn greatest(element: Element) -> f32 {
    match element {
        Element::BF16 => half::bf16::MAX.to_f32(),
        Element::F16 => half::f16::MAX.to_f32(),
        Element::F32 | Element::I32 => f32::MAX,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn panels(element: Element, shape: &[usize]) -> WeightUse {
        WeightUse { weight: "w".into(), form: Form::Panels, order: Order::Given, ty: Type::f32(shape.to_vec()), element }
    }

    #[test]
    fn stored_bytes_are_whole_lines() {
        for shape in [&[5, 3][..], &[16, 1], &[33, 3, 3, 5], &[1, 1]] {
            for element in [Element::F32, Element::BF16, Element::F16] {
                let usage = panels(element, shape);
                assert!(usage.stored_bytes().is_multiple_of(ALIGN), "{element:?} {shape:?}");
                let mut bytes = Vec::new();
                usage.write(&mut bytes, &usage.pack(vec![1.0; usage.ty.count()]).unwrap()).unwrap();
                assert_eq!(bytes.len(), usage.stored_bytes());
                let one: &[u8] = match element {
                    Element::BF16 => &[0x80, 0x3f],
                    Element::F16 => &[0, 0x3c],
                    _ => &[0, 0, 0x80, 0x3f],
                };
                assert_eq!(bytes.chunks_exact(one.len()).filter(|b| *b == one).count(), usage.ty.count());
            }
        }
    }

    #[test]
    fn halves_are_the_nearest_and_what_has_none_is_refused() {
        let bits = |element, value: f32| {
            let usage = panels(element, &[1, 1]);
            let mut bytes = Vec::new();
            usage.write(&mut bytes, &usage.pack(vec![value]).unwrap()).unwrap();
            u16::from_le_bytes([bytes[0], bytes[1]])
        };
        // Ties go to the even neighbour.
        assert_eq!([bits(Element::BF16, f32::from_bits(0x3f80_8000)), bits(Element::BF16, f32::from_bits(0x3f81_8000))], [0x3f80, 0x3f82]);
        assert_eq!([bits(Element::F16, 1.0 + 1.0 / 2048.0), bits(Element::F16, 1.0 + 3.0 / 2048.0)], [0x3c00, 0x3c02]);
        assert_eq!([bits(Element::F16, 65504.0), bits(Element::F16, f32::INFINITY), bits(Element::F16, 1e-9)], [0x7bff, 0x7c00, 0]);
        let e = panels(Element::F16, &[1, 2]).pack(vec![1.0, -65505.0]).unwrap_err().to_string();
        assert_eq!(e, "weight `w`: expected magnitudes of at most 65504 to store as F16, found -65505");
        assert!(panels(Element::BF16, &[1, 1]).pack(vec![f32::MAX]).is_err());
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
            for form in [Form::Dense, Form::Panels] {
                if form == Form::Panels && shape.len() < 2 {
                    continue;
                }
                let ty = Type::f32(shape.to_vec());
                let usage = WeightUse { weight: "w".into(), form, order: Order::Given, ty, element: Element::F32 };
                let values: Vec<f32> = (0..usage.ty.count()).map(|i| i as f32 + 1.0).collect();
                let row = values.len() / shape.first().copied().unwrap_or(1).max(1);
                let pieces = usage.pieces();
                let parts = pieces.iter().flat_map(|r| usage.part(r).pack(values[r.start * row..r.end * row].to_vec()).unwrap());
                let made: Vec<f32> = parts.collect();
                assert!(made == usage.pack(values).unwrap(), "{shape:?} {form:?}: {pieces:?}");
                let most = pieces.iter().map(|r| r.len() * row).max().expect("there is a piece");
                assert!(most <= PIECE.max(PANEL * row), "{shape:?}: {most} values at once");
            }
        }
    }

    #[test]
    fn output_channels_of_a_shuffle_are_ordered_by_the_pixel_they_go_to() {
        let usage = |form| WeightUse {
            weight: "w".into(),
            form,
            order: Order::Shuffled { factor: 2 },
            ty: Type::f32([12, 3]),
            element: Element::F32,
        };
        let values: Vec<f32> = (0..36).map(|i| i as f32).collect();
        let dense = usage(Form::Dense).pack(values.clone()).unwrap();
        let first: Vec<f32> = dense[..36].iter().step_by(3).map(|v| v / 3.0).collect();
        assert_eq!(first, [0.0, 4.0, 8.0, 1.0, 5.0, 9.0, 2.0, 6.0, 10.0, 3.0, 7.0, 11.0]);
        let panels = usage(Form::Panels);
        assert_eq!(panels.pack(values).unwrap(), pack_panels(&dense[..36], 12, 3));
        // Pieces of the ordered rows make the tensor.
        let (long, order) = (WeightUse { ty: Type::f32([40, 9]), ..panels.clone() }, panels.order);
        let values: Vec<f32> = (0..360).map(|i| ((i * 7) % 31) as f32).collect();
        let pieces = [0..16, 16..32, 32..40].map(|rows| long.part(&rows).pack(order.rows(&values, 40, rows)).unwrap());
        assert_eq!(pieces.concat(), long.pack(values).unwrap());
        assert_eq!((usage(Form::Dense).tensor_name(), panels.tensor_name()), ("w.shuffled2".into(), "w.panels.shuffled2".into()));
    }
}
