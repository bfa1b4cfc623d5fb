//! The entry points of an FCDM: what they are, whether options fit them, how the artifact describes them.

use fcdm_compiler::assemble::EntryPoint;
use fcdm_compiler::compiled::{BuildError, Compiled};
use fcdm_ir::Module;
use fcdm_passes::{Pass, Settings};
use fcdm_runtime::artifact::{ModelInfo, Prediction};
use fcdm_runtime::check::MAX_COUNT;
use fcdm_runtime::entry_name::EntryName;

use super::config::Config;
use super::import::Import;
use super::network::{Size, network};
use crate::compile::CompileError;
use crate::options::{AfterPass, OptionError, Options, WeightTypes};

/// Rows of the condition's entry point: the steps of a schedule are evaluated in batches of this many, so that the
/// weights are read once per batch and not once per step.
pub const CONDITION_ROWS: usize = 64;

/// Builds and optimises `condition` at [`CONDITION_ROWS`] and `denoise` at every batch size; no weights are needed.
///
/// # Errors
/// If an ONNX model's graph does not split so; [`fcdm_passes::PassError`] if a pass has a bug.
///
/// # Panics
/// If `batches` is empty, or a size is not one the network can have.
pub(crate) fn functions(
    import: &Import,
    options: &Options,
    types: WeightTypes<'_>,
    observe: AfterPass<'_>,
) -> Result<Compiled, CompileError> {
    if let Some((model, _)) = import.onnx() {
        let conditioned = |settings: &Settings<'_>| model.conditioned(CONDITION_ROWS, &options.batches, settings);
        let found = options.set(types, conditioned).map_err(BuildError::from)?;
        return Ok(
            found.ok_or_else(|| import.wrong("expected an FCDM, every row of whose batch is computed apart, found another network"))?
        );
    }
    let cfg = import.config();
    let at = |batch: usize| network(cfg, Size { batch, height: options.height, width: options.width });
    let take = |m: &Module, name: EntryName| m.function(&name.to_string()).expect("hoisting splits every FCDM").clone();
    let (wide, _) = options.optimised(at(CONDITION_ROWS), types, &mut |_, _| {}).map_err(BuildError::from)?;
    let condition = EntryPoint::new(take(&wide, EntryName::Condition), CONDITION_ROWS);
    let weights = wide.function(Module::WEIGHTS).cloned().into_iter().collect();
    let mut compiled = Compiled { entries: vec![condition], weights, report: None };
    for &batch in &options.batches {
        let mut unwatched = |_: &'static Pass, _: &Module| {};
        let watch: AfterPass<'_> = if compiled.report.is_none() { &mut *observe } else { &mut unwatched };
        let (m, report) = options.optimised(at(batch), types, watch).map_err(BuildError::from)?;
        compiled.report.get_or_insert(report);
        compiled.entries.push(EntryPoint::new(take(&m, EntryName::Denoise), batch));
    }
    Ok(compiled)
}

/// Whether a network of these sizes can be compiled so.
pub(crate) fn check(import: &Import, options: &Options) -> Result<(), OptionError> {
    let (cfg, wrong) = (import.config(), |text: String| Err(OptionError(text)));
    if let Some((_, [h, w])) = import.onnx().filter(|(_, size)| *size != [options.height, options.width]) {
        return wrong(format!("size: the ONNX model was exported for {h}x{w}, found {}x{}", options.height, options.width));
    }
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

/// What the artifact says of it.
pub(crate) fn model_info(cfg: &Config, options: &Options) -> ModelInfo {
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
        sampling: options.sampling,
        specialisation: None,
    }
}
