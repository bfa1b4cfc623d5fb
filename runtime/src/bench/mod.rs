//! Measures an entry point of an artifact on this machine: as a whole and step by step against what the machine can do, with a
//! denoiser its condition, memory, and the time from opening the file to the first result.
//!
//! Whole evaluations are timed without the clock between the steps; the profile comes from runs of its own. Memory is
//! read before anything is made that a user of the network would not have. The ceiling is measured before and after, for
//! a machine that others use too may be slow at one of the two times.

mod ceiling;
mod evaluation;
mod isas;
mod memory;
mod others;
mod profile;
mod timing;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use thiserror::Error;

pub use ceiling::Ceiling;
pub use evaluation::Evaluation;
pub use isas::IsaProfile;
pub use memory::Resident;
pub use profile::{KernelProfile, Rate, StepProfile, kernel_name};
pub use timing::{Repeat, Times};

use crate::arena::ArenaError;
use crate::artifact::{Artifact, ArtifactError, few, one_line};
use crate::cost::Cost;
use crate::engine::Cpu;
use crate::entry_name::{DecoderKind, EntryName};
use crate::entry_points::EntryPoints;
use crate::executor::{Executor, ExecutorError, Program};
use crate::memory::{Need, f32s};
use crate::network::{Network, NetworkError};
use crate::plan::Entry;
use crate::simd::Isa;
use crate::threads::Pool;
use others::Others;

/// What to measure, and how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which entry point; `None` is the denoiser, or, in an artifact without one, the decoder.
    pub entry: Option<String>,
    /// Its batch size; its smallest if `None`.
    pub batch: Option<usize>,
    /// Number of threads.
    pub threads: usize,
    /// Of whole evaluations; the profile and the condition get as many runs.
    pub repeat: Repeat,
    /// Also time every instruction set that this CPU has.
    pub compare_isa: bool,
}

/// What cannot be measured.
#[derive(Debug, Error)]
pub enum BenchError {
    /// The artifact has no entry point of that name.
    #[error("entry: expected one of {}, found `{found}`", few(expected))]
    Entry {
        /// Those it has.
        expected: Vec<String>,
        /// What was asked for.
        found: String,
    },
    /// The artifact has no such entry point of that batch size.
    #[error("batch: expected one of {expected:?}, found {found}")]
    Batch {
        /// Those it has.
        expected: Vec<usize>,
        /// What was asked for.
        found: usize,
    },
    /// The file.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The network cannot be run.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

impl From<ExecutorError> for BenchError {
    fn from(e: ExecutorError) -> BenchError {
        NetworkError::from(e).into()
    }
}

impl From<ArenaError> for BenchError {
    fn from(e: ArenaError) -> BenchError {
        ExecutorError::from(e).into()
    }
}

/// What was found. Times are in seconds, memory in bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The entry point.
    pub entry: String,
    /// Its rows.
    pub batch: usize,
    /// Height and width of its input image; 0 if it has none.
    pub size: [usize; 2],
    /// Number of threads.
    pub threads: usize,
    /// Instruction set.
    pub isa: &'static str,
    /// What this machine reaches on that instruction set and those threads.
    pub ceiling: Ceiling,
    /// Share of the processors' time that other processes took while it was timed as a whole, 0 to 1; above
    /// a few hundredths the figures are worth little. `None` where the system does not say, or not for so short a time.
    pub others_share: Option<f64>,
    /// The entry point as a whole.
    pub evaluation: Whole,
    /// A denoiser's condition, for all rows of its batch.
    pub condition: Option<Whole>,
    /// By kernel, the slowest first.
    pub kernels: Vec<KernelProfile>,
    /// By step, in the plan's order.
    pub steps: Vec<StepProfile>,
    /// What it occupies.
    pub memory: Memory,
    /// From nothing to the first result.
    pub start: FirstResult,
    /// Every instruction set, if asked for.
    pub isas: Option<Vec<IsaProfile>>,
}

/// Whole evaluations of an entry point.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Whole {
    /// Its batch size.
    pub rows: usize,
    /// Of one evaluation.
    #[serde(flatten)]
    pub times: Times,
    /// Multiply-accumulates of one evaluation.
    pub macs: u64,
    /// 1e9 operations a second at the median, two for a multiply-accumulate.
    pub gflops: f64,
}

