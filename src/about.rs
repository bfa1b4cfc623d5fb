//! What a person wants to know of an artifact before using it, a line each: what it makes, of which classes, what it takes. How it does
//! that is told by `--verbose`.

use std::collections::BTreeMap;
use std::sync::Arc;

use fcdm_models::fcdm::Preset;
use fcdm_runtime::artifact::{Artifact, ModelInfo, Prediction, Specialisation, keys};
use fcdm_runtime::encoding::Encoding;
use fcdm_runtime::entry_name::{DecoderKind, EntryName};
use fcdm_runtime::generate::{Choice, Description, Generator, Order, Setup};
use fcdm_runtime::kernels::Kernel;
use fcdm_runtime::plan::{Element, Form, Operand, Place};
use fcdm_runtime::sampler::Guidance;
use serde_json::Value;

use crate::progress::size;
use crate::say::{self, inline, sayln};

/// Columns of a terminal that nobody has made larger.
const COLUMNS: usize = 80;

/// Prints the lines.
pub fn print(artifact: &Arc<Artifact>) {
    if let Some(model) = artifact.model() {
        let name = named(model).map_or_else(|| format!("FCDM, width {}, blocks {:?}", model.hidden, model.depths), |p| p.name().to_owned());
        sayln!("model: {name}, {}", kind(model.prediction));
    }
    parameters(artifact);
    if let (None, Some(a)) = (artifact.model(), artifact.autoencoder()) {
        let latents = artifact.plan().entry(EntryName::Decode(DecoderKind::Own, None)).and_then(|e| e.inputs.first());
        if let Some(&[_, h, w, _]) = latents.map(|port| &port.shape[..]) {
            sayln!("size: {}", crate::size::line([h, w], Some([h, w].map(|side| side.saturating_mul(a.factor)))));
        }
    }
    if let Some(model) = artifact.model() {
        let decoded = artifact.autoencoder().map(|a| a.factor).or(matches!(model.in_channels, 1 | 3).then_some(1));
        let state = [model.height, model.width];
        sayln!("size: {}", crate::size::line(state, decoded.map(|f| state.map(|side| side.saturating_mul(f)))));
    }
    if let Some(a) = artifact.autoencoder() {
        let encoder = if artifact.plan().entry(EntryName::Encode).is_some() { ", with encoder" } else { "" };
        sayln!("autoencoder: {}, {} channels at 1/{}{encoder}", inline(&a.family), a.latent_channels, a.factor);
    }
    sayln!("precision: {}", precision(artifact));
    if let Some(line) = whole_numbers(artifact) {
        sayln!("{line}");
    }
    quantisation(artifact);
    if let Some(model) = artifact.model() {
        sayln!("{}", fitted(&classes(model)));
        if let Some(held) = &model.specialisation {
            sayln!("{}", fitted(&specialised(held, model)));
        }
        if let Some(condition) = condition(artifact) {
            sayln!("condition: {condition}");
        }
        if let Some(sampling) = sampling(model) {
            sayln!("sampling: {sampling}");
        }
    }
    if let Some(bytes) = memory(artifact) {
        sayln!("memory: {} to generate a picture", size(bytes));
    }
}

/// The size with a name that a model has.
fn named(model: &ModelInfo) -> Option<Preset> {
    let of = |config: fcdm_models::fcdm::Config| {
        let expanded = (model.hidden as f64 * model.mlp_ratio).round() as usize;
        config.hidden == model.hidden && config.depths[..] == model.depths[..] && config.expanded[0] == expanded
    };
    Preset::ALL.into_iter().find(|p| of(p.config()))
}

/// What is trained so, in the words of those who train.
pub fn kind(prediction: Prediction) -> &'static str {
    match prediction {
        Prediction::EpsVariance => "diffusion (eps and variance)",
        Prediction::Velocity => "flow matching (velocity)",
    }
}

