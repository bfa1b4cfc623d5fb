//! From a checkpoint to an artifact: networks at every size asked for, the pipeline, the plan, the file.

use std::cell::RefCell;
use std::path::Path;

use fcdm_compiler::assemble::{AssembleError, Assembly, EntryPoint, Transformed, assemble};
use fcdm_compiler::weights::{WeightError, WeightSource};
use fcdm_compiler::winograd::Winograd;
use fcdm_ir::{Function, Module};
use fcdm_passes::{OPTIMISED, PLAIN, Pass, PassError, Report};
use fcdm_runtime::artifact::{ArtifactContents, ModelInfo, Prediction, TensorSource, WriteError, write};
use fcdm_runtime::check::{MAX_COUNT, check_plan};
use fcdm_runtime::plan::{Element, Plan};
use serde_json::json;
use thiserror::Error;

use super::config::Config;
use super::cost::{macs_by_stage, parameters_by_part};
use super::import::{Import, ImportError, Survey};
use super::network::{Size, network};

/// Rows of the condition's entry point: the steps of a schedule are evaluated in batches of this many, so that the
/// weights are read once per batch and not once per step.
pub const CONDITION_ROWS: usize = 64;

/// What to compile for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Batch sizes of the denoiser's entry points.
    pub batches: Vec<usize>,
    /// Height of the network's input.
    pub height: usize,
    /// Width of the network's input.
    pub width: usize,
    /// False: no fusions, the plain kernels in the order of the network.
    pub optimise: bool,
    /// Which 3x3 convolutions to compute by Winograd; none if not optimised.
    pub winograd: Winograd,
    /// One name a class, or none.
    pub class_names: Vec<String>,
    /// What weights of matrices are stored in.
    pub precision: Precision,
    /// Licence of the weights, if it is to be recorded.
    pub license: Option<String>,
    /// Record the source's file name and the trainer's arguments. Without it the artifact depends on weights and
    /// options alone.
    pub source: Option<String>,
}

/// What weights of products and convolutions are stored in. Everything else is f32, as is all of the timestep path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// As most checkpoints have them.
    #[default]
    F32,
    /// The first 8 bits of their fractions and all of their range; on a CPU with AVX-512 BF16 also the other factor.
    Bf16,
    /// The first 11 bits of their fractions, up to 65504.
    F16,
}

impl Precision {
    /// `f32`, `bf16` or `f16`.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
        }
    }

    /// The element type of a weight's panels. Rounded timestep MLPs would shift the times themselves.
    fn storage(self, weight: &str) -> Element {
        match self {
            _ if weight.starts_with("t_embedder") => Element::F32,
            Precision::F32 => Element::F32,
            Precision::Bf16 => Element::BF16,
            Precision::F16 => Element::F16,
        }
    }
}

