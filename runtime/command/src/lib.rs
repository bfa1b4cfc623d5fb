//! What the command lines of `fcdm` have in common: generating from an artifact, and how they speak, show progress, stop and fail.
//!
//! `fcdm-run` is this and the runtime, and no more: it goes where nothing is compiled. `fcdm` builds on it.
#![forbid(unsafe_code)]
// All that is printed goes through one door (`say`).
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod failure;
pub mod generate;
pub mod help;
pub mod pictures;
pub mod progress;
pub mod say;
pub mod signals;
pub mod size;
pub mod version;

/// Number of threads to use.
pub fn threads(asked: Option<u32>) -> usize {
    asked.map_or_else(fcdm_runtime::threads::available, |n| n as usize)
}
