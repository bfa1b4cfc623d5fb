//! `fcdm bench`: how fast an artifact is on this machine, and where the time goes. What is measured and how is in
//! `fcdm_runtime::bench`; here it is printed.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use fcdm_compiler::kind::is_onnx;
use fcdm_runtime::bench::{self, IsaProfile, Options, Rate, Repeat, Report, StepProfile, Whole};
use serde_json::json;

use crate::failure::Failure;
use crate::failure::mistaken::{Wanted, opened};
use crate::help::{MACHINE, MEASURE, OUTPUT, examples};
use crate::onnx::{self, Backend, Measure};
use crate::progress::size;
use crate::say::{self, inline, sayln};

/// Steps listed without `--profile`.
const SLOWEST: usize = 10;

/// Share of the processors' time in other hands above which a warning is due.
const BUSY: f64 = 0.05;

const EXAMPLES: &str = examples!(
    "fcdm bench model.fcdm",
    "fcdm bench model.fcdm --entry decode --threads 4",
    "fcdm bench model.fcdm --profile",
    "fcdm bench model.onnx --shape input=1x3x224x224 --backend tract",
);

/// Measure how fast a model is on this machine.
///
/// Time of a step, of its parts with --profile or --verbose, against what the machine can do; memory; time to the first result.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Arguments {
    /// The .fcdm file, or an ONNX model.
    ///
    /// Of an ONNX model whole evaluations are timed.
    model: PathBuf,
    /// Who evaluates an ONNX model: fcdm or tract.
    #[arg(long, value_enum, value_name = "NAME", hide_possible_values = true, help_heading = MEASURE)]
    backend: Option<Backend>,
    /// Shape of an ONNX model's input; may be repeated.
    ///
    /// Such as input=1x3x224x224.
    #[arg(long, value_name = "NAME=SHAPE", value_parser = onnx::shape, help_heading = MEASURE)]
    shape: Vec<(String, Vec<usize>)>,
    /// denoise, decode, encode or preview.
    ///
    /// The default is denoise, or decode in a file without a denoiser.
    #[arg(long, value_name = "NAME", help_heading = MEASURE)]
    entry: Option<String>,
    /// One of the batch sizes that it was compiled for.
    ///
    /// The default is the smallest.
    #[arg(short, long, value_name = "N", help_heading = MEASURE)]
    batch: Option<usize>,
    /// Runs that are timed, at the least.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = MEASURE)]
    runs: u32,
    /// Seconds that are timed, at the least.
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = seconds, help_heading = MEASURE)]
    seconds: f64,
    /// Runs before those that count.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=1_000_000), help_heading = MEASURE)]
    warmup: u32,
    /// Also time every instruction set of this CPU.
    #[arg(long, help_heading = MEASURE)]
    compare_isa: bool,
    /// List every step, in order, with its time.
    #[arg(long, help_heading = OUTPUT)]
    profile: bool,
    /// Print everything as JSON.
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
    /// Threads [default: all].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = MACHINE)]
    threads: Option<u32>,
}

/// At most an hour.
fn seconds(text: &str) -> Result<f64, String> {
    let parsed = text.parse().ok().filter(|s| (0.0..=3600.0).contains(s));
    parsed.ok_or_else(|| "expected a number of seconds from 0 to 3600".to_owned())
}

/// Runs the command.
pub fn run(a: &Arguments) -> Result<(), Failure> {
    let time = Duration::from_secs_f64(a.seconds);
    let options = Options {
        entry: a.entry.clone(),
        batch: a.batch,
        threads: fcdm_command::threads(a.threads),
        repeat: Repeat { warmup: a.warmup as usize, runs: a.runs as usize, time },
        compare_isa: a.compare_isa,
    };
    if is_onnx(&a.model) {
        let (threads, repeat) = (options.threads, options.repeat);
        let backend = a.backend.unwrap_or_default();
        return onnx::bench(&Measure { path: &a.model, shapes: &a.shape, backend, threads, repeat, json: a.json });
    }
    if a.backend.is_some() || !a.shape.is_empty() {
        return Err(Failure::usage("--backend and --shape: they are for ONNX models"));
    }
    let report = opened(&a.model, Wanted::Artifact, bench::bench(&a.model, &options))?;
    if a.json {
        say::json(&json!(report));
        return Ok(());
    }
    summary(a, &report);
    let inside = a.profile || say::is_verbose();
    if inside {
        details(&report);
        kernels(&report);
    }
    if a.profile {
        steps("steps, in order", &report.steps.iter().collect::<Vec<_>>());
    } else if inside {
        let mut slowest: Vec<&StepProfile> = report.steps.iter().collect();
        slowest.sort_by(|a, b| b.rate.seconds.total_cmp(&a.rate.seconds));
        slowest.truncate(SLOWEST);
        steps(&format!("slowest steps, {} of {}", slowest.len(), report.steps.len()), &slowest);
    }
    isas(report.isas.as_deref().unwrap_or_default());
    Ok(())
}

