//! FCDM, the fully convolutional diffusion model (arXiv 2603.09408): a U-shaped network of ConvNeXt-style blocks.
//!
//! - [`config`]: sizes, named or read off the shapes of a checkpoint;
//! - [`network`](mod@network): its layers, of which come its parameters and its function;
//! - [`cost`]: parameters by part and multiply-accumulates by stage.

pub mod config;
pub mod cost;
pub mod entries;
pub mod import;
pub mod initialise;
pub mod network;

pub use config::{Config, ConfigError, Preset};
pub use import::Import;
pub use network::{Size, network, parameters};
