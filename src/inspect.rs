//! `fcdm inspect`: what is in an artifact, a checkpoint or a named size.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use fcdm_ir::graph::dot;
use fcdm_ir::text::parse_module;
use fcdm_models::compile::CompileError;
use fcdm_models::fcdm::cost::{macs_by_stage, parameters_by_part};
use fcdm_models::fcdm::{Config, Preset, Size, network};
use fcdm_models::latents::saved::Latents;
use fcdm_models::size;
use fcdm_runtime::artifact::{Artifact, Fault, ModelInfo, Prediction, keys};
use fcdm_runtime::entry_name::EntryName;
use fcdm_runtime::kernels::Kernel;
use fcdm_runtime::plan::{Entry, Form, Place, Plan};
use serde_json::{Value, json};

use crate::about::{self, grouped, precision};
use crate::failure::mistaken::{Wanted, explained};
use crate::failure::{ARTIFACT, CHECKPOINT, Failure};
use crate::help::{INSIDE, MODEL, OUTPUT, examples};
use crate::progress;
use crate::say::{self, inline, sayln};

const EXAMPLES: &str =
    examples!("fcdm inspect model.fcdm", "fcdm inspect checkpoint.pt --verbose", "fcdm inspect FCDM-XL", "fcdm inspect model.fcdm --json");

/// Show what is in an .fcdm file, a checkpoint, or a named size.
///
/// Named sizes are FCDM-S, FCDM-B, FCDM-L and FCDM-XL. With --verbose also parameters by part, cost by stage, and how the file was made.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Arguments {
    /// The file, or the name of a size.
    file: PathBuf,
    /// Which weights of a checkpoint, see `compile --weights`.
    #[arg(long, value_name = "NAME", help_heading = MODEL)]
    weights: Option<String>,
    /// Print everything as JSON.
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
    /// Print the IR.
    #[arg(long, conflicts_with_all = ["plan", "dot", "json"], help_heading = INSIDE)]
    ir: bool,
    /// Print the plan: every step with its operands.
    #[arg(long, conflicts_with_all = ["dot", "json"], help_heading = INSIDE)]
    plan: bool,
    /// Print a function of the IR as a graph in DOT.
    ///
    /// The default is denoise.1, or the first denoise.
    #[arg(long, value_name = "FUNCTION", num_args = 0..=1, default_missing_value = "", conflicts_with = "json", help_heading = INSIDE)]
    dot: Option<String>,
}

/// Runs the command.
pub fn run(a: &Arguments) -> Result<(), Failure> {
    let name = a.file.to_string_lossy();
    if let (false, Some(preset)) = (a.file.exists(), Preset::from_name(&name)) {
        return about(a, json!({ "model": preset.name() }), &preset.config());
    }
    match Artifact::open(&a.file) {
        Ok(_) if a.weights.is_some() => Err(Failure::usage("--weights is for checkpoints")),
        Ok(artifact) => artifact_command(a, &Arc::new(artifact)),
        Err(e) if matches!(e.fault, Fault::NotFcdm | Fault::NotSafetensors(_)) && !is_artifact_name(&a.file) => {
            checkpoint(a).or_else(|why| if why.code() == CHECKPOINT { latents(a, why) } else { Err(why) })
        }
        Err(e) if matches!(e.fault, Fault::Read(_)) && a.file.is_dir() => latents(a, explained(&a.file, Wanted::Artifact, e.into())),
        Err(e) => Err(explained(&a.file, Wanted::Artifact, e.into())),
    }
}

/// Latents, if that is what there is; else why it is nothing else.
fn latents(a: &Arguments, why: Failure) -> Result<(), Failure> {
    let Ok(latents) = Latents::open(&a.file) else { return Err(why) };
    only_of_artifacts(a)?;
    let (file, count, [c, h, w]) = (a.file.display(), latents.count(), latents.shape());
    match a.json {
        true => say::json(&json!({ "latents": count, "shape": [c, h, w] })),
        false => sayln!("{file}: latents, {count} of {c} x {h} x {w}; fcdm decode makes pictures of them"),
    }
    Ok(())
}

fn is_artifact_name(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "fcdm")
}

