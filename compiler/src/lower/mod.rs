//! Lowering: every instruction of a function becomes calls of the runtime's kernels on virtual buffers.
//!
//! A buffer is a run of bytes with one purpose: an input or output of the entry, a tensor of the artifact, or a place
//! in the arena that [`crate::allocate`] chooses later. A reshape shares its operand's buffer; everything else writes
//! buffers of its own, but for state, whose new value may be written where the old one is.

mod arms;
mod copies;

use std::collections::HashMap;

use fcdm_ir::ops::{Flip, Transpose};
use fcdm_ir::{DType, Def, Function, Inst, Op, Type, Value};
use fcdm_runtime::encoding::{Encoding, Matrix};
use fcdm_runtime::kernels::{Kernel, MAX_AXES, Pack, Rearrange};
use fcdm_runtime::plan::{ALIGN, Element, Form, Port};
use thiserror::Error;

use crate::target::Target;
use crate::weights::{Order, WeightUse, matrix};

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
    /// The entry's state of that index.
    State(usize),
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
    /// How its numbers lie.
    pub form: Form,
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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    /// Inputs in order.
    pub inputs: Vec<Port>,
    /// Outputs in order.
    pub outputs: Vec<Port>,
    /// State in order.
    pub state: Vec<Port>,
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
    /// A weight stored in a way that the runtime does not know.
    #[error("@{weight}: expected an encoding ({}), found {stored}", Encoding::ALL.iter().map(|e| e.name()).collect::<Vec<_>>().join(", "))]
    Encoding {
        /// Name of the weight.
        weight: String,
        /// What it says.
        stored: String,
    },
    /// A tensor of more axes than a copy can walk.
    #[error("%{value}: `{op}` moves a tensor of {rank} axes, at most {} can be", MAX_AXES)]
    Axes {
        /// Name of the value.
        value: String,
        /// The op.
        op: &'static str,
        /// Its axes, after merging.
        rank: usize,
    },
}

/// An input of a function that is kept from one run to the next, and the result that becomes its new value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The input's name, under which it is kept.
    pub input: String,
    /// The result's name.
    pub result: String,
}

