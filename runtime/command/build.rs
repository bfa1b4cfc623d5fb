//! Which commit a build is of, for `fcdm --version`: its hash and its date, and nothing that differs between two builds of one commit.
//! Where there is no repository or no git, a build has none and says nothing of it.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // A source archive may lie in somebody else's repository, whose commits are not ours.
    if git(&["rev-parse", "--show-prefix"]).is_none_or(|prefix| prefix != "runtime/command/") {
        return;
    }
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]).unwrap_or_default();
    // A branch is a file of its own or a line of `packed-refs`, and its first commit after packing makes the file: the log sees that.
    for name in ["HEAD", "logs/HEAD", "packed-refs", &branch] {
        // Cargo takes a file that is not there for one that has changed.
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).is_file()) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    if let Some(commit) = git(&["show", "--no-patch", "--no-show-signature", "--abbrev=10", "--format=%h %cs", "HEAD"]) {
        println!("cargo:rustc-env=FCDM_COMMIT={commit}");
    }
}

/// What git says, of this folder: Cargo runs this in the package's own.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
