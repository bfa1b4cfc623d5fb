//! `Attention`, which operator set 23 has: `softmax(scale q k^T) v`, of `[N,heads,S,D]`, or of `[N,S,heads D]` with the heads counted
//! by attributes. Masks, caches and heads that share keys are not translated.

use fcdm_ir::Value;
use fcdm_ir::ops::{Matmul, Scale, Softmax, Transpose};

use super::error::{Translated, form, wrong};
use super::import::{Ordered, Translation, plain};
use super::node::Node;

impl Translation {
    pub fn attention(&mut self, node: &Node<'_>) -> Translated<()> {
        if (3..node.operands()).any(|i| node.operand(i).is_some()) {
            return form("with a mask, or with keys and values of before");
        }
        // The element type in which others compute it: here it is f32 always.
        node.passed_over(&["softmax_precision"]);
        let flat = self.dims_of(&self.operand(node, 0)?).len() == 3;
        let q = self.heads(node, 0, "q_num_heads")?;
        let (k, v) = (self.heads(node, 1, "kv_num_heads")?, self.heads(node, 2, "kv_num_heads")?);
        let [dq, dk, dv] = [q, k, v].map(|x| self.b.ty(x).shape.clone());
        if dq[..2] != dk[..2] || dk[..3] != dv[..3] || dq[3] != dk[3] {
            return form(format!("of extents {dq:?}, {dk:?} and {dv:?}: expected as many heads, and keys and values for each other"));
        }
        let by = if node.has("scale") { node.float_or("scale", 1.0) } else { 1.0 / (dq[3] as f64).sqrt() };
        let k = self.one(Transpose { perm: vec![0, 1, 3, 2] }, &[k])?;
        let scores = self.one(Matmul {}, &[q, k])?;
        let scores = self.one(Scale { by }, &[scores])?;
        let scores = self.one(Softmax {}, &[scores])?;
        let y = self.one(Matmul {}, &[scores, v])?;
        let y = Ordered { v: y, order: plain(4) };
        let y = if flat {
            // [N,heads,S,D], as axes of [N,S,heads,D].
            let together = Ordered { order: vec![0, 2, 1, 3], ..y };
            self.reshaped(&together, &[dq[0], dq[2], dq[1] * dv[3]])?
        } else {
            y
        };
        self.define(node, y)
    }

    /// An operand as `[N,heads,S,D]`.
    fn heads(&mut self, node: &Node<'_>, i: usize, count: &str) -> Translated<Value> {
        let t = self.tensor(node, i)?;
        let dims = self.dims(&t);
        match dims[..] {
            // What is said of heads that are there is no news.
            [_, heads, _, _] => match node.int(count) {
                Some(said) if said != heads as i64 => wrong(format!("attribute `{count}`: expected {heads}, found {said}")),
                _ => self.arranged(&t, &plain(4)),
            },
            [n, s, wide] => {
                let said = node.required_int(count)?;
                let heads = usize::try_from(said).ok().filter(|&h| h > 0 && wide.is_multiple_of(h));
                let Some(heads) = heads else { return wrong(format!("attribute `{count}`: expected a divisor of {wide}, found {said}")) };
                let apart = self.reshaped(&t, &[n, s, heads, wide / heads])?;
                self.arranged(&apart, &[0, 2, 1, 3])
            }
            _ => form(format!("on {} axes: expected 3 or 4", dims.len())),
        }
    }
}