/// Those of the network and of its autoencoder, if the compiler has counted them.
fn parameters(artifact: &Artifact) {
    let report: Option<Value> = artifact.metadata(keys::REPORT).and_then(|text| serde_json::from_str(text).ok());
    let parts = report.as_ref().and_then(|r| r["parameters"].as_array()).map_or(&[][..], Vec::as_slice);
    let sum = |of_vae: bool| -> u64 {
        parts.iter().filter(|p| (p[0] == "autoencoder") == of_vae).filter_map(|p| p[1].as_u64()).fold(0, u64::saturating_add)
    };
    match [sum(false), sum(true)] {
        [0, 0] => {}
        [network, 0] => sayln!("parameters: {}", grouped(network)),
        [0, vae] => sayln!("parameters: {}", grouped(vae)),
        [network, vae] => sayln!("parameters: {}, and {} of the autoencoder", grouped(network), grouped(vae)),
    }
}

/// `classes: 10 and the null class: dress, hat, ..`.
fn classes(model: &ModelInfo) -> String {
    let null = if model.null_class { " and the null class" } else { "" };
    let names = if model.class_names.is_empty() { String::new() } else { format!(": {}", say::list(&model.class_names)) };
    format!("classes: {}{null}{names}", model.num_classes)
}

/// `specialised: for 20 steps of ddim, classes dress, hat and none`.
fn specialised(held: &Specialisation, model: &ModelInfo) -> String {
    let mut names = held.class_names(model);
    if model.null_class {
        names.pop();
    }
    let null = match (model.null_class, names.len()) {
        (false, _) => "",
        (true, 0) => "none",
        (true, _) => " and none",
    };
    format!("specialised: for {}, classes {}{null}", held.schedule(), say::list(&names))
}

/// What it takes as a table and as weights, if the compiler was asked to specialise it.
fn condition(artifact: &Artifact) -> Option<String> {
    let report: Value = serde_json::from_str(artifact.metadata(keys::REPORT)?).ok()?;
    let condition = &report["condition"];
    let number = |key: &str| condition[key].as_u64();
    let (times, classes, table, weights) = (number("times")?, number("classes")?, number("table_bytes")?, number("weight_bytes")?);
    let taken = if condition["table"] == true { "table taken" } else { "weights kept" };
    Some(format!("{} as a table of {times} steps x {classes} classes, {} as weights; {taken}", size(table), size(weights)))
}

/// What `generate` does where nobody says otherwise.
fn sampling(model: &ModelInfo) -> Option<String> {
    let (method, guidance) = (Choice::default().method(model).ok()?, Guidance::of(model));
    let how = Description { method, guidance, init: None, given_noise: false, size: [model.height, model.width], model, checksum: "" };
    Some(format!("{}, {} steps, {}", how.sampler().0, how.steps(), guidance.in_words(model)))
}

/// Which types were chosen by measuring, for what, and how close that is; of each layer with `--verbose`.
fn quantisation(artifact: &Artifact) {
    let Some(report) = artifact.metadata(keys::REPORT).and_then(|text| serde_json::from_str::<Value>(text).ok()) else { return };
    let chosen = &report["quantisation"];
    let layers = chosen["layers"].as_array().map_or(&[][..], Vec::as_slice);
    let text = |v: &Value| inline(v.as_str().unwrap_or("?")).into_owned();
    let db = |v: &Value| v.as_f64().map_or_else(|| "?".to_owned(), |db| format!("{db:.1}"));
    if layers.is_empty() {
        return;
    }
    let goal = match (chosen["goal"]["budget"].as_u64(), chosen["goal"]["min_db"].as_f64()) {
        (Some(bytes), _) => format!("the best of {}", size(bytes)),
        (None, Some(db)) => format!("the smallest of {db} dB"),
        (None, None) => "by measuring".to_owned(),
    };
    let (unit, measured) = (text(&chosen["unit"]).to_uppercase(), &chosen["measured"]);
    let seen = match measured["pictures"].as_u64() {
        Some(n) => format!(", {} measured, {} the worst of {n}", db(&measured["db"]), db(&measured["worst_db"])),
        None => String::new(),
    };
    sayln!("chosen: {goal}; {unit} {} dB predicted{seen}", db(&chosen["predicted_db"]));
    if say::is_verbose() {
        sayln!("layers, and the {unit} that each would leave alone:");
        for layer in layers {
            let bytes = layer["bytes"].as_u64().unwrap_or_default();
            sayln!("  {:4} {:>9} {:>6} dB  {}", text(&layer["type"]), size(bytes), db(&layer["db"]), text(&layer["weight"]));
        }
    }
}

