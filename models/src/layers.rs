//! Layers, of which all networks are made: each is declared once, with its name, its op and its parameters, and applied where a
//! function is built.
//!
//! Declaring comes first and apart from applying because the two have orders of their own: parameters are listed in the order in
//! which trainers register them, by which optimisers and fingerprints number them, and instructions follow the data. A layer's
//! value has its name.

use std::fmt::Display;

use fcdm_ir::ops::{Conv2d, DwConv2d, Embedding, Grn, GroupNorm, Linear};
use fcdm_ir::{Builder, Op, Type, Value};

use crate::parameter::{CheckpointLayout, Parameter};
use crate::role::{LayerKind, ParameterKind, Region, Resolution, Role};

/// A layer: an op with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layer {
    name: String,
    op: Op,
    /// Name and type of each, in the order of the op's operands.
    weights: Vec<(String, Type)>,
}

/// Declares layers of one region of a network and one size of the image, in the order of registration.
pub(crate) struct Declaration<'a> {
    list: &'a mut Vec<Parameter>,
    region: Region,
    resolution: Resolution,
}

impl Declaration<'_> {
    /// Declares layers of the trunk, whose parameters go to `list`.
    pub fn new(list: &mut Vec<Parameter>) -> Declaration<'_> {
        Declaration { list, region: Region::Trunk, resolution: Resolution::Reduced }
    }

    /// Declares layers of another region.
    pub fn at(&mut self, region: Region) -> Declaration<'_> {
        Declaration { list: self.list, region, resolution: self.resolution }
    }

    /// Declares layers at another size of the image.
    pub fn sized(&mut self, resolution: Resolution) -> Declaration<'_> {
        Declaration { list: self.list, region: self.region, resolution }
    }

    /// `NAME.weight [O,I]` and bias.
    pub fn linear(&mut self, name: &str, o: usize, i: usize) -> Layer {
        let weights = vec![self.weight(name, LayerKind::Linear, vec![o, i], CheckpointLayout::Same), self.bias(name, LayerKind::Linear, o)];
        layer(name, Linear {}, weights)
    }

    /// `NAME.weight [O,I,1,1]`, perhaps a bias: a linear layer of every pixel.
    pub fn pointwise(&mut self, name: &str, o: usize, i: usize, bias: bool) -> Layer {
        let mut weights = vec![self.weight(name, LayerKind::Linear, vec![o, i, 1, 1], CheckpointLayout::Pointwise)];
        weights.extend(bias.then(|| self.bias(name, LayerKind::Linear, o)));
        layer(name, Linear {}, weights)
    }

    /// `NAME.weight [O,I,3,3]`, perhaps a bias: a convolution that keeps the size.
    pub fn conv3x3(&mut self, name: &str, o: usize, i: usize, bias: bool) -> Layer {
        self.convolution(name, [o, i], bias, 1, [1; 4])
    }

    /// The same with any stride; `pad` is top, left, bottom, right.
    pub fn convolution(&mut self, name: &str, [o, i]: [usize; 2], bias: bool, stride: usize, pad: [usize; 4]) -> Layer {
        let mut weights = vec![self.weight(name, LayerKind::Convolution, vec![o, i, 3, 3], CheckpointLayout::Convolution)];
        weights.extend(bias.then(|| self.bias(name, LayerKind::Convolution, o)));
        layer(name, Conv2d { stride, pad: pad.to_vec() }, weights)
    }

    /// `NAME.weight [C,1,K,K]` and bias: each channel by itself, with K odd and the size kept.
    pub fn depthwise(&mut self, name: &str, c: usize, k: usize) -> Layer {
        let weight = self.weight(name, LayerKind::Depthwise, vec![c, 1, k, k], CheckpointLayout::Depthwise);
        layer(name, DwConv2d { pad: k / 2 }, vec![weight, self.bias(name, LayerKind::Depthwise, c)])
    }

    /// `NAME.weight [C]` and bias: a group norm with its affine part.
    pub fn group_norm(&mut self, name: &str, c: usize, groups: usize, eps: f64) -> Layer {
        let weight = self.weight(name, LayerKind::Norm, vec![c], CheckpointLayout::Same);
        layer(name, GroupNorm { groups, eps }, vec![weight, self.bias(name, LayerKind::Norm, c)])
    }

    /// `NAME.gamma` and `NAME.beta`, `[1,C,1,1]`.
    pub fn grn(&mut self, name: &str, c: usize, eps: f64) -> Layer {
        let parts = [("gamma", ParameterKind::Weight), ("beta", ParameterKind::Bias)];
        let weights = parts.map(|(what, part)| {
            self.parameter(format!("{name}.{what}"), vec![1, c, 1, 1], CheckpointLayout::Channels, LayerKind::Grn, part)
        });
        layer(name, Grn { eps }, weights.to_vec())
    }

    /// `NAME.weight [ROWS,C]`: a row per label.
    pub fn table(&mut self, name: &str, rows: usize, c: usize) -> Layer {
        let weight = self.weight(name, LayerKind::Table, vec![rows, c], CheckpointLayout::Same);
        layer(name, Embedding {}, vec![weight])
    }

    fn weight(&mut self, name: &str, layer: LayerKind, shape: Vec<usize>, layout: CheckpointLayout) -> (String, Type) {
        self.parameter(format!("{name}.weight"), shape, layout, layer, ParameterKind::Weight)
    }

    fn bias(&mut self, name: &str, layer: LayerKind, o: usize) -> (String, Type) {
        self.parameter(format!("{name}.bias"), vec![o], CheckpointLayout::Same, layer, ParameterKind::Bias)
    }

    fn parameter(
        &mut self,
        name: String,
        shape: Vec<usize>,
        layout: CheckpointLayout,
        layer: LayerKind,
        part: ParameterKind,
    ) -> (String, Type) {
        let p = Parameter { name, shape, layout, role: Role { layer, part, region: self.region, resolution: self.resolution } };
        let weight = (p.name.clone(), p.ty());
        self.list.push(p);
        weight
    }
}

