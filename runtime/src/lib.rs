//! Executes `fcdm` artifacts.
//!
//! `runtime` executes plans. It does not know the IR; a shipped model links neither `ir` nor `passes`. `run`
//! neither allocates nor fails; everything that can go wrong goes wrong in `load`.

pub mod arena;
pub mod check;
pub mod executor;
pub mod kernels;
pub mod plan;
pub mod simd;
pub mod threads;
