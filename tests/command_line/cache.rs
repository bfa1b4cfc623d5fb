//! The model in the box, wherever it can or cannot be kept.

use std::path::PathBuf;
use std::process::Command;

use crate::process::{Folder, Ran, finish};

/// `generate` without a model, with a cache.
fn generate(f: &Folder, set: impl Fn(&mut Command)) -> Ran {
    let line = "generate -c 1 --steps 1 -o a";
    let mut command = f.command(line);
    set(&mut command);
    let ran = finish(line, command);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(f.files().iter().any(|n| n.starts_with("a/") && n.ends_with(".png")), "{:?}", f.files());
    std::fs::remove_dir_all(f.path("a")).unwrap();
    ran
}

fn cached(f: &Folder) -> PathBuf {
    let files = f.files();
    let kept: Vec<&String> = files.iter().filter(|n| n.starts_with("c/fcdm/clothing-")).collect();
    assert_eq!(kept.len(), 1, "{files:?}");
    f.path(kept[0])
}

/// Whatever is wrong with it, a model in the cache is made anew.
#[test]
fn a_damaged_model_is_made_anew() {
    let f = Folder::new();
    let run = || {
        generate(&f, |c| {
            c.env("XDG_CACHE_HOME", f.path("c"));
        })
    };
    assert!(run().err.contains("note: compiling the model in the box to "));
    let path = cached(&f);
    let sound = std::fs::read(&path).unwrap();
    assert_eq!(run().err, "");
    let mut weight = sound.clone();
    let last = weight.len() - 70;
    weight[last] ^= 1;
    let mut header = sound.clone();
    header[100] ^= 1;
    for damaged in [weight, header, sound[..sound.len() / 2].to_vec(), vec![]] {
        std::fs::write(&path, damaged).unwrap();
        assert!(run().err.contains("note: compiling the model in the box to "));
        assert!(std::fs::read(&path).unwrap() == sound);
        assert_eq!(run().err, "");
    }
}

/// A cache that is none, one that is full, and no place for one at all: pictures are made, and nothing is left.
#[test]
fn a_model_that_cannot_be_kept() {
    let f = Folder::new();
    f.write("file", "");
    let run = |set: &dyn Fn(&mut Command)| {
        let before = f.files();
        let said = generate(&f, set).err;
        assert!(said.contains("note: the model in the box is compiled for this run alone: "), "{said}");
        assert_eq!(f.files(), before);
    };
    run(&|c| {
        c.env("XDG_CACHE_HOME", f.path("file"));
    });
    std::fs::create_dir(f.path("tmp")).unwrap();
    let nowhere = |c: &mut Command| {
        c.env_remove("XDG_CACHE_HOME").env_remove("HOME").env_remove("LOCALAPPDATA");
    };
    run(&|c| {
        nowhere(c);
        c.env("TMPDIR", f.path("tmp"));
    });
    run(&|c| {
        nowhere(c);
        c.env("TMPDIR", f.path("nosuch"));
    });
    #[cfg(target_os = "linux")]
    {
        let line = "generate -c 1 --steps 1 -o a";
        // No file may be as large as the model; pictures may.
        let mut command = f.limited(line, "-f 200");
        command.env("XDG_CACHE_HOME", f.path("c"));
        let ran = finish(line, command);
        assert!(ran.code == Some(0) && ran.err.contains("is compiled for this run alone: "), "{ran:?}");
        assert!(!f.files().iter().any(|n| n.starts_with("c/") && n.contains('.')), "{:?}", f.files());
    }
}
