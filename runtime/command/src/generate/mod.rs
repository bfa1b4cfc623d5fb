//! Pictures from an artifact: options, and the work with its progress.

mod method;
mod output;

use std::hash::BuildHasher;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use fcdm_runtime::artifact::{Artifact, ModelInfo, keys};
use fcdm_runtime::generate::{Description, Event, Generator, Job, Options, Order, Seeds, Setup, Step, seeds};
use fcdm_runtime::memory::f32s;
use fcdm_runtime::picture::files::sheet_bytes;
use fcdm_runtime::request::RequestError;
use fcdm_runtime::sampler::GuidedChannels;
use fcdm_runtime::simd::Isa;

use crate::failure::Failure;
use crate::help::{MACHINE, OUTPUT, SAMPLING, WHAT};
use crate::{progress, say};
pub use method::Kind as Sampler;
pub use output::Done;
use output::{Output, Preview};

/// What to generate, and how.
#[derive(Args)]
#[group(skip)]
pub struct Arguments {
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
    #[arg(long, value_name = "SEEDS", conflicts_with = "seed", help_heading = WHAT)]
    seeds: Option<String>,
    /// Also the way from each picture to the next.
    ///
    /// In this many steps: noise on the sphere, classes in a straight line.
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u32).range(2..=100_000), help_heading = WHAT)]
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

impl Arguments {
    /// Threads to use.
    pub fn threads(&self) -> usize {
        crate::threads(self.threads)
    }

    /// Makes an artifact, whose weights are not verified yet, ready to do what is asked for.
    ///
    /// # Errors
    /// When it cannot be run here, or is asked for what it cannot do.
    pub fn begin(&self, artifact: Arc<Artifact>) -> Result<Work<'_>, Failure> {
        let verification = artifact.verify_in_background();
        let setup = Setup { threads: self.threads(), max_memory: self.max_memory, previews: self.preview.is_some() };
        let generator = Generator::new(artifact, &setup)?.verifying(verification, crate::signals::stopped);
        let (options, model) = (self.options()?, generator.model());
        let (order, jobs) = (options.order(model)?, options.jobs(model)?);
        if let (None, Seed::Drawn(seed)) = (&self.seeds, self.seed) {
            say::note(format!("seed {seed}"));
        }
        Ok(Work { a: self, generator, order, jobs, from: None, grid: self.output.pictures.grid })
    }

    fn options(&self) -> Result<Options, RequestError> {
        let (Seed::Is(first) | Seed::Drawn(first)) = self.seed;
        let seeds = match &self.seeds {
            Some(text) => Seeds::Each(seeds(text)?),
            None => Seeds::From { first, count: self.count },
        };
        Ok(Options {
            class_labels: self.class_labels.clone(),
            seeds,
            sampler: self.method.choice(),
            cfg_scale: self.cfg_scale,
            cfg_channels: self.cfg_channels,
            cfg_interval: self.cfg_interval,
            interpolate: self.interpolate.map(|n| n as usize),
            batch: self.batch as usize,
            ..Options::default()
        })
    }
}

/// What is asked for, ready to be made.
pub struct Work<'a> {
    a: &'a Arguments,
    generator: Generator,
    /// How pictures are made; a caller adds what it begins from and noise that it has.
    pub order: Order,
    /// Which pictures.
    jobs: Vec<Job>,
    /// What it begins from, as text for the end of the pictures' parameters.
    pub from: Option<String>,
    /// Columns of a contact sheet, 0 for what suits.
    pub grid: Option<usize>,
}

impl<'a> Work<'a> {
    /// The model.
    pub fn model(&self) -> &ModelInfo {
        self.generator.model()
    }

    /// The artifact.
    pub fn artifact(&self) -> &Arc<Artifact> {
        self.generator.artifact()
    }

    /// Whether there will be pictures, and not latents alone.
    pub fn has_pictures(&self) -> bool {
        self.generator.picture().is_some()
    }

    /// Number of pictures.
    pub fn count(&self) -> usize {
        self.jobs.len()
    }

    /// How many steps, from the first, ask for noise.
    ///
    /// # Errors
    /// When there is no such sampler.
    pub fn noise_steps(&self) -> Result<usize, Failure> {
        Ok(self.generator.noise_steps(self.order.method)?)
    }

    /// Makes the pictures and writes them.
    ///
    /// # Errors
    /// Before anything is made where that can be known.
    pub fn run(self) -> Result<Done<'a>, Failure> {
        let Work { a, mut generator, order, jobs, from, grid } = self;
        order.check(jobs.len())?;
        a.output.pictures.goes_with_json(a.json)?;
        let bytes = enough_memory(&generator, &order, jobs.len(), &a.output, grid)?;
        let model = generator.model().clone();
        let checksum = generator.artifact().metadata(keys::CHECKSUM).unwrap_or_default().to_owned();
        let size = generator.picture().map_or([model.height, model.width], |[h, w, _]| [h, w]);
        let (method, guidance, given_noise) = (order.method, order.guidance, order.noise.is_some());
        let how = Description { method, guidance, init: from, given_noise, size, model: &model, checksum: &checksum };
        let mut output = Output::new(&a.output, &model, generator.picture(), grid, jobs.len())?;
        let remaining = output.remaining(&jobs, &how)?;
        let preview = preview(&generator, a)?;

        let started = Instant::now();
        let evaluated = Making { a, total: jobs.len(), preview }.all(&mut generator, &order, &remaining, &how, &mut output)?;
        let seconds = started.elapsed().as_secs_f64();
        let mut done = output.finish(a.json, &jobs, remaining.len(), seconds, evaluated, &how)?;
        if say::is_verbose() {
            let isa = Isa::from_env().map_or("unknown", Isa::name);
            done.add(format!("{isa}, {} threads, {} of memory", a.threads(), progress::size(bytes)));
            done.add(format!("artifact: checksum {checksum}"));
        }
        Ok(done)
    }
}

/// What shows unfinished pictures, if that is wanted.
fn preview(generator: &Generator, a: &Arguments) -> Result<Option<Preview>, Failure> {
    if a.preview.is_none() {
        return Ok(None);
    }
    let channels = generator.model().in_channels;
    let line = || format!("preview: expected a model of pictures or one with a decoder, found latents of {channels} channels");
    if !generator.has_previews() {
        return Err(Failure::usage(line()));
    }
    a.output.folder().map(|folder| Some(Preview::new(&folder)))
}

/// Asks for all that the pictures will take before the first is begun. Latents of all pictures are kept only where they are written, and
/// then twice. Returns the bytes.
fn enough_memory(g: &Generator, order: &Order, pictures: usize, a: &output::Arguments, grid: Option<usize>) -> Result<u64, Failure> {
    let model = g.model();
    let latents = if a.keeps_latents(g.picture()) { f32s(&[2, pictures, model.height, model.width, model.in_channels]) } else { 0 };
    let sheet = g.picture().map_or(0, |shape| sheet_bytes(grid, pictures, shape));
    let need = g.need(order, pictures)?.with("latents", latents).with("contact sheet", sheet);
    need.reserve()?;
    Ok(need.bytes())
}

/// What a waiting person sees.
struct Making<'a> {
    a: &'a Arguments,
    /// Pictures in all.
    total: usize,
    preview: Option<Preview>,
}

impl Making<'_> {
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
