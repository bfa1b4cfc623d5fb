//! Artifacts that are damaged, of another version, or none.

use crate::process::{Folder, Tensors};

fn compiled() -> Folder {
    let f = Folder::new();
    f.ok("compile GOLDEN/eps8/0000003.pt -o a.fcdm --size 4x4 --batch 1");
    f.write("in", Tensors::default().f32("x", &[1, 4, 4, 4], &[0.0; 64]).f32("t", &[1], &[0.0]).f32("y", &[1], &[0.0]).bytes());
    f
}

/// All commands refuse `bad.fcdm` with one line.
#[track_caller]
fn refused(f: &Folder, bytes: impl AsRef<[u8]>) -> String {
    f.write("bad.fcdm", bytes);
    let line = f.fails(4, "generate bad.fcdm -c 1 --steps 1");
    assert!(line.starts_with("error: bad.fcdm: "), "{line}");
    for command in ["inspect bad.fcdm", "inspect bad.fcdm --plan", "inspect bad.fcdm --json", "run bad.fcdm --inputs in --outputs out"] {
        assert_eq!(f.fails(4, command), line);
    }
    line
}

/// An artifact of a later version, say, with checksums that fit.
#[test]
fn an_encoding_that_is_unknown() {
    let f = Folder::new();
    f.ok("compile GOLDEN/eps8/0000003.pt -o a.fcdm --size 4x4 --batch 1 --quantize i8");
    f.write("in", Tensors::default().f32("x", &[1, 4, 4, 4], &[0.0; 64]).f32("t", &[1], &[0.0]).f32("y", &[1], &[0.0]).bytes());
    let (mut bytes, from, to) = (f.bytes("a.fcdm"), br#"{\"encoded\":\"i8\"}"#, br#"{\"encoded\":\"i3\"}"#);
    let places: Vec<usize> = (0..bytes.len() - from.len()).filter(|&at| bytes[at..].starts_with(from)).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| bytes[at..at + to.len()].copy_from_slice(to));
    let line = refused(&f, crate::seal::sealed(&bytes).unwrap());
    assert!(line.contains("fcdm.plan") && line.contains("`i3`") && line.contains("`i8`"), "{line}");
}

#[test]
fn truncated() {
    let f = compiled();
    let whole = f.bytes("a.fcdm");
    let n = whole.len();
    for cut in [0, 1, 8, 9, 100, 5000, n / 2, n - 64, n - 1] {
        refused(&f, &whole[..cut]);
    }
    refused(&f, [&whole[..], b"more"].concat());
}

#[test]
fn damaged() {
    let f = compiled();
    let whole = f.bytes("a.fcdm");
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for (at, expected) in [(header + 5, "tensor `"), (whole.len() - 70, "tensor `")] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        assert!(refused(&f, bytes).contains(expected));
    }
    // A digit in each part of the metadata, and what surrounds it.
    let find = |what: &str| whole.windows(what.len()).position(|w| w == what.as_bytes()).unwrap_or_else(|| panic!("{what}")) + what.len();
    for what in
        ["fcdm.plan\":\"{\\\"version\\\":", "fcdm.model\":\"{\\\"pre", "fcdm.ir\":\"", "\"fcdm.checksum\":\"", "compiler\\\":\\\"fcd"]
    {
        let mut bytes = whole.clone();
        bytes[find(what)] ^= 1;
        refused(&f, bytes);
    }
    for at in [0, 3, 7, 8, 20, header - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        refused(&f, bytes);
    }
}

/// Pictures are sampled while the weights are still being verified: nothing of them may appear.
#[test]
fn damaged_weights_leave_no_folder() {
    let f = compiled();
    let mut bytes = f.bytes("a.fcdm");
    let last = bytes.len() - 70;
    bytes[last] ^= 1;
    let line = refused(&f, bytes);
    for command in [
        "generate bad.fcdm -c 1 --steps 1 -o new/folder",
        "generate bad.fcdm -c 1 --steps 1 -o new/folder --save-latents l",
        "generate bad.fcdm -c 0,1,2 -n 2 -b 3 --steps 3 -o new/folder",
    ] {
        assert_eq!(f.fails(4, command), line);
        assert!(!f.path("new").exists() && !f.path("out").exists(), "{command}");
    }
    // A folder that was there before stays.
    std::fs::create_dir(f.path("new")).unwrap();
    assert_eq!(f.fails(4, "generate bad.fcdm -c 1 --steps 1 -o new/folder"), line);
    assert!(f.path("new").exists() && !f.path("new/folder").exists());
}

#[test]
fn another_version() {
    let f = compiled();
    let mut bytes = f.bytes("a.fcdm");
    let key = b"\"fcdm.version\":\"";
    let at = bytes.windows(key.len()).position(|w| w == key).unwrap() + key.len();
    assert_eq!(bytes[at], b'2');
    bytes[at] = b'1';
    assert_eq!(
        refused(&f, bytes),
        "error: bad.fcdm: fcdm.version: expected 2, found `1`: another version of fcdm wrote this file; compile it again"
    );
}

#[test]
fn no_artifacts() {
    let f = compiled();
    for name in ["0000003.safetensors", "0000003.pt"] {
        let line = f.fails(4, &format!("generate GOLDEN/eps8/{name} -c 1"));
        assert!(line.contains("expected an artifact (.fcdm), found a ") && line.ends_with(" -o 0000003.fcdm"), "{line}");
    }
    f.write("bad.fcdm", "");
    f.fails(4, "generate bad.fcdm");
    let line = f.fails(3, "compile a.fcdm -o b.fcdm");
    let found = "found an artifact: it is compiled already, fcdm generate a.fcdm takes it";
    assert_eq!(line, format!("error: a.fcdm: expected a checkpoint, {found}"));
}
