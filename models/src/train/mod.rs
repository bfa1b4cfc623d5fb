//! Training through the IR: from latents or pictures to checkpoints.
//!
//! - [`config`]: the options of a run;
//! - [`examples`], [`order`], [`batches`]: what is trained on, in which order, at which times and with which noise;
//! - [`objective`], [`loss`]: what is predicted of what, by time; the losses as IR;
//! - [`step`]: forward, loss, backward and update as a plan over state;
//! - [`schedule`]: what changes from update to update;
//! - `setup`, `initial`: what follows from the options before the first update; a checkpoint to begin with;
//! - [`folder`], [`checkpoint`]: what a run leaves behind, and goes on from;
//! - `curve`, `events`: its losses as a picture, and for TensorBoard;
//! - [`trainer`]: the loop; [`samples`]: pictures of its checkpoints.

pub mod batches;
pub mod checkpoint;
pub mod config;
mod curve;
mod events;
pub mod examples;
pub mod folder;
mod initial;
pub mod loss;
pub mod objective;
pub mod order;
pub mod samples;
pub mod schedule;
mod setup;
pub mod step;
pub mod trainer;
