//! Functions in SSA form and the builder that makes them.
//!
//! A function is a list of instructions in execution order over values that are inputs (`%x`),
//! weights (`@name`) or results of earlier instructions. Ops are pure, so two instructions with the
//! same op and operands are one: [`Builder`] hash-conses. Nothing is ever mutated in place; a pass
//! builds a new function (see `fcdm-passes`).

use std::collections::HashMap;

use crate::ops::{Op, Share};
use crate::types::{Type, TypeError};

/// Handle of a value of one function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub(crate) u32);

impl Value {
    /// Position in the function's table of values: dense, from 0.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Def {
    /// The n-th input of the function.
    Input(usize),
    /// A weight: a tensor of the module's weight store, under the value's name.
    Weight,
    /// The `index`-th result of an instruction.
    Result {
        /// Index into [`Function::insts`].
        inst: usize,
        /// Which of its results.
        index: usize,
    },
}

/// Name, type and origin of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueData {
    /// Name without the sigil. Unique among the weights, and among the other values, of a function.
    pub name: String,
    /// Its type.
    pub ty: Type,
    /// Its origin.
    pub def: Def,
    /// How a weight's numbers are stored, where that is not by its type: the name of an encoding of the artifact. What the function
    /// means, as the evaluator has it, does not depend on it.
    pub stored: Option<String>,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq)]
pub struct Inst {
    /// What is computed.
    pub op: Op,
    /// From which values, in the order of [`Op::operands`].
    pub operands: Vec<Value>,
    /// The values it defines.
    pub results: Vec<Value>,
}

/// A function: inputs, instructions in order, named results.
#[derive(Clone, Debug)]
pub struct Function {
    pub(crate) name: String,
    pub(crate) values: Vec<ValueData>,
    pub(crate) inputs: Vec<Value>,
    pub(crate) insts: Vec<Inst>,
    pub(crate) results: Vec<(String, Value)>,
}

/// Equal up to the numbering of values, which the order of the calls to a builder decides, and up to weights that nothing uses.
impl PartialEq for Function {
    fn eq(&self, other: &Function) -> bool {
        let same = |a: &[Value], b: &[Value]| a.iter().map(|&v| self.value(v)).eq(b.iter().map(|&v| other.value(v)));
        let results = |f: &Function| f.results.iter().cloned().unzip::<String, Value, Vec<_>, Vec<_>>();
        let ((names, values), (other_names, other_values)) = (results(self), results(other));
        self.name == other.name
            && same(&self.inputs, &other.inputs)
            && self.insts.len() == other.insts.len()
            && self
                .insts
                .iter()
                .zip(&other.insts)
                .all(|(a, b)| a.op == b.op && same(&a.operands, &b.operands) && same(&a.results, &b.results))
            && names == other_names
            && same(&values, &other_values)
    }
}

impl Function {
    /// Name without the `@`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same under another name.
    pub fn renamed(mut self, name: &str) -> Function {
        name.clone_into(&mut self.name);
        self
    }

    /// The same with weights stored as `encoding` says, by name; by their type where it says nothing.
    pub fn stored(mut self, encoding: impl Fn(&str) -> Option<String>) -> Function {
        for data in self.values.iter_mut().filter(|d| d.def == Def::Weight) {
            data.stored = encoding(&data.name);
        }
        self
    }

    /// The inputs, in order.
    pub fn inputs(&self) -> &[Value] {
        &self.inputs
    }

    /// The instructions, in execution order.
    pub fn insts(&self) -> &[Inst] {
        &self.insts
    }

    /// The results with their names, in order.
    pub fn results(&self) -> &[(String, Value)] {
        &self.results
    }

    /// Every value, by index.
    pub fn values(&self) -> impl Iterator<Item = (Value, &ValueData)> {
        self.values.iter().enumerate().map(|(i, d)| (Value(i as u32), d))
    }

    /// Number of values.
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// The weights that the function refers to, in order of first mention.
    pub fn weights(&self) -> impl Iterator<Item = (Value, &ValueData)> {
        self.values().filter(|(_, d)| d.def == Def::Weight)
    }

    /// Name, type and origin of a value.
    pub fn value(&self, v: Value) -> &ValueData {
        &self.values[v.index()]
    }

    /// Type of a value.
    pub fn ty(&self, v: Value) -> &Type {
        &self.value(v).ty
    }

    /// The instruction that defines a value, if one does.
    pub fn def_inst(&self, v: Value) -> Option<&Inst> {
        match self.value(v).def {
            Def::Result { inst, .. } => Some(&self.insts[inst]),
            _ => None,
        }
    }

    /// What the rows of an instruction's results are made of ([`crate::ops::OpDef::rows`]).
    pub fn rows(&self, inst: &Inst) -> Option<Vec<Share>> {
        let types: Vec<&Type> = inst.operands.iter().map(|&v| self.ty(v)).collect();
        inst.op.rows(&types)
    }

    /// How often each value is used, by value index: once per operand and once per result of the function.
    pub fn use_counts(&self) -> Vec<usize> {
        let mut n = vec![0; self.values.len()];
        for v in self.insts.iter().flat_map(|i| &i.operands).chain(self.results.iter().map(|(_, v)| v)) {
            n[v.index()] += 1;
        }
        n
    }

    /// The result of that name.
    pub fn result(&self, name: &str) -> Option<Value> {
        self.results.iter().find(|(n, _)| n == name).map(|&(_, v)| v)
    }
}

/// A set of functions over one store of weights. A weight is either a tensor of the checkpoint or, where a
/// function named [`Module::WEIGHTS`] exists, one of that function's results.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Module {
    /// The functions, in order; names are unique.
    pub functions: Vec<Function>,
}

