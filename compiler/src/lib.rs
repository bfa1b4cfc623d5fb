//! From checkpoints and IR to artifacts.
//!
//! - [`checkpoint`]: importers of trained weights;
//! - [`onnx`]: import of ONNX models, of any network;
//! - [`lower`]: a function becomes steps over virtual buffers; [`schedule`]: the steps get their order; [`allocate`]: the buffers get
//!   their places in the arena; [`checker`]: proves that order and places are right, without sharing code with what chose them;
//! - [`target`]: the machine that plans are made for; [`winograd`]: which convolutions are computed by Winograd;
//! - [`compiled`]: functions that are to be entry points;
//! - [`kind`]: what a file is, whoever gave it;
//! - [`in_memory`]: an assembly's tensors without a file;
//! - [`weights`]: where tensors come from, and their packed forms; [`assemble`]: the artifact.
#![forbid(unsafe_code)]

pub mod allocate;
pub mod assemble;
pub mod checker;
pub mod checkpoint;
pub mod compiled;
pub mod in_memory;
pub mod kind;
pub mod lower;
pub mod onnx;
pub mod prepared;
pub mod rounding;
pub mod schedule;
pub mod target;
pub mod weights;
pub mod winograd;
