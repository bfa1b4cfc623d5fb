//! Attributes: which ops are the same, and which attributes may be left out.
#![allow(clippy::unwrap_used)]

use fcdm_ir::ops::*;
use fcdm_ir::{Builder, Op, Type};

fn scale(by: f64) -> Op {
    Scale { by }.into()
}

#[test]
fn ops_are_the_same_where_their_texts_are() {
    let other_nan = f64::from_bits(f64::NAN.to_bits() ^ 1);
    let ops = [scale(0.0), scale(-0.0), scale(f64::NAN), scale(other_nan), scale(f64::INFINITY), Offset { by: 0.0 }.into()];
    for a in &ops {
        for b in &ops {
            assert_eq!(a == b, a.to_string() == b.to_string(), "`{a}` and `{b}`");
        }
    }
}

#[test]
fn the_builder_tells_zeros_apart() {
    let mut b = Builder::new("f");
    let x = b.input("x", Type::f32([2]));
    let [plus, minus, again] = [0.0, -0.0, 0.0].map(|by| b.one(Scale { by }, &[x]));
    assert!(plus != minus && plus == again);
}
