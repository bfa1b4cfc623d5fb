//! Writing an artifact as a stream: a tensor's bytes are made when its turn comes, hashed and written, so that
//! memory holds one tensor at a time, however large the file. The header stands before the data and contains their
//! checksums; these have a fixed width, so a header of the final length is written first and filled in at the end.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use serde_json::Value;
use xxhash_rust::xxh3::Xxh3;

use super::error::{Fault, WriteError, one_line};
use super::header::{self, Extents, HEADER_LIMIT, Strings, Table, TensorEntry, byte_length};
use super::model::{AutoencoderInfo, ModelInfo};
use super::reader::plan_from_json;
use super::{VERSION, checksum, keys};
use crate::file::{FileError, WRITE_BUFFER, replace_file};
use crate::plan::{ALIGN, Element, Plan};

/// Everything of an artifact but its tensors.
#[derive(Clone, Debug)]
pub struct ArtifactContents {
    /// The plan.
    pub plan: Plan,
    /// The denoiser's description, if there is one.
    pub model: Option<ModelInfo>,
    /// The autoencoder's description, if there is one.
    pub autoencoder: Option<AutoencoderInfo>,
    /// Text of the IR.
    pub ir: Option<String>,
    /// A JSON object on where the artifact comes from. Whoever wants equal files from equal inputs puts no dates here.
    pub provenance: Option<Value>,
    /// Parameter counts, costs, passes.
    pub report: Option<Value>,
    /// Licence of the weights.
    pub license: Option<String>,
}

impl ArtifactContents {
    /// A plan and a denoiser's description, and nothing else.
    pub fn new(plan: Plan, model: Option<ModelInfo>) -> ArtifactContents {
        ArtifactContents { plan, model, autoencoder: None, ir: None, provenance: None, report: None, license: None }
    }
}

/// Makes the bytes of a tensor.
type Produce<'a> = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + 'a>;

/// A tensor whose bytes are made when they are needed.
pub struct TensorSource<'a> {
    name: String,
    dtype: Element,
    shape: Vec<usize>,
    produce: Produce<'a>,
}

impl<'a> TensorSource<'a> {
    /// A tensor of `shape` whose little-endian bytes `produce` writes, exactly as many as the shape says. That number
    /// has to be a multiple of [`ALIGN`]: pad the extents.
    pub fn new(
        name: impl Into<String>,
        dtype: Element,
        shape: Vec<usize>,
        produce: impl FnOnce(&mut dyn Write) -> io::Result<()> + 'a,
    ) -> Self {
        Self { name: name.into(), dtype, shape, produce: Box::new(produce) }
    }

    /// A tensor whose bytes exist already.
    pub fn bytes(name: impl Into<String>, dtype: Element, shape: Vec<usize>, bytes: impl Into<Cow<'a, [u8]>>) -> Self {
        let bytes = bytes.into();
        Self::new(name, dtype, shape, move |w| w.write_all(&bytes))
    }

    /// An f32 tensor of existing values.
    pub fn f32(name: impl Into<String>, shape: Vec<usize>, values: impl Into<Cow<'a, [f32]>>) -> Self {
        let values = values.into();
        Self::new(name, Element::F32, shape, move |w| write_f32(w, &values))
    }
}

/// Writes values as files hold them, little-endian.
///
/// # Errors
/// What `w` says.
pub fn write_f32(w: &mut dyn Write, values: &[f32]) -> io::Result<()> {
    // As long as the buffer of a file that is written, which then passes these on without a copy of its own.
    let mut buffer = [0u8; WRITE_BUFFER];
    for chunk in values.chunks(buffer.len() / 4) {
        for (bytes, value) in buffer.chunks_exact_mut(4).zip(chunk) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
        w.write_all(&buffer[..4 * chunk.len()])?;
    }
    Ok(())
}

/// What an artifact can be written into: an open file, or memory.
pub trait Output: Write + Seek {}

