//! A function of the IR, its value and its gradient: `cargo run -p fcdm-ir --example gradient`.

use std::error::Error;

use fcdm_ir::eval::{Tensor, evaluate};
use fcdm_ir::ops::{LayerNorm, Linear, Silu};
use fcdm_ir::verify::verify;
use fcdm_ir::vjp::backward;
use fcdm_ir::{Builder, Function, Type};

fn main() -> Result<(), Box<dyn Error>> {
    let f = function()?;
    println!("{f}");
    let x = Tensor::from_shape_vec(vec![1, 3], vec![0.5, -1.0, 2.0])?;
    for (name, value) in ["y", "dx"].into_iter().zip(run(&f, &x)?) {
        println!("{name} = {value}");
    }
    Ok(())
}

/// `y = silu(layer_norm(x) W^T + b)`, and the gradient of the sum of y to x.
pub fn function() -> Result<Function, Box<dyn Error>> {
    let mut b = Builder::new("example");
    let x = b.input("x", Type::f32([1, 3]));
    let ones = b.input("ones", Type::f32([1, 2]));
    let (w, bias) = (b.weight("w", Type::f32([2, 3])), b.weight("b", Type::f32([2])));
    let normed = b.one(LayerNorm { eps: 1e-6 }, &[x]);
    let product = b.one(Linear {}, &[normed, w, bias]);
    let y = b.one(Silu {}, &[product]);
    let dx = backward(&mut b, &[(y, ones)], &[x])[0].ok_or("y does not depend on x")?;
    let f = b.finish(vec![("y".into(), y), ("dx".into(), dx)]);
    verify(&f).map_err(|errors| errors[0].to_string())?;
    Ok(f)
}

/// The values of both results at x.
pub fn run(f: &Function, x: &Tensor) -> Result<Vec<Tensor>, Box<dyn Error>> {
    let mut weights = |name: &str| match name {
        "w" => Tensor::from_shape_vec(vec![2, 3], vec![1.0, -2.0, 0.5, 0.25, 3.0, -1.0]).ok(),
        _ => Tensor::from_shape_vec(vec![2], vec![0.1, -0.2]).ok(),
    };
    let ones = Tensor::from_elem(vec![1, 2], 1.0);
    Ok(evaluate(f, &[x.clone(), ones], &mut weights)?)
}
