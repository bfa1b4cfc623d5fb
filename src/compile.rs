//! `fcdm compile`: a checkpoint becomes one artifact.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use fcdm_command::generate::Sampler;
use fcdm_compiler::checkpoint::{Checkpoint, StateDict};
use fcdm_compiler::kind::is_onnx;
use fcdm_compiler::winograd::Winograd;
use fcdm_models::autoencoder::{self, Autoencoder};
use fcdm_models::calibrate::Calibration;
use fcdm_models::compile::{CompileError, Networks, Options, Summary, compile, passes_json};
use fcdm_models::fcdm::Import;
use fcdm_models::mix::{Goal, Mix};
use fcdm_models::options::Specialise;
use fcdm_models::size;
use fcdm_models::types::{TypeError, Types, WeightType, parse_rules};
use fcdm_runtime::artifact::{Artifact, Sampling};
use fcdm_runtime::encoding::Encoding;
use fcdm_runtime::generate::Choice;
use serde_json::json;

use crate::about;
use crate::failure::Failure;
use crate::failure::mistaken::{Wanted, explained, opened};
use crate::help::{AUTOENCODER, INSIDE, MODEL, OUTPUT, RECORDED, SPECIALISE, WEIGHTS, examples};
use crate::inspect::{self, entries_json};
use crate::progress::{self, Watcher};
use crate::quantize_report;
use crate::say::{self, sayln};

const EXAMPLES: &str = examples!(
    "fcdm compile checkpoint.pt --vae sd-vae-ft-ema -o model.fcdm",
    "fcdm compile checkpoint.pt --vae sd-vae-ft-ema --quantize w8a8",
    "fcdm compile model.onnx --vae decoder.onnx --class-names names.txt",
    "fcdm compile checkpoint.pt --steps 20 --classes 0-9 -o small.fcdm",
    "fcdm compile --vae taesd --encoder --size 32x32 -o taesd.fcdm",
);

