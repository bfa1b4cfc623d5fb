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
        ("opset", "not an ONNX model: expected operator sets 7 to 28, found 3; export with opset_version=20"),
        ("opset_newer", "not an ONNX model: expected operator sets 7 to 28, found 29; export with opset_version=20"),
        ("op_newer", "node `n`: op `Gelu`: operator set 18 has no such op; those from 20 on do"),
        ("operands", "node `n`: op `ReduceMean`: expected at most 1 operands in operator set 13, found 2"),
        ("results", "node `n`: op `BatchNormalization` is not supported: with a result `m`"),
        ("dropout", "node `n`: op `Dropout` is not supported: in training, or where only the network knows whether it is"),
        ("element_type", "tensor `w`: unknown element type 24"),
        ("element_type_of_input", "`x`: expected floats or integers, found element type 24"),
        ("no_graph", "not an ONNX model: it has no graph"),
    ] {
        let (path, folder) = (bad(name), golden().join("bad"));
        let found = line(&path).replace(&folder.display().to_string(), "FOLDER");
        assert_eq!(found, format!("FOLDER/{name}.onnx: {expected}"));
    }
}

/// An attribute is used, or says nothing, or is refused by name: with what it is, what is expected, what is found.
#[test]
fn attributes_are_not_passed_over() {
    for (name, expected) in [
        (
            "attribute_newer",
            "op `SpaceToDepth {blocksize=2, mode=CRD}`: attribute `mode`: operator set 18 has none of that name for this op (those from 28 on do), \
             found CRD",
        ),
        (
            "attribute_newer_too",
            "op `DepthToSpace {blocksize=1, mode=CRD}`: attribute `mode`: operator set 10 has none of that name for this op (those from 11 on do), \
             found CRD",
        ),
        (
            "attribute_older",
            "op `Upsample {scales=[1.0,1.0,2.0,2.0]}`: attribute `scales`: operator set 9 has none of that name for this op (those 7 to 8 do), \
             found [1.0,1.0,2.0,2.0]",
        ),
        (
            "attribute_unknown",
            "op `Relu {strange=[1,2]}`: attribute `strange`: operator set 18 has none of that name for this op (no set does), found [1,2]",
        ),
        ("attribute_of_another_kind", "op `Concat {axis=1.0}`: attribute `axis`: expected an integer, found 1.0"),
        ("axis_missing", "op `Concat`: attribute `axis`: expected an integer, found none"),
        (
            "attribute_not_used",
            "op `Resize {exclude_outside=1, mode=linear}` is not supported: attribute `exclude_outside`: expected 0, found 1",
        ),
        (
            "attribute_without_default",
            "op `RandomNormalLike {seed=1.0}` is not supported: a model that draws random numbers: export what it draws by, such as a posterior's mean",
        ),
        (
            "attribute_that_contradicts",
            "op `Conv {kernel_shape=[3,3]}`: attribute `kernel_shape`: expected [2, 2], as the weight has, found [3, 3]",
        ),
        ("attribute_value", "op `Gelu {approximate=erf}` is not supported: attribute `approximate`: expected none or tanh, found erf"),
        ("attention_is_causal", "op `Attention {is_causal=1}` is not supported: attribute `is_causal`: expected 0, found 1"),
        ("element_type_of_cast", "op `Cast {to=24}` is not supported: attribute `to`: element type 24"),
        (
            "resize_cubic",
            "op `Resize {mode=cubic}` is not supported: mode cubic with coordinates half_pixel and rounding round_prefer_floor: expected nearest \
             with half_pixel rounded or asymmetric with floor, or linear with either of them",
        ),
    ] {
        let (path, folder) = (bad(name), golden().join("bad"));
        let found = line(&path).replace(&folder.display().to_string(), "FOLDER");
        assert_eq!(found, format!("FOLDER/{name}.onnx: node `n`: {expected}"));
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
