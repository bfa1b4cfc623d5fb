//! Translation of ONNX models. This is the one place that knows of `tract`; none of its types leave it.
//!
//! The file is decoded by `tract_onnx` and translated node by node from ONNX's own graph: so an op that there is no
//! translation of can be named with its node and attributes, and weights keep their names. Extents follow from the IR's shape
//! rules as the function grows, and arithmetic on shapes is computed on the way (`fold`), which is why tract's own analysis is
//! not needed, whose panics would have to be caught. [`TractModel`] runs the graph by `tract-core` instead, as a check.
//!
//! - `model`: a file, to be had at any size; `source`: the file and its inputs; `constant`: tensors with values; `node`: attributes; `schema`: what ONNX defines;
//! - `translate`: the walk; `weight`: what it leaves to be stored;
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
mod model;
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
mod weight;

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use fcdm_ir::{Function, Type};

use crate::weights::{WeightError, WeightSource};
use constant::permuted;
pub use error::OnnxError;
pub use model::Model;
pub use session::{Session, SessionError};
pub use tract::{Given, TractModel};
pub use weight::Weight;

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

/// A model at given extents of its inputs, as one function, and its weights in the function's layout.
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

    /// As [`Model::at`], of a file.
    ///
    /// # Errors
    /// See [`OnnxError`].
    pub fn open_at(path: &Path, shapes: &[(String, Vec<usize>)]) -> Result<Onnx, OnnxError> {
        Model::open(path)?.at(shapes)
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

    /// A weight of the function, by its name there.
    pub fn weight(&self, name: &str) -> Option<&Weight> {
        self.weights.get(name)
    }

    fn stored(&self, name: &str) -> Result<&Weight, WeightError> {
        self.weight(name).ok_or_else(|| WeightError::Missing(name.to_owned()))
    }
}

impl WeightSource for Onnx {
    fn load(&self, name: &str) -> Result<Vec<f32>, WeightError> {
        Ok(self.stored(name)?.values())
    }

    fn load_rows(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>, WeightError> {
        Ok(self.stored(name)?.rows(rows))
    }
}
