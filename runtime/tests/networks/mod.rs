//! A small network as an artifact, for tests of all that is built on networks: `x (1 + scale) + shift` of pictures of 4 x 4 RGB
//! pixels, with scale and shift looked up by class. Its batches are of 2 and of 5 rows.

#![allow(dead_code, clippy::unwrap_used)]

use std::path::Path;

use fcdm_runtime::artifact::{Artifact, ArtifactContents, ModelInfo, Prediction, TensorSource, write};
use fcdm_runtime::encoding::Encoding;
use fcdm_runtime::kernels::{Embedding, Modulate};
use fcdm_runtime::plan::{Element, Entry, Form, Operand, Place, Plan, Port, Step, VERSION};

/// Rows of the condition.
const PAIRS: usize = 4;

fn operand(at: Place, dtype: Element, shape: &[usize]) -> Operand {
    Operand { at, form: Form::Dense(dtype), shape: shape.to_vec() }
}

fn port(name: &str, dtype: Element, shape: &[usize]) -> Port {
    Port { name: name.into(), dtype, shape: shape.to_vec() }
}

fn condition() -> Entry {
    let look_up = |i: usize, name: &str| Step {
        label: name.into(),
        kernel: Embedding {}.into(),
        inputs: vec![
            Operand { at: Place::Weight(name.into()), form: Form::Encoded(Encoding::F32), shape: vec![3, 1, 3] },
            operand(Place::Input(1), Element::I32, &[PAIRS]),
        ],
        outputs: vec![operand(Place::Output(i), Element::F32, &[PAIRS, 3])],
    };
    Entry {
        name: "condition".into(),
        rows: PAIRS,
        inputs: vec![port("t", Element::F32, &[PAIRS]), port("y", Element::I32, &[PAIRS])],
        outputs: ["shift", "scale"].map(|name| port(name, Element::F32, &[PAIRS, 3])).into(),
        state: vec![],
        arena_bytes: 0,
        arena_lower_bound: 0,
        steps: vec![look_up(0, "shift"), look_up(1, "scale")],
    }
}

fn denoise(rows: usize) -> Entry {
    let (image, row) = ([rows, 4, 4, 3], [rows, 3]);
    let step = Step {
        label: "y".into(),
        kernel: Modulate {}.into(),
        inputs: [&image[..], &row, &row].into_iter().enumerate().map(|(i, s)| operand(Place::Input(i), Element::F32, s)).collect(),
        outputs: vec![operand(Place::Output(0), Element::F32, &image)],
    };
    Entry {
        name: "denoise".into(),
        rows,
        inputs: vec![port("x", Element::F32, &image), port("shift", Element::F32, &row), port("scale", Element::F32, &row)],
        outputs: vec![port("y", Element::F32, &image)],
        state: vec![],
        arena_bytes: 0,
        arena_lower_bound: 0,
        steps: vec![step],
    }
}

/// Writes the artifact.
pub fn put(path: &Path) {
    let model = ModelInfo {
        prediction: Prediction::Velocity,
        in_channels: 3,
        out_channels: 3,
        num_classes: 2,
        null_class: true,
        class_names: vec!["cat".into(), "dog".into()],
        hidden: 8,
        depths: vec![1; 5],
        mlp_ratio: 3.0,
        height: 4,
        width: 4,
        sampling: None,
        specialisation: None,
    };
    let plan = Plan { version: VERSION, reproducible: false, entries: vec![condition(), denoise(2), denoise(5)] };
    // Three rows of three values, as a panel has them.
    let value = |seed: usize, i: usize| ((i * 7 + seed) % 11) as f32 * 0.1 - 0.5;
    let element = |seed: usize, i: usize| if i % 16 < 3 { value(seed, i % 16 * 3 + i / 16) } else { 0.0 };
    let table = |seed: usize| (0..48).map(|i| element(seed, i)).collect::<Vec<f32>>();
    let panels = |name: &str, seed: usize| TensorSource::f32(name, vec![1, 3, 16], table(seed));
    let tensors = vec![panels("shift.panels", 1), panels("scale.panels", 5)];
    write(path, &ArtifactContents::new(plan, Some(model)), tensors, &|| false, &mut |_, _| ()).unwrap();
}

/// The artifact, in memory.
pub fn network() -> Artifact {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.fcdm");
    put(&path);
    Artifact::from_bytes("small", std::fs::read(path).unwrap()).unwrap()
}