/// Compile a checkpoint and its autoencoder into one .fcdm file.
///
/// Checkpoints are .pt and .pth files of the official trainer, .safetensors files with the same tensor names, and .onnx exports of an
/// FCDM. With --vae alone the file holds an autoencoder, for `decode` and `encode`.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Arguments {
    /// The checkpoint: .pt, .pth, .safetensors or .onnx.
    ///
    /// An ONNX model has inputs x, t and y. May be left out with --vae.
    #[arg(required_unless_present = "vae")]
    checkpoint: Option<PathBuf>,
    /// The autoencoder: a folder, file, or ONNX models.
    ///
    /// A folder in diffusers' layout (AutoencoderKL, AutoencoderTiny) or a whole pipeline's, one file with its weights, TAESD files, or
    /// ONNX models of its halves, separated by a comma. `taef2`, where there is no such path, is the one in the box.
    #[arg(long, value_name = "PATH", value_delimiter = ',', help_heading = AUTOENCODER)]
    vae: Vec<PathBuf>,
    /// Scaling factor of the latents, if no file says it.
    ///
    /// What the denoiser's latents are the autoencoder's times. ONNX models do not say it [default: 1], nor does one file without
    /// config.json [default: 0.18215 for four channels].
    #[arg(long, value_name = "FACTOR", requires = "vae", value_parser = scale, help_heading = AUTOENCODER)]
    vae_scale: Option<f64>,
    /// Also take its encoder, for `generate --init-image`.
    ///
    /// `encode` needs it too.
    #[arg(long, requires = "vae", help_heading = AUTOENCODER)]
    encoder: bool,
    /// A cheaper decoder, for `generate --preview`.
    #[arg(long, value_name = "PATH", requires = "vae", help_heading = AUTOENCODER)]
    preview_vae: Option<PathBuf>,
    /// Memory that decoding may take, such as 200MB.
    ///
    /// Decoders that take more are left out, and large pictures are decoded in tiles.
    #[arg(long, value_name = "SIZE", requires = "vae", value_parser = crate::progress::parse_size, help_heading = AUTOENCODER)]
    max_memory: Option<u64>,
    /// Latents' size [default: as trained, or 32x32].
    ///
    /// Height x width. Pictures are larger, mostly by 8. The default is what the checkpoint records as image_size, or the size of the ONNX export.
    #[arg(long, value_name = "HxW", value_parser = parse_size, help_heading = MODEL)]
    size: Option<[usize; 2]>,
    /// Batch sizes to be fast at.
    ///
    /// Others are composed of these.
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1,2", help_heading = MODEL)]
    batch: Vec<usize>,
    /// Which weights, by name [default: the average].
    ///
    /// Names are those that `inspect` shows; `ema` is any running average, `model` what is none.
    #[arg(long, value_name = "NAME", help_heading = MODEL)]
    weights: Option<String>,
    /// Weights' type, such as i8 or w8a8.
    ///
    /// One of f32, f16, bf16, i8, i6, i4; w8a8, w6a8, w4a8. Of whole numbers it is that of most weights: the first and the last layer and
    /// depthwise convolutions are f16, and so is with i8 what joins skip connections; with i6 and i4 what works at the image's full size has
    /// two bits more or i8, and autoencoders are i8. With w8a8 and its like images are multiplied in whole numbers of 7 or 8 bits as well,
    /// which is faster. `auto` measures what each layer costs in pictures and gives it i4, i6, i8 or f16 by that, for --budget or --min-psnr;
    /// `auto-a8` is that in whole numbers.
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = quantize, alias = "precision", alias = "type", alias = "quantise", help_heading = WEIGHTS)]
    quantize: Quantize,
    /// With auto: the best model of that size, such as 30MB.
    ///
    /// Of the whole file, autoencoder and all.
    #[arg(long, value_name = "SIZE", value_parser = crate::progress::parse_size, conflicts_with = "min_psnr", help_heading = WEIGHTS)]
    budget: Option<u64>,
    /// With auto: how close it is to be, dB [default: 40].
    ///
    /// The smallest model that is: PSNR of its pictures to those in f32, the mean over noise that was not measured on; for latents their signal-to-noise ratio.
    #[arg(long, value_name = "DB", value_parser = decibels, help_heading = WEIGHTS)]
    min_psnr: Option<f64>,
    /// Other types for some weights, as PATTERN=TYPE,..
    ///
    /// Patterns are regular expressions that are looked for in the names of the checkpoint (see `inspect`); the first that matches counts.
    #[arg(long, value_name = "RULES", alias = "tensor-type-rules", help_heading = WEIGHTS)]
    type_rules: Option<String>,
    /// Round weights for what they multiply.
    ///
    /// The model generates some pictures of its own, and weights of whole numbers are rounded for what their layers see then (GPTQ). No
    /// data is needed; a small model takes seconds, FCDM-S minutes.
    #[arg(long, help_heading = WEIGHTS)]
    calibrate: bool,
    /// Keep what calibrating and measuring have done here, to go on from.
    ///
    /// A folder, which is made. After an interruption the same command goes on where it was, and `--quantize auto` for another goal takes what
    /// was measured for the first; what is of another checkpoint or of other options is left alone. When the model is written it can be deleted.
    #[arg(long, value_name = "DIR", help_heading = WEIGHTS, hide_short_help = true)]
    calibration_folder: Option<PathBuf>,
    /// Let quantised results differ between CPUs.
    ///
    /// Without it the same file, seed and options give the same bytes on every CPU if any weights are whole numbers.
    #[arg(long, help_heading = WEIGHTS, hide_short_help = true)]
    fast_math: bool,
    /// Only these classes, with --steps: 3,dress or all.
    ///
    /// Numbers, ranges and names as `generate --class-labels` takes them; the null class is always among them. What timesteps and classes
    /// come to is then a table in the place of more than a quarter of the weights, where it is smaller; `generate` refuses all else. The
    /// table is made of weights in f32, and stored in f16; in f32 if all weights are, in i8 beside i6 and i4.
    #[arg(long, value_name = "CLASSES", value_delimiter = ',', requires = "steps", alias = "class-labels", help_heading = SPECIALISE)]
    classes: Vec<String>,
    /// Only these steps: 20, or ddim20 and the like.
    ///
    /// As `generate --steps` takes them. Other samplers and steps do as well if they ask the network at no other times.
    #[arg(long, value_name = "STEPS", requires = "classes", help_heading = SPECIALISE)]
    steps: Option<String>,
    /// The sampler of these steps [default: ddim or euler].
    ///
    /// As `generate --sampler` takes it; of sde with its options' defaults.
    #[arg(long, value_enum, value_name = "NAME", requires = "steps", hide_possible_values = true, help_heading = SPECIALISE)]
    sampler: Option<Sampler>,
    /// The model was trained without label dropout.
    ///
    /// Then the last row of its class tables is an ordinary class, and there is no classifier-free guidance.
    #[arg(long, help_heading = MODEL)]
    no_null_class: bool,
    /// A text file, one class name a line.
    ///
    /// In the order of the class indices; or the `latents.json` that `encode` writes.
    #[arg(long, value_name = "FILE", help_heading = RECORDED)]
    class_names: Option<PathBuf>,
    /// What `generate` does by itself: 50,2,all.
    ///
    /// Steps, guidance scale, and `3` or `all` guided channels.
    #[arg(long, value_name = "DEFAULTS", value_parser = sampling, help_heading = RECORDED)]
    sampling: Option<Sampling>,
    /// Licence of the weights.
    #[arg(long, value_name = "TEXT", help_heading = RECORDED)]
    license: Option<String>,
    /// The checkpoint's name and the trainer's arguments.
    ///
    /// Without it equal weights give equal files.
    #[arg(long, help_heading = RECORDED)]
    record_source: bool,
    /// Also write a report of it beside f32.
    ///
    /// A folder with a page of numbers and pictures, as `quantize-report` makes it.
    #[arg(long, value_name = "DIR", requires = "checkpoint", help_heading = OUTPUT)]
    quantize_report: Option<PathBuf>,
    /// The file to write [default: CHECKPOINT.fcdm here].
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT)]
    output: Option<PathBuf>,
    /// Print a summary as JSON.
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
    /// 0: only what is needed; 1: fold and fuse.
    #[arg(short = 'O', value_name = "LEVEL", default_value = "1", value_parser = clap::value_parser!(u8).range(0..=1), help_heading = INSIDE)]
    optimise: u8,
    /// Compute every 3x3 convolution directly.
    ///
    /// Without it, those that are faster so run by Winograd's F(4x4, 3x3), whose results differ in the last bits.
    #[arg(long, help_heading = INSIDE)]
    no_winograd: bool,
    /// Print the IR of the network after every pass.
    #[arg(long, help_heading = INSIDE)]
    print_after_all: bool,
}