fn summary(a: &Arguments, r: &Report) {
    let [height, width] = r.size;
    sayln!("{}: batch {}, {height}x{width}, {} threads, {}", a.model.display(), r.batch, r.threads, r.isa);
    let (times, of_peak) = (&r.evaluation.times, 100.0 * r.evaluation.gflops / r.ceiling.gflops);
    let (median, fastest) = (ms(times.median_s), ms(times.minimum_s));
    sayln!("{}: {median} ms (median of {} runs, fastest {fastest}), {of_peak:.0} % of the CPU's peak", inline(&r.entry), times.runs);
    sayln!("start to first result: {} ms", ms(r.start.total_s));
    sayln!("memory: peak {}", r.memory.resident.peak_bytes.map_or_else(|| "unknown".to_owned(), size));
    if let Some(others) = r.others_share.filter(|&share| share > BUSY) {
        sayln!("other processes: {:.0} % of the processors, too many for figures worth keeping", 100.0 * others);
    }
}

/// Where these figures come from.
fn details(r: &Report) {
    sayln!("\n{}: {}, {:.1} % of the ceiling", inline(&r.entry), whole(&r.evaluation), 100.0 * r.evaluation.gflops / r.ceiling.gflops);
    if let Some(condition) = &r.condition {
        sayln!("condition: {}", whole(condition));
    }
    sayln!("ceiling, measured: {:.1} GFLOP/s on registers, {:.1} GB/s read from memory", r.ceiling.gflops, r.ceiling.read_gb_s);
    if let Some(others) = r.others_share {
        sayln!("other processes: {:.0} % of the processors", 100.0 * others);
    }
    let bytes = |b: Option<u64>| b.map_or_else(|| "unknown".to_owned(), size);
    let m = &r.memory;
    sayln!(
        "memory: now {} allocated, {} of files; arena {}, scratch {}, weights {}",
        bytes(m.resident.anonymous_bytes),
        bytes(m.resident.file_bytes),
        size(m.arena_bytes as u64),
        size(m.scratch_bytes as u64),
        size(m.weight_bytes)
    );
    let [open, load, condition, evaluation] = [r.start.open_s, r.start.load_s, r.start.condition_s, r.start.evaluation_s].map(ms);
    sayln!("start: verify the file {open} ms, load {load}, condition {condition}, evaluate {evaluation}");
}

fn whole(w: &Whole) -> String {
    let rows = if w.rows == 1 { "row" } else { "rows" };
    format!(
        "{} ms for {} {rows}, median of {} runs (minimum {}), {:.1} GFLOP/s",
        ms(w.times.median_s),
        w.rows,
        w.times.runs,
        ms(w.times.minimum_s),
        w.gflops
    )
}

/// Milliseconds with four significant digits or so.
fn ms(seconds: f64) -> String {
    let ms = seconds * 1e3;
    match ms {
        100.0.. => format!("{ms:.0}"),
        10.0.. => format!("{ms:.1}"),
        1.0.. => format!("{ms:.2}"),
        _ => format!("{ms:.3}"),
    }
}

/// Heads of the columns that [`rate`] fills.
const RATES: &str = "       ms  time %    MMAC  GFLOP/s  ceiling %       MB     GB/s";

fn rate(r: &Rate) -> String {
    let products = match r.macs {
        0 => format!("{:>8} {:>8} {:>10}", "-", "-", "-"),
        _ => format!("{:>8.2} {:>8.1} {:>10.1}", r.macs as f64 / 1e6, r.gflops, 100.0 * r.gflops_share),
    };
    format!("{:>9} {:>7.1} {products} {:>8.2} {:>8.1}", ms(r.seconds), 100.0 * r.time_share, r.bytes as f64 / 1e6, r.gb_s)
}

fn kernels(r: &Report) {
    sayln!("\nkernels of {}, with a clock between the steps", inline(&r.entry));
    sayln!("{RATES}  steps  kernel");
    for k in &r.kernels {
        sayln!("{} {:>6}  {}", rate(&k.rate), k.steps, k.kernel);
    }
}

fn steps(title: &str, steps: &[&StepProfile]) {
    sayln!("\n{title}");
    sayln!("{RATES}  step: kernel, operands");
    for s in steps {
        let shapes = |list: &[Vec<usize>]| list.iter().map(|s| shape(s)).collect::<Vec<_>>().join(" ");
        sayln!("{}  %{}: {} {} -> {}", rate(&s.rate), inline(&s.label), s.kernel, shapes(&s.inputs), shapes(&s.outputs));
    }
}

/// `1x32x32x128`.
fn shape(extents: &[usize]) -> String {
    extents.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

fn isas(isas: &[IsaProfile]) {
    if isas.is_empty() {
        return;
    }
    sayln!("\ninstruction sets, in turn\n       ms  minimum   runs  to best  to scalar, relative L2");
    for i in isas {
        let (median, minimum) = (ms(i.times.median_s), ms(i.times.minimum_s));
        sayln!("{median:>9} {minimum:>8} {:>6} {:>8.2}  {:<9.1e} {}", i.times.runs, i.ratio, i.relative_l2_to_scalar, i.isa);
    }
}
