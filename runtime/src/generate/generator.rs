//! An artifact ready to generate: batch by batch, with a callback that sees every step and every picture, and may stop.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::begin::{Init, Noise, starting_noise};
use super::description::named;
use super::job::Job;
use super::model::Options;
use super::sample::{Known, Progress, Request, Start, layout, sample};
use super::shown::Shown;
#[cfg(feature = "threads")]
use crate::artifact::Verification;
use crate::artifact::{Artifact, ArtifactError, ModelInfo};
use crate::autoencoder::Decoder;
use crate::engine::{Cpu, Device};
use crate::entry_name::DecoderKind;
use crate::memory::{Need, NoMemory, bytes, f32s};
use crate::network::{Class, Guided, Network, NetworkError};
use crate::picture::Picture;
use crate::request::RequestError;
use crate::sampler::{Guidance, Layout, Method, Sampler};
use crate::threads;

/// What a generator may take.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Number of threads.
    pub threads: usize,
    /// Bytes that decoding latents may take; large pictures are then decoded in tiles.
    pub max_memory: Option<u64>,
    /// Whether unfinished pictures will be looked at, which may take a decoder of their own.
    pub previews: bool,
}

impl Default for Setup {
    /// All threads, any memory, no previews.
    fn default() -> Self {
        Setup { threads: threads::available(), max_memory: None, previews: false }
    }
}

/// How pictures are made.
#[derive(Clone, Debug)]
pub struct Order {
    /// The sampler.
    pub method: Method,
    /// Guidance.
    pub guidance: Guidance,
    /// Noise given by the user, in place of that of the seeds.
    pub noise: Option<Noise>,
    /// What to begin from, if not from noise alone.
    pub init: Option<Init>,
    /// Pictures made together.
    pub batch: usize,
}

impl Order {
    /// As the model is best sampled.
    ///
    /// # Errors
    /// None that a valid description gives.
    pub fn new(model: &ModelInfo) -> Result<Order, RequestError> {
        Options::default().order(model)
    }

    /// Whether what is given goes with so many pictures.
    ///
    /// # Errors
    /// When it is of another number.
    pub fn check(&self, pictures: usize) -> Result<(), RequestError> {
        let states = self.init.as_ref().map_or(1, Init::count);
        if states != 1 && states != pictures {
            return Err(RequestError::new("init-latents", format!("one state, or one for each of the {pictures} pictures"), states));
        }
        match self.noise.as_ref().map_or(pictures, Noise::count) {
            count if count != pictures => Err(RequestError::new("noise", format!("a state for each of the {pictures} pictures"), count)),
            _ => Ok(()),
        }
    }
}

/// What cannot be generated.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// Method, guidance, classes or known states do not go with the model.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The weights are damaged.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The plan does not do on this machine.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The machine has not the memory that it takes.
    #[error(transparent)]
    NoMemory(#[from] NoMemory),
    /// Whoever watches the progress ended it.
    #[error("stopped")]
    Stopped,
}

/// A step of a batch that is done.
pub struct Step<'a> {
    /// The batch.
    pub jobs: &'a [Job],
    /// Where it is.
    pub progress: &'a Progress<'a>,
    preview: Option<&'a mut Shown>,
    clean: &'a mut Vec<f32>,
}

impl Step<'_> {
    /// What the pictures of the batch are on the way to, as far as the network knows by now; `None` if no previews were asked for or
    /// states cannot be shown.
    pub fn preview(&mut self) -> Option<Vec<Picture>> {
        let shown = self.preview.as_mut()?;
        self.clean.resize(self.progress.states.len(), 0.0);
        self.progress.estimate(self.clean);
        Some(self.clean.chunks_exact(self.clean.len() / self.jobs.len()).map(|state| shown.picture(state)).collect())
    }
}

/// What happens while pictures are made.
pub enum Event<'a> {
    /// A step is done.
    Step(Step<'a>),
    /// A picture is finished.
    Finished {
        /// Which.
        job: &'a Job,
        /// Its final state `[H,W,C]`.
        state: &'a [f32],
        /// `None` if states cannot be shown.
        picture: Option<Picture>,
    },
}

/// What is not yet known of the weights.
#[derive(Default)]
struct Verdict {
    #[cfg(feature = "threads")]
    of: Option<(Verification, fn() -> bool)>,
}

impl Verdict {
    fn found_damage(&self) -> bool {
        #[cfg(feature = "threads")]
        return self.of.as_ref().is_some_and(|(verification, _)| verification.found_damage());
        #[cfg(not(feature = "threads"))]
        false
    }