impl<T: Write + Seek> Output for T {}

/// Writes an artifact to `path`, whole or not at all, and returns its `fcdm.checksum`. `cancelled` is asked before
/// every tensor; `progress` hears, after every tensor, how many bytes of tensors are written and how many there are.
///
/// # Errors
/// When the contents make no valid artifact, the file cannot be written, or `cancelled` says so. What was at `path`
/// before is then still there.
pub fn write(
    path: &Path,
    contents: &ArtifactContents,
    tensors: Vec<TensorSource>,
    cancelled: &dyn Fn() -> bool,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<String, WriteError> {
    let mut checksum = None;
    replace_file(path, |file| {
        checksum = Some(write_to(path, file, contents, tensors, cancelled, progress)?);
        Ok::<(), WriteError>(())
    })?;
    Ok(checksum.expect("the file was written"))
}

/// As [`write`], into something that is open and empty and goes away by itself if this fails; `path` stands for it in messages.
///
/// # Errors
/// As there.
pub fn write_to(
    path: &Path,
    file: &mut dyn Output,
    contents: &ArtifactContents,
    tensors: Vec<TensorSource>,
    cancelled: &dyn Fn() -> bool,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<String, WriteError> {
    let refuse = |fault| WriteError::Content { path: path.to_path_buf(), fault };
    let Outline { mut metadata, table, producers, placeholder } = Outline::of(contents, tensors).map_err(refuse)?;
    let mut sums = unsummed(&table);
    let total = table.values().map(|t| (t.end - t.begin) as u64).sum();

    file.write_all(&placeholder).map_err(FileError::writing(path))?;
    let mut done = 0;
    for ((name, entry), produce) in table.iter().zip(producers) {
        if cancelled() {
            return Err(WriteError::Cancelled { path: path.to_path_buf() });
        }
        let sum = write_tensor(path, file, name, (entry.end - entry.begin) as u64, produce)?;
        sums.insert(name, checksum::hex(sum));
        done += (entry.end - entry.begin) as u64;
        progress(done, total);
    }
    metadata.insert(keys::CHECKSUMS.into(), json(&sums));
    metadata.insert(keys::CHECKSUM.into(), checksum::hex(checksum::of_header(&metadata, &table)));
    let final_header = header::print(&metadata, &table).ok_or_else(|| refuse(too_long()))?;
    assert_eq!(final_header.len(), placeholder.len(), "checksums have a fixed width");
    file.seek(SeekFrom::Start(0)).map_err(FileError::writing(path))?;
    file.write_all(&final_header).map_err(FileError::writing(path))?;
    Ok(metadata.remove(keys::CHECKSUM).expect("it was put in above"))
}

/// Bytes of the file that [`write`] makes of these; no tensor is made for it.
///
/// # Errors
/// When they make no valid artifact.
pub fn file_bytes(contents: &ArtifactContents, tensors: Vec<TensorSource>) -> Result<u64, Fault> {
    let outline = Outline::of(contents, tensors)?;
    Ok(outline.placeholder.len() as u64 + outline.table.values().map(|t| (t.end - t.begin) as u64).sum::<u64>())
}

/// A file before its tensors are made: all but sums, for which there is room.
struct Outline<'a> {
    metadata: Strings,
    table: Table,
    producers: Vec<Produce<'a>>,
    placeholder: Vec<u8>,
}

impl<'a> Outline<'a> {
    fn of(contents: &ArtifactContents, tensors: Vec<TensorSource<'a>>) -> Result<Outline<'a>, Fault> {
        let mut metadata = describe(contents)?;
        let (table, producers) = lay_out(tensors)?;
        metadata.insert(keys::CHECKSUMS.into(), json(&unsummed(&table)));
        metadata.insert(keys::CHECKSUM.into(), checksum::hex(0));
        let placeholder = header::print(&metadata, &table).ok_or_else(too_long)?;
        Ok(Outline { metadata, table, producers, placeholder })
    }
}

/// Sums of tensors as wide as any.
fn unsummed(table: &Table) -> BTreeMap<&str, String> {
    table.keys().map(|name| (name.as_str(), checksum::hex(0))).collect()
}

fn too_long() -> Fault {
    Fault::field("header", format!("at most {HEADER_LIMIT} bytes"), "more")
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("strings and numbers have a JSON form")
}

/// The metadata but for the checksums.
fn describe(contents: &ArtifactContents) -> Result<Strings, Fault> {
    contents.model.as_ref().map_or(Ok(()), ModelInfo::validate)?;
    contents.autoencoder.as_ref().map_or(Ok(()), |a| a.validate(contents.model.as_ref()))?;
    let plan = json(&contents.plan);
    // JSON has no infinities: an attribute that is one would be lost here and found by the reader only.
    if plan_from_json(&plan)? != contents.plan {
        return Err(Fault::field(keys::PLAN, "attributes that are finite", "one that is not"));
    }
    if let Some(other) = contents.provenance.as_ref().filter(|v| !v.is_object()) {
        return Err(Fault::field(keys::PROVENANCE, "a JSON object", one_line(&other.to_string())));
    }
    let mut metadata = BTreeMap::from([(keys::VERSION.to_string(), VERSION.to_string()), (keys::PLAN.to_string(), plan)]);
    let optional = [
        (keys::MODEL, contents.model.as_ref().map(json)),
        (keys::AUTOENCODER, contents.autoencoder.as_ref().map(json)),
        (keys::IR, contents.ir.clone()),
        (keys::PROVENANCE, contents.provenance.as_ref().map(json)),
        (keys::REPORT, contents.report.as_ref().map(json)),
        (keys::LICENSE, contents.license.clone()),
    ];
    metadata.extend(optional.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?))));
    Ok(metadata)
}

