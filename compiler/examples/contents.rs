//! What a checkpoint holds: `cargo run -p fcdm-compiler --example contents -- CHECKPOINT TENSOR`. `TENSOR` is one that every set of
//! weights has, such as `x_embedder.weight`.

use std::error::Error;
use std::sync::Arc;

use fcdm_compiler::checkpoint::{Checkpoint, StateDict};

fn main() -> Result<(), Box<dyn Error>> {
    let argument = |i: usize, what: &str| std::env::args().nth(i).ok_or_else(|| format!("expected {what}"));
    for line in contents(&argument(1, "a checkpoint")?, &argument(2, "the name of a tensor")?)? {
        println!("{line}");
    }
    Ok(())
}

/// A line for the file and one for every set of weights in it, the averages first.
pub fn contents(path: &str, tensor: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let checkpoint = Arc::new(Checkpoint::open(path)?);
    let mut lines = vec![format!("{path}: {}", checkpoint.format())];
    for weights in StateDict::found(&checkpoint, &[tensor])? {
        let shape = weights.tensor(tensor).map(|info| info.shape.clone()).unwrap_or_default();
        let values = weights.read_f32(tensor)?;
        let rms = (values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32).sqrt();
        let averaged = if weights.is_averaged() { ", averaged" } else { "" };
        lines.push(format!("{}: {} tensors{averaged}; {tensor} {shape:?}, rms {rms:.4}", weights.name(), weights.names().len()));
    }
    Ok(lines)
}
