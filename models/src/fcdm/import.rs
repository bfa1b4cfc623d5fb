//! An FCDM in a checkpoint: its sizes, and its parameters.

use std::ops::Range;

use fcdm_compiler::checkpoint::Checkpoint;
use fcdm_compiler::weights::{WeightError, WeightSource};

use super::config::Config;
use super::parameters::parameters;
use crate::import::{ImportError, Tensors};

/// An FCDM in a checkpoint: every tensor is there and has its shape.
pub struct Import {
    tensors: Tensors,
    config: Config,
}

impl Import {
    /// Reads the sizes and checks names and shapes; values are not looked at yet.
    ///
    /// # Errors
    /// See [`ImportError`].
    pub fn new(checkpoint: Checkpoint, null_class: bool) -> Result<Import, ImportError> {
        let shape = |name: &str| checkpoint.tensor(name).map(|t| t.shape.clone());
        let config = Config::from_shapes(&shape, null_class)
            .map_err(|e| ImportError::Config { file: checkpoint.file().to_owned(), message: e.to_string() })?;
        let list = parameters(&config);
        Ok(Import { tensors: Tensors::new(checkpoint, "FCDM", "", list)?, config })
    }

    /// The sizes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The parameters.
    pub fn tensors(&self) -> &Tensors {
        &self.tensors
    }

    /// The file.
    pub fn checkpoint(&self) -> &Checkpoint {
        self.tensors.checkpoint()
    }
}

impl WeightSource for Import {
    fn load(&self, name: &str) -> Result<Vec<f32>, WeightError> {
        self.tensors.load(name)
    }

    fn load_rows(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>, WeightError> {
        self.tensors.load_rows(name, rows)
    }
}
