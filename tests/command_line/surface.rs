//! What a user sees before anything is computed: help, version, completions, manual pages, colours.

use std::process::Command;

use crate::process::{Folder, Ran, finish};

const COMMANDS: [&str; 13] =
    ["generate", "compile", "inspect", "decode", "encode", "train", "bench", "quantize-report", "init", "run", "opt", "completions", "man"];

/// A command where the terminal has so many columns.
fn at(f: &Folder, columns: usize, line: &str) -> Ran {
    let mut command = f.command(line);
    command.env("COLUMNS", columns.to_string());
    finish(line, command)
}

fn widest(text: &str) -> (usize, &str) {
    text.lines().map(|line| (line.chars().count(), line)).max().unwrap_or((0, ""))
}

#[test]
fn help_fits_the_terminal() {
    let f = Folder::new();
    for command in COMMANDS.iter().chain(&[""]) {
        for (columns, most) in [(80, 80), (100, 100), (200, 100)] {
            for how in ["-h", "--help"] {
                let help = at(&f, columns, &format!("{command} {how}"));
                assert!(help.code == Some(0) && help.err.is_empty(), "{help:?}");
                assert!(widest(&help.out).0 <= most, "{command} {how} at {columns}: {:?}", widest(&help.out));
                assert!(!help.out.contains('\u{1b}'), "no colours in a pipe: {help:?}");
            }
        }
        assert_eq!(at(&f, 40, &format!("{command} --help")).code, Some(0));
    }
}

/// The short help has a line for every option and fits a screen; the long one says more.
#[test]
fn short_help_is_short() {
    let f = Folder::new();
    for command in COMMANDS.iter().chain(&[""]) {
        let (short, long) = (at(&f, 80, &format!("{command} -h")).out, at(&f, 80, &format!("{command} --help")).out);
        assert!(short.lines().count() <= 60, "{command}: {} lines\n{short}", short.lines().count());
        let continued: Vec<&str> = short.lines().filter(|line| line.starts_with("            ")).collect();
        assert!(continued.is_empty(), "{command}: {continued:?}");
        assert!(long.len() > short.len() && long.contains("\nExamples:\n  fcdm "), "{long}");
    }
    let all = f.ok("--help");
    let at = COMMANDS.map(|command| all.find(&format!("\n  {command} ")).unwrap_or_else(|| panic!("{command}: {all}")));
    assert!(at.is_sorted(), "in the order of use: {all}");
    assert!(all.contains("\nExit codes:\n  0    done\n"), "{all}");
    let none = f.run("");
    assert_eq!((none.code, none.out.as_str()), (Some(2), ""));
    assert!(none.err.contains("Usage: fcdm") && none.err.contains("\n  generate "), "{none:?}");
}

#[test]
fn the_version_has_its_parts() {
    let f = Folder::new();
    let short = f.ok("-V");
    assert_eq!(short.lines().count(), 1);
    let name = concat!("fcdm ", env!("CARGO_PKG_VERSION"));
    assert!(short.starts_with(name) && short.contains(", artifact version 2, "), "{short}");
    let long = f.ok("--version");
    let lines: Vec<&str> = long.lines().collect();
    assert!(lines[0].starts_with(name) && lines[1].starts_with("artifact: version 2, plan version "), "{long}");
    assert!(lines[2].starts_with("CPU: ") && lines[3].starts_with("threads: "), "{long}");
    // A build of a repository knows its commit: ten digits and a day.
    if let Some((_, rest)) = lines[0].split_once('(') {
        let (hash, day) = rest.trim_end_matches(')').split_once(' ').unwrap();
        assert!(hash.len() >= 10 && hash.chars().all(|c| c.is_ascii_hexdigit()), "{long}");
        assert!(day.len() == 10 && day.starts_with("20"), "{long}");
    }
    let forced = |isa: &str| {
        let mut command = f.command("--version");
        command.env("FCDM_ISA", isa);
        let ran = finish("--version", command);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.out
    };
    assert!(forced("scalar").contains("scalar (FCDM_ISA)"));
    assert!(forced("sse9").contains("FCDM_ISA: expected one of "));
}

#[test]
fn completions() {
    let f = Folder::new();
    for (shell, has) in [
        ("bash", "complete -F _fcdm"),
        ("zsh", "#compdef fcdm"),
        ("fish", "complete -c fcdm"),
        ("powershell", "Register-ArgumentCompleter"),
        ("elvish", "edit:completion:arg-completer[fcdm]"),
    ] {
        let script = f.ok(&format!("completions {shell}"));
        assert!(script.contains(has) && script.contains("cfg-scale") && !script.contains("\\u{"), "{shell}: {script}");
    }
    let script = f.ok("completions bash");
    f.write("fcdm.bash", &script);
    if let Ok(checked) = Command::new("bash").args(["-n", "fcdm.bash"]).current_dir(f.path(".")).output() {
        assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:?}");
    }
    f.misused("completions tcsh");
}

#[test]
fn manual_pages() {
    let f = Folder::new();
    let page = f.ok("man");
    assert!(page.contains(".TH \"fcdm\" \"1\"") && page.contains(".SH \"EXAMPLES\"") && page.contains(".SH \"EXIT CODES\""), "{page}");
    assert_eq!(f.ok("man -o pages/man1"), "wrote 14 pages to pages/man1\n");
    let mut expected: Vec<String> = COMMANDS.iter().map(|c| format!("pages/man1/fcdm-{c}.1")).collect();
    expected.push("pages/man1/fcdm.1".into());
    expected.sort();
    assert_eq!(f.files(), expected);
    assert_eq!(String::from_utf8(f.bytes("pages/man1/fcdm.1")).unwrap(), page);
    let generate = String::from_utf8(f.bytes("pages/man1/fcdm-generate.1")).unwrap();
    assert!(generate.contains(r#".TH "fcdm\-generate" "1""#) && generate.contains(r"\&fcdm generate \-\-class\-labels"), "{generate}");
    f.write("file", "");
    f.fails(1, "man -o file");
}

/// Colours that are forced are ours: a wrong argument keeps none of its own.
#[test]
fn colours() {
    let f = Folder::new();
    let forced = |line: &str, more: Option<&str>| {
        let mut command = f.command(line);
        command.args(more).env("CLICOLOR_FORCE", "1").env_remove("NO_COLOR");
        finish(line, command)
    };
    assert!(forced("--help", None).out.contains('\u{1b}'));
    assert!(forced("inspect nofile", None).err.contains('\u{1b}'));
    assert!(forced("generate --nonsense", None).err.contains('\u{1b}'));
    let hostile = forced("generate", Some("--\u{1b}[31mred"));
    assert!(hostile.code == Some(2) && hostile.err.contains("\\u{1b}[31mred") && !hostile.err.contains('\u{1b}'), "{hostile:?}");
    let hostile = forced("inspect", Some("\u{1b}[31mred"));
    assert!(hostile.err.contains("\\u{1b}[31mred") && !hostile.err.contains("\u{1b}[31mred"), "{hostile:?}");
    let mut command = f.command("--help");
    command.env("CLICOLOR_FORCE", "1").env("NO_COLOR", "1");
    assert!(!finish("--help", command).out.contains('\u{1b}'));
}
