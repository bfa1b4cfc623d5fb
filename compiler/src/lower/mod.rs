//! Lowering: every instruction of a function becomes calls of the runtime's kernels on virtual buffers.
//!
//! A buffer is a run of bytes with one purpose: an input or output of the entry, a tensor of the artifact, or a place
//! in the arena that [`crate::allocate`] chooses later. A reshape shares its operand's buffer; everything else writes
//! buffers of its own, so no step's output ever overlaps an input.

mod arms;
mod copies;

use std::collections::HashMap;

use fcdm_ir::{DType, Def, Function, Op, Type, Value};
use fcdm_runtime::plan::{Element, Kernel, Port};
use thiserror::Error;

use crate::weights::{Form, Order, Storage, WeightUse};
use crate::winograd::Winograd;

/// Index of a buffer in [`Program::buffers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub usize);

/// Where a buffer lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Home {
    /// Somewhere in the arena.
    Arena,
    /// The entry's input of that index.
    Input(usize),
    /// The entry's output of that index.
    Output(usize),
    /// The artifact's tensor of that name.
    Weight(String),
}

/// A virtual buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Bytes that hold a value; the place in the arena is rounded up to the plan's alignment.
    pub bytes: usize,
    /// Where it lives.
    pub home: Home,
}

/// A buffer under a shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Which buffer; views begin at its start.
    pub buffer: BufferId,
    /// Element type.
    pub dtype: Element,
    /// Extents.
    pub shape: Vec<usize>,
}

/// A kernel call on virtual buffers.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Name of the IR value that it computes.
    pub label: String,
    /// The kernel.
    pub kernel: Kernel,
    /// What it reads.
    pub inputs: Vec<View>,
    /// What it writes.
    pub outputs: Vec<View>,
}

/// A lowered function before its buffers have places.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// Inputs in order.
    pub inputs: Vec<Port>,
    /// Outputs in order.
    pub outputs: Vec<Port>,
    /// All buffers.
    pub buffers: Vec<Buffer>,
    /// Steps in order.
    pub steps: Vec<Step>,
    /// The tensors that the artifact has to hold for it.
    pub weights: Vec<WeightUse>,
}

/// A function that the runtime has no kernels for.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LowerError {
    /// A value of a type that kernels do not compute with.
    #[error("%{value}: the runtime computes in f32 (labels in i32), found {ty}")]
    Type {
        /// Name of the value.
        value: String,
        /// Its type.
        ty: String,
    },
    /// A tensor of more axes than a copy can walk.
    #[error("%{value}: `{op}` moves a tensor of {rank} axes, at most {} can be", copies::MAX_AXES)]
    Axes {
        /// Name of the value.
        value: String,
        /// The op.
        op: &'static str,
        /// Its axes, after merging.
        rank: usize,
    },
}

/// Lowers a function. Instructions run in the function's order. `winograd` says which convolutions are computed that way,
/// `storage` how panels are stored.
///
/// # Errors
/// See [`LowerError`].
pub fn lower(f: &Function, winograd: Winograd, storage: &Storage<'_>) -> Result<Program, LowerError> {
    let mut l = Lowering {
        f,
        winograd,
        storage,
        p: Program { inputs: Vec::new(), outputs: Vec::new(), buffers: Vec::new(), steps: Vec::new(), weights: Vec::new() },
        place: vec![None; f.value_count()],
        forms: HashMap::new(),
        results: results_by_value(f),
    };
    for (v, data) in f.values() {
        element(f, v)?;
        if let Def::Input(index) = data.def {
            let id = l.buffer(data.ty.bytes(), Home::Input(index));
            l.place[v.index()] = Some(id);
            l.p.inputs.push(port(&data.name, &data.ty));
        }
    }
    for (name, v) in f.results() {
        l.p.outputs.push(port(name, f.ty(*v)));
    }
    for inst in f.insts() {
        l.instruction(inst)?;
    }
    l.remaining_results();
    Ok(l.p)
}

fn port(name: &str, ty: &Type) -> Port {
    Port { name: name.to_owned(), dtype: element_of(ty).expect("types were checked"), shape: ty.shape.clone() }
}

fn element_of(ty: &Type) -> Option<Element> {
    match ty.dtype {
        DType::F32 => Some(Element::F32),
        DType::I32 => Some(Element::I32),
        DType::F16 | DType::BF16 => None,
    }
}

fn element(f: &Function, v: Value) -> Result<Element, LowerError> {
    let ty = f.ty(v);
    element_of(ty).ok_or_else(|| LowerError::Type { value: f.value(v).name.clone(), ty: ty.to_string() })
}

