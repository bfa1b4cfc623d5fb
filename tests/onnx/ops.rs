//! One small model, or a few, for every op: written by `tests/reference/make_onnx.py` with what ONNX Runtime makes of them.

use std::collections::BTreeMap;

use fcdm_compiler::onnx::Onnx;
use safetensors::{Dtype, SafeTensors};

use super::{Values, by_tract, distance, golden, run};

/// f32 against f32.
const TOLERANCE: f64 = 2e-6;

/// Models that tract 0.23.9 does not run, by the beginning of their names, and why.
const TRACT_REFUSES: [(&str, &str); 4] = [
    ("pad", "negative amounts"),
    ("upsample", "no such op, which Resize replaced"),
    ("attention_23", "no such op"),
    ("conv_transpose_to_extents", "it panics"),
];

/// Models in which it passes over an attribute.
const TRACT_DIFFERS: [&str; 2] = ["swish", "space_to_depth_28_crd"];

/// By name: numbers as f32, and whether they were integers.
fn expected() -> BTreeMap<String, Values> {
    let bytes = std::fs::read(golden().join("ops/expected.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let numbers = |name: &str| {
        let t = file.tensor(name).unwrap();
        let wide = |b: &[u8]| i64::from_le_bytes(b.try_into().unwrap()) as f32;
        match t.dtype() {
            Dtype::I64 => (true, t.data().chunks(8).map(wide).collect()),
            _ => (false, t.data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()),
        }
    };
    file.names().into_iter().map(|n| (n.to_owned(), numbers(n))).collect()
}

#[test]
fn every_op_against_onnx_runtime_and_tract() {
    let expected = expected();
    let (mut failed, mut count) = (Vec::new(), 0);
    let mut paths: Vec<_> = std::fs::read_dir(golden().join("ops")).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "onnx"));
    paths.sort();
    for path in paths {
        count += 1;
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let onnx = match Onnx::open(&path) {
            Ok(onnx) => onnx,
            Err(e) => {
                failed.push(e.to_string());
                continue;
            }
        };
        let inputs: Vec<Values> = onnx.inputs().iter().map(|p| expected[&format!("{name}/in/{}", p.name)].clone()).collect();
        let ours = run(&onnx, &inputs);
        let tract = by_tract(&path, &[], &inputs);
        if let Err(e) = &tract
            && TRACT_REFUSES.iter().all(|(n, _)| !name.starts_with(n))
        {
            failed.push(format!("{name}: {e}"));
        }
        for (i, (port, found)) in onnx.outputs().iter().zip(&ours).enumerate() {
            let want = &expected[&format!("{name}/out/{}", port.name)].1;
            let far = if found.len() == want.len() { distance(found, want) } else { f64::INFINITY };
            if far.is_nan() || far > TOLERANCE {
                failed.push(format!("{name}: {}: {far:.1e} from ONNX Runtime", port.name));
            }
            if let Ok(tract) = &tract
                && !TRACT_DIFFERS.contains(&&*name)
                && (tract[i].len() != found.len() || distance(found, &tract[i]) > TOLERANCE)
            {
                failed.push(format!("{name}: {}: {:.1e} from tract", port.name, distance(found, &tract[i])));
            }
        }
    }
    assert!(failed.is_empty(), "{} failures of {count} models:\n{}", failed.len(), failed.join("\n"));
    assert!(count > 100);
}
