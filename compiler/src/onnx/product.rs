//! Matrix products. One with a known right-hand side is a linear layer, whose weight is `[O,K]`.

use std::sync::Arc;

use fcdm_ir::Value;
use fcdm_ir::ops::{Add, Linear, Matmul, Scale};

use super::constant::Constant;
use super::error::{Translated, form, wrong};
use super::import::{Ordered, Translation, Val, plain};
use super::node::Node;
use super::shapes::broadcast;
use super::weight::Arrangement;

impl Translation {
    pub fn matmul(&mut self, node: &Node<'_>) -> Translated<()> {
        let (a, b) = (self.operand(node, 0)?, self.operand(node, 1)?);
        if let (Val::Computed(x), Val::Known(w)) = (&a, &b)
            && w.dims.len() == 2
        {
            let y = self.linear(x, w, false, None)?;
            return self.define(node, y);
        }
        let (da, db) = (self.dims_of(&a), self.dims_of(&b));
        if da.len() < 2 || db.len() < 2 {
            return form("of vectors");
        }
        let [(la, ma), (lb, mb)] = [da.split_at(da.len() - 2), db.split_at(db.len() - 2)];
        let lead = broadcast(la, lb)?;
        let wide = |m: &[usize]| [&lead[..], m].concat();
        let order = plain(lead.len() + 2);
        let (x, y) = (self.spread(&a, &wide(ma), &order)?, self.spread(&b, &wide(mb), &order)?);
        let v = self.one(Matmul {}, &[x, y])?;
        self.define(node, Ordered { v, order })
    }

    /// `x w (+ bias)` over x's last axis; `w` is `[K,O]`, or `[O,K]` if it is transposed.
    fn linear(&mut self, x: &Ordered, w: &Arc<Constant>, transposed: bool, bias: Option<Value>) -> Translated<Ordered> {
        let Some(last) = x.order.len().checked_sub(1) else { return wrong("a scalar has no columns") };
        let x = self.with_last(x, last)?;
        let form = match (&w.dims[..], transposed) {
            (&[o, k], true) => Arrangement { view: vec![o, k], perm: vec![0, 1], shape: vec![o, k] },
            (&[k, o], false) => Arrangement { view: vec![k, o], perm: vec![1, 0], shape: vec![o, k] },
            _ => return wrong(format!("expected a matrix, found extents {:?}", w.dims)),
        };
        let w = self.weight(w, form)?;
        let operands: Vec<Value> = [x.v, w].into_iter().chain(bias).collect();
        Ok(Ordered { v: self.one(Linear {}, &operands)?, order: x.order })
    }

    /// `alpha A B + beta C`.
    pub fn gemm(&mut self, node: &Node<'_>) -> Translated<()> {
        let a = self.tensor(node, 0)?;
        let flag = |name: &str| node.int_or(name, 0) != 0;
        let (alpha, beta) = (node.float_or("alpha", 1.0), node.float_or("beta", 1.0));
        if a.order.len() != 2 {
            return wrong("expected matrices");
        }
        let a = if flag("transA") { Ordered { order: a.order.iter().map(|a| 1 - a).collect(), ..a } } else { a };
        let bias = if node.operand(2).is_some() { Some(self.operand(node, 2)?) } else { None };
        let b = match self.operand(node, 1)? {
            Val::Known(w) => {
                let o = w.dims.get(usize::from(!flag("transB"))).copied().unwrap_or(0);
                let vector = match &bias {
                    Some(Val::Known(c)) if c.count() == o && c.dims.last() == Some(&o) && [alpha, beta] == [1.0, 1.0] => {
                        Some(self.vector(c)?)
                    }
                    _ => None,
                };
                let y = self.linear(&a, &w, flag("transB"), vector)?;
                if vector.is_some() {
                    return self.define(node, y);
                }
                return self.scaled_sum(node, y, alpha, bias, beta);
            }
            Val::Computed(b) if b.order.len() == 2 => b,
            Val::Computed(_) => return wrong("expected matrices"),
        };
        let b = if flag("transB") { Ordered { order: b.order.iter().map(|a| 1 - a).collect(), ..b } } else { b };
        let (x, y) = (self.arranged(&a, &[0, 1])?, self.arranged(&b, &[0, 1])?);
        let v = self.one(Matmul {}, &[x, y])?;
        self.scaled_sum(node, Ordered { v, order: vec![0, 1] }, alpha, bias, beta)
    }

    fn scaled_sum(&mut self, node: &Node<'_>, y: Ordered, alpha: f64, c: Option<Val>, beta: f64) -> Translated<()> {
        let mut v = if alpha == 1.0 { y.v } else { self.one(Scale { by: alpha }, &[y.v])? };
        if let Some(c) = c {
            let dims = self.dims(&y);
            if broadcast(&dims, &self.dims_of(&c))? != dims {
                return wrong("C is larger than the product");
            }
            let c = self.spread(&c, &dims, &y.order)?;
            let c = if beta == 1.0 { c } else { self.one(Scale { by: beta }, &[c])? };
            v = self.one(Add {}, &[v, c])?;
        }
        self.define(node, Ordered { v, order: y.order })
    }
}
