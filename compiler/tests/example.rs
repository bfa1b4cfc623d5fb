//! The example: the sets of weights of the official trainer's file.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../examples/contents.rs"]
mod contents;

#[test]
fn both_sets_of_a_training_checkpoint() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/eps8/0000003.pt");
    let lines = contents::contents(path, "x_embedder.weight").unwrap();
    assert!(lines[0].ends_with(".pt: PyTorch"), "{lines:?}");
    assert!(lines[1].starts_with("ema: ") && lines[1].contains(", averaged; x_embedder.weight [8, "), "{lines:?}");
    assert!(lines[2].starts_with("model: ") && !lines[2].contains("averaged"), "{lines:?}");
    assert!(contents::contents("none.pt", "x").is_err());
}
