//! The command line: one file per subcommand, thin. What the commands do lives in the crates.
#![forbid(unsafe_code)]
// All that is printed goes through one door (`say`).
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod compile;
mod decode;
mod encode;
mod failure;
mod generate;
mod init;
mod inspect;
mod model;
mod onnx;
mod opt;
mod progress;
mod run;

use clap::{Parser, Subcommand};
use fcdm_command::{pictures, say, signals, size};

/// Compiles trained FCDM checkpoints into one deployable file and generates pictures with it.
#[derive(Parser)]
#[command(name = "fcdm", version, after_help = failure::EXIT_CODES, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Say nothing but results and errors: no notes, no warnings, no progress.
    #[arg(short, long, global = true)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    Compile(compile::Arguments),
    Generate(generate::Arguments),
    Decode(decode::Arguments),
    Encode(encode::Arguments),
    Run(run::Arguments),
    Inspect(inspect::Arguments),
    Opt(opt::Arguments),
    Init(init::Arguments),
    Bench(bench::Arguments),
}

fn main() {
    signals::listen();
    // A usage error ends the process with code 2, help and version with 0.
    let cli = Cli::try_parse().unwrap_or_else(|said| std::process::exit(say::grammar(&said)));
    if cli.quiet {
        say::only_errors();
    }
    let result = match cli.command {
        Command::Compile(a) => compile::run(&a),
        Command::Generate(a) => generate::run(&a),
        Command::Decode(a) => decode::run(&a),
        Command::Encode(a) => encode::run(&a),
        Command::Run(a) => run::run(&a),
        Command::Inspect(a) => inspect::run(&a),
        Command::Opt(a) => opt::run(&a),
        Command::Init(a) => init::run(&a),
        Command::Bench(a) => bench::run(&a),
    };
    if let Err(failure) = result {
        say::error(&failure.0);
        std::process::exit(failure.0.code);
    }
}
