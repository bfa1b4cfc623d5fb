//! What rounding one layer does to what the network generates.
//!
//! The network goes its way in f32, and some of its evaluations are kept. With one layer rounded they are asked again: the error of
//! the guided output times what it comes to at the end ([`super::gains`]), added up over the evaluations before it is squared, for the same
//! rounding errs the same way from step to step.

use std::sync::Arc;

use fcdm_compiler::assemble::Assembly;
use fcdm_compiler::in_memory::{InMemory, Replaced};
use fcdm_compiler::weights::WeightUse;
use fcdm_runtime::artifact::Artifact;
use fcdm_runtime::engine::Cpu;
use fcdm_runtime::network::{Class, Guided, Network};
use fcdm_runtime::picture::Picture;
use fcdm_runtime::plan::{Element, Form};
use fcdm_runtime::sampler::{Denoiser, Guidance};
use fcdm_runtime::threads;

use super::gains::{Cosines, gains, spectrum};
use super::verify::macs;
use crate::compile::{CompileError, Observer, Phase};
use crate::fcdm::Import;
use crate::options::OptionError;
use crate::trajectory::{self, BATCH};

/// Steps of the trajectory.
const STEPS: usize = 25;

/// Evaluations that are kept of it, if the network is not too large.
const KEPT: usize = 10;

/// The least.
const LEAST_KEPT: usize = 4;

/// Where measuring begins to count seeds: other noise than what calibration and verification see.
const SEED: u64 = 2 << 32;

/// Evaluations of a trajectory in f32, and what their errors come to.
pub(super) struct Course {
    pub floats: Arc<Artifact>,
    /// The plan of that.
    assembly: Assembly,
    cpu: Cpu,
    labels: Vec<i32>,
    times: Vec<f64>,
    /// `[n, H, W, C]` of each.
    states: Vec<Vec<f32>>,
    /// What the network says of them, guided, `[n, H, W, C_out]`.
    outputs: Vec<Vec<f32>>,
    /// Of the stretch of the trajectory that each stands for, by frequency.
    gains: Vec<Vec<f32>>,
    cosines: Cosines,
    /// The mean square of what is generated.
    pub power: f64,
}

/// A tensor in the place of one of the network's, as an artifact holds it.
pub(super) struct Changed {
    usage: WeightUse,
    parts: Vec<Vec<u8>>,
}

fn wrong(e: &dyn std::fmt::Display) -> CompileError {
    OptionError(format!("measuring types: {e}")).into()
}

impl Course {
    /// Takes the network in f32, of that plan, through its trajectories. `measurements` is how often it is to be asked again, which decides how much of
    /// them there can be: about as many multiply-accumulates as `budget` in all.
    pub fn new(
        import: &Import,
        floats: Arc<Artifact>,
        assembly: Assembly,
        measurements: usize,
        budget: u64,
        observer: &mut dyn Observer,
    ) -> Result<Course, CompileError> {
        let cpu = Cpu::new(threads::available()).map_err(|e| wrong(&e))?;
        let mut network = Network::new(floats.clone(), &cpu).map_err(|e| wrong(&e))?;
        let model = network.model().clone();
        let one = (2 * measurements.max(1) as u64).saturating_mul(macs(&floats));
        let affordable = usize::try_from(budget / one.max(1)).unwrap_or(usize::MAX);
        let kept = affordable.clamp(LEAST_KEPT, KEPT);
        let labels = trajectory::over(&trajectory::classes(&model), (affordable / kept).clamp(1, BATCH));
        let at: Vec<usize> = (0..kept).map(|i| (2 * i + 1) * STEPS / (2 * kept)).collect();
        let (mut states, mut outputs, mut times) = (Vec::new(), Vec::new(), Vec::new());
        let ended = trajectory::run(&mut network, trajectory::method(&model, STEPS), SEED, &labels, &mut |now| {
            if at.contains(&now.index) {
                states.push(now.x.to_vec());
                outputs.push(now.out.to_vec());
                times.push(now.time);
            }
            observer.progress(Phase::Generating, (now.index + 1) as u64, STEPS as u64)
        });
        let end = ended.map_err(|e| wrong(&e))?.ok_or(CompileError::Cancelled)?;
        if !end.iter().all(|v| v.is_finite()) {
            return Err(import.wrong("expected finite pictures of its own, found others").into());
        }
        let cosines = Cosines::new(model.height, model.width);
        let variances = spectrum(&cosines.of(&end, model.in_channels, model.in_channels), model.in_channels, cosines.len());
        let all = gains(trajectory::method(&model, STEPS), model.prediction, &variances).map_err(|e| wrong(&e))?;
        let gains = (0..kept).map(|i| sum(&all[i * STEPS / kept..(i + 1) * STEPS / kept])).collect();
        let power = mean_square(&end);
        Ok(Course { floats, assembly, cpu, labels, times, states, outputs, gains, cosines, power })
    }

