//! From the tensors of a checkpoint to the weights of the IR: completeness, layout, sanity.

use std::collections::HashMap;
use std::ops::Range;

use fcdm_compiler::checkpoint::{CheckpointError, StateDict, count_nonfinite};
use fcdm_compiler::weights::{WeightError, WeightSource, pieces};
use fcdm_runtime::artifact::write_f32;
use thiserror::Error;
use xxhash_rust::xxh3::Xxh3;

use crate::parameter::Parameter;
use crate::role::Role;

/// A file that does not hold the network it was taken for.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The file itself.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// An ONNX model; the line names it.
    #[error("{0}")]
    Model(String),
    /// Sizes that no such network has, or a description of them that cannot be read.
    #[error("{file}: {message}")]
    Config {
        /// The file.
        file: String,
        /// What is wrong: field or tensor, expected and found.
        message: String,
    },
    /// Tensors that are not there.
    #[error("{file}: {count} tensors of this {model} are missing, the first is `{first}`{instead}")]
    Missing {
        /// The file.
        file: String,
        /// The network's name.
        model: &'static str,
        /// How many.
        count: usize,
        /// The first in the order of the network.
        first: String,
        /// What there is under its name, if it is no tensor.
        instead: String,
    },
    /// Weights that are not there.
    #[error("{file}: weights `{asked}`: expected {expected}, found none of that name")]
    Weights {
        /// The file.
        file: String,
        /// What was asked for.
        asked: String,
        /// Those that are there.
        expected: String,
    },
    /// Tensors that no network of this size has.
    #[error("{file}: {count} tensors do not belong to this {model}, the first is `{first}`")]
    Extra {
        /// The file.
        file: String,
        /// The network's name.
        model: &'static str,
        /// How many.
        count: usize,
        /// The first by name.
        first: String,
    },
    /// A tensor of another shape.
    #[error("{file}: tensor `{tensor}`: expected shape {expected:?}, found {found:?}")]
    Shape {
        /// The file.
        file: String,
        /// Which tensor.
        tensor: String,
        /// What the network's sizes ask for.
        expected: Vec<usize>,
        /// What is there.
        found: Vec<usize>,
    },
}

/// A network's parameters in a checkpoint: every one is there and has its shape, and there is nothing else.
pub struct Tensors {
    weights: StateDict,
    /// What the IR's names have before those of the checkpoint.
    prefix: String,
    list: Vec<Parameter>,
    by_name: HashMap<String, usize>,
}

/// What there is under the name of a tensor that is missing, as the end of a message.
pub(crate) fn instead(weights: &StateDict, name: &str) -> String {
    weights.other(name).map_or_else(String::new, |kind| format!(", which is {kind}, not a tensor"))
}

/// What a look at every value finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// xxh3-64 over names, shapes and f32 values in the order of registration: equal for the same weights in whatever
    /// kind of file.
    pub fingerprint: u64,
    /// Tensors with values that are not finite: name, how many, of how many.
    pub not_finite: Vec<(String, usize, usize)>,
}

impl Tensors {
    /// Checks names and shapes; values are not looked at yet. `model` is what messages call the network. The IR knows the
    /// parameters by their checkpoint names after `prefix`.
    ///
    /// # Errors
    /// See [`ImportError`].
    pub fn new(weights: StateDict, model: &'static str, prefix: &str, list: Vec<Parameter>) -> Result<Tensors, ImportError> {
        let file = || weights.file().to_owned();
        let missing: Vec<&Parameter> = list.iter().filter(|p| weights.tensor(&p.name).is_none()).collect();
        if let Some(first) = missing.first() {
            let (first, instead) = (first.name.clone(), instead(&weights, &first.name));
            return Err(ImportError::Missing { file: file(), model, count: missing.len(), first, instead });
        }
        for p in &list {
            let found = &weights.tensor(&p.name).expect("no tensor is missing").shape;
            if *found != p.shape {
                let (tensor, expected, found) = (p.name.clone(), p.shape.clone(), found.clone());
                return Err(ImportError::Shape { file: file(), tensor, expected, found });
            }
        }
        let by_name: HashMap<String, usize> = list.iter().enumerate().map(|(i, p)| (p.name.clone(), i)).collect();
        let extra = weights.beside(&mut list.iter().map(|p| p.name.as_str()));
        if let Some(&first) = extra.first() {
            return Err(ImportError::Extra { file: file(), model, count: extra.len(), first: first.to_owned() });
        }
        Ok(Tensors { weights, prefix: prefix.to_owned(), list, by_name })
    }

    /// Where they are read from.
    pub fn weights(&self) -> &StateDict {
        &self.weights
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.list.iter().map(|p| p.count() as u64).sum()
    }

