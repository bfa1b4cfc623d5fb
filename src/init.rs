//! `fcdm init`: a checkpoint of fresh weights.

use std::path::PathBuf;

use clap::Args;
use fcdm_models::fcdm::initialise::initialise;
use fcdm_models::fcdm::{Config, Preset, parameters};
use fcdm_models::tensors::write_tensors;
use serde_json::json;

use crate::about::grouped;
use crate::failure::Failure;
use crate::help::{MODEL, OUTPUT, examples};
use crate::progress;
use crate::say::{self, sayln};
use crate::signals;

const EXAMPLES: &str =
    examples!("fcdm init FCDM-S -o start.safetensors", "fcdm init FCDM-B --num-classes 10 --velocity -o start.safetensors");

/// Write a checkpoint of fresh weights, to train from.
///
/// As training from scratch starts: every block is the identity.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Arguments {
    /// FCDM-S, FCDM-B, FCDM-L or FCDM-XL.
    #[arg(value_parser = preset)]
    model: Preset,
    /// Classes, without the null class.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = MODEL)]
    num_classes: u32,
    /// Channels of the latents.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = MODEL)]
    in_channels: u32,
    /// Flow matching: predict velocity, and no variance.
    #[arg(long, help_heading = MODEL)]
    velocity: bool,
    /// Seed of the weights.
    #[arg(long, value_name = "SEED", default_value_t = 0, help_heading = MODEL)]
    seed: u64,
    /// The .safetensors file to write.
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT)]
    output: PathBuf,
    /// Print a summary as JSON.
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
}

fn preset(text: &str) -> Result<Preset, String> {
    Preset::from_name(text).ok_or_else(|| "expected FCDM-S, FCDM-B, FCDM-L or FCDM-XL".to_owned())
}

/// Runs the command.
pub fn run(a: &Arguments) -> Result<(), Failure> {
    let config =
        Config { num_classes: a.num_classes as usize, in_channels: a.in_channels as usize, learn_sigma: !a.velocity, ..a.model.config() };
    let list = parameters(&config);
    let tensors: Vec<_> = list.iter().map(|p| (p.name.clone(), p.shape.clone())).collect();
    signals::stop_when_asked();
    let count: usize = list.iter().map(|p| p.count()).sum();
    let (mut bar, mut made) = (progress::bytes(4 * count as u64).with_message("writing"), 0);
    let mut values = |i: usize| {
        bar.set_position(4 * made as u64);
        made += list[i].count();
        (!signals::stopped()).then(|| initialise(&list[i], i, a.seed))
    };
    if !write_tensors(&a.output, &tensors, &mut values)? {
        return Err(Failure::cancelled("cancelled"));
    }
    bar.finish_and_clear();
    if a.json {
        say::json(&json!({ "output": a.output.display().to_string(), "parameters": count, "config": config }));
    } else {
        sayln!("wrote {}: {}, {} parameters", a.output.display(), a.model.name(), grouped(count as u64));
    }
    Ok(())
}
