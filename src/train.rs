//! `fcdm train`: from latents or pictures to checkpoints.

use std::path::{Path, PathBuf};

use clap::Args;
use fcdm_models::autoencoder::{self, Autoencoder};
use fcdm_models::bundled;
use fcdm_models::fcdm::Config as Network;
use fcdm_models::train::config::{Config, ConfigError, table};
use fcdm_models::train::samples::{Wanted, sheet};
use fcdm_models::train::trainer::{Event, Observer, Outcome, Update, train};
use fcdm_runtime::picture::Picture;
use serde::Serialize;
use serde_json::json;

use crate::about::grouped;
use crate::failure::Failure;
use crate::help::{MACHINE, OUTPUT, examples};
use crate::progress::{self, Progress, size};
use crate::say::{self, sayln};
use crate::signals;

const EXAMPLES: &str = examples!(
    "fcdm train latents --recipe small --max-hours 8",
    "fcdm train latents --model FCDM-B --steps 400000 --batch-size 256",
    "fcdm train photos --image-size 32 --hidden 32 --depths 1,1,2,1,1 --epochs 50",
    "fcdm train latents --objective flow --times logit-normal --steps 20000",
    "fcdm train --config run.toml -o results",
);

/// What is trained on.
const DATA: &str = "Data";
/// What is trained.
const NETWORK: &str = "Network";
/// What it is trained for.
const OBJECTIVE: &str = "Objective";
/// How.
const OPTIMISER: &str = "Optimiser";
/// How long.
const LENGTH: &str = "Length";
/// What is left behind.
const CHECKPOINTS: &str = "Checkpoints and samples";

/// Train a network on latents or pictures.
///
/// The same command goes on where it was interrupted, to the same bits. Names of options are those of the official trainer and of diffusers'
/// scripts, with hyphens or underscores; a file of options (--config) has them as keys, and every run writes its own to `config.toml`.
#[derive(Args)]
#[command(after_help = "More options, and examples: fcdm train --help", after_long_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    given: Given,
    /// A file of options; those given here come over it.
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    config: Option<PathBuf>,
    /// Folder of runs.
    ///
    /// Each has a folder of its own in it.
    #[arg(short, long, alias = "results-dir", alias = "output-dir", default_value = "results", value_name = "FOLDER", help_heading = OUTPUT)]
    output: PathBuf,
    /// Begin another run, whatever is there.
    #[arg(long, help_heading = OUTPUT)]
    new: bool,
    /// Print a summary as JSON.
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
    #[command(flatten)]
    others: Others,
}

