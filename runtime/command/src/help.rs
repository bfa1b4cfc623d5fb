//! How help looks: its width and colours, the headings under which options stand, and its examples.

use clap::builder::Styles;
use clap::builder::styling::{AnsiColor, Effects};

/// Columns that a line of help has at most, on the widest terminal.
pub const WIDTH: usize = 100;

/// Bold, and such colours as are read on dark and on light.
pub const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().effects(Effects::BOLD))
    .usage(AnsiColor::Green.on_default().effects(Effects::BOLD))
    .literal(clap::builder::styling::Style::new().effects(Effects::BOLD))
    .invalid(AnsiColor::Red.on_default())
    .error(AnsiColor::Red.on_default().effects(Effects::BOLD));

/// What a network is, and what it is given.
pub const MODEL: &str = "Model";
/// How weights are stored.
pub const WEIGHTS: &str = "Weights";
/// For which schedule and classes alone.
pub const SPECIALISE: &str = "For some steps and classes alone";
/// Which pictures.
pub const WHAT: &str = "What to generate";
/// How steps are taken.
pub const SAMPLING: &str = "Sampling";
/// A start that is not noise alone.
pub const BEGIN: &str = "Begin from a picture";
/// What makes pictures of latents and latents of pictures.
pub const AUTOENCODER: &str = "Autoencoder";
/// What is written down in the file.
pub const RECORDED: &str = "Recorded in the file";
/// What is written and printed.
pub const OUTPUT: &str = "Output";
/// Threads and memory.
pub const MACHINE: &str = "Machine";
/// What is timed.
pub const MEASURE: &str = "What to measure";
/// What every command takes.
pub const GENERAL: &str = "General";
/// For people who look inside.
pub const INSIDE: &str = "Look inside";

/// Examples at the end of a command's help, a line each.
#[macro_export]
macro_rules! examples {
    ($($line:literal),+ $(,)?) => { concat!("\x1b[1m\x1b[32mExamples:\x1b[0m", $("\n  ", $line),+) };
}

pub use crate::examples;
