//! From the tensors of a checkpoint to the weights of the IR: sizes, completeness, layout, sanity.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use fcdm_compiler::checkpoint::{Checkpoint, CheckpointError, count_nonfinite};
use fcdm_compiler::weights::{WeightError, WeightSource, pieces};
use fcdm_runtime::artifact::write_f32;
use thiserror::Error;
use xxhash_rust::xxh3::Xxh3;

use super::config::{Config, ConfigError};
use super::parameters::{Parameter, parameters};

/// A checkpoint that is not an FCDM.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The file itself.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Sizes that no FCDM has.
    #[error("{file}: {source}")]
    Config {
        /// The file.
        file: String,
        /// What is wrong.
        source: ConfigError,
    },
    /// Tensors that are not there.
    #[error("{file}: {count} tensors of this FCDM are missing, the first is `{first}`")]
    Missing {
        /// The file.
        file: String,
        /// How many.
        count: usize,
        /// The first in the order of the network.
        first: String,
    },
    /// Tensors that no FCDM of this size has.
    #[error("{file}: {count} tensors do not belong to this FCDM, the first is `{first}`")]
    Extra {
        /// The file.
        file: String,
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

/// An FCDM in a checkpoint: every tensor is there and has its shape.
pub struct Import<'a> {
    checkpoint: &'a Checkpoint,
    config: Config,
    parameters: HashMap<String, Parameter>,
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

impl<'a> Import<'a> {
    /// Reads the sizes and checks names and shapes; values are not looked at yet.
    ///
    /// # Errors
    /// See [`ImportError`].
    pub fn new(checkpoint: &'a Checkpoint, null_class: bool) -> Result<Import<'a>, ImportError> {
        let file = checkpoint.file().to_owned();
        let shape = |name: &str| checkpoint.tensor(name).map(|t| t.shape.clone());
        let config = Config::from_shapes(&shape, null_class).map_err(|source| ImportError::Config { file: file.clone(), source })?;
        let expected = parameters(&config);
        let missing: Vec<&Parameter> = expected.iter().filter(|p| checkpoint.tensor(&p.name).is_none()).collect();
        if let Some(first) = missing.first() {
            return Err(ImportError::Missing { file, count: missing.len(), first: first.name.clone() });
        }
        for p in &expected {
            let found = shape(&p.name).expect("no tensor is missing");
            if found != p.shape {
                return Err(ImportError::Shape { file, tensor: p.name.clone(), expected: p.shape.clone(), found });
            }
        }
        let parameters: HashMap<String, Parameter> = expected.into_iter().map(|p| (p.name.clone(), p)).collect();
        let mut extra = checkpoint.names().filter(|n| !parameters.contains_key(*n));
        if let Some(first) = extra.next() {
            return Err(ImportError::Extra { file, count: 1 + extra.count(), first: first.to_owned() });
        }
        Ok(Import { checkpoint, config, parameters })
    }

    /// The sizes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Reads every value once. `progress` is told the values read so far and in all, and says whether to go on.
    ///
    /// # Errors
    /// A tensor that cannot be read. `Ok(None)` if `progress` said no.
    pub fn survey(&self, progress: &mut dyn FnMut(u64, u64) -> bool) -> Result<Option<Survey>, ImportError> {
        let list = parameters(&self.config);
        let total = list.iter().map(|p| p.count() as u64).sum();
        let (mut hash, mut done) = (Xxh3::new(), 0);
        let mut survey = Survey::default();
        for p in &list {
            if !progress(done, total) {
                return Ok(None);
            }
            hash.update(p.name.as_bytes());
            p.shape.iter().for_each(|&d| hash.update(&(d as u64).to_le_bytes()));
            let mut bad = 0;
            for rows in pieces(&p.shape) {
                let values = self.checkpoint.read_rows_f32(&p.name, rows)?;
                bad += count_nonfinite(&values);
                write_f32(&mut hash, &values).expect("a hash takes everything");
            }
            if bad > 0 {
                survey.not_finite.push((p.name.clone(), bad, p.count()));
            }
            done += p.count() as u64;
        }
        survey.fingerprint = hash.digest();
        Ok(Some(survey))
    }

    /// Plain values that the trainer left in the file, by name.
    pub fn arguments(&self) -> &BTreeMap<String, String> {
        self.checkpoint.arguments()
    }
}

impl WeightSource for Import<'_> {
    fn load(&self, name: &str) -> Result<Vec<f32>, WeightError> {
        let p = self.parameters.get(name).ok_or_else(|| WeightError::Missing(name.to_owned()))?;
        let values = self.checkpoint.read_f32(name).map_err(|e| WeightError::Read(e.to_string()))?;
        Ok(p.to_ir(values))
    }

    fn load_rows(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>, WeightError> {
        let p = self.parameters.get(name).ok_or_else(|| WeightError::Missing(name.to_owned()))?;
        let Some(part) = p.part(&rows) else {
            // Of those that have to be read whole the largest has some hundred thousand values.
            let (values, row) = (self.load(name)?, p.count() / p.ty().shape[0]);
            return Ok(values[rows.start * row..rows.end * row].to_vec());
        };
        let values = self.checkpoint.read_rows_f32(name, rows).map_err(|e| WeightError::Read(e.to_string()))?;
        Ok(part.to_ir(values))
    }
}
