//! Encodings: how the numbers of a weight matrix lie in an artifact. A file an encoding, with all there is to know of it: its
//! parts and their element types, how values become it and are had back, how a product reads it; and a line in the table below.
//!
//! A matrix has `O` rows (output channels) and `taps * channels` columns, a linear layer one tap. It is stored in panels of
//! [`PANEL`] rows, each of them a run of lines: the [`PANEL`] rows' values at one column, or at two that are neighbours, zero
//! where there is no row. The layout is the same on every CPU. Whole panels can be encoded apart from each other.
//!
//! Encodings of whole numbers ([`integers`]) serve two kinds of product: of f32, for which they are widened, and of bytes.

mod bf16;
mod f16;
mod f32;
mod i4;
mod i6;
mod i8;
pub(crate) mod integers;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use bf16::Bf16;
pub(crate) use f16::F16;
pub(crate) use f32::F32;
pub(crate) use i4::I4;
pub(crate) use i6::I6;
pub(crate) use i8::I8;
use integers::Integers;
pub use integers::Steps;
use serde::{Deserialize, Serialize};

use crate::plan::{Element, PANEL};
use crate::simd::Simd;

/// Most parts of an encoding.
pub const MAX_PARTS: usize = 4;

/// Extents of a weight matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// Output channels.
    pub rows: usize,
    /// Elements of the window, 1 of a linear layer.
    pub taps: usize,
    /// Input channels.
    pub channels: usize,
}

impl Matrix {
    /// Values of a row.
    pub fn columns(self) -> usize {
        self.taps * self.channels
    }

    /// Panels, the last of which may have rows that there are not.
    pub fn panels(self) -> usize {
        self.rows.div_ceil(PANEL)
    }

    /// Of an operand's extents `[O, taps, channels]`.
    pub fn of(shape: &[usize]) -> Option<Matrix> {
        let &[rows, taps, channels] = shape else { return None };
        Some(Matrix { rows, taps, channels })
    }
}

/// One tensor of an encoded matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What its name has behind the matrix's.
    pub suffix: &'static str,
    /// Element type.
    pub element: Element,
    /// Extents; panels come first, so that whole panels are a part of it.
    pub shape: Vec<usize>,
}

impl Part {
    /// Bytes of its elements.
    pub fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.element.bytes()
    }
}

/// A value that an encoding has no number for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overflow {
    /// The value.
    pub value: f32,
    /// The greatest magnitude that there is.
    pub most: f32,
}

/// Everything there is to know of an encoding. No method has a default.
pub(crate) trait EncodingDef {
    /// Its tensors, [`MAX_PARTS`] at most.
    fn parts(m: Matrix) -> Vec<Part>;

    /// The bytes of each part from the values `[rows, taps, channels]`.
    ///
    /// # Errors
    /// A finite value beyond what can be represented.
    fn encode(values: &[f32], m: Matrix) -> Result<Vec<Vec<u8>>, Overflow>;

    /// The values that the bytes of all parts stand for.
    fn decode(parts: &[&[u8]], m: Matrix) -> Vec<f32>;

    /// Whether a line is [`PANEL`] f32, which a product reads as they are. Any other is widened a stretch at a time.
    const LINES_OF_F32: bool;

    /// Whether a value is a whole number, of a signed byte, times its row's scale: what products of bytes read.
    const INTEGERS: bool;

    /// Neighbouring channels of a tap that a line has together.
    const TOGETHER: usize;

    /// Whether the first part is quads of such numbers, which a product reads as they are.
    const QUADS: bool;

    /// Bytes, in the first part, from one panel to the next.
    fn panel_bytes(m: Matrix) -> usize;

    /// Bytes, in the first part, from a panel's beginning to the line of a tap's channel, which is a multiple of 4 or the end.
    fn line(m: Matrix, tap: usize, channel: usize) -> usize;

    /// Values of rows `j ..` of a panel at a tap's channel, a vector of them.
    ///
    /// # Safety
    /// - `parts` are those of a matrix of these extents, which has that panel, tap and channel; `j + LANES <= PANEL`.
    unsafe fn lanes<S: Simd>(s: S, parts: &Parts, at: At, j: usize) -> S::V;

    /// Of rows `j ..` of a panel, a vector of them, the whole numbers at a tap's channel, a multiple of 4, and the three behind it, as
    /// signed bytes.
    ///
    /// # Safety
    /// - As of [`EncodingDef::lanes`]; it has [`EncodingDef::INTEGERS`]. Of the three there may be none.
    unsafe fn quads<S: Simd>(s: S, parts: &Parts, at: At, j: usize) -> S::V;

    /// Values of all rows of a panel at `count` channels of a tap from `at` on, as lines of f32.
    ///
    /// # Safety
    /// - As of [`EncodingDef::lanes`], for all of these channels; `out` is valid for `count` lines.
    unsafe fn widen<S: Simd>(s: S, parts: &Parts, at: At, count: usize, out: *mut f32);
}

