//! Opening an artifact: everything is checked here, once, so that what is handed out can be used without checks.
//! Whether the plan is sound is the plan checker's business; here it only has to be a plan.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::error::{ArtifactError, Fault, one_line};
use super::header::{RawHeader, Strings, Table, TensorEntry};
use super::model::{AutoencoderInfo, ModelInfo};
use super::source::{Bytes, Source};
use super::{VERSION, checksum, keys};
#[cfg(feature = "files")]
use crate::mapped::MappedFile;
use crate::plan::{self, Element, Plan};

/// An artifact, mapped or in memory. Invariants: every tensor of the table lies inside the bytes, on a multiple of
/// [`plan::ALIGN`] bytes, and is as long as its shape says.
#[derive(Debug)]
pub struct Artifact {
    path: PathBuf,
    pub(super) source: Source,
    data_start: usize,
    pub(super) metadata: Strings,
    pub(super) tensors: Table,
    plan: Plan,
    model: Option<ModelInfo>,
    autoencoder: Option<AutoencoderInfo>,
}

impl Artifact {
    /// Opens and verifies `path`, every byte of it.
    ///
    /// # Errors
    /// On anything but an undamaged artifact of this version.
    #[cfg(feature = "files")]
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ArtifactError> {
        let artifact = Self::open_unverified(path)?;
        artifact.verify()?;
        Ok(artifact)
    }

    /// Opens `path` without reading the tensors' bytes: all but their checksums is verified, hence all that could do
    /// harm. Damaged weights give wrong pictures, nothing worse, until [`Self::verify`] or
    /// `verify_in_background` finds them.
    ///
    /// # Errors
    /// As [`Self::open`], save for damaged tensors.
    #[cfg(feature = "files")]
    pub fn open_unverified(path: impl AsRef<Path>) -> Result<Self, ArtifactError> {
        let path = path.as_ref();
        let map = MappedFile::open(path).map_err(|e| Fault::Read(e).at(path))?;
        Self::parse(path, Source::File(map)).map_err(|fault| fault.at(path))
    }

    /// As [`Self::open_unverified`], of a file that is open already and perhaps has no name. `name` stands for a path in messages.
    ///
    /// # Errors
    /// As there.
    #[cfg(feature = "files")]
    pub fn of_file(name: &Path, file: std::fs::File) -> Result<Self, ArtifactError> {
        let map = MappedFile::of(file).map_err(|e| Fault::Read(e).at(name))?;
        Self::parse(name, Source::File(map)).map_err(|fault| fault.at(name))
    }

    /// Verifies an artifact that is in memory, every byte of it. `name` stands for a path in messages.
    ///
    /// # Errors
    /// On anything but an undamaged artifact of this version.
    pub fn from_bytes(name: &str, bytes: impl Into<Bytes>) -> Result<Self, ArtifactError> {
        let name = Path::new(name);
        let artifact = Self::parse(name, Source::Memory(bytes.into())).map_err(|fault| fault.at(name))?;
        artifact.verify()?;
        Ok(artifact)
    }

    fn parse(path: &Path, source: Source) -> Result<Self, Fault> {
        let header = RawHeader::parse(source.bytes())?;
        let version = header.metadata.get(keys::VERSION).ok_or(Fault::NotFcdm)?;
        if version != VERSION {
            return Err(Fault::version(keys::VERSION, VERSION, format!("`{}`", one_line(version))));
        }
        let data_start = header.data_start;
        let (metadata, tensors) = header.table(source.bytes().len())?;
        let expected = checksum::hex(checksum::of_header(&metadata, &tensors));
        let found = required(&metadata, keys::CHECKSUM)?;
        if found != expected {
            return Err(Fault::field(keys::CHECKSUM, expected, format!("`{}`", one_line(found))));
        }
        optional_json(&metadata, keys::PROVENANCE, true)?;
        optional_json(&metadata, keys::REPORT, false)?;
        let model = metadata.get(keys::MODEL).map(|json| ModelInfo::from_json(json)).transpose()?;
        let autoencoder = metadata.get(keys::AUTOENCODER).map(|json| AutoencoderInfo::from_json(json, model.as_ref())).transpose()?;
        let plan = plan_from_json(required(&metadata, keys::PLAN)?)?;
        Ok(Self { path: path.to_path_buf(), source, data_start, metadata, tensors, plan, model, autoencoder })
    }