/// `--quantize`.
#[derive(Clone, Copy)]
enum Quantize {
    /// One type for all.
    Type(WeightType),
    /// Whatever is best for each layer; whether in products of codes.
    Auto { codes: bool },
}

/// How close a mix is to be where nobody says otherwise, dB.
const MIN_PSNR: f64 = 40.0;

/// Any type that there is, or `auto`.
fn quantize(name: &str) -> Result<Quantize, String> {
    match name.to_ascii_lowercase().as_str() {
        "auto" => Ok(Quantize::Auto { codes: false }),
        "auto-a8" => Ok(Quantize::Auto { codes: true }),
        _ => name.parse().map(Quantize::Type).map_err(|e: TypeError| format!("{e}, or auto, auto-a8")),
    }
}

impl Quantize {
    /// The type of what nothing else is said of or measured.
    fn default(self) -> WeightType {
        match self {
            Quantize::Type(ty) => ty,
            Quantize::Auto { codes } => WeightType { encoding: Encoding::I8, codes },
        }
    }

    fn mix(self, budget: Option<u64>, min_psnr: Option<f64>) -> Result<Option<Mix>, Failure> {
        let goal = budget.map_or(Goal::Decibels(min_psnr.unwrap_or(MIN_PSNR)), Goal::Bytes);
        match (self, budget.map(|_| "budget").or(min_psnr.map(|_| "min-psnr"))) {
            (Quantize::Auto { codes }, _) => Ok(Some(Mix { goal, codes })),
            (Quantize::Type(_), None) => Ok(None),
            (Quantize::Type(ty), Some(option)) => Err(Failure::usage(format!("{option}: expected --quantize auto or auto-a8, found {ty}"))),
        }
    }
}

/// `--min-psnr`.
fn decibels(text: &str) -> Result<f64, String> {
    let parsed = text.parse().ok().filter(|db: &f64| (1.0..=100.0).contains(db));
    parsed.ok_or_else(|| "expected decibels, 1 to 100, such as 35".to_owned())
}

pub fn parse_size(text: &str) -> Result<[usize; 2], String> {
    let (h, w) = text.split_once(['x', 'X']).unwrap_or((text, text));
    let parsed = h.parse().ok().zip(w.parse().ok()).map(|(h, w)| [h, w]);
    parsed.ok_or_else(|| "expected HEIGHTxWIDTH, such as 32x32".to_owned())
}

