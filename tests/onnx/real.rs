//! Networks made elsewhere: VAElight's encoder and decoder (Apache-2.0), where the folder of shared data is.

use std::path::PathBuf;

use fcdm_compiler::onnx::Onnx;

use super::{by_tract, distance, run};

/// The model of that name, or a line that says what was not tested.
fn model(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data/vaelight").join(name);
    let there = path.exists();
    if !there {
        eprintln!("not tested: there is no {}", path.display());
    }
    there.then_some(path)
}

/// Seeded, in (-1, 1).
fn noise(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + 13) % 1009) as f32 / 504.5 - 1.0).collect()
}

fn check(name: &str, input: &str, shape: &[usize]) {
    let Some(path) = model(name) else { return };
    let shapes = [(input.to_owned(), shape.to_vec())];
    let dynamic = Onnx::open(&path).err().unwrap().to_string();
    assert!(dynamic.contains(&format!("input `{input}`: expected static extents, found the symbolic dimension `batch_size`")), "{dynamic}");
    let onnx = Onnx::open_at(&path, &shapes).unwrap_or_else(|e| panic!("{e}"));
    let x = [(false, noise(shape.iter().product()))];
    let ours = run(&onnx, &x);
    let tract = by_tract(&path, &shapes, &x).unwrap_or_else(|e| panic!("{e}"));
    for ((port, a), b) in onnx.outputs().iter().zip(&ours).zip(&tract) {
        println!("{name}: {} {:?}: {:.1e} from tract", port.name, port.dims, distance(a, b));
        assert!(distance(a, b) < 1e-5, "{name}: {}: {:.1e} from tract", port.name, distance(a, b));
    }
}

#[test]
fn the_encoder_of_vaelight() {
    check("VAEencoder.onnx", "input", &[2, 3, 40, 24]);
}

#[test]
fn the_decoder_of_vaelight() {
    check("VAEpreview.onnx", "latent", &[1, 4, 6, 5]);
}
