//! `fcdm compile`: a checkpoint becomes one artifact.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use fcdm_compiler::checkpoint::{Checkpoint, StateDict};
use fcdm_compiler::winograd::Winograd;
use fcdm_models::autoencoder::{self, Autoencoder};
use fcdm_models::compile::{CompileError, Networks, Options, Summary, compile, passes_json};
use fcdm_models::fcdm::Import;
use fcdm_runtime::artifact::{Artifact, Sampling};
use fcdm_runtime::encoding::Encoding;
use serde_json::json;

use crate::failure::{CHECKPOINT, Failure};
use crate::inspect::{entries_json, print_entries};
use crate::progress::{self, Watcher};
use crate::say::sayln;

/// Compile a checkpoint (.pt, .pth, .safetensors, .onnx), an autoencoder, or both into one .fcdm file.
#[derive(Args)]
pub struct Arguments {
    /// The checkpoint, or an ONNX model of an FCDM with inputs x, t and y; may be left out with --vae.
    #[arg(required_unless_present = "vae")]
    checkpoint: Option<PathBuf>,
    /// The artifact to write [default: the checkpoint's name with .fcdm, in the current folder].
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// The autoencoder of its latents: a folder in diffusers' layout (AutoencoderKL, AutoencoderTiny), TAESD files, or ONNX models of
    /// its halves, separated by a comma.
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    vae: Vec<PathBuf>,
    /// What the denoiser's latents are those of an ONNX autoencoder times, such as 0.18215 [default: 1].
    #[arg(long, value_name = "FACTOR", requires = "vae", value_parser = scale)]
    vae_scale: Option<f64>,
    /// Also the autoencoder's encoder, for `encode` and for starting from pictures.
    #[arg(long, requires = "vae")]
    encoder: bool,
    /// A cheaper decoder of the same latents, for `generate --preview`.
    #[arg(long, value_name = "PATH", requires = "vae")]
    preview_vae: Option<PathBuf>,
    /// Memory that decoding may take, such as 200MB: decoders that take more are left out, and tiles take their place.
    #[arg(long, value_name = "SIZE", requires = "vae", value_parser = crate::progress::parse_size)]
    max_memory: Option<u64>,
    /// Height x width of the network's input (latents: the picture's divided by 8) [default: 32x32, or an ONNX model's own].
    #[arg(long, value_name = "HxW", value_parser = parse_size)]
    size: Option<(usize, usize)>,
    /// Batch sizes to make entry points for; others are composed of these.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    batch: Vec<usize>,
    /// Which weights of a trainer's checkpoint to take; auto prefers the running average.
    #[arg(long, value_enum, default_value = "auto")]
    weights: Which,
    /// A text file with one class name a line, in the order of the class indices.
    #[arg(long, value_name = "FILE")]
    class_names: Option<PathBuf>,
    /// The model was trained without label dropout: the last row of its class tables is an ordinary class.
    #[arg(long)]
    no_null_class: bool,
    /// 0: only what is needed; 1: fold and fuse.
    #[arg(short = 'O', value_name = "LEVEL", default_value = "1", value_parser = clap::value_parser!(u8).range(0..=1))]
    optimise: u8,
    /// Compute every 3x3 convolution directly. Without it, those that are faster so run by Winograd's F(4x4, 3x3), whose
    /// results differ in the last bits.
    #[arg(long)]
    no_winograd: bool,
    /// What the weights of products and convolutions are stored in: bf16 and f16 take half the memory.
    #[arg(long, default_value = "f32", value_parser = encodings())]
    precision: Encoding,
    /// Recorded as what `generate` does where nobody says otherwise: steps, guidance scale, `3` or `all` guided channels.
    #[arg(long, value_name = "STEPS,SCALE,CHANNELS", value_parser = sampling)]
    sampling: Option<Sampling>,
    /// Licence of the weights, to be recorded in the artifact.
    #[arg(long, value_name = "TEXT")]
    license: Option<String>,
    /// Record the checkpoint's file name and the trainer's arguments. Without it equal weights give equal files.
    #[arg(long)]
    record_source: bool,
    /// Print the IR of the network after every pass.
    #[arg(long)]
    print_after_all: bool,
    /// Print a summary as JSON.
    #[arg(long)]
    json: bool,
}

