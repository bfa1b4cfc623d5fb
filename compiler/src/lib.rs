//! Checkpoints to `fcdm` artifacts.
//!
//! - [`checkpoint`]: reads trained weights (`.pt`, `.safetensors`) without executing or trusting anything in them.
#![forbid(unsafe_code)]

pub mod checkpoint;
