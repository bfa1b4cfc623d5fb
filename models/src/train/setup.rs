//! What follows from a run's options and its data before the first update: sizes, objective, first weights.

use std::path::Path;

use regex_lite::Regex;

use super::checkpoint::EMA;
use super::config::{Config, ConfigError, ObjectiveKind, TimesKind};
use super::examples::{Examples, Statistics};
use super::initial::Initial;
use super::objective::{Diffusion, Flow, Objective, Times};
use super::step::{Step, StepOptions};
use super::trainer::{Event, Observer, TrainError};
use crate::fcdm::initialise::initialise;
use crate::fcdm::{Config as Network, Preset, Size, parameters};

/// Bytes of values that a pass may take where nobody says how many samples it has.
const PASS: f64 = (1u64 << 30) as f64;

/// What a root mean square of latents should lie between: a network is given noise of 1.
const SCALES: [f64; 2] = [0.5, 2.0];

/// A value that cannot be.
pub(super) fn wrong(key: &str, expected: impl Into<String>, found: impl ToString) -> TrainError {
    TrainError::Config(ConfigError::Value { key: key.to_owned(), expected: expected.into(), found: found.to_string() })
}

/// The checkpoint to begin with, if there is one.
pub(super) fn initial(config: &mut Config, examples: &Examples) -> Result<Option<Initial>, TrainError> {
    let Some(path) = config.init.clone() else { return Ok(None) };
    Initial::open(Path::new(&path), config, examples).map(Some)
}

/// Names of the weights that are trained.
pub(super) fn trained(config: &Config, network: &Network) -> Result<Vec<String>, TrainError> {
    let all = parameters(network).into_iter().map(|p| p.name);
    let Some(pattern) = &config.freeze else { return Ok(all.collect()) };
    let frozen = Regex::new(pattern).map_err(|e| wrong("freeze", "a pattern of names", e))?;
    let trained: Vec<String> = all.filter(|name| !frozen.is_match(name)).collect();
    if trained.is_empty() {
        return Err(wrong("freeze", "a pattern that leaves weights to train", format!("`{pattern}`, which none is left by")));
    }
    Ok(trained)
}

/// Classes of the data: as many as are asked for, or as it has; every label is below.
pub(super) fn classes(config: &Config, examples: &Examples) -> Result<usize, TrainError> {
    let greatest = examples.labels().iter().copied().max().unwrap_or(0);
    let least = examples.labels().iter().copied().min().unwrap_or(0);
    let classes = config.num_classes.unwrap_or_else(|| examples.classes().len().max(greatest.max(0) as usize + 1));
    if least < 0 || greatest as usize >= classes {
        let bad = if least < 0 { least } else { greatest };
        let at = examples.labels().iter().position(|&l| l == bad).unwrap_or(0);
        return Err(wrong("num-classes", format!("labels from 0 to {}", classes - 1), format!("{bad}, of example {at}")));
    }
    Ok(classes)
}

/// The network's sizes; the number of classes is filled in.
pub(super) fn network(config: &mut Config, examples: &Examples) -> Result<Network, TrainError> {
    let preset = Preset::from_name(&config.model);
    let preset = preset.ok_or_else(|| wrong("model", "FCDM-S, FCDM-B, FCDM-L or FCDM-XL", &config.model))?;
    config.model = preset.name().to_owned();
    let classes = classes(config, examples)?;
    config.num_classes = Some(classes);
    let of = preset.config();
    let hidden = config.hidden.unwrap_or(of.hidden);
    if hidden < 2 || !hidden.is_multiple_of(2) {
        return Err(wrong("hidden", "an even number of channels: they are halved on the way down", hidden));
    }
    let depths = config.depths.unwrap_or(of.depths);
    if depths.contains(&0) {
        return Err(wrong("depths", "at least one block in each of the five stages", format!("{depths:?}")));
    }
    let channels = channels(examples)?;
    Ok(Network {
        hidden,
        depths,
        expanded: [0, 1, 2].map(|level| (((hidden << level) as f64 * config.mlp_ratio) as usize).max(1)),
        num_classes: classes,
        null_class: config.label_dropout > 0.0,
        in_channels: channels,
        learn_sigma: config.objective == ObjectiveKind::Diffusion,
    })
}

/// Channels of the examples, whose height and width are such as a network takes.
pub(super) fn channels(examples: &Examples) -> Result<usize, TrainError> {
    let [channels, height, width] = examples.shape();
    if !height.is_multiple_of(4) || !width.is_multiple_of(4) {
        let key = if examples.are_pictures() { "image-size" } else { "data" };
        return Err(wrong(key, "height and width that 4 divides", format!("{height} x {width}")));
    }
    Ok(channels)
}

/// Samples of a pass, filled in: of the numbers that divide the batch the greatest whose values are not too many.
pub(super) fn micro_batch(config: &mut Config, network: &Network, [_, height, width]: [usize; 3]) -> usize {
    let level = |stage: usize| [0, 1, 2, 1, 0][stage];
    // Of a block about ten images of its width are kept for the backward pass.
    let kept =
        |stage: usize| network.depths[stage] * 10 * (network.hidden << level(stage)) * (height >> level(stage)) * (width >> level(stage));
    let bytes = 4.0 * (0..5).map(kept).sum::<usize>() as f64;
    let fits = |n: &usize| config.batch_size.is_multiple_of(*n) && *n as f64 * bytes <= PASS;
    let n = config.micro_batch.unwrap_or_else(|| (1..=config.batch_size).rev().find(fits).unwrap_or(1));
    config.micro_batch = Some(n);
    n
}

pub(super) fn objective(config: &Config) -> Objective {
    match config.objective {
        ObjectiveKind::Diffusion => Objective::Diffusion(Diffusion::new(config.snr_gamma)),
        ObjectiveKind::Flow => Objective::Flow(Flow {
            path: config.path,
            prediction: config.prediction,
            times: match config.times {
                TimesKind::Uniform => Times::Uniform,
                TimesKind::LogitNormal => Times::LogitNormal { mean: config.times_mean, std: config.times_std },
            },
            min_snr: config.snr_gamma,
        }),
    }
}

pub(super) fn step_options(config: &Config, trained: Vec<String>, size: Size, validate: bool) -> StepOptions {
    StepOptions {
        size,
        beta1: config.adam_beta1,
        beta2: config.adam_beta2,
        eps: config.adam_epsilon,
        averages: vec![EMA.to_owned()],
        trained,
        accumulate: config.batch_size > size.batch,
        validate,
        max_memory: config.max_memory,
    }
}

/// The first weights, which are their own average: fresh, or those of a checkpoint.
pub(super) fn begin(step: &mut Step, config: &Config, initial: Option<&Initial>) -> Result<(), TrainError> {
    for (i, p) in step.parameters().to_vec().iter().enumerate() {
        let mut values = p.to_ir(initialise(p, i, config.seed));
        if let Some(initial) = initial {
            initial.weights(p, &mut values)?;
        }
        step.write(&p.name, &values);
        if step.options().trained.contains(&p.name) {
            step.write(&format!("{EMA}{}", p.name), &values);
        }
    }
    Ok(())
}

pub(super) fn note_scale(statistics: &Statistics, examples: &Examples, observer: &mut dyn Observer) {
    let [least, most] = SCALES;
    if !(least..=most).contains(&statistics.scale) && !examples.are_pictures() {
        let factor = 1.0 / statistics.scale;
        observer.event(Event::Note(&format!(
            "the latents' root mean square is {:.3}, where networks are best trained on about 1: encode them with a scale {factor:.4} times theirs",
            statistics.scale
        )));
    }
}
