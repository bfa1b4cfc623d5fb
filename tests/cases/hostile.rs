//! Forged artifacts that once panicked, aborted, or took all memory. Each ends in a line, or in what it honestly is; forged again in code
//! by `bad_input/forged.rs`. Only where a shell can limit memory.
#![cfg(unix)]

use super::{case, seal};
use fcdm_runtime::plan::VERSION;

use crate::process::{Folder, Ran, finish};

/// Kilobytes of addresses that a command may have.
const ENOUGH: &str = "-v 4000000";

/// Runs a command on a copy of a case, within a limit of memory.
fn ran(f: &Folder, line: &str) -> Ran {
    finish(line, f.limited(line, ENOUGH))
}

/// A folder with a case, whose artifact is made one of today's version of the plan: what is wrong with it has nothing to do with that.
fn todays(name: &str) -> Option<Folder> {
    let f = case(name)?;
    let bytes = f.bytes("m.fcdm");
    let (old, new) = (br#"{\"version\":4"#, format!(r#"{{\"version\":{VERSION}"#));
    let at = bytes.windows(old.len()).position(|w| w == old);
    let renewed = at.map_or(bytes.clone(), |at| [&bytes[..at], new.as_bytes(), &bytes[at + old.len()..]].concat());
    // The header's length stands before it.
    let longer = u64::from_le_bytes(renewed[..8].try_into().unwrap()) + (renewed.len() - bytes.len()) as u64;
    f.write("m.fcdm", seal::sealed(&[&longer.to_le_bytes()[..], &renewed[8..]].concat()).unwrap());
    Some(f)
}

#[track_caller]
fn refused(name: &str, lines: &[&str], codes: &[i32]) {
    let Some(f) = todays(name) else { return };
    for line in lines {
        let ran = ran(&f, line);
        assert!(ran.code.is_some_and(|code| codes.contains(&code)), "{ran:?}");
        let lines: Vec<&str> = ran.err.lines().collect();
        assert!(lines.len() == 1 && lines[0].starts_with("error: m.fcdm: ") && !lines[0].contains("another version"), "{ran:?}");
    }
}

#[test]
fn case_a_encoder_of_other_channels() {
    refused("hostile/A-encode-panic", &["encode pin --vae m.fcdm --size 32 -t 1 -o eo"], &[4]);
}

#[test]
fn case_b_encoder_of_other_latents() {
    refused("hostile/B-init-image-panic", &["generate m.fcdm -c 1 --steps 2 --init-image pin/p16.png -t 1 -o o"], &[4]);
}

#[test]
fn case_c_rows_of_the_condition() {
    refused(
        "hostile/C-condition-rows-abort",
        &["run m.fcdm --inputs in --outputs o -t 1", "generate m.fcdm -c 1 --steps 1 -t 1 -o o"],
        &[4],
    );
}

#[test]
fn case_e_large_states() {
    refused("hostile/E-state-abort", &["generate m.fcdm -c 1 --steps 1 -t 1 -o o"], &[1, 4]);
}

#[test]
fn case_f_large_pictures() {
    refused("hostile/F-decoder-abort", &["generate m.fcdm -c 1 --steps 1 -t 1 -o o"], &[1, 4]);
}

#[test]
fn case_i_names_that_a_terminal_acts_on() {
    let Some(f) = todays("hostile/I-terminal-escapes") else { return };
    for line in ["inspect m.fcdm", "generate m.fcdm -c nope -o o"] {
        let ran = ran(&f, line);
        assert!(![&ran.out, &ran.err].iter().any(|text| text.contains(|c: char| c.is_control() && c != '\n')), "{ran:?}");
        assert!(!format!("{}{}", ran.out, ran.err).lines().any(|l| l.starts_with("fake line")), "{ran:?}");
    }
}

#[test]
fn case_j_large_ports() {
    refused("hostile/J-bench-abort", &["bench m.fcdm --entry foo --runs 1 --seconds 0 -t 1"], &[1, 4]);
}
