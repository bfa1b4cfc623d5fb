//! How help looks, and that all of it is sound.

pub use fcdm_command::help::*;

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
