//! An entry point with inputs and outputs of its own, to be run as often as one likes.

use std::collections::HashMap;
use std::time::Duration;

use crate::executor::{Executor, Input, Program};
use crate::plan::{Element, Port};
use crate::rng::{Purpose, Stream, normals, uniform};

/// Seed of all inputs that are made here.
const SEED: u64 = 0;

/// Values of a port.
#[derive(Clone, Debug)]
enum Values {
    F32(Vec<f32>),
    I32(Vec<i32>),
}

/// One entry point, what it is given and what it gave last.
#[derive(Clone, Debug)]
pub struct Evaluation {
    entry: usize,
    inputs: Vec<Values>,
    outputs: Vec<Vec<f32>>,
}

impl Evaluation {
    /// With inputs that are the same every time: numbers are normal, labels any that the entry point takes. An input of
    /// the name of one of `given`'s outputs takes that output's first rows, as the denoiser does from the condition.
    pub fn new(program: &Program, entry: usize, given: Option<(&Evaluation, &[Port])>) -> Evaluation {
        let e = &program.entries()[entry];
        let limits = program.label_limits(entry);
        let named = given.into_iter().flat_map(|(from, ports)| ports.iter().map(|p| p.name.as_str()).zip(&from.outputs).rev());
        let named: HashMap<&str, &Vec<f32>> = named.collect();
        let make = |(i, (port, limit)): (usize, (&Port, &Option<usize>))| {
            let taken = named.get(port.name.as_str());
            let count = port.shape.iter().product();
            let stream = Stream { purpose: Purpose::InitialState, item: i as u32, step: 0 };
            match port.dtype {
                Element::I32 => {
                    let below = limit.unwrap_or(1) as f64;
                    Values::I32((0..count as u64).map(|n| (uniform(SEED, stream, n) * below) as i32).collect())
                }
                _ => Values::F32(match taken.and_then(|rows| rows.get(..count)) {
                    Some(rows) => rows.to_vec(),
                    None => {
                        let mut x = vec![0.0; count];
                        normals(SEED, stream, &mut x);
                        x
                    }
                }),
            }
        };
        let inputs = e.inputs.iter().zip(limits).enumerate().map(make).collect();
        let outputs = e.outputs.iter().map(|p| vec![0.0; p.shape.iter().product()]).collect();
        Evaluation { entry, inputs, outputs }
    }

    /// Runs it once.
    pub fn run(&mut self, executor: &mut Executor) {
        let (inputs, mut outputs) = borrow(&self.inputs, &mut self.outputs);
        executor.run(self.entry, &inputs, &mut outputs);
    }

    /// Runs it once, with the time of every step.
    pub fn run_profiled(&mut self, executor: &mut Executor, times: &mut [Duration]) {
        let (inputs, mut outputs) = borrow(&self.inputs, &mut self.outputs);
        executor.run_profiled(self.entry, &inputs, &mut outputs, times);
    }

    /// Which entry point.
    pub fn entry(&self) -> usize {
        self.entry
    }

    /// What the last run gave.
    pub fn outputs(&self) -> &[Vec<f32>] {
        &self.outputs
    }
}

fn borrow<'a>(inputs: &'a [Values], outputs: &'a mut [Vec<f32>]) -> (Vec<Input<'a>>, Vec<&'a mut [f32]>) {
    let input = |v: &'a Values| match v {
        Values::F32(x) => Input::F32(x),
        Values::I32(x) => Input::I32(x),
    };
    (inputs.iter().map(input).collect(), outputs.iter_mut().map(Vec::as_mut_slice).collect())
}
