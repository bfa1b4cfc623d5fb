//! The artifact: one `.fcdm` file that holds all that generating needs. It is a valid safetensors file; what makes it
//! ours is in `__metadata__`, whose values are strings:
//!
//! | key | value |
//! | --- | --- |
//! | `fcdm.version` | `2`; its presence tells an artifact from any other safetensors file |
//! | `fcdm.plan` | JSON of [`crate::plan::Plan`] |
//! | `fcdm.model` | JSON of [`ModelInfo`]; optional: an artifact need not have a denoiser |
//! | `fcdm.autoencoder` | JSON of [`AutoencoderInfo`]; optional |
//! | `fcdm.ir` | text of the IR that the plan was made from; optional |
//! | `fcdm.provenance` | JSON object: source, options, versions; optional |
//! | `fcdm.report` | JSON: parameters, costs, passes; optional |
//! | `fcdm.license` | optional |
//! | `fcdm.checksums` | JSON map from tensor name to XXH3-64 of its bytes, 16 lower-case hex digits |
//! | `fcdm.checksum` | XXH3-64 of all the other metadata and of the tensor table, see [`checksum`] |
//!
//! The header is padded with spaces so that the data begin at a multiple of [`crate::plan::ALIGN`] bytes, and every
//! tensor's length is such a multiple: mapped, all are aligned. Names are sorted; equal contents give equal files.
//! The checksums find damage. They are not signatures and stop nobody who means harm: against that stand the
//! reader's checks, which hold for any bytes whatsoever.

#[cfg(feature = "threads")]
mod background;
pub mod checksum;
mod error;
mod header;
mod model;
mod reader;
mod source;
mod specialisation;
mod verify;
#[cfg(feature = "write")]
mod writer;

#[cfg(feature = "threads")]
pub use background::Verification;
#[cfg(feature = "write")]
pub use error::WriteError;
pub(crate) use error::one_line;
pub use error::{ArtifactError, Fault};
pub(crate) use header::Extents;
pub use header::HEADER_LIMIT;
#[cfg(feature = "bench")]
pub(crate) use model::few;
pub use model::{AutoencoderInfo, MAX_SIDE, ModelInfo, Prediction, Sampling};
pub use reader::Artifact;
pub use source::Bytes;
pub use specialisation::Specialisation;
#[cfg(feature = "write")]
pub use writer::{ArtifactContents, Output, TensorSource, file_bytes, write, write_f32, write_to};

/// Version of the artifact's format, as it stands in `fcdm.version`. A reader refuses every other.
pub const VERSION: &str = "2";

/// The metadata's keys.
pub mod keys {
    /// [`super::VERSION`].
    pub const VERSION: &str = "fcdm.version";
    /// JSON of the plan.
    pub const PLAN: &str = "fcdm.plan";
    /// JSON of the model's description.
    pub const MODEL: &str = "fcdm.model";
    /// JSON of the autoencoder's description.
    pub const AUTOENCODER: &str = "fcdm.autoencoder";
    /// Text of the IR.
    pub const IR: &str = "fcdm.ir";
    /// JSON object on where the artifact comes from.
    pub const PROVENANCE: &str = "fcdm.provenance";
    /// JSON of parameter counts, costs and passes.
    pub const REPORT: &str = "fcdm.report";
    /// Licence of the weights.
    pub const LICENSE: &str = "fcdm.license";
    /// JSON map of the tensors' checksums.
    pub const CHECKSUMS: &str = "fcdm.checksums";
    /// Checksum of everything but the tensors' bytes.
    pub const CHECKSUM: &str = "fcdm.checksum";
}

#[cfg(all(test, feature = "files", feature = "write"))]
mod tests;
