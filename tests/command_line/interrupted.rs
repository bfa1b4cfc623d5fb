//! Ctrl-C: the exit code, and what is left. Only where there are signals to send.
#![cfg(unix)]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::Folder;
use fcdm_models::pictures::read_png;

fn interrupt(child: &Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
}

fn start(f: &Folder, line: &str) -> Child {
    f.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until `there` is, or the command has ended.
fn wait_for(child: &mut Child, there: impl Fn() -> bool) {
    let begun = Instant::now();
    while !there() && child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it takes too long");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn generate_keeps_finished_pictures() {
    let f = Folder::new();
    f.ok("compile GOLDEN/flow16/weights.safetensors -o a.fcdm --size 24x16");
    let line = "generate a.fcdm -c 1 -n 10000 --steps 25 -t 1 -o o --grid --npz p.npz --save-latents l.safetensors";
    let mut child = start(&f, line);
    wait_for(&mut child, || f.files().iter().any(|n| n.ends_with(".png")));
    interrupt(&child);
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(130), "{out:?}");
    let pictures = f.files().len() - 1;
    let message = String::from_utf8(out.stderr).unwrap();
    assert_eq!(message, format!("error: stopped; {pictures} of 10000 pictures are finished\n"));
    assert!((1..10_000).contains(&pictures));
    for name in f.files().iter().filter(|n| *n != "a.fcdm") {
        assert!(name.ends_with(".png"), "{name} is left");
        assert_eq!(read_png(&f.path(name)).unwrap().width, 16);
    }
}

/// Whichever comes first, the verdict on the weights or the signal, nothing that they made is written.
#[test]
fn generate_from_damaged_weights_leaves_nothing() {
    let f = Folder::new();
    f.ok("compile GOLDEN/flow16/weights.safetensors -o a.fcdm --size 24x16");
    let mut bytes = f.bytes("a.fcdm");
    let last = bytes.len() - 70;
    bytes[last] ^= 1;
    f.write("a.fcdm", bytes);
    let mut child = start(&f, "generate a.fcdm -c 1 -n 10000 --steps 25 -t 1 -o o");
    wait_for(&mut child, || f.path("o").exists());
    interrupt(&child);
    let out = child.wait_with_output().unwrap();
    assert!(matches!(out.status.code(), Some(4 | 130)), "{out:?}");
    assert_eq!(f.files(), ["a.fcdm"]);
    assert!(!f.path("o").exists());
}

#[test]
fn compile_leaves_no_part() {
    let f = Folder::new();
    f.ok("init FCDM-S -o s.safetensors");
    f.write("s.fcdm", "what was there");
    let mut child = start(&f, "compile s.safetensors -o s.fcdm --size 8x8");
    wait_for(&mut child, || f.files().iter().any(|n| n.ends_with(".part")));
    interrupt(&child);
    let code = child.wait_with_output().unwrap().status.code();
    assert_eq!(f.files(), ["s.fcdm", "s.safetensors"]);
    match code {
        Some(130) => assert_eq!(f.bytes("s.fcdm"), b"what was there"),
        Some(0) => drop(f.ok("inspect s.fcdm")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn init_leaves_no_part() {
    let f = Folder::new();
    let mut child = start(&f, "init FCDM-S -o s.safetensors");
    wait_for(&mut child, || !f.files().is_empty());
    interrupt(&child);
    let code = child.wait_with_output().unwrap().status.code();
    match code {
        Some(130) => assert!(f.files().is_empty(), "{:?}", f.files()),
        Some(0) => assert_eq!(f.files(), ["s.safetensors"]),
        other => panic!("{other:?}"),
    }
}
