//! The small command: it makes what the library makes, and says so.
#![allow(clippy::unwrap_used)]

#[path = "../../tests/networks/mod.rs"]
mod networks;

use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Output};

use fcdm_runtime::generate::{Choice, Seeds};
use fcdm_runtime::picture::png::{read_png, read_text};
use fcdm_runtime::{Model, Options};

fn runs(folder: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fcdm-run")).current_dir(folder).args(line.split_whitespace()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn it_makes_what_the_library_makes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    networks::put(&folder.join("small.fcdm"));
    let ran = runs(folder, "small.fcdm -c cat,dog --seeds 3,4 --steps 5 --cfg-scale 2 --grid --save-latents l.safetensors");
    assert!(ran.status.success() && ran.stderr.is_empty(), "{}", text(&ran.stderr));
    assert!(text(&ran.stdout).starts_with("wrote 4 pictures to out, all on out/grid.png\n"), "{}", text(&ran.stdout));
    let options = Options {
        class_labels: vec!["cat".into(), "dog".into()],
        seeds: Seeds::Each(vec![3, 4]),
        sampler: Choice { steps: Some("5".into()), ..Choice::default() },
        cfg_scale: Some(2.0),
        ..Options::default()
    };
    let mut model = Model::open(folder.join("small.fcdm")).unwrap();
    let made = model.generate(&options, |_| ControlFlow::Continue(())).unwrap();
    let names = ["000000-cat-seed3", "000001-cat-seed4", "000002-dog-seed3", "000003-dog-seed4"];
    for (name, picture) in names.iter().zip(&made) {
        let path = folder.join(format!("out/{name}.png"));
        assert!(read_png(&path).unwrap() == *picture, "{name}");
        assert!(read_text(&path, "parameters").unwrap().unwrap().contains("Steps: 5, Sampler: euler, CFG scale: 2"));
    }
    assert!(folder.join("l.safetensors").exists());
    let bytes = runs(folder, "small.fcdm -c dog --seed 4 --steps 5 --cfg-scale 2 -o -");
    std::fs::write(folder.join("piped.png"), &bytes.stdout).unwrap();
    assert!(read_png(&folder.join("piped.png")).unwrap() == made[3]);
}

#[test]
fn it_fails_as_the_whole_command_does() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    networks::put(&folder.join("small.fcdm"));
    for (code, line, expected) in [
        (4, "none.fcdm", "error: none.fcdm: cannot read: "),
        (2, "small.fcdm -c fish", "error: class labels: expected one of cat, dog, found `fish`"),
        (2, "small.fcdm --sampler ddim", "error: sampler: expected euler, heun or sde, for this is a flow model, found ddim"),
        (2, "small.fcdm --nonsense", "error: unexpected argument"),
        (2, "", "error: the following required arguments"),
    ] {
        let ran = runs(folder, line);
        assert_eq!(ran.status.code(), Some(code), "{line}");
        assert!(text(&ran.stderr).starts_with(expected) && ran.stdout.is_empty(), "{line}: {}", text(&ran.stderr));
    }
    assert!(!folder.join("out").exists());
    let help = runs(folder, "--help");
    assert!(help.status.success() && text(&help.stdout).contains("--class-labels"));
}
