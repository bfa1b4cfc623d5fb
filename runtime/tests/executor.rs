//! The executor on a small plan: right, the same bits on any number of threads and instruction set variants close,
//! callers' mistakes refused, broken weights refused at load.

#![allow(clippy::unwrap_used)]

mod plans;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use fcdm_runtime::executor::{Executor, Input, Program};
use fcdm_runtime::kernels::{Binary, Kernel, Unary};
use fcdm_runtime::plan::{Element, Entry, Operand, Place, Plan, Port, Step, VERSION};
use fcdm_runtime::simd::Isa;
use plans::{Store, mlp, mlp_reference, mlp_weights, numbers, operand};

fn run(program: &Arc<Program>, threads: usize, isa: Isa, x: &[f32], labels: &[i32]) -> Vec<f32> {
    let mut executor = Executor::new(Arc::new(program.reloaded(isa)), threads).unwrap();
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
    let program = Arc::new(Program::load(mlp(rows), Arc::new(mlp_weights()), Isa::best()).unwrap());
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
fn a_reproducible_plan_gives_the_same_on_any_set_and_number_of_threads() {
    let rows = 613;
    let plan = Plan { reproducible: true, ..mlp(rows) };
    let program = Arc::new(Program::load(plan, Arc::new(mlp_weights()), Isa::best()).unwrap());
    let (x, labels) = (numbers(rows * 40, 7), (0..rows as i32).map(|i| i % 5).collect::<Vec<_>>());
    let want = run(&program, 1, Isa::SCALAR, &x, &labels);
    for isa in Isa::NAMES.iter().filter_map(|n| Isa::named(n)) {
        assert_eq!(program.reloaded(isa).isa(), isa);
        for threads in [1, 3] {
            let found = run(&program, threads, isa, &x, &labels);
            assert!(found.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits()), "{isa}, {threads} threads");
        }
    }
}

#[test]
fn profiled_runs_give_the_same() {
    let program = Arc::new(Program::load(mlp(3), Arc::new(mlp_weights()), Isa::best()).unwrap());
    let mut executor = Executor::new(program, 2).unwrap();
    let (x, labels) = (numbers(120, 1), [0, 1, 4]);
    let (mut y, mut again) = (vec![0.0; 120], vec![0.0; 120]);
    let mut times = vec![Duration::MAX; executor.program().entries()[0].steps.len()];
    executor.run(0, &[Input::F32(&x), Input::I32(&labels)], &mut [&mut y]);
    executor.run_profiled(0, &[Input::F32(&x), Input::I32(&labels)], &mut [&mut again], &mut times);
    assert_eq!(y, again);
    assert!(times.iter().all(|t| *t != Duration::MAX), "every step has a time");
}

#[test]
fn callers_mistakes_are_refused() {
    let program = Arc::new(Program::load(mlp(3), Arc::new(mlp_weights()), Isa::best()).unwrap());
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
    let e = Program::load(mlp(3), Arc::new(short), Isa::best()).unwrap_err();
    assert_eq!(e.to_string(), "plan, entry `mlp`, step `h1`: expected at least 192 bytes for tensor `b1`, aligned to 64, found 188 bytes");
    let mut crooked = mlp_weights();
    crooked.insert_bytes("b1", Element::F32, &[48], 48 * 4, 4);
    let e = Program::load(mlp(3), Arc::new(crooked), Isa::best()).unwrap_err();
    assert!(e.to_string().ends_with("found another alignment"), "{e}");
    let e = Program::load(mlp(3), Arc::new(Store::default()), Isa::best()).unwrap_err();
    assert!(e.to_string().contains("expected a tensor of the artifact, found `table.panels`"), "{e}");
}

/// `s = s + x`, and `y = -s` of what is there then: in place of the state, which is kept from run to run.
#[test]
fn state_is_kept_from_one_run_to_the_next() {
    let port = |name: &str| Port { name: name.into(), dtype: Element::F32, shape: vec![3] };
    let step = |label: &str, kernel: Kernel, inputs: Vec<Operand>, output: Operand| Step {
        label: label.into(),
        kernel,
        inputs,
        outputs: vec![output],
    };
    let [x, s, y] = [Place::Input(0), Place::State(0), Place::Output(0)].map(|at| operand(at, &[3]));
    let entry = Entry {
        name: "sum".into(),
        rows: 3,
        inputs: vec![port("x")],
        outputs: vec![port("y")],
        state: vec![port("s")],
        arena_bytes: 0,
        arena_lower_bound: 0,
        steps: vec![step("s", Binary::Add.into(), vec![s.clone(), x], s.clone()), step("y", Unary::Neg.into(), vec![s], y)],
    };
    let plan = Plan { version: VERSION, reproducible: false, entries: vec![entry] };
    let program = Arc::new(Program::load(plan, Arc::new(Store::default()), Isa::best()).unwrap());
    let mut executor = Executor::new(Arc::clone(&program), 2).unwrap();
    let mut y = [0.0; 3];
    executor.run(0, &[Input::F32(&[1.0, 2.0, 3.0])], &mut [&mut y]);
    executor.run(0, &[Input::F32(&[1.0, 1.0, 1.0])], &mut [&mut y]);
    assert_eq!(y, [-2.0, -3.0, -4.0]);
    executor.state_mut("s").unwrap().copy_from_slice(&[10.0, 0.0, 0.0]);
    executor.run(0, &[Input::F32(&[1.0, 1.0, 1.0])], &mut [&mut y]);
    assert_eq!((y, executor.state("s").unwrap().to_vec()), ([-11.0, -1.0, -1.0], vec![11.0, 1.0, 1.0]));
    assert!(executor.state("t").is_none());
    // Another executor has state of its own.
    assert_eq!(Executor::new(program, 1).unwrap().state("s").unwrap(), [0.0; 3]);
}
