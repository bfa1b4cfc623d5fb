//! What a file or folder is, told by its content: a name proves nothing, and people give the wrong file. The one place that knows the
//! beginnings of files. Readers decide for themselves whether they can read one; this says what it is where they cannot.
//!
//! A look takes the first [`LOOK`] bytes, of a ZIP also its end, of a folder some of its names. Nothing is allocated by a file's numbers.

mod folder;
mod picture;

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

pub use picture::PictureFormat;

/// Bytes that are looked at from the beginning, and of a ZIP from the end, where its directory is.
pub const LOOK: usize = 4096;
const END: u64 = 1 << 16;

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An artifact of ours: a safetensors file whose metadata say so.
    Artifact,
    /// Another safetensors file.
    Safetensors,
    /// A ZIP that `torch.save` wrote.
    Torch,
    /// PyTorch's format from before version 1.6: pickles in a row, or a tar file.
    LegacyTorch,
    /// A Python pickle of something else.
    Pickle,
    /// An ONNX model.
    Onnx,
    /// A picture.
    Picture(PictureFormat),
    /// One NumPy array.
    Npy,
    /// NumPy arrays in a ZIP.
    Npz,
    /// Another archive or compressed file, by its name.
    Archive(&'static str),
    /// IR text.
    Ir,
    /// A GGUF model.
    Gguf,
    /// A file of another program, by its name with an article.
    Other(&'static str),
    /// What Git LFS leaves where a file was not fetched.
    LfsPointer,
    /// A web page, which is what a download of a wrong address gives.
    WebPage,
    /// JSON.
    Json,
    /// Other text.
    Text,
    /// Nothing.
    Empty,
    /// A zarr store, or an array of one.
    Zarr,
    /// A folder of NumPy arrays, or with such for latents.
    NpyFolder,
    /// A folder in diffusers' layout: a network's or a pipeline's.
    Diffusers,
    /// A folder of pictures, perhaps in sub-folders.
    Pictures,
    /// Another folder.
    Folder,
    /// Bytes of which nothing is known.
    Unknown,
}

impl Kind {
    /// Looks at what `path` leads to. What is neither a file nor a folder, a pipe for instance, is not opened.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(path: &Path) -> io::Result<Kind> {
        let about = std::fs::metadata(path)?;
        if about.is_dir() {
            return folder::kind(path);
        }
        if !about.is_file() {
            return Ok(Kind::Unknown);
        }
        let mut file = File::open(path)?;
        let mut start = Vec::with_capacity(LOOK);
        (&mut file).take(LOOK as u64).read_to_end(&mut start)?;
        let mut end = Vec::new();
        if start.starts_with(b"PK") && about.len() > LOOK as u64 {
            file.seek(SeekFrom::Start(about.len().saturating_sub(END)))?;
            file.take(END).read_to_end(&mut end)?;
        }
        Ok(Kind::of_bytes(&start, &end))
    }

    /// As [`Kind::of`], of a file's beginning, and of its end where that is not the same.
    pub fn of_bytes(start: &[u8], end: &[u8]) -> Kind {
        let begins = |magic: &[u8]| start.starts_with(magic);
        if start.is_empty() {
            return Kind::Empty;
        }
        if begins(b"PK\x03\x04") || begins(b"PK\x05\x06") {
            return zip(start, end);
        }
        if let Some(format) = PictureFormat::of(start) {
            return Kind::Picture(format);
        }
        if let Some((_, kind)) = MAGIC.iter().find(|(magic, _)| begins(magic)) {
            return *kind;
        }
        if start.get(257..262) == Some(b"ustar") {
            let torch = [&b"sys_info\0"[..], b"./sys_info\0", b"./\0", b"pickle\0", b"tensors\0", b"storages\0"];
            return if torch.iter().any(|name| begins(name)) { Kind::LegacyTorch } else { Kind::Archive("tar") };
        }
        if let [0x80, 2..=5, rest @ ..] = start {
            // The number that PyTorch wrote first: 0x1950a86a20f9469cfc6c.
            return if rest.starts_with(b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19") { Kind::LegacyTorch } else { Kind::Pickle };
        }
        if start.get(4..8) == Some(b"ftyp") {
            return Kind::Other("a film (MP4)");
        }
        if start.get(4..8) == Some(b"TFL3") {
            return Kind::Other("a TensorFlow Lite model");
        }
        if is_safetensors(start) {
            return if start[8..].starts_with(br#"{"__metadata__":{"fcdm."#) { Kind::Artifact } else { Kind::Safetensors };
        }
        if is_model_proto(start) {
            return Kind::Onnx;
        }
        text(start).unwrap_or(Kind::Unknown)
    }

    /// Whether it is a folder.
    pub fn is_folder(self) -> bool {
        matches!(self, Kind::Zarr | Kind::NpyFolder | Kind::Diffusers | Kind::Pictures | Kind::Folder)
    }
}

/// Whether a file is an ONNX model, by its name or by its content.
pub fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")) || Kind::of(path).is_ok_and(|kind| kind == Kind::Onnx)
}

/// Beginnings that say it all.
const MAGIC: [(&[u8], Kind); 17] = [
    (b"\x93NUMPY", Kind::Npy),
    (b"GGUF", Kind::Gguf),
    (b"\x1f\x8b", Kind::Archive("gzip")),
    (b"\x28\xb5\x2f\xfd", Kind::Archive("zstd")),
    (b"\xfd7zXZ\0", Kind::Archive("xz")),
    (b"BZh", Kind::Archive("bzip2")),
    (b"7z\xbc\xaf\x27\x1c", Kind::Archive("7z")),
    (b"Rar!\x1a\x07", Kind::Archive("RAR")),
    (b"\x89HDF\r\n\x1a\n", Kind::Other("an HDF5 file")),
    (b"%PDF", Kind::Other("a PDF document")),
    (b"PAR1", Kind::Other("a Parquet file")),
    (b"\x7fELF", Kind::Other("a program")),
    (b"MZ", Kind::Other("a program")),
    (b"\x1aE\xdf\xa3", Kind::Other("a film (Matroska)")),
    (b"SQLite format 3\0", Kind::Other("an SQLite database")),
    (b"\0\x05\x16\x07", Kind::Other("a companion file of macOS")),
    (b"version https://git-lfs", Kind::LfsPointer),
];

/// A ZIP by the names in it: those of the first entries, whose data may be long, and those of the directory at the end.
fn zip(start: &[u8], end: &[u8]) -> Kind {
    let names = |what: &[u8]| [start, end].iter().any(|bytes| bytes.windows(what.len()).any(|w| w == what));
    // PyTorch's entries lie in a folder of the archive's name.
    if names(b"data.pkl") {
        Kind::Torch
    } else if names(b".npyPK") || first_name(start).is_some_and(|name| name.ends_with(b".npy")) {
        Kind::Npz
    } else {
        Kind::Archive("ZIP")
    }
}

/// The first entry's name, by its local header.
fn first_name(start: &[u8]) -> Option<&[u8]> {
    let length = u16::from_le_bytes([*start.get(26)?, *start.get(27)?]) as usize;
    start.get(30..30 + length)
}

/// A JSON object after eight bytes of its length, which is below 100 MB.
fn is_safetensors(start: &[u8]) -> bool {
    start.get(8) == Some(&b'{') && start[4..8] == [0; 4] && start[3] < 6
}

/// Fields of a `ModelProto` in the order that all exporters write them in: the version of the format, a small number, then one of the
/// others: producer, domain, version, doc string, graph, operator sets.
fn is_model_proto(start: &[u8]) -> bool {
    matches!(start, [0x08, 1..=32, 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42, ..])
}

/// Text by its first line that says something; `None` if it is no text.
fn text(start: &[u8]) -> Option<Kind> {
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        // A character may be cut where the look ends.
        Err(e) if e.error_len().is_none() && start.len() == LOOK => std::str::from_utf8(&start[..e.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\x0c')) {
        return None;
    }
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let head: String = text.chars().take(16).flat_map(char::to_lowercase).collect();
    if ["<!doctype html", "<html", "<head", "<body"].iter().any(|tag| head.starts_with(tag)) {
        return Some(Kind::WebPage);
    }
    if text.starts_with("<svg") || text.starts_with("<?xml") && text.contains("<svg") {
        return Some(Kind::Picture(PictureFormat::Svg));
    }
    if text.starts_with(['{', '[']) {
        return Some(Kind::Json);
    }
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with(';'));
    let ir = first.is_some_and(|line| line.starts_with("fn @") || line.starts_with("weight @"));
    Some(if ir { Kind::Ir } else { Kind::Text })
}

impl fmt::Display for Kind {
    /// In words, with an article.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Artifact => "an artifact",
            Kind::Safetensors => "a safetensors file",
            Kind::Torch => "a PyTorch checkpoint",
            Kind::LegacyTorch => "a PyTorch file from before version 1.6",
            Kind::Pickle => "a Python pickle",
            Kind::Onnx => "an ONNX model",
            Kind::Picture(format) => return write!(f, "a picture ({format})"),
            Kind::Npy => "a NumPy array",
            Kind::Npz => "an archive of NumPy arrays",
            Kind::Archive(name) => {
                let article = if name.starts_with(['R', 'x', '7']) && *name != "7z" { "an" } else { "a" };
                return write!(f, "{article} {name} archive");
            }
            Kind::Ir => "IR text",
            Kind::Gguf => "a GGUF model",
            Kind::Other(name) => name,
            Kind::LfsPointer => "a Git LFS pointer instead of the file",
            Kind::WebPage => "a web page instead of the file",
            Kind::Json => "JSON text",
            Kind::Text => "a text file",
            Kind::Empty => "an empty file",
            Kind::Zarr => "a zarr store",
            Kind::NpyFolder => "a folder of NumPy arrays",
            Kind::Diffusers => "a folder in diffusers' layout",
            Kind::Pictures => "a folder of pictures",
            Kind::Folder => "a folder",
            Kind::Unknown => "a file of another kind",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings() {
        let header = |json: &str| [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat();
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        for (bytes, kind) in [
            (b"".to_vec(), Kind::Empty),
            (header(r#"{"__metadata__":{"fcdm.checksum":"#), Kind::Artifact),
            (header(r#"{"latents":{"dtype":"F32""#), Kind::Safetensors),
            (b"PK\x03\x04..............................a/data.pkl".to_vec(), Kind::Torch),
            (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02".to_vec(), Kind::LegacyTorch),
            (b"\x80\x04}.".to_vec(), Kind::Pickle),
            (tar, Kind::Archive("tar")),
            (b"\x08\x08\x12\x07pytorch".to_vec(), Kind::Onnx),
            (b"; a comment\n\nweight @w : f32[8]\n".to_vec(), Kind::Ir),
            (b"\xef\xbb\xbf\n<!DOCTYPE HTML><html>".to_vec(), Kind::WebPage),
            (b"version https://git-lfs.github.com/spec/v1\n".to_vec(), Kind::LfsPointer),
            (b"{\"a\": 1}".to_vec(), Kind::Json),
            (b"notes".to_vec(), Kind::Text),
            (b"\xff\xfe\x00".to_vec(), Kind::Unknown),
            (b"\x89PNG\r\n\x1a\n".to_vec(), Kind::Picture(PictureFormat::Png)),
        ] {
            assert_eq!(Kind::of_bytes(&bytes, &[]), kind, "{:?}", String::from_utf8_lossy(&bytes));
        }
    }
}