/// The options of a run, as keys of its table; what is not given is left to file and recipe.
#[derive(Args, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Given {
    /// What `encode` wrote, other latents, or a folder of pictures.
    ///
    /// Latents: a folder of .npy files with one of labels, a zarr store, .npz, .npy or safetensors. Pictures are trained on themselves,
    /// at --image-size; every sub-folder is a class.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    /// Labels, if they are elsewhere.
    #[arg(long, alias = "label-path", value_name = "PATH", help_heading = DATA, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<String>,
    /// Side of the square pictures.
    #[arg(long, alias = "resolution", value_name = "PIXELS", help_heading = DATA)]
    #[serde(skip_serializing_if = "Option::is_none")]
    image_size: Option<usize>,
    /// Classes, if more than the data have.
    #[arg(long, value_name = "N", help_heading = DATA, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    num_classes: Option<usize>,
    /// Mirror half of the samples.
    #[arg(long, alias = "random-flip", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true, help_heading = DATA)]
    #[serde(skip_serializing_if = "Option::is_none")]
    flip: Option<bool>,
    /// Share of samples without label [default: 0.1].
    #[arg(long, value_name = "SHARE", help_heading = DATA)]
    #[serde(skip_serializing_if = "Option::is_none")]
    label_dropout: Option<f64>,
    /// Share of examples held out [default: 0].
    #[arg(long, value_name = "SHARE", help_heading = DATA)]
    #[serde(skip_serializing_if = "Option::is_none")]
    validation: Option<f64>,
    /// A picture that cannot be read is an error.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true, help_heading = DATA, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,

    /// FCDM-S, -B, -L or -XL [default: FCDM-S].
    #[arg(long, value_name = "NAME", help_heading = NETWORK)]
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    /// Width, if not the model's.
    #[arg(long, value_name = "N", help_heading = NETWORK)]
    #[serde(skip_serializing_if = "Option::is_none")]
    hidden: Option<usize>,
    /// Blocks of the stages, if not the model's.
    #[arg(long, value_name = "N,N,N,N,N", value_delimiter = ',', num_args = 1, help_heading = NETWORK)]
    #[serde(skip_serializing_if = "Option::is_none")]
    depths: Option<Vec<usize>>,
    /// Expanded width over width [default: 3].
    #[arg(long, value_name = "RATIO", help_heading = NETWORK, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    mlp_ratio: Option<f64>,

    /// A checkpoint to go on from.
    ///
    /// In place of fresh weights; any that `compile` reads. The network is its; classes may be others: those of the same name, or else number, keep their
    /// embedding, the rest begin anew.
    #[arg(long, alias = "ckpt", value_name = "FILE", help_heading = NETWORK)]
    #[serde(skip_serializing_if = "Option::is_none")]
    init: Option<String>,
    /// Which of its weights, as `compile --weights`.
    #[arg(long, value_name = "NAME", requires = "init", help_heading = NETWORK, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    init_weights: Option<String>,
    /// Weights that stay as they are: a pattern of their names.
    ///
    /// A regular expression, anywhere in the name: `^encoder_level|^latent` trains the decoder alone.
    #[arg(long, value_name = "PATTERN", help_heading = NETWORK, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    freeze: Option<String>,

    /// diffusion or flow [default: diffusion].
    #[arg(long, value_name = "NAME", help_heading = OBJECTIVE)]
    #[serde(skip_serializing_if = "Option::is_none")]
    objective: Option<String>,
    /// Times of a flow: uniform or logit-normal.
    #[arg(long, value_name = "NAME", help_heading = OBJECTIVE, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<String>,
    /// Mean of logit-normal times [default: 0].
    #[arg(long, value_name = "MEAN", help_heading = OBJECTIVE, hide_short_help = true, allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    times_mean: Option<f64>,
    /// Their standard deviation [default: 1].
    #[arg(long, value_name = "STD", help_heading = OBJECTIVE, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    times_std: Option<f64>,
    /// Gamma of min-SNR weights.
    #[arg(long, value_name = "GAMMA", help_heading = OBJECTIVE, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    snr_gamma: Option<f64>,

    /// official or small [default: official].
    ///
    /// official: what the official trainer does. small: for few pictures and hours; warm-ups, clipped gradients, logit-normal times,
    /// mirrored latents, something held out, batches of 32.
    #[arg(long, value_name = "NAME", help_heading = OPTIMISER)]
    #[serde(skip_serializing_if = "Option::is_none")]
    recipe: Option<String>,
    /// Samples of an update [default: 256].
    #[arg(long, alias = "global-batch-size", value_name = "N", help_heading = OPTIMISER)]
    #[serde(skip_serializing_if = "Option::is_none")]
    batch_size: Option<usize>,
    /// Samples of a pass: gradients of several are added up.
    #[arg(long, value_name = "N", help_heading = OPTIMISER, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    micro_batch: Option<usize>,
    /// Greatest learning rate [default: 1e-4].
    #[arg(long, alias = "lr", value_name = "RATE", help_heading = OPTIMISER)]
    #[serde(skip_serializing_if = "Option::is_none")]
    learning_rate: Option<f64>,
    /// constant, cosine or wsd.
    ///
    /// wsd: warm-up, stable, decay; over the last part of the run (--decay-share) the rate goes down.
    #[arg(long, alias = "lr-scheduler", value_name = "NAME", help_heading = OPTIMISER)]
    #[serde(skip_serializing_if = "Option::is_none")]
    lr_schedule: Option<String>,
    /// Updates over which the rate rises [default: 0].
    #[arg(long, alias = "lr-warmup-steps", value_name = "N", help_heading = OPTIMISER)]
    #[serde(skip_serializing_if = "Option::is_none")]
    warmup_steps: Option<u64>,
    /// Last share of the run, over which wsd goes down.
    #[arg(long, value_name = "SHARE", help_heading = OPTIMISER, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    decay_share: Option<f64>,
    /// Greatest norm of the gradient; 0: any.
    #[arg(long, value_name = "NORM", help_heading = OPTIMISER, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_grad_norm: Option<f64>,
    /// Decoupled weight decay [default: 0].
    #[arg(long, alias = "adam-weight-decay", value_name = "RATE", help_heading = OPTIMISER, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_decay: Option<f64>,
    /// Of AdamW's mean [default: 0.9].
    #[arg(long, value_name = "BETA", help_heading = OPTIMISER, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    adam_beta1: Option<f64>,
    /// Of its mean square [default: 0.999].
    #[arg(long, value_name = "BETA", help_heading = OPTIMISER, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    adam_beta2: Option<f64>,
    /// Its epsilon [default: 1e-8].
    #[arg(long, value_name = "EPS", help_heading = OPTIMISER, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    adam_epsilon: Option<f64>,
    /// Share of the average that stays [default: 0.9999].
    #[arg(long, value_name = "DECAY", help_heading = OPTIMISER, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    ema_decay: Option<f64>,
    /// Let that share grow from 2/11.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true, help_heading = OPTIMISER, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    ema_warmup: Option<bool>,
    /// Seed of all that is random [default: 0].
    ///
    /// First weights, order of the examples, times, noise, mirroring and dropout.
    #[arg(long, alias = "global-seed", value_name = "SEED", help_heading = OPTIMISER)]
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,

    /// Updates in all.
    #[arg(long, alias = "max-train-steps", value_name = "N", help_heading = LENGTH)]
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<u64>,
    /// Times that every example is seen.
    #[arg(long, alias = "num-train-epochs", value_name = "N", help_heading = LENGTH)]
    #[serde(skip_serializing_if = "Option::is_none")]
    epochs: Option<f64>,
    /// Hours in all, however often interrupted.
    #[arg(long, value_name = "HOURS", help_heading = LENGTH)]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_hours: Option<f64>,

    /// Updates between two checkpoints.
    #[arg(long, alias = "ckpt-every", alias = "checkpointing-steps", value_name = "N", help_heading = CHECKPOINTS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint_every: Option<u64>,
    /// Minutes between two, if sooner [default: 30]; 0: none.
    ///
    /// Of these the newest stays.
    #[arg(long, value_name = "MINUTES", help_heading = CHECKPOINTS, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint_minutes: Option<f64>,
    /// Newest checkpoints that stay [default: all].
    #[arg(long, alias = "checkpoints-total-limit", value_name = "N", help_heading = CHECKPOINTS, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    keep: Option<usize>,
    /// Updates between two lines of the log.
    #[arg(long, value_name = "N", help_heading = CHECKPOINTS, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    log_every: Option<u64>,
    /// Updates between two looks at what is held out.
    #[arg(long, value_name = "N", help_heading = CHECKPOINTS, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    validate_every: Option<u64>,
    /// Pictures of the sheets of samples; 0: none.
    ///
    /// One comes with every checkpoint that stays.
    #[arg(long, value_name = "N", help_heading = CHECKPOINTS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    samples: Option<usize>,
    /// Steps of their sampler [default: 50].
    #[arg(long, alias = "num-sampling-steps", value_name = "N", help_heading = CHECKPOINTS, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    sample_steps: Option<usize>,
    /// Their guidance.
    #[arg(long, value_name = "SCALE", help_heading = CHECKPOINTS, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    cfg_scale: Option<f64>,
    /// What shows latents [default: in the box].
    ///
    /// The autoencoder that they were encoded with, see `compile --vae`.
    #[arg(long, value_name = "PATH", help_heading = CHECKPOINTS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    vae: Option<String>,

    /// Memory that training may take, such as 2GB.
    ///
    /// Weights, what the optimiser keeps of them, and values of a pass. Where that is too much, values are computed once more, not kept.
    #[arg(long, value_name = "SIZE", value_parser = crate::progress::parse_size, help_heading = MACHINE)]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_memory: Option<u64>,
    /// Threads [default: all].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = MACHINE)]
    #[serde(skip_serializing_if = "Option::is_none")]
    threads: Option<u16>,
}

