//! `relu(conv2d(x, W, b))` -> `fused.conv_relu`, `add(conv2d(x, W, b), r)` in either order -> `fused.conv_add`,
//! `relu(add(conv2d(x, W, b), r))` -> `fused.conv_add_relu`, `add(linear(x, W, b), r)` -> `fused.linear_add`: the product's
//! epilogue adds and activates before it stores. Legal only when neither the product nor the sum has another use, and for
//! linear layers of images or sequences: those of single vectors are conditions, whose precision is their own.
//!
//! Where both sides of a sum are products, the one with more multiplications takes it: there the other's values arrive
//! while there is something else to do. Of equal ones it is the later, beside which the other needs no memory of its own for
//! longer.

use fcdm_ir::ops::{Conv2d, ConvAdd, ConvAddRelu, ConvRelu, LinearAdd, Reshape};
use fcdm_ir::{Function, Inst, Op, Value};

use crate::rewrite::{Rewriter, rewrite};

/// The pass.
pub(crate) fn fuse_conv_add_relu(f: &Function) -> Function {
    rewrite(f, |r, inst| match &inst.op {
        Op::Add(_) => {
            let (product, residual) = larger_product(r, inst)?;
            // A convolution waits for the activation that follows, if one does.
            let activated = matches!(product.op, Op::Conv2d(_)) && only_use_is_relu(r, inst.results[0]);
            if activated { None } else { Some(emit_sum(r, product, residual, false)) }
        }
        Op::Relu(_) => {
            let x = inst.operands[0];
            let producer = r.old().def_inst(x).filter(|_| r.used_once(x))?;
            match &producer.op {
                Op::Conv2d(Conv2d { stride, pad }) => {
                    let operands = r.map_all(&producer.operands);
                    Some(r.b.emit(ConvRelu { stride: *stride, pad: pad.clone() }, &operands))
                }
                Op::Add(_) => {
                    let (product, residual) = larger_product(r, producer)?;
                    matches!(product.op, Op::Conv2d(_)).then(|| emit_sum(r, product, residual, true))
                }
                _ => None,
            }
        }
        _ => None,
    })
}

fn only_use_is_relu(r: &Rewriter<'_>, v: Value) -> bool {
    r.used_once(v) && r.users(v).any(|u| matches!(u.op, Op::Relu(_)))
}

/// Which operand of a sum is a product that can take the other in its epilogue. The result of a linear layer may have
/// another shape by then: elements stay in order.
fn larger_product<'a>(r: &Rewriter<'a>, sum: &Inst) -> Option<(&'a Inst, Value)> {
    let f = r.old();
    let &[a, b] = &sum.operands[..] else { return None };
    let product = |v: Value, other: Value| {
        let mut inst = f.def_inst(v).filter(|_| r.used_once(v))?;
        let reshaped = matches!(inst.op, Op::Reshape(_));
        if reshaped {
            inst = f.def_inst(inst.operands[0]).filter(|i| r.used_once(i.results[0]))?;
        }
        match inst.op {
            Op::Conv2d(_) if !reshaped => {}
            Op::Linear(_) if f.ty(inst.results[0]).rank() > 2 => {}
            _ => return None,
        }
        let weights: usize = f.ty(inst.operands[1]).shape.iter().product();
        Some((weights, inst.results[0].index(), inst, other))
    };
    let candidates = product(a, b).into_iter().chain(product(b, a));
    candidates.max_by_key(|&(weights, defined, ..)| (weights, defined)).map(|(.., inst, other)| (inst, other))
}

/// The fused op in place of the sum, whose shape is the residual's.
fn emit_sum(r: &mut Rewriter<'_>, product: &Inst, residual: Value, relu: bool) -> Vec<Value> {
    let (own, shape) = (r.old().ty(product.results[0]).shape.clone(), r.old().ty(residual).shape.clone());
    let mut operands = r.map_all(&product.operands);
    let residual = r.map(residual);
    operands.insert(2, if own == shape { residual } else { r.b.one(Reshape { shape: own.clone() }, &[residual]) });
    let fused: Op = match (&product.op, relu) {
        (Op::Conv2d(c), false) => ConvAdd { stride: c.stride, pad: c.pad.clone() }.into(),
        (Op::Conv2d(c), true) => ConvAddRelu { stride: c.stride, pad: c.pad.clone() }.into(),
        _ => LinearAdd {}.into(),
    };
    let y = r.b.emit(fused, &operands);
    if own == shape { y } else { vec![r.b.one(Reshape { shape }, &y)] }
}
