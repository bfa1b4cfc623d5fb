//! Artifacts written and read back, and every way of damaging one that we could think of.

#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::kernels::{Fill, Unary};
use crate::plan::{ALIGN, Element, Entry, Form, Operand, Place, Plan, Port, Step};

fn operand(at: Place) -> Operand {
    Operand { at, form: Form::F32, shape: vec![2, 16] }
}

pub(super) fn contents() -> ArtifactContents {
    let port = |name: &str| Port { name: name.into(), dtype: Element::F32, shape: vec![2, 16] };
    let step = Step {
        label: "y".into(),
        kernel: Unary::Scale { by: 0.1 }.into(),
        inputs: vec![operand(Place::Weight("b".into()))],
        outputs: vec![operand(Place::Output(0))],
    };
    let entry = Entry {
        name: "denoise".into(),
        rows: 2,
        inputs: vec![port("x")],
        outputs: vec![port("y")],
        state: vec![],
        arena_bytes: 0,
        arena_lower_bound: 0,
        steps: vec![step],
    };
    let model = ModelInfo {
        prediction: Prediction::EpsVariance,
        in_channels: 4,
        out_channels: 8,
        num_classes: 2,
        null_class: true,
        class_names: vec!["cat \"é\u{1}\"".into(), "dog".into()],
        hidden: 8,
        depths: vec![1, 1, 2, 1, 1],
        mlp_ratio: 3.0,
        height: 8,
        width: 12,
        sampling: None,
        specialisation: None,
    };
    ArtifactContents {
        autoencoder: Some(AutoencoderInfo { family: "TAESD".into(), latent_channels: 4, factor: 8 }),
        ir: Some("fn @denoise() {\n}\n".into()),
        provenance: Some(json!({"source": "ckpt.pt"})),
        license: Some("CC0".into()),
        ..ArtifactContents::new(Plan { version: crate::plan::VERSION, reproducible: false, entries: vec![entry] }, Some(model))
    }
}

pub(super) fn tensors<'a>() -> Vec<TensorSource<'a>> {
    vec![
        TensorSource::f32("b", vec![2, 16], (0..32).map(|i| i as f32 * 0.5).collect::<Vec<_>>()),
        TensorSource::bytes("a", Element::I32, vec![48], vec![7u8; 192]),
        TensorSource::f32("empty", vec![0, 3], vec![]),
    ]
}

pub(super) fn put(path: &Path, contents: &ArtifactContents, tensors: Vec<TensorSource>) -> Result<String, WriteError> {
    write(path, contents, tensors, &|| false, &mut |_, _| ())
}

/// A folder with one good artifact, and its bytes.
fn good() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.fcdm");
    put(&path, &contents(), tensors()).unwrap();
    let bytes = fs::read(&path).unwrap();
    (dir, path, bytes)
}

/// The message after `PATH: `.
fn refusal(path: &Path) -> String {
    let message = Artifact::open(path).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message:?}");
    message.strip_prefix(&format!("{}: ", path.display())).expect("names the file").to_string()
}

