//! Training through the IR: from latents or pictures to checkpoints.
//!
//! - [`loss`]: the training losses, as IR;
//! - [`objective`]: what is predicted of what, by time;
//! - [`step`]: forward, loss, backward and update as a plan over state.

pub mod batches;
pub mod config;
pub mod examples;
pub mod loss;
pub mod objective;
pub mod order;
pub mod schedule;
pub mod step;
