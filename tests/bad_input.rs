//! Files and options that are wrong, damaged or meant to harm: one line that says what is wrong, the documented exit code, and
//! nothing left on the disk.
#![allow(clippy::unwrap_used)]

#[path = "bad_input/artifacts.rs"]
mod artifacts;
#[path = "../compiler/tests/checkpoint/assemble.rs"]
#[allow(dead_code)]
mod assemble;
#[path = "bad_input/checkpoints.rs"]
mod checkpoints;
#[path = "bad_input/forged.rs"]
mod forged;
#[path = "bad_input/ir.rs"]
mod ir;
#[path = "bad_input/kinds.rs"]
mod kinds;
#[path = "bad_input/options.rs"]
mod options;
#[path = "bad_input/outputs.rs"]
mod outputs;
#[path = "bad_input/pictures.rs"]
mod pictures;
#[path = "bad_input/plans.rs"]
mod plans;
mod process;
#[path = "../fuzz/src/seal.rs"]
mod seal;
#[path = "bad_input/tensors.rs"]
mod tensors;
