//! From trained networks to an artifact: functions at every size asked for, the pipeline, the plan, the file.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use fcdm_compiler::assemble::{AssembleError, Assembly, assemble};
use fcdm_compiler::target::Target;
use fcdm_compiler::weights::{Stored, WeightError, WeightSource, WeightUse};
use fcdm_ir::{Function, Module};
use fcdm_passes::{Pass, PassError, Report, folded_from};
use fcdm_runtime::artifact::{ArtifactContents, TensorSource, WriteError, write};
use fcdm_runtime::check::check_plan;
use fcdm_runtime::plan::Plan;
use serde_json::{Value, json};
use thiserror::Error;

use crate::autoencoder::{Autoencoder, entries as autoencoder};
use crate::entry_points::{AfterPass, Compiled};
use crate::fcdm::cost::{macs_by_stage, parameters_by_part};
use crate::fcdm::{self, Config, Import};
use crate::import::{ImportError, Sources, Survey};
use crate::options::OptionError;
pub use crate::options::{Options, Precision};
use crate::role::Role;

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

    /// What a weight is for; of one that is computed of others, what the first of them is.
    pub fn role(self, weight: &str) -> Option<Role> {
        let weight = folded_from(weight);
        let of_fcdm = self.fcdm.and_then(|i| i.role(weight));
        of_fcdm.or_else(|| self.autoencoders().find_map(|a| a.role(weight)))
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
    #[error(transparent)]
    Option(#[from] OptionError),
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
fn assembled(mut compiled: Compiled, networks: Networks<'_>, options: &Options) -> Result<Assembly, CompileError> {
    let target = Target::CPU.with_winograd(options.winograd());
    let derived = compiled.derived();
    let encodings = |weight: &str| options.precision.encoding(networks.role(weight));
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
    let assembly = assembled(compiled, networks, options)?;
    // What no runtime would load is not written: an arena beyond all bounds, say.
    let tensors: BTreeMap<String, (Stored, &WeightUse)> =
        assembly.tensors().map(|(stored, usage)| (stored.name.clone(), (stored, usage))).collect();
    let stored = |name: &str| tensors.get(name).map(|(s, _)| (s.element, s.shape.clone()));
    check_plan(&assembly.plan, &stored).map_err(|e| OptionError(e.to_string()))?;
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