/// A factor of latents.
pub fn scale(text: &str) -> Result<f64, String> {
    let parsed = text.parse().ok().filter(|s: &f64| s.is_finite() && s.abs() > 1e-6);
    parsed.ok_or_else(|| "expected a number other than 0, such as 0.18215".to_owned())
}

fn sampling(text: &str) -> Result<Sampling, String> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let parsed = match parts[..] {
        [steps, scale, channels @ ("3" | "all")] => steps.parse().ok().zip(scale.parse().ok()).map(|(steps, cfg_scale)| Sampling {
            steps,
            cfg_scale,
            all_channels: channels == "all",
        }),
        _ => None,
    };
    parsed.ok_or_else(|| "expected steps, guidance scale and 3 or all, such as 50,2,all".to_owned())
}

/// Runs the command.
pub fn run(a: &Arguments) -> Result<(), Failure> {
    crate::signals::stop_when_asked();
    let import = a.checkpoint.as_deref().map(|path| import(path, a)).transpose()?;
    let vae = open_vae(&a.vae, autoencoder::PREFIX, a.vae_scale)?;
    let preview = open_vae(a.preview_vae.as_slice(), autoencoder::PREVIEW_PREFIX, scale_of_preview(a))?;
    let networks = Networks { fcdm: import.as_ref(), autoencoder: vae.as_ref(), preview: preview.as_ref() };
    let options = options(a, import.as_ref(), vae.as_ref())?;
    let source = a.checkpoint.as_ref().or(a.vae.first()).expect("clap asks for one of them");
    let output = a.output.clone().unwrap_or_else(|| PathBuf::from(file_name(source)).with_extension("fcdm"));
    a.quantize_report.as_deref().map_or(Ok(()), |folder| quantize_report::may_write(folder, false))?;
    let summary = compile(networks, &options, &output, &mut Watcher::new(a.print_after_all))?;
    import.iter().for_each(say_notes);
    for note in vae.iter().chain(&preview).flat_map(Autoencoder::notes) {
        say::note(note);
    }
    if summary.resumed > 0 {
        say::note(format!("calibration went on from {} pieces of work that were there", summary.resumed));
    }
    for (weight, ty, decibels) in &summary.forced {
        let alone = decibels.map_or_else(String::new, |db| format!("; that alone leaves what is generated {db:.1} dB close"));
        say::warning(format!("type-rules: `{}` is of the few that stay floats by themselves, found {ty}{alone}", say::inline(weight)));
    }
    for (name, bad, count) in summary.surveys.iter().flat_map(|(_, s)| &s.not_finite) {
        say::warning(format!("tensor `{name}`: {bad} of {count} values are not finite"));
    }
    if let (Some(folder), Some(import)) = (&a.quantize_report, &import) {
        beside_floats(folder, import, vae.as_ref(), &options, &output)?;
    }
    if a.json {
        print_json(&output, &summary)
    } else {
        print_text(&output, networks, &summary)
    }
    Ok(())
}

/// The autoencoder of these files, if there are any.
pub fn open_vae(paths: &[PathBuf], prefix: &'static str, scale: Option<f64>) -> Result<Option<Autoencoder>, Failure> {
    let opened = (!paths.is_empty()).then(|| autoencoder::open_all(paths, prefix, scale)).transpose();
    opened.map_err(|e| paths.iter().fold(CompileError::from(e).into(), |why, path| explained(path, Wanted::AutoencoderFiles, why)))
}

/// Writes the report of a model that was compiled, beside f32.
fn beside_floats(folder: &Path, import: &Import, vae: Option<&Autoencoder>, options: &Options, output: &Path) -> Result<(), Failure> {
    let floats = Options {
        types: Types::default(),
        calibration: None,
        calibration_folder: None,
        mix: None,
        specialise: None,
        source: None,
        ..options.clone()
    };
    let floats = quantize_report::compiled(import, vae, "f32", &floats)?;
    let artifact = Arc::new(opened(output, Wanted::Artifact, Artifact::open_unverified(output))?);
    let name = if options.mix.is_some() { "auto".to_owned() } else { options.types.name() };
    let scheme = quantize_report::Scheme { name, artifact };
    quantize_report::report(vec![floats, scheme], &quantize_report::Wish::default(), folder, options.calibration.is_some())
}

