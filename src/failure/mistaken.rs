//! What was given in the place of something else. A reader that cannot read a file says what is wrong with it; where the file is of another
//! kind altogether, one line says of which, and which command takes such. Asked only after a reader has refused, so that it never stands
//! in the way of one.

use std::path::{Path, PathBuf};

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
        let of_tensors = matches!(kind, Kind::Torch | Kind::Safetensors | Kind::LegacyTorch | Kind::Pickle);
        match self {
            Artifact => kind == Kind::Artifact,
            Checkpoint => of_tensors || kind == Kind::Onnx,
            Onnx => kind == Kind::Onnx,
            Autoencoder if kind == Kind::Artifact => true,
            Autoencoder | AutoencoderFiles => of_tensors || matches!(kind, Kind::Onnx | Kind::Diffusers | Kind::Folder),
            Latents => of_tensors || matches!(kind, Kind::Npy | Kind::Npz | Kind::Zarr | Kind::NpyFolder | Kind::Folder),
            Tensors => of_tensors,
            // That one is not read is said with what may be done.
            Picture => matches!(kind, Kind::Picture(_)),
            PictureFolder => matches!(kind, Kind::Pictures | Kind::Folder),
            Ir => kind == Kind::Ir,
        }
    }
}

/// The result of opening `path`, or why it could not be; see [`explained`].
pub fn opened<T, E: Into<Failure>>(path: &Path, wanted: Wanted, result: Result<T, E>) -> Result<T, Failure> {
    result.map_err(|e| explained(path, wanted, e.into()))
}

/// Why a file was refused, in its reader's words, or, if it is of another kind than is wanted, what it is and what takes it.
pub fn explained(path: &Path, wanted: Wanted, why: Failure) -> Failure {
    let of_content = [CHECKPOINT, ARTIFACT, IR, PICTURE].contains(&why.code) || wanted == PictureFolder;
    let Some(kind) = of_content.then(|| Kind::of(path).ok()).flatten() else { return why };
    let tensors = matches!(kind, Kind::Torch | Kind::Safetensors) && wanted != Latents && wanted != Tensors;
    let latents = tensors && saved::Latents::open(path).is_ok();
    if kind == Kind::Unknown || !latents && wanted.may_be(kind) {
        return why;
    }
    let (expected, found) = (wanted.in_words(), if latents { "latents".to_owned() } else { kind.to_string() });
    let advice = if latents { Some(of_latents(path)) } else { advice(kind, wanted, path) };
    let advice = advice.map_or_else(String::new, |advice| format!(": {advice}"));
    let code = if wanted == PictureFolder { USAGE } else { why.code };
    Failure::new(code, format!("{}: expected {expected}, found {found}{advice}", path.display()))
}

fn of_latents(path: &Path) -> String {
    format!("fcdm decode {} makes pictures of them", typed(path))
}

/// What to do with a thing of that kind, if anything can be done.
fn advice(kind: Kind, wanted: Wanted, path: &Path) -> Option<String> {
    let name = typed(path);
    Some(match kind {
        Kind::Artifact if wanted == Latents => {
            format!("fcdm generate {name} makes pictures with it, fcdm decode LATENTS --vae {name} decodes with it")
        }
        Kind::Artifact if matches!(wanted, Checkpoint | AutoencoderFiles) => format!("it is compiled already, fcdm generate {name} takes it"),
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
