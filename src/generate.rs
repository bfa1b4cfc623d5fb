//! `fcdm generate`: pictures from an artifact.

mod method;
mod output;
mod start;

use std::hash::BuildHasher;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use fcdm_models::pictures::sheet_bytes;
use fcdm_runtime::artifact::{ModelInfo, keys};
use fcdm_runtime::generate::{Description, Event, Generator, Init, Job, Order, Seeds, Setup, Step, jobs, labels, seeds};
use fcdm_runtime::memory::f32s;
use fcdm_runtime::network::check_guidance;
use fcdm_runtime::sampler::{Guidance, GuidedChannels};

use crate::failure::Failure;
use crate::help::{MACHINE, OUTPUT, SAMPLING, WHAT, examples};
use crate::progress;
use output::{Output, Preview};

const EXAMPLES: &str = examples!(
    "fcdm generate",
    "fcdm generate --class-labels dress,shoes --num 4 --grid",
    "fcdm generate --class-labels hat --seed 7 --steps 20 --cfg-scale 3",
    "fcdm generate --init-image photo.jpg --strength 0.6 --class-labels shirt",
    "fcdm generate model.fcdm --class-labels 0-9 --seeds 0-99 --npz samples.npz",
    "fcdm generate model.fcdm --sampler dpm++2m --steps 20",
);

/// Generate pictures, with a compiled model or the one in the box.
///
/// The model in the box makes photographs of clothes: dress, hat, longsleeve, outwear, pants, shirt, shoes, shorts, skirt and t-shirt.
#[derive(Args)]
#[command(after_help = "More options, and examples: fcdm generate --help", after_long_help = EXAMPLES)]
pub struct Arguments {
    /// The .fcdm file [default: the model in the box].
    ///
    /// Without one, a grid of the pictures is written too.
    model: Option<PathBuf>,
    /// Class numbers, 0-9, or names [default: all].
    ///
    /// Separated by commas; `0-9` is a range of numbers, `null` is no class. The default is every class, where there are at most 20.
    #[arg(short = 'c', long, alias = "class-label", value_name = "CLASSES", value_delimiter = ',', help_heading = WHAT)]
    class_labels: Vec<String>,
    /// Pictures of every class.
    #[arg(short = 'n', long = "num", value_name = "N", default_value_t = 1, conflicts_with = "seeds", value_parser = clap::value_parser!(u32).range(1..), help_heading = WHAT)]
    count: u32,
    /// Seed of the first picture; -1 draws one.
    ///
    /// Each further picture adds 1. One that is drawn is said.
    #[arg(short, long, value_name = "SEED", default_value = "0", allow_negative_numbers = true, value_parser = seed, hide_default_value = true, help_heading = WHAT)]
    seed: Seed,
    /// Every class with each seed: 0-99 or 1,5.
    #[arg(long, value_name = "SEEDS", conflicts_with_all = ["seed", "noise"], help_heading = WHAT)]
    seeds: Option<String>,
    /// Also the way from each picture to the next.
    ///
    /// In this many steps: noise on the sphere, classes in a straight line.
    #[arg(long, value_name = "STEPS", conflicts_with = "noise", value_parser = clap::value_parser!(u32).range(2..=100_000), help_heading = WHAT)]
    interpolate: Option<u32>,
    #[command(flatten)]
    method: method::Arguments,
    /// Guidance scale [default: the model's].
    ///
    /// Classifier-free guidance; 1 is none. The default is what the model's file says, or 1.5, or 1 for a model without a null class.
    #[arg(long, alias = "guidance-scale", value_name = "SCALE", help_heading = SAMPLING)]
    cfg_scale: Option<f64>,
    /// Guided channels [default: the model's].
    ///
    /// `3`, the first three, as the official sampler does; or `all` that predict eps or velocity. The default is what the model's file
    /// says, or 3 of the official four, or all.
    #[arg(long, value_name = "3|all", value_parser = guided_channels, help_heading = SAMPLING)]
    cfg_channels: Option<GuidedChannels>,
    /// Guide between these times only.
    ///
    /// Such as 0.1,0.9. Times are timestep / 1000 for diffusion, t for flow.
    #[arg(long, value_name = "LO,HI", value_parser = interval, help_heading = SAMPLING)]
    cfg_interval: Option<(f64, f64)>,
    /// Begin from the noise of a safetensors file.
    ///
    /// It is `noise [n,C,H,W]`; stochastic samplers take `step_noise [steps,n,C,H,W]` from it.
    #[arg(long, value_name = "FILE", help_heading = SAMPLING, hide_short_help = true)]
    noise: Option<PathBuf>,
    #[command(flatten)]
    init: start::Arguments,
    #[command(flatten)]
    output: output::Arguments,
    /// Show unfinished pictures every 10 or STEPS steps.
    ///
    /// As `preview.png` in the output folder.
    #[arg(long, value_name = "STEPS", num_args = 0..=1, default_missing_value = "10", value_parser = clap::value_parser!(u32).range(1..), help_heading = OUTPUT)]
    preview: Option<u32>,
    /// Print a summary as JSON.
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
    /// Pictures generated together.
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096), help_heading = MACHINE)]
    batch: u32,
    /// Threads [default: all].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = MACHINE)]
    threads: Option<u32>,
    /// Memory that decoding may take, such as 200MB.
    ///
    /// Large pictures are then decoded in tiles.
    #[arg(long, value_name = "SIZE", value_parser = crate::progress::parse_size, help_heading = MACHINE)]
    max_memory: Option<u64>,
}

