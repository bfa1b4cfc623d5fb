//! Sampling with a loaded network: the way from labels and noise to states, in one call.

use std::ops::ControlFlow;

use crate::network::{Guided, Network};
use crate::sampler::{Guidance, Layout, Method, Sampler, StepNoise};

/// Called after every step with its index, the number of steps and the states; may break off.
pub type AfterStep<'a> = &'a mut dyn FnMut(usize, usize, &[f32]) -> ControlFlow<()>;

/// Takes `states` `[n,H,W,C]`, the starting noise, through all steps of `method`; `labels` has one class per state.
/// The condition is computed for all steps beforehand. Returns whether it ran to the end.
///
/// # Errors
/// One line, when method, guidance or labels do not go with the model.
///
/// # Panics
/// If `states` has not one state per label.
pub fn sample(
    network: &mut Network,
    method: Method,
    guidance: Guidance,
    labels: &[i32],
    states: &mut [f32],
    noise: &mut dyn StepNoise,
    after: AfterStep<'_>,
) -> Result<bool, String> {
    let mut sampler = Sampler::new(method, layout(network, labels.len())).map_err(|e| e.to_string())?;
    let steps = sampler.steps();
    let mut guided = Guided::new(network, labels, guidance, &sampler.evaluations())?;
    Ok(sampler.run(states, &mut guided, noise, &mut |k, states| after(k, steps, states)))
}

/// Sizes of `states` states of a network.
pub fn layout(network: &Network, states: usize) -> Layout {
    let model = network.model();
    Layout { states, positions: model.height * model.width, channels: model.in_channels, out_channels: model.out_channels }
}
