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
macro_rules! examples {
    ($($line:literal),+ $(,)?) => { concat!("\x1b[1m\x1b[32mExamples:\x1b[0m", $("\n  ", $line),+) };
}

pub(crate) use examples;

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory, Parser};

    use crate::Cli;

    /// The command and all below it, with what they share.
    fn commands() -> Vec<Command> {
        let mut all = Cli::command();
        all.build();
        let below: Vec<Command> = all.get_subcommands().filter(|c| c.get_name() != "help").cloned().collect();
        std::iter::once(all).chain(below).collect()
    }

    #[test]
    fn every_option_stands_under_a_heading() {
        for command in commands() {
            for option in command.get_arguments().filter(|a| !a.is_positional()) {
                assert!(option.get_help_heading().is_some(), "{}: {}", command.get_name(), option.get_id());
                assert!(option.get_help().is_some(), "{}: {}", command.get_name(), option.get_id());
            }
        }
    }

    #[test]
    fn every_example_is_a_command() {
        for command in commands() {
            let end = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<&str> = end.lines().filter_map(|line| line.strip_prefix("  ")).filter(|l| l.starts_with("fcdm ")).collect();
            assert!(!examples.is_empty(), "{}", command.get_name());
            for example in examples {
                // Of a pipe each command that is ours; where its output goes is the shell's.
                for part in example.split(" | ").filter(|part| part.starts_with("fcdm ")) {
                    let words = part.split(" > ").next().unwrap_or(part).split(' ');
                    if let Err(e) = Cli::try_parse_from(words) {
                        panic!("{example}: {e}");
                    }
                    assert!(example.len() + 2 <= 80, "{example}");
                }
            }
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
