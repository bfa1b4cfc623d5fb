//! What a checkpoint may look like: views, prefixes, sets of weights, things that are not tensors.

use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;

use fcdm_compiler::checkpoint::{Checkpoint, ElementType, StateDict, count_nonfinite};

use crate::assemble::*;
use crate::{first, one_line, open, refusal, sets};

#[test]
fn views_are_gathered_row_major() {
    let file = |v| Checkpoint::from_bytes("evil.pt", one(v)).unwrap();
    let read = |v: Vec<u8>| StateDict::everything(file(v)).unwrap().read_f32("w").unwrap();
    assert_eq!(read(view(2, &[2, 3], &[3, 1])), [2., 3., 4., 5., 6., 7.]);
    assert_eq!(read(view(0, &[3, 2], &[1, 3])), [0., 3., 1., 4., 2., 5.]);
    assert_eq!(read(view(15, &[], &[])), [15.]);
    assert_eq!(read(view(1, &[2, 1, 2], &[8, 77, 2])), [1., 3., 9., 11.]);
    assert_eq!(read(view(0, &[2, 2, 2], &[8, 1, 2])), [0., 2., 1., 3., 8., 10., 9., 11.]);
    assert_eq!(read(view(3, &[4], &[0])), [3.; 4]);
    assert!(read(view(0, &[3, 0, 5], &[5, 5, 1])).is_empty());
    assert!(read(view(16, &[0], &[1])).is_empty());
}

