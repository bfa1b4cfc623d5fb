//! Files that `compile` and `inspect` refuse as checkpoints.

use crate::assemble::{call, dict, entry, pickle, pt, safetensors, text, zip};
use crate::process::{Folder, Tensors};

const COMPILE: &str = "compile bad -o a.fcdm --size 4x4 --batch 1";

/// Both commands refuse the file `bad`, with the same line.
#[track_caller]
fn refused(f: &Folder, bytes: impl AsRef<[u8]>) -> String {
    f.write("bad", bytes);
    let line = f.fails(3, COMPILE);
    assert_eq!(f.fails(3, "inspect bad"), line);
    assert!(line.starts_with("error: bad: "), "{line}");
    line
}

#[test]
fn truncated() {
    let f = Folder::new();
    for file in ["0000003.pt", "0000003.safetensors"] {
        f.write("copy", std::fs::read(golden(file)).unwrap());
        let whole = f.bytes("copy");
        let n = whole.len();
        for cut in [0, 1, 4, 8, 64, 1000, n / 4, n / 2, n - 100, n - 22, n - 1] {
            refused(&f, &whole[..cut]);
        }
    }
}

fn golden(file: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/eps8").join(file)
}

#[test]
fn damaged() {
    let f = Folder::new();
    let whole = std::fs::read(golden("0000003.pt")).unwrap();
    // The table of contents at the end, and the pickle at the beginning.
    for at in [whole.len() - 4, whole.len() - 10, whole.len() - 60] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        f.write("bad", bytes);
        let ran = f.run(COMPILE);
        assert!(ran.code == Some(3) || ran.code == Some(0), "{ran:?}");
    }
    for fill in [0x00, 0xff] {
        let mut bytes = whole.clone();
        bytes[100..2000].fill(fill);
        refused(&f, bytes);
    }
    refused(&f, "<!DOCTYPE html>");
    refused(&f, "version https://git-lfs.github.com/spec/v1\n");
    refused(&f, zip(&[entry("a/readme", b"x")]));
}

