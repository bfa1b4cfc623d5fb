//! Which pages of an artifact count as this process's memory: none that were only verified, and none that were handed back.
//! Only Linux tells.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use fcdm_runtime::artifact::{Artifact, ArtifactContents, ModelInfo, Prediction, TensorSource, write};
use fcdm_runtime::plan::{Element, Plan, VERSION};

/// Bytes of one tensor.
const SIZE: usize = 8 << 20;

/// The system maps some pages around one that is touched.
const AROUND: usize = 1 << 20;

fn put(path: &Path) {
    let model = ModelInfo {
        prediction: Prediction::Velocity,
        in_channels: 4,
        out_channels: 4,
        num_classes: 1,
        null_class: false,
        class_names: vec![],
        hidden: 8,
        depths: vec![1; 5],
        mlp_ratio: 3.0,
        height: 8,
        width: 8,
        sampling: None,
        specialisation: None,
    };
    let plan = Plan { version: VERSION, reproducible: false, entries: vec![] };
    let contents = ArtifactContents::new(plan, Some(model));
    let tensor = |name: &str| TensorSource::bytes(name, Element::F32, vec![SIZE / 4], content(name));
    write(path, &contents, ["a", "b", "c", "d"].map(tensor).into(), &|| false, &mut |_, _| ()).unwrap();
}

fn content(name: &str) -> Vec<u8> {
    (0..SIZE).map(|i| (i >> 8) as u8 ^ i as u8 ^ name.as_bytes()[0]).collect()
}

/// Resident bytes of the maps of a file.
fn resident(path: &Path) -> usize {
    let (maps, mut ours, mut bytes) = (std::fs::read_to_string("/proc/self/smaps").unwrap(), false, 0);
    for line in maps.lines() {
        match line.split_once(':').filter(|(key, _)| key.chars().all(|c| c.is_ascii_alphabetic() || c == '_')) {
            Some(("Rss", size)) if ours => bytes += 1024 * size.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap(),
            Some(_) => {}
            None => ours = line.contains(path.to_str().unwrap()),
        }
    }
    bytes
}

#[test]
fn pages_of_an_artifact() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap().join("m.fcdm");
    put(&path);
    let artifact = Arc::new(Artifact::open(&path).unwrap());
    assert!(resident(&path) <= AROUND, "opening makes {} bytes resident", resident(&path));
    artifact.verify_in_background().wait(&|| false).unwrap();
    assert!(resident(&path) <= AROUND, "verifying makes {} bytes resident", resident(&path));
    let whole = |name: &str| assert!(artifact.tensor(name).unwrap().2 == content(name), "{name}");
    ["a", "b", "c", "d"].into_iter().for_each(whole);
    let all = resident(&path);
    assert!(all >= 4 * SIZE, "{all} of 4 x {SIZE} bytes are resident");
    // Neighbours and a single one; names that there are not do not matter.
    artifact.hand_back(["b", "a", "d", "e"]);
    assert!(resident(&path) <= all - 3 * SIZE + AROUND, "{} of {all} bytes are resident still", resident(&path));
    assert!(resident(&path) >= SIZE - AROUND, "what was not handed back is gone: {}", resident(&path));
    ["a", "b", "c", "d"].into_iter().for_each(whole);
}