/// What is saved to be exchanged needs no names.
#[test]
fn tensors_without_names() {
    let names = |root: &[u8]| {
        let file = StateDict::everything(Checkpoint::from_bytes("evil.pt", pt(&pickle(root))).unwrap()).unwrap();
        file.names().map(|name| (name.to_owned(), file.read_f32(name).unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(names(&view(3, &[2], &[1])), [("tensor".to_owned(), vec![3., 4.])]);
    let numbered = [("0".to_owned(), vec![1.]), ("2".to_owned(), vec![5.])];
    assert_eq!(names(&tuple(&[view(1, &[1], &[1]), int(7), view(5, &[1], &[1])])), numbered);
    assert_eq!(names(&[b"](", &view(1, &[1], &[1])[..], b"N", &view(5, &[1], &[1]), b"e"].concat()), numbered);
    assert!(refusal(pt(&pickle(&tuple(&[int(7)])))).contains("expected a dict of tensors, found a tuple"));
}

#[test]
fn rows_are_those_of_the_whole() {
    for (shape, strides) in [(&[4, 3][..], &[3, 1][..]), (&[3, 4], &[1, 3]), (&[4, 1, 2], &[3, 77, 1]), (&[4], &[0]), (&[5, 0], &[1, 1])] {
        let checkpoint = open(one(view(1, shape, strides))).unwrap();
        let whole = checkpoint.read_f32("w").unwrap();
        let row: usize = shape[1..].iter().product::<i64>() as usize;
        for (from, to) in [(0, 0), (0, 1), (1, 3), (3, 3), (0, shape[0] as usize)] {
            assert_eq!(checkpoint.read_rows_f32("w", from..to).unwrap(), whole[from * row..to * row], "{shape:?} {from} to {to}");
        }
    }
    let halves = open(one(tensor(storage("HalfStorage", "0", 32), 0, &[4, 8], &[8, 1]))).unwrap();
    assert_eq!(halves.read_rows_f32("w", 1..3).unwrap(), halves.read_f32("w").unwrap()[8..24]);
    let numbers = open(one(tensor(storage("LongStorage", "0", 8), 0, &[2], &[1]))).unwrap();
    assert!(one_line(&numbers.read_rows_f32("w", 0..1).unwrap_err()).ends_with("found i64"));
}

#[test]
fn every_float_type_is_read_and_other_types_are_named() {
    let of = |kind: &str, elements: i64| one(tensor(storage(kind, "0", elements), 0, &[2], &[1]));
    assert_eq!(open(of("HalfStorage", 32)).unwrap().tensor("w").unwrap().dtype, ElementType::F16);
    // 0.0f32 then 1.0f32 as one little-endian f64: 1.0f32's bits are the upper half.
    let double = open(of("DoubleStorage", 8)).unwrap().read_f32("w").unwrap();
    assert_eq!(double[0], f64::from_bits(0x3f80_0000_0000_0000) as f32);
    let bfloat = open(of("BFloat16Storage", 32)).unwrap().read_f32("w").unwrap();
    assert_eq!(bfloat, [0., 0.]);
    let error = open(of("LongStorage", 8)).unwrap().read_f32("w").unwrap_err();
    assert_eq!(one_line(&error), "evil.pt: tensor `w`: expected f32, f16, bf16 or f64 elements, found i64");
    assert!(refusal(of("QInt8Storage", 8)).contains("expected a known type of storage, found the name `torch.QInt8Storage`"));
}

#[test]
fn parameters_and_newer_constructors_are_tensors() {
    let parameter = |t| call("torch._utils", "_rebuild_parameter", &[t, b"\x88".to_vec(), call("collections", "OrderedDict", &[])]);
    assert_eq!(open(one(parameter(view(4, &[2], &[1])))).unwrap().read_f32("w").unwrap(), [4., 5.]);
    let untyped = tuple(&[text("storage"), global("torch.storage", "UntypedStorage"), text("0"), text("cpu"), int(64)]);
    let parts = [[untyped, b"Q".to_vec()].concat(), int(1), integers(&[2]), integers(&[1]), b"\x89".to_vec(), b"N".to_vec()];
    let v3 = call("torch._utils", "_rebuild_tensor_v3", &[&parts[..], &[global("torch", "float32"), b"N".to_vec()]].concat());
    assert_eq!(open(one(v3)).unwrap().read_f32("w").unwrap(), [1., 2.]);
}

/// Sets of weights as trainers save them: how each is called, in the order of preference, and the first value of each.
#[test]
fn sets_of_weights_are_found_under_whatever_name() {
    let weights = |at| dict(&[("module.a._orig_mod.w", view(at, &[1], &[1])), ("a.b", view(at, &[1], &[1]))]);
    let counter = |at| [dict(&[("n_averaged", view(0, &[], &[])), ("module.a.w", view(at, &[1], &[1]))])].concat();
    let flat = |names: &[&str]| dict(&names.iter().enumerate().map(|(i, n)| (*n, view(i as i64, &[1], &[1]))).collect::<Vec<_>>());
    let opt = dict(&[("state", dict(&[("a.w", call("torch.optim", "State", &[]))]))]);
    for (file, expected) in [
        (dict(&[("model", weights(1)), ("ema", weights(2)), ("opt", opt)]), &[("ema", 2.), ("model", 1.)][..]),
        (dict(&[("model", weights(1)), ("model_ema", weights(2))]), &[("model_ema", 2.), ("model", 1.)]),
        (dict(&[("state_dict", weights(1)), ("state_dict_ema", weights(2))]), &[("state_dict_ema", 2.), ("state_dict", 1.)]),
        (dict(&[("model", weights(1)), ("average", counter(2))]), &[("average", 2.), ("model", 1.)]),
        (dict(&[("model", weights(1)), ("second", counter(2))]), &[("second", 2.), ("model", 1.)]),
        (dict(&[("train", dict(&[("net", weights(1)), ("net_ema", weights(2))]))]), &[("train.net_ema", 2.), ("train.net", 1.)]),
        (dict(&[("module", weights(3))]), &[("all", 3.)]),
        (weights(3), &[("all", 3.)]),
        (flat(&["ema.online_model.a.w", "ema.ema_model.a.w"]), &[("ema.ema_model", 1.), ("ema.online_model", 0.)]),
        (
            flat(&["model.diffusion.a.w", "model_ema.diffusionaw", "model_ema.decay"]),
            &[("model_ema.diffusion", 1.), ("model.diffusion", 0.)],
        ),
    ] {
        let found = sets(&pt(&pickle(&file)));
        let with = found.iter().filter(|set| set.tensor("a.w").is_some());
        let told: Vec<(&str, f32)> = with.map(|set| (set.name(), set.read_f32("a.w").unwrap()[0])).collect();
        assert_eq!(told, expected);
    }
}

#[test]
fn what_a_set_leaves_out_is_noted() {
    let file = dict(&[
        ("ema", dict(&[("a.w", view(0, &[1], &[1])), ("step", view(0, &[], &[])), ("epoch", int(7)), ("other.w", view(1, &[1], &[1]))])),
        ("b", view(1, &[1], &[1])),
    ]);
    let set = first(&pt(&pickle(&file)));
    assert_eq!(set.names().collect::<Vec<_>>(), ["a.w", "other.w"]);
    let notes = ["`ema.step`: single numbers are no weights and are not used", "`epoch` is the integer 7, not a tensor, and is not used"];
    assert_eq!(set.notes().collect::<Vec<_>>(), notes);
    let header = r#"{"ema.a.w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"model.a.w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},
        "c":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"__metadata__":{"made_with":"a \"test\""}}"#;
    let found = sets(&safetensors(header, &floats(3)));
    let told: Vec<(&str, f32)> = found.iter().map(|set| (set.name(), set.read_f32("a.w").unwrap()[0])).collect();
    assert_eq!(told, [("ema", 0.), ("model", 1.)]);
    assert_eq!(found[0].notes().collect::<Vec<_>>(), ["1 tensors outside the `ema` weights are not used"]);
    assert_eq!(found[0].checkpoint().arguments()["made_with"], r#""a \"test\"""#);
}

/// As the reference library has it.
#[test]
fn metadata_of_safetensors_files() {
    let file = |metadata: &str| {
        let header = format!(r#"{{"__metadata__":{metadata},"a.w":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#);
        open(safetensors(&header, &floats(1)))
    };
    for nothing in ["null", "{}"] {
        let read = file(nothing).unwrap();
        assert_eq!((read.read_f32("a.w").unwrap(), read.checkpoint().arguments().len()), (vec![0.], 0), "{nothing}");
    }
    for (wrong, found) in [(r#"{"epoch":3}"#, "integer `3`"), ("3", "integer `3`"), (r#"["a"]"#, "sequence")] {
        let line = file(wrong).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(line.contains(found) && line.contains("line 1 column "), "{wrong}: {line}");
    }
}

/// What PyTorch makes of a tensor that has attributes of its own.
#[test]
fn tensors_with_attributes_are_tensors() {
    let inner = tuple(&[storage("FloatStorage", "0", 16), int(4), integers(&[2]), integers(&[1]), b"\x89".to_vec(), b"N".to_vec()]);
    let function = global("torch._utils", "_rebuild_tensor_v2");
    let kind = global("torch.nn.parameter", "Parameter");
    let typed =
        call("torch._tensor", "_rebuild_from_type_v2", &[function, kind.clone(), inner, dict(&[("_is_initialized", b"\x88".to_vec())])]);
    assert_eq!(open(one(typed)).unwrap().read_f32("w").unwrap(), [4., 5.]);
    // Another function makes no tensor, whatever its arguments are.
    let acting = call("torch._tensor", "_rebuild_from_type_v2", &[global("os", "system"), kind, tuple(&[text("true")]), b"N".to_vec()]);
    let weights = dict(&[("w", view(0, &[1], &[1])), ("evil", acting)]);
    let dict = open(pt(&pickle(&weights))).unwrap();
    assert_eq!(dict.names().collect::<Vec<_>>(), ["w"]);
    assert_eq!(dict.other("evil"), Some("an object of `torch._tensor._rebuild_from_type_v2`"));
}

/// Files to exchange values in keep their names, whatever these look like.
#[test]
fn everything_is_under_its_own_name() {
    let file = pt(&pickle(&dict(&[("module.w", view(0, &[1], &[1])), ("ema", dict(&[("w", view(1, &[], &[]))]))])));
    let all = StateDict::everything(Checkpoint::from_bytes("evil.pt", file).unwrap()).unwrap();
    assert_eq!(all.names().collect::<Vec<_>>(), ["module.w", "ema.w"]);
    assert_eq!(all.read_f32("ema.w").unwrap(), [1.]);
}

#[test]
fn names_that_collide_are_refused() {
    let file = pt(&pickle(&dict(&[("module.w", view(0, &[1], &[1])), ("w", view(1, &[1], &[1]))])));
    let expected = "evil.pt: tensor `w`: expected one tensor of that name, found `module.w` and `w`";
    assert_eq!(refusal(file), expected);
}

#[test]
fn foreign_objects_are_noted_and_never_tensors() {
    let foreign = call("somewhere.else", "Thing", &[view(0, &[1], &[1])]);
    let file = pt(&pickle(&dict(&[("w", view(0, &[1], &[1])), ("thing", foreign), ("epoch", int(7))])));
    let checkpoint = open(file).unwrap();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["w"]);
    let notes = [
        "`thing` is an object of `somewhere.else.Thing`, not a tensor, and is not used",
        "`epoch` is the integer 7, not a tensor, and is not used",
    ];
    assert_eq!(checkpoint.notes().collect::<Vec<_>>(), notes);
    let sparse = one(call("torch._utils", "_rebuild_sparse_tensor", &[]));
    assert!(refusal(sparse).contains("expected a dense tensor, found a call of `torch._utils._rebuild_sparse_tensor`"));
}

#[test]
fn arguments_are_plain_text() {
    let scalar = call("numpy.core.multiarray", "scalar", &[call("numpy", "dtype", &[text("f8")]), b"C\x01x".to_vec()]);
    let inner = dict(&[("list", b"](K\x01K\x02e".to_vec()), ("wide", b"\x8a\x09\x01\x02\x03\x04\x05\x06\x07\x08\x09".to_vec())]);
    let args = dict(&[
        ("a", inner),
        ("numpy", scalar),
        ("text", text("x\ny")),
        ("tuple", tuple(&[b"N".to_vec(), b"\x88".to_vec(), int(-1 << 40)])),
    ]);
    let file = pt(&pickle(&dict(&[("model", dict(&[("w", view(0, &[1], &[1]))])), ("args", args)])));
    let weights = open(file).unwrap();
    let arguments = weights.checkpoint().arguments();
    assert_eq!(arguments["a"], r#"{"list": [1, 2], "wide": "<wide integer>"}"#);
    assert_eq!(arguments["numpy"], r#""<an object of `numpy.core.multiarray.scalar`>""#);
    assert_eq!(arguments["text"], r#""x\ny""#);
    assert_eq!(arguments["tuple"], "[null, true, -1099511627776]");
}

#[test]
fn values_that_are_not_finite_are_counted() {
    assert_eq!(count_nonfinite(&[0.0, f32::NAN, f32::INFINITY, -1.0, f32::NEG_INFINITY]), 3);
}

#[test]
fn archives_beyond_4_gib_are_read() {
    // 5 GiB of zeros, as a hole in the file: neither disk nor memory is taken for them.
    const HOLE: u64 = 5 << 30;
    let large = tensor(storage("FloatStorage", "1", (HOLE / 4) as i64), (HOLE / 4 - 2) as i64, &[2], &[1]);
    let program = pickle(&dict(&[("w", view(14, &[2], &[1])), ("zeros", large)]));
    let mut entries = [entry("a/data/1", b""), entry("a/data/0", &floats(16)), entry("a/data.pkl", &program)];
    entries.iter_mut().for_each(|e| e.zip64 = true);
    let (bytes, hole_at) = zip_around_hole(&entries, HOLE);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes[..hole_at]).unwrap();
    file.seek(SeekFrom::Current(HOLE as i64)).unwrap();
    file.write_all(&bytes[hole_at..]).unwrap();
    let checkpoint = StateDict::only(&Arc::new(Checkpoint::open(file.path()).unwrap())).unwrap();
    assert_eq!(checkpoint.read_f32("w").unwrap(), [14., 15.]);
    assert_eq!(checkpoint.read_f32("zeros").unwrap(), [0., 0.]);
}
