//! An FCDM in a checkpoint or an ONNX model: its sizes, and its weights.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use fcdm_compiler::checkpoint::{Checkpoint, StateDict};
use fcdm_compiler::onnx::{Extents, Model, Onnx, OnnxError};
use fcdm_compiler::weights::{WeightError, WeightSource};

use super::config::{Config, ConfigError};
use super::network::parameters;
use crate::graph_roles::roles;
use crate::import::{ImportError, Survey, Surveyor, Tensors, instead, survey};
use crate::role::Role;
use crate::train::checkpoint::CLASSES;

/// The tensor by which an FCDM is recognised in a file.
const ANCHOR: &str = "x_embedder.weight";

/// An FCDM: every tensor is there and has its shape.
pub struct Import {
    source: Source,
    config: Config,
    others: Vec<Other>,
}

enum Source {
    Checkpoint(Box<Tensors>),
    Onnx { model: Box<Onnx>, file: String, size: [usize; 2], roles: HashMap<String, Role> },
}

/// Weights in the same file that were not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// What they are called.
    pub name: String,
    /// Why they are no FCDM, if they are not.
    pub wrong: Option<String>,
}

/// What `--weights` calls the average and the others, whatever a file calls them.
const AVERAGED: &str = "ema";
const TRAINED: &str = "model";

impl Import {
    /// Finds the FCDMs in a checkpoint and takes the one called `which`, or the first that is complete: a running average if there is one.
    /// Sizes are read off the shapes, names and shapes are checked; values are not looked at yet.
    ///
    /// `ema` is any average, `model` any weights with a name that are none, unless the file has them under these very names.
    ///
    /// # Errors
    /// See [`ImportError`].
    pub fn open(checkpoint: Checkpoint, which: Option<&str>, null_class: bool) -> Result<Import, ImportError> {
        let checkpoint = Arc::new(checkpoint);
        let mut all = StateDict::found(&checkpoint, &[ANCHOR])?;
        if all.is_empty() {
            all.push(StateDict::only(&checkpoint)?);
        }
        let asked = which.map(|name| asked(&checkpoint, &all, name)).transpose()?;
        let mut tried: Vec<(String, Result<Import, ImportError>)> =
            all.into_iter().map(|dict| (dict.name().to_owned(), Import::new(dict, null_class))).collect();
        let taken = asked.or_else(|| tried.iter().position(|(_, import)| import.is_ok())).unwrap_or(0);
        let (_, import) = tried.remove(taken);
        let other = |(name, import): (String, Result<Import, ImportError>)| Other { name, wrong: import.err().map(|e| e.to_string()) };
        Ok(Import { others: tried.into_iter().map(other).collect(), ..import? })
    }

    /// Takes these weights.
    ///
    /// # Errors
    /// See [`ImportError`].
    pub fn new(weights: StateDict, null_class: bool) -> Result<Import, ImportError> {
        let shape = |name: &str| weights.tensor(name).map(|t| t.shape.clone());
        let config = Config::from_shapes(&shape, null_class).map_err(|e| {
            let message = match &e {
                ConfigError::Missing(name) if weights.other(name).is_some() => {
                    format!("tensor `{name}` is missing{}", instead(&weights, name))
                }
                _ => e.to_string(),
            };
            ImportError::Config { file: weights.file().to_owned(), message }
        })?;
        let list = parameters(&config);
        let source = Source::Checkpoint(Box::new(Tensors::new(weights, "FCDM", "", list)?));
        Ok(Import { source, config, others: Vec::new() })
    }

    /// Opens an exported FCDM. A batch that it leaves open is of one row, of which any others are made; height and width that it leaves open are
    /// `size`.
    ///
    /// # Errors
    /// See [`ImportError`]; when it leaves them open and there is no `size`.
    pub fn open_onnx(path: &Path, size: Option<[usize; 2]>, null_class: bool) -> Result<Import, ImportError> {
        let file = path.display().to_string();
        let onnx = |e: OnnxError| ImportError::Model(e.to_string());
        let model = Model::open(path).map_err(onnx)?;
        let extents = extents(&model, &model.declared().map_err(onnx)?, size)
            .map_err(|message| ImportError::Config { file: file.clone(), message })?;
        Import::from_onnx(model.at(&extents).map_err(onnx)?, &file, null_class)
    }

    /// Takes an exported FCDM for one: sizes are read off its graph, of which the network is then made. `file` is for messages.
    ///
    /// # Errors
    /// When the graph is not that of an FCDM.
    pub fn from_onnx(model: Onnx, file: &str, null_class: bool) -> Result<Import, ImportError> {
        let wrong = |message: String| ImportError::Config { file: file.to_owned(), message };
        let config = Config::from_function(model.function(), null_class).map_err(wrong)?;
        let &[_, height, width, _] = &model.inputs()[0].ty.shape[..] else { return Err(wrong("expected an image x".into())) };
        let roles = roles(model.function(), &parameters(&config));
        Ok(Import {
            source: Source::Onnx { model: Box::new(model), file: file.to_owned(), size: [height, width], roles },
            config,
            others: Vec::new(),
        })
    }

