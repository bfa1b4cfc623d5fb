//! An FCDM in a checkpoint or an ONNX model: its sizes, and its weights.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use fcdm_compiler::checkpoint::Checkpoint;
use fcdm_compiler::onnx::Onnx;
use fcdm_compiler::weights::{WeightError, WeightSource};

use super::config::Config;
use super::network::parameters;
use crate::graph_roles::roles;
use crate::import::{ImportError, Survey, Surveyor, Tensors, survey};
use crate::role::Role;

/// An FCDM: every tensor is there and has its shape.
pub struct Import {
    source: Source,
    config: Config,
}

enum Source {
    Checkpoint(Box<Tensors>),
    Onnx { model: Box<Onnx>, size: [usize; 2], roles: HashMap<String, Role> },
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
        Ok(Import { source: Source::Checkpoint(Box::new(Tensors::new(checkpoint, "FCDM", "", list)?)), config })
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
        Ok(Import { source: Source::Onnx { model: Box::new(model), size: [height, width], roles }, config })
    }

    /// The sizes.
    pub fn config(&self) -> &Config {
        &self.config
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

    /// The file, if it is a checkpoint.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        if let Source::Checkpoint(tensors) = &self.source { Some(tensors.checkpoint()) } else { None }
    }

    /// What the trainer left in the file, by name.
    pub fn arguments(&self) -> BTreeMap<String, String> {
        self.checkpoint().map(|c| c.arguments().clone()).unwrap_or_default()
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

impl WeightSource for Import {
    fn load(&self, name: &str) -> Result<Vec<f32>, WeightError> {
        self.weights().load(name)
    }

    fn load_rows(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>, WeightError> {
        self.weights().load_rows(name, rows)
    }
}