/// An encoded matrix in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts {
    pub encoding: Encoding,
    pub matrix: Matrix,
    /// Addresses of the parts.
    pub addresses: [*const u8; MAX_PARTS],
}

/// A place in a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub panel: usize,
    pub tap: usize,
    pub channel: usize,
}

impl Parts {
    /// Lines of f32 at an address.
    pub fn lines_of_f32(matrix: Matrix, address: *const f32) -> Parts {
        let none = std::ptr::null();
        Parts { encoding: Encoding::F32, matrix, addresses: [address.cast(), none, none, none] }
    }
}

/// The table: hands all encodings to a macro, behind what is given with its name.
macro_rules! encodings {
    ($($then:ident)::+ { $($given:tt)* }) => {
        $($then)::+! { $($given)*
            /// Lines of f32, as they are: `[panels, taps * channels, 16]`.
            "f32" = F32;
            /// binary16, of 11 significant bits up to 65504: `[panels, taps * channels, 16]`.
            "f16" = F16;
            /// The upper half of f32, of 8 significant bits, neighbouring channels in pairs: `[panels, taps * ceil(channels / 2), 16, 2]`.
            /// Pairs do not straddle taps: where the number of channels is odd, a tap's last one is paired with zero.
            "bf16" = Bf16;
            /// Whole numbers of 8 bits times a scale a row: see [`integers`].
            "i8" = I8;
            /// Whole numbers of 6 bits times a scale a row.
            "i6" = I6;
            /// Whole numbers of 4 bits times a multiplier for every 32 channels times a scale a row.
            "i4" = I4;
        }
    };
}
pub(crate) use encodings;

