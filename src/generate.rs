//! `fcdm generate`: pictures from an artifact.

mod job;
mod method;
mod output;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use fcdm_models::tensors::{Extent, TensorFile, channels_last};
use fcdm_runtime::artifact::{Artifact, ModelInfo, Verification};
use fcdm_runtime::autoencoder::Decoder;
use fcdm_runtime::generate::{layout, sample};
use fcdm_runtime::network::{Network, check_guidance};
use fcdm_runtime::sampler::{GivenNoise, Guidance, GuidedChannels, Method, PictureNoise, Sampler, StepNoise, initial_state};

use crate::failure::Failure;
use crate::progress;
use job::Job;
use output::{Output, Preview};

/// Guidance scale of the official sampler.
const DEFAULT_SCALE: f64 = 1.5;

/// Generate pictures.
#[derive(Args)]
pub struct Arguments {
    /// The artifact [default: the model in the box, photographs of clothes, and a grid of them].
    model: Option<PathBuf>,
    /// Classes, by number or name, separated by commas; `null` is none [default: every class, if there are at most 20].
    #[arg(short = 'c', long, alias = "class-label", value_delimiter = ',')]
    class_labels: Vec<String>,
    /// Pictures of every class asked for.
    #[arg(short = 'n', long = "num", default_value_t = 1, conflicts_with = "seeds", value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Seed of the first picture; each further one adds 1.
    #[arg(short, long, default_value_t = 0)]
    seed: u64,
    /// Seeds `0-99` or `1,5,7-9`: every class with each of them.
    #[arg(long, conflicts_with_all = ["seed", "noise"])]
    seeds: Option<String>,
    #[command(flatten)]
    method: method::Arguments,
    /// Classifier-free guidance scale; 1 is none [default: what the artifact says, or 1.5, or 1 for a model
    /// without a null class].
    #[arg(long, alias = "guidance-scale")]
    cfg_scale: Option<f64>,
    /// Guided channels: `3`, the first three, as the official sampler does; or `all` that predict eps or velocity [default: what
    /// the artifact says, or 3].
    #[arg(long, value_parser = guided_channels)]
    cfg_channels: Option<GuidedChannels>,
    /// Guide only between these times: timestep / 1000 for diffusion, t for flow.
    #[arg(long, value_name = "LO,HI", value_parser = interval)]
    cfg_interval: Option<(f64, f64)>,
    /// Pictures generated together.
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Threads [default: as many as the machine runs at once].
    #[arg(short, long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Memory that decoding latents may take, such as 200MB; large pictures are then decoded in tiles.
    #[arg(long, value_name = "SIZE", value_parser = crate::progress::parse_size)]
    max_memory: Option<u64>,
    /// Show unfinished pictures as `preview.png` in the output folder, every 10 steps or every STEPS.
    #[arg(long, value_name = "STEPS", num_args = 0..=1, default_missing_value = "10", value_parser = clap::value_parser!(u32).range(1..))]
    preview: Option<u32>,
    #[command(flatten)]
    output: output::Arguments,
    /// Start from `noise [n,C,H,W]` of a safetensors file; stochastic samplers take `step_noise [steps,n,C,H,W]` from it.
    #[arg(long, value_name = "FILE")]
    noise: Option<PathBuf>,
    /// Print a summary as JSON.
    #[arg(long)]
    json: bool,
}

fn guided_channels(text: &str) -> Result<GuidedChannels, String> {
    match text {
        "3" => Ok(GuidedChannels::First3),
        "all" => Ok(GuidedChannels::AllEps),
        _ => Err("expected `3` or `all`".to_owned()),
    }
}

fn interval(text: &str) -> Result<(f64, f64), String> {
    let parsed = text.split_once(',').and_then(|(lo, hi)| Some((lo.trim().parse().ok()?, hi.trim().parse().ok()?)));
    parsed.ok_or_else(|| "expected two numbers, such as 0.1,0.9".to_owned())
}

/// Number of threads to use.
pub fn threads(asked: Option<u32>) -> usize {
    asked.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), |n| n as usize)
}

