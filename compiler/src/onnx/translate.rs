//! The walk over the graph: ONNX's nodes in order, each known one computed, each other one translated.

use std::sync::Arc;

use tract_onnx::pb::GraphProto;

use super::constant::{Constant, counted, read};
use super::error::{OnnxError, Refusal, Translated, form, wrong};
use super::fold::fold;
use super::import::{Translation, Val};
use super::node::Node;
use super::schema;
use super::source::Source;

/// Element types of ONNX: f32, f16, f64, bf16.
const FLOATS: [i64; 4] = [1, 10, 11, 16];

impl Translation {
    /// Translates all nodes.
    pub fn graph(&mut self, source: &Source, graph: &GraphProto) -> Result<(), OnnxError> {
        for proto in &graph.node {
            let node = Node::new(proto);
            self.node(source, &node)?.map_err(|refusal| {
                let (file, node, op) = (source.file.clone(), node.name().to_owned(), node.describe());
                match refusal {
                    Refusal::Op => OnnxError::Unsupported { file, node, op, reason: String::new() },
                    Refusal::Form(reason) => OnnxError::Unsupported { file, node, op, reason: format!(": {reason}") },
                    Refusal::Wrong(reason) => OnnxError::Node { file, node, op, reason },
                }
            })?;
        }
        Ok(())
    }

    /// One node; the outer error is of a tensor that cannot be read.
    fn node(&mut self, source: &Source, node: &Node<'_>) -> Result<Translated<()>, OnnxError> {
        if !node.of_onnx() {
            return Ok(Err(Refusal::Op));
        }
        if let Err(refusal) = schema::check(node, self.opset) {
            return Ok(Err(refusal));
        }
        if let ("Constant", Some(t)) = (node.op(), node.tensor("value")) {
            let name = node.results().first().map_or("", String::as_str);
            let c = Constant { trained: false, ..read(&source.file, &source.folder, name, t.clone())? };
            return Ok(self.define_nth(node, 0, Val::Known(Arc::new(c))));
        }
        Ok(self.translated(node).and_then(|()| self.whole(node)))
    }

    /// Whether all of a translated node has been: its attributes, and its results.
    fn whole(&self, node: &Node<'_>) -> Translated<()> {
        node.finish(self.opset)?;
        match node.results().iter().find(|r| !r.is_empty() && !self.values.contains_key(*r)) {
            Some(missing) => form(format!("with a result `{missing}`")),
            None => Ok(()),
        }
    }

    fn translated(&mut self, node: &Node<'_>) -> Translated<()> {
        if let Some(c) = self.known_result(node)? {
            let name = if c.name.is_empty() { node.name().to_owned() } else { c.name.clone() };
            return self.define_nth(node, 0, Val::Known(Arc::new(Constant { name, ..c })));
        }
        match node.op() {
            "Identity" => {
                let t = self.tensor(node, 0)?;
                self.define_nth(node, 0, Val::Computed(t))
            }
            "Dropout" => self.dropout(node),
            "Cast" => self.cast(node),
            "Conv" => self.conv(node),
            "ConvTranspose" => self.conv_transpose(node),
            "AveragePool" | "MaxPool" => self.pool(node),
            "Resize" | "Upsample" => self.resize(node),
            "Attention" => self.attention(node),
            "DepthToSpace" | "SpaceToDepth" => self.depth_to_space(node),
            "BatchNormalization" => self.batch_norm(node),
            "LayerNormalization" => self.layer_norm(node),
            "GroupNormalization" | "InstanceNormalization" => self.group_norm(node),
            "ReduceMean" | "ReduceSum" | "ReduceL2" | "ReduceSumSquare" | "GlobalAveragePool" => self.reduce(node),
            "Softmax" => self.softmax(node),
            "Relu" | "LeakyRelu" | "Sigmoid" | "Tanh" | "Erf" | "Exp" | "Log" | "Sqrt" | "Neg" | "Cos" | "Sin" | "Gelu" | "HardSigmoid"
            | "HardSwish" | "Softplus" | "Swish" | "Reciprocal" | "Abs" => self.function(node),
            "Clip" => self.clip(node),
            "PRelu" => self.prelu(node),
            "Pow" => self.pow(node),
            "Add" | "Sub" | "Mul" | "Div" => self.binary(node),
            "MatMul" => self.matmul(node),
            "Gemm" => self.gemm(node),
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => self.reshape(node),
            "Transpose" => self.transpose(node),
            "Expand" => self.expand(node),
            "Concat" => self.concat(node),
            "Split" => self.split(node),
            "Slice" => self.slice(node),
            "Gather" => self.gather(node),
            "Pad" => self.pad(node),
            "Where" => self.choice(node),
            op if op.starts_with("Random") || op == "Bernoulli" || op == "Multinomial" => {
                form("a model that draws random numbers: export what it draws by, such as a posterior's mean")
            }
            _ => Err(Refusal::Op),
        }
    }

