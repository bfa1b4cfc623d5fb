//! Every op's gradient against central finite differences in f64.
#![allow(clippy::unwrap_used)]

mod cases;

use std::collections::BTreeSet;

use cases::{Case, Gradient, Noise, case, cases};
use fcdm_ir::eval::{Tensor, evaluate};
use fcdm_ir::verify::verify;
use fcdm_ir::{Builder, Function, Op, Value, vjp};

/// The op's results; and with cotangents as further inputs, the gradients `grad.N` of its operands.
fn functions(case: &Case) -> (Function, Function, Vec<bool>) {
    let mut b = Builder::new("forward");
    let x: Vec<Value> = case.operands.iter().enumerate().map(|(i, t)| b.input(&format!("x{i}"), t.clone())).collect();
    let y = b.emit(case.op.clone(), &x);
    let forward = b.finish(y.iter().enumerate().map(|(i, &v)| (format!("y{i}"), v)).collect());

    let mut b = Builder::new("backward");
    let x: Vec<Value> = case.operands.iter().enumerate().map(|(i, t)| b.input(&format!("x{i}"), t.clone())).collect();
    let y = b.emit(case.op.clone(), &x);
    let seeds: Vec<(Value, Value)> = y.iter().map(|&v| (v, b.input("dy", forward_type(&b, v)))).collect();
    let grads = vjp::backward(&mut b, &seeds, &x);
    let there = grads.iter().map(Option::is_some).collect();
    let results = grads.iter().enumerate().filter_map(|(i, g)| g.map(|g| (format!("grad.{i}"), g))).collect();
    (forward, b.finish(results), there)
}

fn forward_type(b: &Builder, v: Value) -> fcdm_ir::Type {
    b.ty(v).clone()
}

fn none(_: &str) -> Option<Tensor> {
    None
}

/// `sum_i <dy_i, y_i(x)>`.
fn objective(f: &Function, x: &[Tensor], dy: &[Tensor]) -> f64 {
    evaluate(f, x, &mut none).unwrap().iter().zip(dy).map(|(y, dy)| (y * dy).sum()).sum()
}

fn check(case: &Case, seed: u64) {
    let (forward, backward, there) = functions(case);
    verify(&forward).unwrap();
    if there.contains(&true) {
        verify(&backward).unwrap_or_else(|e| panic!("{}: {e:?}", case.op));
    }
    let mut noise = Noise::new(seed);
    let x: Vec<Tensor> = case.operands.iter().zip(&case.values).map(|(t, v)| noise.tensor(t, v)).collect();
    let dy: Vec<Tensor> = forward.results().iter().map(|&(_, v)| noise.tensor(forward.ty(v), &cases::Values::Signed)).collect();
    let all: Vec<Tensor> = x.iter().chain(&dy).cloned().collect();
    let mut grads = evaluate(&backward, &all, &mut none).unwrap().into_iter();
    for (i, ty) in case.operands.iter().enumerate() {
        if !there[i] {
            assert!(case.without_gradient.contains(&i), "`{}` has no gradient for operand {i}", case.op);
            continue;
        }
        let grad = grads.next().unwrap();
        assert_eq!(grad.shape(), ty.shape, "`{}`, operand {i}", case.op);
        match case.gradient {
            Gradient::Differences => {}
            Gradient::StraightThrough => {
                assert_eq!(grad, dy[0], "`{}`", case.op);
                continue;
            }
            Gradient::Apart => continue,
        }
        let step = 1e-5;
        for at in 0..ty.count() {
            let moved = |by: f64| {
                let mut x = x.clone();
                x[i].as_slice_mut().unwrap()[at] += by;
                objective(&forward, &x, &dy)
            };
            let numeric = (moved(step) - moved(-step)) / (2.0 * step);
            let emitted = grad.as_slice().unwrap()[at];
            let error = (numeric - emitted).abs();
            assert!(
                error <= 1e-6 * (1.0 + numeric.abs()),
                "`{}`, operand {i}, element {at}: emitted {emitted}, numeric {numeric}",
                case.op
            );
        }
    }
}

#[test]
fn every_op_has_a_case() {
    let tested: BTreeSet<&str> = cases().iter().map(|c| c.op.name()).collect();
    let missing: Vec<_> = Op::NAMES.iter().filter(|n| !tested.contains(*n)).collect();
    assert!(missing.is_empty(), "no gradient case for {missing:?}");
}

