//! States of the network's own trajectories, with the times and classes at which it is asked for them.

use std::sync::Arc;

use fcdm_compiler::prepared::Bytes;
use fcdm_runtime::artifact::Artifact;
use fcdm_runtime::encoding::Encoding;
use fcdm_runtime::engine::Cpu;
use fcdm_runtime::network::Network;
use fcdm_runtime::sampler::Guidance;
use fcdm_runtime::threads;

use super::Calibration;
use super::records::Records;
use crate::compile::{CompileError, Networks, Observer, Phase, Silent, aside, compile_to};
use crate::fcdm::{self, Import};
use crate::options::{OptionError, Options};
use crate::trajectory::{self, BATCH, Evaluation};
use crate::types::Types;

/// States that a network is asked for, and the network in f32.
pub(crate) struct States {
    /// The network.
    pub floats: Arc<Artifact>,
    /// `[n, H, W, C]`.
    pub x: Vec<f32>,
    /// Times.
    pub t: Vec<f32>,
    /// Rows of the class tables.
    pub y: Vec<i32>,
    /// How much the output's error counts: as the square of what guidance multiplies it by.
    pub weight: Vec<f32>,
}

/// Multiply-accumulates of all trajectories, about: some minutes of two cores.
const BUDGET: u64 = 8_000_000_000_000;

/// The name of their record.
const RECORD: &str = "states";

/// Least trajectories.
const LEAST: usize = 4;

/// Takes the network through its trajectories, and takes states of each, evenly over its steps, for both halves of guidance.
pub(crate) fn states(
    import: &Import,
    options: &Options,
    calibration: Calibration,
    records: &Records,
    observer: &mut dyn Observer,
) -> Result<States, CompileError> {
    let artifact = floats(import, options)?;
    let wrong = |e: &dyn std::fmt::Display| CompileError::from(OptionError(format!("calibrate: {e}")));
    let device = Cpu::new(threads::available()).map_err(|e| wrong(&e))?;
    let mut network = Network::new(artifact.clone(), &device).map_err(|e| wrong(&e))?;
    let model = network.model().clone();
    let guidance = Guidance::of(&model);
    let affordable = usize::try_from(BUDGET / (2 * macs(import, options) * calibration.steps as u64).max(1)).unwrap_or(usize::MAX);
    let count = affordable.clamp(LEAST, calibration.trajectories.max(LEAST));
    let labels = trajectory::over(&trajectory::classes(&model), count);
    let null = (guidance.scale != 1.0).then_some(model.num_classes as i32);
    let weights = [guidance.scale.powi(2), (guidance.scale - 1.0).powi(2)].map(|w| w as f32);
    let every = (calibration.steps / calibration.states).max(1);
    let halves = 1 + usize::from(null.is_some());
    let states = count * calibration.steps.div_ceil(every) * halves;
    if let Some(found) = records.get(RECORD, &[states * network.state_len(), states, states, states].map(|n| n * size_of::<f32>())) {
        let found: Result<Vec<Vec<u8>>, std::io::Error> = found.iter().map(Bytes::read).collect();
        if let Ok([x, t, y, weight]) = found.map(|v| <[Vec<u8>; 4]>::try_from(v).expect("four sections")) {
            let [x, t, weight] = [x, t, weight].map(|bytes| words(&bytes).map(f32::from_bits).collect());
            return Ok(States { floats: artifact, x, t, y: words(&y).map(|word| word as i32).collect(), weight });
        }
    }
    let mut all = States { floats: artifact, x: Vec::new(), t: Vec::new(), y: Vec::new(), weight: Vec::new() };
    for (batch, labels) in labels.chunks(BATCH).enumerate() {
        let mut watch = |now: &Evaluation<'_>| {
            if now.index.is_multiple_of(every) {
                let halves = [Some(None), null.map(Some)];
                for (half, weight) in halves.into_iter().zip(weights).filter_map(|(half, weight)| Some((half?, weight))) {
                    all.x.extend_from_slice(now.x);
                    all.t.extend(std::iter::repeat_n(now.time as f32, labels.len()));
                    all.y.extend(labels.iter().map(|&label| half.unwrap_or(label)));
                    all.weight.extend(std::iter::repeat_n(weight, labels.len()));
                }
            }
            let done = batch * BATCH * calibration.steps + (now.index + 1) * labels.len();
            observer.progress(Phase::Generating, done as u64, (count * calibration.steps) as u64)
        };
        let seed = calibration.seed + (batch * BATCH) as u64;
        let ended = trajectory::run(&mut network, trajectory::method(&model, calibration.steps), seed, labels, &mut watch)
            .map_err(|e| wrong(&e))?;
        if ended.is_none() {
            return Err(CompileError::Cancelled);
        }
    }
    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let labels = all.y.iter().flat_map(|y| y.to_le_bytes()).collect();
    let written = records.put(RECORD, vec![bytes(&all.x), bytes(&all.t), labels, bytes(&all.weight)]);
    written.map_err(fcdm_runtime::artifact::WriteError::from)?;
    Ok(all)
}

/// Words of four bytes.
fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

/// Multiply-accumulates of an evaluation of one state.
pub(crate) fn macs(import: &Import, options: &Options) -> u64 {
    let size = fcdm::Size { batch: 1, height: options.height, width: options.width };
    fcdm::cost::macs_by_stage(&fcdm::network(import.config(), size)).iter().map(|(_, macs)| macs).sum()
}

/// Options of the denoiser alone, with weights of f32.
pub(crate) fn in_floats(options: &Options) -> Options {
    Options {
        types: Types::from(Encoding::F32),
        batches: vec![1, 2 * BATCH],
        class_names: Vec::new(),
        decoder: false,
        encoder: false,
        calibration: None,
        mix: None,
        specialise: None,
        source: None,
        ..options.clone()
    }
}

/// The denoiser with weights of f32, in a file that goes away by itself, or in memory where there can be none.
pub(crate) fn floats(import: &Import, options: &Options) -> Result<Arc<Artifact>, CompileError> {
    let options = in_floats(options);
    let networks = Networks { fcdm: Some(import), ..Networks::default() };
    aside("the network before it is quantised", &mut |to| compile_to(networks, &options, to, &mut Silent).map(drop))
}
