//! What was given in the place of something else. A reader that cannot read a file says what is wrong with it; where the file is of another
//! kind altogether, one line says of which, and which command takes such. Asked only after a reader has refused, so that it never stands
//! in the way of one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fcdm_compiler::checkpoint::{self, StateDict};
use fcdm_compiler::kind::Kind;
use fcdm_models::latents::saved;
use fcdm_models::pictures::FORMATS;

use super::{ARTIFACT, CHECKPOINT, Failure, IR, PICTURE, USAGE};

/// What a command takes at that place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Artifact,
    Checkpoint,
    Onnx,
    /// An autoencoder, as an artifact too.
    Autoencoder,
    /// An autoencoder that is to be compiled.
    AutoencoderFiles,
    Latents,
    Tensors,
    Picture,
    PictureFolder,
    Ir,
}

use Wanted::*;

impl Wanted {
    fn in_words(self) -> String {
        match self {
            Artifact => "an artifact (.fcdm)".into(),
            Checkpoint => "a checkpoint".into(),
            Onnx => "an ONNX model".into(),
            Autoencoder | AutoencoderFiles => "an autoencoder".into(),
            Latents => "latents".into(),
            Tensors => "a file of tensors (safetensors)".into(),
            Picture => format!("a picture ({FORMATS})"),
            PictureFolder => format!("a folder of pictures ({FORMATS})"),
            Ir => "IR text".into(),
        }
    }

    /// Whether things of that kind are what is wanted, or may be: then their reader knows best what is wrong.
    fn may_be(self, kind: Kind) -> bool {
        let tensors = matches!(kind, Kind::Torch | Kind::Safetensors | Kind::LegacyTorch | Kind::Pickle);
        match self {
            Artifact => kind == Kind::Artifact,
            Checkpoint => tensors,
            Onnx => kind == Kind::Onnx,
            Autoencoder if kind == Kind::Artifact => true,
            Autoencoder | AutoencoderFiles => tensors || matches!(kind, Kind::Onnx | Kind::Diffusers | Kind::Folder),
            Latents => tensors || matches!(kind, Kind::Npy | Kind::Npz | Kind::Zarr | Kind::NpyFolder | Kind::Folder),
            Tensors => tensors,
            // That one is not read is said with what may be done.
            Picture => matches!(kind, Kind::Picture(_)),
            PictureFolder => matches!(kind, Kind::Pictures | Kind::Folder),
            // The parser says where it stops to be any.
            Ir => matches!(kind, Kind::Ir | Kind::Text),
        }
    }
}

/// The result of opening `path`, or why it could not be; see [`explained`].
pub fn opened<T, E: Into<Failure>>(path: &Path, wanted: Wanted, result: Result<T, E>) -> Result<T, Failure> {
    result.map_err(|e| explained(path, wanted, e.into()))
}

/// Why a file was refused, in its reader's words, or, if it is of another kind than is wanted, what it is and what takes it.
pub fn explained(path: &Path, wanted: Wanted, why: Failure) -> Failure {
    let of_content = [CHECKPOINT, ARTIFACT, IR, PICTURE].contains(&why.code()) || wanted == PictureFolder;
    let Some(kind) = of_content.then(|| Kind::of(path).ok()).flatten() else { return why };
    let (found, advice) = match of_tensors(path, kind, wanted) {
        Some((found, advice)) => (found.to_owned(), Some(advice)),
        None if kind == Kind::Unknown || wanted.may_be(kind) => return why,
        None => (kind.to_string(), advice(kind, wanted, path)),
    };
    let advice = advice.map_or_else(String::new, |advice| format!(": {advice}"));
    let code = if wanted == PictureFolder { USAGE } else { why.code() };
    Failure::new(code, format!("{}: expected {}, found {found}{advice}", path.display(), wanted.in_words()))
}

/// Files of tensors are told apart by what is in them: latents that were given for weights, weights for latents. What it is, and what to
/// do with it.
fn of_tensors(path: &Path, kind: Kind, wanted: Wanted) -> Option<(&'static str, String)> {
    let name = typed(path);
    if !matches!(kind, Kind::Torch | Kind::Safetensors) {
        return None;
    }
    if wanted != Latents && wanted != Tensors {
        return saved::Latents::open(path).is_ok().then(|| ("latents", format!("fcdm decode {name} makes pictures of them")));
    }
    let weights = StateDict::found(&Arc::new(checkpoint::Checkpoint::open(path).ok()?), &[OF_FCDM]).ok()?;
    let compile = || format!("compile it first, fcdm compile {name} -o {}", typed(&compiled(path)));
    (!weights.is_empty()).then(|| ("an FCDM checkpoint", compile()))
}

/// A tensor that every FCDM has.
const OF_FCDM: &str = "x_embedder.weight";

/// What to do with a thing of that kind, if anything can be done.
fn advice(kind: Kind, wanted: Wanted, path: &Path) -> Option<String> {
    let name = typed(path);
    Some(match kind {
        Kind::Artifact if wanted == Latents => {
            format!("fcdm generate {name} makes pictures with it, fcdm decode LATENTS --vae {name} decodes with it")
        }
        Kind::Artifact if matches!(wanted, Checkpoint | AutoencoderFiles) => {
            format!("it is compiled already, fcdm generate {name} takes it")
        }
        Kind::Artifact => format!("fcdm generate {name} makes pictures with it"),
        Kind::Torch | Kind::Safetensors | Kind::Onnx if wanted == Artifact => {
            format!("compile it first, fcdm compile {name} -o {}", typed(&compiled(path)))
        }
        Kind::Torch | Kind::Safetensors => format!("fcdm compile {name} takes checkpoints"),
        Kind::Onnx => format!("fcdm compile {name} takes exported FCDMs, fcdm run any model"),
        Kind::LegacyTorch | Kind::Pickle => {
            "re-save it with PyTorch, torch.save(torch.load(OLD, weights_only=True), NEW), and fcdm compile takes it".into()
        }
        Kind::Picture(format) if !format.is_read() => "convert it to PNG or JPEG, which fcdm encode and generate --init-image take".into(),
        Kind::Picture(_) => "fcdm encode takes a folder of pictures, fcdm generate --init-image takes one".into(),
        Kind::Npy | Kind::Npz => format!("fcdm decode {name} makes pictures of latents in it"),
        Kind::Zarr | Kind::NpyFolder => format!("fcdm decode {name} makes pictures of its latents"),
        Kind::Diffusers => format!("fcdm compile --vae {name} takes the autoencoder in it"),
        Kind::Pictures => format!("fcdm encode {name} makes latents of them"),
        Kind::Folder => "name a file in it".into(),
        Kind::Ir => format!("fcdm opt {name} takes it"),
        Kind::Gguf => "fcdm compile takes the same weights as safetensors or PyTorch files".into(),
        Kind::LfsPointer => "git lfs pull fetches the file".into(),
        Kind::WebPage | Kind::Empty => "download it again".into(),
        Kind::Archive(_) => "unpack it, and give what is in it".into(),
        Kind::Other(_) | Kind::Json | Kind::Text | Kind::Unknown => return None,
    })
}

/// Where a compiled file goes: the same name in the current folder.
fn compiled(path: &Path) -> PathBuf {
    PathBuf::from(path.file_name().unwrap_or(path.as_os_str())).with_extension("fcdm")
}

/// A path as it is typed in a shell.
fn typed(path: &Path) -> String {
    let name = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/\\._-+=:,@%".contains(c);
    if name.chars().all(plain) { name } else { format!("'{}'", name.replace('\'', "'\\''")) }
}
