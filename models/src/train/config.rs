//! The options of a run: what a recipe says, a file says over it, and the command line over that. All three are tables of the same keys, so
//! that what a run was begun with can be written down and given again.

use std::fmt::Display;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use toml::{Table, Value};

use super::objective::{Path, Prediction};
use super::schedule::Decline;

/// What is trained for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectiveKind {
    /// Noise prediction over 1000 timesteps, with learned variance.
    #[default]
    Diffusion,
    /// Flow matching.
    Flow,
}

/// How times of a flow are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimesKind {
    /// Every time alike.
    #[default]
    Uniform,
    /// See [`super::objective::Times::LogitNormal`].
    LogitNormal,
}

/// Options of a run. Keys are in kebab-case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// Latents, or a folder of pictures.
    pub data: String,
    /// Labels of latents, where they are elsewhere.
    pub labels: Option<String>,
    /// Side of square pictures, which are then trained on themselves.
    pub image_size: Option<usize>,
    /// FCDM-S, FCDM-B, FCDM-L or FCDM-XL.
    pub model: String,
    /// Width, if not the model's.
    pub hidden: Option<usize>,
    /// Blocks of the five stages, if not the model's.
    pub depths: Option<[usize; 5]>,
    /// Expanded width over width.
    pub mlp_ratio: f64,
    /// Classes, if there are more than in the data.
    pub num_classes: Option<usize>,
    /// A checkpoint to begin with, in place of fresh weights: the network is then its.
    pub init: Option<String>,
    /// Which of its weights; as `compile` takes them if not given.
    pub init_weights: Option<String>,
    /// Weights whose names match this pattern stay as they are.
    pub freeze: Option<String>,
    /// What is trained for.
    pub objective: ObjectiveKind,
    /// A flow's path.
    pub path: Path,
    /// What a flow's network predicts.
    pub prediction: Prediction,
    /// How a flow's times are drawn.
    pub times: TimesKind,
    /// Mean of logit-normal times.
    pub times_mean: f64,
    /// Their standard deviation.
    pub times_std: f64,
    /// Gamma of min-SNR weights.
    pub snr_gamma: Option<f64>,
    /// Share of the samples that lose their label.
    pub label_dropout: f64,
    /// Whether half of the samples are mirrored.
    pub flip: bool,
    /// Whether a picture that cannot be read is an error.
    pub strict: bool,
    /// Share of the examples that are held out.
    pub validation: f64,
    /// Samples of an update.
    pub batch_size: usize,
    /// Samples of a pass through the network; must divide the batch.
    pub micro_batch: Option<usize>,
    /// Updates.
    pub steps: Option<u64>,
    /// Times that every example is seen, in place of `steps`.
    pub epochs: Option<f64>,
    /// Hours of training, all runs together, in place of `steps`.
    pub max_hours: Option<f64>,
    /// Greatest learning rate.
    pub learning_rate: f64,
    /// How it goes on.
    pub lr_schedule: Decline,
    /// Updates over which it rises.
    pub warmup_steps: u64,
    /// Share of the run over which `wsd` goes down.
    pub decay_share: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Of AdamW's mean.
    pub adam_beta1: f64,
    /// Of its mean square.
    pub adam_beta2: f64,
    /// Its epsilon.
    pub adam_epsilon: f64,
    /// Greatest norm of the gradient; 0 for none.
    pub max_grad_norm: f64,
    /// Share of the average that stays at an update.
    pub ema_decay: f64,
    /// Whether it grows up to that.
    pub ema_warmup: bool,
    /// Seed of everything.
    pub seed: u64,
    /// Updates between two checkpoints.
    pub checkpoint_every: u64,
    /// Minutes between two, whichever comes first; 0 for no such.
    pub checkpoint_minutes: f64,
    /// Newest checkpoints that stay; all if not given.
    pub keep: Option<usize>,
    /// Updates between two lines of the log.
    pub log_every: u64,
    /// Updates between two looks at what was held out; with every checkpoint if not given.
    pub validate_every: Option<u64>,
    /// Pictures of the sheet that comes with every checkpoint; 0 for none.
    pub samples: usize,
    /// Steps of their sampler.
    pub sample_steps: usize,
    /// Their guidance.
    pub cfg_scale: f64,
    /// The autoencoder that shows latents.
    pub vae: Option<String>,
    /// Bytes that weights, what is kept of them, values and scratch may take together; more is computed twice for it.
    pub max_memory: Option<u64>,
    /// Threads; all if not given.
    pub threads: Option<usize>,
}