fn guided_channels(text: &str) -> Result<GuidedChannels, String> {
    match text {
        "3" => Ok(GuidedChannels::First3),
        "all" => Ok(GuidedChannels::AllEps),
        _ => Err("expected `3` or `all`".to_owned()),
    }
}

/// `--seed`.
#[derive(Clone, Copy)]
enum Seed {
    Is(u64),
    Drawn(u64),
}

fn seed(text: &str) -> Result<Seed, String> {
    // What the standard library keys its hash maps by is drawn from the system. 32 bits are easily typed again.
    let drawn = || std::collections::hash_map::RandomState::new().hash_one(std::process::id()) >> 32;
    match text {
        "-1" => Ok(Seed::Drawn(drawn())),
        _ => text.parse().map(Seed::Is).map_err(|_| "expected a number from 0 to 18446744073709551615, or -1 for any".to_owned()),
    }
}

fn interval(text: &str) -> Result<(f64, f64), String> {
    let parsed = text.split_once(',').and_then(|(lo, hi)| Some((lo.trim().parse().ok()?, hi.trim().parse().ok()?)));
    parsed.ok_or_else(|| "expected two numbers, such as 0.1,0.9".to_owned())
}

/// Number of threads to use.
pub fn threads(asked: Option<u32>) -> usize {
    asked.map_or_else(fcdm_runtime::threads::available, |n| n as usize)
}

/// Runs the command.
pub fn run(a: &Arguments) -> Result<(), Failure> {
    crate::signals::stop_when_asked();
    let artifact = crate::model::open(a.model.as_deref())?;
    let checksum = artifact.metadata(keys::CHECKSUM).unwrap_or_default().to_owned();
    let verification = artifact.verify_in_background();
    let setup = Setup { threads: threads(a.threads), max_memory: a.max_memory, previews: a.preview.is_some() };
    let mut generator = Generator::new(artifact.clone(), &setup)?.verifying(verification, crate::signals::stopped);
    let model = generator.model().clone();
    let guidance = guidance(a, &model);
    check_guidance(&model, guidance).map_err(Failure::usage)?;
    let method = a.method.choice().method(&model).map_err(Failure::usage)?;
    let jobs = asked(a, &model).map_err(Failure::usage)?;
    let noise_steps = generator.noise_steps(method).map_err(Failure::usage)?;
    let noise = a.noise.as_deref().map(|path| start::noise(path, &model, jobs.len(), noise_steps)).transpose()?;
    let given = a.init.open(&artifact, &model, setup.threads)?;
    let (init, text) = given.map(|g| (g.init, g.text)).unzip();
    if let Some(states) = init.as_ref().map(Init::count).filter(|&n| n != 1 && n != jobs.len()) {
        let line = format!("init-latents: expected one state, or one for each of the {} pictures, found {states}", jobs.len());
        return Err(Failure::usage(line));
    }
    let order = Order { method, guidance, noise, init, batch: a.batch as usize };
    // Whoever names no model wants to see something.
    let grid = a.model.is_none().then_some(0);
    enough_memory(&generator, &order, jobs.len(), &a.output, grid)?;
    let preview = preview(&generator, a)?;
    let mut output = Output::new(&a.output, &model, generator.picture(), grid, jobs.len())?;
    let size = generator.picture().map_or([model.height, model.width], |[h, w, _]| [h, w]);
    let given_noise = order.noise.is_some();
    let how = Description { method, guidance, init: text, given_noise, size, model: &model, checksum: &checksum };
    let remaining = output.remaining(&jobs, &how);

    let started = Instant::now();
    let work = Work { a, total: jobs.len(), preview };
    let evaluated = work.all(&mut generator, &order, &remaining, &how, &mut output)?;
    let seconds = started.elapsed().as_secs_f64();
    output.finish(a.json, &jobs, remaining.len(), seconds, evaluated, &how)
}

