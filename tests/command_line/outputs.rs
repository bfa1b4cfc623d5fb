//! Where pictures go: a folder, a file, a pipe; and what is there already.

use fcdm_models::pictures::{read_png, read_text};

use crate::process::Folder;

/// A model of pictures of 8x8 pixels.
fn model() -> Folder {
    let f = Folder::new();
    f.ok("compile GOLDEN/flow16/weights.safetensors --size 8x8 -o a.fcdm");
    f
}

/// Width and height.
fn size(f: &Folder, name: &str) -> (usize, usize) {
    let picture = read_png(&f.path(name)).unwrap();
    (picture.width, picture.height)
}

fn text(f: &Folder, name: &str) -> String {
    read_text(&f.path(name), "parameters").unwrap().unwrap()
}

const ONE: &str = "generate a.fcdm -c 1 --steps 2";

#[test]
fn one_picture_into_a_file() {
    let f = model();
    f.ok(&format!("{ONE} -o folder"));
    let said = f.ok(&format!("{ONE} -o mine.PNG"));
    assert!(said.starts_with("wrote mine.PNG\n"), "{said}");
    assert!(f.bytes("mine.PNG") == f.bytes("folder/000000-class1-seed0.png"));
    assert_eq!(f.json(&format!("{ONE} -o mine.PNG"))["pictures"][0]["file"], "mine.PNG");
    assert_eq!(f.files(), ["a.fcdm", "folder/000000-class1-seed0.png", "mine.PNG"]);
    let many = f.fails(2, "generate a.fcdm -c 1,2 --steps 2 -o two.png");
    assert_eq!(many, "error: output: expected a folder for 2 pictures, or --grid for one sheet of them, found two.png");
    let jpeg = f.fails(2, &format!("{ONE} -o x.jpg"));
    assert_eq!(jpeg, "error: output: expected a folder or a PNG file, such as x.png, found x.jpg");
    assert!(f.fails(2, &format!("{ONE} -o x.png --resume")).contains("resume: expected --output with a folder"));
    assert!(f.fails(1, &format!("{ONE} -o no/x.png")).contains("there is no such folder"));
}

#[test]
fn bytes_into_a_pipe() {
    let f = model();
    f.ok(&format!("{ONE} -o x.png"));
    let output = f.command(&format!("{ONE} -o -")).output().unwrap();
    assert!(output.status.success() && output.stdout == f.bytes("x.png"), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("euler, 2 steps"));
    let quiet = f.command(&format!("{ONE} -o - --quiet")).output().unwrap();
    assert!(quiet.stdout == f.bytes("x.png") && quiet.stderr.is_empty());
    assert!(f.fails(2, &format!("{ONE} -o - --json")).contains("json: expected another --output than -"));
    // The sheet of some.
    let sheet = f.command("generate a.fcdm -c 1,2 --steps 2 --grid -o -").output().unwrap();
    f.ok("generate a.fcdm -c 1,2 --steps 2 --grid -o folder");
    assert!(sheet.stdout == f.bytes("folder/grid.png"));
}

#[test]
fn a_sheet_is_announced_and_says_how_it_was_made() {
    let f = model();
    let said = f.ok("generate a.fcdm -c 1,2,4 --steps 2 --grid 3 -o o");
    assert!(said.starts_with("wrote 3 pictures to o, all on o/grid.png\n"), "{said}");
    assert_eq!(size(&f, "o/grid.png"), (3 * 8 + 8, 8 + 4));
    let parameters = text(&f, "o/grid.png");
    assert!(parameters.contains("Steps: 2, Sampler: euler") && parameters.contains("Seed: 0-2"), "{parameters}");
    assert!(parameters.contains("Class: 1-2,4") && parameters.contains("Pictures: 3"), "{parameters}");
    let s = f.json("generate a.fcdm -c 1,2,4 --steps 2 --grid 3 -o sheet.png --npz all.npz");
    assert_eq!((&s["grid"], s["pictures"].as_array().unwrap().len()), (&"sheet.png".into(), 0));
    assert!(f.bytes("sheet.png") == f.bytes("o/grid.png"));
    f.ok("generate a.fcdm -c 1,2,4 --steps 2 -o o --npz other.npz");
    assert!(f.bytes("all.npz") == f.bytes("other.npz"));
}

#[test]
fn what_was_made_otherwise_is_not_overwritten() {
    let f = model();
    f.ok(&format!("{ONE} --grid -o o"));
    // The same again is no loss.
    f.ok(&format!("{ONE} --grid -o o"));
    let before = (f.bytes("o/000000-class1-seed0.png"), f.bytes("o/grid.png"));
    for other in ["--cfg-scale 3", "--sampler heun", "--steps 3"] {
        let line = f.fails(1, &format!("generate a.fcdm -c 1 --steps 2 {other} -o o").replace("--steps 2 --steps 3", "--steps 3"));
        let expected = "error: o/000000-class1-seed0.png: a picture made with another model or other options is there; \
                        --force overwrites, or choose another --output";
        assert_eq!(line, expected);
    }
    // Another class alone would leave that picture, and take the sheet's place.
    assert!(f.fails(1, "generate a.fcdm -c 2 --steps 2 --grid -o o").starts_with("error: o/grid.png: a picture made with"));
    assert!(f.bytes("o/000000-class1-seed0.png") == before.0 && f.bytes("o/grid.png") == before.1);
    f.ok(&format!("{ONE} --cfg-scale 3 --grid -o o --force"));
    assert!(f.bytes("o/000000-class1-seed0.png") != before.0 && f.bytes("o/grid.png") != before.1);
    // Somebody's photo.
    f.write("photo.png", b"somebody's");
    assert!(f.fails(1, &format!("{ONE} -o photo.png")).starts_with("error: photo.png: another file is there; --force overwrites"));
    assert_eq!(f.bytes("photo.png"), b"somebody's");
    // Another model of the same classes.
    f.ok("compile GOLDEN/flow16/weights.safetensors --size 8x8 --precision f16 -o b.fcdm");
    f.ok(&format!("{ONE} -o p"));
    assert!(f.fails(1, "generate b.fcdm -c 1 --steps 2 -o p").contains("made with another model"));
}
