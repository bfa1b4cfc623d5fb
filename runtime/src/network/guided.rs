//! A network with classes and guidance bound to it, as samplers ask it: the condition of a whole run computed beforehand,
//! both halves of guidance in one batch.

use super::{Condition, Network};
use crate::artifact::ModelInfo;
use crate::request::{CLASSES, RequestError};
use crate::sampler::{Denoiser, Guidance};

/// What a state is conditioned on: a class, or a place on the way to another one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Class {
    /// A row of the class tables; the number of classes is the null class, where there is one.
    pub label: i32,
    /// Another class and its weight, 0 to 1. What lies between is between the outputs of the condition, the modulation of
    /// every block, in a straight line: not between the rows of the class tables, which nonlinear layers follow.
    pub towards: Option<(i32, f64)>,
}

impl From<i32> for Class {
    fn from(label: i32) -> Self {
        Self { label, towards: None }
    }
}

impl Class {
    /// Plain classes.
    pub fn all(labels: &[i32]) -> Vec<Self> {
        labels.iter().map(|&label| label.into()).collect()
    }
}

/// Whether a model can be guided so.
///
/// # Errors
/// When guidance is asked of a model without a null class, or is out of range.
pub fn check_guidance(model: &ModelInfo, guidance: Guidance) -> Result<(), RequestError> {
    if guidance.scale != 1.0 && !model.null_class {
        return Err(RequestError::new("guidance", "scale 1, for the model has no null class", guidance.scale));
    }
    Ok(guidance.validate()?)
}

/// A network with classes and guidance bound: what a sampler asks.
pub struct Guided<'a> {
    network: &'a mut Network,
    guidance: Guidance,
    condition: Condition,
    /// The first of `evaluations`, in the count of a whole run.
    first: usize,
    /// For every evaluation: its first row in the condition, and whether the unconditional half follows.
    evaluations: Vec<(usize, bool)>,
    states: usize,
    doubled: Vec<f32>,
    outputs: Vec<f32>,
}

impl<'a> Guided<'a> {
    /// Computes the condition for the evaluations of a run, of which `times` are those from number `first` on; 0 for a whole
    /// run. `classes` has one class per state.
    ///
    /// # Errors
    /// When guidance is asked of a model without a null class, a label is no class or a weight is not 0 to 1; when the model was
    /// not compiled for a time or a class.
    pub fn new(
        network: &'a mut Network,
        classes: &[Class],
        guidance: Guidance,
        first: usize,
        times: &[f64],
    ) -> Result<Guided<'a>, RequestError> {
        let model = network.model().clone();
        let null = i32::try_from(model.num_classes).map_err(|_| RequestError::new(CLASSES, "fewer classes", model.num_classes))?;
        check_classes(classes, null + i32::from(model.null_class))?;
        check_guidance(&model, guidance)?;
        model.check_labels(labels(classes))?;
        model.check_times(times.iter().map(|&t| t as f32), |t| ("steps", format!("the time {t}")))?;
        let (mut t, mut y, mut evaluations) = (Vec::new(), Vec::new(), Vec::new());
        for &time in times {
            let active = guidance.is_active(model.prediction, time);
            evaluations.push((t.len(), active));
            y.extend(classes.iter().map(|c| c.label));
            if active {
                y.extend(std::iter::repeat_n(null, classes.len()));
            }
            t.resize(y.len(), time as f32);
        }
        // The far ends of ways between classes go behind all rows that are evaluated, and are dropped when they are mixed in.
        let kept = t.len();
        let mut ways = Vec::new();
        for (&(row, _), &time) in evaluations.iter().zip(times) {
            for (i, class) in classes.iter().enumerate() {
                let Some((end, weight)) = class.towards else { continue };
                ways.push((row + i, t.len(), weight));
                t.push(time as f32);
                y.push(end);
            }
        }
        let mut condition = network.condition(&t, &y);
        if !ways.is_empty() {
            condition.mix(&ways, kept);
        }
        let states = classes.len();
        let doubled = vec![0.0; 2 * states * network.state_len()];
        let outputs = vec![0.0; 2 * states * network.output_len()];
        Ok(Guided { network, guidance, condition, first, evaluations, states, doubled, outputs })
    }
}

impl Guided<'_> {
    /// Bytes that it takes to ask for `states` states at `evaluations` times, at the most: both halves of guidance, and the
    /// condition of all of them.
    pub fn bytes(network: &Network, states: usize, evaluations: usize) -> u64 {
        let halves = 2 * states as u64;
        let row = 4 * (network.state_len() + network.output_len()) as u64;
        let pairs = states.saturating_mul(2).saturating_mul(evaluations);
        halves.saturating_mul(row).saturating_add(network.condition_bytes(pairs))
    }
}

/// All labels of classes, also the far ends of ways.
fn labels(classes: &[Class]) -> impl Iterator<Item = i32> {
    classes.iter().flat_map(|c| std::iter::once(c.label).chain(c.towards.map(|(label, _)| label)))
}

/// Labels are rows of tables that have `rows`.
fn check_classes(classes: &[Class], rows: i32) -> Result<(), RequestError> {
    if let Some(wrong) = labels(classes).find(|l| !(0..rows).contains(l)) {
        return Err(RequestError::new(CLASSES, format!("0 to {}", rows - 1), wrong));
    }
    let weights = classes.iter().filter_map(|c| c.towards.map(|(_, weight)| weight));
    match weights.into_iter().find(|w| !(0.0..=1.0).contains(w)) {
        Some(wrong) => Err(RequestError::new("weight of a class", "0 to 1", wrong)),
        None => Ok(()),
    }
}

impl Denoiser for Guided<'_> {
    fn denoise(&mut self, x: &[f32], evaluation: usize, _t: f64, out: &mut [f32]) {
        let (first, active) = self.evaluations[evaluation - self.first];
        if !active {
            self.network.denoise(x, &self.condition, first, out);
            return;
        }
        let (state, output) = (self.states * self.network.state_len(), self.states * self.network.output_len());
        self.doubled[..state].copy_from_slice(x);
        self.doubled[state..].copy_from_slice(x);
        self.network.denoise(&self.doubled, &self.condition, first, &mut self.outputs);
        out.copy_from_slice(&self.outputs[..output]);
        let model = self.network.model();
        self.guidance.combine(out, &self.outputs[output..], model.in_channels, model.out_channels);
    }
}