/// Memory after the network has been loaded and evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// The process.
    #[serde(flatten)]
    pub resident: Resident,
    /// Values of a run.
    pub arena_bytes: usize,
    /// Scratch of all threads.
    pub scratch_bytes: usize,
    /// All tensors of the artifact, which are mapped from the file.
    pub weight_bytes: u64,
}

/// How the first result came about; the parts in order.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FirstResult {
    /// Opening the artifact, and verifying every byte.
    pub open_s: f64,
    /// Checking the plan, starting threads, reserving memory.
    pub load_s: f64,
    /// The first batch of the condition; 0 where there is none.
    pub condition_s: f64,
    /// The first evaluation.
    pub evaluation_s: f64,
    /// All of it.
    pub total_s: f64,
}

/// What runs the entry point that is measured.
enum Held {
    Network(Box<Network>),
    Alone(Executor),
}

/// The executor of a network that was loaded on the CPU.
fn on_cpu(network: &mut Network) -> &mut Executor {
    network.engine().as_executor().expect("it was loaded on the CPU")
}

impl Held {
    fn executor(&mut self) -> &mut Executor {
        match self {
            Held::Network(network) => on_cpu(network),
            Held::Alone(executor) => executor,
        }
    }
}

/// Measures the artifact at `path`.
///
/// # Errors
/// See [`BenchError`].
pub fn bench(path: &Path, options: &Options) -> Result<Report, BenchError> {
    let start = Instant::now();
    let artifact = Artifact::open(path)?;
    let open_s = start.elapsed().as_secs_f64();
    let weight_bytes = artifact.tensors().map(|(_, _, _, bytes)| bytes.len() as u64).sum();
    let name = options.entry.clone().unwrap_or_else(|| {
        let default = if artifact.model().is_some() { EntryName::Denoise } else { EntryName::Decode(DecoderKind::Own, None) };
        default.to_string()
    });
    let mut held = load(artifact, &name, options)?;
    let program = Arc::clone(held.executor().program());
    let index = find(&program, &name, options.batch)?;
    enough_memory(&program, index, held.executor(), options)?;
    let loaded_s = start.elapsed().as_secs_f64();

    let repeat = options.repeat;
    let (conditions, condition) = match &mut held {
        Held::Network(network) => {
            let entry = program.entries().iter().position(|e| e.is(EntryName::Condition)).expect("a network has a condition");
            let mut evaluation = Evaluation::new(&program, entry, None);
            evaluation.run(on_cpu(network));
            let first_s = start.elapsed().as_secs_f64() - loaded_s;
            let times = Times::of(&repeat.times(|| evaluation.run(on_cpu(network))));
            // As in sampling, where the condition comes once and first.
            network.release_condition();
            (Some((evaluation, entry)), Some((Whole::new(&program, entry, times), first_s)))
        }
        Held::Alone(_) => (None, None),
    };
    let given = conditions.as_ref().map(|(evaluation, entry)| (evaluation, &*program.entries()[*entry].outputs));
    let mut evaluation = Evaluation::new(&program, index, given);
    let executor = held.executor();
    let begin = Instant::now();
    evaluation.run(executor);
    let evaluation_s = begin.elapsed().as_secs_f64();

    let (threads, isa) = (executor.threads(), program.isa());
    let mut pool = Pool::new(threads).map_err(ExecutorError::from)?;
    let gflops = ceiling::gflops(&mut pool, isa);
    let others = Others::watch();
    let times = Times::of(&repeat.times(|| evaluation.run(executor)));
    let others_share = others.share();
    let seconds = profile::step_times(executor, &mut evaluation, repeat);
    let resident = Resident::now();

    let gflops = gflops.max(ceiling::gflops(&mut pool, isa));
    let ceiling = Ceiling { gflops, read_gb_s: ceiling::read_gb_s(&mut pool, isa)? };
    let entry = &program.entries()[index];
    let steps = profile::by_step(&entry.steps, &seconds, ceiling);
    let (arena_bytes, scratch_bytes) = executor.memory();
    let condition_s = condition.map_or(0.0, |(_, s)| s);
    Ok(Report {
        entry: name,
        batch: entry.rows,
        size: entry.inputs.iter().find_map(|p| <[usize; 4]>::try_from(&*p.shape).ok()).map_or([0, 0], |[_, h, w, _]| [h, w]),
        threads,
        isa: isa.name(),
        ceiling,
        others_share,
        evaluation: Whole::new(&program, index, times),
        condition: condition.map(|(whole, _)| whole),
        kernels: profile::by_kernel(&steps, ceiling),
        steps,
        memory: Memory { resident, arena_bytes, scratch_bytes, weight_bytes },
        start: FirstResult { open_s, load_s: loaded_s - open_s, condition_s, evaluation_s, total_s: loaded_s + condition_s + evaluation_s },
        isas: match options.compare_isa {
            true => Some(isas::compare(&program, threads, &evaluation, repeat)?),
            false => None,
        },
    })
}

