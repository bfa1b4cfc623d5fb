//! Executes `fcdm` artifacts.
//!
//! `runtime` executes plans. It does not know the IR; a shipped model links neither `ir` nor `passes`. `run`
//! neither allocates nor fails; everything that can go wrong goes wrong in `load`.
//!
//! It comes in slices. The core generates from an artifact in memory, on the thread that calls, on any machine that has
//! an allocator; what needs more of a machine is a feature: `files`, `write`, `png`, `threads`, `bench`, all of them on by default.

pub mod arena;
pub mod artifact;
pub mod autoencoder;
#[cfg(feature = "bench")]
pub mod bench;
pub mod check;
pub mod cost;
pub mod encoding;
pub mod engine;
pub mod entry_name;
pub mod entry_points;
pub mod executor;
#[cfg(feature = "write")]
pub mod file;
pub mod generate;
pub mod kernels;
#[cfg(feature = "files")]
pub mod mapped;
pub mod memory;
pub mod network;
pub mod picture;
pub mod plan;
pub mod request;
pub mod rng;
pub mod sampler;
pub mod schedule;
pub mod simd;
pub mod threads;

pub use generate::{Model, Options};