/// Guidance as asked for, or as the artifact says, or as the official sampler has it.
fn guidance(a: &Arguments, model: &ModelInfo) -> Guidance {
    let of_model = Guidance::of(model);
    Guidance {
        scale: a.cfg_scale.unwrap_or(of_model.scale),
        channels: a.cfg_channels.unwrap_or(of_model.channels),
        interval: a.cfg_interval,
    }
}

/// The pictures that are asked for.
fn asked(a: &Arguments, model: &ModelInfo) -> Result<Vec<Job>, String> {
    let labels = labels(&a.class_labels, model)?;
    let seeds = match &a.seeds {
        Some(text) => Seeds::Each(seeds(text)?),
        None => {
            if let Seed::Drawn(seed) = a.seed {
                crate::say::note(format!("seed {seed}"));
            }
            let (Seed::Is(first) | Seed::Drawn(first)) = a.seed;
            Seeds::From { first, count: a.count }
        }
    };
    jobs(&labels, &seeds, a.interpolate.map(|n| n as usize))
}

/// What shows unfinished pictures, if that is wanted.
fn preview(generator: &Generator, a: &Arguments) -> Result<Option<Preview>, Failure> {
    if a.preview.is_none() {
        return Ok(None);
    }
    let channels = generator.model().in_channels;
    let line = || format!("preview: expected a model of pictures or one with a decoder, found latents of {channels} channels");
    generator.has_previews().then(|| Some(Preview::new(a.output.folder()))).ok_or_else(|| Failure::usage(line()))
}

/// Asks for all that the pictures will take before the first is begun. Latents of all pictures are kept only where they are written, and
/// then twice.
fn enough_memory(g: &Generator, order: &Order, pictures: usize, a: &output::Arguments, grid: Option<usize>) -> Result<(), Failure> {
    let model = g.model();
    let latents = if a.keeps_latents(g.picture()) { f32s(&[2, pictures, model.height, model.width, model.in_channels]) } else { 0 };
    let sheet = g.picture().map_or(0, |shape| sheet_bytes(a.pictures.grid.or(grid), pictures, shape));
    let need = g.need(order, pictures).map_err(Failure::usage)?;
    Ok(need.with("latents", latents).with("contact sheet", sheet).reserve()?)
}

/// What a waiting person sees.
struct Work<'a> {
    a: &'a Arguments,
    /// Pictures in all.
    total: usize,
    preview: Option<Preview>,
}

impl Work<'_> {
    /// Makes the pictures and writes them. Returns the number of steps.
    fn all(
        self,
        generator: &mut Generator,
        order: &Order,
        jobs: &[Job],
        how: &Description<'_>,
        output: &mut Output<'_>,
    ) -> Result<u64, Failure> {
        let mut bar = progress::steps(0);
        let (mut evaluated, mut finished, mut failed) = (0, self.total - jobs.len(), None);
        let done = generator.run(order, jobs, &mut |event| {
            // Pictures that are finished are written, whatever was asked for meanwhile.
            let step = matches!(event, Event::Step(_));
            let told = match event {
                Event::Step(mut step) => {
                    if evaluated == 0 {
                        bar = progress::steps((step.progress.steps * jobs.len().div_ceil(order.batch)) as u64);
                    }
                    evaluated += 1;
                    bar.set_message(self.message(step.jobs));
                    bar.set_position(evaluated);
                    self.show(&mut step)
                }
                Event::Finished { job, state, picture } => {
                    finished += 1;
                    output.add(job, state, picture, how)
                }
            };
            failed = told.err();
            if step && crate::signals::stopped() || failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let done = done?;
        bar.finish_and_clear();
        match failed {
            Some(failure) => Err(failure),
            None if !done => Err(Failure::cancelled(format!("stopped; {finished} of {} pictures are finished", self.total))),
            None => Ok(evaluated),
        }
    }

    /// Shows a preview when one is due.
    fn show(&self, step: &mut Step<'_>) -> Result<(), Failure> {
        let due = self.a.preview.is_some_and(|every| (step.progress.step + 1).is_multiple_of(every as usize));
        match self.preview.as_ref().filter(|_| due) {
            Some(preview) => preview.show(step),
            None => Ok(()),
        }
    }

    fn message(&self, batch: &[Job]) -> String {
        let (first, last) = (batch[0].index + 1, batch[batch.len() - 1].index + 1);
        let which = if batch.len() == 1 { format!("picture {last}") } else { format!("pictures {first}-{last}") };
        format!("{which} of {}", self.total)
    }
}
