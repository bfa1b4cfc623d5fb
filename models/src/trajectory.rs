//! Trajectories of a network by itself: from noise to a sample, guided as it is by default.

use fcdm_runtime::artifact::{ModelInfo, Prediction};
use fcdm_runtime::network::{Class, Guided, Network};
use fcdm_runtime::request::RequestError;
use fcdm_runtime::sampler::{Denoiser, Guidance, Layout, Method, PictureNoise, Sampler, SamplerError, Solver, initial_state};
use fcdm_runtime::schedule::Spacing;
use thiserror::Error;

/// Pictures that are made together.
pub(crate) const BATCH: usize = 8;

/// A trajectory that there cannot be.
#[derive(Debug, Error)]
pub(crate) enum TrajectoryError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Sampler(#[from] SamplerError),
}

/// What the network was asked, and what it said.
pub(crate) struct Evaluation<'a> {
    /// Its number in a whole run.
    pub index: usize,
    pub time: f64,
    /// States, `[n, H, W, C]`.
    pub x: &'a [f32],
    /// The guided outputs, `[n, H, W, C_out]`.
    pub out: &'a [f32],
}

/// DDIM or Euler's rule, in so many steps.
pub(crate) fn method(model: &ModelInfo, steps: usize) -> Method {
    match model.prediction {
        Prediction::EpsVariance => Method::Ddim { spacing: Spacing::Even(steps), eta: 0.0 },
        Prediction::Velocity => Method::Ode { steps, solver: Solver::Euler },
    }
}

/// Of so many states of a model.
pub(crate) fn layout(model: &ModelInfo, states: usize) -> Layout {
    Layout { states, positions: model.height * model.width, channels: model.in_channels, out_channels: model.out_channels }
}

/// A class for each of some trajectories: all of few, in turn, else some from all over the list.
pub fn over(classes: &[i32], trajectories: usize) -> Vec<i32> {
    let count = classes.len();
    (0..trajectories).map(|i| classes[if count <= trajectories { i % count } else { i * count / trajectories }]).collect()
}

/// The classes that a model has, or was specialised to, but for the null class.
pub fn classes(model: &ModelInfo) -> Vec<i32> {
    let all: Vec<usize> = model.specialisation.as_ref().map_or_else(|| (0..model.num_classes).collect(), |held| held.classes.clone());
    all.into_iter().filter(|&class| class < model.num_classes || !model.null_class).map(|class| class as i32).collect()
}

/// Takes a state for each label, from the noise of seeds from `seed` on, through all steps, and returns where they end; `None` if `watch`,
/// which sees every evaluation, said no.
pub(crate) fn run(
    network: &mut Network,
    method: Method,
    seed: u64,
    labels: &[i32],
    watch: &mut dyn FnMut(&Evaluation<'_>) -> bool,
) -> Result<Option<Vec<f32>>, TrajectoryError> {
    let model = network.model().clone();
    let mut sampler = Sampler::new(method, layout(&model, labels.len()))?;
    let seeds: Vec<u64> = (seed..).take(labels.len()).collect();
    let mut state = vec![0.0; labels.len() * network.state_len()];
    initial_state(&seeds, &mut state);
    let guided = Guided::new(network, &Class::all(labels), Guidance::of(&model), 0, &sampler.evaluations())?;
    let mut noise = PictureNoise::new(seeds);
    let mut watched = Watched { guided, watch, go_on: true };
    for k in 0..sampler.steps() {
        sampler.step(k, &mut state, &mut watched, &mut noise);
        if !watched.go_on {
            return Ok(None);
        }
    }
    Ok(Some(state))
}

struct Watched<'a, 'b> {
    guided: Guided<'a>,
    watch: &'b mut dyn FnMut(&Evaluation<'_>) -> bool,
    go_on: bool,
}

impl Denoiser for Watched<'_, '_> {
    fn denoise(&mut self, x: &[f32], index: usize, time: f64, out: &mut [f32]) {
        self.guided.denoise(x, index, time, out);
        self.go_on &= (self.watch)(&Evaluation { index, time, x, out });
    }
}
