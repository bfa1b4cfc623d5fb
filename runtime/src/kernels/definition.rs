//! What a kernel is, apart from its code: operands, shape rule, cost, and how a step of it becomes a task.

use std::iter::once;
use std::ops::Range;

use super::{Strided, Task};
use crate::check::Fault;
use crate::cost::Cost;
use crate::plan::{Element, Form, Operand};
use crate::simd::Isa;

/// Everything there is to know of a kernel. No method has a default. `x` and `y` are a step's inputs and outputs, as many as the
/// signature has and of the forms that it asks for.
pub(crate) trait KernelDef {
    /// The operands.
    fn signature(&self) -> Signature;

    /// The shape rule, and what attributes may be. Constraints are numbered, as `matmul.2`. Numbers may be hostile, but every operand
    /// is inside of its memory and has extents of at least 1.
    ///
    /// # Errors
    /// The first constraint that does not hold.
    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault>;

    /// What a step costs. It has passed `check`.
    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost;

    /// The task of a step that has passed `check`, for that instruction set.
    fn task(&self, x: &[Operand], y: &[Operand], isa: Isa) -> Box<dyn Task>;
}

/// The operands of a kernel, in order. One input may be left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    /// What is read.
    pub inputs: Vec<Input>,
    /// What is written.
    pub outputs: Vec<Output>,
}

/// What a step reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Input {
    /// Its name in the kernel's formula.
    pub name: &'static str,
    /// How its numbers lie.
    pub kind: Kind,
    /// Whether it may be left out.
    pub optional: bool,
}

/// How an input's numbers lie.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Row-major f32.
    F32,
    /// Row-major f32 or f16.
    Floats,
    /// A matrix in an encoding.
    Matrix,
    /// Row-major i32, an input of the entry. The function tells, from the step's operands, what labels must be below.
    Labels(fn(&[Operand], &[Operand]) -> usize),
}

impl PartialEq for Kind {
    fn eq(&self, other: &Kind) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// What a step writes, of f32.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Its name in the kernel's formula.
    pub name: &'static str,
    /// How its numbers lie.
    pub form: Form,
    /// Inputs, by index, whose place it may take: element by element, nothing is read there any more once it is written.
    pub takes: &'static [usize],
    /// The elements that are written, if not all; what else is there stays.
    pub part: Option<Strided>,
}

impl Output {
    /// The bytes that are written of one of so many, as ranges in ascending order with gaps between them; `None` if the attributes lead
    /// out of it.
    pub fn writes(&self, bytes: usize) -> Option<Vec<Range<usize>>> {
        const WIDTH: usize = Element::F32.bytes();
        let Some(part) = &self.part else { return Some(once(0..bytes).collect()) };
        let runs = part.runs(bytes / WIDTH)?;
        Some(runs.into_iter().map(|r| r.start * WIDTH..r.end * WIDTH).collect())
    }
}

impl Signature {
    /// Inputs and outputs, that take nobody's place, of dense f32. A name that ends in `?` may be left out.
    pub fn of(inputs: &[&'static str], outputs: &[&'static str]) -> Signature {
        let outputs = outputs.iter().map(|&name| Output { name, form: Form::F32, takes: &[], part: None });
        Signature { inputs: inputs.iter().map(|&name| Input::f32(name)).collect(), outputs: outputs.collect() }
    }

    /// The same, the first output taking the place of one of those inputs.
    pub fn taking(mut self, inputs: &'static [usize]) -> Signature {
        self.outputs[0].takes = inputs;
        self
    }

    /// The same, an input being of that kind.
    pub fn with(mut self, input: &str, kind: Kind) -> Signature {
        self.inputs.iter_mut().filter(|i| i.name == input).for_each(|i| i.kind = kind);
        self
    }

    /// The same, no other elements of the first output being written.
    pub fn partly(mut self, part: Strided) -> Signature {
        self.outputs[0].part = Some(part);
        self
    }

    /// The inputs of a step that has so many; `None` if no step has.
    pub fn inputs_of(&self, count: usize) -> Option<Vec<Input>> {
        let all = self.inputs.len();
        let optional = self.inputs.iter().position(|i| i.optional);
        match optional {
            _ if count == all => Some(self.inputs.clone()),
            Some(left_out) if count + 1 == all => {
                let mut inputs = self.inputs.clone();
                inputs.remove(left_out);
                Some(inputs)
            }
            _ => None,
        }
    }

    /// Which input of a step that has so many is the one of that name.
    pub fn position(&self, name: &str, count: usize) -> Option<usize> {
        self.inputs_of(count)?.iter().position(|i| i.name == name)
    }
}

impl Input {
    /// Of dense f32; a name that ends in `?` may be left out.
    pub fn f32(name: &'static str) -> Input {
        match name.strip_suffix('?') {
            Some(name) => Input { name, kind: Kind::F32, optional: true },
            None => Input { name, kind: Kind::F32, optional: false },
        }
    }
}