fn only_of_artifacts(a: &Arguments) -> Result<(), Failure> {
    match a.ir || a.plan || a.dot.is_some() {
        true => Err(Failure::usage("--ir, --plan and --dot are for artifacts")),
        false => Ok(()),
    }
}

fn checkpoint(a: &Arguments) -> Result<(), Failure> {
    only_of_artifacts(a)?;
    let import = crate::compile::open(&a.file, a.weights.as_deref(), true)?;
    let survey = import.survey(&mut |_, _| true).map_err(CompileError::from)?.expect("nobody stops it");
    let weights = import.state_dict().expect("made of a checkpoint");
    let ckpt = weights.checkpoint();
    let bad: usize = survey.not_finite.iter().map(|(_, n, _)| n).sum();
    let about_file = json!({
        "format": ckpt.format().to_string(),
        "weights": weights.name(),
        "other_weights": import.others().iter().map(|o| &o.name).collect::<Vec<_>>(),
        "weights_xxh3": format!("{:016x}", survey.fingerprint),
        "values_not_finite": bad,
        "optimizer_step": ckpt.optimizer_step(),
        "arguments": ckpt.arguments(),
        "trained_on": size::trained_on(&import, None),
        "notes": weights.notes().collect::<Vec<_>>(),
    });
    about(a, about_file, import.config())
}

/// A network without a plan: sizes and costs at 32x32.
fn about(a: &Arguments, mut facts: Value, config: &Config) -> Result<(), Failure> {
    only_of_artifacts(a)?;
    let f = network(config, Size { batch: 1, height: 32, width: 32 });
    facts["config"] = json!(config);
    facts["parameters"] = json!(parameters_by_part(config));
    facts["macs_32x32"] = json!(macs_by_stage(&f));
    if a.json {
        say::json(&facts);
        return Ok(());
    }
    let name =
        config.preset().map_or_else(|| format!("FCDM, width {}, blocks {:?}", config.hidden, config.depths), |p| p.name().to_owned());
    let prediction = if config.learn_sigma { Prediction::EpsVariance } else { Prediction::Velocity };
    sayln!("model: {name}, {}", about::kind(prediction));
    for key in ["format", "weights", "other_weights", "trained_on", "values_not_finite"] {
        match (key, &facts[key]) {
            ("format" | "weights", Value::String(text)) => sayln!("{key}: {}", inline(text)),
            ("other_weights", Value::Array(names)) if !names.is_empty() => {
                sayln!("also there: {}", names.iter().map(plain).collect::<Vec<_>>().join(", "))
            }
            ("trained_on", Value::Array(size)) => sayln!("trained on: pictures of {}x{}", size[0], size[1]),
            ("values_not_finite", Value::Number(n)) if n.as_u64() != Some(0) => sayln!("not finite: {n} values"),
            _ => {}
        }
    }
    let null = if config.null_class { " and the null class" } else { "" };
    sayln!("classes: {}{null}", config.num_classes);
    sayln!("channels: {}", config.in_channels);
    if say::is_verbose() {
        details(&facts, config);
    } else {
        sayln!("parameters: {}", grouped(sum(&facts["parameters"])));
        sayln!("cost: {:.2} GMACs a step at 32x32", sum(&facts["macs_32x32"]) as f64 / 1e9);
    }
    Ok(())
}

/// What else there is, with parameters by part and cost by stage.
fn details(facts: &Value, config: &Config) {
    for (key, value) in facts.as_object().expect("built as an object") {
        match (key.as_str(), value) {
            ("arguments", Value::Object(map)) => map.iter().for_each(|(k, v)| sayln!("argument {}: {}", inline(k), plain(v))),
            ("notes", Value::Array(notes)) => notes.iter().for_each(|n| sayln!("note: {}", plain(n))),
            ("optimizer_step" | "weights_xxh3" | "values_not_finite", value) if !value.is_null() => sayln!("{key}: {}", plain(value)),
            _ => {}
        }
    }
    sayln!("{}", sizes(config));
    counts("parameters", &facts["parameters"]);
    counts("multiply-accumulates at 32x32", &facts["macs_32x32"]);
}

/// The line of a network's own sizes.
pub fn sizes(c: &Config) -> String {
    let name = c.preset().map_or("FCDM", |p| p.name());
    let predicts = if c.learn_sigma { "eps and variance" } else { "velocity" };
    let null = if c.null_class { " and the null class" } else { "" };
    format!(
        "{name}: width {}, blocks {:?}, expanded {:?}, {} classes{null}, {} channels, predicts {predicts}",
        c.hidden, c.depths, c.expanded, c.num_classes, c.in_channels
    )
}

