//! The file tests of the passes, `tests/filetests/passes/PASS/*.ir`:
//!
//! ```text
//! ; test pass=NAME                 several: pass=a,b
//! ; fires=yes                      every function changes; `no`: none does
//! ; idempotent=no REASON           only where a second run may change the output
//! ; types=NAME=TYPE,..             what the passes are told of weights
//! ; rounds=yes                     values may change by what codes round
//! module
//! ; ---
//! module as the pass must print it
//! ```
//! `BLESS=1 cargo test -p fcdm-passes` rewrites the expected part. Every file also has both sides verified, printed,
//! parsed and printed again, and evaluated on the same values; and the pass run on its own output.
#![allow(clippy::unwrap_used)]

mod evaluation;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use evaluation::{Changes, assert_values};
use fcdm_ir::Module;
use fcdm_ir::text::parse_module;
use fcdm_ir::verify::verify_module;
use fcdm_passes::{PASSES, Settings};

const SEPARATOR: &str = "; ---\n";

/// Held while files are read or blessed, by tests that run side by side.
static FILES: Mutex<()> = Mutex::new(());

struct FileTest {
    path: PathBuf,
    passes: Vec<String>,
    fires: bool,
    idempotent: bool,
    types: Vec<(String, String)>,
    rounds: bool,
    input: String,
    expected: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/filetests/passes")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let listing = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = listing.map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn read(path: &Path) -> FileTest {
    let text = std::fs::read_to_string(path).unwrap();
    let flag = |key: &str| text.lines().find_map(|l| l.strip_prefix("; ")?.strip_prefix(key)?.strip_prefix('='));
    let fires = match flag("fires") {
        Some("yes") => true,
        Some("no") => false,
        other => panic!("{}: `; fires=yes` or `; fires=no` expected, found {other:?}", path.display()),
    };
    let idempotent = flag("idempotent").is_none_or(|reason| {
        assert!(reason.len() > "no ".len() && reason.starts_with("no "), "{}: `idempotent=no` needs a reason", path.display());
        false
    });
    let pair = |rule: &str| rule.split_once('=').map(|(name, ty)| (name.to_owned(), ty.to_owned())).unwrap();
    let types = flag("types").map_or(Vec::new(), |rules| rules.split(',').map(pair).collect());
    let rounds = flag("rounds").is_some_and(|v| v == "yes");
    let passes = flag("test pass").unwrap_or_else(|| panic!("{}: no `; test pass=NAME`", path.display()));
    let (input, expected) = text.split_once(SEPARATOR).unwrap_or((&text, ""));
    let passes = passes.split(',').map(str::to_owned).collect();
    FileTest { path: path.to_owned(), passes, fires, idempotent, types, rounds, input: input.to_owned(), expected: expected.to_owned() }
}

fn filetests() -> Vec<FileTest> {
    entries(&folder()).iter().flat_map(|pass| entries(pass)).map(|path| read(&path)).collect()
}

fn parse(what: &str, text: &str) -> Module {
    parse_module(what, text).unwrap_or_else(|e| panic!("{e}")).0
}

fn verified(what: &str, m: &Module) {
    if let Err(errors) = verify_module(m) {
        let list: Vec<String> = errors.iter().map(ToString::to_string).collect();
        panic!("{what} is invalid:\n{}\n{m}", list.join("\n"));
    }
}

fn apply(test: &FileTest, m: &Module) -> Module {
    let types = |weight: &str| test.types.iter().find(|(name, _)| name == weight).map(|(_, ty)| ty.clone());
    let settings = Settings { types: &types, ..Settings::default() };
    test.passes.iter().fold(m.clone(), |m, name| {
        let pass = fcdm_passes::find(name).unwrap_or_else(|| panic!("{}: there is no pass `{name}`", test.path.display()));
        let next = pass.apply(&m, &settings);
        verified(&format!("{}: the module after `{name}`", test.path.display()), &next);
        next
    })
}

