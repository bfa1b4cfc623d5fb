//! What is refused, with its line.

use std::path::{Path, PathBuf};

use fcdm_compiler::onnx::Onnx;

use super::golden;

/// The line for a file with that content, without the folder.
fn refused(name: &str, bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    line(&path).replace(&format!("{}/", folder.path().display()), "")
}

fn line(path: &Path) -> String {
    let e = Onnx::open(path).err().unwrap_or_else(|| panic!("{} opens", path.display())).to_string();
    assert!(!e.contains('\n'), "{e}");
    e
}

fn bad(name: &str) -> PathBuf {
    golden().join("bad").join(format!("{name}.onnx"))
}

#[test]
fn models_that_cannot_be_imported() {
    for (name, expected) in [
        ("unknown_op", "node `strange`: op `NonZero` is not supported"),
        ("other_domain", "node `own`: op `com.example.Conv {group=1}` is not supported"),
        ("dilated", "node `wide`: op `Conv {dilations=[2,2]}` is not supported: dilated"),
        ("dynamic", "input `x`: expected static extents, found the symbolic dimension `batch`; give the input's shape"),
        ("external", "tensor `w`: expected its values in `FOLDER/weights.bin`: No such file or directory (os error 2)"),
        ("outside", "tensor `w`: expected its values in `FOLDER/../weights.bin`: not a place inside of the model's folder"),
        ("short_tensor", "tensor `w`: expected 6 values for extents [2, 3], found 5"),
        ("huge_tensor", "tensor `w`: expected extents of at most 1073741824 elements, found [4294967296, 4294967296]"),
        ("channels", "node `n`: op `Conv`: a weight of extents [1, 3, 1, 1] in 1 groups for an image of [1, 2, 4, 4]"),
        ("broadcast", "node `n`: op `Add`: extents [2, 3] and [2, 4] do not broadcast"),
        ("undefined", "node `n`: op `Relu`: operand `z` is not defined before it"),
        ("constant_output", "`y`: expected an output that depends on an input, found a constant"),
        ("label_and_number", "`x`: expected integers that are labels or numbers, found both: a number at `c`, a label at `g`"),
        ("opset", "not an ONNX model: expected operator sets 7 to 22, found 3"),
        ("no_graph", "not an ONNX model: it has no graph"),
    ] {
        let (path, folder) = (bad(name), golden().join("bad"));
        let found = line(&path).replace(&folder.display().to_string(), "FOLDER");
        assert_eq!(found, format!("FOLDER/{name}.onnx: {expected}"));
    }
}

#[test]
fn files_that_are_something_else() {
    let e = refused("text.onnx", b"no protobuf at all");
    assert!(e.starts_with("text.onnx: not an ONNX model: "), "{e}");
    assert_eq!(refused("empty.onnx", b""), "empty.onnx: not an ONNX model: it has no graph");
    assert!(line(Path::new("nowhere.onnx")).starts_with("nowhere.onnx: No such file"));
}

/// Bytes changed and files cut off: an error or a model, and never a panic.
#[test]
fn damaged_models_do_not_panic() {
    for name in [
        "fcdm2.onnx",
        "ops/conv_grouped.onnx",
        "ops/slice_every_second.onnx",
        "ops/attention.onnx",
        "ops/shape_arithmetic.onnx",
        "ops/pad.onnx",
    ] {
        let bytes = std::fs::read(golden().join(name)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        std::fs::copy(golden().join("fcdm.weights"), folder.path().join("fcdm.weights")).unwrap();
        let step = if bytes.len() > 10_000 { bytes.len() / 40 } else { 5 };
        for at in (0..bytes.len()).step_by(step) {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                std::fs::write(&path, &damaged).unwrap();
                let _ = Onnx::open(&path);
            }
            std::fs::write(&path, &bytes[..at]).unwrap();
            let _ = Onnx::open(&path);
        }
    }
}
