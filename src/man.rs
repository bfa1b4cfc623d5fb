//! `fcdm man`: the help as manual pages, `fcdm.1` and one for every command.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Command};
use clap_mangen::Man;
use fcdm_runtime::file::{FileError, replace_file};

use crate::failure::Failure;
use crate::help::{OUTPUT, examples};
use crate::say::{self, sayln};

const EXAMPLES: &str = examples!("fcdm man | man -l -", "fcdm man -o man1");

/// Print the manual page, or write all pages into a folder.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Arguments {
    /// Write fcdm.1, fcdm-generate.1, .. into this folder.
    #[arg(short, long, value_name = "FOLDER", help_heading = OUTPUT)]
    output: Option<PathBuf>,
}

/// Runs the command, of the whole command line.
pub fn run(a: &Arguments, command: Command) -> Result<(), Failure> {
    // `fcdm help` prints what these pages say, and has none.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let Some(folder) = &a.output else {
        say::out(format_args!("{}", String::from_utf8_lossy(&page(&command).expect("memory takes all"))));
        return Ok(());
    };
    std::fs::create_dir_all(folder).map_err(|e| Failure::new(1, format!("{}: cannot make the folder: {e}", folder.display())))?;
    let commands: Vec<&Command> = std::iter::once(&command).chain(command.get_subcommands()).collect();
    for command in &commands {
        let (path, text) = (folder.join(format!("{}.1", name(command))), page(command).expect("memory takes all"));
        replace_file(&path, |file| file.write_all(&text).map_err(FileError::writing(&path)))?;
    }
    sayln!("wrote {} pages to {}", commands.len(), folder.display());
    Ok(())
}

/// `fcdm-generate`.
fn name(command: &Command) -> String {
    command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned()
}

/// A page. Neither its date nor its version is of the day or the machine.
fn page(command: &Command) -> io::Result<Vec<u8>> {
    let command = command.clone().version(env!("CARGO_PKG_VERSION")).long_version(env!("CARGO_PKG_VERSION"));
    let (mut out, man) = (Vec::new(), Man::new(command.clone()));
    let name = escaped(&name(&command));
    writeln!(out, ".TH \"{name}\" \"1\" \"\" \"fcdm {}\" \"Manual of fcdm\"", env!("CARGO_PKG_VERSION"))?;
    man.render_name_section(&mut out)?;
    let usage = command.clone().render_usage().to_string();
    writeln!(out, ".SH SYNOPSIS\n{}", escaped(usage.trim_start_matches("Usage: ")))?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut out)?;
    }
    let end = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    for block in end.split("\n\n").filter(|block| !block.is_empty()) {
        write_block(&mut out, block)?;
    }
    Ok(out)
}

/// Text that means nothing to the formatter.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

/// What stands at the end of help: a title, and lines that stay lines.
fn write_block(out: &mut Vec<u8>, block: &str) -> io::Result<()> {
    let (title, lines) = block.split_once('\n').unwrap_or(("NOTES", block));
    writeln!(out, ".SH \"{}\"\n.nf", title.trim_end_matches(':').to_uppercase())?;
    for line in lines.lines() {
        // The empty character keeps a point or an apostrophe at the start from being a request.
        writeln!(out, "\\&{}", escaped(line.trim_start()))?;
    }
    writeln!(out, ".fi")
}