macro_rules! define {
    ($($(#[$doc:meta])* $text:literal = $name:ident;)*) => {
        /// An encoding of a weight matrix.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Encoding {
            #[default]
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl Encoding {
            /// All there are.
            pub const ALL: &'static [Encoding] = &[$(Encoding::$name),*];

            /// Its name in plans and IR.
            pub fn name(self) -> &'static str {
                match self { $(Encoding::$name => $text,)* }
            }
        }
    };
}
encodings! { define {} }

/// An expression in which a type stands for the encoding that a value names.
macro_rules! of_encoding {
    (($encoding:expr) $E:ident => $body:expr; $($(#[$doc:meta])* $text:literal = $name:ident;)*) => {
        match $encoding {
            $($crate::encoding::Encoding::$name => {
                type $E = $crate::encoding::$name;
                $body
            })*
        }
    };
}
pub(crate) use of_encoding;

/// An expression in which a type stands for the encoding of whole numbers that a value names, and another one for all others.
macro_rules! integer_encodings {
    ($encoding:expr, $I:ident => $body:expr, else $other:expr) => {
        match $encoding {
            Encoding::I8 => {
                type $I = I8;
                $body
            }
            Encoding::I6 => {
                type $I = I6;
                $body
            }
            Encoding::I4 => {
                type $I = I4;
                $body
            }
            Encoding::F32 | Encoding::F16 | Encoding::Bf16 => $other,
        }
    };
}

impl Encoding {
    /// The encoding of that name.
    pub fn named(name: &str) -> Option<Encoding> {
        Encoding::ALL.iter().copied().find(|e| e.name() == name)
    }

    /// The tensors of a matrix, [`MAX_PARTS`] at most.
    pub fn parts(self, m: Matrix) -> Vec<Part> {
        encodings! { of_encoding { (self) E => E::parts(m); } }
    }

    /// The bytes of each part from the values `[rows, taps, channels]`, row-major.
    ///
    /// # Errors
    /// A finite value beyond what the encoding can represent.
    ///
    /// # Panics
    /// If there are not as many values.
    pub fn encode(self, values: &[f32], m: Matrix) -> Result<Vec<Vec<u8>>, Overflow> {
        assert_eq!(values.len(), m.rows * m.columns(), "values of {m:?}");
        encodings! { of_encoding { (self) E => E::encode(values, m); } }
    }

    /// The values `[rows, taps, channels]` that the bytes of all parts stand for.
    ///
    /// # Panics
    /// If the parts have not the bytes that [`Encoding::parts`] says.
    pub fn decode(self, parts: &[&[u8]], m: Matrix) -> Vec<f32> {
        encodings! { of_encoding { (self) E => E::decode(parts, m); } }
    }

    /// Whether products read its lines as f32; else they are widened.
    pub(crate) fn has_lines_of_f32(self) -> bool {
        encodings! { of_encoding { (self) E => E::LINES_OF_F32; } }
    }

    /// The grid of whole numbers that is nearest to values, where the squared error of every column counts so much, or alike if there is no
    /// importance; `None` if the encoding is of floats.
    ///
    /// # Panics
    /// If there are not as many values, or as many columns.
    pub fn steps(self, values: &[f32], m: Matrix, importance: &[f32]) -> Option<Steps> {
        assert_eq!(values.len(), m.rows * m.columns(), "values of {m:?}");
        assert!(importance.is_empty() || importance.len() == m.columns(), "columns of {m:?}");
        integer_encodings! { self, I => Some(I::steps(values, m, importance)), else None }
    }

    /// The least and the greatest whole number; `None` if the encoding is of floats.
    pub fn range(self) -> Option<[f32; 2]> {
        integer_encodings! { self, I => Some(I::RANGE), else None }
    }

    /// The bytes of each part of whole numbers `[rows, taps, channels]` on a grid; `None` if the encoding is of floats.
    ///
    /// # Panics
    /// If there are not as many numbers, or some are out of range.
    pub fn pack(self, numbers: &[i8], steps: &Steps, m: Matrix) -> Option<Vec<Vec<u8>>> {
        assert_eq!(numbers.len(), m.rows * m.columns(), "numbers of {m:?}");
        let [least, most] = self.range()?;
        assert!(numbers.iter().all(|&q| (least..=most).contains(&f32::from(q))), "numbers in range");
        integer_encodings! { self, I => Some(integers::packed::<I>(numbers, steps, m)), else None }
    }

    /// Whether values are whole numbers times a scale: what codes can be multiplied by ([`crate::kernels::Left::U8`]).
    pub fn has_integers(self) -> bool {
        encodings! { of_encoding { (self) E => E::INTEGERS; } }
    }

    /// Neighbouring channels of a tap that lie together: a product reads whole lines.
    pub(crate) fn together(self) -> usize {
        encodings! { of_encoding { (self) E => E::TOGETHER; } }
    }

    /// Whether these read its quads as they are stored.
    pub(crate) fn has_quads(self) -> bool {
        encodings! { of_encoding { (self) E => E::QUADS; } }
    }

    /// f32, in the first part, from one panel to the next.
    pub(crate) fn panel_step(self, m: Matrix) -> usize {
        encodings! { of_encoding { (self) E => E::panel_bytes(m); } }.div_ceil(size_of::<f32>())
    }

    /// Bytes of a matrix where its parts lie one behind the other, each at a multiple of `align`.
    pub fn bytes(self, m: Matrix, align: usize) -> usize {
        self.parts(m).iter().map(|part| part.bytes().next_multiple_of(align)).sum()
    }
}

impl Parts {
    /// The address of a line in the first part; that behind a tap's last channel is the next tap's first. It need not exist.
    pub fn line(&self, at: At) -> *const f32 {
        encodings! { of_encoding { (self.encoding) E => self.line_of::<E>(at); } }
    }

    /// As [`Parts::line`], of an encoding that the caller knows.
    #[inline(always)]
    pub fn line_of<E: EncodingDef>(&self, at: At) -> *const f32 {
        let offset = at.panel * E::panel_bytes(self.matrix) + E::line(self.matrix, at.tap, at.channel);
        self.addresses[0].wrapping_add(offset).cast()
    }

    /// See [`EncodingDef::widen`].
    ///
    /// # Safety
    /// - As there.
    #[inline(always)]
    pub unsafe fn widen<S: Simd>(&self, s: S, at: At, count: usize, out: *mut f32) {
        // SAFETY: the caller's contract.
        encodings! { of_encoding { (self.encoding) E => unsafe { E::widen(s, self, at, count, out) }; } }
    }
}

/// Fails for a finite value of a greater magnitude.
///
/// # Errors
/// The first.
pub fn no_more_than(values: &[f32], most: f32) -> Result<(), Overflow> {
    match values.iter().find(|v| v.is_finite() && v.abs() > most) {
        Some(&value) => Err(Overflow { value, most }),
        None => Ok(()),
    }
}

/// The bytes of `count` elements, in which the values `[rows, taps, channels]` are where their encoding has them, by the row, tap and
/// channel, and all others are zero.
fn placed<const N: usize>(
    values: &[f32],
    m: Matrix,
    count: usize,
    place: impl Fn(usize, usize, usize) -> usize,
    each: impl Fn(f32) -> [u8; N],
) -> Vec<u8> {
    let mut out = vec![0; count * N];
    for (row, values) in values.chunks_exact(m.columns().max(1)).enumerate() {
        for (tap, values) in values.chunks_exact(m.channels.max(1)).enumerate() {
            for (channel, &value) in values.iter().enumerate() {
                let at = place(row, tap, channel) * N;
                out[at..at + N].copy_from_slice(&each(value));
            }
        }
    }
    out
}

/// The reverse of [`placed`].
fn taken(m: Matrix, place: impl Fn(usize, usize, usize) -> usize, value: impl Fn(usize) -> f32) -> Vec<f32> {
    let at = |i: usize| (i / m.columns(), i % m.columns() / m.channels, i % m.columns() % m.channels);
    (0..m.rows * m.columns()).map(at).map(|(row, tap, channel)| value(place(row, tap, channel))).collect()
}
