//! Translation of ONNX models. This is the one place that knows of `tract`; none of its types leave it.
//!
//! The file is decoded by `tract_onnx` and translated node by node from ONNX's own graph: so an op that there is no
//! translation of can be named with its node and attributes, and weights keep their names. Extents follow from the IR's shape
//! rules as the function grows, and arithmetic on shapes is computed on the way (`fold`), which is why tract's own analysis is
//! not needed, whose panics would have to be caught. [`TractModel`] runs the graph by `tract-core` instead, as a check.
//!
//! - `source`: the file and its inputs; `constant`: tensors with values; `node`: attributes; `schema`: what ONNX defines;
//! - `translate`: the walk;
//! - `import`: what values have become, and the order of their axes; `shapes`: extents by ONNX's rules; `fold`: known nodes;
//! - `compiled`: entry points; `session`: a model compiled and run in memory;
//! - `conv`, `image`, `resize`, `norm`, `product`, `attention`, `elementwise`, `moves`, `timestep`: the ops, by kind.

mod attention;
mod compiled;
mod constant;
mod conv;
mod elementwise;
mod error;
mod fold;
mod image;
mod import;
mod moves;
mod node;
mod norm;
mod product;
mod resize;
mod schema;
mod session;
mod shapes;
mod source;
mod timestep;
mod tract;
mod translate;

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use fcdm_ir::flow::sweep;
use fcdm_ir::{DType, Function, Type};

use crate::weights::{WeightError, WeightSource};
use constant::{permuted, read};
pub use error::OnnxError;
use import::{Ordered, Translation, Val, Weight, legal, preferred};
pub use session::{Session, SessionError};
use source::{Declared, Source};
pub use tract::{Given, TractModel};
use translate::is_number;

/// An input or output of a model: how ONNX sees it, and how the function does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPort {
    /// Its name in the model.
    pub name: String,
    /// Its extents in the model: channels first, if it has four.
    pub dims: Vec<usize>,
    /// True if the model takes integers.
    pub integers: bool,
    /// The name that the function has for it.
    pub value: String,
    /// Its type in the function: channels last, if it has four axes; labels are i32, all else f32.
    pub ty: Type,
    /// Axis i of the function's value is axis `order[i]` of the model's.
    order: Vec<usize>,
}

impl ModelPort {
    /// Values in the model's order in the function's.
    pub fn to_function<T: Copy>(&self, values: &[T]) -> Vec<T> {
        permuted(values, &self.dims, &self.order)
    }

    /// Values in the function's order in the model's.
    pub fn to_model<T: Copy>(&self, values: &[T]) -> Vec<T> {
        let mut back = vec![0; self.order.len()];
        self.order.iter().enumerate().for_each(|(i, &a)| back[a] = i);
        permuted(values, &self.ty.shape, &back)
    }
}

/// Name of an input, and its extents in the model's order where these are numbers.
pub type Extents = (String, Vec<Option<usize>>);

/// A model as one function, and its weights in the function's layout.
pub struct Onnx {
    function: Function,
    inputs: Vec<ModelPort>,
    outputs: Vec<ModelPort>,
    weights: HashMap<String, Weight>,
}

impl Onnx {
    /// Imports a model whose inputs have static extents.
    ///
    /// # Errors
    /// See [`OnnxError`].
    pub fn open(path: &Path) -> Result<Onnx, OnnxError> {
        Onnx::open_at(path, &[])
    }

    /// Imports a model at given extents of inputs, by name and in ONNX's order; others have to be static, or to follow from
    /// dimensions of the same name.
    ///
    /// # Errors
    /// See [`OnnxError`].
    pub fn open_at(path: &Path, shapes: &[(String, Vec<usize>)]) -> Result<Onnx, OnnxError> {
        let mut source = Source::open(path)?;
        let declared = source.inputs(shapes)?;
        let mut import = Translation::new(source.opset);
        let inputs = declared.iter().map(|d| input(&source, &mut import, d)).collect::<Result<Vec<ModelPort>, OnnxError>>()?;
        let initialisers = std::mem::take(&mut source.model.graph.as_mut().expect("a decoded model has one").initializer);
        for t in initialisers {
            let name = t.name.clone();
            let c = read(&source.file, &source.folder, &name, t)?;
            import.values.insert(name, Val::Known(Arc::new(c)));
        }
        import.graph(&source, source.graph())?;
        let mut results = Vec::new();
        let outputs = source.graph().output.iter().map(|o| output(&source, &mut import, &o.name, &mut results));
        let outputs = outputs.collect::<Result<Vec<ModelPort>, OnnxError>>()?;
        let function = sweep(&import.b.finish(results));
        let mut weights = import.weights;
        weights.retain(|name, _| function.weights().any(|(_, d)| d.name == *name));
        Ok(Onnx { function, inputs, outputs, weights })
    }

