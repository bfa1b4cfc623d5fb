//! A plan of one step, loaded through the public door, and timed.

#[path = "../../tests/plans/mod.rs"]
mod plans;

use std::sync::Arc;

use criterion::{Criterion, Throughput};
use fcdm_runtime::cost::Cost;
use fcdm_runtime::executor::{Executor, Input, Program};
use fcdm_runtime::kernels::Kernel;
use fcdm_runtime::plan::{Element, Entry, Place, Plan, Port, Step, VERSION};
use fcdm_runtime::simd::Isa;
use plans::{Store, matrix, numbers, operand};

/// An operand of the step.
pub enum Given {
    /// From the caller.
    Value(Vec<usize>),
    /// From the artifact.
    Weight(Vec<usize>),
    /// A matrix of the artifact.
    Matrix([usize; 3]),
}

pub fn value(shape: &[usize]) -> Given {
    Given::Value(shape.to_vec())
}

pub fn weight(shape: &[usize]) -> Given {
    Given::Weight(shape.to_vec())
}

/// A matrix of `o` output channels as lines of f32.
pub fn panels(o: usize, taps: usize, channels: usize) -> Given {
    Given::Matrix([o, taps, channels])
}

/// As many as `FCDM_THREADS` says, or as the machine runs at once.
pub fn threads() -> usize {
    let asked = std::env::var("FCDM_THREADS").ok().and_then(|n| n.parse().ok());
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Times `kernel` on operands of those shapes, under `group/name`.
pub fn bench(c: &mut Criterion, group: &str, name: &str, kernel: impl Into<Kernel>, given: &[Given], outputs: &[&[usize]]) {
    let (mut store, mut ports, mut values, mut inputs) = (Store::default(), Vec::new(), Vec::new(), Vec::new());
    let port = |name: String, shape: &[usize]| Port { name, dtype: Element::F32, shape: shape.to_vec() };
    for (i, operand_of) in given.iter().enumerate() {
        let seed = i as u32 + 1;
        match operand_of {
            Given::Value(shape) => {
                inputs.push(operand(Place::Input(ports.len()), shape));
                ports.push(port(format!("x{i}"), shape));
                values.push(numbers(shape.iter().product(), seed));
            }
            Given::Weight(shape) => {
                inputs.push(operand(Place::Weight(format!("w{i}")), shape));
                store.insert(&format!("w{i}"), shape, &numbers(shape.iter().product(), seed));
            }
            Given::Matrix(shape) => {
                inputs.push(matrix(&format!("w{i}"), *shape));
                store.insert_matrix(&format!("w{i}"), *shape, &numbers(shape.iter().product(), seed));
            }
        }
    }
    let results = outputs.iter().enumerate().map(|(i, s)| operand(Place::Output(i), s)).collect();
    let step = Step { label: name.to_owned(), kernel: kernel.into(), inputs, outputs: results };
    let cost = Cost::of(&step);
    let entry = Entry {
        name: name.to_owned(),
        rows: 1,
        inputs: ports,
        outputs: outputs.iter().enumerate().map(|(i, s)| port(format!("y{i}"), s)).collect(),
        state: vec![],
        arena_bytes: 0,
        arena_lower_bound: 0,
        steps: vec![step],
    };
    let program = Program::load(
        Plan { version: VERSION, reproducible: false, entries: vec![entry] },
        Arc::new(store),
        Isa::from_env().expect("a set that this CPU has"),
    );
    let program = program.unwrap_or_else(|e| panic!("{group}/{name}: {e}"));
    let mut executor = Executor::new(Arc::new(program), threads()).expect("threads and memory for a benchmark");
    let inputs: Vec<Input<'_>> = values.iter().map(|v| Input::F32(v)).collect();
    let mut results: Vec<Vec<f32>> = outputs.iter().map(|s| vec![0.0; s.iter().product()]).collect();
    let mut results: Vec<&mut [f32]> = results.iter_mut().map(Vec::as_mut_slice).collect();

    let mut g = c.benchmark_group(group);
    g.throughput(match cost.macs {
        0 => Throughput::Bytes(cost.bytes),
        macs => Throughput::Elements(2 * macs),
    });
    g.bench_function(name, |b| b.iter(|| executor.run(0, &inputs, &mut results)));
    g.finish();
}
