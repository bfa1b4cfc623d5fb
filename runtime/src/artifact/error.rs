//! What can be wrong with an artifact, each in one line that names the file, the field, what was expected and what
//! was found.

use std::io;
use std::path::{Path, PathBuf};

#[cfg(feature = "write")]
use crate::file::FileError;

/// An artifact that was refused.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct ArtifactError {
    /// The file, or the name of what is in memory.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with an artifact.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It cannot be opened or mapped.
    #[error("cannot read: {0}")]
    Read(io::Error),
    /// The container is broken.
    #[error("not a safetensors file: {0}")]
    NotSafetensors(String),
    /// A safetensors file, but not ours.
    #[error("not an fcdm artifact: its metadata has no `fcdm.version`")]
    NotFcdm,
    /// Another version of the format. Weights alone could be had from it: the compiler makes it anew.
    #[error("{field}: expected {expected}, found {found}: another version of fcdm wrote this file; compile it again")]
    Version {
        /// The field that says so.
        field: String,
        /// The version that is read.
        expected: String,
        /// The file's.
        found: String,
    },
    /// A metadata field, or one inside it.
    #[error("{field}: expected {expected}, found {found}")]
    Field {
        /// Its name, such as `fcdm.model.hidden`.
        field: String,
        /// What would do.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A tensor.
    #[error("tensor `{tensor}`: expected {expected}, found {found}")]
    Tensor {
        /// Its name.
        tensor: String,
        /// What would do.
        expected: String,
        /// What is there.
        found: String,
    },
}

impl Fault {
    pub(super) fn at(self, path: &Path) -> ArtifactError {
        ArtifactError { path: path.to_path_buf(), fault: self }
    }

    pub(super) fn field(field: impl Into<String>, expected: impl ToString, found: impl ToString) -> Self {
        Self::Field { field: field.into(), expected: expected.to_string(), found: found.to_string() }
    }

    pub(super) fn version(field: impl Into<String>, expected: impl ToString, found: impl ToString) -> Self {
        Self::Version { field: field.into(), expected: expected.to_string(), found: found.to_string() }
    }

    pub(super) fn tensor(name: &str, expected: impl ToString, found: impl ToString) -> Self {
        Self::Tensor { tensor: one_line(name), expected: expected.to_string(), found: found.to_string() }
    }
}

/// An artifact that was not written. Nothing of it is left on the disk.
#[cfg(feature = "write")]
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// What was to be written makes no valid artifact.
    #[error("{}: {fault}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: Fault,
    },
    /// The caller asked to stop.
    #[error("{}: cancelled", path.display())]
    Cancelled {
        /// The file.
        path: PathBuf,
    },
}

/// Foreign text for a message: control characters escaped, long text cut.
pub(crate) fn one_line(text: &str) -> String {
    const LONGEST: usize = 160;
    let mut shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push_str("...");
    }
    // `escape_debug` is made for literals; in a message the quotes need no backslash.
    shown.replace("\\\"", "\"").replace("\\'", "'")
}
