//! The graph view, and gradients that some paths do not reach.
#![allow(clippy::unwrap_used)]

use fcdm_ir::eval::{Tensor, evaluate};
use fcdm_ir::graph::{dot, graph};
use fcdm_ir::text::parse_function;
use fcdm_ir::{Builder, Type, ops, vjp};

/// A diamond, `%a` to `%d`, and `%e`, which no result needs.
const DIAMOND: &str = "\
weight @w : f32[2]

fn @diamond(%x: f32[2]) {
  %a = neg %x : f32[2]
  %b = exp %a : f32[2]
  %c = add %a, @w : f32[2]
  %d = mul %b, %c : f32[2]
  %e = neg %d : f32[2]
  %f = silu %d : f32[2]
  return %f
}
";

#[test]
fn graphs_have_all_but_the_weights() {
    let g = graph(&parse_function(DIAMOND).unwrap());
    // An input, six instructions, a result; nine uses, one of them of a weight.
    assert_eq!((g.node_count(), g.edge_count()), (8, 8));
}

#[test]
fn dot_shows_ops_shapes_and_weights() {
    let f = parse_function(DIAMOND).unwrap();
    let text = dot(&f);
    assert!(text.starts_with("digraph \"diamond\" {\n"), "{text}");
    assert!(text.contains("label=\"add\\n@w f32[2]\"") && text.contains("-> n1 [label=\"f32[2]\"]"), "{text}");
    assert_eq!(text.lines().count(), 3 + 8 + 8, "{text}");
}

#[test]
fn results_without_cotangents_count_as_zero() {
    // Only the second of three parts is used.
    let mut b = Builder::new("f");
    let (x, dy, other) = (b.input("x", Type::f32([6])), b.input("dy", Type::f32([2])), b.input("other", Type::f32([2])));
    let part = b.emit(ops::Split { axis: 0, parts: 3 }, &[x])[1];
    let grads = vjp::backward(&mut b, &[(part, dy)], &[x, other]);
    assert_eq!(grads[1], None);
    let f = b.finish(vec![("dx".into(), grads[0].unwrap())]);
    let inputs = [Tensor::zeros(vec![6]), Tensor::from_elem(vec![2], 3.0), Tensor::zeros(vec![2])];
    let dx = evaluate(&f, &inputs, &mut |_| None).unwrap().remove(0);
    assert_eq!(dx.as_slice().unwrap(), [0.0, 0.0, 3.0, 3.0, 0.0, 0.0]);
}

#[test]
fn gradients_go_only_where_asked() {
    let mut b = Builder::new("f");
    let ty = Type::f32([2]);
    let (x, y, dz) = (b.input("x", ty.clone()), b.input("y", ty.clone()), b.input("dz", ty));
    let u = b.one(ops::Exp {}, &[y]);
    let z = b.one(ops::Add {}, &[x, u]);
    let before = b.so_far().insts().len();
    assert_eq!(vjp::backward(&mut b, &[(z, dz)], &[x]), [Some(dz)]);
    assert_eq!(b.so_far().insts().len(), before, "nothing is emitted for y");
}
