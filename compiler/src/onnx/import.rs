//! The state of a translation: the function being built, what every ONNX value has become, and the weights.
//!
//! A computed value is an IR value and the order of its axes: axis i of the IR value is axis `order[i]` of the ONNX value.
//! Images are `[N,C,H,W]` there and `[N,H,W,C]` here, order `[0,2,3,1]`. So a `Transpose` is no instruction at all, and one
//! that merely converts between the layouts costs nothing; an instruction moves elements only where an op needs another
//! order than the value has ([`Translation::arranged`]). What has no order yet takes that of images if it has four axes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use fcdm_ir::ops::{Broadcast, Reshape, Transpose};
use fcdm_ir::{Builder, Op, Type, Value};
use fcdm_runtime::entry_name::EntryName;

use super::constant::Constant;
use super::conv::KnownConvolution;
use super::error::{Translated, wrong};
use super::node::Node;
use super::weight::{Arrangement, Weight};

/// A computed value and the order of its axes.
#[derive(Clone, Debug)]
pub(super) struct Ordered {
    pub v: Value,
    pub order: Vec<usize>,
}

/// What an ONNX value has become.
#[derive(Clone)]
pub(super) enum Val {
    Known(Arc<Constant>),
    Computed(Ordered),
}

/// Zeros around an image: top, left, bottom, right.
#[derive(Clone, Debug)]
pub(super) struct Padded {
    pub image: Ordered,
    pub pad: [usize; 4],
}

pub(super) struct Translation {
    pub b: Builder,
    pub opset: i64,
    /// By ONNX name.
    pub values: HashMap<String, Val>,
    /// By name in the IR.
    pub weights: HashMap<String, Weight>,
    forms: HashMap<(*const Constant, Arrangement), Value>,
    names: HashSet<String>,
    /// What was padded with zeros, so that a convolution can pad by itself.
    pub padded: HashMap<Value, Padded>,
    /// Convolutions, so that a normalisation can become part of their weights.
    pub convolutions: HashMap<Value, KnownConvolution>,
    /// Angles of timestep embeddings.
    pub angles: HashMap<Value, super::timestep::Angle>,
}

/// `0, 1, .., rank - 1`.
pub(super) fn plain(rank: usize) -> Vec<usize> {
    (0..rank).collect()
}

/// The order that a value of that rank is given where nothing else decides: that of images for four axes.
pub(super) fn preferred(rank: usize) -> Vec<usize> {
    if rank == 4 { vec![0, 2, 3, 1] } else { plain(rank) }
}

/// A name that the IR's text can hold.
pub(super) fn legal(name: &str) -> String {
    let name = name.trim_matches('/');
    let swapped: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || "_.$-".contains(c) { c } else { '.' }).collect();
    // Numbers are what values without a name are called.
    if swapped.is_empty() || swapped.bytes().all(|c| c.is_ascii_digit()) { format!("v{swapped}") } else { swapped }
}

impl Translation {
    pub fn new(opset: i64) -> Translation {
        Translation {
            b: Builder::new(EntryName::Network.to_string()),
            opset,
            values: HashMap::new(),
            weights: HashMap::new(),
            forms: HashMap::new(),
            names: HashSet::new(),
            padded: HashMap::new(),
            convolutions: HashMap::new(),
            angles: HashMap::new(),
        }
    }

    /// Extents in ONNX's order.
    pub fn dims(&self, t: &Ordered) -> Vec<usize> {
        let shape = &self.b.ty(t.v).shape;
        let mut dims = vec![0; shape.len()];
        t.order.iter().zip(shape).for_each(|(&a, &d)| dims[a] = d);
        dims
    }

    /// Extents of a known or computed value.
    pub fn dims_of(&self, v: &Val) -> Vec<usize> {
        match v {
            Val::Known(c) => c.dims.clone(),
            Val::Computed(t) => self.dims(t),
        }
    }

    /// What an operand has become.
    pub fn operand(&self, node: &Node<'_>, i: usize) -> Translated<Val> {
        let Some(name) = node.operand(i) else { return wrong(format!("operand {i} is missing")) };
        match self.values.get(name) {
            Some(v) => Ok(v.clone()),
            None => wrong(format!("operand `{name}` is not defined before it")),
        }
    }

    /// A known operand; `None` if it is left out or computed.
    pub fn known(&self, node: &Node<'_>, i: usize) -> Option<Arc<Constant>> {
        match self.values.get(node.operand(i)?) {
            Some(Val::Known(c)) => Some(c.clone()),
            _ => None,
        }
    }

    /// An operand as a computed value; a known one becomes a weight.
    pub fn tensor(&mut self, node: &Node<'_>, i: usize) -> Translated<Ordered> {
        match self.operand(node, i)? {
            Val::Computed(t) => Ok(t),
            Val::Known(c) => {
                let order = preferred(c.dims.len());
                let v = self.laid_out(&c, &c.dims.clone(), &order)?;
                Ok(Ordered { v, order })
            }
        }
    }

    /// An op with one result.
    pub fn one(&mut self, op: impl Into<Op>, x: &[Value]) -> Translated<Value> {
        Ok(self.b.try_emit(op, x)?[0])
    }

