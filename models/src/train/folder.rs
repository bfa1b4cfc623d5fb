//! Where a run is written: `results/NNN-NAME/` with `checkpoints/`, `samples/`, `config.toml`, `log.txt`, `metrics.jsonl`, `loss.svg` and, for
//! TensorBoard, `events.out.tfevents.*`. The same
//! command goes on with the newest run of its output folder; one with other options says in which.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use fcdm_runtime::file::{FileError, replace_file};
use thiserror::Error;

use super::config::{Config, table};
use super::curve::svg;
use super::events::Events;

/// Names of what is in it.
const CONFIG: &str = "config.toml";
const LOCK: &str = "lock";
const LOG: &str = "log.txt";
const METRICS: &str = "metrics.jsonl";
const CURVE: &str = "loss.svg";
const EVENTS: &str = "events.out.tfevents.";

/// Why a run has no folder.
#[derive(Debug, Error)]
pub enum FolderError {
    /// The newest run has other options.
    #[error("{folder}: it was begun with other options: {differences}; give those, or --new for another run")]
    Other {
        /// The run.
        folder: String,
        /// Which, here and there.
        differences: String,
    },
    /// Somebody is at it.
    #[error("{folder}: another process is training in it; wait for that, or --new for another run")]
    Busy {
        /// The run.
        folder: String,
    },
    /// Its options are not understood.
    #[error("{folder}: {message}")]
    Config {
        /// The run.
        folder: String,
        /// What is wrong.
        message: String,
    },
    /// It cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A run's folder, which nobody else trains in.
pub struct Folder {
    path: PathBuf,
    /// Held as long as this lives.
    _lock: File,
    log: File,
    metrics: File,
    events: Events<File>,
    events_path: PathBuf,
    fresh: bool,
}

/// Options that have been filled in where nobody gave them: a run goes on with those that it was begun with.
fn filled(given: &Config, begun: &Config) -> Config {
    let mut config = given.clone();
    config.micro_batch = config.micro_batch.or(begun.micro_batch);
    config.num_classes = config.num_classes.or(begun.num_classes);
    if config.init.is_some() && config.init == begun.init {
        // What the checkpoint said.
        (config.hidden, config.depths) = (config.hidden.or(begun.hidden), config.depths.or(begun.depths));
        (config.model, config.mlp_ratio, config.objective) = (begun.model.clone(), begun.mlp_ratio, begun.objective);
    }
    config
}

/// Runs of an output folder by their numbers, the oldest first.
fn runs(output: &Path) -> Vec<(u32, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(output) else { return Vec::new() };
    let number = |path: &Path| {
        let (digits, _) = path.file_name()?.to_str()?.split_once('-')?;
        digits.parse().ok().filter(|_| digits.len() >= 3)
    };
    let mut all: Vec<(u32, PathBuf)> = entries.flatten().filter_map(|e| Some((number(&e.path())?, e.path()))).collect();
    all.retain(|(_, path)| path.join(CONFIG).is_file());
    all.sort();
    all
}

impl Folder {
    /// The options of the run that `config` would go on with: the newest, unless `anew`. Options that were not given are as it has them.
    ///
    /// # Errors
    /// When the newest run has others.
    pub fn continued(output: &Path, config: &Config, anew: bool) -> Result<Option<(PathBuf, Config)>, FolderError> {
        let Some((_, path)) = runs(output).pop().filter(|_| !anew) else { return Ok(None) };
        let folder = path.display().to_string();
        let file = path.join(CONFIG);
        let text = std::fs::read_to_string(&file).map_err(|e| FolderError::Config { folder: folder.clone(), message: e.to_string() })?;
        let begun = table(&file.display().to_string(), &text).and_then(|t| Config::from_tables(&[t]));
        let begun = begun.map_err(|e| FolderError::Config { folder: folder.clone(), message: e.to_string() })?;
        let config = filled(config, &begun);
        let differences = begun.differences(&config);
        if differences.is_empty() {
            return Ok(Some((path, config)));
        }
        let differences = differences.iter().map(|(key, theirs, ours)| format!("{key} was {theirs} and is {ours}"));
        Err(FolderError::Other { folder, differences: differences.collect::<Vec<_>>().join(", ") })
    }

