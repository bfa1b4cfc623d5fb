//! Normalisations and reductions.

use std::sync::Arc;

use fcdm_ir::Value;
use fcdm_ir::ops::{Add, Fill, GroupNorm, LayerNorm, Mul, Scale, Softmax, Sqrt, Sum};

use super::constant::Constant;
use super::error::{Translated, form, wrong};
use super::import::{Ordered, Translation, Val};
use super::node::{Node, axes, axis};

impl Translation {
    /// `x * a`, `x + b` with known numbers that broadcast to x; nothing where they are all 1, or 0.
    fn affine(&mut self, x: Ordered, a: Option<Arc<Constant>>, b: Option<Arc<Constant>>) -> Translated<Ordered> {
        let (mut v, dims) = (x.v, self.dims(&x));
        if let Some(a) = a.filter(|a| a.uniform() != Some(1.0)) {
            let a = self.spread(&Val::Known(a), &dims, &x.order)?;
            v = self.one(Mul {}, &[v, a])?;
        }
        if let Some(b) = b.filter(|b| b.uniform() != Some(0.0)) {
            let b = self.spread(&Val::Known(b), &dims, &x.order)?;
            v = self.one(Add {}, &[v, b])?;
        }
        Ok(Ordered { v, order: x.order })
    }

    pub fn layer_norm(&mut self, node: &Node<'_>) -> Translated<()> {
        let x = self.tensor(node, 0)?;
        let last = x.order.len().saturating_sub(1);
        if axis(node.int_or("axis", -1), x.order.len())? != last {
            return form("over several axes");
        }
        if node.results().iter().skip(1).any(|r| !r.is_empty()) {
            return form("with its statistics as results");
        }
        let (a, b) = (self.optional(node, 1, "a scale")?, self.optional(node, 2, "a bias")?);
        let extent = self.dims(&x)[last];
        if [&a, &b].iter().any(|c| c.as_ref().is_some_and(|c| c.count() != extent)) {
            return wrong(format!("expected a scale and a bias of {extent} numbers"));
        }
        let x = self.with_last(&x, last)?;
        let v = self.one(LayerNorm { eps: node.float_or("epsilon", 1e-5) }, &[x.v])?;
        let y = self.affine(Ordered { v, order: x.order }, a, b)?;
        self.define(node, y)
    }

    /// `x a + b` per channel, part of the convolution before it where there is one.
    pub fn batch_norm(&mut self, node: &Node<'_>) -> Translated<()> {
        // It is how statistics are gathered in training, which `training_mode` would say.
        node.passed_over(&["momentum"]);
        let x = self.tensor(node, 0)?;
        let dims = self.dims(&x);
        let given = [1, 2, 3, 4].map(|i| self.constant(node, i, "statistics"));
        let [gamma, beta, mean, variance] = given;
        let (gamma, beta, mean, variance) = (gamma?, beta?, mean?, variance?);
        let channels = dims.get(1).copied().unwrap_or(0);
        if [&gamma, &beta, &mean, &variance].iter().any(|c| c.count() != channels) {
            return wrong(format!("expected {channels} numbers in every operand for {dims:?}"));
        }
        let eps = node.float_or("epsilon", 1e-5);
        let (g, b, m, s) = (gamma.as_floats(), beta.as_floats(), mean.as_floats(), variance.as_floats());
        let a: Vec<f64> = g.iter().zip(&s).map(|(&g, &s)| f64::from(g) / (f64::from(s) + eps).sqrt()).collect();
        let shift: Vec<f32> = (0..channels).map(|c| (f64::from(b[c]) - f64::from(m[c]) * a[c]) as f32).collect();
        let a: Vec<f32> = a.iter().map(|&a| a as f32).collect();
        let of_size = [&gamma, &beta, &mean, &variance].iter().any(|c| c.of_size);
        let y = match if of_size { None } else { self.scaled_convolution(&x, &a, &shift)? } {
            Some(y) => y,
            None => {
                let wide = |name: &str, values| {
                    let dims = [&[channels], &vec![1; dims.len() - 2][..]].concat();
                    Some(Arc::new(Constant { trained: true, of_size, ..Constant::floats(name, dims, values) }))
                };
                self.affine(x, wide(&gamma.name, a), wide(&beta.name, shift))?
            }
        };
        self.define(node, y)
    }

