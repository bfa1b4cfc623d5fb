//! The commands as a user runs them: what they write, and what they say.
#![allow(clippy::unwrap_used)]

#[path = "../compiler/tests/checkpoint/assemble.rs"]
#[allow(dead_code)]
mod assemble;
#[path = "command_line/autoencoders.rs"]
mod autoencoders;
#[path = "command_line/cache.rs"]
mod cache;
#[path = "command_line/compiling.rs"]
mod compiling;
#[path = "command_line/generating.rs"]
mod generating;
#[path = "command_line/interrupted.rs"]
mod interrupted;
#[path = "command_line/latents.rs"]
mod latents;
#[path = "command_line/looking.rs"]
mod looking;
#[path = "command_line/measuring.rs"]
mod measuring;
#[path = "command_line/mixed.rs"]
mod mixed;
#[path = "command_line/numbers.rs"]
mod numbers;
#[path = "command_line/onnx.rs"]
mod onnx;
mod oracle;
#[path = "command_line/outputs.rs"]
mod outputs;
#[path = "command_line/pictures.rs"]
mod pictures;
mod process;
#[path = "command_line/quantised.rs"]
mod quantised;
#[path = "command_line/report.rs"]
mod report;
#[path = "command_line/specialised.rs"]
mod specialised;
#[path = "command_line/surface.rs"]
mod surface;
#[path = "command_line/terminal.rs"]
mod terminal;
#[path = "command_line/training.rs"]
mod training;
#[path = "command_line/weights.rs"]
mod weights;