    /// Opens the run that goes on, or makes the next one.
    ///
    /// # Errors
    /// When somebody is at it, or it cannot be made.
    pub fn open(output: &Path, config: &Config, continued: Option<&Path>) -> Result<Folder, FolderError> {
        let path = match continued {
            Some(path) => path.to_owned(),
            None => {
                std::fs::create_dir_all(output).map_err(FileError::writing(output))?;
                let next = runs_of_any_kind(output).map_or(0, |n| n + 1);
                let path = output.join(format!("{next:03}-{}", config.model));
                std::fs::create_dir(&path).map_err(FileError::writing(&path))?;
                path
            }
        };
        let lock = path.join(LOCK);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&lock).map_err(FileError::writing(&lock))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FolderError::Busy { folder: path.display().to_string() }),
            // A file system without locks.
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(e)) => return Err(FileError::writing(&lock)(e).into()),
        }
        for folder in ["checkpoints", "samples"] {
            let folder = path.join(folder);
            std::fs::create_dir_all(&folder).map_err(FileError::writing(&folder))?;
        }
        let text = config.to_toml();
        let about = path.join(CONFIG);
        replace_file(&about, |file| file.write_all(text.as_bytes()).map_err(FileError::writing(&about)))?;
        let append = |name: &str| {
            let file = path.join(name);
            OpenOptions::new().create(true).append(true).open(&file).map_err(FileError::writing(&file))
        };
        let (log, metrics) = (append(LOG)?, append(METRICS)?);
        let events_path = path.join(format!("{EVENTS}{:.0}.fcdm", now()));
        let events = File::create(&events_path).and_then(|file| Events::begin(file, now())).map_err(FileError::writing(&events_path))?;
        Ok(Folder { log, metrics, events, events_path, _lock: file, fresh: continued.is_none(), path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was made just now.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// The checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// The sheets of samples.
    pub fn samples(&self) -> PathBuf {
        self.path.join("samples")
    }

    /// Adds a line to the log.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn log(&mut self, line: &str) -> Result<(), FileError> {
        writeln!(self.log, "{line}").map_err(FileError::writing(&self.path.join(LOG)))
    }

    /// Adds a line to the metrics.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn metric(&mut self, line: &serde_json::Value) -> Result<(), FileError> {
        writeln!(self.metrics, "{line}").map_err(FileError::writing(&self.path.join(METRICS)))?;
        let numbers = line.as_object().into_iter().flatten().filter(|(name, _)| *name != "step" && *name != "seconds");
        let scalars: Vec<(&str, f64)> = numbers.filter_map(|(name, value)| Some((name.as_str(), value.as_f64()?))).collect();
        let step = line["step"].as_u64().unwrap_or(0);
        self.events.add(now(), step, &scalars).map_err(FileError::writing(&self.events_path))
    }

    /// Draws the metrics so far.
    ///
    /// # Errors
    /// When the picture cannot be written.
    pub fn draw(&self) -> Result<(), FileError> {
        let path = self.path.join(CURVE);
        match svg(&self.metrics()) {
            Some(svg) => replace_file(&path, |file| file.write_all(svg.as_bytes()).map_err(FileError::writing(&path))),
            None => Ok(()),
        }
    }

    /// The lines of the metrics.
    pub fn metrics(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.path.join(METRICS)).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Takes away the metrics of updates behind `step`, which are made once more.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn rewind(&mut self, step: u64) -> Result<(), FileError> {
        let path = self.path.join(METRICS);
        let kept: Vec<serde_json::Value> = self.metrics().into_iter().filter(|m| m["step"].as_u64().is_some_and(|s| s <= step)).collect();
        replace_file(&path, |file| kept.iter().try_for_each(|line| writeln!(file, "{line}").map_err(FileError::writing(&path))))?;
        self.metrics = OpenOptions::new().append(true).open(&path).map_err(FileError::writing(&path))?;
        Ok(())
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// The greatest number that a folder begins with, whatever is in it.
fn runs_of_any_kind(output: &Path) -> Option<u32> {
    let entries = std::fs::read_dir(output).ok()?;
    entries.flatten().filter_map(|e| e.file_name().to_str()?.split_once('-')?.0.parse().ok()).max()
}
