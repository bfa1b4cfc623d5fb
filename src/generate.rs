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
use fcdm_runtime::generate::{Request, layout, sample};
use fcdm_runtime::network::{Class, Network, check_guidance};
use fcdm_runtime::sampler::{GivenNoise, Guidance, GuidedChannels, PictureNoise, Sampler, StepNoise, initial_state};

use crate::failure::Failure;
use crate::progress;
use job::Job;
use output::Output;

/// Guidance scale of the official sampler.
const DEFAULT_SCALE: f64 = 1.5;

/// Generate pictures.
#[derive(Args)]
pub struct Arguments {
    /// The artifact.
    model: PathBuf,
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
    /// Classifier-free guidance scale; 1 is none [default: 1.5, or 1 for a model without a null class].
    #[arg(long, alias = "guidance-scale")]
    cfg_scale: Option<f64>,
    /// Guided channels: `3`, the first three, as the official sampler does; or `all` that predict eps or velocity.
    #[arg(long, default_value = "3", value_parser = guided_channels)]
    cfg_channels: GuidedChannels,
    /// Guide only between these times: timestep / 1000 for diffusion, t for flow.
    #[arg(long, value_name = "LO,HI", value_parser = interval)]
    cfg_interval: Option<(f64, f64)>,
    /// Pictures generated together.
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Threads [default: as many as the machine runs at once].
    #[arg(short, long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
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
    let artifact = Arc::new(Artifact::open_unverified(&a.model)?);
    let checksum = artifact.metadata(fcdm_runtime::artifact::keys::CHECKSUM).unwrap_or_default().to_owned();
    let model = artifact.model().clone();
    let scale = a.cfg_scale.unwrap_or(if model.null_class { DEFAULT_SCALE } else { 1.0 });
    let guidance = Guidance { scale, channels: a.cfg_channels, interval: a.cfg_interval };
    check_guidance(&model, guidance).map_err(Failure::usage)?;
    let method = a.method.method(&model).map_err(Failure::usage)?;
    let jobs = job::jobs(a, &model).map_err(Failure::usage)?;
    let mut verification = Some(artifact.verify_in_background());
    let mut network = Network::new(artifact, threads(a.threads))?;
    let noise_steps = Sampler::new(method, layout(&network, 1)).map_err(Failure::usage)?.noise_steps();
    let noise = a.noise.as_deref().map(|path| Noise::open(path, &model, jobs.len(), noise_steps)).transpose()?;
    enough_memory(&network, jobs.len().min(a.batch as usize), jobs.len())?;
    let mut output = Output::new(&a.output, &model, jobs.len())?.with_given_noise(noise.is_some());

    let description = method::Description { method, guidance, model: &model, checksum: &checksum };
    let started = Instant::now();
    let mut bar = progress::steps(0, a.json);
    let mut evaluated = 0;
    for (first, batch) in jobs.chunks(a.batch as usize).enumerate().map(|(i, b)| (i * a.batch as usize, b)) {
        let classes: Vec<Class> = batch.iter().map(|j| j.label.into()).collect();
        let seeds: Vec<u64> = batch.iter().map(|j| j.seed).collect();
        let mut states = vec![0.0; batch.len() * network.state_len()];
        let mut step_noise = start(&noise, first, &seeds, &mut states);
        let mut after = |k: usize, steps: usize, _: &[f32]| {
            if k == 0 && first == 0 {
                bar = progress::steps((steps * jobs.len().div_ceil(a.batch as usize)) as u64, a.json);
            }
            evaluated += 1;
            let last = first + batch.len();
            let which = if batch.len() == 1 { format!("picture {last}") } else { format!("pictures {}-{last}", first + 1) };
            bar.set_message(format!("{which} of {}", jobs.len()));
            bar.set_position(evaluated);
            let damaged = verification.as_ref().is_some_and(Verification::found_damage);
            if progress::stopped() || damaged { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let done = sample(&mut network, &Request::new(method, guidance, &classes), &mut states, step_noise.as_mut(), &mut after);
        let done = done.map_err(Failure::usage)?;
        // Nothing is written that damaged weights may have made.
        let verified = verification.take().map_or(Ok(true), |v| v.wait(&progress::stopped))?;
        if !(done && verified) {
            bar.finish_and_clear();
            return Err(Failure::cancelled(format!("stopped; {first} of {} pictures are finished", jobs.len())));
        }
        output.add(first, batch, &states, &description)?;
    }
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    output.finish(a.json, &jobs, seconds, evaluated, &description)
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
fn start(noise: &Option<Noise>, first: usize, seeds: &[u64], states: &mut [f32]) -> Box<dyn StepNoise> {
    match noise {
        None => initial_state(seeds, states),
        Some(given) => {
            let from = first * (states.len() / seeds.len());
            states.copy_from_slice(&given.start[from..from + states.len()]);
            if let Some(steps) = given.steps(first, seeds.len()) {
                return Box::new(GivenNoise::new(steps));
            }
        }
    }
    Box::new(PictureNoise::new(seeds.to_vec()))
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

    /// The steps' noise of `count` pictures from `first` on.
    fn steps(&self, first: usize, count: usize) -> Option<Vec<f32>> {
        let (values, steps) = self.steps.as_ref()?;
        let state = values.len() / (steps * self.pictures);
        let of_step = |k: usize| &values[(k * self.pictures + first) * state..][..count * state];
        Some((0..*steps).flat_map(of_step).copied().collect())
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
