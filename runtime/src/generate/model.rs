//! The short way from a file to pictures, for programs that want no more than that.

use std::ops::ControlFlow;
#[cfg(feature = "files")]
use std::{path::Path, sync::Arc};

use super::begin::{Init, Noise};
use super::generator::{GenerateError, Generator, Order, Setup, Step};
use super::job::{Job, Seeds, jobs, labels};
use super::method::Choice;
use crate::artifact::{Artifact, ModelInfo};
use crate::network::check_guidance;
use crate::picture::Picture;
use crate::request::RequestError;
use crate::sampler::{Guidance, GuidedChannels};

/// What to generate, as people say it. What is left out is the model's, or else the official sampler's.
#[derive(Clone, Debug)]
pub struct Options {
    /// Classes by number, range (`0-9`) or name, `null` for none; every class, of a model of few, if none is named.
    pub class_labels: Vec<String>,
    /// Seeds of the pictures of every class.
    pub seeds: Seeds,
    /// Sampler and steps.
    pub sampler: Choice,
    /// Scale of classifier-free guidance; 1 is none.
    pub cfg_scale: Option<f64>,
    /// Which channels are guided.
    pub cfg_channels: Option<GuidedChannels>,
    /// Where guidance is active, see [`Guidance::interval`].
    pub cfg_interval: Option<(f64, f64)>,
    /// Also the way from each picture to the next, in so many steps.
    pub interpolate: Option<usize>,
    /// What to begin from, if not from noise alone.
    pub init: Option<Init>,
    /// Noise, in place of that of the seeds.
    pub noise: Option<Noise>,
    /// Pictures that are made together.
    pub batch: usize,
}

impl Default for Options {
    /// One picture of every class, one at a time, as the model is best sampled.
    fn default() -> Self {
        Options {
            class_labels: Vec::new(),
            seeds: Seeds::default(),
            sampler: Choice::default(),
            cfg_scale: None,
            cfg_channels: None,
            cfg_interval: None,
            interpolate: None,
            init: None,
            noise: None,
            batch: 1,
        }
    }
}

impl Options {
    /// How the pictures are made.
    ///
    /// # Errors
    /// When an option does not go with the model or with another one.
    pub fn order(&self, model: &ModelInfo) -> Result<Order, RequestError> {
        let of_model = Guidance::of(model);
        let guidance = Guidance {
            scale: self.cfg_scale.unwrap_or(of_model.scale),
            channels: self.cfg_channels.unwrap_or(of_model.channels),
            interval: self.cfg_interval,
        };
        check_guidance(model, guidance)?;
        let method = self.sampler.method(model)?;
        Ok(Order { method, guidance, noise: self.noise.clone(), init: self.init.clone(), batch: self.batch })
    }

    /// Which pictures are made, in order.
    ///
    /// # Errors
    /// When there is no such class, or too many pictures are asked for.
    pub fn jobs(&self, model: &ModelInfo) -> Result<Vec<Job>, RequestError> {
        jobs(&labels(&self.class_labels, model)?, &self.seeds, self.interpolate)
    }
}

/// A model ready to generate on the CPU: threads are started, memory is reserved.
///
/// ```no_run
/// use std::ops::ControlFlow;
/// use fcdm_runtime::{Model, Options};
///
/// let mut model = Model::open("clothes.fcdm")?;
/// let options = Options { class_labels: vec!["hat".into()], ..Options::default() };
/// let pictures = model.generate(&options, |_| ControlFlow::Continue(()))?;
/// std::fs::write("hat.png", pictures[0].to_png(&[]))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Model {
    generator: Generator,
}

impl Model {
    /// Opens the artifact at `path`, to run on all threads in any memory. Its weights are verified beside the work, and no picture is
    /// handed out that damaged ones made.
    ///
    /// # Errors
    /// When it is no artifact of this version, or this machine cannot run it.
    #[cfg(feature = "files")]
    pub fn open(path: impl AsRef<Path>) -> Result<Model, GenerateError> {
        Model::open_with(path, &Setup::default())
    }

    /// As [`Model::open`], on so many threads and in so much memory.
    ///
    /// # Errors
    /// As there.
    #[cfg(feature = "files")]
    pub fn open_with(path: impl AsRef<Path>, setup: &Setup) -> Result<Model, GenerateError> {
        let artifact = Arc::new(Artifact::open_unverified(path)?);
        #[cfg(feature = "threads")]
        {
            let verification = artifact.verify_in_background();
            Ok(Model { generator: Generator::new(artifact, setup)?.verifying(verification, || false) })
        }
        #[cfg(not(feature = "threads"))]
        {
            artifact.verify()?;
            Ok(Model { generator: Generator::new(artifact, setup)? })
        }
    }

    /// A model in memory, such as one that a program has in itself by `include_bytes!`.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_bytes(bytes: impl Into<crate::artifact::Bytes>) -> Result<Model, GenerateError> {
        Model::from_bytes_with(bytes, &Setup::default())
    }

    /// As [`Model::from_bytes`], on so many threads and in so much memory.
    ///
    /// # Errors
    /// As there.
    pub fn from_bytes_with(bytes: impl Into<crate::artifact::Bytes>, setup: &Setup) -> Result<Model, GenerateError> {
        Ok(Model { generator: Generator::new(Artifact::from_bytes("model in memory", bytes)?, setup)? })
    }

    /// What it is: classes and their names, sizes, how it is best sampled.
    pub fn info(&self) -> &ModelInfo {
        self.generator.model()
    }

    /// Height, width and channels of pictures; `None` if it makes latents and has no decoder.
    pub fn picture(&self) -> Option<[usize; 3]> {
        self.generator.picture()
    }

    /// Makes pictures. `progress` sees every step, with what the pictures are on the way to if the setup asked for previews, and may stop
    /// it all.
    ///
    /// # Errors
    /// See [`GenerateError`]; [`GenerateError::Stopped`] when `progress` said so.
    pub fn generate(
        &mut self,
        options: &Options,
        mut progress: impl FnMut(&mut Step<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Picture>, GenerateError> {
        let (order, jobs) = (options.order(self.info())?, options.jobs(self.info())?);
        order.check(jobs.len())?;
        self.generator.pictures(&order, &jobs, &mut progress)?.ok_or(GenerateError::Stopped)
    }
}

impl From<Generator> for Model {
    fn from(generator: Generator) -> Model {
        Model { generator }
    }
}