fn plain(v: &Value) -> String {
    inline(&v.as_str().map_or_else(|| v.to_string(), str::to_owned)).into_owned()
}

fn pairs(pairs: &Value) -> impl Iterator<Item = (&str, u64)> {
    pairs.as_array().into_iter().flatten().filter_map(|p| Some((p[0].as_str()?, p[1].as_u64()?)))
}

fn sum(list: &Value) -> u64 {
    pairs(list).map(|(_, n)| n).fold(0, u64::saturating_add)
}

/// A list of pairs with its sum.
fn counts(title: &str, list: &Value) {
    let total = sum(list);
    sayln!("{title}: {}", grouped(total));
    for (name, n) in pairs(list) {
        sayln!("  {:<26} {:>16} {:>5.1} %", inline(name), grouped(n), 100.0 * n as f64 / total.max(1) as f64);
    }
}

fn artifact_command(a: &Arguments, artifact: &Arc<Artifact>) -> Result<(), Failure> {
    let file = a.file.display();
    let ir = || artifact.metadata(keys::IR).ok_or_else(|| Failure::new(ARTIFACT, format!("{file}: it carries no IR")));
    if a.ir {
        say::out(format_args!("{}", ir()?));
        return Ok(());
    }
    if let Some(function) = &a.dot {
        let (module, _) = parse_module(&format!("{file}: {}", keys::IR), ir()?).map_err(|e| Failure::in_text(ARTIFACT, e))?;
        let chosen = match function.as_str() {
            "" => {
                let denoiser = format!("{}.", EntryName::Denoise);
                let any = || module.functions.iter().find(|f| f.name().starts_with(&denoiser));
                module.function(&format!("{denoiser}1")).or_else(any)
            }
            name => module.function(name),
        };
        let names = || module.functions.iter().map(|f| f.name()).collect::<Vec<_>>().join(", ");
        let f = chosen.ok_or_else(|| Failure::usage(format!("dot: expected one of {}, found `{function}`", names())))?;
        sayln!("{}", dot(f));
        return Ok(());
    }
    if a.plan {
        artifact.plan().entries.iter().for_each(print_plan);
        return Ok(());
    }
    summary(a, artifact)
}

fn metadata(artifact: &Artifact, key: &str) -> Value {
    // The reader has checked that these are JSON.
    artifact.metadata(key).and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null)
}

fn summary(a: &Arguments, artifact: &Arc<Artifact>) -> Result<(), Failure> {
    let model = artifact.model();
    let report = metadata(artifact, keys::REPORT);
    let provenance = metadata(artifact, keys::PROVENANCE);
    let weight_bytes: u64 = artifact.tensors().map(|(_, _, _, bytes)| bytes.len() as u64).sum();
    if a.json {
        let all = json!({
            "model": model, "autoencoder": artifact.autoencoder(), "report": report, "provenance": provenance, "entries": entries_json(artifact.plan()),
            "license": artifact.metadata(keys::LICENSE), "checksum": artifact.metadata(keys::CHECKSUM),
            "weight_bytes": weight_bytes, "precision": precision(artifact), "tensors": artifact.tensors().len(), "file_bytes": artifact.file_bytes(),
        });
        say::json(&all);
        return Ok(());
    }
    sayln!("{}: fcdm artifact, {}", a.file.display(), progress::size(artifact.file_bytes() as u64));
    about::print(artifact);
    if let Some(license) = artifact.metadata(keys::LICENSE) {
        sayln!("{}", about::fitted(&format!("license: {}", inline(license))));
    }
    if !say::is_verbose() {
        return Ok(());
    }
    model.iter().for_each(|model| print_model(model));
    counts("parameters", &report["parameters"]);
    counts("multiply-accumulates of one evaluation", &report["macs"]);
    sayln!("weights: {} in {} tensors, matrices in {}", progress::size(weight_bytes), artifact.tensors().len(), precision(artifact));
    print_entries(artifact.plan());
    let fired = report["passes"].as_array().into_iter().flatten().filter(|p| p["fired"] == true);
    sayln!("passes that fired: {}", fired.map(|p| plain(&p["pass"])).collect::<Vec<_>>().join(", "));
    for (key, value) in provenance.as_object().into_iter().flatten() {
        match value {
            Value::Object(map) => map.iter().for_each(|(k, v)| sayln!("{} {}: {}", inline(key), inline(k), plain(v))),
            _ => sayln!("{}: {}", inline(key), plain(value)),
        }
    }
    sayln!("checksum: {}", inline(artifact.metadata(keys::CHECKSUM).unwrap_or_default()));
    Ok(())
}

