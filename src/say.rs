//! The standard output. `println!` panics when it cannot be written to, and `fcdm inspect --plan | head` is no crash.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

/// Writes to the standard output. If that fails the process ends with code 1: silently when the reader has gone away, who
/// wants no more lines, else with what the system said.
pub fn write(text: Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    if let Err(e) = out.write_fmt(text).and_then(|()| out.flush()) {
        if e.kind() != ErrorKind::BrokenPipe {
            eprintln!("error: standard output: {e}");
        }
        std::process::exit(1);
    }
}

/// As `println!`.
macro_rules! sayln {
    ($($text:tt)*) => { $crate::say::write(format_args!("{}\n", format_args!($($text)*))) };
}

pub(crate) use sayln;
