//! Which autoencoder a path holds. Told by content where there is some: a directory's `config.json` says its class, a file's
//! tensors say which half of a TAESD it is.

use std::path::{Path, PathBuf};

use fcdm_compiler::checkpoint::StateDict;
use fcdm_compiler::kind::is_onnx;

use super::fields::Fields;
use super::graph::Graph;
use super::kl::{self, Kl};
use super::tiny::{self, Naming, Tiny};
use super::{Autoencoder, Family, Half, single, weight_files};
use crate::bundled;
use crate::import::{ImportError, Tensors};

const CONFIG: &str = "config.json";

/// Where a pipeline of diffusers has its autoencoder.
const OF_PIPELINE: &str = "vae";

/// Extensions of checkpoints, the better format first.
const EXTENSIONS: [&str; 4] = ["safetensors", "pth", "pt", "bin"];

/// A description of a few fields is no longer.
const CONFIG_LIMIT: u64 = 1 << 20;

/// Opens an autoencoder that is made of several files, ONNX models of either half for instance, or of one; see [`open`]. `scale` is what the
/// denoiser's latents are its own times, where the files do not say so.
///
/// # Errors
/// See [`ImportError`].
///
/// # Panics
/// If there are no paths.
pub fn open_all(paths: &[PathBuf], prefix: &str, scale: Option<f64>) -> Result<Autoencoder, ImportError> {
    let (mut encoder, mut decoder) = (None, None);
    for path in paths {
        if !is_onnx(path) {
            return match paths.len() {
                1 => open_scaled(path, prefix, scale),
                n => Err(wrong(path, format!("expected one path, or ONNX models of both halves, found {n} paths"))),
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
    Ok(Autoencoder { family: Family::Graphs { encoder, decoder }, parts: Vec::new(), notes: Vec::new() })
}

/// Opens an autoencoder: a directory in diffusers' layout (`AutoencoderKL`, `AutoencoderTiny`), a pipeline's that has such, a directory
/// with the two halves of a TAESD (`*encoder*`, `*decoder*`), or one of these files, whose other half is taken if it lies beside it; or one
/// file of both halves, under diffusers' names or CompVis'; `taef2`, where there is no such path, is the one in the box. In the IR the names of its weights begin with `prefix`.
///
/// # Errors
/// See [`ImportError`].
pub fn open(path: &Path, prefix: &str) -> Result<Autoencoder, ImportError> {
    open_scaled(path, prefix, None)
}

fn open_scaled(path: &Path, prefix: &str, scale: Option<f64>) -> Result<Autoencoder, ImportError> {
    let says_itself = || match scale {
        Some(_) => {
            Err(wrong(path, "vae-scale: it is for ONNX autoencoders and files without a description; this one says what it scales by"))
        }
        None => Ok(()),
    };
    if bundled::is_autoencoder(path) {
        says_itself()?;
        return bundled::autoencoder_under(prefix);
    }
    if path.is_dir() {
        says_itself()?;
        let inner = path.join(OF_PIPELINE);
        return match [path, &inner].into_iter().find(|folder| folder.join(CONFIG).is_file()) {
            Some(folder) => diffusers(folder, None, prefix),
            None => halves(path, prefix),
        };
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    if weight_files::is_named_so(path) && folder.join(CONFIG).is_file() {
        says_itself()?;
        return diffusers(folder, Some(path), prefix);
    }
    let weights = weight_files::open(path)?;
    if weights.tensor("0.weight").is_some() || weights.tensor("1.weight").is_some() {
        says_itself()?;
        return half_file(path, &weights, prefix);
    }
    if weights.tensor("encoder.layers.0.weight").is_some() || weights.tensor("decoder.layers.0.weight").is_some() {
        says_itself()?;
        return tiny(path, weights, None, prefix);
    }
    one_file(path, weights, prefix, scale)
}

/// An AutoencoderKL in one file, perhaps among other networks.
fn one_file(path: &Path, mut weights: StateDict, prefix: &str, scale: Option<f64>) -> Result<Autoencoder, ImportError> {
    if let Some(file) = weights.only_file() {
        weights = StateDict::found(file, &single::ANCHORS)?.into_iter().next().ok_or_else(|| {
            let expected =
                "expected half of a TAESD (tensor `0.weight` or `1.weight`), both (`encoder.layers.0.weight`), or an AutoencoderKL";
            let anchor = single::ANCHORS[0];
            wrong(path, format!("{expected} (`{anchor}`), or the weights of diffusers' layout beside their {CONFIG}, found none"))
        })?;
    }
    if let Some(levels) = single::compvis_levels(&weights) {
        weights = weights.renamed(&|name| single::of_compvis(name, levels))?;
    }
    let (fields, note) = single::description(&weights, scale).map_err(|e| wrong(path, e))?;
    let mut autoencoder = kl(path, weights, Fields::of(fields), prefix)?;
    autoencoder.notes.extend(note);
    Ok(autoencoder)
}

pub(super) fn wrong(file: &Path, message: impl Into<String>) -> ImportError {
    ImportError::Config { file: file.display().to_string(), message: message.into() }
}

/// diffusers' classes.
#[derive(Clone, Copy)]
enum Class {
    Kl,
    Tiny,
}

fn diffusers(folder: &Path, file: Option<&Path>, prefix: &str) -> Result<Autoencoder, ImportError> {
    let config = folder.join(CONFIG);
    let config_wrong = |text: String| wrong(&config, text);
    let mut fields = Fields::parse(&limited_text(&config, CONFIG_LIMIT)?).map_err(config_wrong)?;
    let class = fields.class(&[("AutoencoderKL", Class::Kl), ("AutoencoderTiny", Class::Tiny)]).map_err(config_wrong)?;
    let file = file.map_or_else(|| weight_files::of_folder(folder), |f| Ok(f.to_owned()))?;
    let weights = weight_files::open(&file)?;
    match class {
        Class::Kl => kl(&config, weights, fields, prefix),
        Class::Tiny => tiny(&file, weights, Some((&config, fields)), prefix),
    }
}

/// An `AutoencoderKL` of which `described` says the rest.
fn kl(described: &Path, weights: StateDict, fields: Fields, prefix: &str) -> Result<Autoencoder, ImportError> {
    let shape = |name: &str| weights.tensor(name).map(|t| t.shape.clone());
    let kl = Kl::new(kl::Config::read(fields).map_err(|e| wrong(described, e))?, &shape, prefix);
    let list = kl.parameters().to_vec();
    let parts = vec![Tensors::new(weights, "AutoencoderKL", prefix, list)?];
    Ok(Autoencoder { family: Family::Kl(Box::new(kl)), parts, notes: Vec::new() })
}

/// Both halves of a TAESD in one file, under diffusers' names, with the description if there is one.
fn tiny(file: &Path, weights: StateDict, described: Option<(&Path, Fields)>, prefix: &str) -> Result<Autoencoder, ImportError> {
    let shape = |name: &str| weights.tensor(name).map(|t| t.shape.clone());
    let half = |half| Tiny::from_shapes(&shape, half, Naming::Diffusers, prefix).map_err(|e| wrong(file, e));
    let described = match described {
        Some((config, mut fields)) => {
            tiny::check_structure(&mut fields).map_err(|e| wrong(config, e))?;
            Some((config, fields))
        }
        None => None,
    };
    let (encoder, decoder) = (half(Half::Encoder)?, half(Half::Decoder)?);
    if let Some((config, fields)) = described {
        tiny::check_sizes(fields, &encoder, &decoder).map_err(|e| wrong(config, e))?;
    }
    let list = [encoder.parameters(), decoder.parameters()].concat();
    let parts = vec![Tensors::new(weights, "AutoencoderTiny", prefix, list)?];
    two_halves(Some(encoder), Some(decoder), parts, &file.display().to_string())
}

pub(super) fn limited_text(path: &Path, limit: u64) -> Result<String, ImportError> {
    let failed = |e: std::io::Error| wrong(path, e.to_string());
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > limit {
        return Err(wrong(path, format!("expected at most {limit} bytes, found {length}")));
    }
    std::fs::read_to_string(path).map_err(failed)
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
fn half_file(path: &Path, weights: &StateDict, prefix: &str) -> Result<Autoencoder, ImportError> {
    let decoder = weights.tensor("0.weight").is_none();
    let (this, that) = if decoder { ("decoder", "encoder") } else { ("encoder", "decoder") };
    let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let other = Some(path.with_file_name(name.replace(this, that))).filter(|p| p != path && p.is_file());
    let (encoder, decoder) = if decoder { (other.as_deref(), Some(path)) } else { (Some(path), other.as_deref()) };
    read_halves(encoder, decoder, prefix)
}

fn read_halves(encoder: Option<&Path>, decoder: Option<&Path>, prefix: &str) -> Result<Autoencoder, ImportError> {
    let open = |path: Option<&Path>| path.map(weight_files::open).transpose();
    taesd(open(encoder)?, open(decoder)?, prefix)
}

/// A TAESD in opened files, of which there is one at least. In the IR the names of its weights begin with `prefix`.
///
/// # Errors
/// See [`ImportError`].
///
/// # Panics
/// If there is neither.
pub fn taesd(encoder: Option<StateDict>, decoder: Option<StateDict>, prefix: &str) -> Result<Autoencoder, ImportError> {
    let mut parts = Vec::new();
    let mut read = |checkpoint: Option<StateDict>, half: Half| -> Result<Option<Tiny>, ImportError> {
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
    let file = parts.last().expect("there is a half").weights().file().to_owned();
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
    Ok(Autoencoder { family: Family::Tiny { encoder, decoder }, parts, notes: Vec::new() })
}
