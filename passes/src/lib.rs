//! Rewritings of the IR: one pass a file, pure functions, verified after each run.
//!
//! A pass of a function goes through [`rewrite`], the one primitive: it walks the instructions in order, asks a
//! rule, and copies what the rule leaves alone. Hash-consing in the builder removes common subexpressions,
//! liveness removes dead code. Passes of a module (hoisting) split functions by what they depend on.
//! Pipelines are lists in [`pipeline`].
#![forbid(unsafe_code)]

pub mod partition;
pub mod pipeline;
pub mod rebatch;
pub mod rewrite;
pub mod rows;

mod differentiate;
mod eliminate_dead_code;
mod fold_grn_bias;
mod fold_weights;
mod fuse_activation;
mod fuse_attention;
mod fuse_concat_linear;
mod fuse_conv_shuffle;
mod fuse_dwconv_norm_modulate;
mod fuse_gelu_grn;
mod fuse_linear_gelu_sumsq;
mod fuse_norm_modulate;
mod fuse_residual;
mod fuse_scale_linear_gated_add;
mod fuse_upsample_conv;
mod hoist_condition;
mod quantise_rows;
mod quantise_weights;
mod recognise_bias;
mod recognise_gated_add;
mod recognise_gelu;
mod recognise_grn;
mod recognise_layer_norm;
mod recognise_modulate;
mod recognise_pixel_shuffle;
mod recognise_silu;
mod recognise_split;
mod recompute;
mod repeated;
mod simplify;

pub use differentiate::{GRADIENT, LOSS};
pub use fold_weights::folded_from;
pub use pipeline::{IMPORTED, OPTIMISED, PASSES, PLAIN, Pass, PassError, Report, Run, Settings, TRAINING, find, run, run_with};
pub use quantise_rows::encoding_of;
pub use rebatch::rebatch;
pub use recompute::candidates;