    /// Where a tensor's bytes are in the file.
    pub(super) fn range(&self, entry: &TensorEntry) -> Range<usize> {
        self.data_start + entry.begin..self.data_start + entry.end
    }

    fn bytes(&self, entry: &TensorEntry) -> &[u8] {
        &self.source.bytes()[self.range(entry)]
    }

    /// The file, or the name of what is in memory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The plan; not yet checked for soundness.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The denoiser's description, validated; `None` if there is no denoiser.
    pub fn model(&self) -> Option<&ModelInfo> {
        self.model.as_ref()
    }

    /// The autoencoder's description, validated; `None` if there is none.
    pub fn autoencoder(&self) -> Option<&AutoencoderInfo> {
        self.autoencoder.as_ref()
    }

    /// The value of a metadata key, see [`keys`]. `fcdm.provenance` and `fcdm.report` are known to be JSON.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// Element type, extents and bytes of a tensor. The bytes start on a multiple of [`plan::ALIGN`] in memory.
    pub fn tensor(&self, name: &str) -> Option<(Element, &[usize], &[u8])> {
        let entry = self.tensors.get(name)?;
        Some((entry.dtype, &entry.shape, self.bytes(entry)))
    }

    /// All tensors in order of names, as [`Self::tensor`] gives them.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = (&str, Element, &[usize], &[u8])> {
        self.tensors.iter().map(|(name, entry)| (name.as_str(), entry.dtype, entry.shape.as_slice(), self.bytes(entry)))
    }

    /// Bytes of all tensors.
    pub fn tensor_bytes(&self) -> u64 {
        (self.file_bytes() - self.data_start) as u64
    }

    /// Gives the memory of tensors that are not needed for now back to the system, which reads them again from the file when they
    /// are; of an artifact in memory it stays. Names that there are not are passed over. Neighbours in the file go together, so that no page between them stays.
    pub fn hand_back<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        let mut ranges: Vec<_> = names.into_iter().filter_map(|name| self.tensors.get(name)).map(|entry| self.range(entry)).collect();
        ranges.sort_by_key(|range| range.start);
        for run in ranges.chunk_by(|a, b| a.end == b.start) {
            self.source.hand_back(run[0].start..run[run.len() - 1].end);
        }
    }

    /// Size of the file in bytes.
    pub fn file_bytes(&self) -> usize {
        self.source.bytes().len()
    }
}

/// What plans of all versions have.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

pub(super) fn plan_from_json(json: &str) -> Result<Plan, Fault> {
    let parsed = serde_json::from_str::<Plan>(json);
    // Where it cannot be read, its version may be why: another one may have another form.
    let version = match &parsed {
        Ok(plan) => Some(plan.version),
        Err(_) => serde_json::from_str(json).ok().map(|Versioned { version }| version),
    };
    match version {
        Some(version) if version != plan::VERSION => Err(Fault::version(format!("{}.version", keys::PLAN), plan::VERSION, version)),
        _ => parsed.map_err(|e| Fault::field(keys::PLAN, "a plan", one_line(&e.to_string()))),
    }
}

pub(super) fn required<'a>(metadata: &'a Strings, key: &str) -> Result<&'a str, Fault> {
    metadata.get(key).map(String::as_str).ok_or_else(|| Fault::field(key, "a value", "nothing"))
}

fn optional_json(metadata: &Strings, key: &str, object: bool) -> Result<(), Fault> {
    let Some(text) = metadata.get(key) else { return Ok(()) };
    let expected = if object { "a JSON object" } else { "JSON" };
    serde_json::from_str::<IgnoredAny>(text).map_err(|e| Fault::field(key, expected, one_line(&e.to_string())))?;
    if object && !text.trim_start().starts_with('{') {
        return Err(Fault::field(key, expected, one_line(text)));
    }
    Ok(())
}