    /// Inputs of a model, in order, with their extents where these are numbers; nothing else of it is looked at.
    ///
    /// # Errors
    /// See [`OnnxError`].
    pub fn declared(path: &Path) -> Result<Vec<Extents>, OnnxError> {
        Source::open(path)?.declared_inputs()
    }

    /// The model: inputs and results are those of [`Onnx::inputs`] and [`Onnx::outputs`], in order.
    pub fn function(&self) -> &Function {
        &self.function
    }

    /// The inputs, in order.
    pub fn inputs(&self) -> &[ModelPort] {
        &self.inputs
    }

    /// The outputs, in order.
    pub fn outputs(&self) -> &[ModelPort] {
        &self.outputs
    }

    fn stored(&self, name: &str) -> Result<&Weight, WeightError> {
        self.weights.get(name).ok_or_else(|| WeightError::Missing(name.to_owned()))
    }
}

impl WeightSource for Onnx {
    fn load(&self, name: &str) -> Result<Vec<f32>, WeightError> {
        Ok(self.stored(name)?.values())
    }

    fn load_rows(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>, WeightError> {
        let stored = self.stored(name)?;
        let values = stored.values();
        let row = values.len() / stored.form.shape.first().copied().unwrap_or(1).max(1);
        Ok(values[rows.start * row..rows.end * row].to_vec())
    }
}

/// Makes an input of the function.
fn input(source: &Source, import: &mut Translation, d: &Declared) -> Result<ModelPort, OnnxError> {
    let fail = |reason: String| OnnxError::Port { file: source.file.clone(), port: d.name.clone(), reason };
    // FLOAT, FLOAT16, DOUBLE and BFLOAT16; INT32 and INT64.
    let (dtype, integers) = match d.element {
        1 | 10 | 11 | 16 => (DType::F32, false),
        6 | 7 => (if is_number(source.graph(), &d.name).map_err(fail)? { DType::F32 } else { DType::I32 }, true),
        other => return Err(fail(format!("expected floats or integers, found element type {other}"))),
    };
    let order = preferred(d.dims.len());
    let ty = Type::new(dtype, order.iter().map(|&a| d.dims[a]).collect::<Vec<_>>());
    let value = legal(&d.name);
    if import.b.so_far().inputs().iter().any(|&v| import.b.so_far().value(v).name == value) {
        return Err(fail("expected inputs with names of their own".to_owned()));
    }
    let v = import.b.input(&value, ty.clone());
    import.values.insert(d.name.clone(), Val::Computed(Ordered { v, order: order.clone() }));
    Ok(ModelPort { name: d.name.clone(), dims: d.dims.clone(), integers, value, ty, order })
}

/// Makes a result of the function.
fn output(
    source: &Source,
    import: &mut Translation,
    name: &str,
    results: &mut Vec<(String, fcdm_ir::Value)>,
) -> Result<ModelPort, OnnxError> {
    let fail = |reason: &str| OnnxError::Port { file: source.file.clone(), port: name.to_owned(), reason: reason.to_owned() };
    let t = match import.values.get(name).cloned() {
        None => return Err(fail("no node makes this output")),
        Some(Val::Known(_)) => return Err(fail("expected an output that depends on an input, found a constant")),
        Some(Val::Computed(t)) => t,
    };
    let dims = import.dims(&t);
    let order = preferred(dims.len());
    let v = import.arranged(&t, &order).map_err(|e| fail(&format!("{e:?}")))?;
    let mut value = legal(name);
    while results.iter().any(|(n, _)| *n == value) {
        value.push('_');
    }
    results.push((value.clone(), v));
    Ok(ModelPort { name: name.to_owned(), dims, integers: false, value, ty: import.b.ty(v).clone(), order })
}