/// Asks for the ports of what is measured, and for whatever other instruction sets take beside it.
fn enough_memory(program: &Program, index: usize, executor: &Executor, options: &Options) -> Result<(), BenchError> {
    let ports = |entry: &Entry| {
        let ports = entry.inputs.iter().chain(&entry.outputs);
        ports.fold(0u64, |sum, port| sum.saturating_add(f32s(&port.shape)))
    };
    let measured = &program.entries()[index];
    let condition = program.entries().iter().find(|e| e.is(EntryName::Condition) && measured.is(EntryName::Denoise));
    let (values, scratch) = executor.memory();
    let each = ports(measured).saturating_add(values as u64).saturating_add(scratch as u64);
    let sets = if options.compare_isa { Isa::NAMES.len() as u64 } else { 0 };
    let need = Need::of(format!("measuring `{}`", one_line(&measured.name)))
        .held("values and scratch", (values as u64).saturating_add(scratch as u64))
        .with("inputs and outputs", ports(measured))
        .with("condition", condition.map_or(0, ports))
        .with("instruction sets", each.saturating_mul(sets));
    Ok(need.reserve().map_err(ExecutorError::from)?)
}

/// Makes what its users would have: a network for the denoiser, the entry point alone for any other.
fn load(artifact: Artifact, name: &str, options: &Options) -> Result<Held, BenchError> {
    if name.parse() == Ok(EntryName::Denoise) {
        return Ok(Held::Network(Box::new(Network::new(artifact, &Cpu::new(options.threads)?)?)));
    }
    EntryPoints::of(&artifact)?;
    let mut plan = artifact.plan().clone();
    let mut expected: Vec<String> = plan.entries.iter().map(|e| e.name.clone()).collect();
    plan.entries.retain(|e| e.name == name);
    if plan.entries.is_empty() {
        expected.dedup();
        return Err(BenchError::Entry { expected, found: name.to_owned() });
    }
    let file = artifact.path().display().to_string();
    let isa = Isa::from_env().map_err(ExecutorError::from)?;
    let program = Program::load(plan, Arc::new(artifact), isa).map_err(|source| NetworkError::Plan { file, source })?;
    Ok(Held::Alone(Executor::new(Arc::new(program), options.threads)?))
}

impl Whole {
    fn new(program: &Program, entry: usize, times: Times) -> Whole {
        let entry = &program.entries()[entry];
        let macs = entry.steps.iter().map(Cost::of).fold(Cost::default(), |a, b| a + b).macs;
        Whole { rows: entry.rows, times, macs, gflops: 2.0 * macs as f64 / times.median_s.max(1e-9) / 1e9 }
    }
}

/// The entry point of that name and batch size, or the smallest.
fn find(program: &Program, name: &str, batch: Option<usize>) -> Result<usize, BenchError> {
    let mut found: Vec<(usize, usize)> =
        program.entries().iter().enumerate().filter(|(_, e)| e.name == name).map(|(i, e)| (e.rows, i)).collect();
    found.sort_unstable();
    let entry = match batch {
        None => found.first(),
        Some(rows) => found.iter().find(|(r, _)| *r == rows),
    };
    let expected = || found.iter().map(|(rows, _)| *rows).collect();
    entry.map(|(_, i)| *i).ok_or_else(|| BenchError::Batch { expected: expected(), found: batch.unwrap_or_default() })
}