    /// Whether what is generated is pictures, not latents.
    pub fn is_of_pictures(&self) -> bool {
        self.floats.model().is_some_and(|model| Picture::CHANNELS.contains(&model.in_channels))
    }

    /// The uses of a weight in the network.
    pub fn uses<'a>(&'a self, weight: &'a str) -> impl Iterator<Item = &'a WeightUse> {
        self.assembly.weights.values().filter(move |usage| usage.weight == weight)
    }

    /// A weight with other values, `[rows, ..]` in the order of its use.
    pub fn changed(&self, usage: &WeightUse, values: Vec<f32>) -> Result<Changed, CompileError> {
        let rows = usage.ty.shape.first().copied().unwrap_or(1);
        let parts = usage.piece(&(0..rows)).encode_all(values).map_err(|e| wrong(&e))?;
        Ok(Changed { usage: usage.clone(), parts })
    }

    /// A vector with something added to its values, if the network has it as such.
    pub fn added(&self, weight: &str, more: &[f64]) -> Result<Option<Changed>, CompileError> {
        let Some(usage) = self.uses(weight).find(|usage| usage.form == Form::Dense(Element::F32)) else { return Ok(None) };
        let (_, _, bytes) = self.floats.tensor(&usage.key()).ok_or_else(|| wrong(&format!("there is no tensor `{}`", usage.key())))?;
        let values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let values = values.zip(more).map(|(v, more)| v + *more as f32).collect();
        Ok(Some(self.changed(usage, values)?))
    }

    /// The mean square of the error of what is generated, with these in the place of the network's own.
    pub fn effect(&self, changed: Vec<Changed>) -> Result<f64, CompileError> {
        let over = InMemory::of(changed.into_iter().map(|c| (c.usage, c.parts)));
        let weights = Replaced { under: self.floats.clone(), over };
        let mut network = Network::with_weights(self.floats.clone(), Arc::new(weights), &self.cpu).map_err(|e| wrong(&e))?;
        let model = network.model().clone();
        let (channels, out_channels) = (model.in_channels, model.out_channels);
        let mut guided =
            Guided::new(&mut network, &Class::all(&self.labels), Guidance::of(&model), 0, &self.times).map_err(|e| wrong(&e))?;
        let planes = self.labels.len() * channels;
        let mut total = vec![0.0f32; planes * self.cosines.len()];
        let mut out = vec![0.0; self.outputs[0].len()];
        for (k, &time) in self.times.iter().enumerate() {
            guided.denoise(&self.states[k], k, time, &mut out);
            out.iter_mut().zip(&self.outputs[k]).for_each(|(v, right)| *v -= right);
            let transformed = self.cosines.of(&out, out_channels, channels);
            for (total, error) in total.chunks_exact_mut(self.cosines.len()).zip(transformed.chunks_exact(self.cosines.len())) {
                for ((total, error), gain) in total.iter_mut().zip(error).zip(&self.gains[k]) {
                    *total += error * gain;
                }
            }
        }
        Ok(mean_square(&total))
    }
}

fn sum(rows: &[Vec<f32>]) -> Vec<f32> {
    let mut sum = vec![0.0; rows.first().map_or(0, Vec::len)];
    rows.iter().for_each(|row| sum.iter_mut().zip(row).for_each(|(sum, v)| *sum += v));
    sum
}

pub(super) fn mean_square(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / values.len().max(1) as f64
}
