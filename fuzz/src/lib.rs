//! What every reader is fed with hostile bytes by: one function a reader, which must come back, whatever the bytes are. What they may
//! say is of no interest; that they do not panic, overflow, recurse without bound, or take memory or time out of proportion, is.
//!
//! `fuzz_targets` hands them to libFuzzer (`cargo fuzz`), which follows coverage for as long as one likes; `tests/short.rs` feeds seeds
//! and mutations of them, the same every time, in a minute, on any Rust.
#![forbid(unsafe_code)]

mod engines;
pub mod mutate;
pub mod seal;
pub mod zip;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use fcdm_compiler::checkpoint::{Checkpoint, StateDict, TensorInfo};
use fcdm_compiler::kind::Kind;
use fcdm_compiler::onnx::Onnx;
use fcdm_ir::text::parse_module;
use fcdm_ir::verify::verify_module;
use fcdm_models::latents::saved::Latents;
use fcdm_models::pictures;
use fcdm_models::tensors::{Extent, TensorFile};
use fcdm_runtime::artifact::Artifact;
use fcdm_runtime::plan::Plan;

/// A reader, by its name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 7] = [
    ("checkpoint", checkpoint),
    ("artifact", artifact),
    ("ir", ir),
    ("plan", plan),
    ("onnx", onnx),
    ("tensors", tensors),
    ("pictures", pictures),
];

/// Values of a tensor that are worth reading here.
const MANY: usize = 1 << 20;

/// A checkpoint: its table of contents, the sets of weights in it, every tensor, what an import makes of it.
pub fn checkpoint(bytes: &[u8]) {
    let open = || Checkpoint::from_bytes("fuzz", bytes.to_vec());
    let Ok(checkpoint) = open().map(Arc::new) else { return };
    let mut sets = StateDict::found(&checkpoint, &["x_embedder.weight", "w"]).unwrap_or_default();
    sets.extend(StateDict::only(&checkpoint));
    sets.extend(open().and_then(StateDict::everything));
    for set in &sets {
        for name in set.names() {
            let count = |t: &TensorInfo| t.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            if set.tensor(name).and_then(count).is_some_and(|n| n <= MANY) {
                let _ = set.read_f32(name);
                let _ = set.read_integers(name);
            }
        }
    }
    let _ = open().map(|c| fcdm_models::fcdm::Import::open(c, None, true));
}

/// An artifact, as it is and with checksums that fit: everything that can be loaded of it.
pub fn artifact(bytes: &[u8]) {
    for bytes in std::iter::once(bytes.to_vec()).chain(seal::sealed(bytes)) {
        if let Ok(artifact) = Artifact::from_bytes("fuzz", bytes) {
            engines::load(&Arc::new(artifact));
        }
    }
}

/// IR text: what parses is printed, parses again to the same, and is judged.
pub fn ir(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok((module, _)) = parse_module("fuzz", text) else { return };
    let printed = module.to_string();
    let (again, _) = parse_module("printed", &printed).expect("what was printed parses");
    assert_eq!(again.to_string(), printed, "printing and parsing are inverse");
    let _ = verify_module(&module);
}

/// A plan in JSON, run on the scalar instruction set if it is sound and small.
pub fn plan(bytes: &[u8]) {
    if let Ok(plan) = serde_json::from_slice::<Plan>(bytes) {
        engines::run(plan);
    }
}

/// An ONNX model.
pub fn onnx(bytes: &[u8]) {
    with_file(bytes, ".onnx", |path| drop(Onnx::open(path)));
}

/// A file of tensors, also as latents of any kind; a description of a zarr array.
pub fn tensors(bytes: &[u8]) {
    with_file(bytes, ".safetensors", |path| {
        let Ok(file) = TensorFile::open(path) else { return };
        let any = [Extent::Any("n"), Extent::Any("c"), Extent::Any("h"), Extent::Any("w")];
        let _ = file.floats("latents", &any);
        let _ = file.floats("noise", &any);
        let _ = file.numbers("t", &any[..1]);
        let _ = file.labels("y", &any[..1], 10);
    });
    with_file(bytes, "", |path| {
        let _ = Kind::of(path);
        latents(path);
    });
    if bytes.starts_with(b"{") {
        let folder = tempfile::tempdir().expect("there is room for a small folder");
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).expect("there is room for a small file");
        write(".zarray", bytes);
        ["0.0.0.0", "0.0.0"].iter().for_each(|chunk| write(chunk, &[0; 256]));
        latents(folder.path());
    }
}

/// Latents, some of them.
fn latents(path: &Path) {
    let Ok(mut latents) = Latents::open(path) else { return };
    if latents.shape().iter().try_fold(1usize, |n, &d| n.checked_mul(d)).is_some_and(|n| n <= MANY) {
        (0..latents.count().min(3)).for_each(|i| drop(latents.read(i)));
    }
}

/// A picture.
pub fn pictures(bytes: &[u8]) {
    with_file(bytes, ".png", |path| {
        let size = pictures::picture_size(path);
        // One of many pixels takes its time honestly.
        if size.is_ok_and(|[h, w]| h.saturating_mul(w) <= MANY) {
            let _ = (pictures::load(path), pictures::load_middle(path, [16, 16]), pictures::load_brightness(path, [8, 24]));
        }
        let _ = pictures::read_text(path, "parameters");
    });
}

/// Readers of files alone get one.
fn with_file(bytes: &[u8], suffix: &str, read: impl FnOnce(&Path)) {
    let mut file = tempfile::Builder::new().prefix("fcdm-fuzz-").suffix(suffix).tempfile().expect("there is room for a small file");
    file.write_all(bytes).expect("there is room for a small file");
    read(file.path());
}