fn print_model(model: &ModelInfo) {
    sayln!(
        "FCDM: width {}, blocks {:?}, ratio {}, {} classes{}, {} channels at {}x{}, predicts {}",
        model.hidden,
        model.depths,
        model.mlp_ratio,
        model.num_classes,
        if model.null_class { " and the null class" } else { "" },
        model.in_channels,
        model.height,
        model.width,
        if model.in_channels == model.out_channels { "velocity" } else { "eps and variance" },
    );
}

/// Steps, arena and convolutions by Winograd of every entry point.
pub fn entries_json(plan: &Plan) -> Value {
    let entry = |e: &Entry| {
        json!({ "name": e.name, "rows": e.rows, "steps": e.steps.len(), "arena_bytes": e.arena_bytes,
                "arena_lower_bound": e.arena_lower_bound, "winograd": by_winograd(e).collect::<Vec<_>>() })
    };
    plan.entries.iter().map(entry).collect()
}

/// As [`entries_json`], a line each.
pub fn print_entries(plan: &Plan) {
    for e in &plan.entries {
        let over = e.arena_bytes as f64 / e.arena_lower_bound.max(1) as f64;
        let winograd = match by_winograd(e).count() {
            0 => String::new(),
            n => format!(", {n} convolutions by Winograd"),
        };
        let arena = progress::size(e.arena_bytes as u64);
        sayln!("{} x{}: {} steps{winograd}, arena {arena} ({over:.3} of the least possible)", inline(&e.name), e.rows, e.steps.len());
    }
}

/// The steps that are such convolutions, by their names.
fn by_winograd(e: &Entry) -> impl Iterator<Item = &str> {
    e.steps.iter().filter(|s| matches!(&s.kernel, Kernel::Product(p) if p.algorithm.is_winograd())).map(|s| &*s.label)
}

fn print_plan(e: &Entry) {
    sayln!("entry {} rows={} arena={} lower_bound={}", inline(&e.name), e.rows, e.arena_bytes, e.arena_lower_bound);
    let ports = |ports: &[fcdm_runtime::plan::Port]| {
        ports.iter().map(|p| format!("{}{:?}", inline(&p.name), p.shape)).collect::<Vec<_>>().join(" ")
    };
    sayln!("  inputs: {}", ports(&e.inputs));
    sayln!("  outputs: {}", ports(&e.outputs));
    // The plan was read but not checked: an index may be beyond the ports.
    let port = |kind: &str, ports: &[fcdm_runtime::plan::Port], i: usize| {
        ports.get(i).map_or_else(|| format!("{kind} {i}?"), |p| format!("{kind} {}", inline(&p.name)))
    };
    for (i, s) in e.steps.iter().enumerate() {
        let operand = |o: &fcdm_runtime::plan::Operand| {
            let at = match &o.at {
                Place::Arena(at) => format!("arena+{at}"),
                Place::Input(i) => port("input", &e.inputs, *i),
                Place::Output(i) => port("output", &e.outputs, *i),
                Place::State(i) => port("state", &e.state, *i),
                Place::Weight(name) => format!("@{}", inline(name)),
            };
            match o.form {
                Form::Dense(_) => format!("{at}{:?}", o.shape),
                Form::Encoded(encoding) => format!("{at}{:?} as {}", o.shape, encoding.name()),
            }
        };
        let list = |o: &[fcdm_runtime::plan::Operand]| o.iter().map(operand).collect::<Vec<_>>().join(", ");
        let kernel = serde_json::to_string(&s.kernel).unwrap_or_default();
        sayln!("  {i:>4} %{} = {kernel} {} -> {}", inline(&s.label), list(&s.inputs), list(&s.outputs));
    }
}