    /// The value with its axes in another order.
    pub fn arranged(&mut self, t: &Ordered, order: &[usize]) -> Translated<Value> {
        if t.order == order {
            return Ok(t.v);
        }
        let dims = self.dims(t);
        let solid = |o: &[usize]| o.iter().copied().filter(|&a| dims[a] != 1).collect::<Vec<_>>();
        if solid(&t.order) == solid(order) {
            // Only axes of extent 1 change places.
            return self.one(Reshape { shape: order.iter().map(|&a| dims[a]).collect() }, &[t.v]);
        }
        let place = |a: usize| t.order.iter().position(|&o| o == a).expect("orders hold the same axes");
        self.one(Transpose { perm: order.iter().map(|&a| place(a)).collect() }, &[t.v])
    }

    /// As [`Translation::arranged`], with ONNX's axis `last` last and the others as they are.
    pub fn with_last(&mut self, t: &Ordered, last: usize) -> Translated<Ordered> {
        let mut order: Vec<usize> = t.order.iter().copied().filter(|&a| a != last).collect();
        order.push(last);
        Ok(Ordered { v: self.arranged(t, &order)?, order })
    }

    /// A constant as a weight in some form.
    pub fn weight(&mut self, c: &Arc<Constant>, form: Arrangement) -> Translated<Value> {
        let ty = Type::f32(form.shape.clone());
        if form.shape.contains(&0) {
            return wrong(format!("tensor `{}` has no elements", c.name));
        }
        let key = (Arc::as_ptr(c), form.clone());
        if let Some(&v) = self.forms.get(&key) {
            return Ok(v);
        }
        let name = self.unique(&legal(&c.name));
        self.weights.insert(name.clone(), Weight { constant: c.clone(), form });
        let v = self.b.weight(&name, ty);
        self.forms.insert(key, v);
        Ok(v)
    }

    /// The name, or with a number if it is taken.
    fn unique(&mut self, base: &str) -> String {
        let mut name = base.to_owned();
        let mut k = 1;
        while !self.names.insert(name.clone()) {
            k += 1;
            name = format!("{base}.{k}");
        }
        name
    }

    /// A vector as a weight `[C]`.
    pub fn vector(&mut self, c: &Arc<Constant>) -> Translated<Value> {
        let n = c.count();
        self.weight(c, Arrangement { view: vec![n], perm: vec![0], shape: vec![n] })
    }

    /// A constant under extents `dims` of ONNX, in an order: a weight without the axes of extent 1, which are added by a
    /// reshape, so that one vector is one weight wherever it is used.
    pub fn laid_out(&mut self, c: &Arc<Constant>, dims: &[usize], order: &[usize]) -> Translated<Value> {
        if let (Some(value), false) = (c.uniform(), c.trained) {
            let shape = order.iter().map(|&a| dims[a]).collect();
            return self.one(fcdm_ir::ops::Fill { value, dtype: fcdm_ir::DType::F32, shape }, &[]);
        }
        let solid: Vec<usize> = order.iter().copied().filter(|&a| dims[a] != 1).collect();
        let axes: Vec<usize> = (0..dims.len()).filter(|&a| dims[a] != 1).collect();
        let view: Vec<usize> = axes.iter().map(|&a| dims[a]).collect();
        let perm = solid.iter().map(|a| axes.iter().position(|b| a == b).expect("the same axes")).collect();
        let shape = solid.iter().map(|&a| dims[a]).collect();
        let w = self.weight(c, Arrangement { view, perm, shape })?;
        self.one(Reshape { shape: order.iter().map(|&a| dims[a]).collect() }, &[w])
    }

    /// A value with axes of extent 1 before its own, up to `rank`.
    pub fn lead(&mut self, t: &Ordered, rank: usize) -> Translated<Ordered> {
        let more = rank - t.order.len();
        if more == 0 {
            return Ok(t.clone());
        }
        let order: Vec<usize> = (0..more).chain(t.order.iter().map(|a| a + more)).collect();
        let shape = [vec![1; more], self.b.ty(t.v).shape.clone()].concat();
        Ok(Ordered { v: self.one(Reshape { shape }, &[t.v])?, order })
    }

    /// A value repeated to extents that it broadcasts to, in an order of all their axes.
    pub fn spread(&mut self, v: &Val, dims: &[usize], order: &[usize]) -> Translated<Value> {
        let v = match v {
            Val::Known(c) => {
                let own = [vec![1; dims.len() - c.dims.len()], c.dims.clone()].concat();
                self.laid_out(c, &own, order)?
            }
            Val::Computed(t) => {
                let t = self.lead(t, dims.len())?;
                self.arranged(&t, order)?
            }
        };
        let shape: Vec<usize> = order.iter().map(|&a| dims[a]).collect();
        if self.b.ty(v).shape == shape { Ok(v) } else { self.one(Broadcast { shape }, &[v]) }
    }

    /// Lets a value be the first result of a node, and carry its name.
    pub fn define(&mut self, node: &Node<'_>, t: Ordered) -> Translated<()> {
        self.define_nth(node, 0, Val::Computed(t))
    }

    /// Lets a value be a result of a node.
    pub fn define_nth(&mut self, node: &Node<'_>, i: usize, v: Val) -> Translated<()> {
        let Some(name) = node.results().get(i).filter(|n| !n.is_empty()) else { return Ok(()) };
        if let Val::Computed(t) = &v
            && i == 0
        {
            self.b.name(t.v, &legal(node.name()));
        }
        match self.values.insert(name.clone(), v) {
            None => Ok(()),
            Some(_) => wrong(format!("`{name}` is defined twice")),
        }
    }
}
