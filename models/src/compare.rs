//! What models of one network generate from the same noise, and how far apart that is.

use std::collections::BTreeMap;
use std::sync::Arc;

use fcdm_runtime::artifact::{Artifact, ModelInfo};
use fcdm_runtime::autoencoder::Decoder;
use fcdm_runtime::encoding::{Encoding, Matrix};
use fcdm_runtime::engine::Cpu;
use fcdm_runtime::entry_name::DecoderKind;
use fcdm_runtime::generate::{Choice, Shown};
use fcdm_runtime::network::{Class, Guided, Network};
use fcdm_runtime::picture::Picture;
use fcdm_runtime::plan::{Form, Operand, Place};
use fcdm_runtime::sampler::{Denoiser, Guidance, Method, Sampler};
use fcdm_runtime::threads;

use crate::options::OptionError;
use crate::trajectory::{self, BATCH};
pub use crate::trajectory::{classes, over};

pub mod ssim;

/// Noise, classes and steps, the same for all that is compared; guidance is the model's own.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The seed of the first picture; each has the next.
    pub seed: u64,
    /// A class for each.
    pub labels: Vec<i32>,
    /// The sampler, which [`method`] chooses.
    pub method: Method,
    /// Whether latents are decoded, if there is a decoder.
    pub decode: bool,
}

impl Trial {
    /// How often a model is asked for each picture.
    ///
    /// # Errors
    /// When the sampler is none for the model.
    pub fn evaluations(&self, model: &ModelInfo) -> Result<usize, OptionError> {
        Ok(self.times(model)?.len())
    }

    /// When it is asked.
    fn times(&self, model: &ModelInfo) -> Result<Vec<f64>, OptionError> {
        let sampler = Sampler::new(self.method, trajectory::layout(model, 1)).map_err(|e| OptionError(e.to_string()))?;
        Ok(sampler.evaluations())
    }
}

/// What a model made of a trial.
pub struct Run {
    /// The states after every evaluation but the last, `[n, H, W, C]`, and the last.
    pub states: Vec<Vec<f32>>,
    /// The pictures, if states can be shown.
    pub pictures: Vec<Picture>,
}

/// Mean and worst over pictures, dB or of SSIM.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The least.
    pub worst: f64,
}

/// How far apart two runs are.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Signal-to-noise ratio of the states at every step, dB, the last being what is generated.
    pub steps: Vec<f64>,
    /// Of what is generated, by picture.
    pub snr: Spread,
    /// Peak signal-to-noise ratio of pictures of 8 bits, dB, if there are any.
    pub psnr: Option<Spread>,
    /// Their structural similarity.
    pub ssim: Option<Spread>,
}

/// dB of what is equal in every bit: the ratio has no end.
pub const EQUAL: f64 = f64::INFINITY;

impl Spread {
    fn of(values: &[f64]) -> Spread {
        let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
        Spread { mean, worst: values.iter().copied().fold(f64::INFINITY, f64::min) }
    }
}

/// `10 log10(signal / noise)`.
pub fn decibels(signal: f64, noise: f64) -> f64 {
    if noise == 0.0 { EQUAL } else { 10.0 * (signal / noise).log10() }
}

/// The signal-to-noise ratio of values against a reference, dB.
pub fn snr(reference: &[f32], values: &[f32]) -> f64 {
    let square = |v: f64| v * v;
    let signal = reference.iter().map(|&v| square(f64::from(v))).sum();
    decibels(signal, reference.iter().zip(values).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum())
}

/// The peak signal-to-noise ratio of pictures of 8 bits, dB.
pub fn psnr(a: &Picture, b: &Picture) -> f64 {
    let square = |(&a, &b): (&u8, &u8)| (f64::from(a) - f64::from(b)).powi(2);
    let noise: f64 = a.pixels.iter().zip(&b.pixels).map(square).sum();
    decibels(255.0 * 255.0 * a.pixels.len() as f64, noise)
}

/// How a model samples in a trial: as it was specialised, or else by DDIM or Euler's rule in so many steps.
///
/// # Errors
/// When it was specialised to what cannot be.
pub fn method(model: &ModelInfo, steps: usize) -> Result<Method, OptionError> {
    match model.specialisation {
        Some(_) => Choice::default().method(model).map_err(|e| OptionError(e.to_string())),
        None => Ok(trajectory::method(model, steps)),
    }
}

fn network(artifact: &Arc<Artifact>) -> Result<Network, OptionError> {
    let cpu = Cpu::new(threads::available()).map_err(|e| OptionError(e.to_string()))?;
    Network::new(artifact.clone(), &cpu).map_err(|e| OptionError(e.to_string()))
}

