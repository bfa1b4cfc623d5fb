//! What may be wrong with an ONNX file: one line each, which names the file and the place in it.

use thiserror::Error;

/// An ONNX model that cannot be used.
#[derive(Debug, Error)]
pub enum OnnxError {
    /// It cannot be read.
    #[error("{file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// It is something else.
    #[error("{file}: not an ONNX model: {reason}")]
    NotOnnx {
        /// The file.
        file: String,
        /// What is missing.
        reason: String,
    },
    /// An extent that only an evaluation knows.
    #[error("{file}: input `{input}`: expected static extents, found the symbolic dimension `{dim}`; give the input's shape")]
    Dynamic {
        /// The file.
        file: String,
        /// The input.
        input: String,
        /// The name of its dimension, or its number.
        dim: String,
    },
    /// An input or output that cannot be one.
    #[error("{file}: `{port}`: {reason}")]
    Port {
        /// The file.
        file: String,
        /// Its name.
        port: String,
        /// What was expected and found.
        reason: String,
    },
    /// Values that lie in another file, which is not there or too short.
    #[error("{file}: tensor `{tensor}`: expected its values in `{expected}`: {reason}")]
    External {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// The other file.
        expected: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor that is not what it says.
    #[error("{file}: tensor `{tensor}`: {reason}")]
    Tensor {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// What was expected and found.
        reason: String,
    },
    /// An op, or a form of it, that there is no translation of.
    #[error("{file}: node `{node}`: op `{op}` is not supported{reason}")]
    Unsupported {
        /// The file.
        file: String,
        /// The node.
        node: String,
        /// The op with its attributes.
        op: String,
        /// `: ` and what it is about this form, or nothing.
        reason: String,
    },
    /// A node that makes no sense.
    #[error("{file}: node `{node}`: op `{op}`: {reason}")]
    Node {
        /// The file.
        file: String,
        /// The node.
        node: String,
        /// The op with its attributes.
        op: String,
        /// What was expected and found.
        reason: String,
    },
    /// tract refuses it.
    #[error("{file}: tract: {reason}")]
    Tract {
        /// The file.
        file: String,
        /// Its own words, on one line.
        reason: String,
    },
}

/// Why a node has no translation, before file and node are known.
#[derive(Debug)]
pub(super) enum Refusal {
    /// No translation of the op at all.
    Op,
    /// None of this form.
    Form(String),
    /// The node is wrong.
    Wrong(String),
}

impl From<fcdm_ir::TypeError> for Refusal {
    fn from(e: fcdm_ir::TypeError) -> Refusal {
        Refusal::Wrong(e.to_string())
    }
}

/// Shorthand for what the translations return.
pub(super) type Translated<T> = Result<T, Refusal>;

/// A form that is not translated.
pub(super) fn form<T>(reason: impl Into<String>) -> Translated<T> {
    Err(Refusal::Form(reason.into()))
}

/// A node that is wrong.
pub(super) fn wrong<T>(reason: impl Into<String>) -> Translated<T> {
    Err(Refusal::Wrong(reason.into()))
}
