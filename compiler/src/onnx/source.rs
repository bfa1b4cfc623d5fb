//! The file: decoded, its graph and the extents of its inputs found, symbolic dimensions bound to numbers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tract_onnx::pb::tensor_shape_proto::dimension::Value as Dim;
use tract_onnx::pb::type_proto::Value as Kind;
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto, ValueInfoProto};
use tract_onnx::prelude::Framework;

use super::Extents;
use super::constant::counted;
use super::error::OnnxError;
use super::schema::OPSETS;

/// A decoded file.
pub(super) struct Source {
    /// Its name, for messages.
    pub file: String,
    /// Where external data is looked for.
    pub folder: PathBuf,
    pub model: ModelProto,
    pub opset: i64,
    /// Names of the inputs that are no initialisers, in order.
    free: Vec<String>,
}

/// An input as the graph declares it.
pub(super) struct Declared {
    pub name: String,
    /// ONNX's number of the element type.
    pub element: i32,
    pub dims: Vec<usize>,
}

impl Source {
    /// Reads and decodes a file.
    pub fn open(path: &Path) -> Result<Source, OnnxError> {
        let file = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|source| OnnxError::Read { file: file.clone(), source })?;
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Source::decode(file, folder, &bytes)
    }

    fn decode(file: String, folder: PathBuf, bytes: &[u8]) -> Result<Source, OnnxError> {
        let not = |reason: &str| OnnxError::NotOnnx { file: file.clone(), reason: reason.to_owned() };
        let model = tract_onnx::onnx().proto_model_for_read(&mut &bytes[..]).map_err(|e| not(&one_line(&e)))?;
        let graph = model.graph.as_ref().ok_or_else(|| not("it has no graph"))?;
        if graph.output.is_empty() {
            return Err(not("its graph has no outputs"));
        }
        let own = |domain: &str| domain.is_empty() || domain == "ai.onnx";
        let opset = model.opset_import.iter().find(|o| own(&o.domain)).map(|o| o.version);
        let opset = opset.ok_or_else(|| not("it names no operator set"))?;
        if !OPSETS.contains(&opset) {
            let (first, last) = (OPSETS.start(), OPSETS.end());
            return Err(not(&format!("expected operator sets {first} to {last}, found {opset}; export with opset_version=20")));
        }
        let initialised = |name: &str| graph.initializer.iter().any(|t| t.name == name);
        let free = graph.input.iter().map(|i| i.name.clone()).filter(|n| !initialised(n)).collect();
        Ok(Source { file, folder, model, opset, free })
    }

    /// Takes the initialisers out of the file, so that they are not there twice.
    pub fn take_initialisers(&mut self) -> Vec<TensorProto> {
        std::mem::take(&mut self.model.graph.as_mut().expect("`decode` refuses models without").initializer)
    }

    pub fn graph(&self) -> &GraphProto {
        self.model.graph.as_ref().expect("`decode` refuses models without")
    }

    /// The inputs that are not initialisers, in order, with the extents given for them or declared.
    pub fn inputs(&self, shapes: &[(String, Vec<usize>)]) -> Result<Vec<Declared>, OnnxError> {
        let inputs = self.free_inputs();
        if let Some((name, _)) = shapes.iter().find(|(n, _)| inputs.iter().all(|i| i.name != *n)) {
            let names: Vec<&str> = inputs.iter().map(|i| &*i.name).collect();
            return Err(self.port(name, format!("expected one of the inputs {names:?}")));
        }
        let mut bound: HashMap<&str, usize> = HashMap::new();
        for input in &inputs {
            if let Some((name, shape)) = shapes.iter().find(|(n, _)| *n == input.name) {
                self.bind(name, self.declared(input)?.1, shape, &mut bound)?;
            }
        }
        inputs.iter().map(|input| self.input(input, shapes, &bound)).collect()
    }

    /// Names of the inputs that are not initialisers, in order, and their extents where these are numbers.
    pub fn declared_inputs(&self) -> Result<Vec<Extents>, OnnxError> {
        let number = |d: Option<&Dim>| if let Some(Dim::DimValue(v)) = d { usize::try_from(*v).ok() } else { None };
        let one = |i: &ValueInfoProto| Ok((i.name.clone(), self.declared(i)?.1.into_iter().map(number).collect()));
        self.free_inputs().into_iter().map(one).collect()
    }

    fn free_inputs(&self) -> Vec<&ValueInfoProto> {
        self.graph().input.iter().filter(|i| self.free.contains(&i.name)).collect()
    }

    fn port(&self, port: &str, reason: String) -> OnnxError {
        OnnxError::Port { file: self.file.clone(), port: port.to_owned(), reason }
    }

    /// Element type and dimensions: a number, or a symbol, or neither.
    fn declared<'a>(&self, info: &'a ValueInfoProto) -> Result<(i32, Vec<Option<&'a Dim>>), OnnxError> {
        let kind = info.r#type.as_ref().and_then(|t| t.value.as_ref());
        let Some(Kind::TensorType(tensor)) = kind else { return Err(self.port(&info.name, "expected a tensor".to_owned())) };
        let shape = tensor.shape.as_ref().ok_or_else(|| self.port(&info.name, "expected extents, found none declared".to_owned()))?;
        Ok((tensor.elem_type, shape.dim.iter().map(|d| d.value.as_ref()).collect()))
    }

    /// Holds a given shape against the declared dimensions, and binds its symbols.
    fn bind<'a>(
        &self,
        name: &str,
        dims: Vec<Option<&'a Dim>>,
        shape: &[usize],
        bound: &mut HashMap<&'a str, usize>,
    ) -> Result<(), OnnxError> {
        let fits = |(d, &n): (&Option<&Dim>, &usize)| !matches!(d, Some(Dim::DimValue(v)) if *v != n as i64);
        if dims.len() != shape.len() || !dims.iter().zip(shape).all(fits) {
            let declared: Vec<String> = dims.iter().map(|d| shown(*d)).collect();
            return Err(self.port(name, format!("expected extents [{}], found {shape:?}", declared.join(","))));
        }
        for (dim, &n) in dims.iter().zip(shape) {
            if let Some(Dim::DimParam(symbol)) = dim
                && let Some(before) = bound.insert(symbol, n)
                && before != n
            {
                return Err(self.port(name, format!("dimension `{symbol}`: expected {before} as elsewhere, found {n}")));
            }
        }
        Ok(())
    }

    fn input(&self, info: &ValueInfoProto, shapes: &[(String, Vec<usize>)], bound: &HashMap<&str, usize>) -> Result<Declared, OnnxError> {
        let (element, declared) = self.declared(info)?;
        let given = shapes.iter().find(|(n, _)| *n == info.name).map(|(_, s)| s);
        let extent = |(i, d): (usize, &Option<&Dim>)| {
            let known = match d {
                _ if given.is_some() => given.map(|s| s[i]),
                Some(Dim::DimValue(v)) => usize::try_from(*v).ok(),
                Some(Dim::DimParam(symbol)) => bound.get(&**symbol).copied(),
                None => None,
            };
            let dim = if d.is_some() { shown(*d) } else { i.to_string() };
            known.ok_or_else(|| OnnxError::Dynamic { file: self.file.clone(), input: info.name.clone(), dim })
        };
        let dims = declared.iter().enumerate().map(extent).collect::<Result<Vec<usize>, OnnxError>>()?;
        if dims.contains(&0) || counted(&dims).is_none() || dims.len() > 8 {
            return Err(self.port(&info.name, format!("expected extents of 1 element or more, found {dims:?}")));
        }
        Ok(Declared { name: info.name.clone(), element, dims })
    }
}

/// A number or the name of a dimension.
fn shown(d: Option<&Dim>) -> String {
    match d {
        Some(Dim::DimValue(v)) => v.to_string(),
        Some(Dim::DimParam(symbol)) => symbol.chars().filter(|c| !c.is_control()).take(60).collect(),
        None => "?".to_owned(),
    }
}

/// An error of tract and its causes, on one line.
pub(super) fn one_line(e: &tract_onnx::prelude::TractError) -> String {
    format!("{e:#}").replace(char::is_control, " ")
}