/// Height and width where nobody says otherwise: 256 px at 1/8.
const DEFAULT_SIZE: (usize, usize) = (32, 32);

/// `--weights`.
#[derive(Clone, Copy, ValueEnum)]
enum Which {
    Auto,
    Ema,
    Model,
}

/// `--precision`: any encoding that there is.
fn encodings() -> impl TypedValueParser<Value = Encoding> {
    let names = PossibleValuesParser::new(Encoding::ALL.iter().map(|e| e.name()));
    names.map(|name| Encoding::named(&name).expect("a possible value is an encoding's name"))
}

fn parse_size(text: &str) -> Result<(usize, usize), String> {
    let parsed = text.split_once(['x', 'X']).and_then(|(h, w)| Some((h.parse().ok()?, w.parse().ok()?)));
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
    progress::stop_on_interrupt();
    let import = a.checkpoint.as_deref().map(|path| import(path, a)).transpose()?;
    let any_onnx = |paths: &[PathBuf]| paths.iter().any(|p| crate::onnx::is_onnx(p));
    if a.vae_scale.is_some() && !any_onnx(&a.vae) && !any_onnx(a.preview_vae.as_slice()) {
        return Err(Failure::usage("vae-scale: it is for ONNX autoencoders; others say what they scale by"));
    }
    let open = |paths: &[PathBuf], prefix| {
        let scale = a.vae_scale.filter(|_| any_onnx(paths));
        (!paths.is_empty()).then(|| autoencoder::open_all(paths, prefix, scale)).transpose().map_err(CompileError::from)
    };
    let vae = open(&a.vae, autoencoder::PREFIX)?;
    let preview = open(a.preview_vae.as_slice(), autoencoder::PREVIEW_PREFIX)?;
    let networks = Networks { fcdm: import.as_ref(), autoencoder: vae.as_ref(), preview: preview.as_ref() };
    let options = options(a, import.as_ref(), vae.as_ref())?;
    let source = a.checkpoint.as_ref().or(a.vae.first()).expect("clap asks for one of them");
    let output = a.output.clone().unwrap_or_else(|| PathBuf::from(file_name(source)).with_extension("fcdm"));
    let summary = compile(networks, &options, &output, &mut Watcher::new(a.json, a.print_after_all))?;
    let of_autoencoders = vae.iter().chain(&preview).flat_map(Autoencoder::notes);
    for note in import.iter().filter_map(Import::checkpoint).flat_map(Checkpoint::notes).chain(of_autoencoders) {
        eprintln!("note: {note}");
    }
    for (name, bad, count) in summary.surveys.iter().flat_map(|(_, s)| &s.not_finite) {
        eprintln!("warning: tensor `{name}`: {bad} of {count} values are not finite");
    }
    if a.json {
        print_json(&output, &summary)
    } else {
        print_text(&output, networks, &summary)
    }
    Ok(())
}

fn import(path: &std::path::Path, a: &Arguments) -> Result<Import, Failure> {
    if crate::onnx::is_onnx(path) {
        let size = a.size.map(|(h, w)| [h, w]);
        return Ok(Import::open_onnx(path, size, !a.no_null_class).map_err(CompileError::from)?);
    }
    let weights = match a.weights {
        Which::Auto => StateDict::Auto,
        Which::Ema => StateDict::Ema,
        Which::Model => StateDict::Model,
    };
    let checkpoint = Checkpoint::open(path, weights).map_err(|e| refused(path, e.into()))?;
    Import::new(checkpoint, !a.no_null_class).map_err(|e| refused(path, CompileError::from(e).into()))
}

