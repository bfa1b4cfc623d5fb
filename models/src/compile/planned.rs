//! All that is known of an artifact before any of its weights is made, and how it is written then.

use std::collections::BTreeMap;

use fcdm_compiler::assemble::{Assembly, assemble_some};
use fcdm_compiler::compiled::{BuildError, Compiled};
use fcdm_compiler::weights::{Stored, WeightSource, WeightUse};
use fcdm_passes::Report;
use fcdm_runtime::artifact::{ArtifactContents, ModelInfo, TensorSource, file_bytes};
use fcdm_runtime::check::check_plan;
use fcdm_runtime::entry_name::DecoderKind;
use fcdm_runtime::entry_points;
use serde_json::Value;

use super::description::{provenance, report};
use super::tensors::write_tensors;
use super::{CompileError, Condition, Destination, Networks, Observer};
use crate::autoencoder::entries as autoencoder;
use crate::fcdm;
use crate::import::Survey;
use crate::options::{AfterPass, OptionError, Options, WeightTypes};
use crate::types::{Rule, Types, WeightType};

/// A compilation but for the values of weights.
pub(super) struct Planned {
    /// Plan and tensors.
    pub assembly: Assembly,
    /// The denoiser's description.
    pub model: Option<ModelInfo>,
    /// The condition, if it was to be specialised.
    pub condition: Option<Condition>,
    /// The pipeline as it ran.
    pub passes: Report,
    /// Bytes of tensors.
    pub weight_bytes: u64,
}

/// What is compiled.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub networks: Networks<'a>,
    pub surveys: &'a [(&'static str, Survey)],
}

/// Plan and tensors of networks.
pub(crate) fn planned(networks: Networks<'_>, options: &Options) -> Result<Assembly, CompileError> {
    Ok(Planned::new(networks, options, &mut |_, _| {})?.assembly)
}

impl Planned {
    /// Builds and optimises all functions, places their buffers, and holds the plan against what a runtime loads.
    pub fn new(networks: Networks<'_>, options: &Options, observe: AfterPass<'_>) -> Result<Planned, CompileError> {
        let mut compiled = functions(networks, options, observe)?;
        let passes = compiled.report.take().unwrap_or_default();
        let mut model = networks.fcdm.map(|i| fcdm::entries::model_info(i.config(), options));
        let specialised = |(asked, model)| Condition::new(asked, model, options, &mut compiled);
        let condition = options.specialise.as_ref().zip(model.as_ref()).map(specialised).transpose()?;
        if let (Some(model), Some(table)) = (&mut model, condition.as_ref().filter(|c| c.is_table())) {
            model.specialisation = Some(table.specialisation.clone());
        }
        check_rules(&compiled, condition.as_ref(), options)?;
        let assembly = assembled(compiled, options)?;
        // What no runtime would load is not written: an arena beyond all bounds, say.
        let tensors = tensors_of(&assembly);
        let stored = |name: &str| tensors.get(name).map(|(s, _)| (s.element, s.shape.as_slice()));
        check_plan(&assembly.plan, &stored).map_err(|e| OptionError(e.to_string()))?;
        let info = networks.autoencoder.map(|a| a.info());
        let weight_bytes = tensors.values().map(|(s, _)| s.bytes() as u64).sum();
        entry_points::check(&assembly.plan, model.as_ref(), info.as_ref(), weight_bytes).map_err(OptionError)?;
        Ok(Planned { assembly, model, condition, passes, weight_bytes })
    }
}

impl Source<'_> {
    fn contents(&self, planned: &Planned, options: &Options, quantised: Option<&Value>) -> ArtifactContents {
        let networks = self.networks;
        ArtifactContents {
            plan: planned.assembly.plan.clone(),
            model: planned.model.clone(),
            autoencoder: networks.autoencoder.map(|a| a.info()),
            ir: Some(planned.assembly.ir.clone()),
            provenance: Some(provenance(networks, options, self.surveys)),
            report: Some(report(networks, options, planned.condition.as_ref(), &planned.passes, quantised)),
            license: options.license.clone(),
        }
    }

    /// Bytes of the file that [`Source::write`] would make.
    pub fn file_bytes(&self, planned: &Planned, options: &Options, quantised: Option<&Value>) -> Result<u64, CompileError> {
        let contents = self.contents(planned, options, quantised);
        let tensor = |(stored, _): (Stored, &WeightUse)| TensorSource::new(stored.name, stored.element, stored.shape, |_| Ok(()));
        file_bytes(&contents, planned.assembly.tensors().map(tensor).collect()).map_err(|fault| OptionError(fault.to_string()).into())
    }

    /// Makes all weights and writes the artifact; returns its checksum.
    pub fn write(
        &self,
        to: Destination<'_>,
        planned: &Planned,
        options: &Options,
        quantised: Option<&Value>,
        observer: &mut dyn Observer,
    ) -> Result<String, CompileError> {
        let sources = self.networks.sources();
        let table = planned.condition.as_ref().filter(|c| c.is_table());
        let table = table.map(|condition| condition.table(options, &sources, observer)).transpose()?;
        let sources = sources.with(table.as_ref().map(|table| table as &dyn WeightSource));
        let contents = self.contents(planned, options, quantised);
        write_tensors(to, &contents, &planned.assembly, tensors_of(&planned.assembly).into_values(), &sources, observer)
    }
}

