//! The architecture as a test: which crate may depend on which, what the runtime may link, where `unsafe` may stand, and
//! what every file owes its reader.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Which of our crates a crate may build on. What a shipped model links is the runtime and what stands behind it: nothing.
const ARROWS: &[(&str, &[&str])] = &[
    ("fcdm-ir", &[]),
    ("fcdm-passes", &["fcdm-ir"]),
    ("fcdm-runtime", &[]),
    ("fcdm-compiler", &["fcdm-ir", "fcdm-passes", "fcdm-runtime"]),
    ("fcdm-models", &["fcdm-ir", "fcdm-passes", "fcdm-compiler", "fcdm-runtime"]),
    ("fcdm-command", &["fcdm-runtime"]),
    ("fcdm", &["fcdm-ir", "fcdm-passes", "fcdm-compiler", "fcdm-runtime", "fcdm-models", "fcdm-command"]),
    ("fcdm-fuzz", &["fcdm-ir", "fcdm-compiler", "fcdm-runtime", "fcdm-models"]),
];

/// What the runtime may link, and why: everything here ends up on the device.
const RUNTIME_LINKS: &[(&str, &str)] = &[
    ("half", "the numbers of encodings: binary16 and bf16"),
    ("libm", "the same bits of exp, erf and their kin on every platform"),
    ("memmap2", "weights are used in place, from the file"),
    ("png", "pictures as PNG files, where that feature is asked for"),
    ("rustix", "on Linux alone: the thread that verifies takes a low priority, a file that is being written has no name"),
    ("serde", "plan and header are data with a declared form"),
    ("serde_json", "the header of a safetensors file is JSON"),
    ("thiserror", "errors of the loader are enums that name file, tensor, expected and found"),
    ("xxhash-rust", "checksums of tensors at the speed of memory"),
];

/// The only crate that may hold `unsafe`.
const UNSAFE_CRATE: &str = "fcdm-runtime";

/// House rule: think at 400, split at 600.
const MAX_LINES: usize = 600;

struct Package {
    name: String,
    /// Roots of its library and binaries.
    roots: Vec<PathBuf>,
    /// Names of dependencies by kind: `normal`, `build`, `dev`.
    dependencies: BTreeMap<String, BTreeSet<String>>,
}

impl Package {
    fn of_kind(&self, kind: &str) -> BTreeSet<&str> {
        self.dependencies.get(kind).into_iter().flatten().map(String::as_str).collect()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(v: &Value) -> String {
    v.as_str().unwrap_or_else(|| panic!("expected a string, found {v}")).to_owned()
}

fn list(v: &Value) -> &[Value] {
    v.as_array().unwrap_or_else(|| panic!("expected an array, found {v}"))
}

fn package(v: &Value) -> Package {
    let is_root = |t: &&Value| list(&t["kind"]).iter().any(|k| matches!(text(k).as_str(), "lib" | "bin" | "cdylib" | "staticlib"));
    let roots = list(&v["targets"]).iter().filter(is_root).map(|t| PathBuf::from(text(&t["src_path"]))).collect();
    let mut dependencies: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for d in list(&v["dependencies"]) {
        // Cargo's word for a normal dependency is null. `name` is the package's, whatever it was renamed to.
        let kind = d["kind"].as_str().unwrap_or("normal").to_owned();
        dependencies.entry(kind).or_default().insert(text(&d["name"]));
    }
    Package { name: text(&v["name"]), roots, dependencies }
}

fn packages() -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = root().join("Cargo.toml");
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline", "--manifest-path"])
        .arg(manifest)
        .output()
        .unwrap_or_else(|e| panic!("cargo metadata: {e}"));
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    list(&metadata["packages"]).iter().map(package).collect()
}

/// Every Rust source of the repository, in a fixed order; not what is built, hidden or linked to from elsewhere.
fn sources() -> Vec<PathBuf> {
    let mut folders = vec![root().to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let entry = entry.unwrap();
            let (path, name) = (entry.path(), entry.file_name());
            let kind = entry.file_type().unwrap();
            if kind.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
                folders.push(path);
            } else if kind.is_file() && path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn every_crate_has_its_place() {
    let found: BTreeSet<String> = packages().into_iter().map(|p| p.name).collect();
    let known: BTreeSet<String> = ARROWS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(found, known, "crates of the workspace (left) and of the table of arrows (right)");
}

#[test]
fn dependencies_follow_the_arrows() {
    let ours: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    for p in packages() {
        for kind in ["normal", "build"] {
            for d in p.of_kind(kind).intersection(&ours) {
                assert!(allowed[p.name.as_str()].contains(d), "{} must not depend on {d} ({kind} dependency)", p.name);
            }
        }
    }
}

#[test]
fn the_runtime_knows_nothing_of_ours_even_in_its_tests() {
    let ours: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    let runtime = packages().into_iter().find(|p| p.name == "fcdm-runtime").unwrap();
    for kind in ["normal", "build", "dev"] {
        let found: Vec<_> = runtime.of_kind(kind).intersection(&ours).copied().collect();
        assert!(found.is_empty(), "{kind} dependencies of the runtime on {found:?}");
    }
}

#[test]
fn the_runtime_links_only_what_it_has_a_reason_for() {
    let runtime = packages().into_iter().find(|p| p.name == "fcdm-runtime").unwrap();
    let allowed: BTreeSet<&str> = RUNTIME_LINKS.iter().map(|(name, _)| *name).collect();
    let linked = runtime.of_kind("normal");
    let unknown: Vec<_> = linked.difference(&allowed).collect();
    assert!(unknown.is_empty(), "the runtime links {unknown:?}, for which no reason is given");
    assert!(RUNTIME_LINKS.iter().all(|(_, why)| !why.is_empty()));
}

#[test]
fn unsafe_stands_in_the_runtime_alone() {
    for p in packages().iter().filter(|p| p.name != UNSAFE_CRATE) {
        assert!(!p.roots.is_empty(), "{} has neither library nor binary", p.name);
        // libFuzzer's own macro makes the entry points of its targets.
        for path in p.roots.iter().filter(|path| !path.starts_with(root().join("fuzz/fuzz_targets"))) {
            let forbids = read(path).lines().any(|l| l.trim() == "#![forbid(unsafe_code)]");
            assert!(forbids, "{}: `#![forbid(unsafe_code)]` is missing", shown(path));
        }
    }
}

/// Another inference engine, as large as this project: its types must not spread.
#[test]
fn tract_stands_in_one_module_alone() {
    let home = root().join("compiler/src/onnx");
    let elsewhere = sources().into_iter().filter(|p| !p.starts_with(&home) && *p != root().join(file!()));
    let names = ["tract_core", "tract_onnx"];
    let found: Vec<String> = elsewhere.filter(|p| names.iter().any(|n| read(p).contains(n))).map(|p| shown(&p)).collect();
    assert!(found.is_empty(), "tract is named in {found:?}");
}

#[test]
fn every_file_opens_with_what_it_is() {
    let files = sources();
    assert!(files.len() > 50, "found only {} sources", files.len());
    let silent: Vec<String> = files.iter().filter(|p| !read(p).starts_with("//! ")).map(|p| shown(p)).collect();
    assert!(silent.is_empty(), "these do not open with `//!`:\n{}", silent.join("\n"));
}

#[test]
fn no_file_is_longer_than_the_house_rule() {
    let lengths = sources().into_iter().map(|p| (read(&p).lines().count(), shown(&p)));
    let long: Vec<String> = lengths.filter(|(n, _)| *n > MAX_LINES).map(|(n, p)| format!("{p}: {n} lines, at most {MAX_LINES}")).collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}
