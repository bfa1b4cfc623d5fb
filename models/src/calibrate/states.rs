//! States of the network's own trajectories, with the times and classes at which it is asked for them.

use std::io::{BufWriter, Cursor};
use std::path::Path;
use std::sync::Arc;

use fcdm_runtime::artifact::{Artifact, Prediction};
use fcdm_runtime::encoding::Encoding;
use fcdm_runtime::engine::Cpu;
use fcdm_runtime::network::{Class, Guided, Network};
use fcdm_runtime::sampler::{Denoiser, Guidance, Layout, Method, NoNoise, Sampler, Solver, initial_state};
use fcdm_runtime::schedule::Spacing;
use fcdm_runtime::threads;

use super::Calibration;
use crate::compile::{CompileError, Destination, Networks, Observer, Silent, compile_to};
use crate::fcdm::{self, Import};
use crate::options::{OptionError, Options};
use crate::types::Types;

/// States that a network is asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct States {
    /// `[n, H, W, C]`.
    pub x: Vec<f32>,
    /// Times.
    pub t: Vec<f32>,
    /// Rows of the class tables.
    pub y: Vec<i32>,
    /// How much the output's error counts: as the square of what guidance multiplies it by.
    pub weight: Vec<f32>,
}

/// Pictures that are made together.
const BATCH: usize = 8;

/// Multiply-accumulates of all trajectories, about: some minutes of two cores.
const BUDGET: u64 = 8_000_000_000_000;

/// Least trajectories.
const LEAST: usize = 4;

/// Which classes: all of few, else some from all over the list.
fn classes(count: usize, trajectories: usize) -> Vec<i32> {
    (0..trajectories).map(|i| if count <= trajectories { i % count } else { i * count / trajectories }).map(|c| c as i32).collect()
}

/// Takes the network through its trajectories, and takes states of each, evenly over its steps, for both halves of guidance.
pub(super) fn states(
    import: &Import,
    options: &Options,
    calibration: Calibration,
    observer: &mut dyn Observer,
) -> Result<States, CompileError> {
    let artifact = floats(import, options)?;
    let wrong = |e: &dyn std::fmt::Display| CompileError::from(OptionError(format!("calibrate: {e}")));
    let device = Cpu::new(threads::available()).map_err(|e| wrong(&e))?;
    let mut network = Network::new(artifact, &device).map_err(|e| wrong(&e))?;
    let model = network.model().clone();
    let guidance = Guidance::of(&model);
    let method = match model.prediction == Prediction::EpsVariance {
        true => Method::Ddim { spacing: Spacing::Even(calibration.steps), eta: 0.0 },
        false => Method::Ode { steps: calibration.steps, solver: Solver::Euler },
    };
    let size = fcdm::Size { batch: 1, height: options.height, width: options.width };
    let macs: u64 = fcdm::cost::macs_by_stage(&fcdm::network(import.config(), size)).iter().map(|(_, macs)| macs).sum();
    let evaluations = 2 * calibration.steps as u64;
    let affordable = usize::try_from(BUDGET / (macs * evaluations).max(1)).unwrap_or(usize::MAX);
    let trajectories = affordable.clamp(LEAST, calibration.trajectories.max(LEAST));
    let labels = classes(model.num_classes, trajectories);
    let layout =
        |states| Layout { states, positions: model.height * model.width, channels: model.in_channels, out_channels: model.out_channels };
    let mut all = States::default();
    for (batch, labels) in labels.chunks(BATCH).enumerate() {
        let mut sampler = Sampler::new(method, layout(labels.len())).map_err(|e| wrong(&e))?;
        let times = sampler.evaluations();
        let first = calibration.seed + (batch * BATCH) as u64;
        let seeds: Vec<u64> = (first..).take(labels.len()).collect();
        let mut state = vec![0.0; labels.len() * network.state_len()];
        initial_state(&seeds, &mut state);
        let guided = Guided::new(&mut network, &Class::all(labels), guidance, 0, &times).map_err(|e| wrong(&e))?;
        let null = (guidance.scale != 1.0).then_some(model.num_classes as i32);
        let weights = [guidance.scale.powi(2), (guidance.scale - 1.0).powi(2)].map(|w| w as f32);
        let mut watch = Watch { guided, labels, null, weights, every: (times.len() / calibration.states).max(1), all: &mut all };
        let steps = sampler.steps();
        let (done, total) = ((batch * BATCH * steps) as u64, (trajectories * steps) as u64);
        let go_on = sampler.run(&mut state, &mut watch, &mut NoNoise, &mut |k, _| {
            let now = done + ((k + 1) * labels.len()) as u64;
            if observer.progress("generating", now, total) { std::ops::ControlFlow::Continue(()) } else { std::ops::ControlFlow::Break(()) }
        });
        if !go_on {
            return Err(CompileError::Cancelled);
        }
    }
    Ok(all)
}

/// Keeps states that pass by.
struct Watch<'a, 'b> {
    guided: Guided<'a>,
    labels: &'b [i32],
    null: Option<i32>,
    /// Of either half.
    weights: [f32; 2],
    every: usize,
    all: &'b mut States,
}

impl Denoiser for Watch<'_, '_> {
    fn denoise(&mut self, x: &[f32], evaluation: usize, t: f64, out: &mut [f32]) {
        if evaluation.is_multiple_of(self.every) {
            let halves = [Some(None), self.null.map(Some)];
            for (half, weight) in halves.into_iter().zip(self.weights).filter_map(|(half, weight)| Some((half?, weight))) {
                self.all.x.extend_from_slice(x);
                self.all.t.extend(std::iter::repeat_n(t as f32, self.labels.len()));
                self.all.y.extend(self.labels.iter().map(|&label| half.unwrap_or(label)));
                self.all.weight.extend(std::iter::repeat_n(weight, self.labels.len()));
            }
        }
        self.guided.denoise(x, evaluation, t, out);
    }
}

/// The denoiser with weights of f32, in a file that goes away by itself, or in memory where there can be none.
fn floats(import: &Import, options: &Options) -> Result<Arc<Artifact>, CompileError> {
    let options = Options {
        types: Types::from(Encoding::F32),
        batches: vec![1, 2 * BATCH],
        class_names: Vec::new(),
        decoder: false,
        encoder: false,
        calibration: None,
        specialise: None,
        source: None,
        ..options.clone()
    };
    let networks = Networks { fcdm: Some(import), ..Networks::default() };
    let name = "the network before it is quantised";
    let wrong = |e: &dyn std::fmt::Display| CompileError::from(OptionError(format!("calibrate: {e}")));
    if let Ok(file) = tempfile::tempfile() {
        let mut output = BufWriter::new(file);
        compile_to(networks, &options, Destination::Open(name, &mut output), &mut Silent)?;
        if let Ok(file) = output.into_inner() {
            return Ok(Arc::new(Artifact::of_file(Path::new(name), file).map_err(|e| wrong(&e))?));
        }
    }
    let mut bytes = Cursor::new(Vec::new());
    compile_to(networks, &options, Destination::Open(name, &mut bytes), &mut Silent)?;
    Ok(Arc::new(Artifact::from_bytes(name, bytes.into_inner()).map_err(|e| wrong(&e))?))
}
