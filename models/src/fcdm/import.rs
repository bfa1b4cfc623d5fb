//! An FCDM in a checkpoint or an ONNX model: its sizes, and its weights.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;

use fcdm_compiler::checkpoint::Checkpoint;
use fcdm_compiler::onnx::{Extents, Model, Onnx, OnnxError};
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
    Onnx { model: Box<Onnx>, file: String, size: [usize; 2], roles: HashMap<String, Role> },
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
        Ok(Import { source: Source::Onnx { model: Box::new(model), file: file.to_owned(), size: [height, width], roles }, config })
    }

    /// An error that names the file.
    pub(crate) fn wrong(&self, message: &str) -> ImportError {
        let file = match &self.source {
            Source::Checkpoint(tensors) => tensors.checkpoint().file(),
            Source::Onnx { file, .. } => file,
        };
        ImportError::Config { file: file.to_owned(), message: message.to_owned() }
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
