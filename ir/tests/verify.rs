//! The file tests of the verifier: `tests/filetests/verify/*.ir`, where every violation is announced at the end of its line
//! as `; error: RULE: start of the message`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fcdm_ir::text::parse_module;
use fcdm_ir::verify::verify_module;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn files(folder: &Path, extension: &str) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == extension)).collect();
    files.sort();
    files.into_iter().map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(&p).unwrap())).collect()
}

fn filetests() -> Vec<(String, String)> {
    files(&root().join("../tests/filetests/verify"), "ir")
}

/// `(line, "rule: message")` for every announcement.
fn announced(text: &str) -> Vec<(usize, String)> {
    let on_line = |(i, line): (usize, &str)| line.split("; error: ").skip(1).map(|e| (i + 1, e.trim().to_owned())).collect::<Vec<_>>();
    text.lines().enumerate().flat_map(on_line).collect()
}

#[test]
fn the_verifier_finds_what_the_files_announce() {
    let mut wrong = Vec::new();
    for (file, text) in filetests() {
        let (module, lines) = parse_module(&file, &text).unwrap_or_else(|e| panic!("{e}"));
        let mut found: Vec<(usize, String)> = verify_module(&module)
            .err()
            .unwrap_or_default()
            .into_iter()
            .map(|e| {
                let at = &lines[e.function];
                (e.inst.map_or(at.header, |i| at.insts[i]), format!("{}: {}", e.rule, e.message))
            })
            .collect();
        for (line, expected) in announced(&text) {
            match found.iter().position(|(l, m)| *l == line && m.starts_with(&expected)) {
                Some(i) => drop(found.remove(i)),
                None => wrong.push(format!("{file}:{line}: not found: {expected}")),
            }
        }
        wrong.extend(found.into_iter().map(|(line, message)| format!("{file}:{line}: not announced: {message}")));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn printing_and_parsing_wrong_modules_loses_nothing() {
    for (file, text) in filetests() {
        let (module, _) = parse_module(&file, &text).unwrap();
        // A function without a name, and values without one, print as such.
        let printed = module.to_string();
        let (again, _) = parse_module("printed", &printed).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(again.to_string(), printed, "{file}");
    }
}

/// Every `"name.number"`, `"fused.name.number"` and `"op.word"` in the sources of the ops and of the verifier.
fn constraints() -> BTreeSet<String> {
    let mut sources = files(&root().join("src/ops"), "rs");
    sources.push(("verify.rs".into(), std::fs::read_to_string(root().join("src/verify.rs")).unwrap()));
    let mut found = BTreeSet::new();
    for (_, text) in sources {
        for literal in text.split('"').filter(|s| s.len() < 40) {
            let Some((name, number)) = literal.rsplit_once('.') else { continue };
            let bare = name.strip_prefix("fused.").unwrap_or(name);
            let named = !bare.is_empty() && bare.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            let numbered = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit());
            if named && (numbered || (name == "op" && number.chars().all(|c| c.is_ascii_lowercase()))) {
                found.insert(literal.to_owned());
            }
        }
    }
    found
}

#[test]
fn every_constraint_is_violated_by_a_file() {
    let constraints = constraints();
    assert!(constraints.len() > 100, "the search for constraints found only {}", constraints.len());
    let mut violated = BTreeSet::new();
    for (_, text) in filetests() {
        violated.extend(announced(&text).into_iter().filter_map(|(_, e)| e.split(':').next().map(str::to_owned)));
    }
    let missing: Vec<_> = constraints.difference(&violated).collect();
    assert!(missing.is_empty(), "no file under tests/filetests/verify violates {missing:?}");
}