/// Lowers a function. Instructions run in the function's order. `kept` says which inputs are state, of their results' types.
///
/// # Errors
/// See [`LowerError`].
///
/// # Panics
/// If the function has no input or result of a name in `kept`, or they have different types.
pub fn lower(f: &Function, kept: &[Kept], target: &Target) -> Result<Program, LowerError> {
    let mut l = Lowering {
        f,
        target,
        p: Program::default(),
        place: vec![None; f.value_count()],
        forms: HashMap::new(),
        results: HashMap::new(),
        updates: HashMap::new(),
        kept: Vec::new(),
        at: 0,
    };
    for (v, data) in f.values() {
        element(f, v)?;
        if let Some(stored) = data.stored.as_ref().filter(|s| Encoding::named(s).is_none()) {
            return Err(LowerError::Encoding { weight: data.name.clone(), stored: stored.clone() });
        }
    }
    for &v in f.inputs() {
        let data = f.value(v);
        let home = match kept.iter().position(|k| k.input == data.name) {
            Some(i) => Home::State(i),
            None => {
                l.p.inputs.push(port(&data.name, &data.ty));
                Home::Input(l.p.inputs.len() - 1)
            }
        };
        l.place[v.index()] = Some(l.buffer(data.ty.bytes(), home));
    }
    l.ports(kept);
    for (i, inst) in f.insts().iter().enumerate() {
        l.at = i;
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

struct Lowering<'a> {
    f: &'a Function,
    target: &'a Target,
    p: Program,
    place: Vec<Option<BufferId>>,
    /// Buffers of weights, by weight, form and order.
    forms: HashMap<(Value, Form, Order), BufferId>,
    /// For values computed by an instruction: the first output that each is.
    results: HashMap<Value, usize>,
    /// For values that become the new value of a state: its index, and the input that is its old one.
    updates: HashMap<Value, (usize, Value)>,
    /// The new value of every state.
    kept: Vec<Value>,
    /// Index of the instruction that is lowered.
    at: usize,
}

impl Lowering<'_> {
    fn buffer(&mut self, bytes: usize, home: Home) -> BufferId {
        self.p.buffers.push(Buffer { bytes, home });
        BufferId(self.p.buffers.len() - 1)
    }

    /// Outputs and state, and which values they are.
    fn ports(&mut self, kept: &[Kept]) {
        let f = self.f;
        for k in kept {
            let input = f.inputs().iter().copied().find(|&v| f.value(v).name == k.input).expect("what is kept is an input");
            let result = f.result(&k.result).expect("what is kept becomes a result");
            assert_eq!(f.ty(input), f.ty(result), "{} becomes {}", k.input, k.result);
            self.updates.entry(result).or_insert((self.p.state.len(), input));
            self.kept.push(result);
            self.p.state.push(port(&k.input, f.ty(input)));
        }
        for (name, v) in f.results().iter().filter(|(name, _)| !kept.iter().any(|k| k.result == *name)) {
            if f.def_inst(*v).is_some() && !self.updates.contains_key(v) {
                self.results.entry(*v).or_insert(self.p.outputs.len());
            }
            self.p.outputs.push(port(name, f.ty(*v)));
        }
    }

    /// The buffer that holds a value in its plain form.
    fn buffer_of(&mut self, v: Value) -> BufferId {
        if self.f.value(v).def == Def::Weight {
            return self.weight(v, Form::F32, Order::Given);
        }
        self.place[v.index()].expect("a value is placed before it is used")
    }

    /// The buffer of a weight in the artifact.
    fn weight(&mut self, v: Value, form: Form, order: Order) -> BufferId {
        self.weight_of(v, form, order, self.f.ty(v).shape.clone())
    }

    /// The same under another shape of as many rows.
    fn weight_of(&mut self, v: Value, form: Form, order: Order, shape: Vec<usize>) -> BufferId {
        if let Some(&id) = self.forms.get(&(v, form, order)) {
            return id;
        }
        let data = self.f.value(v);
        let usage = WeightUse { weight: data.name.clone(), form, order, ty: data.ty.with_shape(shape) };
        let id = self.buffer(usage.bytes(), Home::Weight(usage.name()));
        self.p.weights.push(usage);
        self.forms.insert((v, form, order), id);
        id
    }

    /// A new arena buffer under a shape.
    fn scratch(&mut self, shape: Vec<usize>) -> View {
        let bytes = shape.iter().product::<usize>() * 4;
        View { buffer: self.buffer(bytes, Home::Arena), form: Form::F32, shape }
    }

    /// A value as an operand.
    fn view(&mut self, v: Value) -> View {
        let ty = self.f.ty(v);
        View { buffer: self.buffer_of(v), form: Form::Dense(element_of(ty).expect("types were checked")), shape: ty.shape.clone() }
    }

    /// How a matrix lies in the artifact: as its weight says, else in lines of f32.
    fn encoding(&self, v: Value) -> Encoding {
        let stored = self.f.value(v).stored.as_deref();
        stored.map_or(Encoding::F32, |name| Encoding::named(name).expect("names of encodings were looked at"))
    }

    /// A weight matrix `[O, ..]` as products read it, for a result that is rearranged so. One that is known only at run time is
    /// packed then.
    fn matrix(&mut self, v: Value, rearrange: Rearrange) -> View {
        self.matrix_of(v, matrix(&self.f.ty(v).shape), rearrange)
    }

    /// The same, its columns being parted into taps and channels so.
    fn matrix_of(&mut self, v: Value, Matrix { rows, taps, channels }: Matrix, rearrange: Rearrange) -> View {
        let (form, shape) = (Form::Encoded(self.encoding(v)), vec![rows, taps, channels]);
        if self.f.value(v).def == Def::Weight {
            return View { buffer: self.weight_of(v, form, Order::of(rearrange), shape.clone()), form, shape };
        }
        let bytes = Encoding::F32.bytes(Matrix { rows, taps, channels }, ALIGN);
        let transposed = self.transposed(v).filter(|_| rearrange == Rearrange::Keep);
        let (x, y) = (self.view(transposed.unwrap_or(v)), View { buffer: self.buffer(bytes, Home::Arena), form, shape });
        self.step(v, Pack { rearrange, transposed: transposed.is_some() }, vec![x], vec![y.clone()]);
        y
    }

    /// What a matrix has rows and columns exchanged of, or a convolution's weights channels, with the taps in reverse: it is packed from there.
    fn transposed(&self, v: Value) -> Option<Value> {
        let inst = self.f.def_inst(v)?;
        let Op::Transpose(Transpose { perm }) = &inst.op else { return None };
        match perm[..] {
            [1, 0] => Some(inst.operands[0]),
            [3, 1, 2, 0] => {
                let flip = self.f.def_inst(inst.operands[0])?;
                matches!(&flip.op, Op::Flip(Flip { axes }) if axes[..] == [1, 2]).then(|| flip.operands[0])
            }
            _ => None,
        }
    }

    /// Whether nothing reads a value but what packs it from elsewhere ([`Lowering::transposed`]).
    fn is_only_packed(&self, v: Value) -> bool {
        let mut users = self.f.insts().iter().filter(|i| i.operands.contains(&v)).peekable();
        let flipped = self.f.def_inst(v).is_some_and(|i| matches!(i.op, Op::Flip(_)));
        let packed = |user: &Inst| match flipped {
            true => self.transposed(user.results[0]).is_some() && self.is_only_packed(user.results[0]),
            false => arms::packs(user, v),
        };
        users.peek().is_some()
            && users.all(packed)
            && (flipped || self.transposed(v).is_some())
            && !self.f.results().iter().any(|&(_, r)| r == v)
    }

    /// A value that a kernel reads densely, as f32 or as its weight says.
    fn halves(&mut self, v: Value) -> View {
        if self.encoding(v) != Encoding::F16 {
            return self.view(v);
        }
        let form = Form::Dense(Element::F16);
        View { buffer: self.weight(v, form, Order::Given), form, shape: self.f.ty(v).shape.clone() }
    }

    /// A value `[O, ..]` with its rows in an order. One that is known only at run time is copied to it.
    fn ordered(&mut self, v: Value, order: Order) -> View {
        let Order::Shuffled { factor } = order else { return self.view(v) };
        if self.f.value(v).def == Def::Weight {
            return View { buffer: self.weight(v, Form::F32, order), form: Form::F32, shape: self.f.ty(v).shape.clone() };
        }
        self.shuffle_rows(v, factor)
    }

    /// The buffer that a computed value is written to: the entry's output, if it is a result.
    fn define(&mut self, v: Value) -> View {
        let home = self.results.get(&v).map_or(Home::Arena, |&i| Home::Output(i));
        self.define_at(v, home)
    }

    fn define_at(&mut self, v: Value, home: Home) -> View {
        let id = self.buffer(self.f.ty(v).bytes(), home);
        self.place[v.index()] = Some(id);
        self.view(v)
    }

    /// As [`Lowering::define`], of a step's output `k`; the new value of a state is written where the old one is, if nobody reads
    /// that any more, but perhaps the step itself, of a kernel that lets its output take the place.
    fn define_of(&mut self, v: Value, k: usize, kernel: &Kernel, inputs: &[View]) -> View {
        let Some(&(state, old)) = self.updates.get(&v) else { return self.define(v) };
        let place = self.place[old.index()].expect("inputs are placed first");
        // Under whatever shape; the old value is a result too where an output returns it.
        let reads = |&v: &Value| self.place[v.index()] == Some(place);
        let read_later = self.f.insts()[self.at + 1..].iter().flat_map(|inst| &inst.operands).any(reads)
            || self.f.results().iter().any(|(_, r)| reads(r));
        let takes = kernel.signature().outputs[k].takes;
        let apart = inputs.iter().enumerate().all(|(i, x)| x.buffer != place || takes.contains(&i));
        if read_later || !apart { self.define(v) } else { self.define_at(v, Home::State(state)) }
    }

    fn step(&mut self, v: Value, kernel: impl Into<Kernel>, inputs: Vec<View>, outputs: Vec<View>) {
        self.p.steps.push(Step { label: self.f.value(v).name.clone(), kernel: kernel.into(), inputs, outputs });
    }

    /// Results that no instruction wrote to their place: inputs, weights, reshapes of shared buffers, repetitions.
    fn remaining_results(&mut self) {
        let outputs: Vec<(String, usize)> = self.p.outputs.iter().enumerate().map(|(i, p)| (p.name.clone(), i)).collect();
        for (name, i) in outputs {
            let v = self.f.result(&name).expect("every output is a result");
            self.copy_result(v, Home::Output(i));
        }
        // Behind all that may read the old values, and no old value after another state's copy has replaced it.
        let late: Vec<(usize, Value, View)> = (0..self.kept.len()).map(|i| (i, self.kept[i], self.view(self.kept[i]))).collect();
        let mut moved = Vec::new();
        for (i, v, from) in late {
            match self.p.buffers[from.buffer.0].home {
                Home::State(at) if at == i => {}
                Home::State(_) => {
                    let aside = self.scratch(from.shape.clone());
                    self.copy_all(v, from, aside.clone());
                    moved.push((i, v, aside));
                }
                _ => moved.push((i, v, from)),
            }
        }
        for (i, v, from) in moved {
            let to = View { buffer: self.buffer(self.f.ty(v).bytes(), Home::State(i)), ..from.clone() };
            self.copy_all(v, from, to);
        }
    }

    /// Copies a result to its place, unless it is there.
    fn copy_result(&mut self, v: Value, home: Home) {
        let from = self.view(v);
        if self.p.buffers[from.buffer.0].home == home {
            return;
        }
        let to = View { buffer: self.buffer(self.f.ty(v).bytes(), home), ..from.clone() };
        self.copy_all(v, from, to);
    }
}

/// True for an op whose result shares its operand's buffer.
fn shares_buffer(op: &Op) -> bool {
    matches!(op, Op::Reshape(_) | Op::Barrier(_) | Op::StopGradient(_))
}