/// What other trainers call things that have no option of their own here.
#[derive(Args)]
struct Others {
    /// The official trainer's name of the data.
    #[arg(long, alias = "zarr-path", value_name = "PATH", hide = true, conflicts_with = "data", help_heading = DATA)]
    feature_path: Option<String>,
    /// Samples of a pass; the batch is so many times --gradient-accumulation-steps.
    #[arg(long, value_name = "N", hide = true, conflicts_with_all = ["batch_size", "micro_batch"], help_heading = OPTIMISER)]
    train_batch_size: Option<usize>,
    /// Passes of an update.
    #[arg(long, value_name = "N", hide = true, conflicts_with = "micro_batch", help_heading = OPTIMISER)]
    gradient_accumulation_steps: Option<usize>,
}

impl Arguments {
    /// File and command line together.
    fn config(&self) -> Result<Config, Failure> {
        let mut tables = Vec::new();
        if let Some(path) = &self.config {
            let file = path.display().to_string();
            let text = std::fs::read_to_string(path).map_err(|e| Failure::new(1, format!("{file}: cannot read: {e}")))?;
            tables.push(table(&file, &text)?);
        }
        let mut given = toml::Table::try_from(&self.given).expect("options are a table");
        let mut set = |key: &str, value: toml::Value| given.insert(key.to_owned(), value);
        let Others { feature_path, train_batch_size, gradient_accumulation_steps } = &self.others;
        if let Some(path) = feature_path {
            set("data", path.clone().into());
        }
        let passes = gradient_accumulation_steps.unwrap_or(1).max(1);
        if let Some(n) = train_batch_size {
            set("batch-size", ((n * passes) as i64).into());
            set("micro-batch", (*n as i64).into());
        }
        tables.push(given);
        if !tables.iter().any(|t| t.contains_key("data")) {
            return Err(Failure::usage(
                "data: expected latents or a folder of pictures, found nothing; try `fcdm train latents --steps 1000`",
            ));
        }
        let mut config = Config::from_tables(&tables)?;
        if train_batch_size.is_none() && gradient_accumulation_steps.is_some() {
            if !config.batch_size.is_multiple_of(passes) {
                let expected = format!("a number that divides the batch size {}", config.batch_size);
                let found = passes.to_string();
                return Err(ConfigError::Value { key: "gradient-accumulation-steps".into(), expected, found }.into());
            }
            config.micro_batch = Some(config.batch_size / passes);
        }
        if config.data.is_empty() {
            return Err(Failure::usage(
                "data: expected latents or a folder of pictures, found nothing; try `fcdm train latents --steps 1000`",
            ));
        }
        Ok(config)
    }
}

