//! What to compile for, and what follows from it: passes, convolutions, precision.

use std::path::PathBuf;

use fcdm_compiler::target::Target;
use fcdm_compiler::winograd::Winograd;
use fcdm_ir::{Function, Module};
use fcdm_passes::{OPTIMISED, PLAIN, Pass, PassError, Report, Settings};
use fcdm_runtime::artifact::Sampling;
use fcdm_runtime::encoding::Encoding;
use fcdm_runtime::generate::Choice;
use thiserror::Error;

use crate::calibrate::Calibration;
use crate::mix::Mix;
use crate::types::Types;

/// What to compile for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Batch sizes of the denoiser's entry points.
    pub batches: Vec<usize>,
    /// Height of the latents, or of the pictures of a denoiser of pixels.
    pub height: usize,
    /// Width of the same.
    pub width: usize,
    /// False: no fusions, the plain kernels in the order of the network.
    pub optimise: bool,
    /// Which 3x3 convolutions to compute by Winograd; none if not optimised.
    pub winograd: Winograd,
    /// One name a class, or none.
    pub class_names: Vec<String>,
    /// How weights of products and convolutions are stored and multiplied. Everything else is f32.
    pub types: Types,
    /// How much of its own trajectories the denoiser's weights are rounded for, if they are.
    pub calibration: Option<Calibration>,
    /// Where calibration keeps what it has done, and finds it when it goes on.
    pub calibration_folder: Option<PathBuf>,
    /// What a mix of types is chosen for, if it is to be.
    pub mix: Option<Mix>,
    /// Results of quantised networks may differ between CPUs in the last bits, where that is faster.
    pub fast_math: bool,
    /// The decoder of the autoencoder.
    pub decoder: bool,
    /// Its encoder.
    pub encoder: bool,
    /// Bytes that decoding may take, as [`fcdm_runtime::autoencoder::decoding_bytes`] counts them.
    pub max_memory: Option<u64>,
    /// How to sample where nobody says otherwise, if it is to be recorded.
    pub sampling: Option<Sampling>,
    /// A schedule and classes to compile for, if not for all.
    pub specialise: Option<Specialise>,
    /// Licence of the weights, if it is to be recorded.
    pub license: Option<String>,
    /// Record the source's file name and the trainer's arguments. Without it the artifact depends on weights and
    /// options alone.
    pub source: Option<String>,
}

/// What a model is specialised to: see [`fcdm_runtime::artifact::Specialisation`].
#[derive(Clone, Debug)]
pub struct Specialise {
    /// Sampler and steps.
    pub sampler: Choice,
    /// Classes as people call them, or `all`.
    pub classes: Vec<String>,
}

/// An option that does not fit the networks: one line, with what was expected and found.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct OptionError(pub String);

/// How a weight is to be stored, by its name: see [`Settings::types`].
pub(crate) type WeightTypes<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Called after every pass.
pub type AfterPass<'a> = &'a mut dyn FnMut(&'static Pass, &Module);

impl Options {
    /// Everything that is fast in f32, for batches of 1 and 2, and nothing recorded.
    pub fn new(height: usize, width: usize) -> Options {
        Options {
            batches: vec![1, 2],
            height,
            width,
            optimise: true,
            winograd: Winograd::WhereFaster,
            class_names: Vec::new(),
            types: Types::from(Encoding::F32),
            calibration: None,
            calibration_folder: None,
            mix: None,
            fast_math: false,
            decoder: true,
            encoder: false,
            max_memory: None,
            sampling: None,
            specialise: None,
            license: None,
            source: None,
        }
    }

    /// Runs the pipeline that these ask for on a function.
    ///
    /// # Errors
    /// [`PassError`] if a pass has a bug.
    pub(crate) fn optimised(&self, f: Function, types: WeightTypes<'_>, observe: AfterPass<'_>) -> Result<(Module, Report), PassError> {
        let pipeline = if self.optimise { OPTIMISED } else { PLAIN };
        self.set(types, |settings| fcdm_passes::run_with(pipeline, Module { functions: vec![f] }, settings, observe))
    }

    /// Hands on what passes are told.
    pub(crate) fn set<T>(&self, types: WeightTypes<'_>, then: impl FnOnce(&Settings<'_>) -> T) -> T {
        let target = self.target();
        then(&Settings { types, rows: &|f, inst| !target.winograd.beats_codes(f, inst, &target), ..Settings::default() })
    }

    /// The machine to plan for.
    pub(crate) fn target(&self) -> Target {
        Target::CPU.with_winograd(self.winograd())
    }

    /// Which convolutions to compute by Winograd, whatever the precision: a quarter of the products in f32 beats bf16
    /// arithmetic, which has half their price.
    fn winograd(&self) -> Winograd {
        if self.optimise { self.winograd } else { Winograd::Never }
    }
}
