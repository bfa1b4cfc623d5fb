//! Executes `fcdm` artifacts.
//!
//! `runtime` executes plans. It does not know the IR; a shipped model links neither `ir` nor `passes`. `run`
//! neither allocates nor fails; everything that can go wrong goes wrong in `load`.

pub mod arena;
pub mod artifact;
pub mod autoencoder;
pub mod bench;
pub mod check;
pub mod cost;
pub mod encoding;
pub mod executor;
pub mod file;
pub mod generate;
pub mod kernels;
pub mod mapped;
pub mod network;
pub mod plan;
pub mod rng;
pub mod sampler;
pub mod schedule;
pub mod simd;
pub mod threads;