/// Runs the command.
pub fn run(a: &Arguments) -> Result<(), Failure> {
    progress::stop_on_interrupt();
    let artifact = crate::model::open(a.model.as_deref(), a.json)?;
    let checksum = artifact.metadata(fcdm_runtime::artifact::keys::CHECKSUM).unwrap_or_default().to_owned();
    let verification = artifact.verify_in_background();
    let mut network = Network::new(artifact.clone(), threads(a.threads))?;
    let model = network.model().clone();
    let guidance = guidance(a, &model);
    check_guidance(&model, guidance).map_err(Failure::usage)?;
    let method = a.method.method(&model).map_err(Failure::usage)?;
    let jobs = job::jobs(a, &model).map_err(Failure::usage)?;
    let noise_steps = Sampler::new(method, layout(&network, 1)).map_err(Failure::usage)?.noise_steps();
    let noise = a.noise.as_deref().map(|path| Noise::open(path, &model, jobs.len(), noise_steps)).transpose()?;
    let decoder = decoder(&artifact, &model, "decode", a)?;
    enough_memory(&network, jobs.len().min(a.batch as usize), jobs.len())?;
    let preview = preview(&artifact, &model, a)?;
    // Whoever names no model wants to see something.
    let grid = a.model.is_none().then_some(0);
    let mut output = Output::new(&a.output, &model, decoder, grid, jobs.len())?.with_given_noise(noise.is_some());
    let description = method::Description { method, guidance, model: &model, checksum: &checksum };
    let remaining = output.remaining(&jobs, &description);

    let started = Instant::now();
    let work = Work { a, method, guidance, noise, total: jobs.len() };
    let mut evaluated = 0;
    let mut add = |batch: &[Job], states: &[f32]| output.add(batch, states, &description);
    work.all(&mut network, &remaining, verification, preview, &mut evaluated, &mut add)?;
    let seconds = started.elapsed().as_secs_f64();
    output.finish(a.json, &jobs, remaining.len(), seconds, evaluated, &description)
}

/// Guidance as asked for, or as the artifact says, or as the official sampler has it.
fn guidance(a: &Arguments, model: &ModelInfo) -> Guidance {
    let recorded = model.sampling;
    let scale = a.cfg_scale.or(recorded.map(|s| s.cfg_scale)).unwrap_or(if model.null_class { DEFAULT_SCALE } else { 1.0 });
    let of_model = || if recorded.is_some_and(|s| s.all_channels) { GuidedChannels::AllEps } else { GuidedChannels::First3 };
    Guidance { scale, channels: a.cfg_channels.unwrap_or_else(of_model), interval: a.cfg_interval }
}

/// The artifact's decoder of that name, if it has an autoencoder.
fn decoder(artifact: &Arc<Artifact>, model: &ModelInfo, name: &'static str, a: &Arguments) -> Result<Option<Decoder>, Failure> {
    if artifact.autoencoder().is_none() {
        return Ok(None);
    }
    Ok(Some(Decoder::new(artifact, name, [model.height, model.width], threads(a.threads), a.max_memory)?))
}

/// What shows unfinished pictures: by the decoder for previews, if there is one, else by that for pictures.
fn preview(artifact: &Arc<Artifact>, model: &ModelInfo, a: &Arguments) -> Result<Option<Preview>, Failure> {
    if a.preview.is_none() {
        return Ok(None);
    }
    let cheap = artifact.plan().entries.iter().any(|e| e.name == "preview");
    let decoder = decoder(artifact, model, if cheap { "preview" } else { "decode" }, a)?;
    let line = || format!("preview: expected a model of pictures or one with a decoder, found latents of {} channels", model.in_channels);
    Preview::new(decoder, model, a.output.folder()).map(Some).ok_or_else(|| Failure::usage(line()))
}

/// Sampling, a batch after the other.
struct Work<'a> {
    a: &'a Arguments,
    method: Method,
    guidance: Guidance,
    noise: Option<Noise>,
    /// Pictures in all.
    total: usize,
}

