//! How close two models are, on noise that nothing else has seen.

use std::sync::Arc;

use fcdm_runtime::artifact::Artifact;
use fcdm_runtime::cost::Cost;
use fcdm_runtime::entry_name::EntryName;
use serde_json::{Value, json};

use crate::compare::{Spread, Trial, classes, difference, method, over, run};
use crate::compile::{CompileError, Observer, Phase};

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

/// How close they are, dB.
pub(crate) struct Measured {
    found: Spread,
    pictures: usize,
    evaluations: usize,
}

impl Measured {
    /// The mean over pictures.
    pub fn decibels(&self) -> f64 {
        self.found.mean
    }

    /// For reports.
    pub fn to_json(&self) -> Value {
        // What is equal in every bit has no number.
        let rounded = |v: f64| (v * 100.0).round() / 100.0;
        json!({ "db": rounded(self.found.mean), "worst_db": rounded(self.found.worst), "pictures": self.pictures, "steps": self.evaluations,
                "seed": SEED })
    }
}

/// The PSNR of pictures of 8 bits, or for latents the signal-to-noise ratio, of what a model generates against a reference.
pub(crate) fn verify(reference: &Arc<Artifact>, model: &Arc<Artifact>, observer: &mut dyn Observer) -> Result<Measured, CompileError> {
    let info = model.model().expect("it is a denoiser").clone();
    let mut trial = Trial { seed: SEED, labels: Vec::new(), method: method(&info, STEPS)?, decode: false };
    let evaluations = trial.evaluations(&info)?;
    let affordable = BUDGET / (4 * evaluations as u64 * macs(reference).max(1));
    let pictures = usize::try_from(affordable).unwrap_or(PICTURES).clamp(LEAST, PICTURES);
    trial.labels = over(&classes(&info), pictures);
    let (mut done, total) = (0u64, (2 * pictures * evaluations) as u64);
    let mut go = |artifact: &Arc<Artifact>| {
        let mut progress = |states: usize| {
            done += states as u64;
            observer.progress(Phase::Verifying, done, total)
        };
        run(artifact, &trial, &mut progress)?.ok_or(CompileError::Cancelled)
    };
    let found = difference(&go(reference)?, &go(model)?, pictures);
    Ok(Measured { found: found.psnr.unwrap_or(found.snr), pictures, evaluations })
}

/// Multiply-accumulates of an evaluation of one state.
pub(super) fn macs(artifact: &Artifact) -> u64 {
    let entry = artifact.plan().entries.iter().filter(|e| e.name == EntryName::Denoise.to_string()).min_by_key(|e| e.rows);
    entry.map_or(0, |e| e.steps.iter().map(|step| Cost::of(step).macs).sum::<u64>() / e.rows.max(1) as u64)
}
