//! How close two models are, on noise that nothing else has seen.

use std::sync::Arc;

use fcdm_runtime::artifact::Artifact;
use fcdm_runtime::cost::Cost;
use fcdm_runtime::engine::Cpu;
use fcdm_runtime::entry_name::EntryName;
use fcdm_runtime::generate::Choice;
use fcdm_runtime::network::Network;
use fcdm_runtime::picture::Picture;
use fcdm_runtime::sampler::Sampler;
use fcdm_runtime::threads;
use serde_json::{Value, json};

use crate::compile::{CompileError, Observer};
use crate::options::OptionError;
use crate::trajectory::{self, BATCH};

/// Pictures, at the most.
const PICTURES: usize = 16;

/// The least.
const LEAST: usize = 2;

/// Steps of each.
const STEPS: usize = 50;

/// Where seeds begin.
const SEED: u64 = 3 << 32;

/// Multiply-accumulates that it may take, about.
const BUDGET: u64 = 20_000_000_000_000;

/// How close they are.
pub(crate) struct Measured {
    /// dB of each.
    pictures: Vec<f64>,
    evaluations: usize,
}

impl Measured {
    /// The mean over pictures.
    pub fn decibels(&self) -> f64 {
        self.pictures.iter().sum::<f64>() / self.pictures.len() as f64
    }

    pub fn to_json(&self) -> Value {
        let rounded = |v: f64| (v * 100.0).round() / 100.0;
        let worst = self.pictures.iter().copied().fold(f64::INFINITY, f64::min);
        json!({ "db": rounded(self.decibels()), "worst_db": rounded(worst), "pictures": self.pictures.len(), "steps": self.evaluations, "seed": SEED })
    }
}

/// The PSNR of pictures of 8 bits, or for latents the signal-to-noise ratio, of what a model generates against a reference.
pub(crate) fn verify(reference: &Arc<Artifact>, model: &Arc<Artifact>, observer: &mut dyn Observer) -> Result<Measured, CompileError> {
    let info = model.model().expect("it is a denoiser").clone();
    let wrong = |e: &dyn std::fmt::Display| CompileError::from(OptionError(format!("verifying types: {e}")));
    let (method, classes) = match &info.specialisation {
        Some(held) => (Choice::default().method(&info).map_err(|e| wrong(&e))?, held.classes.clone()),
        None => (trajectory::method(&info, STEPS), (0..info.num_classes).collect()),
    };
    let classes: Vec<usize> = classes.into_iter().filter(|&class| class < info.num_classes || !info.null_class).collect();
    let evaluations = Sampler::new(method, trajectory::layout(&info, 1)).map_err(|e| wrong(&e))?.evaluations().len();
    let affordable = BUDGET / (4 * evaluations as u64 * macs(reference).max(1));
    let pictures = usize::try_from(affordable).unwrap_or(PICTURES).clamp(LEAST, PICTURES);
    let labels: Vec<i32> = trajectory::classes(classes.len(), pictures).into_iter().map(|i| classes[i as usize] as i32).collect();
    let (mut done, total) = (0u64, (2 * pictures * evaluations) as u64);
    let mut ends = |artifact: &Arc<Artifact>| -> Result<Vec<f32>, CompileError> {
        let cpu = Cpu::new(threads::available()).map_err(|e| wrong(&e))?;
        let mut network = Network::new(artifact.clone(), &cpu).map_err(|e| wrong(&e))?;
        let mut all = Vec::new();
        for (batch, labels) in labels.chunks(BATCH).enumerate() {
            let seed = SEED + (batch * BATCH) as u64;
            let ended = trajectory::run(&mut network, method, seed, labels, &mut |_| {
                done += labels.len() as u64;
                observer.progress("verifying", done, total)
            });
            all.extend(ended.map_err(|e| wrong(&e))?.ok_or(CompileError::Cancelled)?);
        }
        Ok(all)
    };
    let (right, found) = (ends(reference)?, ends(model)?);
    let state = info.height * info.width * info.in_channels;
    let of_pictures = matches!(info.in_channels, 1 | 3);
    let decibels = |(a, b): (&[f32], &[f32])| {
        if of_pictures {
            let shown = |v: &[f32]| Picture::from_unit(info.height, info.width, info.in_channels, v);
            let (a, b) = (shown(a), shown(b));
            let squares: f64 = a.pixels.iter().zip(&b.pixels).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
            return ratio(255.0 * 255.0 * state as f64, squares);
        }
        let squares = |v: &mut dyn Iterator<Item = f64>| v.map(|v| v * v).sum::<f64>();
        let signal = squares(&mut a.iter().map(|&v| f64::from(v)));
        ratio(signal, squares(&mut a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b))))
    };
    let pictures = right.chunks_exact(state).zip(found.chunks_exact(state)).map(decibels).collect();
    Ok(Measured { pictures, evaluations })
}

/// Multiply-accumulates of an evaluation of one state.
fn macs(artifact: &Artifact) -> u64 {
    let entry = artifact.plan().entries.iter().filter(|e| e.name == EntryName::Denoise.to_string()).min_by_key(|e| e.rows);
    entry.map_or(0, |e| e.steps.iter().map(|step| Cost::of(step).macs).sum::<u64>() / e.rows.max(1) as u64)
}

/// dB; at most 100, what is equal but for nothing that is told apart.
fn ratio(signal: f64, noise: f64) -> f64 {
    (10.0 * (signal / noise.max(f64::MIN_POSITIVE)).log10()).min(100.0)
}
