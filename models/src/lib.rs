//! The networks that `fcdm` knows, as builders of IR, and what surrounds them: configurations, parameters as
//! checkpoints name them, the way from a checkpoint to an artifact, and pictures.
#![forbid(unsafe_code)]

pub mod autoencoder;
pub mod bundled;
pub mod calibrate;
pub mod compare;
pub mod compile;
pub mod fcdm;
mod graph_roles;
pub mod import;
pub mod latents;
mod layers;
pub mod mix;
pub mod options;
pub mod parameter;
pub mod pictures;
pub mod role;
pub mod size;
pub mod tensors;
pub mod train;
mod trajectory;
pub mod types;
