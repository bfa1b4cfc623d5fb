//! A model as its file has it, decoded once, to be had at any extents of its inputs: initialisers are read once, and what is made at
//! several sizes shares them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use fcdm_ir::flow::sweep;
use fcdm_ir::{DType, Type};

use super::constant::{Constant, read};
use super::error::OnnxError;
use super::import::{Ordered, Translation, Val, legal, preferred};
use super::node::Node;
use super::source::{Declared, Source};
use super::translate::is_number;
use super::{Extents, ModelPort, Onnx};

/// A decoded file.
pub struct Model {
    source: Source,
    /// By name.
    initialisers: HashMap<String, Arc<Constant>>,
}

/// Ops whose result has the channels of their first operand, in the same place: what an image may go through before its first
/// convolution.
const KEEP_CHANNELS: [&str; 16] = [
    "Identity", "Cast", "Add", "Sub", "Mul", "Div", "Clip", "Tanh", "Sigmoid", "Relu", "Neg", "Pad", "Resize", "Upsample", "Dropout", "Pow",
];

impl Model {
    /// Reads a file.
    ///
    /// # Errors
    /// See [`OnnxError`].
    pub fn open(path: &Path) -> Result<Model, OnnxError> {
        let mut source = Source::open(path)?;
        let mut initialisers = HashMap::new();
        for t in source.take_initialisers() {
            let name = t.name.clone();
            let c = read(&source.file, &source.folder, &name, t)?;
            initialisers.insert(name, Arc::new(c));
        }
        Ok(Model { source, initialisers })
    }

    /// Its inputs, in order, with their extents where these are numbers.
    ///
    /// # Errors
    /// See [`OnnxError`].
    pub fn declared(&self) -> Result<Vec<Extents>, OnnxError> {
        self.source.declared_inputs()
    }

    /// Channels of an input that is an image, as the weight of the first convolution over it says.
    pub fn channels(&self, input: &str) -> Option<usize> {
        let mut images = vec![input];
        // The second extents of weights. One that several nodes use may have a name of its own for each.
        let second = |(name, c): (&'_ String, &Arc<Constant>)| Some((name.clone(), *c.dims.get(1)?));
        let mut weights: HashMap<String, usize> = self.initialisers.iter().filter_map(second).collect();
        for proto in &self.source.graph().node {
            let node = Node::new(proto);
            let (over, result) = (|i: usize| node.operand(i).is_some_and(|n| images.contains(&n)), node.results().first()?);
            match node.op() {
                "Conv" if over(0) => {
                    let groups = usize::try_from(node.int_or("group", 1)).ok()?;
                    return weights.get(node.operand(1)?)?.checked_mul(groups);
                }
                "Constant" => {
                    let dims = node.tensor("value").map_or(&[][..], |t| &t.dims[..]);
                    weights.extend(dims.get(1).and_then(|&d| Some((result.clone(), usize::try_from(d).ok()?))));
                }
                "Identity" | "Cast" if !over(0) => {
                    weights.extend(weights.get(node.operand(0)?).copied().map(|d| (result.clone(), d)));
                }
                // Of two operands the image may be either.
                op if KEEP_CHANNELS.contains(&op) && (over(0) || over(1)) => images.push(result),
                _ => {}
            }
        }
        None
    }

    /// The model at given extents of inputs, by name and in ONNX's order; others have to be static, or to follow from dimensions
    /// of the same name.
    ///
    /// # Errors
    /// See [`OnnxError`].
    pub fn at(&self, shapes: &[(String, Vec<usize>)]) -> Result<Onnx, OnnxError> {
        let source = &self.source;
        let declared = source.inputs(shapes)?;
        let mut import = Translation::new(source.opset);
        let inputs = declared.iter().map(|d| input(source, &mut import, d)).collect::<Result<Vec<ModelPort>, OnnxError>>()?;
        for (name, c) in &self.initialisers {
            import.values.insert(name.clone(), Val::Known(c.clone()));
        }
        import.graph(source, source.graph())?;
        let mut results = Vec::new();
        let outputs = source.graph().output.iter().map(|o| output(source, &mut import, &o.name, &mut results));
        let outputs = outputs.collect::<Result<Vec<ModelPort>, OnnxError>>()?;
        let function = sweep(&import.b.finish(results));
        let mut weights = import.weights;
        weights.retain(|name, _| function.weights().any(|(_, d)| d.name == *name));
        Ok(Onnx { function, inputs, outputs, weights })
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
