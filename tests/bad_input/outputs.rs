//! Places that cannot be written to.

use crate::process::{Folder, Tensors};

fn compiled() -> Folder {
    let f = Folder::new();
    f.ok("compile GOLDEN/flow16/weights.safetensors -o a.fcdm --size 4x4 --batch 1");
    f.write("in", Tensors::default().f32("x", &[1, 3, 4, 4], &[0.0; 48]).f32("t", &[1], &[0.0]).f32("y", &[1], &[0.0]).bytes());
    std::fs::create_dir(f.path("folder")).unwrap();
    f
}

/// Commands that write to `TO`. `generate` looks before it samples.
const WRITERS: [&str; 5] = [
    "compile GOLDEN/flow16/weights.safetensors --size 4x4 -o TO",
    "init FCDM-S -o TO",
    "run a.fcdm --inputs in --outputs TO",
    "generate a.fcdm -c 1 --steps 1 -o pictures --npz TO",
    "generate a.fcdm -c 1 --steps 1 -o pictures --save-latents TO",
];

#[test]
fn folders_that_are_missing_or_in_the_way() {
    let f = compiled();
    for line in WRITERS {
        let message = f.fails(1, &line.replace("TO", "no/such/file"));
        assert!(message.starts_with("error: no/such/file: cannot "), "{message}");
        assert_eq!(f.fails(1, &line.replace("TO", "folder")), "error: folder: cannot write: it is a directory");
        assert!(!f.path("pictures").exists(), "{line}: it was sampled first");
    }
    assert!(f.fails(1, "generate a.fcdm -c 1 --steps 1 -o in").starts_with("error: in: cannot make the folder: "));
    assert!(f.fails(1, "generate a.fcdm -c 1 --steps 1 -o in/below").starts_with("error: in/below: cannot make the folder: "));
    // A folder where the picture is to be.
    std::fs::create_dir_all(f.path("o/000000-class1-seed0.png")).unwrap();
    assert!(f.fails(1, "generate a.fcdm -c 1 --steps 1 -o o").ends_with("000000-class1-seed0.png: cannot write: it is a directory"));
}

/// `/dev/full` takes nothing; what is written there is written directly.
#[cfg(target_os = "linux")]
#[test]
fn full_disks() {
    let f = compiled();
    for line in &WRITERS[..3] {
        let message = f.fails(1, &line.replace("TO", "/dev/full"));
        assert!(message.starts_with("error: /dev/full: cannot ") && message.contains("No space left"), "{message}");
    }
    // The pictures are finished and stay.
    for line in &WRITERS[3..] {
        let ran = f.run(&line.replace("TO", "/dev/full"));
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.err.starts_with("error: /dev/full: cannot ") && ran.err.contains("No space left"), "{ran:?}");
        assert_eq!(f.files(), ["a.fcdm", "in", "pictures/000000-class1-seed0.png"]);
    }
}

#[cfg(unix)]
#[test]
fn read_only_folders() {
    use std::os::unix::fs::PermissionsExt;
    let f = compiled();
    std::fs::set_permissions(f.path("folder"), std::fs::Permissions::from_mode(0o555)).unwrap();
    if std::fs::write(f.path("folder/probe"), "x").is_ok() {
        println!("SKIPPED: the superuser may write everywhere");
        return;
    }
    for line in WRITERS {
        assert!(f.fails(1, &line.replace("TO", "folder/file")).starts_with("error: folder/file: cannot "));
    }
}