    /// GroupNormalization and InstanceNormalization, which has one channel a group.
    pub fn group_norm(&mut self, node: &Node<'_>) -> Translated<()> {
        let x = self.tensor(node, 0)?;
        let dims = self.dims(&x);
        if dims.len() < 2 {
            return wrong(format!("an operand of extents {dims:?}"));
        }
        let c = dims[1];
        let groups = match node.op() {
            "InstanceNormalization" => c,
            _ => usize::try_from(node.required_int("num_groups")?).unwrap_or(0),
        };
        let (a, b) = (self.constant(node, 1, "a scale")?, self.constant(node, 2, "a bias")?);
        if groups == 0 || !c.is_multiple_of(groups) || ![groups, c].contains(&a.count()) || a.count() != b.count() {
            return wrong(format!("{groups} groups with {} scales and {} biases for {dims:?}", a.count(), b.count()));
        }
        // Before opset 21 a group has one scale.
        let each = |k: &Arc<Constant>| {
            let repeat = c / k.count();
            let values = k.as_floats().iter().flat_map(|&v| std::iter::repeat_n(v, repeat)).collect();
            Arc::new(Constant { trained: k.trained, of_size: k.of_size, ..Constant::floats(&k.name, vec![c], values) })
        };
        let (a, b) = if a.count() == c { (a, b) } else { (each(&a), each(&b)) };
        let [gamma, beta] = [self.per_channel(&a)?, self.per_channel(&b)?];
        let image = self.reshaped(&x, &[dims[0], c, dims[2..].iter().product(), 1])?;
        let order = vec![0, 2, 3, 1];
        let v = self.arranged(&image, &order)?;
        let v = self.one(GroupNorm { groups, eps: node.float_or("epsilon", 1e-5) }, &[v, gamma, beta])?;
        let y = self.reshaped(&Ordered { v, order }, &dims)?;
        self.define(node, y)
    }

    /// A vector, as a constant of the formula if it is one.
    fn per_channel(&mut self, c: &Arc<Constant>) -> Translated<Value> {
        match c.uniform().filter(|_| !c.trained) {
            Some(value) => self.one(Fill { value, dtype: fcdm_ir::DType::F32, shape: vec![c.count()] }, &[]),
            None => self.vector(c),
        }
    }

    pub fn softmax(&mut self, node: &Node<'_>) -> Translated<()> {
        let x = self.tensor(node, 0)?;
        let rank = x.order.len();
        let old = self.opset < 13;
        let at = axis(node.int_or("axis", if old { 1 } else { -1 }), rank)?;
        if old && at + 1 != rank {
            return form("over several axes, as before opset 13");
        }
        let x = self.with_last(&x, at)?;
        let v = self.one(Softmax {}, &[x.v])?;
        self.define(node, Ordered { v, order: x.order })
    }

    /// ReduceSum, ReduceMean, ReduceL2, ReduceSumSquare, GlobalAveragePool.
    pub fn reduce(&mut self, node: &Node<'_>) -> Translated<()> {
        let x = self.tensor(node, 0)?;
        let (rank, dims) = (x.order.len(), self.dims(&x));
        let global = node.op() == "GlobalAveragePool";
        let nothing = node.int_or("noop_with_empty_axes", 0) != 0;
        let given = node.ints("axes").map(<[i64]>::to_vec).or_else(|| self.known(node, 1)?.as_ints().map(<[i64]>::to_vec));
        let over = match given {
            _ if global => (2..rank).collect(),
            Some(list) if !list.is_empty() => axes(&list, rank)?,
            _ if node.operand(1).is_some() && self.known(node, 1).is_none() => return form("over axes that are computed"),
            _ if nothing => Vec::new(),
            _ => (0..rank).collect(),
        };
        let places = x.order.iter().enumerate().filter(|(_, a)| over.contains(a)).map(|(i, _)| i).collect();
        let squares = matches!(node.op(), "ReduceL2" | "ReduceSumSquare");
        let v = if squares { self.one(Mul {}, &[x.v, x.v])? } else { x.v };
        let mut v = self.one(Sum { axes: places }, &[v])?;
        if global || node.op() == "ReduceMean" {
            let count: usize = over.iter().map(|&a| dims[a]).product();
            v = self.one(Scale { by: 1.0 / count as f64 }, &[v])?;
        }
        if node.op() == "ReduceL2" {
            v = self.one(Sqrt {}, &[v])?;
        }
        let mut y = Ordered { v, order: x.order };
        if !global && node.int_or("keepdims", 1) == 0 {
            let kept: Vec<usize> = (0..rank).filter(|a| !over.contains(a)).map(|a| dims[a]).collect();
            y = self.reshaped(&y, &kept)?;
        }
        self.define(node, y)
    }
}