    /// False if it was cancelled.
    fn wait(&mut self) -> Result<bool, ArtifactError> {
        #[cfg(feature = "threads")]
        return self.of.take().map_or(Ok(true), |(verification, cancelled)| verification.wait(&cancelled));
        #[cfg(not(feature = "threads"))]
        Ok(true)
    }
}

/// An artifact ready to generate.
pub struct Generator {
    artifact: Arc<Artifact>,
    network: Network,
    shown: Option<Shown>,
    preview: Option<Shown>,
    verdict: Verdict,
}

impl Generator {
    /// On the CPU: checks the plan, starts the threads and reserves the memory of denoiser and decoders.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn new(artifact: impl Into<Arc<Artifact>>, setup: &Setup) -> Result<Generator, NetworkError> {
        Generator::on(artifact, setup, &Cpu::new(setup.threads)?)
    }

    /// As [`Generator::new`], on any device.
    ///
    /// # Errors
    /// As there.
    pub fn on(artifact: impl Into<Arc<Artifact>>, setup: &Setup, device: &dyn Device) -> Result<Generator, NetworkError> {
        let artifact = artifact.into();
        let network = Network::new(artifact.clone(), device)?;
        let model = network.model();
        let decoder = |kind: DecoderKind| match artifact.autoencoder() {
            None => Ok(None),
            Some(_) => Decoder::new(&artifact, kind, [model.height, model.width], device, setup.max_memory).map(Some),
        };
        let shown = Shown::new(decoder(DecoderKind::Own)?, model);
        // By the decoder for previews, if there is one, else by that for pictures.
        let has_cheap = artifact.plan().entries.iter().any(|e| e.decoder_kind() == Some(DecoderKind::Preview));
        let cheap = if has_cheap { DecoderKind::Preview } else { DecoderKind::Own };
        let preview = match setup.previews {
            true => Shown::new(decoder(cheap)?, model),
            false => None,
        };
        Ok(Generator { artifact, network, shown, preview, verdict: Verdict::default() })
    }

    /// Waits for a verification that goes on in the background before it hands out the first picture, and breaks off when damage
    /// is found. `cancelled` ends the waiting.
    #[cfg(feature = "threads")]
    pub fn verifying(mut self, verification: Verification, cancelled: fn() -> bool) -> Generator {
        self.verdict = Verdict { of: Some((verification, cancelled)) };
        self
    }

    /// The artifact.
    pub fn artifact(&self) -> &Arc<Artifact> {
        &self.artifact
    }

    /// The model's description.
    pub fn model(&self) -> &ModelInfo {
        self.network.model()
    }

    /// Height, width and channels of pictures; `None` if states cannot be shown.
    pub fn picture(&self) -> Option<[usize; 3]> {
        self.shown.as_ref().map(Shown::shape)
    }

    /// Whether [`Step::preview`] has something to show.
    pub fn has_previews(&self) -> bool {
        self.preview.is_some()
    }

    /// How many steps of a sampler, counted from the first, ask for noise.
    ///
    /// # Errors
    /// When it does not go with the model.
    pub fn noise_steps(&self, method: Method) -> Result<usize, RequestError> {
        Ok(self.sampler(method)?.noise_steps())
    }

    /// The sampler of a single position of one state: its times are those of all, and its buffers grow with the positions alone.
    fn sampler(&self, method: Method) -> Result<Sampler, RequestError> {
        Ok(Sampler::new(method, Layout { positions: 1, ..layout(&self.network, 1) })?)
    }

    /// What making pictures takes: what the generator holds already, states, the sampler's buffers, guidance, what is begun from, the
    /// condition of all steps, and the pictures of a batch.
    ///
    /// # Errors
    /// When the method does not go with the model, or asks at times that this was not compiled for.
    pub fn need(&self, order: &Order, pictures: usize) -> Result<Need, RequestError> {
        let sampler = self.sampler(order.method)?;
        let first = sampler.first_step(order.init.as_ref().map_or(1.0, Init::strength))?;
        let times = sampler.evaluations().into_iter().skip(sampler.evaluations_before(first));
        let (name, steps) = named(order.method);
        self.model().check_times(times.map(|t| t as f32), |_| ("steps", format!("{steps} steps of {name}")))?;
        let batch = order.batch.clamp(1, pictures.max(1));
        let state = f32s(&[batch, self.network.state_len()]);
        // Where clean states are given they are copied, and so is the noise that the run begins with.
        let states = state.saturating_mul(if order.init.is_some() { 3 } else { 1 });
        let model = self.network.model();
        let buffers = bytes(&[batch, model.height, model.width], sampler.bytes() as u64);
        let noise = order.noise.as_ref().map_or(0, |noise| state.saturating_mul(noise.steps_given() as u64));
        let picture = |shown: &Shown| bytes(&shown.shape(), 1);
        // A preview is estimated from the states, and its pictures are shown together on a sheet.
        let previews = self.preview.as_ref().map_or(0, |p| (picture(p).saturating_mul(3 * batch as u64)).saturating_add(state));
        Ok(Need::of(format!("{pictures} pictures, {batch} at a time"))
            .held("denoiser", self.network.held_bytes())
            .held("decoder", self.shown.iter().chain(&self.preview).map(Shown::held_bytes).fold(0, u64::saturating_add))
            .with("states", states.saturating_add(noise))
            .with("sampler", buffers)
            .with("condition and guidance", Guided::bytes(&self.network, batch, sampler.evaluations().len()))
            .with("picture", self.shown.as_ref().map_or(0, picture))
            .with("previews", previews))
    }

    /// Makes pictures, and tells `on` of every step and every picture; both may break off. Returns whether it ran to the end.
    ///
    /// # Errors
    /// See [`GenerateError`].
    pub fn run(&mut self, order: &Order, jobs: &[Job], on: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>) -> Result<bool, GenerateError> {
        if let (Some(noise), Some(last)) = (&order.noise, jobs.iter().map(|job| job.index).max())
            && last >= noise.count()
        {
            return Err(RequestError::new("noise", format!("a state for picture {last} too"), noise.count()).into());
        }
        self.need(order, jobs.len())?.reserve()?;
        let Generator { network, shown, preview, verdict, .. } = self;
        let (state_len, size) = (network.state_len(), order.batch.max(1));
        let mut states = vec![0.0; jobs.len().min(size) * state_len];
        let mut estimate = Vec::new();
        for batch in jobs.chunks(size) {
            let classes: Vec<Class> = batch.iter().map(Job::class).collect();
            let clean = order.init.as_ref().map(|init| init.states(batch));
            let states = &mut states[..batch.len() * state_len];
            let mut noise = starting_noise(order.noise.as_ref(), batch, states);
            let mut request = Request::new(order.method, order.guidance, &classes);
            if let (Some(init), Some(clean)) = (&order.init, &clean) {
                request.start = Some(Start { clean, strength: init.strength() });
                request.known = init.mask().map(|mask| Known { clean, mask });
            }
            let mut after = |progress: &Progress<'_>| {
                let told = on(Event::Step(Step { jobs: batch, progress, preview: preview.as_mut(), clean: &mut estimate }));
                if verdict.found_damage() { ControlFlow::Break(()) } else { told }
            };
            let done = sample(network, &request, states, &mut *noise, &mut after)?;
            // Nothing is handed out that damaged weights may have made.
            if !(verdict.wait()? && done) {
                return Ok(false);
            }
            for (job, state) in batch.iter().zip(states.chunks_exact(state_len)) {
                let mut picture = shown.as_mut().map(|shown| shown.picture(state));
                if let (Some(picture), Some(init)) = (&mut picture, &order.init) {
                    init.restore(picture);
                }
                if on(Event::Finished { job, state, picture }).is_break() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Makes pictures and keeps them in memory; `after` sees every step and may break off, and then there are none.
    ///
    /// # Errors
    /// See [`GenerateError`]; also when states cannot be shown.
    pub fn pictures(
        &mut self,
        order: &Order,
        jobs: &[Job],
        after: &mut dyn FnMut(&mut Step<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Vec<Picture>>, GenerateError> {
        if self.shown.is_none() {
            let found = format!("latents of {} channels", self.model().in_channels);
            return Err(RequestError::new("model", "one of pictures or one with a decoder", found).into());
        }
        let each = self.picture().map_or(0, |shape| bytes(&shape, 1));
        Need::of(format!("{} pictures", jobs.len())).with("pictures", each.saturating_mul(jobs.len() as u64)).reserve()?;
        let mut pictures = Vec::with_capacity(jobs.len());
        let done = self.run(order, jobs, &mut |event| match event {
            Event::Step(mut step) => after(&mut step),
            Event::Finished { picture, .. } => {
                pictures.extend(picture);
                ControlFlow::Continue(())
            }
        })?;
        Ok(done.then_some(pictures))
    }
}