/// Runs the command.
pub fn run(a: &Arguments) -> Result<(), Failure> {
    let config = a.config()?;
    signals::stop_when_asked();
    signals::also_on_user_signal();
    let mut watcher = Watcher::new(&config);
    let outcome = train(&config, &a.output, a.new, &mut watcher);
    watcher.clear();
    match outcome? {
        None => Err(Failure::cancelled("stopped before training began")),
        Some(outcome) if !outcome.finished => {
            let line = format!("stopped after update {}; the same command goes on from {}", outcome.step, outcome.folder.display());
            Err(Failure::cancelled(line))
        }
        Some(outcome) => {
            told(a, &outcome, watcher.loss);
            Ok(())
        }
    }
}

fn told(a: &Arguments, outcome: &Outcome, loss: f64) {
    let Outcome { folder, checkpoint, step, seconds, waited, .. } = outcome;
    if a.json {
        say::json(&json!({
            "folder": folder.display().to_string(), "checkpoint": checkpoint.as_ref().map(|p| p.display().to_string()), "steps": step,
            "seconds": seconds, "waited": waited, "loss": loss,
        }));
        return;
    }
    sayln!("trained {step} updates in {}", duration(*seconds));
    if let Some(path) = checkpoint {
        sayln!("wrote {0}; next: fcdm compile {0} -o model.fcdm", path.display());
    }
}