/// Bytes that generating a picture takes on this machine, the weights among them.
pub fn memory(artifact: &Arc<Artifact>) -> Option<u64> {
    let generator = Generator::new(artifact.clone(), &Setup::default()).ok()?;
    let need = generator.need(&Order::new(generator.model()).ok()?, 1).ok()?;
    Some(need.bytes().saturating_add(artifact.file_bytes() as u64))
}

/// What matrices are stored in, as the plan reads them: other encodings than f32, if there are any.
pub fn precision(artifact: &Artifact) -> String {
    let steps = artifact.plan().entries.iter().flat_map(|e| &e.steps);
    let forms: Vec<Form> = steps.flat_map(|s| &s.inputs).filter(|o| matches!(o.at, Place::Weight(_))).map(|o| o.form).collect();
    let used = |e: &&Encoding| **e != Encoding::default() && forms.contains(&Form::Encoded(**e));
    let names: Vec<&str> = Encoding::ALL.iter().filter(used).map(|e| e.name()).collect();
    if names.is_empty() { Encoding::default().name().to_owned() } else { names.join(" and ") }
}

/// Bytes of weights by what they are stored as, and which products are of whole numbers, if any are.
pub fn bytes_by_type(artifact: &Artifact) -> BTreeMap<&'static str, u64> {
    let steps = artifact.plan().entries.iter().flat_map(|e| &e.steps);
    let weights: BTreeMap<_, &Operand> = steps
        .flat_map(|s| &s.inputs)
        .filter_map(|o| if let Place::Weight(name) = &o.at { Some(((name.as_str(), o.form), o)) } else { None })
        .collect();
    let mut bytes = BTreeMap::new();
    for ((_, form), operand) in weights {
        let name = match form {
            Form::Encoded(encoding) => encoding.name(),
            Form::Dense(Element::F16) => Encoding::F16.name(),
            Form::Dense(_) => Encoding::F32.name(),
        };
        *bytes.entry(name).or_default() += operand.bytes() as u64;
    }
    bytes
}

/// `weights: i8 30.8 MB, f16 2.5 MB, f32 392 kB; 45 of 52 products of an image in whole numbers; the same bytes on every CPU`.
fn whole_numbers(artifact: &Artifact) -> Option<String> {
    let bytes = bytes_by_type(artifact);
    Encoding::ALL.iter().find(|e| e.has_integers() && bytes.contains_key(e.name()))?;
    let mut types: Vec<(&str, u64)> = bytes.into_iter().collect();
    types.sort_by_key(|&(_, bytes)| std::cmp::Reverse(bytes));
    let types: Vec<String> = types.iter().map(|(name, bytes)| format!("{name} {}", size(*bytes))).collect();
    let mut line = format!("weights: {}", types.join(", "));
    let products = || {
        let denoise = artifact.plan().entry(EntryName::Denoise).into_iter().flat_map(|e| &e.steps);
        denoise.filter_map(|s| if let Kernel::Product(product) = &s.kernel { Some(product) } else { None })
    };
    let codes = products().filter(|p| p.left.is_codes()).count();
    if codes > 0 {
        line += &format!("; {codes} of {} products in whole numbers", products().count());
    }
    if artifact.plan().reproducible {
        line += "; the same bytes on every CPU";
    }
    Some(line)
}

/// As much of a line as a terminal shows; all of it with `--verbose`.
pub fn fitted(line: &str) -> String {
    if say::is_verbose() || line.chars().count() <= COLUMNS {
        return line.to_owned();
    }
    let cut: String = line.chars().take(COLUMNS - 3).collect();
    // Between two names, if there are any.
    let end = cut.rfind(", ").filter(|&at| at > COLUMNS / 2).map_or(cut.len(), |at| at + 1);
    format!("{} ..", &cut[..end])
}

/// `12,345,678`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(d);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_fit() {
        assert_eq!(fitted("short"), "short");
        let names = (0..40).map(|i| format!("name {i}")).collect::<Vec<_>>().join(", ");
        let line = fitted(&format!("classes: 40: {names}"));
        assert!(line.chars().count() <= COLUMNS && line.ends_with(", .."), "{line}");
        let word = fitted(&"\u{e9}".repeat(200));
        assert_eq!(word.chars().count(), COLUMNS);
        assert_eq!([grouped(0), grouped(999), grouped(1_234_567)], ["0", "999", "1,234,567"]);
    }
}