#[test]
fn gradients_agree_with_finite_differences() {
    for (i, case) in cases().iter().enumerate() {
        check(case, 100 + i as u64);
    }
}

/// At a channel that is zero everywhere G has no derivative; the residual's is left, and the statistic's counts as 0.
#[test]
fn grn_statistic_has_gradient_zero_at_an_all_zero_map() {
    let image = [1, 2, 2, 3];
    let (_, backward, _) = functions(&case(fcdm_ir::ops::Grn { eps: 1e-6 }, &[&image, &[3], &[3]]));
    let one_zero = Tensor::from_shape_fn(image.to_vec(), |at| if at[3] == 1 { 0.0 } else { 1.0 });
    for x in [Tensor::zeros(image.to_vec()), one_zero] {
        let ones = Tensor::from_elem(vec![3], 1.0);
        let dy = Tensor::from_elem(image.to_vec(), 1.0);
        let grads = evaluate(&backward, &[x.clone(), ones.clone(), ones, dy], &mut none).unwrap();
        assert!(grads.iter().flatten().all(|g| g.is_finite()));
        assert!(grads[0].iter().zip(&x).filter(|&(_, &x)| x == 0.0).all(|(&dx, _)| dx == 1.0), "{}", grads[0]);
        assert!(grads[1].iter().enumerate().all(|(c, &g)| x[[0, 0, 0, c]] != 0.0 || g == 0.0), "{}", grads[1]);
    }
}

#[test]
fn one_value_used_twice_gets_the_sum() {
    let mut b = Builder::new("f");
    let ty = fcdm_ir::Type::f32([2, 3]);
    let (x, dy) = (b.input("x", ty.clone()), b.input("dy", ty));
    // An operand that is computed from another one: each path counts once.
    let s = b.one(fcdm_ir::ops::Exp {}, &[x]);
    let y = b.one(fcdm_ir::ops::NormModulate { eps: 1e-3 }, &[x, x, s]);
    let dx = vjp::backward(&mut b, &[(y, dy)], &[x])[0].unwrap();
    let f = b.finish(vec![("y".into(), y), ("dx".into(), dx)]);
    let mut noise = Noise::new(7);
    let (x, dy) = (
        noise.tensor(&fcdm_ir::Type::f32([2, 3]), &cases::Values::Signed),
        noise.tensor(&fcdm_ir::Type::f32([2, 3]), &cases::Values::Signed),
    );
    let run = |x: &Tensor| evaluate(&f, &[x.clone(), dy.clone()], &mut none).unwrap();
    let grad = run(&x).remove(1);
    for at in 0..6 {
        let moved = |by: f64| {
            let mut x = x.clone();
            x.as_slice_mut().unwrap()[at] += by;
            (run(&x).remove(0) * &dy).sum()
        };
        let numeric = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        assert!((numeric - grad.as_slice().unwrap()[at]).abs() < 1e-6 * (1.0 + numeric.abs()));
    }
}

/// Against the derivative of the formula: t f is rounded to f32, too coarsely for differences.
#[test]
fn the_timestep_embedding_has_the_derivative_of_its_formula() {
    let op = fcdm_ir::ops::TimestepEmbedding { dim: 256 };
    let (_, backward, _) = functions(&case(op, &[&[4]]));
    let f = evaluate(&frequencies(), &[], &mut none).unwrap().remove(0);
    let (t, mut noise) = ([0.0, 0.25, 3.5, 40.0], Noise::new(5));
    let dy = noise.tensor(&fcdm_ir::Type::f32([4, 256]), &cases::Values::Signed);
    let dt = evaluate(&backward, &[Tensor::from_shape_vec(vec![4], t.to_vec()).unwrap(), dy.clone()], &mut none).unwrap().remove(0);
    for (n, t) in t.into_iter().enumerate() {
        let term = |i: usize| f[i] * (dy[[n, 128 + i]] * (t * f[i]).cos() - dy[[n, i]] * (t * f[i]).sin());
        let want: f64 = (0..128).map(term).sum();
        assert!((dt[n] - want).abs() < 1e-5 * (1.0 + want.abs()), "t = {t}: {} for {want}", dt[n]);
    }
}

fn frequencies() -> Function {
    let mut b = Builder::new("frequencies");
    let f = b.one(fcdm_ir::ops::TimestepFrequencies { dim: 256 }, &[]);
    b.finish(vec![("f".into(), f)])
}