/// The table in order of names, and the producers in the same order.
fn lay_out(mut tensors: Vec<TensorSource<'_>>) -> Result<(Table, Vec<Produce<'_>>), Fault> {
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let mut table = BTreeMap::new();
    let mut producers = Vec::with_capacity(tensors.len());
    let mut begin = 0usize;
    for TensorSource { name, dtype, shape, produce } in tensors {
        if header::is_reserved(&name) || table.contains_key(&name) {
            return Err(Fault::tensor(&name, "a name of its own", "one that is taken"));
        }
        let length = byte_length(dtype, &shape).filter(|n| begin.checked_add(*n).is_some());
        let length = length.ok_or_else(|| Fault::tensor(&name, "a shape that fits into memory", Extents(&shape)))?;
        if !length.is_multiple_of(ALIGN) {
            return Err(Fault::tensor(&name, format!("a multiple of {ALIGN} bytes"), format!("{length} of shape {}", Extents(&shape))));
        }
        let end = begin + length;
        table.insert(name, TensorEntry { dtype, shape, begin, end });
        producers.push(produce);
        begin = end;
    }
    Ok((table, producers))
}

/// Writes one tensor and returns its hash.
fn write_tensor(path: &Path, file: &mut dyn Output, name: &str, expected: u64, produce: Produce) -> Result<u64, WriteError> {
    let mut counted = Counted { file, hash: Xxh3::new(), written: 0 };
    produce(&mut counted).map_err(FileError::writing(path))?;
    if counted.written != expected {
        let fault = Fault::tensor(name, format!("{expected} bytes"), counted.written);
        return Err(WriteError::Content { path: path.to_path_buf(), fault });
    }
    Ok(counted.hash.digest())
}

/// Hashes and counts what passes.
struct Counted<'a> {
    file: &'a mut dyn Output,
    hash: Xxh3,
    written: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let accepted = self.file.write(bytes)?;
        self.hash.update(&bytes[..accepted]);
        self.written += accepted as u64;
        Ok(accepted)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
