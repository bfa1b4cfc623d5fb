//! `fcdm generate`: pictures from an artifact.

mod job;
mod method;
mod output;
mod start;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use fcdm_runtime::artifact::{Artifact, ModelInfo};
use fcdm_runtime::autoencoder::Decoder;
use fcdm_runtime::generate::layout;
use fcdm_runtime::network::{Network, check_guidance};
use fcdm_runtime::sampler::{Guidance, GuidedChannels, Sampler};

use crate::failure::Failure;
use crate::progress;
use job::Job;
use output::{Output, Preview};
use start::{Init, Noise};
use work::Work;

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
    init: start::Arguments,
    /// Also the way from each picture asked for to the next, in this many steps: noise on the sphere, classes in a straight line.
    #[arg(long, value_name = "STEPS", conflicts_with = "noise", value_parser = clap::value_parser!(u32).range(2..=100_000))]
    interpolate: Option<u32>,
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
    let init = a.init.open(&artifact, &model, threads(a.threads))?;
    let decoder = decoder(&artifact, &model, "decode", a)?;
    enough_memory(&network, jobs.len().min(a.batch as usize), jobs.len())?;
    let preview = preview(&artifact, &model, a)?;
    // Whoever names no model wants to see something.
    let grid = a.model.is_none().then_some(0);
    let mut output = Output::new(&a.output, &model, decoder, grid, jobs.len())?.with_given_noise(noise.is_some());
    let (init_text, size) = (init.as_ref().map(Init::text), output.size().unwrap_or([model.height, model.width]));
    let description = method::Description { method, guidance, init: init_text, size, model: &model, checksum: &checksum };
    let remaining = output.remaining(&jobs, &description);

    let started = Instant::now();
    let work = Work { a, method, guidance, noise, init, total: jobs.len() };
    let mut evaluated = 0;
    let mut add = |batch: &[Job], states: &[f32]| output.add(batch, states, work.init.as_ref(), &description);
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

/// Asks the system once for all that `batch` states of `pictures` will take, and gives it back: a refusal now is a message, later
/// it would end the process.
fn enough_memory(network: &Network, batch: usize, pictures: usize) -> Result<(), Failure> {
    let (state, output) = (network.state_len() as u64, network.output_len() as u64);
    // State, noise, Heun's second input, the doubled state of guidance, what it begins from with its noise, and six that a
    // solver of several steps remembers; the output, Heun's second and the doubled one. Latents of all pictures are kept only where
    // they are written, and then in two orders.
    let values = (batch as u64) * (13 * state + 4 * output) + pictures as u64 * state;
    let bytes = values.saturating_mul(4);
    let had = usize::try_from(bytes).is_ok_and(|n| Vec::<u8>::new().try_reserve_exact(n).is_ok());
    let line = || format!("there is no memory of {} for {pictures} pictures, {batch} at a time", progress::size(bytes));
    if had { Ok(()) } else { Err(Failure::new(1, line())) }
}

/// A class as people call it.
pub fn class_name(label: i32, model: &ModelInfo) -> String {
    let index = label as usize;
    match model.class_names.get(index) {
        Some(name) => name.clone(),
        None if index == model.num_classes => "null".to_owned(),
        None => format!("class{index}"),
    }
}
