//! A run from its options to its last checkpoint: the loop over updates, and what happens between them.
//!
//! Everything that is computed follows from the options and the number of the update: a run that is stopped, or killed, goes on from its last
//! checkpoint to the same bits.

use std::path::{Path, PathBuf};
use std::time::Instant;

use fcdm_compiler::checkpoint::CheckpointError;
use fcdm_runtime::engine::{Cpu, Device};
use fcdm_runtime::executor::ExecutorError;
use fcdm_runtime::file::FileError;
use serde_json::json;
use thiserror::Error;

use super::batches::{Ahead, Batches, Made};
use super::checkpoint::{self, Progress, ResumeError};
use super::config::{Config, ConfigError};
use super::examples::{Examples, ExamplesError, Wish};
use super::folder::{Folder, FolderError};
use super::objective::Objective;
use super::order::{Order, split};
use super::schedule::{Average, Decay, Decline, LearningRate};
use super::setup::{begin, initial, micro_batch, network, note_scale, objective, step_options, trained};
use super::step::{Rates, Step, StepError};
use crate::fcdm::{Config as Network, Size};
use crate::import::ImportError;

/// Why a run ends before its end.
#[derive(Debug, Error)]
pub enum TrainError {
    /// An option.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What is trained on.
    #[error(transparent)]
    Examples(#[from] ExamplesError),
    /// Its folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The checkpoint that it goes on with.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint to begin with.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The plan.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The machine.
    #[error(transparent)]
    Machine(#[from] ExecutorError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The system starts no more threads.
    #[error("cannot start threads: {0}")]
    Threads(std::io::Error),
    /// Something became infinite, or no number.
    #[error("update {step}: {what} is not finite, first in {place}; the weights are as before it, the last checkpoint is {checkpoint}")]
    NotFinite {
        /// The update that was not made.
        step: u64,
        /// The loss or the gradient.
        what: &'static str,
        /// The value and the kernel that made it.
        place: String,
        /// Of what is whole, the newest.
        checkpoint: String,
    },
}

/// What a run tells.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// What was assumed or found, in a sentence.
    Note(&'a str),
    /// How many pictures of how many have been read.
    Reading(usize, usize),
    /// All is ready.
    Begun(Begun<'a>),
    /// An update.
    Updated(Update),
    /// What was held out.
    Validated(&'a [(String, f64)]),
    /// A checkpoint.
    Saved(&'a Path),
}

/// A run that is ready.
#[derive(Clone, Debug)]
pub struct Begun<'a> {
    /// Its folder.
    pub folder: &'a Path,
    /// Updates that were made before.
    pub step: u64,
    /// Updates of the whole run, if that is known.
    pub total: Option<u64>,
    /// Parameters of the network.
    pub parameters: usize,
    /// Examples that are trained on.
    pub examples: usize,
    /// Bytes that the step takes: weights and what is kept of them, values, scratch.
    pub memory: [usize; 3],
    /// Samples of a batch, and of a pass.
    pub batch: [usize; 2],
}

/// An update.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Update {
    /// Its number, from 1.
    pub step: u64,
    /// The last, if that is known.
    pub total: Option<u64>,
    /// The batch's loss.
    pub loss: f64,
    /// Its squared error.
    pub mse: f64,
    /// Its variational term; 0 without.
    pub vb: f64,
    /// Norm of the gradient, before it is clipped.
    pub norm: f64,
    /// Learning rate.
    pub rate: f64,
    /// Seconds that it took, and of those that were spent waiting for the batch.
    pub seconds: f64,
    /// See above.
    pub waited: f64,
    /// Samples.
    pub samples: usize,
}

/// Who hears of a run and may end it.
pub trait Observer {
    /// Something happened.
    fn event(&mut self, event: Event<'_>);
    /// Whether to write a checkpoint and stop.
    fn stopped(&self) -> bool;
    /// A checkpoint was written: the place for a sheet of samples. What fails there ends nothing.
    fn sample(&mut self, checkpoint: &Path, folder: &Path, network: &Network, size: [usize; 2], classes: &[String]);
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Its folder.
    pub folder: PathBuf,
    /// Its last checkpoint, if there is one.
    pub checkpoint: Option<PathBuf>,
    /// Updates made, in all.
    pub step: u64,
    /// Whether that is all of them.
    pub finished: bool,
    /// Seconds of training, all runs together, and of those spent waiting for batches in this one.
    pub seconds: f64,
    /// See above.
    pub waited: f64,
}

/// Most examples that are held out.
const HELD_OUT: usize = 512;

/// A run that goes on until its end.
struct Trainer<'a> {
    config: Config,
    network: Network,
    step: Step,
    objective: Objective,
    batches: Ahead,
    held_out: Option<Made>,
    progress: Progress,
    total: Option<u64>,
    folder: Folder,
    classes: Vec<String>,
    rate: LearningRate,
    average: Average,
    observer: &'a mut dyn Observer,
    /// Seconds of training before this run, and since when this one goes on.
    before: f64,
    begun: Instant,
    saved: Instant,
    waited: f64,
    /// Updates since the last line of the log.
    window: Vec<Update>,
}

/// Trains as `config` says, in the newest run of `output` if that has the same options and `anew` is false, else in a new one. Returns nothing
/// if it was stopped before it began.
///
/// # Errors
/// See [`TrainError`].
pub fn train(config: &Config, output: &Path, anew: bool, observer: &mut dyn Observer) -> Result<Option<Outcome>, TrainError> {
    let continued = Folder::continued(output, config, anew)?;
    let mut config = continued.as_ref().map_or_else(|| config.clone(), |(_, config)| config.clone());
    let wish = Wish {
        path: PathBuf::from(&config.data),
        labels: config.labels.as_ref().map(PathBuf::from),
        side: config.image_size,
        flip: config.flip,
        strict: config.strict,
    };
    let opened = Examples::open(&wish, &mut |done, of| {
        observer.event(Event::Reading(done, of));
        !observer.stopped()
    })?;
    let Some(mut examples) = opened else { return Ok(None) };
    examples.notes().iter().for_each(|note| observer.event(Event::Note(note)));
    let initial = initial(&mut config, &examples)?;
    let network = match &initial {
        Some(initial) => initial.network(&mut config, &examples)?,
        None => network(&mut config, &examples)?,
    };
    let trained_weights = trained(&config, &network)?;
    let statistics = examples.statistics()?;
    note_scale(&statistics, &examples, observer);
    let size =
        Size { batch: micro_batch(&mut config, &network, examples.shape()), height: examples.shape()[1], width: examples.shape()[2] };

    let objective = objective(&config);
    let wanted = (config.validation * examples.count() as f64).ceil() as usize;
    // Whole passes, and something left to train on.
    let held = wanted.min(HELD_OUT).min(examples.count() - 1) / size.batch * size.batch;
    if wanted > 0 && held == 0 {
        let line =
            format!("nothing is held out: it would be {wanted} of {} examples, fewer than a pass of {}", examples.count(), size.batch);
        observer.event(Event::Note(&line));
    }
    let (trained, held) = split(examples.count(), held, config.seed);
    let order = Order::new(trained, config.seed);
    let per_epoch = order.count() as f64 / config.batch_size as f64;
    let total = config.steps.or(config.epochs.map(|epochs| (epochs * per_epoch).ceil().max(1.0) as u64));
    let classes = examples.classes().to_vec();
    let count = order.count();
    let mut batches = Batches {
        examples,
        order,
        objective: objective.clone(),
        seed: config.seed,
        size: config.batch_size,
        dropout: if network.null_class { config.label_dropout } else { 0.0 },
        null_class: network.null_class.then_some(network.num_classes as i32),
        flip: config.flip,
    };
    let held_out = if held.is_empty() { None } else { Some(batches.held_out(&held)?) };

    let device = Cpu::new(config.threads.unwrap_or_else(fcdm_runtime::threads::available))?;
    let mut step = Step::new(&network, step_options(&config, trained_weights, size, held_out.is_some()), &device as &dyn Device)?;
    let mut folder = Folder::open(output, &config, continued.as_ref().map(|(path, _)| path.as_path()))?;
    let progress = match checkpoint::list(&folder.checkpoints()).pop() {
        Some((_, path)) => checkpoint::load(&path, &mut step)?,
        None => {
            begin(&mut step, &config, initial.as_ref())?;
            Progress { statistics: Some(statistics), ..Progress::default() }
        }
    };
    folder.rewind(progress.step)?;
    let (values, scratch) = step.engine().memory();
    let parameters: usize = step.parameters().iter().map(|p| p.count()).sum();
    observer.event(Event::Begun(Begun {
        folder: folder.path(),
        step: progress.step,
        total,
        parameters,
        examples: count,
        memory: [4 * 5 * parameters, values, scratch],
        batch: [config.batch_size, size.batch],
    }));
    let trainer = Trainer {
        rate: LearningRate { peak: config.learning_rate, warmup: config.warmup_steps, decline: config.lr_schedule },
        average: Average::Exponential { decay: config.ema_decay, warmup: config.ema_warmup },
        batches: Ahead::new(batches, progress.step + 1).map_err(TrainError::Threads)?,
        before: progress.seconds,
        config,
        network,
        step,
        objective,
        held_out,
        progress,
        total,
        folder,
        classes,
        observer,
        begun: Instant::now(),
        saved: Instant::now(),
        waited: 0.0,
        window: Vec::new(),
    };
    trainer.run().map(Some)
}

impl Trainer<'_> {
    fn run(mut self) -> Result<Outcome, TrainError> {
        self.settle_decay();
        let first = self.progress.step;
        let mut stopped = false;
        while !self.is_finished() {
            if self.observer.stopped() {
                stopped = true;
                break;
            }
            self.update()?;
            let k = self.progress.step;
            self.settle_decay();
            if k.is_multiple_of(self.config.log_every) {
                self.log()?;
            }
            let minutes = self.saved.elapsed().as_secs_f64() / 60.0;
            let due = self.config.checkpoint_minutes > 0.0 && minutes >= self.config.checkpoint_minutes;
            let every = k.is_multiple_of(self.config.checkpoint_every) || self.is_finished();
            if self.config.validate_every.is_some_and(|n| k.is_multiple_of(n)) || self.config.validate_every.is_none() && every {
                self.validate()?;
            }
            if every || due {
                self.save(every)?;
            }
        }
        self.log()?;
        if stopped && self.progress.step > first {
            self.save(false)?;
        }
        Ok(Outcome {
            folder: self.folder.path().to_owned(),
            checkpoint: checkpoint::list(&self.folder.checkpoints()).pop().map(|(_, path)| path),
            step: self.progress.step,
            finished: self.is_finished(),
            seconds: self.seconds(),
            waited: self.waited,
        })
    }

    /// Seconds of training in all.
    fn seconds(&self) -> f64 {
        self.before + self.begun.elapsed().as_secs_f64()
    }

    fn is_finished(&self) -> bool {
        let k = self.progress.step;
        let decayed = self.progress.decay.is_some_and(|d| self.total.is_none() && k >= d.after + d.updates);
        let late = self.config.max_hours.is_some_and(|h| self.progress.decay.is_none() && self.seconds() >= 3600.0 * h);
        self.total.is_some_and(|total| k >= total) || decayed || late && k > 0
    }

    /// Where the learning rate begins to go down, if it is to and that has come to be known.
    fn settle_decay(&mut self) {
        if self.config.lr_schedule != Decline::Wsd {
            return;
        }
        let (k, share) = (self.progress.step, self.config.decay_share);
        match (self.total, self.config.max_hours) {
            (Some(total), _) => {
                let updates = ((share * total as f64).round() as u64).max(1);
                self.progress.decay = Some(Decay { after: total - updates.min(total), updates });
            }
            (None, Some(hours)) if self.progress.decay.is_none() && k > 0 => {
                let (all, now) = (3600.0 * hours, self.seconds());
                if now >= (1.0 - share) * all {
                    let each = now / k as f64;
                    self.progress.decay = Some(Decay { after: k, updates: (((all - now) / each) as u64).max(1) });
                }
            }
            _ => {}
        }
    }

    fn update(&mut self) -> Result<(), TrainError> {
        let (k, begun) = (self.progress.step + 1, Instant::now());
        let made = self.batches.take()?;
        let waited = begun.elapsed().as_secs_f64();
        self.waited += waited;
        let (size, n) = (self.config.batch_size, self.step.options().size.batch);
        let mut update = Update { step: k, total: self.total, samples: size, waited, ..Update::default() };
        for from in (0..size).step_by(n) {
            let batch = made.part(from, n);
            let losses = self.step.gradient(&batch, from > 0);
            let sum = |values: &[f32]| values.iter().map(|&v| f64::from(v)).sum::<f64>();
            update.loss += sum(&losses.loss);
            update.mse += sum(&losses.mse) / size as f64;
            update.vb += sum(&losses.vb) / size as f64;
            if !update.loss.is_finite() {
                return Err(self.not_finite(k, "the loss", &made));
            }
        }
        update.norm = f64::from(self.step.norm());
        if !update.norm.is_finite() {
            return Err(self.not_finite(k, "the gradient", &made));
        }
        update.rate = self.rate.at(k, self.total, self.progress.decay);
        let most = self.config.max_grad_norm;
        let clip = if most > 0.0 { (most / (update.norm + 1e-6)).min(1.0) } else { 1.0 };
        let decays = vec![self.average.decay(k)];
        self.step.update(&Rates { lr: update.rate, weight_decay: self.config.weight_decay, step: k, clip, decays });
        self.progress.step = k;
        update.seconds = begun.elapsed().as_secs_f64();
        self.window.push(update);
        self.observer.event(Event::Updated(update));
        Ok(())
    }

    /// Which of the passes made it, found by making them once more.
    fn not_finite(&mut self, step: u64, what: &'static str, made: &Made) -> TrainError {
        let n = self.step.options().size.batch;
        let first = (0..self.config.batch_size).step_by(n).find_map(|from| self.step.first_not_finite(&made.part(from, n)));
        let place = first.map_or("the sum of the passes".to_owned(), |(value, kernel)| format!("`{value}` ({kernel})"));
        let last = checkpoint::list(&self.folder.checkpoints()).pop();
        let checkpoint = last.map_or("none".to_owned(), |(_, path)| path.display().to_string());
        TrainError::NotFinite { step, what, place, checkpoint }
    }

    /// A line of the log and of the metrics: means since the last.
    fn log(&mut self) -> Result<(), TrainError> {
        let Some(last) = self.window.last().copied() else { return Ok(()) };
        let n = self.window.len() as f64;
        let mean = |f: &dyn Fn(&Update) -> f64| self.window.iter().map(f).sum::<f64>() / n;
        let (loss, mse, vb, norm) = (mean(&|u| u.loss), mean(&|u| u.mse), mean(&|u| u.vb), mean(&|u| u.norm));
        let seconds: f64 = self.window.iter().map(|u| u.seconds).sum();
        let rate = n * last.samples as f64 / seconds;
        let mut line = json!({
            "step": last.step, "loss": loss, "mse": mse, "grad_norm": norm, "lr": last.rate, "images_per_second": rate,
            "seconds": self.seconds(),
        });
        if self.network.learn_sigma {
            line["vb"] = json!(vb);
        }
        self.folder.metric(&line)?;
        self.folder.log(&format!(
            "(step={:07}) Train Loss: {loss:.4}, Train Steps/Sec: {:.2}, images/s: {rate:.1}, grad norm: {norm:.3}, lr: {:.2e}",
            last.step,
            n / seconds,
            last.rate
        ))?;
        self.window.clear();
        Ok(())
    }

    /// The squared error on what was held out, with the weights and their average, whole and by quarters of the times.
    fn validate(&mut self) -> Result<(), TrainError> {
        let Some(made) = self.held_out.take() else { return Ok(()) };
        let (count, n) = (made.examples.len(), self.step.options().size.batch);
        let mut found = Vec::new();
        for (weights, name) in ["validation", "validation_ema"].into_iter().enumerate() {
            let mut quarters = [(0.0, 0usize); 4];
            for from in (0..count).step_by(n) {
                let losses = self.step.validate(&made.part(from, n), weights);
                for (i, &mse) in losses.mse.iter().enumerate() {
                    let quarter = (4.0 * self.objective.noisiness(f64::from(made.times()[from + i]))) as usize;
                    let (sum, count) = &mut quarters[quarter.min(3)];
                    *sum += f64::from(mse);
                    *count += 1;
                }
            }
            let sum: f64 = quarters.iter().map(|q| q.0).sum();
            found.push((name.to_owned(), sum / count as f64));
            for (i, (sum, count)) in quarters.into_iter().enumerate().filter(|(_, q)| q.1 > 0) {
                found.push((format!("{name}_{}", i + 1), sum / count as f64));
            }
        }
        self.held_out = Some(made);
        let mut line = json!({ "step": self.progress.step });
        found.iter().for_each(|(name, value)| line[name.as_str()] = json!(value));
        self.folder.metric(&line)?;
        self.folder.log(&format!(
            "(step={:07}) validation: {:.4}, of the average: {:.4}",
            self.progress.step,
            found[0].1,
            value_of(&found)
        ))?;
        self.observer.event(Event::Validated(&found));
        Ok(())
    }

    /// Writes a checkpoint. One that is `kept` stays; of the others the newest does.
    fn save(&mut self, kept: bool) -> Result<(), TrainError> {
        self.log()?;
        self.folder.draw()?;
        self.progress.seconds = self.seconds();
        let folder = self.folder.checkpoints();
        let before = checkpoint::list(&folder);
        let path = folder.join(checkpoint::name(self.progress.step));
        checkpoint::save(&path, &self.step, &self.progress, &self.config.to_toml(), &self.classes)?;
        self.saved = Instant::now();
        let regular = |step: u64| step.is_multiple_of(self.config.checkpoint_every);
        let passing: Vec<PathBuf> = before.iter().filter(|(step, _)| !regular(*step)).map(|(_, path)| path.clone()).collect();
        let mut gone: Vec<PathBuf> = passing.into_iter().filter(|p| *p != path).collect();
        if let Some(keep) = self.config.keep {
            let stay: Vec<PathBuf> = checkpoint::list(&folder).into_iter().filter(|(_, p)| !gone.contains(p)).map(|(_, p)| p).collect();
            gone.extend(stay.iter().take(stay.len().saturating_sub(keep)).cloned());
        }
        gone.iter().try_for_each(|path| std::fs::remove_file(path).map_err(FileError::writing(path)))?;
        self.observer.event(Event::Saved(&path));
        if kept {
            let [height, width] = [self.step.options().size.height, self.step.options().size.width];
            self.observer.sample(&path, &self.folder.samples(), &self.network, [height, width], &self.classes);
        }
        Ok(())
    }
}

/// The average's value among those of a validation.
fn value_of(found: &[(String, f64)]) -> f64 {
    found.iter().find(|(name, _)| name == "validation_ema").map_or(f64::NAN, |(_, value)| *value)
}