fn options(a: &Arguments, import: Option<&Import>, vae: Option<&Autoencoder>) -> Result<Options, Failure> {
    let mut batches = a.batch.clone();
    batches.sort_unstable();
    batches.dedup();
    let class_names = a.class_names.as_deref().map_or(Ok(Vec::new()), class_names)?;
    if let (Some(import), Some(_), []) = (import, &a.class_names, &class_names[..]) {
        let classes = import.config().num_classes;
        return Err(Failure::usage(format!("class names: the checkpoint has {classes} classes, found 0 names")));
    }
    let own = import.and_then(Import::onnx).map(|(_, size)| size).or_else(|| vae?.own_size()).map_or(DEFAULT_SIZE, |[h, w]| (h, w));
    let (height, width) = a.size.unwrap_or(own);
    Ok(Options {
        batches,
        height,
        width,
        optimise: a.optimise > 0,
        winograd: if a.no_winograd { Winograd::Never } else { Winograd::WhereFaster },
        class_names,
        precision: a.precision,
        decoder: true,
        encoder: a.encoder,
        max_memory: a.max_memory,
        sampling: a.sampling,
        license: a.license.clone(),
        source: a
            .record_source
            .then(|| a.checkpoint.as_deref().or(a.vae.first().map(PathBuf::as_path)).map_or_else(String::new, file_name)),
    })
}

/// Why a file is no checkpoint: it may be an artifact, which looks like a safetensors file of odd tensors.
fn refused(path: &std::path::Path, why: Failure) -> Failure {
    match Artifact::open_unverified(path) {
        Ok(_) => Failure::new(CHECKPOINT, format!("{}: expected a checkpoint, found an artifact that is compiled already", path.display())),
        Err(_) => why,
    }
}

fn file_name(path: &std::path::Path) -> String {
    path.file_name().map_or_else(|| "checkpoint".into(), |n| n.to_string_lossy().into_owned())
}

/// One name a line; empty lines at the end do not count.
fn class_names(path: &std::path::Path) -> Result<Vec<String>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::new(1, format!("{}: {e}", path.display())))?;
    let names: Vec<String> = text.trim_start_matches('\u{feff}').trim_end().lines().map(|l| l.trim().to_owned()).collect();
    for (i, name) in names.iter().enumerate() {
        let clash = names[..i].contains(name) || name.is_empty() || name.contains(',') || name == "null" || name.parse::<u64>().is_ok();
        if clash {
            let expected = "distinct names without commas, no numbers, not `null`";
            return Err(Failure::usage(format!("{}: line {}: expected {expected}, found `{name}`", path.display(), i + 1)));
        }
    }
    Ok(names)
}

fn print_text(output: &std::path::Path, networks: Networks<'_>, s: &Summary) {
    if let Some(import) = networks.fcdm {
        let c = import.config();
        let name = c.preset().map_or("FCDM", |p| p.name());
        sayln!("{name}: width {}, blocks {:?}, {} classes, {} channels", c.hidden, c.depths, c.num_classes, c.in_channels);
        match import.checkpoint() {
            Some(checkpoint) => sayln!("weights: {} of a {} file", checkpoint.weights_used(), checkpoint.format()),
            None => sayln!("weights: all of an ONNX file"),
        }
    }
    let autoencoder = |what: &str, a: Option<&Autoencoder>| {
        if let Some(a) = a {
            sayln!("{what}: {}, {} channels at 1/{}", a.family(), a.latent_channels(), a.factor());
        }
    };
    autoencoder("autoencoder", networks.autoencoder);
    autoencoder("previews", networks.preview);
    sayln!("tensors: {}", progress::size(s.weight_bytes));
    print_entries(&s.plan);
    let fired: Vec<&str> = s.passes.runs.iter().filter(|r| r.fired).map(|r| r.pass).collect();
    sayln!("passes that fired: {}", fired.join(", "));
    sayln!("wrote {} (checksum {})", output.display(), s.checksum);
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
    for (name, survey) in &s.surveys {
        summary[*name] = json!(format!("{:016x}", survey.fingerprint));
    }
    sayln!("{summary:#}");
}