/// Builds and optimises all functions of an artifact; no weights are needed.
fn functions(networks: Networks<'_>, options: &Options, observe: AfterPass<'_>) -> Result<Compiled, CompileError> {
    let mut all = Compiled::default();
    let named = |types: &Types, weight: &str| {
        let ty = types.of(weight, networks.role(weight));
        (ty != WeightType::F32).then(|| ty.name())
    };
    let of_autoencoders = options.types.of_autoencoders();
    let types: WeightTypes<'_> = &|weight| named(&options.types, weight);
    if let Some(import) = networks.fcdm {
        all = fcdm::entries::functions(import, options, types, observe)?;
    }
    let types: WeightTypes<'_> = &|weight| named(&of_autoencoders, weight);
    if let Some(a) = networks.autoencoder {
        if options.decoder {
            autoencoder::decoders(a, DecoderKind::Own, options, types, &mut all, observe).map_err(BuildError::from)?;
        }
        if options.encoder {
            autoencoder::encoder(a, options, types, &mut all, observe).map_err(BuildError::from)?;
        }
    }
    if let Some(a) = networks.preview {
        autoencoder::decoders(a, DecoderKind::Preview, options, types, &mut all, observe).map_err(BuildError::from)?;
    }
    Ok(all)
}

/// Whether networks can be compiled so.
pub(super) fn check(networks: Networks<'_>, options: &Options) -> Result<(), CompileError> {
    if let Some(import) = networks.fcdm {
        fcdm::entries::check(import, options)?;
    }
    let calibrated = [("quantize: auto", options.mix.is_some()), ("calibrate", options.calibration.is_some())];
    if let Some((option, _)) = calibrated.iter().find(|(_, asked)| *asked) {
        let found = match networks.fcdm {
            None => Some("an autoencoder alone"),
            Some(import) => import.onnx().map(|_| "an ONNX model"),
        };
        if let Some(found) = found {
            return Err(OptionError(format!("{option}: expected a checkpoint, found {found}")).into());
        }
    }
    for a in networks.autoencoders() {
        autoencoder::check(a, networks.fcdm.map(|i| i.config().in_channels), options)?;
    }
    Ok(())
}

/// Plan and tensors. Decoders that take more memory than allowed are left out.
fn assembled(compiled: Compiled, options: &Options) -> Result<Assembly, CompileError> {
    let derived = compiled.derived();
    let mut fitting = autoencoder::Fitting::new(options);
    let mut assembly =
        assemble_some(compiled.entries, derived.as_ref(), &options.target(), &mut |entry| fitting.fits(entry)).map_err(BuildError::from)?;
    fitting.finish()?;
    assembly.plan.reproducible &= !options.fast_math;
    Ok(assembly)
}

/// Whether every rule is about some weight, or a table that could be in the place of some.
fn check_rules(compiled: &Compiled, condition: Option<&Condition>, options: &Options) -> Result<(), OptionError> {
    let functions = || {
        compiled.entries.iter().map(|e| &e.function).chain(&compiled.weights).chain(condition.into_iter().flat_map(Condition::functions))
    };
    let about_one = |rule: &Rule| functions().any(|f| f.weights().any(|(_, data)| rule.matches(&data.name)));
    match options.types.rules.iter().find(|rule| !about_one(rule)) {
        Some(rule) => Err(OptionError(format!("type-rules: expected patterns of weights' names (see inspect), found `{}`", rule.text))),
        None => Ok(()),
    }
}

/// The tensors of an artifact by name.
fn tensors_of(assembly: &Assembly) -> BTreeMap<String, (Stored, &WeightUse)> {
    assembly.tensors().map(|(stored, usage)| (stored.name.clone(), (stored, usage))).collect()
}
