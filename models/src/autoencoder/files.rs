//! Which autoencoder a path holds. Told by content where there is some: a directory's `config.json` says its class, a file's
//! tensors say which half of a TAESD it is.

use std::path::{Path, PathBuf};

use fcdm_compiler::checkpoint::{Checkpoint, StateDict};

use super::fields::Fields;
use super::graph::Graph;
use super::kl::{self, Kl};
use super::tiny::{self, Naming, Tiny};
use super::{Autoencoder, Family, Half};
use crate::import::{ImportError, Tensors};

/// diffusers' names of the weights' file, the better format first.
const DIFFUSERS: [&str; 2] = ["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"];
const CONFIG: &str = "config.json";

/// Extensions of checkpoints, the better format first.
const EXTENSIONS: [&str; 4] = ["safetensors", "pth", "pt", "bin"];

/// A description of a few fields is no longer.
const CONFIG_LIMIT: u64 = 1 << 20;

/// Opens an autoencoder that is made of several files, ONNX models of either half for instance, or of one; see [`open`]. `scale` is what the
/// denoiser's latents are an ONNX model's times, which the others say themselves.
///
/// # Errors
/// See [`ImportError`].
///
/// # Panics
/// If there are no paths.
pub fn open_all(paths: &[PathBuf], prefix: &str, scale: Option<f64>) -> Result<Autoencoder, ImportError> {
    let is_onnx = |p: &Path| p.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"));
    let (mut encoder, mut decoder) = (None, None);
    for path in paths {
        if !is_onnx(path) {
            return match (paths.len(), scale) {
                (1, None) => open(path, prefix),
                (1, Some(_)) => Err(wrong(path, "vae-scale: expected an ONNX autoencoder; others say what they scale by")),
                (n, _) => Err(wrong(path, format!("expected one path, or ONNX models of both halves, found {n} paths"))),
            };
        }
        let graph = Graph::open(path, scale.unwrap_or(1.0), prefix).map_err(ImportError::Model)?;
        let half: &mut Option<Box<Graph>> = if graph.half() == Half::Encoder { &mut encoder } else { &mut decoder };
        if half.replace(Box::new(graph)).is_some() {
            return Err(wrong(path, "expected the other half of the autoencoder, found the same one again"));
        }
    }
    if let Some(encoder) = &mut encoder {
        encoder.settle(decoder.as_ref().map(|d| d.latent_channels())).map_err(ImportError::Model)?;
    }
    if let (Some(e), Some(d)) = (&encoder, &decoder)
        && (e.latent_channels(), e.factor()) != (d.latent_channels(), d.factor())
    {
        let of = |g: &Graph| format!("{} channels at 1/{}", g.latent_channels(), g.factor());
        return Err(wrong(
            &paths[0],
            format!("expected halves with the same latents, found {} of the encoder and {} of the decoder", of(e), of(d)),
        ));
    }
    if let (Some(e), Some(d)) = (&encoder, &decoder)
        && [0, 1].iter().any(|&a| matches!((e.own_size()[a], d.own_size()[a]), (Some(e), Some(d)) if e != d))
    {
        let of = |g: &Graph| g.own_size().map(|n| n.map_or("any".to_owned(), |n| n.to_string())).join("x");
        let found = format!("expected halves of latents of the same size, found {} of the encoder and {} of the decoder", of(e), of(d));
        return Err(wrong(&paths[0], found));
    }
    Ok(Autoencoder { family: Family::Graphs { encoder, decoder }, parts: Vec::new() })
}

