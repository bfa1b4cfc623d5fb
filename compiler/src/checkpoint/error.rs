//! What can go wrong with a checkpoint. Every message is one line naming file, place, expected and found.
//!
//! Text that comes from the file passes [`shown`] first, so that no name in it can break the line or flood it.

use std::io;

use thiserror::Error;

/// Why a checkpoint, or one of its tensors, cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file cannot be opened or mapped.
    #[error("{file}: cannot be opened: {source}")]
    Io {
        /// The path as given.
        file: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The content is no known format.
    #[error("{file}: expected a PyTorch ZIP or a safetensors file, found {found}")]
    Unrecognised {
        /// The path as given.
        file: String,
        /// What the first bytes look like.
        found: String,
    },
    /// PyTorch's format before 1.6: pickles in a row, or a tar file.
    #[error(
        "{file}: expected a PyTorch ZIP, found PyTorch's format from before 1.6; re-save it with PyTorch: \
         torch.save(torch.load(OLD, weights_only=True), NEW)"
    )]
    Legacy {
        /// The path as given.
        file: String,
    },
    /// A part of the file is not what its format demands.
    #[error("{file}: {place}: expected {expected}, found {found}")]
    Malformed {
        /// The path as given.
        file: String,
        /// Entry and byte, or tensor.
        place: String,
        /// What the format demands there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The tables of contents would take more memory than a file of this size justifies.
    #[error(
        "{file}: expected contents that can be listed in {limit} bytes of memory, found more of them than a file of {size} bytes needs"
    )]
    TooLarge {
        /// The path as given.
        file: String,
        /// Bytes allowed for everything but the tensors' values.
        limit: usize,
        /// Bytes of the file.
        size: usize,
    },
    /// Two tensors bear one name once prefixes such as `module.` are stripped.
    #[error("{file}: tensor `{name}`: expected one tensor of that name, found `{first}` and `{second}`")]
    Collision {
        /// The path as given.
        file: String,
        /// The name without prefixes.
        name: String,
        /// The first, as in the file.
        first: String,
        /// The second, as in the file.
        second: String,
    },
    /// No tensor of that name is among the weights in use.
    #[error("{file}: tensor `{tensor}`: expected among the {weights} weights, found {count} tensors without it")]
    NoTensor {
        /// The path as given.
        file: String,
        /// The name asked for.
        tensor: String,
        /// Which weights are in use.
        weights: String,
        /// How many tensors there are.
        count: usize,
    },
    /// The tensor holds elements that are no weights.
    #[error("{file}: tensor `{tensor}`: expected f32, f16, bf16 or f64 elements, found {found}")]
    ElementType {
        /// The path as given.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its element type.
        found: &'static str,
    },
}

/// Most characters of a file's own text that a message repeats.
const SHOWN: usize = 96;

/// Text from a file, fit for a message: bounded, one line, control characters escaped.
pub(super) fn shown(text: &[u8]) -> String {
    let cut = &text[..text.len().min(SHOWN)];
    let mut line: String = String::from_utf8_lossy(cut).chars().flat_map(char::escape_debug).collect();
    // `escape_debug` escapes quotes too, which is needless inside backticks.
    line = line.replace("\\'", "'");
    if cut.len() < text.len() {
        line.push('…');
    }
    line
}

/// Where reading is at, to name it in errors.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// The path as given.
    pub file: &'a str,
    /// The part of the file, e.g. `data.pkl`.
    pub part: &'a str,
}

impl Place<'_> {
    /// The part as a whole is wrong.
    pub fn expected(&self, expected: impl Into<String>, found: impl Into<String>) -> CheckpointError {
        let (file, place) = (self.file.to_string(), self.part.to_string());
        CheckpointError::Malformed { file, place, expected: expected.into(), found: found.into() }
    }

    /// Something at byte `at` of the part is wrong.
    pub fn expected_at(&self, at: usize, expected: impl Into<String>, found: impl Into<String>) -> CheckpointError {
        let place = format!("{} byte {at}", self.part);
        CheckpointError::Malformed { file: self.file.to_string(), place, expected: expected.into(), found: found.into() }
    }

    /// Something about one tensor is wrong.
    pub fn tensor(&self, name: &str, expected: impl Into<String>, found: impl Into<String>) -> CheckpointError {
        let place = format!("tensor `{}`", shown(name.as_bytes()));
        CheckpointError::Malformed { file: self.file.to_string(), place, expected: expected.into(), found: found.into() }
    }
}