/// Why there is no artifact.
#[derive(Debug, Error)]
pub enum CompileError {
    /// The checkpoint.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A tensor of the checkpoint.
    #[error(transparent)]
    Weight(#[from] WeightError),
    /// An option.
    #[error("{0}")]
    Option(String),
    /// A pass left invalid IR: a bug.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// The IR has no plan.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// The file.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The network's sizes.
    pub config: Config,
    /// What the look at the values found.
    pub survey: Survey,
    /// The pipeline as it ran on the first denoiser.
    pub passes: Report,
    /// Bytes of tensors.
    pub weight_bytes: u64,
    /// The weights held transformed for Winograd.
    pub transformed: Vec<Transformed>,
    /// The plan.
    pub plan: Plan,
    /// The artifact's checksum.
    pub checksum: String,
}

/// Who watches a compilation.
pub trait Observer {
    /// `done` of `total` bytes of a phase (`reading`, `packing`) are behind us. False stops the compilation.
    fn progress(&mut self, phase: &'static str, done: u64, total: u64) -> bool;
    /// A pass has run.
    fn pass(&mut self, pass: &'static Pass, module: &Module);
}

/// The networks of an artifact after the pipeline: entry points and the function of derived weights.
pub struct Compiled {
    /// `condition` at [`CONDITION_ROWS`], `denoise` at every batch size.
    pub entries: Vec<EntryPoint>,
    /// `@weights`, if anything was folded.
    pub weights: Option<Function>,
    /// The pipeline as it ran on the first denoiser.
    pub report: Report,
}

/// Builds and optimises the functions of an artifact; no weights are needed.
///
/// # Errors
/// [`PassError`] if a pass has a bug.
///
/// # Panics
/// If `batches` is empty, or a size is not one the network can have.
pub fn functions(cfg: &Config, options: &Options, observe: &mut dyn FnMut(&'static Pass, &Module)) -> Result<Compiled, PassError> {
    let pipeline = if options.optimise { OPTIMISED } else { PLAIN };
    let mut optimised = |batch: usize, watched: bool| {
        let f = network(cfg, Size { batch, height: options.height, width: options.width });
        let mut unwatched = |_: &'static Pass, _: &Module| {};
        let observe: &mut dyn FnMut(&'static Pass, &Module) = if watched { observe } else { &mut unwatched };
        fcdm_passes::run(pipeline, Module { functions: vec![f] }, observe)
    };
    let take = |m: &Module, name: &str| m.function(name).expect("hoisting splits every FCDM").clone();
    let (wide, _) = optimised(CONDITION_ROWS, false)?;
    let mut entries = vec![EntryPoint { function: take(&wide, "condition"), rows: CONDITION_ROWS }];
    let weights = wide.function(Module::WEIGHTS).cloned();
    let mut report = None;
    for &batch in &options.batches {
        let (m, r) = optimised(batch, report.is_none())?;
        report.get_or_insert(r);
        entries.push(EntryPoint { function: take(&m, "denoise"), rows: batch });
    }
    Ok(Compiled { entries, weights, report: report.expect("there is a batch size") })
}

/// Compiles a checkpoint and writes the artifact, whole or not at all.
///
/// # Errors
/// See [`CompileError`].
pub fn compile(import: &Import<'_>, options: &Options, path: &Path, observer: &mut dyn Observer) -> Result<Summary, CompileError> {
    let cfg = import.config();
    check(cfg, options)?;
    let compiled = functions(cfg, options, &mut |p, m| observer.pass(p, m))?;
    let passes = compiled.report;
    // In f32 whatever the precision: with a quarter of the products it beats bf16 arithmetic, which has half their price.
    let winograd = if options.optimise { options.winograd } else { Winograd::Never };
    let assembly = assemble(compiled.entries, compiled.weights.as_ref(), winograd, &|name| options.precision.storage(name))?;
    let transformed = assembly.transformed();
    // What no runtime would load is not written: an arena beyond all bounds, say.
    let stored = |name: &str| assembly.tensors.get(name).map(|u| (u.element, u.stored_shape()));
    check_plan(&assembly.plan, &stored).map_err(|e| CompileError::Option(e.to_string()))?;
    let survey = import.survey(&mut |done, total| observer.progress("reading", done * 4, total * 4))?;
    let survey = survey.ok_or(CompileError::Cancelled)?;

    let contents = ArtifactContents {
        plan: assembly.plan.clone(),
        model: model_info(cfg, options),
        ir: Some(assembly.ir.clone()),
        provenance: Some(provenance(import, options, &survey)),
        report: Some(report(cfg, options, &passes, &transformed)),
        license: options.license.clone(),
    };
    let weight_bytes = assembly.tensors.values().map(|u| u.stored_bytes() as u64).sum();
    let checksum = write_tensors(path, &contents, &assembly, import, observer)?;
    Ok(Summary { config: cfg.clone(), survey, passes, weight_bytes, transformed, plan: contents.plan, checksum })
}

fn check(cfg: &Config, options: &Options) -> Result<(), CompileError> {
    let wrong = |text: String| Err(CompileError::Option(text));
    for (what, value) in [("height", options.height), ("width", options.width)] {
        if value == 0 || value % 4 != 0 || value > 1 << 14 {
            return wrong(format!("size: {what} must be a multiple of 4 up to 16384, found {value}"));
        }
    }
    if options.batches.is_empty() || options.batches.iter().any(|&b| b == 0 || b > 1024) {
        return wrong(format!("batch: expected sizes of 1 to 1024, found {:?}", options.batches));
    }
    // The widest value inside of the network, per position of the input; levels 1 and 2 have a quarter and a sixteenth of those.
    let widest = cfg.expanded.iter().enumerate().map(|(l, e)| e.div_ceil(1 << (2 * l))).max().unwrap_or(0);
    let widest = widest.max(2 * cfg.hidden).max(cfg.in_channels).max(cfg.out_channels());
    let largest = options.batches.iter().max().expect("there is one") * options.height * options.width;
    if largest.checked_mul(widest).is_none_or(|n| n > MAX_COUNT) {
        let (h, w) = (options.height, options.width);
        return wrong(format!(
            "size and batch: expected values inside of the network of at most {MAX_COUNT} elements, found {largest} x {widest} for {h}x{w}"
        ));
    }
    let names = options.class_names.len();
    if names != 0 && names != cfg.num_classes {
        return wrong(format!("class names: the checkpoint has {} classes, found {names} names", cfg.num_classes));
    }
    Ok(())
}

fn model_info(cfg: &Config, options: &Options) -> ModelInfo {
    ModelInfo {
        prediction: if cfg.learn_sigma { Prediction::EpsVariance } else { Prediction::Velocity },
        in_channels: cfg.in_channels,
        out_channels: cfg.out_channels(),
        num_classes: cfg.num_classes,
        null_class: cfg.null_class,
        class_names: options.class_names.clone(),
        hidden: cfg.hidden,
        depths: cfg.depths.to_vec(),
        mlp_ratio: cfg.mlp_ratio(),
        height: options.height,
        width: options.width,
    }
}

fn provenance(import: &Import<'_>, options: &Options, survey: &Survey) -> serde_json::Value {
    let mut p = json!({
        "compiler": format!("fcdm {}", env!("CARGO_PKG_VERSION")),
        "weights_xxh3": format!("{:016x}", survey.fingerprint),
    });
    if let Some(source) = &options.source {
        p["source"] = json!(source);
        p["arguments"] = json!(import.arguments());
    }
    p
}

/// The passes as they ran: name, whether anything changed, instructions before and after.
pub fn passes_json(report: &Report) -> serde_json::Value {
    report.runs.iter().map(|r| json!({ "pass": r.pass, "fired": r.fired, "before": r.before, "after": r.after })).collect()
}

/// The convolutions computed by Winograd: weight, bytes, and the bytes that it would have otherwise.
pub fn winograd_json(transformed: &[Transformed]) -> serde_json::Value {
    transformed.iter().map(|t| json!({ "weight": t.weight, "bytes": t.bytes, "direct_bytes": t.direct_bytes })).collect()
}

fn report(cfg: &Config, options: &Options, passes: &Report, transformed: &[Transformed]) -> serde_json::Value {
    let f = network(cfg, Size { batch: 1, height: options.height, width: options.width });
    let list = |pairs: Vec<(String, u64)>| pairs.into_iter().map(|(k, v)| json!([k, v])).collect::<Vec<_>>();
    json!({
        "precision": options.precision.name(),
        "parameters": list(parameters_by_part(cfg).into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        "macs": list(macs_by_stage(&f)),
        "passes": passes_json(passes),
        "winograd": winograd_json(transformed),
    })
}

/// Why a tensor was not made and written.
enum Unmade {
    Disk(std::io::Error),
    Weight(WeightError),
}

impl From<WeightError> for Unmade {
    fn from(e: WeightError) -> Unmade {
        Unmade::Weight(e)
    }
}

fn write_tensors(
    path: &Path,
    contents: &ArtifactContents,
    assembly: &Assembly,
    weights: &dyn WeightSource,
    observer: &mut dyn Observer,
) -> Result<String, CompileError> {
    // The writer only knows errors of the disk; one of a weight is kept here and given back in its place.
    let failed: RefCell<Option<WeightError>> = RefCell::new(None);
    let keep = |e: Unmade| match e {
        Unmade::Disk(e) => e,
        Unmade::Weight(e) => {
            let text = e.to_string();
            *failed.borrow_mut() = Some(e);
            std::io::Error::other(text)
        }
    };
    let keep = &keep;
    let tensors = assembly.tensors.iter().map(|(name, usage)| {
        TensorSource::new(name.as_str(), usage.element, usage.stored_shape(), move |w| {
            assembly.pieces(usage, weights, &mut |piece| usage.write(w, &piece).map_err(Unmade::Disk)).map_err(keep)
        })
    });
    let go_on = std::cell::Cell::new(true);
    let mut progress = |done, total| go_on.set(observer.progress("packing", done, total));
    let written = write(path, contents, tensors.collect(), &|| !go_on.get(), &mut progress);
    match (written, failed.take()) {
        (_, Some(e)) => Err(e.into()),
        (Err(WriteError::Cancelled { .. }), None) => Err(CompileError::Cancelled),
        (Err(e), None) => Err(e.into()),
        (Ok(checksum), None) => Ok(checksum),
    }
}