/// Opens an autoencoder: a directory in diffusers' layout (`AutoencoderKL`, `AutoencoderTiny`), a directory with the two halves
/// of a TAESD (`*encoder*`, `*decoder*`), or one of these files, whose other half is taken if it lies beside it. In the IR the
/// names of its weights begin with `prefix`.
///
/// # Errors
/// See [`ImportError`].
pub fn open(path: &Path, prefix: &str) -> Result<Autoencoder, ImportError> {
    if path.is_dir() {
        return if path.join(CONFIG).is_file() { diffusers(path, None, prefix) } else { halves(path, prefix) };
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let of_diffusers = path.file_name().is_some_and(|n| DIFFUSERS.iter().any(|d| n == *d));
    if of_diffusers && folder.join(CONFIG).is_file() {
        return diffusers(folder, Some(path), prefix);
    }
    half_file(path, prefix)
}

fn wrong(file: &Path, message: impl Into<String>) -> ImportError {
    ImportError::Config { file: file.display().to_string(), message: message.into() }
}

/// diffusers' classes.
#[derive(Clone, Copy)]
enum Class {
    Kl,
    Tiny,
}

fn diffusers(folder: &Path, weights: Option<&Path>, prefix: &str) -> Result<Autoencoder, ImportError> {
    let config = folder.join(CONFIG);
    let text = config_text(&config)?;
    let config_wrong = |text: String| wrong(&config, text);
    let mut fields = Fields::parse(&text).map_err(config_wrong)?;
    let class = fields.class(&[("AutoencoderKL", Class::Kl), ("AutoencoderTiny", Class::Tiny)]).map_err(config_wrong)?;
    let found = weights.map(Path::to_owned).or_else(|| DIFFUSERS.iter().map(|n| folder.join(n)).find(|p| p.is_file()));
    let file = found.ok_or_else(|| wrong(folder, format!("expected {} or {}, found neither", DIFFUSERS[0], DIFFUSERS[1])))?;
    let checkpoint = Checkpoint::open(&file, StateDict::Auto)?;
    let shape = |name: &str| checkpoint.tensor(name).map(|t| t.shape.clone());
    match class {
        Class::Kl => {
            let kl = Kl::new(kl::Config::read(fields).map_err(config_wrong)?, &shape, prefix);
            let list = kl.parameters().to_vec();
            let parts = vec![Tensors::new(checkpoint, "AutoencoderKL", prefix, list)?];
            Ok(Autoencoder { family: Family::Kl(Box::new(kl)), parts })
        }
        Class::Tiny => {
            tiny::check_structure(&mut fields).map_err(config_wrong)?;
            let half = |half| Tiny::from_shapes(&shape, half, Naming::Diffusers, prefix).map_err(|e| wrong(&file, e));
            let (encoder, decoder) = (half(Half::Encoder)?, half(Half::Decoder)?);
            tiny::check_sizes(fields, &encoder, &decoder).map_err(config_wrong)?;
            let list = [encoder.parameters(), decoder.parameters()].concat();
            let parts = vec![Tensors::new(checkpoint, "AutoencoderTiny", prefix, list)?];
            two_halves(Some(encoder), Some(decoder), parts, &file.display().to_string())
        }
    }
}

fn config_text(config: &Path) -> Result<String, ImportError> {
    let failed = |e: std::io::Error| wrong(config, e.to_string());
    let length = std::fs::metadata(config).map_err(failed)?.len();
    if length > CONFIG_LIMIT {
        return Err(wrong(config, format!("expected at most {CONFIG_LIMIT} bytes, found {length}")));
    }
    std::fs::read_to_string(config).map_err(failed)
}

/// The halves of a TAESD in a directory.
fn halves(folder: &Path, prefix: &str) -> Result<Autoencoder, ImportError> {
    let entries = std::fs::read_dir(folder).map_err(|e| wrong(folder, e.to_string()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.is_file()).collect();
    files.sort();
    let of = |half: &str| -> Result<Option<PathBuf>, ImportError> {
        let named = |p: &&PathBuf| p.file_stem().is_some_and(|n| n.to_string_lossy().contains(half));
        for extension in EXTENSIONS {
            let mut found = files.iter().filter(named).filter(|p| p.extension().is_some_and(|e| e == extension));
            match (found.next(), found.next()) {
                (Some(_), Some(second)) => {
                    return Err(wrong(folder, format!("expected one {half}, found several, such as {}", second.display())));
                }
                (Some(only), None) => return Ok(Some(only.clone())),
                (None, _) => {}
            }
        }
        Ok(None)
    };
    // A decoder's name does not contain "encoder".
    let (encoder, decoder) = (of("encoder")?, of("decoder")?);
    if encoder.is_none() && decoder.is_none() {
        let expected =
            format!("expected {CONFIG} (diffusers), or files whose names contain `encoder` and `decoder` (TAESD), found neither");
        return Err(wrong(folder, expected));
    }
    read_halves(encoder.as_deref(), decoder.as_deref(), prefix)
}

/// A file that is one half, and the other beside it.
fn half_file(path: &Path, prefix: &str) -> Result<Autoencoder, ImportError> {
    let checkpoint = Checkpoint::open(path, StateDict::Auto)?;
    let decoder = match (checkpoint.tensor("0.weight"), checkpoint.tensor("1.weight")) {
        (Some(_), _) => false,
        (None, Some(_)) => true,
        (None, None) => {
            let expected =
                "expected half of a TAESD (tensor `0.weight` or `1.weight`) or the weights of diffusers' layout beside their config.json";
            return Err(wrong(path, format!("{expected}, found neither")));
        }
    };
    let (this, that) = if decoder { ("decoder", "encoder") } else { ("encoder", "decoder") };
    let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let other = Some(path.with_file_name(name.replace(this, that))).filter(|p| p != path && p.is_file());
    let (encoder, decoder) = if decoder { (other.as_deref(), Some(path)) } else { (Some(path), other.as_deref()) };
    read_halves(encoder, decoder, prefix)
}

fn read_halves(encoder: Option<&Path>, decoder: Option<&Path>, prefix: &str) -> Result<Autoencoder, ImportError> {
    let open = |path: Option<&Path>| path.map(|p| Checkpoint::open(p, StateDict::Auto)).transpose();
    taesd(open(encoder)?, open(decoder)?, prefix)
}

/// A TAESD in opened files, of which there is one at least. In the IR the names of its weights begin with `prefix`.
///
/// # Errors
/// See [`ImportError`].
///
/// # Panics
/// If there is neither.
pub fn taesd(encoder: Option<Checkpoint>, decoder: Option<Checkpoint>, prefix: &str) -> Result<Autoencoder, ImportError> {
    let mut parts = Vec::new();
    let mut read = |checkpoint: Option<Checkpoint>, half: Half| -> Result<Option<Tiny>, ImportError> {
        let Some(checkpoint) = checkpoint else { return Ok(None) };
        let shape = |name: &str| checkpoint.tensor(name).map(|t| t.shape.clone());
        let prefix = format!("{prefix}{half}.");
        let tiny = Tiny::from_shapes(&shape, half, Naming::Index, &prefix);
        let tiny = tiny.map_err(|message| ImportError::Config { file: checkpoint.file().to_owned(), message })?;
        let list = tiny.parameters().to_vec();
        parts.push(Tensors::new(checkpoint, "TAESD", &prefix, list)?);
        Ok(Some(tiny))
    };
    let (encoder, decoder) = (read(encoder, Half::Encoder)?, read(decoder, Half::Decoder)?);
    let file = parts.last().expect("there is a half").checkpoint().file().to_owned();
    two_halves(encoder, decoder, parts, &file)
}

/// Two halves that belong together.
fn two_halves(encoder: Option<Tiny>, decoder: Option<Tiny>, parts: Vec<Tensors>, file: &str) -> Result<Autoencoder, ImportError> {
    if let (Some(e), Some(d)) = (&encoder, &decoder)
        && e.latent_channels() != d.latent_channels()
    {
        let (e, d) = (e.latent_channels(), d.latent_channels());
        return Err(wrong(
            Path::new(file),
            format!("expected halves with equally many latent channels, found {e} of the encoder and {d} of the decoder"),
        ));
    }
    let [encoder, decoder] = [encoder, decoder].map(|half| half.map(Box::new));
    Ok(Autoencoder { family: Family::Tiny { encoder, decoder }, parts })
}