impl Default for Config {
    /// The official trainer's, but that a checkpoint comes at least twice an hour.
    fn default() -> Config {
        Config {
            data: String::new(),
            labels: None,
            image_size: None,
            model: "FCDM-S".into(),
            hidden: None,
            depths: None,
            mlp_ratio: 3.0,
            num_classes: None,
            init: None,
            init_weights: None,
            freeze: None,
            objective: ObjectiveKind::Diffusion,
            path: Path::Linear,
            prediction: Prediction::Velocity,
            times: TimesKind::Uniform,
            times_mean: 0.0,
            times_std: 1.0,
            snr_gamma: None,
            label_dropout: 0.1,
            flip: false,
            strict: false,
            validation: 0.0,
            batch_size: 256,
            micro_batch: None,
            steps: None,
            epochs: None,
            max_hours: None,
            learning_rate: 1e-4,
            lr_schedule: Decline::Constant,
            warmup_steps: 0,
            decay_share: 0.2,
            weight_decay: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            max_grad_norm: 0.0,
            ema_decay: 0.9999,
            ema_warmup: false,
            seed: 0,
            checkpoint_every: 50_000,
            checkpoint_minutes: 30.0,
            keep: None,
            log_every: 100,
            validate_every: None,
            samples: 16,
            sample_steps: 50,
            cfg_scale: 4.0,
            vae: None,
            max_memory: None,
            threads: None,
        }
    }
}

/// Options that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The file is no TOML.
    #[error("{file}: {message}")]
    Syntax {
        /// The file.
        file: String,
        /// Where and what.
        message: String,
    },
    /// A key that there is not.
    #[error("{file}: there is no option `{key}`{}", near.as_ref().map_or(String::new(), |near| format!("; did you mean `{near}`?")))]
    Unknown {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// The one that is most like it.
        near: Option<String>,
    },
    /// A value of another type or range.
    #[error("{key}: expected {expected}, found {found}")]
    Value {
        /// The option.
        key: String,
        /// What would do.
        expected: String,
        /// What was given.
        found: String,
    },
}

/// A recipe: what is said where nobody says anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recipe {
    /// The official trainer's.
    #[default]
    Official,
    /// For few pictures and few hours: warm-ups, clipped gradients, logit-normal times, mirrored latents, something held out.
    Small,
}

/// The key that names a recipe.
const RECIPE: &str = "recipe";

