//! A checkpoint to begin with: the network is its, the classes are those of the data. A class that was there before, by its name or else by its
//! number, keeps its row in the tables; the others begin anew, and the null class stays what it was.

use std::path::Path;

use fcdm_compiler::checkpoint::Checkpoint;
use fcdm_compiler::weights::{WeightError, WeightSource};

use super::config::{Config, ObjectiveKind};
use super::examples::Examples;
use super::setup::{channels, classes, wrong};
use super::trainer::TrainError;
use crate::fcdm::{Config as Network, Import};
use crate::import::ImportError;
use crate::parameter::Parameter;
use crate::role::LayerKind;

/// See the module.
pub struct Initial {
    import: Import,
    /// Of every row of the new tables, the old one, if there is one.
    rows: Vec<Option<usize>>,
}

impl Initial {
    /// Opens a checkpoint as `compile` does. What it says of the network is filled in.
    ///
    /// # Errors
    /// When it cannot be read, or is of another shape than the data or the options.
    pub fn open(path: &Path, config: &mut Config, examples: &Examples) -> Result<Initial, TrainError> {
        let import = Import::open(Checkpoint::open(path)?, config.init_weights.as_deref(), config.label_dropout > 0.0)?;
        let of = import.config();
        let given = channels(examples)?;
        if given != of.in_channels {
            return Err(wrong("init", format!("a network of {given} channels, as the data have"), format!("one of {}", of.in_channels)));
        }
        if config.hidden.is_some_and(|hidden| hidden != of.hidden) {
            return Err(wrong("hidden", format!("{}, as the checkpoint has", of.hidden), config.hidden.unwrap_or_default()));
        }
        if config.depths.is_some_and(|depths| depths != of.depths) {
            return Err(wrong("depths", format!("{:?}, as the checkpoint has", of.depths), format!("{:?}", config.depths)));
        }
        (config.hidden, config.depths, config.mlp_ratio) = (Some(of.hidden), Some(of.depths), of.mlp_ratio());
        config.model = of.preset().map_or("FCDM", |preset| preset.name()).to_owned();
        config.objective = if of.learn_sigma { ObjectiveKind::Diffusion } else { ObjectiveKind::Flow };
        let new = classes(config, examples)?;
        config.num_classes = Some(new);
        let names = import.class_names().filter(|_| examples.classes().len() == new);
        let old = |class: usize| match &names {
            Some(names) => names.iter().position(|name| *name == examples.classes()[class]),
            None => (class < of.num_classes).then_some(class),
        };
        let null = of.null_class.then_some(Some(of.num_classes));
        let rows = (0..new).map(old).chain(null).collect();
        Ok(Initial { rows, import })
    }

    /// The network with the classes of the data.
    ///
    /// # Errors
    /// When labels are beyond what was asked for.
    pub fn network(&self, config: &mut Config, examples: &Examples) -> Result<Network, TrainError> {
        Ok(Network { num_classes: classes(config, examples)?, ..self.import.config().clone() })
    }

    /// A parameter's values, in the IR's order, over fresh ones.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn weights(&self, p: &Parameter, values: &mut [f32]) -> Result<(), TrainError> {
        let failed = |e: WeightError| TrainError::Import(ImportError::Model(e.to_string()));
        let before = self.import.load(&p.name).map_err(failed)?;
        if p.role.layer != LayerKind::Table {
            values.copy_from_slice(&before);
            return Ok(());
        }
        let width = values.len() / self.rows.len();
        for (row, old) in values.chunks_exact_mut(width).zip(&self.rows) {
            if let Some(old) = old {
                row.copy_from_slice(&before[old * width..(old + 1) * width]);
            }
        }
        Ok(())
    }
}