    /// What the weight that the IR knows by that name is for.
    pub fn role(&self, weight: &str) -> Option<Role> {
        self.parameter(weight).ok().map(|p| p.role)
    }

    /// The parameter that the IR knows by that name.
    fn parameter(&self, name: &str) -> Result<&Parameter, WeightError> {
        let index = name.strip_prefix(self.prefix.as_str()).and_then(|bare| self.by_name.get(bare));
        index.map(|&i| &self.list[i]).ok_or_else(|| WeightError::Missing(name.to_owned()))
    }
}

/// Reads every value of the parts of a network once. `progress` is told the values read so far and in all, and says whether to
/// go on.
///
/// # Errors
/// A tensor that cannot be read. `Ok(None)` if `progress` said no.
pub fn survey(parts: &[&Tensors], progress: &mut dyn FnMut(u64, u64) -> bool) -> Result<Option<Survey>, ImportError> {
    let total = parts.iter().map(|t| t.count()).sum();
    let (mut surveyor, mut done) = (Surveyor::default(), 0);
    for (tensors, p) in parts.iter().flat_map(|t| t.list.iter().map(move |p| (t, p))) {
        if !progress(done, total) {
            return Ok(None);
        }
        surveyor.tensor(&p.name, &p.shape, |see| {
            pieces(&p.shape).into_iter().try_for_each(|rows| {
                see(&tensors.weights.read_rows_f32(&p.name, rows)?);
                Ok(())
            })
        })?;
        done += p.count() as u64;
    }
    Ok(Some(surveyor.finish()))
}

/// A survey as it goes on.
#[derive(Default)]
pub(crate) struct Surveyor {
    hash: Xxh3,
    survey: Survey,
}

impl Surveyor {
    /// Looks at a tensor, whose values `read` hands on in pieces.
    pub fn tensor(
        &mut self,
        name: &str,
        shape: &[usize],
        read: impl FnOnce(&mut dyn FnMut(&[f32])) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        self.hash.update(name.as_bytes());
        shape.iter().for_each(|&d| self.hash.update(&(d as u64).to_le_bytes()));
        let mut bad = 0;
        read(&mut |values| {
            bad += count_nonfinite(values);
            write_f32(&mut self.hash, values).expect("a hash takes everything");
        })?;
        if bad > 0 {
            self.survey.not_finite.push((name.to_owned(), bad, shape.iter().product()));
        }
        Ok(())
    }

    /// What was found.
    pub fn finish(mut self) -> Survey {
        self.survey.fingerprint = self.hash.digest();
        self.survey
    }
}

impl WeightSource for Tensors {
    fn load(&self, name: &str) -> Result<Vec<f32>, WeightError> {
        let p = self.parameter(name)?;
        let values = self.weights.read_f32(&p.name).map_err(|e| WeightError::Read(e.to_string()))?;
        Ok(p.to_ir(values))
    }

    fn load_rows(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>, WeightError> {
        let p = self.parameter(name)?;
        let Some(part) = p.part(&rows) else {
            // Of those that have to be read whole the largest has some hundred thousand values.
            let (values, row) = (self.load(name)?, p.count() / p.ty().shape[0]);
            return Ok(values[rows.start * row..rows.end * row].to_vec());
        };
        let values = self.weights.read_rows_f32(&p.name, rows).map_err(|e| WeightError::Read(e.to_string()))?;
        Ok(part.to_ir(values))
    }
}

/// Several sources as one: the first that has a weight gives it.
pub struct Sources<'a>(pub Vec<&'a dyn WeightSource>);

impl<'a> Sources<'a> {
    /// These and another one, if there is one.
    pub fn with<'b>(self, other: Option<&'b dyn WeightSource>) -> Sources<'b>
    where
        'a: 'b,
    {
        let all = self.0.into_iter().map(|source| source as &'b dyn WeightSource);
        Sources(all.chain(other).collect())
    }
}

impl Sources<'_> {
    fn first<T>(&self, name: &str, get: impl Fn(&dyn WeightSource) -> Result<T, WeightError>) -> Result<T, WeightError> {
        let tried = self.0.iter().map(|&source| get(source)).find(|r| !matches!(r, Err(WeightError::Missing(_))));
        tried.unwrap_or_else(|| Err(WeightError::Missing(name.to_owned())))
    }
}

impl WeightSource for Sources<'_> {
    fn load(&self, name: &str) -> Result<Vec<f32>, WeightError> {
        self.first(name, |s| s.load(name))
    }

    fn load_rows(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>, WeightError> {
        self.first(name, |s| s.load_rows(name, rows.clone()))
    }
}
