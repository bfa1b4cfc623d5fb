//! `fcdm run` and `fcdm bench` of an ONNX model: compiled in memory for our runtime, or run by tract, another engine.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use fcdm_compiler::checkpoint::{Checkpoint, StateDict};
use fcdm_compiler::onnx::{Given, ModelPort, Onnx, OnnxError, Session, SessionError, TractModel};
use fcdm_models::tensors::write_tensors;
use fcdm_runtime::bench::{Repeat, Times};
use fcdm_runtime::engine::{Cpu, LoadError};
use fcdm_runtime::memory::{Need, bytes};
use serde_json::json;

use crate::failure::Failure;
use crate::failure::mistaken::{Wanted, opened};
use crate::say::{self, sayln};

/// Who evaluates an ONNX model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// Our compiler and runtime.
    #[default]
    Fcdm,
    /// tract-core, for comparison; at its own speed in a build with `--profile dist`.
    Tract,
}

/// A model made ready by one of them.
enum Evaluator {
    Fcdm(Session),
    Tract(TractModel),
}

/// Values of an input.
enum Numbers {
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

impl Numbers {
    fn given(&self) -> Given<'_> {
        match self {
            Numbers::Floats(v) => Given::Floats(v),
            Numbers::Integers(v) => Given::Integers(v),
        }
    }
}

/// `NAME=1x3x64x64`.
pub fn shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let parts = text.rsplit_once('=').map(|(name, extents)| (name, extents.split('x').map(|e| e.parse().ok()).collect()));
    match parts {
        Some((name, Some(extents))) if !name.is_empty() => Ok((name.to_owned(), extents)),
        _ => Err("expected NAME=EXTENTS, such as input=1x3x64x64".to_owned()),
    }
}

impl Evaluator {
    fn new(backend: Backend, path: &Path, onnx: &Onnx, shapes: &[(String, Vec<usize>)], threads: usize) -> Result<Evaluator, Failure> {
        Ok(match backend {
            Backend::Fcdm => Evaluator::Fcdm(Session::new(onnx, &Cpu::new(threads)?)?),
            Backend::Tract => Evaluator::Tract(TractModel::open(path, shapes)?),
        })
    }

    fn run(&mut self, inputs: &[Given<'_>]) -> Result<Vec<Vec<f32>>, Failure> {
        Ok(match self {
            Evaluator::Fcdm(session) => session.run(inputs)?,
            Evaluator::Tract(model) => model.run(inputs)?,
        })
    }
}

/// Evaluates a model on the tensors of a file, whose extents it is compiled for.
pub fn run(path: &Path, inputs: &Path, outputs: &Path, backend: Backend, threads: usize, as_json: bool) -> Result<(), Failure> {
    let file = opened(inputs, Wanted::Tensors, Checkpoint::open(inputs).and_then(StateDict::everything))?;
    let shapes: Vec<(String, Vec<usize>)> = file.names().filter_map(|n| Some((n.to_owned(), file.tensor(n)?.shape.clone()))).collect();
    let onnx = opened(path, Wanted::Onnx, Onnx::open_at(path, &shapes))?;
    let numbers = onnx.inputs().iter().map(|p| read(&file, p)).collect::<Result<Vec<Numbers>, Failure>>()?;
    let given: Vec<Given<'_>> = numbers.iter().map(Numbers::given).collect();
    let results = Evaluator::new(backend, path, &onnx, &shapes, threads)?.run(&given)?;
    let tensors: Vec<(String, Vec<usize>)> = onnx.outputs().iter().map(|p| (p.name.clone(), p.dims.clone())).collect();
    write_tensors(outputs, &tensors, &mut |i| Some(results[i].clone()))?;
    if as_json {
        let shapes: serde_json::Map<String, serde_json::Value> = tensors.iter().map(|(n, s)| (n.clone(), json!(s))).collect();
        say::json(&json!({ "outputs": outputs.display().to_string(), "shapes": shapes }));
    } else {
        for (name, shape) in &tensors {
            sayln!("wrote {} {shape:?} to {}", say::inline(name), outputs.display());
        }
    }
    Ok(())
}

fn read(file: &StateDict, p: &ModelPort) -> Result<Numbers, Failure> {
    enough_memory(&p.name, file.tensor(&p.name).map_or(&[], |info| &info.shape))?;
    Ok(match p.integers {
        true => Numbers::Integers(file.read_integers(&p.name)?),
        false => Numbers::Floats(file.read_f32(&p.name)?),
    })
}

/// Asks for an input's values, once for each order that they will be in.
fn enough_memory(name: &str, shape: &[usize]) -> Result<(), Failure> {
    Ok(Need::of(format!("input `{name}`")).with("values", bytes(shape, 2 * 8)).reserve()?)
}

/// What to measure of a model.
pub struct Measure<'a> {
    pub path: &'a PathBuf,
    pub shapes: &'a [(String, Vec<usize>)],
    pub backend: Backend,
    pub threads: usize,
    pub repeat: Repeat,
    pub json: bool,
}

/// Times whole evaluations of a model on made-up inputs.
pub fn bench(m: &Measure<'_>) -> Result<(), Failure> {
    let onnx = opened(m.path, Wanted::Onnx, Onnx::open_at(m.path, m.shapes))?;
    let made_up = |p: &ModelPort| {
        let count = p.ty.count();
        // Label 0 is in every table.
        if p.integers {
            Numbers::Integers(vec![0; count])
        } else {
            Numbers::Floats((0..count).map(|i| (i % 31) as f32 / 16.0 - 0.9).collect())
        }
    };
    onnx.inputs().iter().try_for_each(|p| enough_memory(&p.name, &p.dims))?;
    let numbers: Vec<Numbers> = onnx.inputs().iter().map(made_up).collect();
    let given: Vec<Given<'_>> = numbers.iter().map(Numbers::given).collect();
    let mut engine = Evaluator::new(m.backend, m.path, &onnx, m.shapes, m.threads)?;
    let mut result = engine.run(&given).map(drop);
    let times = Times::of(&m.repeat.times(|| result = engine.run(&given).map(drop)));
    result?;
    let (engine, threads) = match m.backend {
        Backend::Fcdm => ("fcdm", m.threads),
        // Its kernels run on the thread that calls them.
        Backend::Tract => ("tract", 1),
    };
    if m.json {
        say::json(&json!({ "model": m.path.display().to_string(), "engine": engine, "threads": threads, "times": times }));
    } else {
        let (median, minimum) = (1e3 * times.median_s, 1e3 * times.minimum_s);
        let (model, runs) = (m.path.display(), times.runs);
        sayln!("{model}: {engine}, {threads} threads: {median:.3} ms, median of {runs} runs (minimum {minimum:.3})");
        if matches!(m.backend, Backend::Tract) {
            sayln!("tract is at its own speed in a build with `--profile dist` alone");
        }
    }
    Ok(())
}

impl From<OnnxError> for Failure {
    fn from(e: OnnxError) -> Failure {
        let code = if matches!(e, OnnxError::Tract { .. }) { 1 } else { crate::failure::CHECKPOINT };
        Failure::new(code, e)
    }
}

impl From<SessionError> for Failure {
    fn from(e: SessionError) -> Failure {
        let code = match e {
            SessionError::Build(e) => return e.into(),
            SessionError::Input { .. } | SessionError::Load(LoadError::Plan(_)) => crate::failure::CHECKPOINT,
            SessionError::Load(LoadError::Machine(_)) => 1,
        };
        Failure::new(code, e)
    }
}