/// Lines of both texts in order, those of one only marked `-` (expected) or `+` (found).
fn diff(expected: &str, found: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    // Longest common subsequence of the suffixes from i and j.
    let mut common = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if a[i] == b[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, String::new());
    while i < a.len() || j < b.len() {
        let (sign, line) = if i < a.len() && j < b.len() && a[i] == b[j] {
            (i, j) = (i + 1, j + 1);
            (' ', a[i - 1])
        } else if j == b.len() || (i < a.len() && common[i + 1][j] >= common[i][j + 1]) {
            i += 1;
            ('-', a[i - 1])
        } else {
            j += 1;
            ('+', b[j - 1])
        };
        out.push_str(&format!("{sign} {line}\n"));
    }
    out
}

fn round_trip(what: &str, m: &Module) {
    let printed = m.to_string();
    let again = parse(what, &printed);
    assert_eq!(again.to_string(), printed, "{what} prints to something else after parsing");
    assert!(again == *m, "{what} parses to another module than was printed:\n{printed}");
}

fn assert_fires(test: &FileTest, before: &Module, after: &Module) {
    let what = test.path.display();
    if !test.fires {
        assert!(before == after, "{what}: must not fire:\n{}", diff(&before.to_string(), &after.to_string()));
        return;
    }
    for f in &before.functions {
        assert!(after.function(f.name()) != Some(f), "{what}: @{} does not change", f.name());
    }
}

fn check(test: &FileTest, bless: bool) {
    let what = test.path.display().to_string();
    let before = parse(&what, &test.input);
    verified(&what, &before);
    let after = apply(test, &before);
    assert_fires(test, &before, &after);
    for (side, m) in [("input", &before), ("output", &after)] {
        round_trip(&format!("{what}, {side}"), m);
    }
    assert_values(&what, &before, &after, if test.rounds { Changes::Rounded } else { Changes::Nothing });
    if test.idempotent {
        let again = apply(test, &after);
        assert!(again == after, "{what}: a second run changes\n{}", diff(&after.to_string(), &again.to_string()));
    }
    let found = after.to_string();
    if bless {
        std::fs::write(&test.path, format!("{}{SEPARATOR}{found}", test.input)).unwrap();
    } else {
        assert!(found == test.expected, "{what}: expected (-) and found (+) differ:\n{}", diff(&test.expected, &found));
    }
}

#[test]
fn every_file() {
    let _files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    let bless = std::env::var_os("BLESS").is_some_and(|v| v == "1");
    let tests = filetests();
    // All failures at once: blessing one file must not hide another.
    let failed: Vec<&FileTest> =
        tests.iter().filter(|t| std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(t, bless))).is_err()).collect();
    let list: Vec<String> = failed.iter().map(|t| t.path.display().to_string()).collect();
    assert!(failed.is_empty(), "{} of {} files failed:\n{}", failed.len(), tests.len(), list.join("\n"));
}

#[test]
fn every_pass_has_files_where_it_fires_and_where_it_must_not() {
    let _files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    let folders: BTreeSet<String> = entries(&folder()).iter().map(|p| name(p)).collect();
    let passes: BTreeSet<String> = PASSES.iter().map(|p| p.name.to_owned()).collect();
    assert_eq!(folders, passes, "folders of tests/filetests/passes (left) and passes (right)");
    for pass in &passes {
        let tests: Vec<FileTest> = entries(&folder().join(pass)).iter().map(|path| read(path)).collect();
        for test in &tests {
            assert!(test.passes.contains(pass), "{} does not run `{pass}`", test.path.display());
            assert!(test.path.extension().is_some_and(|e| e == "ir"), "{} is not an .ir file", test.path.display());
        }
        for fires in [true, false] {
            assert!(tests.iter().any(|t| t.fires == fires), "no file of `{pass}` has fires={}", if fires { "yes" } else { "no" });
        }
    }
}

#[test]
fn a_diff_marks_what_was_lost_and_gained() {
    assert_eq!(diff("a\nb\nc\n", "a\nx\nc\nd\n"), "  a\n- b\n+ x\n  c\n+ d\n");
}
