//! The example: from a checkpoint to a picture.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../examples/compile.rs"]
mod compile;

use fcdm_models::pictures::read_png;

#[test]
fn from_a_checkpoint_to_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/flow16/weights.safetensors");
    compile::picture(checkpoint, [8, 12], folder.path()).unwrap();
    let picture = read_png(&folder.path().join("picture.png")).unwrap();
    assert_eq!((picture.width, picture.height, picture.channels), (12, 8, 3));
}