impl Recipe {
    /// All, by name.
    pub const ALL: [(&'static str, Recipe); 2] = [("official", Recipe::Official), ("small", Recipe::Small)];

    fn named(name: &str) -> Option<Recipe> {
        Recipe::ALL.into_iter().find(|(n, _)| *n == name).map(|(_, recipe)| recipe)
    }

    fn config(self) -> Config {
        let official = Config::default();
        match self {
            Recipe::Official => official,
            Recipe::Small => Config {
                times: TimesKind::LogitNormal,
                flip: true,
                validation: 0.05,
                batch_size: 32,
                lr_schedule: Decline::Wsd,
                warmup_steps: 500,
                max_grad_norm: 1.0,
                ema_warmup: true,
                checkpoint_every: 5_000,
                log_every: 20,
                cfg_scale: 2.0,
                ..official
            },
        }
    }
}

/// Options of a file: a table, of which the keys are known.
///
/// # Errors
/// When it is no TOML, or has a key that there is not.
pub fn table(file: &str, text: &str) -> Result<Table, ConfigError> {
    let table: Table = toml::from_str(text)
        .map_err(|e| ConfigError::Syntax { file: file.to_owned(), message: e.to_string().lines().collect::<Vec<_>>().join(" ") })?;
    // One underscore is as good as a hyphen, as on the command line.
    let table: Table = table.into_iter().map(|(key, value)| (key.replace('_', "-"), value)).collect();
    let known = keys();
    match table.keys().find(|key| !known.contains(key)) {
        None => Ok(table),
        Some(key) => {
            let like = known.iter().map(|k| (strsim::jaro_winkler(k, key), k)).max_by(|a, b| a.0.total_cmp(&b.0));
            let near = like.filter(|(likeness, _)| *likeness > 0.75).map(|(_, k)| k.clone());
            Err(ConfigError::Unknown { file: file.to_owned(), key: key.clone(), near })
        }
    }
}

/// The keys of all options, and that of the recipe.
pub fn keys() -> Vec<String> {
    let mut full = Config::default();
    // What is not given is not written.
    (full.labels, full.image_size, full.hidden, full.depths) = (Some(String::new()), Some(0), Some(0), Some([0; 5]));
    (full.num_classes, full.init, full.snr_gamma, full.micro_batch) = (Some(0), Some(String::new()), Some(0.0), Some(0));
    (full.init_weights, full.freeze, full.max_memory) = (Some(String::new()), Some(String::new()), Some(0));
    (full.steps, full.epochs, full.max_hours, full.keep) = (Some(0), Some(0.0), Some(0.0), Some(0));
    (full.validate_every, full.vae, full.threads) = (Some(0), Some(String::new()), Some(0));
    let table = Table::try_from(full).expect("options are a table");
    table.into_iter().map(|(key, _)| key).chain([RECIPE.to_owned()]).collect()
}

/// Options that do not change what is computed: a run goes on with others.
const INDIFFERENT: [&str; 13] = [
    "threads",
    "max-memory",
    "keep",
    "log-every",
    "checkpoint-every",
    "checkpoint-minutes",
    "validate-every",
    "samples",
    "sample-steps",
    "cfg-scale",
    "vae",
    "strict",
    "max-hours",
];

impl Config {
    /// The options that tables say, the later over the earlier, over the recipe that they name.
    ///
    /// # Errors
    /// When an option has a value of another type or out of range.
    pub fn from_tables(tables: &[Table]) -> Result<Config, ConfigError> {
        let mut all = Table::new();
        tables.iter().for_each(|t| all.extend(t.clone()));
        let recipe = match all.remove(RECIPE) {
            None => Recipe::default(),
            Some(Value::String(name)) if Recipe::named(&name).is_some() => Recipe::named(&name).unwrap_or_default(),
            Some(other) => {
                let names = Recipe::ALL.map(|(name, _)| name).join(" or ");
                return Err(ConfigError::Value { key: RECIPE.into(), expected: names, found: other.to_string() });
            }
        };
        let mut whole = Table::try_from(recipe.config()).expect("options are a table");
        // Numbers without a point are numbers too.
        for (key, value) in all {
            let value = match (whole.get(&key), value) {
                (Some(Value::Float(_)), Value::Integer(n)) => Value::Float(n as f64),
                (_, value) => value,
            };
            whole.insert(key, value);
        }
        // One by one, so that what is wrong has a name.
        for (key, value) in &whole {
            let single: Table = [(key.clone(), value.clone())].into_iter().collect();
            if let Err(e) = single.try_into::<Config>() {
                let message = e.to_string();
                let expected = message.lines().next().unwrap_or_default().to_owned();
                return Err(ConfigError::Value { key: key.clone(), expected, found: value.to_string() });
            }
        }
        let config: Config = whole.try_into().map_err(|e| ConfigError::Value {
            key: "options".into(),
            expected: "a table of options".into(),
            found: e.to_string(),
        })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        fn ensure(ok: bool, key: &str, expected: &str, found: impl Display) -> Result<(), ConfigError> {
            if ok {
                return Ok(());
            }
            Err(ConfigError::Value { key: key.to_owned(), expected: expected.to_owned(), found: found.to_string() })
        }
        let share = |v: f64| (0.0..1.0).contains(&v);
        let positive = |v: f64| v.is_finite() && v > 0.0;
        let not_negative = |v: f64| v.is_finite() && v >= 0.0;
        ensure(self.batch_size >= 1, "batch-size", "at least 1", self.batch_size)?;
        if let Some(n) = self.micro_batch {
            let divides = n >= 1 && self.batch_size.is_multiple_of(n);
            ensure(divides, "micro-batch", &format!("a number that divides the batch size {}", self.batch_size), n)?;
        }
        ensure(share(self.label_dropout), "label-dropout", "from 0 to below 1", self.label_dropout)?;
        ensure(share(self.validation), "validation", "from 0 to below 1", self.validation)?;
        ensure((0.0..=1.0).contains(&self.decay_share), "decay-share", "from 0 to 1", self.decay_share)?;
        ensure(positive(self.learning_rate), "learning-rate", "a positive number", self.learning_rate)?;
        ensure(not_negative(self.weight_decay), "weight-decay", "at least 0", self.weight_decay)?;
        ensure(share(self.adam_beta1), "adam-beta1", "from 0 to below 1", self.adam_beta1)?;
        ensure(share(self.adam_beta2), "adam-beta2", "from 0 to below 1", self.adam_beta2)?;
        ensure(positive(self.adam_epsilon), "adam-epsilon", "a positive number", self.adam_epsilon)?;
        ensure(not_negative(self.max_grad_norm), "max-grad-norm", "at least 0", self.max_grad_norm)?;
        ensure(share(self.ema_decay), "ema-decay", "from 0 to below 1", self.ema_decay)?;
        ensure(positive(self.mlp_ratio), "mlp-ratio", "a positive number", self.mlp_ratio)?;
        ensure(positive(self.times_std), "times-std", "a positive number", self.times_std)?;
        ensure(self.snr_gamma.is_none_or(positive), "snr-gamma", "a positive number", self.snr_gamma.unwrap_or_default())?;
        ensure(self.checkpoint_every >= 1, "checkpoint-every", "at least 1", self.checkpoint_every)?;
        ensure(self.log_every >= 1, "log-every", "at least 1", self.log_every)?;
        ensure(self.keep.is_none_or(|n| n >= 1), "keep", "at least 1", self.keep.unwrap_or_default())?;
        ensure(self.steps.is_none_or(|n| n >= 1), "steps", "at least 1", self.steps.unwrap_or_default())?;
        ensure(self.epochs.is_none_or(positive), "epochs", "a positive number", self.epochs.unwrap_or_default())?;
        ensure(self.max_hours.is_none_or(positive), "max-hours", "a positive number", self.max_hours.unwrap_or_default())?;
        let ends = [self.steps.is_some(), self.epochs.is_some(), self.max_hours.is_some()].contains(&true);
        ensure(ends, "steps", "--steps, --epochs or --max-hours: when training ends", "none of them")?;
        let horizon = self.lr_schedule != Decline::Cosine || self.steps.is_some() || self.epochs.is_some();
        ensure(horizon, "lr-schedule", "constant or wsd without --steps or --epochs", "cosine")
    }

    /// The options as a file.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("options are a table")
    }

    /// Options in which a run differs from this one that is to go on, so that it could not: name, then its value here and there.
    pub fn differences(&self, other: &Config) -> Vec<(String, String, String)> {
        let all = |c: &Config| Table::try_from(c).expect("options are a table");
        let (ours, theirs) = (all(self), all(other));
        // Where the rate does not depend on the end the run may be longer or shorter.
        let free_end = self.lr_schedule != Decline::Cosine;
        let may_differ = |key: &str| INDIFFERENT.contains(&key) || free_end && matches!(key, "steps" | "epochs");
        let shown = |t: &Table, key: &str| t.get(key).map_or("nothing".to_owned(), Value::to_string);
        keys()
            .into_iter()
            .filter(|key| !may_differ(key) && ours.get(key) != theirs.get(key))
            .map(|key| (key.clone(), shown(&ours, &key), shown(&theirs, &key)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(text: &str) -> Result<Config, ConfigError> {
        Config::from_tables(&[table("run.toml", text)?])
    }

    #[test]
    fn options_come_over_recipes() {
        let official = of("data = 'latents'\nsteps = 5").unwrap();
        assert_eq!(official, Config { data: "latents".into(), steps: Some(5), ..Config::default() });
        let small = of("recipe = 'small'\nsteps = 5\nbatch_size = 8\nlearning-rate = 1").unwrap();
        assert_eq!((small.batch_size, small.max_grad_norm, small.learning_rate), (8, 1.0, 1.0));
        let over = Config::from_tables(&[table("f", "steps = 5\nseed = 1").unwrap(), table("g", "seed = 2").unwrap()]).unwrap();
        assert_eq!((over.steps, over.seed), (Some(5), 2));
        // What is written down is what was said.
        for config in [official, small] {
            assert_eq!(of(&config.to_toml()).unwrap(), config);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, line) in [
            ("learning_rat = 1", "run.toml: there is no option `learning-rat`; did you mean `learning-rate`?"),
            ("zzz = 1", "run.toml: there is no option `zzz`"),
            ("steps = 5\nbatch-size = 0", "batch-size: expected at least 1, found 0"),
            ("steps = 5\nmicro-batch = 3", "micro-batch: expected a number that divides the batch size 256, found 3"),
            ("", "steps: expected --steps, --epochs or --max-hours: when training ends, found none of them"),
            ("max-hours = 1\nlr-schedule = 'cosine'", "lr-schedule: expected constant or wsd without --steps or --epochs, found cosine"),
            ("recipe = 'large'", "recipe: expected official or small, found \"large\""),
        ] {
            assert_eq!(of(text).unwrap_err().to_string(), line);
        }
        let typed = of("steps = 'many'").unwrap_err().to_string();
        assert!(typed.starts_with("steps: expected invalid type") && typed.ends_with("found \"many\""), "{typed}");
        assert!(of("steps = ").unwrap_err().to_string().starts_with("run.toml: "));
    }

    #[test]
    fn what_may_change_is_no_difference() {
        let a = of("steps = 5\ndata = 'a'").unwrap();
        let b = Config { threads: Some(3), log_every: 7, steps: Some(9), ..a.clone() };
        assert!(a.differences(&b).is_empty());
        let c = Config { seed: 3, flip: true, ..a.clone() };
        let names: Vec<String> = a.differences(&c).into_iter().map(|(key, ..)| key).collect();
        assert_eq!(names, ["flip", "seed"]);
        let cosine = Config { lr_schedule: Decline::Cosine, ..a.clone() };
        assert_eq!(cosine.differences(&Config { steps: Some(6), ..cosine.clone() }), [("steps".into(), "5".into(), "6".into())]);
    }
}
