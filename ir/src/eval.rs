//! The reference evaluator. It computes everything in f64 whatever the declared element type (i32 exactly), one op after the
//! other as each op's `eval` defines it. Only `timestep_embedding` rounds: its frequencies and angles are float32 by definition.
//!
//! Every tensor is dense in row-major order.

use std::fmt;

use crate::function::{Def, Function, Inst, Value};
use crate::ops::Op;
use crate::types::{DType, Type};

/// A tensor of the reference evaluator.
pub type Tensor = ndarray::ArrayD<f64>;

/// Why a function cannot be evaluated on given inputs and weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EvalError {
    /// Not as many inputs as the function has.
    Inputs {
        /// How many it has.
        expected: usize,
        /// How many were given.
        found: usize,
    },
    /// A weight is not there.
    MissingWeight {
        /// Its name without the `@`.
        name: String,
    },
    /// An input or a weight has not the declared shape.
    Shape {
        /// Name with sigil.
        name: String,
        /// The declared type.
        expected: Type,
        /// Shape of what was given.
        found: Vec<usize>,
    },
    /// An i32 input or weight holds something else than 32-bit integers.
    NotInteger {
        /// Name with sigil.
        name: String,
    },
    /// A class label is not a row of the table.
    Label {
        /// Which label.
        label: i64,
        /// Number of rows.
        rows: usize,
    },
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EvalError::Inputs { expected, found } => write!(f, "expected {expected} inputs, found {found}"),
            EvalError::MissingWeight { name } => write!(f, "there is no weight @{name}"),
            EvalError::Shape { name, expected, found } => write!(f, "{name} must be {expected}, found shape {found:?}"),
            EvalError::NotInteger { name } => write!(f, "{name} must hold 32-bit integers"),
            EvalError::Label { label, rows } => write!(f, "label {label} is not one of {rows} rows"),
        }
    }
}

impl std::error::Error for EvalError {}

/// Evaluates a verified function: its results, in order. `weights` returns the tensor of a weight by name and is asked once
/// for each, before its first use. Values are freed after their last use.
///
/// # Errors
/// See [`EvalError`].
pub fn evaluate(f: &Function, inputs: &[Tensor], weights: &mut dyn FnMut(&str) -> Option<Tensor>) -> Result<Vec<Tensor>, EvalError> {
    let mut uses = f.use_counts();
    let mut values = given(f, inputs)?;
    for inst in f.insts() {
        fetch(f, &inst.operands, weights, &mut values)?;
        run(inst, &mut values)?;
        for v in &inst.operands {
            uses[v.index()] -= 1;
        }
        for v in inst.operands.iter().chain(&inst.results).filter(|v| uses[v.index()] == 0) {
            values[v.index()] = None;
        }
    }
    let results: Vec<Value> = f.results().iter().map(|&(_, v)| v).collect();
    fetch(f, &results, weights, &mut values)?;
    Ok(results.into_iter().map(|v| computed(&values, v).clone()).collect())
}

/// As [`evaluate`], but returns every value, by [`Value::index`].
///
/// # Errors
/// See [`EvalError`].
pub fn evaluate_all(f: &Function, inputs: &[Tensor], weights: &mut dyn FnMut(&str) -> Option<Tensor>) -> Result<Vec<Tensor>, EvalError> {
    let mut values = given(f, inputs)?;
    fetch(f, &f.weights().map(|(v, _)| v).collect::<Vec<_>>(), weights, &mut values)?;
    for inst in f.insts() {
        run(inst, &mut values)?;
    }
    Ok(values.into_iter().map(|v| v.expect("every value of a verified function is defined")).collect())
}

/// The inputs, checked; everything else `None`.
fn given(f: &Function, inputs: &[Tensor]) -> Result<Vec<Option<Tensor>>, EvalError> {
    if inputs.len() != f.inputs().len() {
        return Err(EvalError::Inputs { expected: f.inputs().len(), found: inputs.len() });
    }
    let mut values = vec![None; f.value_count()];
    for (&v, tensor) in f.inputs().iter().zip(inputs) {
        values[v.index()] = Some(checked('%', f, v, tensor.clone())?);
    }
    Ok(values)
}

/// Asks for the weights among `wanted` that are not there yet.
fn fetch(
    f: &Function,
    wanted: &[Value],
    weights: &mut dyn FnMut(&str) -> Option<Tensor>,
    values: &mut [Option<Tensor>],
) -> Result<(), EvalError> {
    for &v in wanted.iter().filter(|&&v| f.value(v).def == Def::Weight) {
        if values[v.index()].is_none() {
            let name = &f.value(v).name;
            let tensor = weights(name).ok_or_else(|| EvalError::MissingWeight { name: name.clone() })?;
            values[v.index()] = Some(checked('@', f, v, tensor)?);
        }
    }
    Ok(())
}

fn checked(sigil: char, f: &Function, v: Value, tensor: Tensor) -> Result<Tensor, EvalError> {
    let data = f.value(v);
    let name = format!("{sigil}{}", data.name);
    if tensor.shape() != data.ty.shape {
        return Err(EvalError::Shape { name, expected: data.ty.clone(), found: tensor.shape().to_vec() });
    }
    if data.ty.dtype == DType::I32 && tensor.iter().any(|&x| f64::from(x as i32) != x) {
        return Err(EvalError::NotInteger { name });
    }
    Ok(if tensor.is_standard_layout() { tensor } else { tensor.as_standard_layout().into_owned() })
}

fn run(inst: &Inst, values: &mut [Option<Tensor>]) -> Result<(), EvalError> {
    let operands: Vec<&Tensor> = inst.operands.iter().map(|&v| computed(values, v)).collect();
    match &inst.op {
        Op::Embedding(_) => labels_below(operands[1], operands[0].shape()[0])?,
        Op::OneHot(op) => labels_below(operands[0], op.depth)?,
        _ => {}
    }
    let results = inst.op.eval(&operands);
    debug_assert!(results.iter().all(|t| t.is_standard_layout()), "`{}` returned a strided tensor", inst.op);
    for (v, tensor) in inst.results.iter().zip(results) {
        values[v.index()] = Some(tensor);
    }
    Ok(())
}

fn computed(values: &[Option<Tensor>], v: Value) -> &Tensor {
    values[v.index()].as_ref().expect("a verified function defines values before their use")
}

fn labels_below(labels: &Tensor, rows: usize) -> Result<(), EvalError> {
    match labels.iter().find(|&&y| y < 0.0 || y >= rows as f64) {
        Some(&y) => Err(EvalError::Label { label: y as i64, rows }),
        None => Ok(()),
    }
}
