//! From trained networks to an artifact: functions at every size asked for, the pipeline, the plan, the file.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use fcdm_compiler::assemble::{AssembleError, Assembly, EntryPoint, assemble};
use fcdm_compiler::target::Target;
use fcdm_compiler::weights::{Stored, WeightError, WeightSource, WeightUse};
use fcdm_compiler::winograd::Winograd;
use fcdm_ir::{Builder, Function, Module};
use fcdm_passes::partition::Copier;
use fcdm_passes::{OPTIMISED, PLAIN, Pass, PassError, Report};
use fcdm_runtime::artifact::{ArtifactContents, Sampling, TensorSource, WriteError, write};
use fcdm_runtime::check::check_plan;
use fcdm_runtime::encoding::Encoding;
use fcdm_runtime::plan::Plan;
use serde_json::{Value, json};
use thiserror::Error;

use crate::autoencoder::{Autoencoder, entries as autoencoder};
use crate::fcdm::cost::{macs_by_stage, parameters_by_part};
use crate::fcdm::{self, Config, Import};
use crate::import::{ImportError, Sources, Survey};

/// The networks of an artifact, any of which may be missing.
#[derive(Clone, Copy, Default)]
pub struct Networks<'a> {
    /// The denoiser.
    pub fcdm: Option<&'a Import>,
    /// From its latents to pictures, and back.
    pub autoencoder: Option<&'a Autoencoder>,
    /// A cheaper decoder of the same latents, for looking at unfinished ones.
    pub preview: Option<&'a Autoencoder>,
}

impl<'a> Networks<'a> {
    fn autoencoders(self) -> impl Iterator<Item = &'a Autoencoder> {
        self.autoencoder.into_iter().chain(self.preview)
    }

    fn sources(self) -> Sources<'a> {
        let fcdm = self.fcdm.map(|i| i as &dyn WeightSource);
        Sources(fcdm.into_iter().chain(self.autoencoders().map(|a| a as &dyn WeightSource)).collect())
    }

    /// What a look at all values finds, by the names of the fingerprints in the artifact's provenance.
    fn surveys(self, progress: Progress<'_>) -> Result<Option<Vec<(&'static str, Survey)>>, ImportError> {
        let mut all = Vec::new();
        let mut keep = |name, found: Option<Survey>| found.map(|s| all.push((name, s))).is_some();
        let mut done = true;
        if let Some(import) = self.fcdm {
            done = keep("weights_xxh3", import.survey(progress)?);
        }
        for (name, a) in [("autoencoder_xxh3", self.autoencoder), ("preview_xxh3", self.preview)] {
            if let (true, Some(a)) = (done, a) {
                done = keep(name, a.survey(progress)?);
            }
        }
        Ok(done.then_some(all))
    }
}

/// Told how many of how many values have been read; false stops it.
type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// What to compile for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Batch sizes of the denoiser's entry points.
    pub batches: Vec<usize>,
    /// Height of the latents, or of the pictures of a denoiser of pixels.
    pub height: usize,
    /// Width of the same.
    pub width: usize,
    /// False: no fusions, the plain kernels in the order of the network.
    pub optimise: bool,
    /// Which 3x3 convolutions to compute by Winograd; none if not optimised.
    pub winograd: Winograd,
    /// One name a class, or none.
    pub class_names: Vec<String>,
    /// What weights of matrices are stored in.
    pub precision: Precision,
    /// The decoder of the autoencoder.
    pub decoder: bool,
    /// Its encoder.
    pub encoder: bool,
    /// Bytes that decoding may take, as [`fcdm_runtime::autoencoder::decoding_bytes`] counts them.
    pub max_memory: Option<u64>,
    /// How to sample where nobody says otherwise, if it is to be recorded.
    pub sampling: Option<Sampling>,
    /// Licence of the weights, if it is to be recorded.
    pub license: Option<String>,
    /// Record the source's file name and the trainer's arguments. Without it the artifact depends on weights and
    /// options alone.
    pub source: Option<String>,
}

impl Options {
    /// Everything that is fast in f32, for batches of 1 and 2, and nothing recorded.
    pub fn new(height: usize, width: usize) -> Options {
        Options {
            batches: vec![1, 2],
            height,
            width,
            optimise: true,
            winograd: Winograd::WhereFaster,
            class_names: Vec::new(),
            precision: Precision::F32,
            decoder: true,
            encoder: false,
            max_memory: None,
            sampling: None,
            license: None,
            source: None,
        }
    }
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

