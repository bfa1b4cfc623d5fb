//! Measures an artifact on this machine: the denoiser as a whole and step by step against what the machine can do, the
//! condition, memory, and the time from opening the file to the first result.
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
use crate::artifact::{Artifact, ArtifactError};
use crate::cost::Cost;
use crate::executor::{ExecutorError, Program};
use crate::network::{Network, NetworkError};
use crate::threads::Pool;
use others::Others;

/// What to measure, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Batch size of the denoiser; its smallest if `None`.
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
    /// The artifact has no denoiser of that batch size.
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
    /// Rows of the denoiser.
    pub batch: usize,
    /// Height and width of the network's input.
    pub size: [usize; 2],
    /// Number of threads.
    pub threads: usize,
    /// Instruction set.
    pub isa: &'static str,
    /// What this machine reaches on that instruction set and those threads.
    pub ceiling: Ceiling,
    /// Share of the processors' time that other processes took while the denoiser as a whole was timed, 0 to 1; above
    /// a few hundredths the figures are worth little. `None` where the system does not say, or not for so short a time.
    pub others_share: Option<f64>,
    /// The denoiser as a whole.
    pub denoise: Whole,
    /// The condition for all rows of its batch.
    pub condition: Whole,
    /// The denoiser by kernel, the slowest first.
    pub kernels: Vec<KernelProfile>,
    /// The denoiser by step, in the plan's order.
    pub steps: Vec<StepProfile>,
    /// What it occupies.
    pub memory: Memory,
    /// From nothing to the first result.
    pub start: Start,
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
pub struct Start {
    /// Opening the artifact, and verifying every byte.
    pub open_s: f64,
    /// Checking the plan, starting threads, reserving memory.
    pub load_s: f64,
    /// The first batch of the condition.
    pub condition_s: f64,
    /// The first evaluation of the denoiser.
    pub evaluation_s: f64,
    /// All of it.
    pub total_s: f64,
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
    let mut network = Network::new(artifact, options.threads)?;
    let size = [network.model().height, network.model().width];
    let executor = network.executor();
    let program = Arc::clone(executor.program());
    let (condition, denoise) = (first(&program, "condition"), denoiser(&program, options.batch)?);
    let loaded_s = start.elapsed().as_secs_f64();

    let mut conditions = Evaluation::new(&program, condition, None);
    conditions.run(executor);
    let condition_s = start.elapsed().as_secs_f64() - loaded_s;
    let repeat = options.repeat;
    let condition_times = Times::of(&repeat.times(|| conditions.run(executor)));
    // As in sampling, where the condition comes once and first.
    network.release_condition();
    let executor = network.executor();
    let mut evaluation = Evaluation::new(&program, denoise, Some((&conditions, &program.entries()[condition].outputs)));
    let begin = Instant::now();
    evaluation.run(executor);
    let evaluation_s = begin.elapsed().as_secs_f64();

    let (threads, isa) = (executor.threads(), executor.isa());
    let mut pool = Pool::new(threads).map_err(ExecutorError::from)?;
    let gflops = ceiling::gflops(&mut pool, isa);
    let others = Others::watch();
    let times = Times::of(&repeat.times(|| evaluation.run(executor)));
    let others_share = others.share();
    let seconds = profile::step_times(executor, &mut evaluation, repeat);
    let resident = Resident::now();

    let gflops = gflops.max(ceiling::gflops(&mut pool, isa));
    let ceiling = Ceiling { gflops, read_gb_s: ceiling::read_gb_s(&mut pool, isa)? };
    let steps = profile::by_step(&program.entries()[denoise].steps, &seconds, ceiling);
    let (arena_bytes, scratch_bytes) = executor.memory();
    Ok(Report {
        batch: program.entries()[denoise].rows,
        size,
        threads,
        isa: isa.name(),
        ceiling,
        others_share,
        denoise: Whole::new(&program, denoise, times),
        condition: Whole::new(&program, condition, condition_times),
        kernels: profile::by_kernel(&steps, ceiling),
        steps,
        memory: Memory { resident, arena_bytes, scratch_bytes, weight_bytes },
        start: Start { open_s, load_s: loaded_s - open_s, condition_s, evaluation_s, total_s: loaded_s + condition_s + evaluation_s },
        isas: match options.compare_isa {
            true => Some(isas::compare(&program, threads, &evaluation, repeat)?),
            false => None,
        },
    })
}

impl Whole {
    fn new(program: &Program, entry: usize, times: Times) -> Whole {
        let entry = &program.entries()[entry];
        let macs = entry.steps.iter().map(Cost::of).fold(Cost::default(), |a, b| a + b).macs;
        Whole { rows: entry.rows, times, macs, gflops: 2.0 * macs as f64 / times.median_s.max(1e-9) / 1e9 }
    }
}

/// The first entry of that name; [`Network::new`] has seen to it that there is one.
fn first(program: &Program, name: &str) -> usize {
    program.entries().iter().position(|e| e.name == name).expect("a network has a condition and a denoiser")
}

/// The denoiser of that batch size, or the smallest.
fn denoiser(program: &Program, batch: Option<usize>) -> Result<usize, BenchError> {
    let mut found: Vec<(usize, usize)> =
        program.entries().iter().enumerate().filter(|(_, e)| e.name == "denoise").map(|(i, e)| (e.rows, i)).collect();
    found.sort_unstable();
    let entry = match batch {
        None => found.first(),
        Some(rows) => found.iter().find(|(r, _)| *r == rows),
    };
    let expected = || found.iter().map(|(rows, _)| *rows).collect();
    entry.map(|(_, i)| *i).ok_or_else(|| BenchError::Batch { expected: expected(), found: batch.unwrap_or_default() })
}