fn layer(name: &str, op: impl Into<Op>, weights: Vec<(String, Type)>) -> Layer {
    Layer { name: name.to_owned(), op: op.into(), weights }
}

/// A function that is being built from layers.
pub(crate) struct Wiring<'a> {
    /// The function.
    pub b: Builder,
    /// What names have in the IR before those of the checkpoint.
    prefix: &'a str,
}

impl<'a> Wiring<'a> {
    /// An empty function.
    pub fn new(name: impl Display, prefix: &'a str) -> Wiring<'a> {
        Wiring { b: Builder::new(name.to_string()), prefix }
    }

    /// Names a value.
    pub fn name(&mut self, name: &str, v: Value) -> Value {
        self.b.name(v, &format!("{}{name}", self.prefix))
    }

    /// A weight under its name in the file, or a constant of the network's own.
    pub fn weight(&mut self, name: &str, ty: Type) -> Value {
        self.b.weight(&format!("{}{name}", self.prefix), ty)
    }

    /// An op's one result, named.
    pub fn named(&mut self, name: &str, op: impl Into<Op>, x: &[Value]) -> Value {
        let v = self.b.one(op, x);
        self.name(name, v)
    }

    /// A layer of a value.
    pub fn layer(&mut self, layer: &Layer, x: Value) -> Value {
        let v = self.unnamed(layer, x);
        self.name(&layer.name, v)
    }

    /// The same without a name, for what is of no interest by itself.
    pub fn unnamed(&mut self, layer: &Layer, x: Value) -> Value {
        let weights = layer.weights.iter().map(|(name, ty)| self.weight(name, ty.clone()));
        let mut operands: Vec<Value> = weights.collect();
        // An embedding takes its table first.
        let place = if matches!(layer.op, Op::Embedding(_)) { operands.len() } else { 0 };
        operands.insert(place, x);
        self.b.one(layer.op.clone(), &operands)
    }
}
