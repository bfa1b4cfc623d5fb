//! Folders of photographs as people have them.

use crate::case;
use crate::process::Folder;

/// The latents of the pictures encoded, in order.
fn latents(f: &Folder, folder: &str) -> Vec<Vec<f32>> {
    let start = format!("{folder}/latents_features/");
    let names = f.files().into_iter().filter(|n| n.starts_with(&start));
    names.map(|n| npyz::NpyFile::new(&f.bytes(&n)[..]).unwrap().into_vec().unwrap()).collect()
}

fn labels(f: &Folder, folder: &str) -> Vec<i64> {
    let start = format!("{folder}/latents_labels/");
    let names = f.files().into_iter().filter(|n| n.starts_with(&start));
    names.map(|n| npyz::NpyFile::new(&f.bytes(&n)[..]).unwrap().into_vec::<i64>().unwrap()[0]).collect()
}

#[test]
fn case_04_truncated_jpeg() {
    let Some(f) = case("04-truncated-jpeg") else { return };
    let line = f.fails(6, "encode photos -o lat --size 128");
    assert!(line.contains("photos/dress/1.jpg: expected a picture") && line.contains("found a JPEG file that ends too early"), "{line}");
    let ran = f.run("encode photos -o lat --size 128 --skip-bad");
    assert!(ran.code == Some(0) && ran.out.contains("encoded 2 of 2 pictures") && ran.out.contains("1 pictures were left out"), "{ran:?}");
    assert_eq!(labels(&f, "lat"), [0, 0]);
}

/// The photograph is stored lying on its side.
#[test]
fn case_17_exif_orientation() {
    let Some(f) = case("17-exif-orientation") else { return };
    for (image, folder) in [("phone.jpg", "a"), ("upright.png", "b")] {
        f.ok(&format!("generate -c shoes --init-image {image} --strength 0.1 --steps 20 --npz {folder}.npz -o {folder}"));
    }
    let (a, b) = (f.bytes("a.npz"), f.bytes("b.npz"));
    let difference: u64 = a.iter().zip(&b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    assert!(a.len() == b.len() && difference / (a.len() as u64) < 10, "{difference}");
}

/// Every sub-folder is a class, of whatever formats its pictures are.
#[test]
fn case_18_class_without_readable_pictures() {
    let Some(f) = case("18-class-without-readable-pictures") else { return };
    let out = f.ok("encode photos -o lat --size 32");
    assert!(out.starts_with("encoded 4 of 4 pictures of 3 classes"), "{out}");
    assert_eq!(labels(&f, "lat"), [0, 0, 1, 2]);
}

#[test]
fn case_19_appledouble_and_hidden() {
    let Some(f) = case("19-appledouble-and-hidden") else { return };
    for (folder, expected, classes) in
        [("mac", &[0][..], r#"["dress"]"#), ("zip", &[0], r#"["dress"]"#), ("nb", &[0, 1], r#"["dress","hat"]"#)]
    {
        let summary = f.json(&format!("encode {folder} -o {folder}-lat --size 32"));
        assert_eq!((labels(&f, &format!("{folder}-lat")), summary["classes"].to_string()), (expected.to_vec(), classes.to_owned()));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn case_20_folder_not_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let Some(f) = case("19-appledouble-and-hidden") else { return };
    let name = std::ffi::OsStr::from_bytes(b"photos\xff");
    std::fs::rename(f.path("mac"), f.path(".").join(name)).unwrap();
    let mut command = f.command("encode -o lat --size 32");
    command.arg(name);
    let ran = crate::process::finish("encode photos\\xff", command);
    assert!(ran.code == Some(0) && ran.out.starts_with("encoded 1 of 1 pictures"), "{ran:?}");
    assert_eq!(latents(&f, "lat").len(), 1);
}

/// Under a limit of memory, so that a machine survives a regression.
#[cfg(target_os = "linux")]
#[test]
fn case_21_png_bomb() {
    let Some(f) = case("21-png-bomb") else { return };
    let script = format!("ulimit -v 6000000; exec {} encode bomb -o lat --size 32", env!("CARGO_BIN_EXE_fcdm"));
    let mut command = f.command("");
    let environment: Vec<_> = command.get_envs().filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned()))).collect();
    command = std::process::Command::new("sh");
    command.args(["-c", &script]).envs(environment).current_dir(f.path("."));
    let line = f.fails_as(6, "encode bomb", command);
    assert!(line.contains("a.png: expected a picture that takes at most ") && line.contains("32000 x 32000 pixels"), "{line}");
}
