//! The plan: what the compiler hands to the runtime. A list of steps per entry point, over one arena whose
//! offsets were fixed at compile time. It is data: serialised as JSON into the artifact, checked in full when
//! loaded ([`crate::check`]), and never able to do more than run the kernels below on memory it was given.
//!
//! Tensors are dense, row-major, channels last. Every operand states its own shape, which need not be the shape
//! under which another step sees the same bytes: a reshape costs nothing.

use serde::{Deserialize, Serialize};

use crate::encoding::{Encoding, Matrix};
use crate::entry_name::{DecoderKind, EntryName};
use crate::kernels::Kernel;

/// Version of the plan's format. A reader refuses every other.
pub const VERSION: u32 = 7;

/// Output channels of one panel of a packed weight matrix, on every CPU.
pub const PANEL: usize = 16;

/// Alignment in bytes of tensors in the artifact and of operands in the arena.
pub const ALIGN: usize = 64;

/// All entry points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`VERSION`].
    pub version: u32,
    /// Whether it gives the same bits on every instruction set, of whatever is a number. Pairs of bf16 are then multiplied as f32,
    /// and scalar code takes its time to round multiply-adds once ([`crate::simd::Isa::reproducible`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reproducible: bool,
    /// The entry points; the pair of name and rows is unique.
    pub entries: Vec<Entry>,
}

/// One function at one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Name of the function: the text of an [`EntryName`], or any other, which nothing looks for.
    pub name: String,
    /// Batch size: the first extent of every input and output.
    pub rows: usize,
    /// What the caller provides.
    pub inputs: Vec<Port>,
    /// What the caller receives.
    pub outputs: Vec<Port>,
    /// What is kept from one run to the next, and shared by all entries that name it: parameters that are trained, say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub state: Vec<Port>,
    /// Bytes of arena needed.
    pub arena_bytes: usize,
    /// Bytes of the largest set of values alive at one time: no plan without recomputation needs less.
    pub arena_lower_bound: usize,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

impl Plan {
    /// A plan like this one, of these entries.
    pub fn with_entries(&self, entries: Vec<Entry>) -> Plan {
        Plan { version: self.version, reproducible: self.reproducible, entries }
    }

    /// The first entry point of that name.
    pub fn entry(&self, name: EntryName) -> Option<&Entry> {
        self.entries.iter().find(|e| e.is(name))
    }
}

impl Entry {
    /// Whether it has that name.
    pub fn is(&self, name: EntryName) -> bool {
        self.name.parse() == Ok(name)
    }

    /// The kind of decoder that it is, of whole latents or of tiles, if it is one.
    pub fn decoder_kind(&self) -> Option<DecoderKind> {
        if let Ok(EntryName::Decode(kind, _)) = self.name.parse() { Some(kind) } else { None }
    }
}

/// A named tensor at the boundary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its name in the IR.
    pub name: String,
    /// Element type.
    pub dtype: Element,
    /// Extents, `rows` first.
    pub shape: Vec<usize>,
}

/// Element types of operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Element {
    /// binary32.
    F32,
    /// The upper half of binary32; of encoded weights alone.
    BF16,
    /// binary16; of encoded weights alone.
    F16,
    /// Class labels; sums of encoded weights.
    I32,
    /// Signed bytes; of encoded weights alone.
    I8,
    /// Bytes that hold smaller numbers; of encoded weights alone.
    U8,
}

impl Element {
    /// All there are.
    pub const ALL: &'static [Element] = &[Element::F32, Element::BF16, Element::F16, Element::I32, Element::I8, Element::U8];

    /// Its name in safetensors.
    pub fn name(self) -> &'static str {
        match self {
            Element::F32 => "F32",
            Element::BF16 => "BF16",
            Element::F16 => "F16",
            Element::I32 => "I32",
            Element::I8 => "I8",
            Element::U8 => "U8",
        }
    }

    /// The type of that name.
    pub fn named(name: &str) -> Option<Element> {
        Element::ALL.iter().copied().find(|e| e.name() == name)
    }

    /// Bytes of one.
    pub const fn bytes(self) -> usize {
        match self {
            Element::F32 | Element::I32 => 4,
            Element::BF16 | Element::F16 => 2,
            Element::I8 | Element::U8 => 1,
        }
    }
}

/// Where an operand's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// At this byte offset in the arena, a multiple of [`ALIGN`].
    Arena(usize),
    /// The entry's input of that index.
    Input(usize),
    /// The entry's output of that index.
    Output(usize),
    /// The entry's state of that index: memory that is read and written, and kept from one run to the next.
    State(usize),
    /// The artifact's tensor of that name.
    Weight(String),
}

/// How an operand's numbers lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Row-major, of an element type.
    Dense(Element),
    /// A weight matrix `[O, taps, channels]` in an encoding.
    Encoded(Encoding),
}

impl Form {
    /// Row-major f32.
    pub const F32: Form = Form::Dense(Element::F32);
    /// Row-major labels.
    pub const I32: Form = Form::Dense(Element::I32);
}

/// A tensor that a step reads or writes. Of an encoded one every part is the artifact's tensor of the name and the part's suffix,
/// or lies behind the one before it, at a multiple of [`ALIGN`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operand {
    /// Where it is.
    pub at: Place,
    /// How its numbers lie.
    pub form: Form,
    /// Extents as this step sees them.
    pub shape: Vec<usize>,
}

impl Operand {
    /// Number of elements.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Its extents as those of a matrix, if it is encoded.
    pub fn matrix(&self) -> Option<Matrix> {
        if matches!(self.form, Form::Encoded(_)) { Matrix::of(&self.shape) } else { None }
    }

    /// Bytes that it takes, with all of its parts.
    pub fn bytes(&self) -> usize {
        match (self.form, self.matrix()) {
            (Form::Encoded(encoding), Some(m)) => encoding.bytes(m, ALIGN),
            (Form::Dense(element), _) => self.count() * element.bytes(),
            (Form::Encoded(_), None) => 0,
        }
    }
}

/// One call of a kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Name of the IR value that it computes; for people and profiles.
    pub label: String,
    /// Which kernel, with its attributes.
    pub kernel: Kernel,
    /// What it reads, in the kernel's order.
    pub inputs: Vec<Operand>,
    /// What it writes. Overlaps no other output, and no input but one whose place the kernel lets it take.
    pub outputs: Vec<Operand>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_say_that_they_are_reproducible_only_if_they_are() {
        for (plan, text) in [
            (Plan { version: 5, reproducible: false, entries: vec![] }, r#"{"version":5,"entries":[]}"#),
            (Plan { version: 5, reproducible: true, entries: vec![] }, r#"{"version":5,"reproducible":true,"entries":[]}"#),
        ] {
            assert_eq!(serde_json::to_string(&plan).expect("a plan is JSON"), text);
            assert_eq!(serde_json::from_str::<Plan>(text).expect("it was a plan"), plan);
        }
    }
}