    /// Out of training it does nothing.
    fn dropout(&mut self, node: &Node<'_>) -> Translated<()> {
        node.passed_over(&["ratio", "seed"]);
        if node.operand(2).is_some() && self.known(node, 2).is_none_or(|c| c.uniform() != Some(0.0)) {
            return form("in training, or where only the network knows whether it is");
        }
        let v = self.operand(node, 0)?;
        self.define_nth(node, 0, v)
    }

    /// The result of a node that is known at compile time.
    fn known_result(&self, node: &Node<'_>) -> Translated<Option<Constant>> {
        let name = node.results().first().map_or("", String::as_str);
        match node.op() {
            "Constant" => return attribute(node, name).map(Some),
            "Shape" | "Size" => return self.extents(node, name).map(Some),
            "ConstantOfShape" => return self.constant_of_shape(node, name).map(Some),
            _ => {}
        }
        let known: Option<Vec<Arc<Constant>>> =
            (0..node.operands()).filter(|&i| node.operand(i).is_some()).map(|i| self.known(node, i)).collect();
        // With an operand left out in the middle, positions would shift.
        let whole = (0..node.operands()).all(|i| node.operand(i).is_some());
        match known.filter(|_| whole) {
            Some(x) => fold(node, self.opset, &x.iter().map(|c| &**c).collect::<Vec<_>>()),
            None => Ok(None),
        }
    }

    fn extents(&self, node: &Node<'_>, name: &str) -> Translated<Constant> {
        let operand = self.operand(node, 0)?;
        let dims = self.dims_of(&operand);
        let rank = dims.len() as i64;
        let of_size = if let Val::Known(c) = &operand { c.of_size } else { true };
        if node.op() == "Size" {
            let count = dims.iter().product::<usize>() as i64;
            return Ok(Constant { of_size, ..Constant::ints(name, vec![], vec![count]) });
        }
        let bound = |i: i64| (if i < 0 { i.saturating_add(rank) } else { i }).clamp(0, rank) as usize;
        let (start, end) = (bound(node.int_or("start", 0)), bound(node.int_or("end", rank)));
        let list: Vec<i64> = dims[start..end.max(start)].iter().map(|&d| d as i64).collect();
        Ok(Constant { of_size, ..Constant::ints(name, vec![list.len()], list) })
    }

    fn constant_of_shape(&self, node: &Node<'_>, name: &str) -> Translated<Constant> {
        let Some(shape) = self.known(node, 0) else { return form("of extents that are computed") };
        let dims: Option<Vec<usize>> = shape.as_ints().unwrap_or(&[]).iter().map(|&d| usize::try_from(d).ok()).collect();
        // Such tensors are shapes and masks; a large one would only fill memory.
        let counts = dims.and_then(|d| Some((counted(&d).filter(|&n| n <= 1 << 24)?, d)));
        let Some((count, dims)) = counts else { return wrong("expected extents of at most 2^24 elements") };
        let of_size = shape.of_size;
        let value = match node.tensor("value") {
            None => return Ok(Constant { of_size, ..Constant::floats(name, dims, vec![0.0; count]) }),
            Some(t) => read("", std::path::Path::new(""), name, t.clone()),
        };
        let value = match value {
            Ok(value) => value,
            Err(OnnxError::Tensor { reason, .. }) => return wrong(format!("attribute `value`: {reason}")),
            Err(_) => return form("attribute `value`: values in another file"),
        };
        match (value.as_ints(), value.as_floats().first()) {
            (Some(&[i]), _) => Ok(Constant { of_size, ..Constant::ints(name, dims, vec![i; count]) }),
            (None, Some(&f)) => Ok(Constant { of_size, ..Constant::floats(name, dims, vec![f; count]) }),
            _ => wrong("expected one value"),
        }
    }

