//! Layers with the parameters of a checkpoint: what the builders of all networks have in common. A layer's value has its name.

use std::collections::HashMap;

use fcdm_ir::ops::{Conv2d, Linear};
use fcdm_ir::{Builder, Op, Value};

use crate::parameter::Parameter;

/// A function that is being built from layers.
pub(crate) struct Layers<'a> {
    /// The function.
    pub b: Builder,
    /// What names have in the IR before those of the checkpoint.
    prefix: &'a str,
    parameters: HashMap<String, Parameter>,
}

impl<'a> Layers<'a> {
    /// An empty function, for a network of these parameters.
    pub fn new(name: &str, prefix: &'a str, parameters: Vec<Parameter>) -> Layers<'a> {
        let parameters = parameters.into_iter().map(|p| (p.name.clone(), p)).collect();
        Layers { b: Builder::new(name), prefix, parameters }
    }

    /// Whether there is a parameter of that name.
    pub fn has(&self, name: &str) -> bool {
        self.parameters.contains_key(name)
    }

    /// A parameter.
    ///
    /// # Panics
    /// If the network has none of that name.
    pub fn weight(&mut self, name: &str) -> Value {
        let ty = self.parameters.get(name).unwrap_or_else(|| panic!("`{name}` is not a parameter of this network")).ty();
        self.b.weight(&format!("{}{name}", self.prefix), ty)
    }

    /// Names a value.
    pub fn name(&mut self, name: &str, v: Value) -> Value {
        self.b.name(v, &format!("{}{name}", self.prefix))
    }

    /// An op's one result, named.
    pub fn named(&mut self, name: &str, op: impl Into<Op>, x: &[Value]) -> Value {
        let v = self.b.one(op, x);
        self.name(name, v)
    }

    /// `NAME.weight`, and `NAME.bias` if there is one, after `x`.
    fn operands(&mut self, name: &str, x: Value) -> Vec<Value> {
        let bias = format!("{name}.bias");
        let mut operands = vec![x, self.weight(&format!("{name}.weight"))];
        if self.has(&bias) {
            operands.push(self.weight(&bias));
        }
        operands
    }

    /// A linear layer or 1x1 convolution.
    pub fn linear(&mut self, name: &str, x: Value) -> Value {
        let operands = self.operands(name, x);
        self.named(name, Linear {}, &operands)
    }

    /// A convolution; `pad` is top, left, bottom, right.
    pub fn convolution(&mut self, name: &str, x: Value, stride: usize, pad: [usize; 4]) -> Value {
        let operands = self.operands(name, x);
        self.named(name, Conv2d { stride, pad: pad.to_vec() }, &operands)
    }

    /// One of 3x3 that keeps the size.
    pub fn conv3x3(&mut self, name: &str, x: Value) -> Value {
        self.convolution(name, x, 1, [1; 4])
    }
}