#[test]
fn hostile() {
    let f = Folder::new();
    let command = text(&format!("touch {}", f.path("marker").display()));
    let line = refused(&f, pt(&pickle(&call("os", "system", &[command]))));
    assert!(line.contains("expected a dict of tensors, found an object of `os.system`"), "{line}");
    refused(&f, pt(&pickle(&call("builtins", "eval", &[text("1")]))));
    assert!(!f.path("marker").exists());
    // Lists and dicts that hold themselves.
    refused(&f, pt(&pickle(b"]q\x00h\x00a")));
    refused(&f, pt(&pickle(&dict(&[("model", b"}q\x00X\x01\x00\x00\x00ah\x00s".to_vec())]))));
    // A header as long as half the address space, one longer than the file, one of garbage, one nested deeply.
    refused(&f, [&(u64::MAX / 2).to_le_bytes()[..], b"{}"].concat());
    refused(&f, [&1000u64.to_le_bytes()[..], b"{}"].concat());
    refused(&f, safetensors("{nonsense", b""));
    refused(&f, safetensors(&format!("{{\"a\":{}", "[".repeat(100_000)), b""));
    refused(&f, safetensors(r#"{"x":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,8]}}"#, &[0; 8]));
    refused(&f, safetensors("{}", b""));
}

/// The golden checkpoint with a change to its tensors.
fn changed(change: impl Fn(&mut Vec<(String, Vec<usize>, Vec<f32>)>)) -> Vec<u8> {
    let bytes = std::fs::read(golden("weights.safetensors")).unwrap();
    let file = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let floats = |d: &[u8]| d.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let mut list = file.tensors().into_iter().map(|(n, t)| (n, t.shape().to_vec(), floats(t.data()))).collect();
    change(&mut list);
    list.into_iter().fold(Tensors::default(), |all, (n, s, v)| all.f32(&n, &s, &v)).bytes()
}

#[test]
fn tensors_that_do_not_fit() {
    let f = Folder::new();
    let line = refused(&f, changed(|l| l.retain(|t| t.0 != "latent.1.grn.gamma" && t.0 != "latent.1.grn.beta")));
    assert!(line.ends_with("2 tensors of this FCDM are missing, the first is `latent.1.grn.gamma`"), "{line}");
    let line = refused(&f, changed(|l| l.retain(|t| t.0 != "x_embedder.weight")));
    assert!(line.ends_with("tensor `x_embedder.weight` is missing: is this an FCDM checkpoint?"), "{line}");
    let line = refused(&f, changed(|l| l.push(("discriminator".into(), vec![1], vec![0.0]))));
    assert!(line.ends_with("1 tensors do not belong to this FCDM, the first is `discriminator`"), "{line}");
    let line = refused(
        &f,
        changed(|l| l.iter_mut().filter(|t| t.0 == "latent.0.pwconv2.bias").for_each(|t| (t.1, t.2) = (vec![31], vec![0.0; 31]))),
    );
    assert!(line.ends_with("tensor `latent.0.pwconv2.bias`: expected shape [32], found [31]"), "{line}");
    let line = refused(&f, changed(|l| l.iter_mut().filter(|t| t.0 == "latent.0.dwconv.weight").for_each(|t| t.1 = vec![1, 32, 7, 7])));
    assert!(line.ends_with("tensor `latent.0.dwconv.weight`: expected shape [32, 1, 7, 7], found [1, 32, 7, 7]"), "{line}");
    let huge = r#"{"x_embedder.weight":{"dtype":"F32","shape":[16777216,16777216,0,3],"data_offsets":[0,0]}}"#;
    refused(&f, safetensors(huge, b""));
    // Odd widths, no classes.
    let line = refused(
        &f,
        changed(|l| l.iter_mut().filter(|t| t.0 == "x_embedder.weight").for_each(|t| (t.1, t.2) = (vec![7, 4, 3, 3], vec![0.0; 252]))),
    );
    assert!(line.contains("`x_embedder.weight`") && line.contains("found [7, 4, 3, 3]"), "{line}");
}

#[test]
fn values_that_are_no_numbers_are_counted() {
    let f = Folder::new();
    f.write(
        "bad.safetensors",
        changed(|l| {
            let bias = l.iter_mut().find(|t| t.0 == "latent.0.pwconv2.bias").unwrap();
            (bias.2[3], bias.2[9], bias.2[30]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
        }),
    );
    let ran = f.run("compile bad.safetensors -o a.fcdm --size 4x4 --json");
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (Some(0), "warning: tensor `latent.0.pwconv2.bias`: 3 of 32 values are not finite\n"),
        "{ran:?}"
    );
    let summary: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(summary["not_finite"], serde_json::json!([{ "tensor": "latent.0.pwconv2.bias", "not_finite": 3, "values": 32 }]));
    // Generating with it ends, in pictures of nothing.
    f.ok("generate a.fcdm -c 1 --steps 2 -o o");
}

#[test]
fn weights_that_are_not_there() {
    let f = Folder::new();
    let line = f.fails(3, "compile GOLDEN/eps8/weights.safetensors --weights ema -o a.fcdm");
    assert!(line.ends_with("weights.safetensors: weights `ema`: expected `all`, found none of that name"), "{line}");
    let line = f.fails(3, "compile GOLDEN/eps8/0000003.pt --weights best -o a.fcdm");
    assert!(line.ends_with("0000003.pt: weights `best`: expected `ema` or `model`, found none of that name"), "{line}");
}

#[test]
fn files_that_are_not_there() {
    let f = Folder::new();
    f.ok("compile GOLDEN/eps8/0000003.pt -o a.fcdm --size 4x4 --batch 1");
    for (code, line) in [
        (3, "compile nosuch -o b.fcdm"),
        (1, "compile GOLDEN/eps8/0000003.pt -o b.fcdm --class-names nosuch"),
        (4, "generate nosuch -c 1"),
        (3, "generate a.fcdm -c 1 --noise nosuch"),
        (4, "run nosuch --inputs a --outputs b"),
        (3, "run a.fcdm --inputs nosuch --outputs b"),
        (4, "inspect nosuch"),
        (5, "opt nosuch"),
    ] {
        let message = f.fails(code, line);
        assert!(message.starts_with("error: nosuch: ") && message.contains("No such file"), "{message}");
    }
    // A folder in the place of a file.
    std::fs::create_dir(f.path("folder")).unwrap();
    for (code, line) in [(3, "compile folder"), (4, "generate folder"), (4, "inspect folder"), (5, "opt folder")] {
        assert!(f.fails(code, line).starts_with("error: folder: "));
    }
}
