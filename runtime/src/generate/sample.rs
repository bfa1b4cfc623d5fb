//! Sampling with a loaded network: the way from classes and noise to states, in one call.

use std::ops::ControlFlow;

use crate::network::{Class, Guided, Network};
use crate::request::RequestError;
use crate::sampler::{Guidance, Keep, Layout, Method, Sampler, StepNoise};

/// Where a run is, after a step.
pub struct Progress<'a> {
    /// The step, counted from 0 in this run.
    pub step: usize,
    /// Steps that run.
    pub steps: usize,
    /// The states after it, `[n,H,W,C]`.
    pub states: &'a [f32],
    sampler: &'a Sampler,
    /// The next step, in the count of a whole run.
    next: usize,
}

impl Progress<'_> {
    /// What the states are on the way to, as far as the network knows by now, [`Sampler::estimate`].
    ///
    /// # Panics
    /// When `clean` is not as long as the states.
    pub fn estimate(&self, clean: &mut [f32]) {
        self.sampler.estimate(self.next, self.states, clean);
    }
}

/// Called after every step; may break off.
pub type AfterStep<'a> = &'a mut dyn FnMut(&Progress<'_>) -> ControlFlow<()>;

/// What to sample.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The sampler.
    pub method: Method,
    /// Guidance.
    pub guidance: Guidance,
    /// One class per state.
    pub classes: &'a [Class],
    /// Where to begin, if not with noise alone.
    pub start: Option<Start<'a>>,
    /// A part that is given, if any.
    pub known: Option<Known<'a>>,
}

/// Clean states to begin from.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// `[n,H,W,C]`, as many as there are classes.
    pub clean: &'a [f32],
    /// How much of the way is gone anew, above 0 and at most 1: [`Sampler::first_step`].
    pub strength: f64,
}

/// Clean states that are kept in part, by [`Sampler::keep`].
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// `[n,H,W,C]`, as many as there are classes.
    pub clean: &'a [f32],
    /// `[H,W]`, for all states: 1 is made anew, 0 is kept, what is between is a mixture.
    pub mask: &'a [f32],
}

impl<'a> Request<'a> {
    /// From noise alone.
    pub fn new(method: Method, guidance: Guidance, classes: &'a [Class]) -> Self {
        Self { method, guidance, classes, start: None, known: None }
    }

    /// Holds the given states and masks against the sizes of the model.
    fn check(&self, layout: Layout) -> Result<(), RequestError> {
        let length = layout.state_len();
        let (start, known) = (self.start.map(|s| s.clean.len()), self.known.map(|k| k.clean.len()));
        for (name, found) in [("start", start), ("known", known)] {
            if let Some(found) = found.filter(|&found| found != length) {
                return Err(RequestError::new(name, format!("{length} values for {} states", layout.states), found));
            }
        }
        let Some(Known { mask, .. }) = self.known else { return Ok(()) };
        if mask.len() != layout.positions {
            return Err(RequestError::new("mask", format!("{} values", layout.positions), mask.len()));
        }
        match mask.iter().find(|m| !(0.0..=1.0).contains(*m)) {
            Some(wrong) => Err(RequestError::new("mask", "values from 0 to 1", wrong)),
            None => Ok(()),
        }
    }
}

/// Takes `states` `[n,H,W,C]`, the starting noise whatever the run begins with, through the steps of a request. The condition
/// is computed for all of them beforehand. `noise` is asked by the numbers of a whole run's steps. Returns whether it ran to
/// the end.
///
/// # Errors
/// When method, guidance, classes or known states do not go with the model.
///
/// # Panics
/// If `states` has not one state per class.
pub fn sample(
    network: &mut Network,
    request: &Request<'_>,
    states: &mut [f32],
    noise: &mut dyn StepNoise,
    after: AfterStep<'_>,
) -> Result<bool, RequestError> {
    let layout = layout(network, request.classes.len());
    request.check(layout)?;
    let mut sampler = Sampler::new(request.method, layout)?;
    let strength = request.start.map_or(1.0, |start| start.strength);
    let first = sampler.first_step(strength)?;
    let skipped = sampler.evaluations_before(first);
    let times = &sampler.evaluations()[skipped..];
    let mut guided = Guided::new(network, request.classes, request.guidance, skipped, times)?;

    let given = request.start.is_some() || request.known.is_some();
    let begin = if given { states.to_vec() } else { Vec::new() };
    if let Some(Start { clean, .. }) = request.start {
        sampler.noised(first, clean, &begin, states);
    }
    let keep = request.known.map(|Known { clean, mask }| Keep { clean, mask, noise: &begin });
    if let Some(keep) = &keep {
        sampler.keep(first, keep, states);
    }
    for k in first..sampler.steps() {
        sampler.step(k, states, &mut guided, noise);
        if let Some(keep) = &keep {
            sampler.keep(k + 1, keep, states);
        }
        let progress = Progress { step: k - first, steps: sampler.steps() - first, states, sampler: &sampler, next: k + 1 };
        if after(&progress).is_break() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Sizes of `states` states of a network.
pub fn layout(network: &Network, states: usize) -> Layout {
    let model = network.model();
    Layout { states, positions: model.height * model.width, channels: model.in_channels, out_channels: model.out_channels }
}
