//! Inputs that failed once in somebody's hands, and what is right of each. The inputs are large and lie beside the project, in
//! `../shared/cases`; where they are not, that is said and the test is over. A small instance of each kind is made by the tests of
//! its subject, and needs nothing from outside.
#![allow(clippy::unwrap_used)]

#[path = "cases/autoencoders.rs"]
mod autoencoders;
#[path = "cases/datasets.rs"]
mod datasets;
#[path = "cases/hostile.rs"]
mod hostile;
#[path = "cases/onnx.rs"]
mod onnx;
mod process;
#[path = "../fuzz/src/seal.rs"]
mod seal;
#[path = "cases/sizes.rs"]
mod sizes;

use process::Folder;

/// A folder in which the case lies, to run commands in.
fn case(name: &str) -> Option<Folder> {
    let from = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/cases").join(name);
    if !from.is_dir() {
        eprintln!("skipped: {} is not there", from.display());
        return None;
    }
    let folder = Folder::new();
    folder.copy(&from);
    Some(folder)
}

/// A photograph is right whatever way its colours are stored.
#[test]
fn case_23_cmyk_and_ycck() {
    let Some(folder) = case("23-right-cmyk-ycck") else { return };
    folder.ok("encode photos --vae identity.onnx -o lat --size 64 --no-flip");
    assert_eq!(folder.files().iter().filter(|f| f.starts_with("lat/latents_features/")).count(), 2);
}