#[test]
fn round_trip() {
    let (dir, path, bytes) = good();
    let artifact = Artifact::open(&path).unwrap();
    let expected = contents();
    assert_eq!(artifact.plan(), &expected.plan);
    assert_eq!((artifact.model(), artifact.autoencoder()), (expected.model.as_ref(), expected.autoencoder.as_ref()));
    assert_eq!(artifact.metadata(keys::IR), expected.ir.as_deref());
    assert_eq!(artifact.metadata(keys::PROVENANCE), Some(r#"{"source":"ckpt.pt"}"#));
    assert_eq!(artifact.metadata(keys::REPORT), None);
    let (dtype, shape, b) = artifact.tensor("b").unwrap();
    assert_eq!((dtype, shape), (Element::F32, &[2usize, 16][..]));
    assert_eq!(b.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).nth(3), Some(1.5));
    assert!(artifact.tensor("c").is_none());
    let sizes: Vec<_> = artifact.tensors().map(|(name, _, _, bytes)| (name, bytes.len())).collect();
    assert_eq!(sizes, [("a", 192), ("b", 128), ("empty", 0)]);
    assert!(artifact.tensors().all(|(_, _, _, bytes)| (bytes.as_ptr() as usize).is_multiple_of(ALIGN)));
    // The safetensors library reads the same.
    let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(theirs.len(), 3);
    assert_eq!(theirs.tensor("b").unwrap().data(), b);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// Whatever owns the bytes, and wherever they begin.
#[test]
fn memory_gives_what_the_file_gives() {
    let (_dir, path, bytes) = good();
    let file = everything(&Artifact::open(&path).unwrap());
    let leaked: &'static [u8] = Box::leak(bytes.clone().into_boxed_slice());
    for held in [Bytes::from(bytes.clone()), std::sync::Arc::<[u8]>::from(&*bytes).into(), leaked.into()] {
        let artifact = Artifact::from_bytes("box", held).unwrap();
        assert_eq!((everything(&artifact), artifact.file_bytes()), (file.clone(), bytes.len()));
        assert!(artifact.tensors().all(|(_, _, _, bytes)| (bytes.as_ptr() as usize).is_multiple_of(ALIGN)));
        artifact.hand_back(["a", "b"]);
        assert_eq!(everything(&artifact), file);
    }
    let mut damaged = bytes;
    *damaged.last_mut().unwrap() ^= 1;
    let message = Artifact::from_bytes("box", damaged).unwrap_err().to_string();
    assert!(message.starts_with("box: tensor `b`: expected bytes with checksum "), "{message}");
    assert!(Artifact::from_bytes("box", Vec::new()).unwrap_err().to_string().starts_with("box: not a safetensors file: "));
}

#[test]
fn equal_contents_give_equal_files() {
    let (_dir, path, bytes) = good();
    let mut reversed = tensors();
    reversed.reverse();
    let sum = put(&path, &contents(), reversed).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(Artifact::open(&path).unwrap().metadata(keys::CHECKSUM), Some(sum.as_str()));
}

#[test]
fn writer_names_what_is_wrong_and_leaves_the_old_file() {
    let (dir, path, bytes) = good();
    let refused = |contents: &ArtifactContents, extra: Vec<TensorSource>| {
        let message = put(&path, contents, tensors().into_iter().chain(extra).collect()).unwrap_err().to_string();
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        message.strip_prefix(&format!("{}: ", path.display())).expect("names the file").to_string()
    };
    let one = |shape: Vec<usize>, n: usize| vec![TensorSource::bytes("c", Element::F32, shape, vec![0; n])];
    assert_eq!(refused(&contents(), one(vec![15], 60)), "tensor `c`: expected a multiple of 64 bytes, found 60 of shape [15]");
    assert_eq!(refused(&contents(), one(vec![16], 60)), "tensor `c`: expected 64 bytes, found 60");
    assert_eq!(refused(&contents(), one(vec![16], 80)), "tensor `c`: expected 64 bytes, found 80");
    let huge = vec![1 << 40, 1 << 40];
    assert_eq!(
        refused(&contents(), one(huge, 0)),
        "tensor `c`: expected a shape that fits into memory, found [1099511627776, 1099511627776]"
    );
    assert_eq!(refused(&contents(), tensors()), "tensor `a`: expected a name of its own, found one that is taken");
    let failing = TensorSource::new("c", Element::F32, vec![16], |_| Err(std::io::Error::other("disk on fire")));
    assert_eq!(refused(&contents(), vec![failing]), "cannot write: disk on fire");

    let mut bad = contents();
    bad.model.as_mut().unwrap().out_channels = 4;
    assert_eq!(refused(&bad, vec![]), "fcdm.model.out_channels: expected 8 to 8, found 4");
    bad = contents();
    bad.model.as_mut().unwrap().class_names.pop();
    assert_eq!(refused(&bad, vec![]), "fcdm.model.class_names: expected none or 2 names, found 1");
    bad = contents();
    bad.model.as_mut().unwrap().width = 10;
    assert_eq!(refused(&bad, vec![]), "fcdm.model.width: expected a multiple of 4, found 10");
    bad = contents();
    bad.plan.entries[0].steps[0].kernel = Fill { value: f32::INFINITY }.into();
    assert!(refused(&bad, vec![]).starts_with("fcdm.plan: expected a plan, found invalid type: null"));
    let old = r#"{"version":4,"entries":[{"kernel":"relu","of":"a form that is no more"}]}"#;
    let fault = super::reader::plan_from_json(old).unwrap_err().to_string();
    let now = crate::plan::VERSION;
    assert_eq!(fault, format!("fcdm.plan.version: expected {now}, found 4: another version of fcdm wrote this file; compile it again"));
    bad = contents();
    bad.provenance = Some(json!([1]));
    assert_eq!(refused(&bad, vec![]), "fcdm.provenance: expected a JSON object, found [1]");
}

#[test]
fn tensors_are_made_one_at_a_time_and_cancelling_leaves_nothing() {
    let (dir, path, bytes) = good();
    let made = Cell::new(0);
    let sources = || {
        (0..5)
            .map(|i| {
                let made = &made;
                TensorSource::new(format!("t{i}"), Element::F32, vec![16], move |w| {
                    made.set(made.get() + 1);
                    w.write_all(&[i as u8; 64])
                })
            })
            .collect::<Vec<_>>()
    };
    let error = write(&path, &contents(), sources(), &|| made.get() == 3, &mut |_, _| ()).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: cancelled", path.display()));
    assert_eq!(made.get(), 3);
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

    let mut heard = vec![];
    made.set(0);
    write(&path, &contents(), sources(), &|| false, &mut |done, total| heard.push((made.get(), done, total))).unwrap();
    assert_eq!(heard, [(1, 64, 320), (2, 128, 320), (3, 192, 320), (4, 256, 320), (5, 320, 320)]);
}

#[cfg(target_os = "linux")]
#[test]
fn full_disk_is_an_error() {
    let big = TensorSource::bytes("c", Element::F32, vec![1 << 18], vec![0; 1 << 20]);
    let message = put(Path::new("/dev/full"), &contents(), vec![big]).unwrap_err().to_string();
    assert!(message.starts_with("/dev/full: cannot write: No space left"), "{message}");
}

/// `bytes` with the one place of `from` changed to `to`.
fn with(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
    [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
}

/// A safetensors file of this header and data.
fn assembled(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(ALIGN), b' ');
    let length = (bytes.len() - 8) as u64;
    bytes[..8].copy_from_slice(&length.to_le_bytes());
    bytes.extend(data);
    bytes
}

#[test]
fn hostile_and_foreign_files_are_named() {
    let (_dir, path, bytes) = good();
    let said = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        refusal(&path)
    };
    assert_eq!(said(b""), "not a safetensors file: expected at least 8 bytes, found 0");
    assert_eq!(said(&[255; 16]), "not a safetensors file: expected a header of at most 8 bytes, found a length of 18446744073709551615");
    assert_eq!(said(&assembled("[]", b"")), "not a safetensors file: expected a header that is a JSON object padded with spaces");
    let plain = r#"{"x":{"dtype":"F16","shape":[3],"data_offsets":[0,6]}}"#;
    assert_eq!(said(&assembled(plain, &[0; 6])), "not an fcdm artifact: its metadata has no `fcdm.version`");
    assert_eq!(
        said(&assembled(r#"{"__metadata__":{"fcdm.version":"9\n"}}"#, b"")),
        "fcdm.version: expected 2, found `9\\n`: another version of fcdm wrote this file; compile it again"
    );

    let table =
        |tensors: &str, data: usize| said(&assembled(&format!(r#"{{"__metadata__":{{"fcdm.version":"2"}},{tensors}}}"#), &vec![0; data]));
    let x = |dtype: &str, shape: &str, offsets: &str| format!(r#""x":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#);
    assert_eq!(table(&x("F64", "[8]", "[0,64]"), 64), "tensor `x`: expected dtype F32, BF16, F16 or I32, found F64");
    assert_eq!(table(&x("F32", "[15]", "[0,64]"), 64), "tensor `x`: expected data_offsets 60 bytes apart, found 0 and 64");
    assert_eq!(table(&x("F32", "[16]", "[64,0]"), 64), "tensor `x`: expected data_offsets 64 bytes apart, found 64 and 0");
    assert_eq!(table(&x("F32", "[16]", "[32,96]"), 96), "tensor `x`: expected data at a multiple of 64 bytes, found 32");
    assert_eq!(table(&x("F32", "[16]", "[64,128]"), 128), "tensor `x`: expected data_offsets that begin at 0, found 64");
    assert_eq!(table(&x("F32", "[16]", "[0,64]"), 128), "not a safetensors file: expected 64 bytes of tensors, found 128");
    assert_eq!(
        table(&x("F32", "[4294967296,4294967296]", "[0,0]"), 0),
        "tensor `x`: expected a shape that fits into memory, found [4294967296, 4294967296]"
    );
    let overlapping = format!("{},{}", x("F32", "[16]", "[0,64]"), x("F32", "[16]", "[0,64]").replace("\"x\"", "\"y\""));
    assert_eq!(table(&overlapping, 64), "tensor `y`: expected data_offsets that begin at 64, found 0");
    let twice = format!("{},{}", x("F32", "[16]", "[0,64]"), x("F32", "[16]", "[0,64]"));
    assert!(table(&twice, 64).starts_with("not a safetensors file: header: duplicate key `x`"));
    let deep = format!(r#""x":{}"#, "[".repeat(100_000));
    assert!(table(&deep, 0).starts_with("not a safetensors file: "));
    // Lengths whose sum wraps around 2^64.
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    let step = 1u64 << 61;
    let wrap: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(i, name)| {
            let begin = (i as u64).wrapping_mul(step);
            x("F32", "[576460752303423488]", &format!("[{begin},{}]", begin.wrapping_add(step))).replace("\"x\"", &format!("\"{name}\""))
        })
        .collect();
    table(&wrap.join(","), 0);

    assert!(said(&with(&bytes, "fcdm.checksum\"", "fcdm.chocksum\"")).starts_with("fcdm.checksum: expected a value, found nothing"));
}

#[test]
fn unverified_opening_still_checks_all_but_the_data() {
    let (_dir, path, bytes) = good();
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&path, &damaged).unwrap();
    let message = refusal(&path);
    assert!(message.starts_with("tensor `b`: expected bytes with checksum "), "{message}");
    let artifact = Artifact::open_unverified(&path).unwrap();
    assert!(artifact.verify().is_err());
    fs::write(&path, with(&bytes, "CC0", "CC1")).unwrap();
    assert!(Artifact::open_unverified(&path).unwrap_err().to_string().contains("fcdm.checksum: expected "));
}

/// All that a reader hands out, as one text.
fn everything(artifact: &Artifact) -> String {
    let keys =
        [keys::VERSION, keys::PLAN, keys::MODEL, keys::IR, keys::PROVENANCE, keys::REPORT, keys::LICENSE, keys::CHECKSUMS, keys::CHECKSUM];
    let metadata = keys.map(|k| artifact.metadata(k));
    let tensors: Vec<_> = artifact.tensors().collect();
    format!("{metadata:?} {tensors:?}")
}

#[test]
fn every_changed_byte_is_found() {
    let (_dir, path, bytes) = good();
    let original = everything(&Artifact::open(&path).unwrap());
    let mut harmless = 0;
    for i in 0..bytes.len() {
        for flip in [1 << (i % 8), 32, 255] {
            let mut damaged = bytes.clone();
            damaged[i] ^= flip;
            fs::write(&path, &damaged).unwrap();
            if let Ok(artifact) = Artifact::open(&path) {
                // JSON may spell a control character with either case of hex digits; what is read is the same.
                assert_eq!(everything(&artifact), original, "byte {i} ^ {flip}");
                harmless += 1;
            }
        }
    }
    assert_eq!(harmless, 0);
}

#[test]
fn every_truncation_and_extension_is_found() {
    let (_dir, path, bytes) = good();
    for n in 0..bytes.len() {
        fs::write(&path, &bytes[..n]).unwrap();
        refusal(&path);
    }
    fs::write(&path, [&bytes[..], &[0; 64]].concat()).unwrap();
    refusal(&path);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// Pieces of a good file cut, repeated, overwritten and replaced by telling tokens: refused, never a panic.
    #[test]
    fn mutations_never_panic(edits in prop::collection::vec((any::<prop::sample::Index>(), 0..6u8, any::<u64>()), 1..6)) {
        // Made once: flushing to the disk is what takes time here.
        static GOOD: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| good().2);
        let good = &*GOOD;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.fcdm");
        let mut bytes = good.clone();
        for (at, kind, value) in edits {
            let i = at.index(bytes.len());
            let token = ["9999999999999999999", "-1", "[[[[", "\"F32\"", "null", "{", "}", "\\u0000", "1e999"][value as usize % 9].as_bytes();
            match kind {
                0 => bytes[i] = value as u8,
                1 => bytes.truncate(i.max(1)),
                2 => drop(bytes.splice(i..i, token.iter().copied())),
                3 => { let end = (i + token.len()).min(bytes.len()); bytes.splice(i..end, token.iter().copied()); }
                4 => { let end = (i + value as usize % 40).min(bytes.len()); let piece = bytes[i..end].to_vec(); bytes.splice(i..i, piece); }
                _ => bytes[..8.min(i)].copy_from_slice(&value.to_le_bytes()[..8.min(i)]),
            }
        }
        fs::write(&path, &bytes).unwrap();
        match Artifact::open(&path) {
            Ok(_) => prop_assert_eq!(&bytes, good),
            Err(e) => prop_assert!(!e.to_string().contains('\n')),
        }
    }

    /// The same behind a valid checksum: what an attacker would do. Whatever is accepted can be read to the end.
    #[test]
    fn signed_mutations_never_panic(plan in ".{0,200}", at in any::<prop::sample::Index>(), byte in any::<u8>(), shape in prop::collection::vec(any::<usize>(), 0..4), offsets in any::<(usize, usize)>()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.fcdm");
        let mut edited = serde_json::to_vec(&contents().plan).unwrap();
        let i = at.index(edited.len());
        edited[i] = byte;
        for plan in [plan, String::from_utf8_lossy(&edited).into_owned()] {
            let mut metadata = std::collections::BTreeMap::from([
                (keys::VERSION.to_string(), VERSION.to_string()),
                (keys::PLAN.to_string(), plan),
                (keys::MODEL.to_string(), serde_json::to_string(&contents().model).unwrap()),
                (keys::CHECKSUMS.to_string(), "{}".to_string()),
            ]);
            let entry = header::TensorEntry { dtype: Element::F32, shape: shape.clone(), begin: offsets.0, end: offsets.1 };
            for table in [std::collections::BTreeMap::from([("x".to_string(), entry)]), Default::default()] {
                metadata.insert(keys::CHECKSUM.into(), checksum::hex(checksum::of_header(&metadata, &table)));
                fs::write(&path, header::print(&metadata, &table).unwrap()).unwrap();
                match Artifact::open(&path) {
                    Ok(artifact) => drop(everything(&artifact)),
                    Err(e) => prop_assert!(!e.to_string().contains('\n')),
                }
            }
        }
    }
}
