//! The one door to the terminal: whatever the command line prints goes through here, results to the standard output, everything else to
//! the error output. `println!` and its kin panic where they cannot write, and are not used (a lint sees to it). Bars alone are drawn by
//! their own crate, on a terminal and nowhere else.
//!
//! - Results that cannot be written end the process: with code 1 and a line, or, where the reader has gone away, who wants no more lines,
//!   quietly with the code that a shell gives to what SIGPIPE ends.
//! - What is said beside them is said if it can be. A full or closed error output is no reason to fail.
//! - No control character of a file, a name or an argument reaches the terminal ([`text`]).
//! - Colours are ours alone, and reach a terminal alone (NO_COLOR, CLICOLOR and CLICOLOR_FORCE say otherwise).

pub mod text;

use std::borrow::Cow;
use std::fmt::{Arguments, Display};
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anstream::ColorChoice;
use clap::builder::styling::{AnsiColor, Effects, Style};
use serde_json::Value;

use crate::failure::Failure;
use text::{block, json_text};
pub use text::{inline, list};

/// Exit code where the standard output's reader has gone away, as of a process that SIGPIPE ends.
const NO_READER: i32 = 141;

static QUIET: AtomicBool = AtomicBool::new(false);
static BYTES: AtomicBool = AtomicBool::new(false);
static VERBOSE: AtomicBool = AtomicBool::new(false);

/// From here on errors are all that is said beside results.
pub fn only_errors() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Whether errors are all that is said.
pub fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// From here on what is said of results goes to the error output: the standard output is for a picture's bytes.
pub fn output_is_bytes() {
    BYTES.store(true, Ordering::Relaxed);
}

/// From here on results come with how they are made.
pub fn details() {
    VERBOSE.store(true, Ordering::Relaxed);
}

/// Whether details are wanted.
pub fn is_verbose() -> bool {
    VERBOSE.load(Ordering::Relaxed)
}

/// Writes to the standard output.
pub fn out(text: Arguments<'_>) {
    let text = text.to_string();
    match BYTES.load(Ordering::Relaxed) {
        false => raw(block(&text).as_bytes()),
        true if is_quiet() => {}
        true => error_output(&block(&text)),
    }
}

/// Writes bytes to the standard output: a file that was asked for there.
pub fn bytes(bytes: &[u8]) {
    raw(bytes);
}

/// Writes JSON to the standard output: escaped as JSON is, where it does not escape by itself.
pub fn json(value: &Value) {
    raw(format!("{}\n", json_text(&format!("{value:#}"))).as_bytes());
}

fn raw(bytes: &[u8]) {
    to_output(std::io::stdout().lock(), bytes);
}

fn to_output(mut out: impl Write, bytes: &[u8]) {
    if let Err(e) = out.write_all(bytes).and_then(|()| out.flush()) {
        if e.kind() == ErrorKind::BrokenPipe {
            std::process::exit(NO_READER);
        }
        beside("error", &format!("standard output: {e}"));
        std::process::exit(1);
    }
}

/// A line on the error output, if it takes one.
fn beside(kind: &str, line: &dyn Display) {
    let style = match kind {
        "error" => AnsiColor::Red.on_default().effects(Effects::BOLD),
        "warning" => AnsiColor::Magenta.on_default().effects(Effects::BOLD),
        _ => Style::new().effects(Effects::BOLD),
    };
    error_output(&format!("{style}{kind}:{style:#} {}\n", inline(&line.to_string())));
}

fn error_output(text: &str) {
    let mut to = anstream::stderr();
    let plain = to.current_choice() == ColorChoice::Never;
    let text = if plain { Cow::Owned(anstream::adapter::strip_str(text).to_string()) } else { Cow::Borrowed(text) };
    // In one piece, so that lines of several processes do not mix.
    let _ = to.write_all(text.as_bytes());
}

/// Something that is good to know.
pub fn note(line: impl Display) {
    if !is_quiet() {
        beside("note", &line);
    }
}

/// Something that may be wrong.
pub fn warning(line: impl Display) {
    if !is_quiet() {
        beside("warning", &line);
    }
}

/// How far something is.
pub fn progress(line: impl Display) {
    if !is_quiet() {
        beside("progress", &line);
    }
}

/// Why a command failed.
pub fn error(failure: &Failure) {
    beside("error", &failure.message);
    for line in &failure.places {
        error_output(&format!("{}\n", inline(line)));
    }
}

/// Whether no argument has characters that a terminal acts on.
pub fn has_plain_arguments() -> bool {
    std::env::args_os().all(|a| matches!(block(&a.to_string_lossy()), Cow::Borrowed(_)))
}

/// What the command line's own grammar says: help and version, which are results and ours, or a wrong usage, which repeats arguments.
/// The exit code.
pub fn grammar(said: &clap::Error) -> i32 {
    let text = said.render().ansi().to_string();
    match said.use_stderr() {
        true if has_plain_arguments() => error_output(&text),
        true => error_output(&block(&text)),
        false => to_output(anstream::stdout(), text.as_bytes()),
    }
    said.exit_code()
}

/// As `println!`.
#[macro_export]
macro_rules! sayln {
    ($($text:tt)*) => { $crate::say::out(format_args!("{}\n", format_args!($($text)*))) };
}

pub use crate::sayln;
