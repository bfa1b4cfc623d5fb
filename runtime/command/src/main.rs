//! `fcdm-run`: pictures from an artifact, and nothing else. It links the runtime and no compiler.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use fcdm_command::failure::{EXIT_CODES, Failure};
use fcdm_command::{generate, say, signals};
use fcdm_runtime::artifact::Artifact;

/// Generates pictures from a model that `fcdm compile` made.
#[derive(Parser)]
#[command(name = "fcdm-run", version, after_help = EXIT_CODES, max_term_width = 100)]
struct Arguments {
    /// The artifact, MODEL.fcdm.
    model: PathBuf,
    #[command(flatten)]
    generate: generate::Arguments,
    /// Say nothing but results and errors: no notes, no warnings, no progress.
    #[arg(short, long)]
    quiet: bool,
}

fn run(a: &Arguments) -> Result<(), Failure> {
    signals::stop_when_asked();
    let artifact = Arc::new(Artifact::open_unverified(&a.model)?);
    a.generate.begin(artifact)?.run()?.report();
    Ok(())
}

fn main() {
    signals::listen();
    let arguments = Arguments::try_parse().unwrap_or_else(|said| std::process::exit(say::grammar(&said)));
    if arguments.quiet {
        say::only_errors();
    }
    if let Err(failure) = run(&arguments) {
        say::error(&failure);
        std::process::exit(failure.code);
    }
}
