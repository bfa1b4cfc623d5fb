//! What is in a file, before anything of it is chosen.

use std::collections::BTreeMap;

use super::tensor::Located;

/// Everything under a name in a file.
pub(super) struct Contents {
    /// In the file's order.
    pub entries: Vec<Entry>,
    /// Keys that lead to each of the dicts that hold entries, joined by dots.
    pub dicts: Vec<String>,
    pub arguments: BTreeMap<String, String>,
    pub optimizer_step: Option<u64>,
}

/// A name in a file, and what is there.
pub(super) struct Entry {
    /// Keys of dicts and the last one, joined by dots.
    pub name: String,
    /// Index of the dict that it is in. A file without dicts has one.
    pub dict: u32,
    pub content: Content,
}

/// What a name stands for.
pub(super) enum Content {
    Tensor(Located),
    /// Something of tensors that cannot be understood: what was expected and what was found.
    Unclear {
        expected: String,
        found: String,
    },
    /// What is no tensor, in words.
    Other(String),
}
