//! Where output goes when it cannot go where it should: an error output that is full or closed, a reader that goes away, a script's log.

use std::process::{Command, Stdio};

use crate::process::{Folder, Ran, finish};

/// A command line for the shell, in which `FCDM` is the command.
fn shell(f: &Folder, line: &str) -> Ran {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut command = Command::new("sh");
    let line = line.replace("GOLDEN", &golden.to_string_lossy()).replace("FCDM", env!("CARGO_BIN_EXE_fcdm"));
    command.args(["-c", &line]).current_dir(f.path(".")).stdin(Stdio::null());
    finish(&line, command)
}

/// Commands end as they would, whoever listens.
#[cfg(target_os = "linux")]
#[test]
fn an_error_output_that_takes_nothing() {
    let f = Folder::new();
    for to in ["2>/dev/full", "2>&-", "2>/dev/null"] {
        assert_eq!(shell(&f, &format!("FCDM generate nofile.fcdm {to}")).code, Some(4), "{to}");
        assert_eq!(shell(&f, &format!("FCDM generate --nonsense {to}")).code, Some(2), "{to}");
        let line = format!("mkdir c; XDG_CACHE_HOME=c FCDM generate -c 1 --steps 1 -o a {to}; code=$?; rm -r c; exit $code");
        assert_eq!(shell(&f, &line).code, Some(0), "{to}");
        assert!(f.files().iter().any(|n| n.starts_with("a/") && n.ends_with(".png")), "{to}: {:?}", f.files());
        std::fs::remove_dir_all(f.path("a")).unwrap();
        let line = format!("FCDM compile GOLDEN/eps8/0000003.pt --size 4x4 -o a.fcdm {to}");
        assert_eq!(shell(&f, &line).code, Some(0), "{to}");
    }
}

/// A full standard output is an error; one that nobody reads any more, or that is closed, is none.
#[cfg(target_os = "linux")]
#[test]
fn a_standard_output_that_takes_nothing() {
    let f = Folder::new();
    for line in ["FCDM inspect xl", "FCDM inspect xl --json", "FCDM opt", "FCDM --help", "FCDM --version"] {
        let full = shell(&f, &format!("{line} >/dev/full"));
        assert_eq!(full.code, Some(1), "{full:?}");
        assert_eq!(full.err.lines().count(), 1, "{full:?}");
        assert!(full.err.starts_with("error: standard output: No space left"), "{full:?}");
        assert_eq!(shell(&f, &format!("{line} >/dev/full 2>/dev/full")).code, Some(1));
        let closed = shell(&f, &format!("{line} >&-"));
        assert!(matches!(closed.code, Some(0 | 141)) && closed.err.is_empty(), "{closed:?}");
        let gone = shell(&f, &format!("{{ sleep 0.2; {line}; echo $? >&2; }} | true"));
        assert!(matches!(gone.err.trim(), "0" | "141"), "{gone:?}");
    }
}

/// `--quiet` leaves results and errors; results are alone on the standard output in any case.
#[test]
fn quiet_is_quiet() {
    let f = Folder::new();
    let line = "generate -c 1 --steps 1 -o a --json";
    let run = |cache: &str, line: &str| {
        let mut command = f.command(line);
        command.env("XDG_CACHE_HOME", f.path(cache));
        finish(line, command)
    };
    let said = run("c", line);
    assert!(said.code == Some(0) && said.err.starts_with("note: compiling the model in the box to "), "{said:?}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&said.out).unwrap()["sampled"], 1);
    let said = run("d", &format!("{line} -q"));
    assert!(said.code == Some(0) && said.err.is_empty() && !said.out.is_empty(), "{said:?}");
    let said = run("d", "--quiet generate nofile.fcdm");
    assert!(said.code == Some(4) && said.err.starts_with("error: nofile.fcdm: "), "{said:?}");
}

/// Class names with control characters never get into an artifact.
#[test]
fn class_names_for_terminals() {
    let f = Folder::new();
    f.write("names", "a\nb\u{1b}[31m\nc\nd\ne\nf\ng\nh\ni\nj\n");
    let line = f.fails(2, "compile GOLDEN/eps8/0000003.pt --class-names names -o a.fcdm");
    assert!(
        line.ends_with(
            "line 2: expected distinct names without commas and control characters, no numbers, not `null`, found `b\\u{1b}[31m`"
        ),
        "{line}"
    );
}

/// Counts and sizes in JSON are numbers.
#[test]
fn numbers_are_numbers() {
    let f = Folder::new();
    f.ok("compile GOLDEN/eps8/0000003.pt --size 4x4 -o a.fcdm");
    let s = f.json("generate a.fcdm -c 1 --steps logsnr3 --sampler unipc -o o");
    assert_eq!((&s["steps"], &s["spacing"]), (&serde_json::json!(3), &serde_json::json!("logsnr")));
    let of = |value: &serde_json::Value| value.is_number();
    assert!(of(&s["cfg_scale"]) && of(&s["seconds"]) && of(&s["sampled"]), "{s}");
    for line in ["inspect a.fcdm", "inspect GOLDEN/eps8/0000003.pt", "compile GOLDEN/eps8/0000003.pt --size 4x4 -o b.fcdm"] {
        none_in_text(line, "", &f.json(line));
    }
}

/// No text is a number, but for sums of bytes and what a trainer's arguments are.
fn none_in_text(line: &str, key: &str, value: &serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => map.iter().filter(|(k, _)| *k != "arguments").for_each(|(k, v)| none_in_text(line, k, v)),
        serde_json::Value::Array(list) => list.iter().for_each(|v| none_in_text(line, key, v)),
        serde_json::Value::String(text) if !key.contains("xxh3") && !key.contains("checksum") => {
            assert!(text.parse::<f64>().is_err(), "{line}: {key}: {text}");
        }
        _ => {}
    }
}
