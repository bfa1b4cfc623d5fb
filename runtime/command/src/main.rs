//! `fcdm-run`: pictures from an artifact, and nothing else. It links the runtime and no compiler.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use fcdm_command::failure::{EXIT_CODES, Failure};
use fcdm_command::{examples, generate, help, say, signals, version};
use fcdm_runtime::artifact::Artifact;

const EXAMPLES: &str = examples!(
    "fcdm-run model.fcdm --class-labels dress,shoes --num 4 --grid",
    "fcdm-run model.fcdm --class-labels 207 --seed 7 -o golden-retriever.png",
);

/// Generate pictures with a model that `fcdm compile` made.
#[derive(Parser)]
#[command(
    name = "fcdm-run",
    version = version::short(),
    long_version = version::long(),
    max_term_width = help::WIDTH,
    styles = help::STYLES,
    after_help = "More options, and examples: fcdm-run --help",
    after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}")
)]
struct Arguments {
    /// The .fcdm file.
    model: PathBuf,
    #[command(flatten)]
    generate: generate::Arguments,
    /// Say nothing but results and errors.
    ///
    /// No notes, no warnings, no progress.
    #[arg(short, long, help_heading = help::GENERAL)]
    quiet: bool,
    /// Say more: what it runs on.
    #[arg(short, long, help_heading = help::GENERAL)]
    verbose: bool,
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
    if arguments.verbose {
        say::details();
    }
    if let Err(failure) = run(&arguments) {
        say::error(&failure);
        std::process::exit(failure.code);
    }
}