fn import(path: &std::path::Path, a: &Arguments) -> Result<Import, Failure> {
    if is_onnx(path) {
        if a.weights.is_some() {
            return Err(Failure::usage("weights: an ONNX model has one set of weights"));
        }
        let import = Import::open_onnx(path, a.size, !a.no_null_class).map_err(CompileError::from);
        return opened(path, Wanted::Onnx, import);
    }
    open(path, a.weights.as_deref(), !a.no_null_class)
}

/// A decoder for previews is of the same latents; one that says itself what it scales by is not told.
fn scale_of_preview(a: &Arguments) -> Option<f64> {
    a.vae_scale.filter(|_| a.preview_vae.as_deref().is_some_and(is_onnx))
}

/// Opens a checkpoint and takes weights from it. `auto` is as good as no name.
pub fn open(path: &std::path::Path, weights: Option<&str>, null_class: bool) -> Result<Import, Failure> {
    let checkpoint = opened(path, Wanted::Checkpoint, Checkpoint::open(path))?;
    let import = Import::open(checkpoint, weights.filter(|&name| name != "auto"), null_class).map_err(CompileError::from);
    opened(path, Wanted::Checkpoint, import)
}

/// Says what was left out of a checkpoint.
fn say_notes(import: &Import) {
    for note in import.state_dict().into_iter().flat_map(StateDict::notes) {
        say::note(note);
    }
    for other in import.others() {
        if let Some(wrong) = &other.wrong {
            say::note(format!("weights `{}` are no FCDM: {wrong}", other.name));
        }
    }
}

/// `ema of a PyTorch file (also there: model)`.
pub fn weights_line(import: &Import) -> String {
    let Some(dict) = import.state_dict() else { return "all of an ONNX file".to_owned() };
    let others: Vec<&str> = import.others().iter().filter(|o| o.wrong.is_none()).map(|o| o.name.as_str()).collect();
    let others = if others.is_empty() { String::new() } else { format!(" (also there: {})", others.join(", ")) };
    format!("{} of a {} file{others}", dict.name(), dict.format())
}

fn options(a: &Arguments, import: Option<&Import>, vae: Option<&Autoencoder>) -> Result<Options, Failure> {
    let mut batches = a.batch.clone();
    batches.sort_unstable();
    batches.dedup();
    let rules = a.type_rules.as_deref().map_or(Ok(Vec::new()), parse_rules).map_err(|e| Failure::usage(format!("type-rules: {e}")))?;
    let mix = a.quantize.mix(a.budget, a.min_psnr)?;
    if a.calibration_folder.is_some() && !a.calibrate && mix.is_none() {
        return Err(Failure::usage("calibration-folder: expected --calibrate or --quantize auto beside it, found neither"));
    }
    let class_names = match &a.class_names {
        Some(path) => class_names(path)?,
        // Folders may have had names that no class can have.
        None => import.and_then(Import::class_names).filter(|names| unfit(names).is_none()).unwrap_or_default(),
    };
    let of_checkpoints = [
        ("class-names", a.class_names.is_some()),
        ("sampling", a.sampling.is_some()),
        ("weights", a.weights.is_some()),
        ("steps", a.steps.is_some()),
    ];
    for (option, given) in of_checkpoints {
        if given && import.is_none() {
            return Err(Failure::usage(format!("{option}: expected a checkpoint, found an autoencoder alone")));
        }
    }
    if let (Some(import), Some(_), []) = (import, &a.class_names, &class_names[..]) {
        let classes = import.config().num_classes;
        return Err(Failure::usage(format!("class names: the checkpoint has {classes} classes, found 0 names")));
    }
    let [height, width] = a.size.map_or_else(|| size::inferred(import, vae).map_err(Failure::usage), Ok)?;
    if let Some((import, trained)) = import.and_then(|i| Some((i, size::trained_on(i, vae)?))) {
        let pictures = [height, width].map(|side| side.saturating_mul(size::factor(import, vae)));
        if pictures != trained {
            let ([h, w], [th, tw]) = (pictures, trained);
            say::warning(format!("size: {height}x{width} makes pictures of {h}x{w}; the checkpoint was trained on {th}x{tw}"));
        }
    }
    Ok(Options {
        batches,
        height,
        width,
        optimise: a.optimise > 0,
        winograd: if a.no_winograd { Winograd::Never } else { Winograd::WhereFaster },
        class_names,
        types: Types { default: a.quantize.default(), rules, ..Types::default() },
        calibration: (a.calibrate || mix.is_some()).then(Calibration::default),
        calibration_folder: a.calibration_folder.clone(),
        mix,
        fast_math: a.fast_math,
        decoder: true,
        encoder: a.encoder,
        max_memory: a.max_memory,
        sampling: a.sampling,
        specialise: a.steps.clone().map(|steps| Specialise {
            sampler: Choice { kind: a.sampler.map(Into::into), steps: Some(steps), ..Choice::default() },
            classes: a.classes.clone(),
        }),
        license: a.license.clone(),
        source: a
            .record_source
            .then(|| a.checkpoint.as_deref().or(a.vae.first().map(PathBuf::as_path)).map_or_else(String::new, file_name)),
    })
}