    /// Floats are f32 of whatever width they are declared; labels stay labels.
    fn cast(&mut self, node: &Node<'_>) -> Translated<()> {
        // They are about floats of 8 bits, which are refused.
        node.passed_over(&["saturate", "round_mode"]);
        let t = self.tensor(node, 0)?;
        let (to, float) = (node.required_int("to")?, self.b.ty(t.v).dtype.is_float());
        match (float, FLOATS.contains(&to), [6, 7].contains(&to)) {
            (true, true, _) | (false, _, true) => self.define_nth(node, 0, Val::Computed(t)),
            _ if !FLOATS.contains(&to) && ![6, 7].contains(&to) => form(format!("attribute `to`: element type {to}")),
            _ => form("of computed values between floats and integers"),
        }
    }

    /// With a condition that is known and the same everywhere, it is one of the operands.
    fn choice(&mut self, node: &Node<'_>) -> Translated<()> {
        let condition = self.constant(node, 0, "a condition")?;
        let Some(c) = condition.uniform() else { return form("with a condition that differs from element to element") };
        let (chosen, other) = (self.operand(node, if c != 0.0 { 1 } else { 2 })?, self.operand(node, if c != 0.0 { 2 } else { 1 })?);
        let sizes = [condition.dims.clone(), self.dims_of(&chosen), self.dims_of(&other)];
        let dims = super::shapes::broadcast(&super::shapes::broadcast(&sizes[0], &sizes[1])?, &sizes[2])?;
        let Val::Computed(t) = &chosen else { return form("with a constant chosen") };
        let t = self.lead(t, dims.len())?;
        let v = self.spread(&Val::Computed(t.clone()), &dims, &t.order)?;
        self.define(node, super::import::Ordered { v, order: t.order })
    }
}

/// The value of a `Constant` that is no tensor.
fn attribute(node: &Node<'_>, name: &str) -> Translated<Constant> {
    if let Some(i) = node.int("value_int") {
        return Ok(Constant::ints(name, vec![], vec![i]));
    }
    if let Some(list) = node.ints("value_ints") {
        return Ok(Constant::ints(name, vec![list.len()], list.to_vec()));
    }
    if let Some(list) = node.floats("value_floats") {
        return Ok(Constant::floats(name, vec![list.len()], list.to_vec()));
    }
    match node.has("value_float") {
        true => Ok(Constant::floats(name, vec![], vec![node.float_or("value_float", 0.0) as f32])),
        false => form("of another kind"),
    }
}

/// What an input of integers is: numbers, if it is cast to floats; labels otherwise.
pub(super) fn is_number(graph: &GraphProto, input: &str) -> Result<bool, String> {
    let mut derived = vec![input.to_owned()];
    let (mut number, mut label) = (None, None);
    for proto in &graph.node {
        let node = Node::new(proto);
        let uses = |i: usize| node.operand(i).is_some_and(|n| derived.iter().any(|d| d == n));
        match node.op() {
            "Cast" if uses(0) && FLOATS.contains(&node.int_or("to", 0)) => number = Some(node.name()),
            "Identity" | "Cast" | "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" | "Transpose" if uses(0) => {
                derived.extend(node.results().first().cloned());
            }
            "Gather" if uses(1) => label = Some(node.name()),
            _ => {}
        }
    }
    match (number, label) {
        (Some(number), Some(label)) => {
            Err(format!("expected integers that are labels or numbers, found both: a number at `{number}`, a label at `{label}`"))
        }
        (number, _) => Ok(number.is_some()),
    }
}