/// For every value computed by an instruction: the first result of the function that it is.
fn results_by_value(f: &Function) -> HashMap<Value, usize> {
    let mut map = HashMap::new();
    for (i, (_, v)) in f.results().iter().enumerate() {
        if f.def_inst(*v).is_some() {
            map.entry(*v).or_insert(i);
        }
    }
    map
}

struct Lowering<'a> {
    f: &'a Function,
    winograd: Winograd,
    storage: &'a Storage<'a>,
    p: Program,
    place: Vec<Option<BufferId>>,
    /// Buffers of weights, by weight, form and order.
    forms: HashMap<(Value, Form, Order), BufferId>,
    results: HashMap<Value, usize>,
}

impl Lowering<'_> {
    fn buffer(&mut self, bytes: usize, home: Home) -> BufferId {
        self.p.buffers.push(Buffer { bytes, home });
        BufferId(self.p.buffers.len() - 1)
    }

    /// The buffer that holds a value in its plain form.
    fn buffer_of(&mut self, v: Value) -> BufferId {
        if self.f.value(v).def == Def::Weight {
            return self.weight(v, Form::Dense, Order::Given);
        }
        self.place[v.index()].expect("a value is placed before it is used")
    }

    /// The buffer of a weight in the artifact.
    fn weight(&mut self, v: Value, form: Form, order: Order) -> BufferId {
        if let Some(&id) = self.forms.get(&(v, form, order)) {
            return id;
        }
        let data = self.f.value(v);
        let element = match form {
            Form::Dense => Element::F32,
            Form::Panels => (self.storage)(&data.name),
        };
        let usage = WeightUse { weight: data.name.clone(), form, order, ty: data.ty.clone(), element };
        let id = self.buffer(usage.packed_count() * element.bytes(), Home::Weight(usage.tensor_name()));
        self.p.weights.push(usage);
        self.forms.insert((v, form, order), id);
        id
    }

    /// A new arena buffer under a shape.
    fn scratch(&mut self, shape: Vec<usize>) -> View {
        let bytes = shape.iter().product::<usize>() * 4;
        View { buffer: self.buffer(bytes, Home::Arena), dtype: Element::F32, shape }
    }

    /// A value as an operand.
    fn view(&mut self, v: Value) -> View {
        let ty = self.f.ty(v);
        View { buffer: self.buffer_of(v), dtype: element_of(ty).expect("types were checked"), shape: ty.shape.clone() }
    }

    /// A weight matrix `[O, ..]` as packed panels. One that is known only at run time is packed by copies.
    fn panels(&mut self, v: Value, order: Order) -> View {
        let data = self.f.value(v);
        let known = data.def == Def::Weight;
        let element = if known { (self.storage)(&data.name) } else { Element::F32 };
        let usage = WeightUse { weight: String::new(), form: Form::Panels, order, ty: data.ty.clone(), element };
        let shape = usage.packed_shape();
        if known {
            return View { buffer: self.weight(v, Form::Panels, order), dtype: element, shape };
        }
        let x = self.ordered(v, order);
        self.pack(v, x, shape)
    }

    /// A value `[O, ..]` with its rows in an order. One that is known only at run time is copied to it.
    fn ordered(&mut self, v: Value, order: Order) -> View {
        let Order::Shuffled { factor } = order else { return self.view(v) };
        if self.f.value(v).def == Def::Weight {
            return View { buffer: self.weight(v, Form::Dense, order), dtype: Element::F32, shape: self.f.ty(v).shape.clone() };
        }
        self.shuffle_rows(v, factor)
    }

    /// The buffer that a computed value is written to: the entry's output, if it is a result.
    fn define(&mut self, v: Value) -> View {
        let ty = self.f.ty(v);
        let home = self.results.get(&v).map_or(Home::Arena, |&i| Home::Output(i));
        let id = self.buffer(ty.bytes(), home);
        self.place[v.index()] = Some(id);
        self.view(v)
    }

    fn step(&mut self, v: Value, kernel: Kernel, inputs: Vec<View>, outputs: Vec<View>) {
        self.p.steps.push(Step { label: self.f.value(v).name.clone(), kernel, inputs, outputs });
    }

    /// Results that no instruction wrote to their place: inputs, weights, reshapes of shared buffers, repetitions.
    fn remaining_results(&mut self) {
        for i in 0..self.f.results().len() {
            let v = self.f.results()[i].1;
            let from = self.view(v);
            if self.p.buffers[from.buffer.0].home == Home::Output(i) {
                continue;
            }
            let id = self.buffer(self.f.ty(v).bytes(), Home::Output(i));
            let to = View { buffer: id, ..from.clone() };
            self.copy_all(v, from, to);
        }
    }
}

/// True for an op whose result shares its operand's buffer.
fn shares_buffer(op: &Op) -> bool {
    matches!(op, Op::Reshape(_))
}
