//! Checkpoints as PyTorch writes them, and as an enemy would.
#![allow(clippy::unwrap_used)]
#![forbid(unsafe_code)]

mod assemble;
mod hostile_containers;
mod hostile_pickles;
mod mutated;
mod structure;
mod written_by_torch;

use std::path::PathBuf;

use fcdm_compiler::checkpoint::{Checkpoint, CheckpointError, StateDict};

/// A file below the golden folder.
fn golden(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(file)
}

fn open(bytes: Vec<u8>) -> Result<Checkpoint, CheckpointError> {
    Checkpoint::from_bytes("evil.pt", bytes, StateDict::Auto)
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
