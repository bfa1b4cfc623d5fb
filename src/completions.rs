//! `fcdm completions`: what a shell needs to complete commands and options.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::failure::Failure;
use crate::help::examples;
use crate::say;

const EXAMPLES: &str = examples!(
    "fcdm completions bash > ~/.local/share/bash-completion/completions/fcdm",
    "fcdm completions zsh > _fcdm",
    "fcdm completions fish > ~/.config/fish/completions/fcdm.fish",
);

/// Print the completion script of a shell.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Arguments {
    /// The shell.
    shell: Shell,
}

/// Runs the command, of the whole command line.
pub fn run(a: &Arguments, mut command: Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(a.shell, &mut command, "fcdm", &mut script);
    say::out(format_args!("{}", String::from_utf8_lossy(&script)));
    Ok(())
}