    /// An error that names the file.
    pub(crate) fn wrong(&self, message: &str) -> ImportError {
        let file = match &self.source {
            Source::Checkpoint(tensors) => tensors.weights().file(),
            Source::Onnx { file, .. } => file,
        };
        ImportError::Config { file: file.to_owned(), message: message.to_owned() }
    }

    /// The sizes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Names of the classes, if its trainer was ours and knew them.
    pub fn class_names(&self) -> Option<Vec<String>> {
        let text = self.state_dict()?.checkpoint().arguments().get(CLASSES)?;
        let names: Vec<String> = serde_json::from_str(&serde_json::from_str::<String>(text).ok()?).ok()?;
        (names.len() == self.config.num_classes).then_some(names)
    }

    /// What a weight is for.
    pub fn role(&self, weight: &str) -> Option<Role> {
        match &self.source {
            Source::Checkpoint(tensors) => tensors.role(weight),
            Source::Onnx { roles, .. } => roles.get(weight).copied(),
        }
    }

    /// The ONNX model that it is, and the height and width that this was exported for.
    pub fn onnx(&self) -> Option<(&Onnx, [usize; 2])> {
        if let Source::Onnx { model, size, .. } = &self.source { Some((model, *size)) } else { None }
    }

    /// The weights that were taken, if it is of a checkpoint.
    pub fn state_dict(&self) -> Option<&StateDict> {
        if let Source::Checkpoint(tensors) = &self.source { Some(tensors.weights()) } else { None }
    }

    /// The weights of the same file that were not taken.
    pub fn others(&self) -> &[Other] {
        &self.others
    }

    /// What the trainer left in the file, by name.
    pub fn arguments(&self) -> BTreeMap<String, String> {
        self.state_dict().map(|s| s.checkpoint().arguments().clone()).unwrap_or_default()
    }

    /// Reads every value once, see [`survey`].
    ///
    /// # Errors
    /// A tensor that cannot be read. `Ok(None)` if `progress` said no.
    pub fn survey(&self, progress: &mut dyn FnMut(u64, u64) -> bool) -> Result<Option<Survey>, ImportError> {
        match &self.source {
            Source::Checkpoint(tensors) => survey(&[tensors], progress),
            Source::Onnx { model, .. } => {
                let mut surveyor = Surveyor::default();
                for (_, d) in model.function().weights() {
                    let values = model.load(&d.name).map_err(|e| ImportError::Model(e.to_string()))?;
                    surveyor.tensor(&d.name, &d.ty.shape, |see| {
                        see(&values);
                        Ok(())
                    })?;
                }
                Ok(Some(surveyor.finish()))
            }
        }
    }

    fn weights(&self) -> &dyn WeightSource {
        match &self.source {
            Source::Checkpoint(tensors) => &**tensors,
            Source::Onnx { model, .. } => &**model,
        }
    }
}

/// Which of the weights are called so.
fn asked(checkpoint: &Checkpoint, all: &[StateDict], name: &str) -> Result<usize, ImportError> {
    let kind = |dict: &StateDict| match name {
        AVERAGED => dict.is_averaged(),
        TRAINED => !dict.is_averaged() && dict.name() != "all",
        _ => false,
    };
    let found = all.iter().position(|d| d.name() == name).or_else(|| all.iter().position(kind));
    found.ok_or_else(|| {
        let names: Vec<String> = all.iter().map(|d| format!("`{}`", d.name())).collect();
        ImportError::Weights { file: checkpoint.file().to_owned(), asked: name.to_owned(), expected: names.join(" or ") }
    })
}

/// Extents for the inputs of an exported FCDM that leaves some open; none for what is no such model.
fn extents(model: &Model, declared: &[Extents], size: Option<[usize; 2]>) -> Result<Vec<(String, Vec<usize>)>, String> {
    let [(x, image), (t, times), (y, labels)] = declared else { return Ok(Vec::new()) };
    let (&[rows, channels, height, width], &[of_times], &[of_labels]) = (&image[..], &times[..], &labels[..]) else {
        return Ok(Vec::new());
    };
    let rows = rows.or(of_times).or(of_labels).unwrap_or(1);
    let Some(channels) = channels.or_else(|| model.channels(x)) else {
        return Err(format!("input `{x}`: expected a number of channels, found a dynamic dimension, and no convolution that tells it"));
    };
    let side = |own: Option<usize>, axis: usize, what: &str| {
        own.or(size.map(|s| s[axis]))
            .ok_or_else(|| format!("input `{x}`: expected its {what}, found a dynamic dimension: give the size, as in --size 32x32"))
    };
    let image = vec![rows, channels, side(height, 0, "height")?, side(width, 1, "width")?];
    Ok(vec![(x.clone(), image), (t.clone(), vec![of_times.unwrap_or(rows)]), (y.clone(), vec![of_labels.unwrap_or(rows)])])
}

impl WeightSource for Import {
    fn load(&self, name: &str) -> Result<Vec<f32>, WeightError> {
        self.weights().load(name)
    }

    fn load_rows(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>, WeightError> {
        self.weights().load_rows(name, rows)
    }
}