/// Runs a trial. `progress` hears of every evaluation of how many states, and says no to stop it: then there is nothing.
///
/// # Errors
/// When the model cannot be run on this machine, or has not the classes.
pub fn run(artifact: &Arc<Artifact>, trial: &Trial, progress: &mut dyn FnMut(usize) -> bool) -> Result<Option<Run>, OptionError> {
    let wrong = |e: &dyn std::fmt::Display| OptionError(e.to_string());
    let mut network = network(artifact)?;
    let model = network.model().clone();
    let mut run = Run { states: Vec::new(), pictures: Vec::new() };
    for (batch, labels) in trial.labels.chunks(BATCH).enumerate() {
        let mut keep = |index: usize, x: &[f32]| {
            if run.states.len() <= index {
                run.states.resize(index + 1, Vec::new());
            }
            run.states[index].extend_from_slice(x);
        };
        let mut last = 0;
        let seed = trial.seed + (batch * BATCH) as u64;
        let ended = trajectory::run(&mut network, trial.method, seed, labels, &mut |now| {
            // The first is the noise itself.
            if now.index > 0 {
                keep(now.index - 1, now.x);
            }
            last = now.index;
            progress(labels.len())
        });
        let Some(end) = ended.map_err(|e| wrong(&e))? else { return Ok(None) };
        keep(last, &end);
    }
    let decoder = match artifact.autoencoder() {
        Some(_) if trial.decode => {
            let cpu = Cpu::new(threads::available()).map_err(|e| wrong(&e))?;
            Some(Decoder::new(artifact, DecoderKind::Own, [model.height, model.width], &cpu, None).map_err(|e| wrong(&e))?)
        }
        _ => None,
    };
    if let (Some(mut shown), Some(end)) = (Shown::new(decoder, &model), run.states.last()) {
        run.pictures = end.chunks_exact(network.state_len()).map(|state| shown.picture(state)).collect();
    }
    Ok(Some(run))
}

/// How far `other` is from `reference`, both of so many pictures.
///
/// # Panics
/// If they are not of the same trial.
pub fn difference(reference: &Run, other: &Run, count: usize) -> Difference {
    assert_eq!(reference.states.len(), other.states.len(), "steps");
    let steps = reference.states.iter().zip(&other.states).map(|(a, b)| snr(a, b)).collect();
    let end = |run: &Run| run.states.last().cloned().unwrap_or_default();
    let (a, b) = (end(reference), end(other));
    let each = (a.len() / count.max(1)).max(1);
    let ratios: Vec<f64> = a.chunks_exact(each).zip(b.chunks_exact(each)).map(|(a, b)| snr(a, b)).collect();
    let over = |f: &dyn Fn(&Picture, &Picture) -> f64| {
        let all: Vec<f64> = reference.pictures.iter().zip(&other.pictures).map(|(a, b)| f(a, b)).collect();
        (!all.is_empty()).then(|| Spread::of(&all))
    };
    Difference { steps, snr: Spread::of(&ratios), psnr: over(&psnr), ssim: over(&ssim::ssim) }
}

/// How close the stored weights of a model are to those of a reference, dB, by the names of the weights, for those that are matrices in
/// both.
pub fn weights(reference: &Artifact, other: &Artifact) -> BTreeMap<String, f64> {
    let (a, b) = (matrices(reference), matrices(other));
    let close = |(name, found): (String, Found)| {
        Some((name.clone(), snr(&decoded(reference, &name, a.get(&name)?)?, &decoded(other, &name, &found)?)))
    };
    b.into_iter().filter_map(close).collect()
}

type Found = (Encoding, Matrix);

/// The matrices of a plan's denoiser and condition, by name.
fn matrices(artifact: &Artifact) -> BTreeMap<String, Found> {
    let entries = artifact.plan().entries.iter().filter(|e| e.decoder_kind().is_none());
    let operands = entries.flat_map(|e| &e.steps).flat_map(|s| &s.inputs);
    let matrix = |operand: &Operand| match (&operand.at, operand.form) {
        (Place::Weight(name), Form::Encoded(encoding)) => Some((name.clone(), (encoding, operand.matrix()?))),
        _ => None,
    };
    operands.filter_map(matrix).collect()
}

fn decoded(artifact: &Artifact, name: &str, (encoding, matrix): &Found) -> Option<Vec<f32>> {
    let parts = encoding.parts(*matrix);
    let bytes: Option<Vec<&[u8]>> = parts.iter().map(|part| Some(artifact.tensor(&format!("{name}{}", part.suffix))?.2)).collect();
    Some(encoding.decode(&bytes?, *matrix))
}

/// A model, ready for its steps to be timed: those of one guided picture.
pub struct Timed {
    network: Network,
    guidance: Guidance,
    times: Vec<f64>,
    state: Vec<f32>,
    out: Vec<f32>,
}

impl Timed {
    /// As [`run`] would take it.
    ///
    /// # Errors
    /// As there.
    pub fn new(artifact: &Arc<Artifact>, trial: &Trial) -> Result<Timed, OptionError> {
        let network = network(artifact)?;
        let model = network.model().clone();
        let (state, out) = (vec![0.5; network.state_len()], vec![0.0; network.output_len()]);
        Ok(Timed { network, guidance: Guidance::of(&model), times: trial.times(&model)?, state, out })
    }

    /// Seconds of each of the first `count` steps of a picture of a class.
    ///
    /// # Errors
    /// When there is no such class.
    pub fn steps(&mut self, label: i32, count: usize) -> Result<Vec<f64>, OptionError> {
        let times = &self.times[..count.min(self.times.len())];
        let guided = Guided::new(&mut self.network, &Class::all(&[label]), self.guidance, 0, times);
        let mut guided = guided.map_err(|e| OptionError(e.to_string()))?;
        let mut step = |(k, &t): (usize, &f64)| {
            let before = std::time::Instant::now();
            guided.denoise(&self.state, k, t, &mut self.out);
            before.elapsed().as_secs_f64()
        };
        Ok(times.iter().enumerate().map(&mut step).collect())
    }
}