impl Work<'_> {
    /// Samples the jobs; `add` takes every batch of final states.
    fn all(
        &self,
        network: &mut Network,
        jobs: &[Job],
        verification: Verification,
        mut preview: Option<Preview>,
        evaluated: &mut u64,
        add: &mut dyn FnMut(&[Job], &[f32]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (mut verification, batch_size) = (Some(verification), self.a.batch as usize);
        let mut bar = progress::steps(0, self.a.json);
        let state_len = network.state_len();
        let mut states = vec![0.0; jobs.len().min(batch_size) * state_len];
        for (i, batch) in jobs.chunks(batch_size).enumerate() {
            let labels: Vec<i32> = batch.iter().map(|j| j.label).collect();
            let states = &mut states[..batch.len() * state_len];
            let mut step_noise = start(&self.noise, batch, states);
            let mut failed = None;
            let mut after = |k: usize, steps: usize, states: &[f32]| {
                if k == 0 && i == 0 {
                    bar = progress::steps((steps * jobs.len().div_ceil(batch_size)) as u64, self.a.json);
                }
                *evaluated += 1;
                bar.set_message(self.message(batch));
                bar.set_position(*evaluated);
                let due = self.a.preview.is_some_and(|every| (k + 1) % every as usize == 0);
                if let Some(preview) = preview.as_mut().filter(|_| due) {
                    failed = preview.show(states, state_len).err();
                }
                let damaged = verification.as_ref().is_some_and(Verification::found_damage);
                if progress::stopped() || damaged || failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let done = sample(network, self.method, self.guidance, &labels, states, step_noise.as_mut(), &mut after);
            let done = done.map_err(Failure::usage)?;
            if let Some(failure) = failed {
                return Err(failure);
            }
            // Nothing is written that damaged weights may have made.
            let verified = verification.take().map_or(Ok(true), |v| v.wait(&progress::stopped))?;
            if !(done && verified) {
                bar.finish_and_clear();
                let finished = self.total - jobs.len() + i * batch_size;
                return Err(Failure::cancelled(format!("stopped; {finished} of {} pictures are finished", self.total)));
            }
            add(batch, states)?;
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn message(&self, batch: &[Job]) -> String {
        let (first, last) = (batch[0].index + 1, batch[batch.len() - 1].index + 1);
        let which = if batch.len() == 1 { format!("picture {last}") } else { format!("pictures {first}-{last}") };
        format!("{which} of {}", self.total)
    }
}

/// Asks the system once for all that `batch` states of `pictures` will take, and gives it back: a refusal now is a message, later
/// it would end the process.
fn enough_memory(network: &Network, batch: usize, pictures: usize) -> Result<(), Failure> {
    let (state, output) = (network.state_len() as u64, network.output_len() as u64);
    // State, noise, Heun's second input and the doubled state of guidance; the output, Heun's second and the doubled one. Latents
    // of all pictures are kept only where they are written, and then in two orders.
    let values = (batch as u64) * (5 * state + 4 * output) + pictures as u64 * state;
    let bytes = values.saturating_mul(4);
    let had = usize::try_from(bytes).is_ok_and(|n| Vec::<u8>::new().try_reserve_exact(n).is_ok());
    let line = || format!("there is no memory of {} for {pictures} pictures, {batch} at a time", progress::size(bytes));
    if had { Ok(()) } else { Err(Failure::new(1, line())) }
}

/// Starting noise of a batch into `states`, and the noise of its steps.
fn start(noise: &Option<Noise>, batch: &[Job], states: &mut [f32]) -> Box<dyn StepNoise> {
    let seeds: Vec<u64> = batch.iter().map(|j| j.seed).collect();
    let Some(given) = noise else {
        initial_state(&seeds, states);
        return Box::new(PictureNoise::new(seeds));
    };
    let state = states.len() / batch.len();
    for (job, to) in batch.iter().zip(states.chunks_exact_mut(state)) {
        to.copy_from_slice(&given.start[job.index * state..][..state]);
    }
    match given.steps(batch) {
        Some(steps) => Box::new(GivenNoise::new(steps)),
        None => Box::new(PictureNoise::new(seeds)),
    }
}

/// Noise given by the user, channels last.
struct Noise {
    start: Vec<f32>,
    /// `[steps, n, H, W, C]` and the number of steps.
    steps: Option<(Vec<f32>, usize)>,
    pictures: usize,
}

impl Noise {
    fn open(path: &std::path::Path, model: &ModelInfo, pictures: usize, noise_steps: usize) -> Result<Noise, Failure> {
        let file = TensorFile::open(path)?;
        let image = [model.in_channels, model.height, model.width];
        let state = [Extent::Is(pictures), Extent::Is(image[0]), Extent::Is(image[1]), Extent::Is(image[2])];
        let (_, start) = file.floats("noise", &state)?;
        let mut steps = None;
        if noise_steps > 0 && file.has("step_noise") {
            let expected = [&[Extent::AtLeast(noise_steps)], &state[..]].concat();
            let (shape, values) = file.floats("step_noise", &expected)?;
            steps = Some((channels_last(&values, image), shape[0]));
        }
        Ok(Noise { start: channels_last(&start, image), steps, pictures })
    }

    /// The steps' noise of a batch.
    fn steps(&self, batch: &[Job]) -> Option<Vec<f32>> {
        let (values, steps) = self.steps.as_ref()?;
        let state = values.len() / (steps * self.pictures);
        let of = |k: usize, job: &Job| &values[(k * self.pictures + job.index) * state..][..state];
        Some((0..*steps).flat_map(|k| batch.iter().flat_map(move |job| of(k, job))).copied().collect())
    }
}

/// A job's class as people call it.
pub fn class_name(job: &Job, model: &ModelInfo) -> String {
    let index = job.label as usize;
    match model.class_names.get(index) {
        Some(name) => name.clone(),
        None if index == model.num_classes => "null".to_owned(),
        None => format!("class{index}"),
    }
}
