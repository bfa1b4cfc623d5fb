//! The executor on a small plan: right, the same bits on any number of threads and instruction set variants close,
//! callers' mistakes refused, broken weights refused at load.

#![allow(clippy::unwrap_used)]

mod plans;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use fcdm_runtime::executor::{Executor, Input, Program};
use fcdm_runtime::plan::Element;
use fcdm_runtime::simd::Isa;
use plans::{Store, mlp, mlp_reference, mlp_weights, numbers};

fn run(program: &Arc<Program>, threads: usize, isa: Isa, x: &[f32], labels: &[i32]) -> Vec<f32> {
    let mut executor = Executor::with_isa(Arc::clone(program), threads, isa).unwrap();
    let mut y = vec![f32::NAN; x.len()];
    // Twice: the second run finds the first one's values in the arena.
    for _ in 0..2 {
        executor.run(0, &[Input::F32(x), Input::I32(labels)], &mut [&mut y]);
    }
    y
}

#[test]
fn right_and_the_same_on_any_number_of_threads() {
    // So many that the products are shared between threads and the rest is not.
    let rows = 613;
    let program = Arc::new(Program::load(mlp(rows), Arc::new(mlp_weights())).unwrap());
    let (x, labels) = (numbers(rows * 40, 7), (0..rows as i32).map(|i| i % 5).collect::<Vec<_>>());
    let want = mlp_reference(&x, &labels);
    for isa in Isa::NAMES.iter().filter_map(|n| Isa::named(n)) {
        let one = run(&program, 1, isa, &x, &labels);
        for (y, w) in one.iter().zip(&want) {
            assert!((f64::from(*y) - w).abs() <= 1e-5 * w.abs().max(1.0), "{isa}: expected {w}, found {y}");
        }
        for threads in [2, 5] {
            let many = run(&program, threads, isa, &x, &labels);
            assert!(one.iter().zip(&many).all(|(a, b)| a.to_bits() == b.to_bits()), "{isa}, {threads} threads");
        }
    }
}

#[test]
fn profiled_runs_give_the_same() {
    let program = Arc::new(Program::load(mlp(3), Arc::new(mlp_weights())).unwrap());
    let mut executor = Executor::new(program, 2).unwrap();
    let (x, labels) = (numbers(120, 1), [0, 1, 4]);
    let (mut y, mut again) = (vec![0.0; 120], vec![0.0; 120]);
    let mut times = vec![Duration::MAX; executor.program().entries()[0].steps.len()];
    executor.run(0, &[Input::F32(&x), Input::I32(&labels)], &mut [&mut y]);
    executor.run_profiled(0, &[Input::F32(&x), Input::I32(&labels)], &mut [&mut again], &mut times);
    assert_eq!(y, again);
    assert!(times.iter().all(|t| *t < Duration::from_secs(60)));
}

#[test]
fn callers_mistakes_are_refused() {
    let program = Arc::new(Program::load(mlp(3), Arc::new(mlp_weights())).unwrap());
    assert_eq!((program.entry("mlp", 3), program.entry("mlp", 4)), (Some(0), None));
    assert_eq!(program.label_limits(0), [None, Some(5)]);
    let mut executor = Executor::new(program, 2).unwrap();
    let (x, mut y) = (numbers(120, 1), vec![0.0; 120]);
    let mut message = |inputs: &[Input<'_>], y: &mut [f32]| {
        let panic = catch_unwind(AssertUnwindSafe(|| executor.run(0, inputs, &mut [y]))).unwrap_err();
        panic.downcast_ref::<String>().unwrap().clone()
    };
    let labels = Input::I32(&[0, 1, 4]);
    assert!(message(&[Input::F32(&x)], &mut y).contains("number of inputs"));
    assert!(message(&[Input::F32(&x[1..]), labels], &mut y).contains("elements of input `x`"));
    assert!(message(&[Input::F32(&x), Input::F32(&x[..3])], &mut y).contains("input `labels` is I32"));
    assert!(message(&[Input::F32(&x), labels], &mut y[1..]).contains("elements of output `y`"));
    assert!(message(&[Input::F32(&x), Input::I32(&[0, 5, 1])], &mut y).contains("labels are below 5, found Some(5)"));
    assert!(message(&[Input::F32(&x), Input::I32(&[0, -1, 1])], &mut y).contains("found Some(-1)"));
}

#[test]
fn weights_that_lie_are_refused() {
    let mut short = mlp_weights();
    short.insert_bytes("b1", Element::F32, &[48], 47 * 4, 0);
    let e = Program::load(mlp(3), Arc::new(short)).unwrap_err();
    assert_eq!(e.to_string(), "plan, entry `mlp`, step `h1`: expected at least 192 bytes for tensor `b1`, aligned to 64, found 188 bytes");
    let mut crooked = mlp_weights();
    crooked.insert_bytes("b1", Element::F32, &[48], 48 * 4, 4);
    let e = Program::load(mlp(3), Arc::new(crooked)).unwrap_err();
    assert!(e.to_string().ends_with("found another alignment"), "{e}");
    let e = Program::load(mlp(3), Arc::new(Store::default())).unwrap_err();
    assert!(e.to_string().contains("expected a tensor of the artifact, found `table`"), "{e}");
}
