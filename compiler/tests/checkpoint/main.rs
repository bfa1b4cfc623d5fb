//! Checkpoints as PyTorch writes them, and as an enemy would.
#![allow(clippy::unwrap_used)]
#![forbid(unsafe_code)]

mod assemble;
mod hostile_containers;
mod hostile_pickles;
mod mutated;
mod structure;
mod written_by_torch;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fcdm_compiler::checkpoint::{Checkpoint, CheckpointError, StateDict};

/// The weights in a file by the name that they have there.
fn weights(path: &Path, name: &str) -> StateDict {
    let sets = StateDict::found(&Arc::new(Checkpoint::open(path).unwrap()), &["x_embedder.weight"]).unwrap();
    sets.into_iter().find(|set| set.name() == name).unwrap()
}

/// A file below the golden folder.
fn golden(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(file)
}

fn open(bytes: Vec<u8>) -> Result<StateDict, CheckpointError> {
    StateDict::only(&Arc::new(Checkpoint::from_bytes("evil.pt", bytes)?))
}

/// The set of weights with a tensor `w` that is preferred.
fn first(bytes: &[u8]) -> StateDict {
    sets(bytes).swap_remove(0)
}

fn sets(bytes: &[u8]) -> Vec<StateDict> {
    StateDict::found(&Arc::new(Checkpoint::from_bytes("evil.pt", bytes.to_vec()).unwrap()), &["a.w"]).unwrap()
}

/// The message of a refusal, checked to be one line that begins with the file's name.
fn refusal(bytes: Vec<u8>) -> String {
    match open(bytes) {
        Ok(_) => panic!("it was accepted"),
        Err(error) => one_line(&error),
    }
}

fn one_line(error: &CheckpointError) -> String {
    let message = error.to_string();
    assert!(message.starts_with("evil.pt: ") && !message.contains(char::is_control), "{message:?}");
    assert!(message.len() < 600, "{message:?}");
    message
}