fn duration(seconds: f64) -> String {
    let all = seconds.round() as u64;
    match (all / 3600, all / 60 % 60, all % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

/// Shows how far training is, and makes sheets.
struct Watcher {
    config: Config,
    progress: Option<Progress>,
    /// The loss, lately.
    loss: f64,
    /// Samples a second, lately.
    rate: f64,
    autoencoder: Option<Option<Autoencoder>>,
}

/// Share of what is shown of the past that stays at an update.
const SMOOTH: f64 = 0.95;

impl Watcher {
    fn new(config: &Config) -> Watcher {
        Watcher { config: config.clone(), progress: None, loss: f64::NAN, rate: f64::NAN, autoencoder: None }
    }

    fn clear(&mut self) {
        self.progress.take().iter().for_each(Progress::finish_and_clear);
    }

    fn updated(&mut self, update: Update) {
        let smooth = |old: f64, new: f64| if old.is_nan() { new } else { SMOOTH * old + (1.0 - SMOOTH) * new };
        self.loss = smooth(self.loss, update.loss);
        self.rate = smooth(self.rate, update.samples as f64 / update.seconds);
        let total = update.total.unwrap_or(u64::MAX);
        let progress = self.progress.get_or_insert_with(|| progress::steps(total));
        progress.set_message(format!("training: loss {:.4}, {:.1} images/s", self.loss, self.rate));
        progress.set_position(update.step);
    }

    /// What shows latents, opened once: what is named, or the one in the box where its latents have the same shape.
    fn autoencoder(&mut self, channels: usize) -> Option<&Autoencoder> {
        if self.autoencoder.is_none() {
            let opened = match &self.config.vae {
                Some(path) => autoencoder::open(Path::new(path), autoencoder::PREFIX).map_err(|e| e.to_string()),
                None => bundled::autoencoder().map_err(|e| e.to_string()),
            };
            let fitting = opened.and_then(|a| match a.latent_channels() {
                of if of != channels => {
                    Err(format!("the autoencoder has latents of {of} channels, these have {channels}; --vae names another"))
                }
                _ => Ok(a),
            });
            if let Err(why) = &fitting {
                say::note(format!("there are no sheets of samples: {why}"));
            }
            self.autoencoder = Some(fitting.ok());
        }
        self.autoencoder.as_ref().and_then(Option::as_ref)
    }
}

impl Observer for Watcher {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Note(line) => say::note(line),
            Event::Reading(done, of) => {
                let progress = self.progress.get_or_insert_with(|| progress::steps(of as u64).with_message("reading"));
                progress.set_position(done as u64);
            }
            Event::Begun(b) => {
                self.clear();
                let [batch, pass] = b.batch;
                let [state, values, scratch] = b.memory.map(|bytes| size(bytes as u64));
                say::note(format!(
                    "{}: {} parameters, {} examples, batches of {batch} in passes of {pass}; {state} of state, {values} of values, {scratch} of scratch",
                    b.folder.display(),
                    grouped(b.parameters as u64),
                    grouped(b.examples as u64),
                ));
                if b.step > 0 {
                    say::note(format!("goes on behind update {}", b.step));
                }
            }
            Event::Updated(update) => self.updated(update),
            Event::Validated(found) => {
                let of = |name: &str| found.iter().find(|(n, _)| n == name).map_or(f64::NAN, |(_, v)| *v);
                say::note(format!("held out: {:.4}, by the average {:.4}", of("validation"), of("validation_ema")));
            }
            Event::Saved(path) => say::note(format!("wrote {}", path.display())),
        }
    }

    fn stopped(&self) -> bool {
        signals::stopped()
    }

    fn sample(&mut self, checkpoint: &Path, folder: &Path, network: &Network, at: [usize; 2], classes: &[String]) {
        let Config { samples: count, sample_steps: steps, cfg_scale, threads, .. } = self.config.clone();
        if count == 0 {
            return;
        }
        // Networks of three channels make pictures.
        let pictures = Picture::CHANNELS.contains(&network.in_channels);
        let autoencoder = if pictures { None } else { self.autoencoder(network.in_channels) };
        if !pictures && autoencoder.is_none() {
            return;
        }
        let threads = threads.unwrap_or_else(|| fcdm_command::threads(None));
        let wanted = Wanted { count, steps, cfg_scale, size: at, classes, null_class: network.null_class, autoencoder, threads };
        let to = folder.join(checkpoint.file_name().unwrap_or_default()).with_extension("png");
        match sheet(checkpoint, &wanted, &to, &signals::stopped) {
            Ok(true) => say::note(format!("wrote {}", to.display())),
            Ok(false) => {}
            Err(e) => say::warning(format!("there is no sheet of samples: {e}")),
        }
    }
}
