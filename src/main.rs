//! The command line: one file per subcommand, thin. What the commands do lives in the crates.
#![forbid(unsafe_code)]
// All that is printed goes through one door (`say`).
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod about;
mod bench;
mod compile;
mod completions;
mod decode;
mod encode;
mod failure;
mod generate;
mod help;
mod init;
mod inspect;
mod man;
mod model;
mod onnx;
mod opt;
mod progress;
mod quantize_report;
mod run;
mod train;

use std::ffi::OsString;

use clap::builder::Styles;
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};
use fcdm_command::{pictures, say, signals, size, version};

/// Generate pictures with FCDM diffusion models on the CPU.
///
/// A trained checkpoint is compiled into one .fcdm file, which holds all that generating takes. There is a model in the box, so that
/// `fcdm generate` makes pictures at once.
#[derive(Parser)]
#[command(
    name = "fcdm",
    bin_name = "fcdm",
    version = version::short(),
    long_version = version::long(),
    disable_help_flag = true,
    disable_version_flag = true,
    max_term_width = help::WIDTH,
    styles = help::STYLES,
    after_help = "Begin with: fcdm generate",
    after_long_help = format!("{EXAMPLES}\n\n{}", failure::EXIT_CODES)
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Say nothing but results and errors.
    ///
    /// No notes, no warnings, no progress.
    #[arg(short, long, global = true, help_heading = help::GENERAL)]
    quiet: bool,
    /// Say more: how a file is made and runs.
    #[arg(short, long, global = true, help_heading = help::GENERAL)]
    verbose: bool,
    /// Print help; --help prints more.
    #[arg(short, long, global = true, action = ArgAction::Help, help_heading = help::GENERAL)]
    help: Option<bool>,
    /// Print the version; --version prints more.
    #[arg(short = 'V', long, action = ArgAction::Version, help_heading = help::GENERAL)]
    version: Option<bool>,
}

const EXAMPLES: &str = help::examples!(
    "fcdm generate",
    "fcdm generate --class-labels dress,shoes --num 4 --grid",
    "fcdm compile checkpoint.pt --vae sd-vae-ft-ema -o model.fcdm",
    "fcdm generate model.fcdm --class-labels 207,360 --seed 1",
    "fcdm inspect model.fcdm",
);

/// In the order in which they are used.
#[derive(Subcommand)]
enum Command {
    Generate(Box<generate::Arguments>),
    Compile(Box<compile::Arguments>),
    Inspect(inspect::Arguments),
    Decode(decode::Arguments),
    Encode(encode::Arguments),
    Train(Box<train::Arguments>),
    Bench(bench::Arguments),
    QuantizeReport(quantize_report::Arguments),
    Init(init::Arguments),
    Run(run::Arguments),
    Opt(opt::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

/// The command line as it is given. What is wrong with it is said in colours if all colours in it are ours: an argument that is repeated
/// may have its own, which are shown as what they are.
fn parse() -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    if !say::has_plain_arguments() {
        command = command.styles(Styles::plain());
    }
    let matches = command.try_get_matches_from_mut(std::env::args_os().map(hyphens))?;
    Cli::from_arg_matches(&matches).map_err(|e| e.format(&mut command))
}

/// An option's name with hyphens where it has underscores, as Python's scripts have them.
fn hyphens(argument: OsString) -> OsString {
    match argument.to_str().and_then(|text| text.strip_prefix("--")) {
        Some(option) if !option.is_empty() => {
            let (name, value) = option.find('=').map_or((option, ""), |at| option.split_at(at));
            format!("--{}{value}", name.replace('_', "-")).into()
        }
        _ => argument,
    }
}

fn main() {
    signals::listen();
    // A usage error ends the process with code 2, help and version with 0.
    let cli = parse().unwrap_or_else(|said| std::process::exit(say::grammar(&said)));
    if cli.quiet {
        say::only_errors();
    }
    if cli.verbose {
        say::details();
    }
    let result = match cli.command {
        Command::Generate(a) => generate::run(&a),
        Command::Compile(a) => compile::run(&a),
        Command::Inspect(a) => inspect::run(&a),
        Command::Decode(a) => decode::run(&a),
        Command::Encode(a) => encode::run(&a),
        Command::Train(a) => train::run(&a),
        Command::Bench(a) => bench::run(&a),
        Command::QuantizeReport(a) => quantize_report::run(&a),
        Command::Init(a) => init::run(&a),
        Command::Run(a) => run::run(&a),
        Command::Opt(a) => opt::run(&a),
        Command::Completions(a) => completions::run(&a, Cli::command()),
        Command::Man(a) => man::run(&a, Cli::command()),
    };
    if let Err(failure) = result {
        say::error(&failure.0);
        std::process::exit(failure.0.code);
    }
}
