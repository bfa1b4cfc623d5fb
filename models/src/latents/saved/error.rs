//! What can be wrong with latents. Every message is one line that names file, field, what was expected and what was found.

use std::io;

use fcdm_compiler::checkpoint::CheckpointError;
use fcdm_runtime::memory::NoMemory;
use thiserror::Error;

/// Latents that cannot be used.
#[derive(Debug, Error)]
pub enum LatentsError {
    /// A file or folder cannot be read.
    #[error("{file}: cannot read: {source}")]
    Read {
        /// The file.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// A file of tensors.
    #[error(transparent)]
    Tensors(#[from] CheckpointError),
    /// A part of a file.
    #[error("{file}: {field}: expected {expected}, found {found}")]
    Field {
        /// The file.
        file: String,
        /// The part.
        field: String,
        /// What would do.
        expected: String,
        /// What is there.
        found: String,
    },
    /// More values than the machine has memory for.
    #[error("{file}: {source}")]
    NoMemory {
        /// The file.
        file: String,
        /// How much there is not.
        source: NoMemory,
    },
}