fn file_name(path: &std::path::Path) -> String {
    path.file_name().map_or_else(|| "checkpoint".into(), |n| n.to_string_lossy().into_owned())
}

/// One name a line; empty lines at the end do not count.
fn class_names(path: &std::path::Path) -> Result<Vec<String>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::new(1, format!("{}: {e}", path.display())))?;
    if path.extension().is_some_and(|e| e == "json") {
        return fcdm_models::latents::classes(&text).map_err(|e| Failure::usage(format!("{}: {e}", path.display())));
    }
    let names: Vec<String> = text.trim_start_matches('\u{feff}').trim_end().lines().map(|l| l.trim().to_owned()).collect();
    if let Some(i) = unfit(&names) {
        let expected = "distinct names without commas and control characters, no numbers, not `null`";
        return Err(Failure::usage(format!("{}: line {}: expected {expected}, found `{}`", path.display(), i + 1, names[i])));
    }
    Ok(names)
}

/// The first name that no class can have.
fn unfit(names: &[String]) -> Option<usize> {
    let mut known = HashSet::new();
    names.iter().position(|name| {
        let reserved = name.is_empty() || name.contains(',') || name == "null" || name.parse::<u64>().is_ok();
        !known.insert(name) || reserved || say::inline(name) != *name
    })
}

/// What was made, as one who uses it sees it; with `--verbose` also how.
fn print_text(output: &std::path::Path, networks: Networks<'_>, s: &Summary) {
    if let Some(import) = networks.fcdm {
        sayln!("weights: {}", weights_line(import));
    }
    // A device or a pipe has no artifact in it.
    let artifact = Artifact::open_unverified(output).ok().map(Arc::new);
    artifact.iter().for_each(about::print);
    if let Some(a) = networks.preview {
        sayln!("previews: {}, {} channels at 1/{}", say::inline(a.family()), a.latent_channels(), a.factor());
    }
    if say::is_verbose() {
        networks.fcdm.iter().for_each(|import| sayln!("{}", inspect::sizes(import.config())));
        sayln!("tensors: {}", progress::size(s.weight_bytes));
        inspect::print_entries(&s.plan);
        let fired: Vec<&str> = s.passes.runs.iter().filter(|r| r.fired).map(|r| r.pass).collect();
        sayln!("passes that fired: {}", fired.join(", "));
        sayln!("checksum: {}", s.checksum);
    }
    let bytes = artifact.map_or_else(String::new, |a| format!(", {}", progress::size(a.file_bytes() as u64)));
    sayln!("wrote {}{bytes}", output.display());
}

fn print_json(output: &std::path::Path, s: &Summary) {
    let all = s.surveys.iter().flat_map(|(_, s)| &s.not_finite);
    let not_finite = all.map(|(t, bad, n)| json!({ "tensor": t, "not_finite": bad, "values": n }));
    let mut summary = json!({
        "output": output.display().to_string(),
        "checksum": s.checksum,
        "config": s.config,
        "weight_bytes": s.weight_bytes,
        "not_finite": not_finite.collect::<Vec<_>>(),
        "entries": entries_json(&s.plan),
        "passes": passes_json(&s.passes),
    });
    if let Some(condition) = &s.condition {
        summary["condition"] = condition.to_json();
    }
    for (name, survey) in &s.surveys {
        summary[*name] = json!(format!("{:016x}", survey.fingerprint));
    }
    say::json(&summary);
}