impl Module {
    /// The function, without inputs, whose results are weights computed from weights at compile time.
    pub const WEIGHTS: &'static str = "weights";

    /// The function of that name.
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|f| f.name == name)
    }
}

/// Makes a function, instruction by instruction. Identical instructions are emitted once.
pub struct Builder {
    f: Function,
    consed: HashMap<(Op, Vec<Value>), usize>,
    weights: HashMap<String, Value>,
    /// Values whose name the caller chose; the others are numbered by [`Builder::finish`].
    named: Vec<bool>,
}

impl Builder {
    /// An empty function of that name (without the `@`).
    pub fn new(name: impl Into<String>) -> Self {
        let f = Function { name: name.into(), values: Vec::new(), inputs: Vec::new(), insts: Vec::new(), results: Vec::new() };
        Builder { f, consed: HashMap::new(), weights: HashMap::new(), named: Vec::new() }
    }

    fn value(&mut self, name: Option<&str>, ty: Type, def: Def) -> Value {
        let v = Value(self.f.values.len() as u32);
        self.f.values.push(ValueData { name: name.unwrap_or("").to_owned(), ty, def, stored: None });
        self.named.push(name.is_some());
        v
    }

    /// A new input.
    pub fn input(&mut self, name: &str, ty: Type) -> Value {
        let v = self.value(Some(name), ty, Def::Input(self.f.inputs.len()));
        self.f.inputs.push(v);
        v
    }

    /// The weight of that name (without the `@`); one value however often it is asked for.
    ///
    /// # Panics
    /// If it was asked for with another type before.
    pub fn weight(&mut self, name: &str, ty: Type) -> Value {
        if let Some(&v) = self.weights.get(name) {
            assert_eq!(self.f.values[v.index()].ty, ty, "weight @{name} asked for with two types");
            return v;
        }
        let v = self.value(Some(name), ty, Def::Weight);
        self.weights.insert(name.to_owned(), v);
        v
    }

    /// Says how a weight's numbers are stored ([`ValueData::stored`]).
    pub fn store(&mut self, weight: Value, encoding: Option<String>) {
        self.f.values[weight.index()].stored = encoding;
    }

    /// Emits an instruction, or finds the identical one.
    ///
    /// # Errors
    /// The constraint of the op that the operands' types violate.
    pub fn try_emit(&mut self, op: impl Into<Op>, operands: &[Value]) -> Result<Vec<Value>, TypeError> {
        let key = (op.into(), operands.to_vec());
        if let Some(&i) = self.consed.get(&key) {
            return Ok(self.f.insts[i].results.clone());
        }
        let types: Vec<&Type> = operands.iter().map(|&v| self.f.ty(v)).collect();
        let inferred = key.0.infer(&types)?;
        let inst = self.f.insts.len();
        let results =
            inferred.into_iter().enumerate().map(|(index, ty)| self.value(None, ty, Def::Result { inst, index })).collect::<Vec<_>>();
        let (op, operands) = key.clone();
        self.f.insts.push(Inst { op, operands, results: results.clone() });
        self.consed.insert(key, inst);
        Ok(results)
    }

    /// As [`Builder::try_emit`], for callers whose operands are right by construction.
    ///
    /// # Panics
    /// If they are not: a bug of the caller.
    pub fn emit(&mut self, op: impl Into<Op>, operands: &[Value]) -> Vec<Value> {
        let op = op.into();
        self.try_emit(op.clone(), operands).unwrap_or_else(|e| panic!("building {}: {e} (in `{op}`)", self.f.name))
    }

    /// As [`Builder::emit`], for an op with one result.
    pub fn one(&mut self, op: impl Into<Op>, operands: &[Value]) -> Value {
        self.emit(op, operands)[0]
    }

    /// As [`Builder::try_emit`], for an op with one operand and one result.
    ///
    /// # Errors
    /// The constraint of the op that the operand's type violates.
    pub fn try_one(&mut self, op: impl Into<Op>, operand: Value) -> Result<Value, TypeError> {
        Ok(self.try_emit(op, &[operand])?[0])
    }

    /// Suggests a name for a value; kept unless the value has one already.
    pub fn name(&mut self, v: Value, name: &str) -> Value {
        if !self.named[v.index()] {
            self.f.values[v.index()].name = name.to_owned();
            self.named[v.index()] = true;
        }
        v
    }

    /// Name suggested for a value so far, if any.
    pub fn name_of(&self, v: Value) -> Option<&str> {
        self.named[v.index()].then(|| self.f.values[v.index()].name.as_str())
    }

    /// Type of a value built so far.
    pub fn ty(&self, v: Value) -> &Type {
        self.f.ty(v)
    }

    /// What has been built so far; values without a name have an empty one.
    pub fn so_far(&self) -> &Function {
        &self.f
    }

    /// Ends the function. Names become unique: a taken one gets `.1`, `.2`, ...; unnamed values are numbered.
    pub fn finish(mut self, results: Vec<(String, Value)>) -> Function {
        let mut taken = std::collections::HashSet::new();
        for (i, d) in self.f.values.iter_mut().enumerate().filter(|(_, d)| d.def != Def::Weight) {
            if self.named[i] {
                let base = d.name.clone();
                let mut k = 0;
                while !taken.insert(d.name.clone()) {
                    k += 1;
                    d.name = format!("{base}.{k}");
                }
            }
        }
        let mut next = 0;
        for (i, d) in self.f.values.iter_mut().enumerate() {
            if !self.named[i] {
                while !taken.insert(next.to_string()) {
                    next += 1;
                }
                d.name = next.to_string();
            }
        }
        self.f.results = results;
        self.f
    }
}