    /// The encoding of a matrix. Rounded timestep MLPs would shift the times themselves.
    fn encoding(self, weight: &str) -> Encoding {
        match self {
            _ if weight.starts_with("t_embedder") => Encoding::F32,
            Precision::F32 => Encoding::F32,
            Precision::Bf16 => Encoding::Bf16,
            Precision::F16 => Encoding::F16,
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
    /// The denoiser's sizes.
    pub config: Option<Config>,
    /// What the look at the values found, by the names that the fingerprints have in the artifact's provenance.
    pub surveys: Vec<(&'static str, Survey)>,
    /// The pipeline as it ran on the first denoiser, or else on the first function.
    pub passes: Report,
    /// Bytes of tensors.
    pub weight_bytes: u64,
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

/// Called after every pass.
pub type AfterPass<'a> = &'a mut dyn FnMut(&'static Pass, &Module);

/// Entry points after the pipeline, and the functions of derived weights.
#[derive(Default)]
pub struct Compiled {
    /// The entry points.
    pub entries: Vec<EntryPoint>,
    /// A function `@weights` for each network of which anything was folded.
    pub weights: Vec<Function>,
    /// The pipeline as it ran on the first function.
    pub report: Option<Report>,
}

impl Compiled {
    /// The functions `@weights` as one.
    pub fn derived(&self) -> Option<Function> {
        let mut b = Builder::new(Module::WEIGHTS);
        let mut results: Vec<(String, fcdm_ir::Value)> = Vec::new();
        for f in &self.weights {
            let mut copier = Copier::new(f);
            for (name, v) in f.results() {
                let new = copier.copy(&mut b, *v);
                // Two sizes of one network fold the same.
                if !results.iter().any(|(n, _)| n == name) {
                    results.push((name.clone(), new));
                }
            }
        }
        (!results.is_empty()).then(|| b.finish(results))
    }
}

/// Runs the pipeline that the options ask for on a function.
///
/// # Errors
/// [`PassError`] if a pass has a bug.
pub(crate) fn optimised(f: Function, options: &Options, observe: AfterPass<'_>) -> Result<(Module, Report), PassError> {
    let pipeline = if options.optimise { OPTIMISED } else { PLAIN };
    fcdm_passes::run(pipeline, Module { functions: vec![f] }, observe)
}

/// Builds and optimises all functions of an artifact; no weights are needed.
fn functions(networks: Networks<'_>, options: &Options, observe: AfterPass<'_>) -> Result<Compiled, PassError> {
    let mut all = Compiled::default();
    if let Some(import) = networks.fcdm {
        all = fcdm::entries::functions(import, options, observe)?;
    }
    if let Some(a) = networks.autoencoder {
        if options.decoder {
            autoencoder::decoders(a, "decode", options, &mut all, observe)?;
        }
        if options.encoder {
            autoencoder::encoder(a, options, &mut all, observe)?;
        }
    }
    if let Some(a) = networks.preview {
        autoencoder::decoders(a, "preview", options, &mut all, observe)?;
    }
    Ok(all)
}

fn check(networks: Networks<'_>, options: &Options) -> Result<(), CompileError> {
    if let Some(import) = networks.fcdm {
        fcdm::entries::check(import, options)?;
    }
    for a in networks.autoencoders() {
        autoencoder::check(a, networks.fcdm.map(|i| i.config().in_channels), options)?;
    }
    Ok(())
}

/// Plan and tensors. Decoders that take more memory than allowed are left out.
fn assembled(mut compiled: Compiled, options: &Options) -> Result<Assembly, CompileError> {
    // Whatever the precision: a quarter of the products in f32 beats bf16 arithmetic, which has half their price.
    let winograd = if options.optimise { options.winograd } else { Winograd::Never };
    let target = Target::CPU.with_winograd(winograd);
    let derived = compiled.derived();
    let encodings = |name: &str| options.precision.encoding(name);
    let assembly = assemble(compiled.entries.clone(), derived.as_ref(), &target, &encodings)?;
    let Some(most) = options.max_memory else { return Ok(assembly) };
    let fitting = autoencoder::fitting(&assembly.plan, options, most)?;
    if fitting.iter().all(|&fits| fits) {
        return Ok(assembly);
    }
    let mut fits = fitting.iter();
    compiled.entries.retain(|_| *fits.next().expect("an answer for every entry"));
    Ok(assemble(compiled.entries, derived.as_ref(), &target, &encodings)?)
}

/// Compiles networks and writes the artifact, whole or not at all.
///
/// # Errors
/// See [`CompileError`].
pub fn compile(networks: Networks<'_>, options: &Options, path: &Path, observer: &mut dyn Observer) -> Result<Summary, CompileError> {
    check(networks, options)?;
    let mut compiled = functions(networks, options, &mut |p, m| observer.pass(p, m))?;
    let passes = compiled.report.take().unwrap_or_default();
    let assembly = assembled(compiled, options)?;
    // What no runtime would load is not written: an arena beyond all bounds, say.
    let tensors: BTreeMap<String, (Stored, &WeightUse)> =
        assembly.tensors().map(|(stored, usage)| (stored.name.clone(), (stored, usage))).collect();
    let stored = |name: &str| tensors.get(name).map(|(s, _)| (s.element, s.shape.clone()));
    check_plan(&assembly.plan, &stored).map_err(|e| CompileError::Option(e.to_string()))?;
    let mut progress = |done, total| observer.progress("reading", done * 4, total * 4);
    let surveys = networks.surveys(&mut progress)?.ok_or(CompileError::Cancelled)?;
    let contents = ArtifactContents {
        plan: assembly.plan.clone(),
        model: networks.fcdm.map(|i| fcdm::entries::model_info(i.config(), options)),
        autoencoder: networks.autoencoder.map(|a| a.info()),
        ir: Some(assembly.ir.clone()),
        provenance: Some(provenance(networks, options, &surveys)),
        report: Some(report(networks, options, &passes)),
        license: options.license.clone(),
    };
    let weight_bytes = tensors.values().map(|(s, _)| s.bytes() as u64).sum();
    let checksum = write_tensors(path, &contents, &assembly, &tensors, &networks.sources(), observer)?;
    let config = networks.fcdm.map(|i| i.config().clone());
    Ok(Summary { config, surveys, passes, weight_bytes, plan: contents.plan, checksum })
}

fn provenance(networks: Networks<'_>, options: &Options, surveys: &[(&'static str, Survey)]) -> Value {
    let mut p = json!({ "compiler": format!("fcdm {}", env!("CARGO_PKG_VERSION")) });
    for (name, survey) in surveys {
        p[*name] = json!(format!("{:016x}", survey.fingerprint));
    }
    if let Some(source) = &options.source {
        p["source"] = json!(source);
        if let Some(import) = networks.fcdm {
            p["arguments"] = json!(import.arguments());
        }
    }
    p
}

/// The passes as they ran: name, whether anything changed, instructions before and after.
pub fn passes_json(report: &Report) -> serde_json::Value {
    report.runs.iter().map(|r| json!({ "pass": r.pass, "fired": r.fired, "before": r.before, "after": r.after })).collect()
}

fn report(networks: Networks<'_>, options: &Options, passes: &Report) -> Value {
    let list = |pairs: Vec<(String, u64)>| pairs.into_iter().map(|(k, v)| json!([k, v])).collect::<Vec<_>>();
    let (mut parameters, mut macs) = (Vec::new(), Vec::new());
    if let Some(import) = networks.fcdm {
        let size = fcdm::Size { batch: 1, height: options.height, width: options.width };
        parameters.extend(parameters_by_part(import.config()).into_iter().map(|(k, v)| (k.to_owned(), v)));
        macs.extend(macs_by_stage(&fcdm::network(import.config(), size)));
    }
    if let Some(a) = networks.autoencoder {
        parameters.push(("autoencoder".to_owned(), a.count()));
        let cost = |f: Function| fcdm_ir::graph::cost(&f).macs;
        let decode = options.decoder.then(|| a.decode(options.height, options.width).ok()).flatten();
        macs.extend(decode.map(|f| ("decode".to_owned(), cost(f))));
    }
    json!({
        "precision": options.precision.name(),
        "parameters": list(parameters),
        "macs": list(macs),
        "passes": passes_json(passes),
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
    tensors: &BTreeMap<String, (Stored, &WeightUse)>,
    weights: &Sources<'_>,
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
    let tensors = tensors.values().map(|(stored, usage)| {
        TensorSource::new(stored.name.as_str(), stored.element, stored.shape.clone(), move |w| {
            assembly.pieces(usage, stored, weights, &mut |piece| w.write_all(&piece).map_err(Unmade::Disk)).map_err(keep)
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
