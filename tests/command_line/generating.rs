//! `generate`: the files, and that the same asked twice gives the same bytes.

use crate::process::{Folder, tensor};
use fcdm_models::pictures::{Picture, read_png};
use serde_json::json;

/// A folder with the artifact of a small flow model of pictures, 10 classes.
fn pictures() -> Folder {
    let f = Folder::new();
    f.ok("compile GOLDEN/flow16/weights.safetensors -o a.fcdm --size 8x12");
    f
}

/// The same of a diffusion model of latents.
fn latents() -> Folder {
    let f = Folder::new();
    f.ok("compile GOLDEN/eps8/0000003.pt -o a.fcdm --size 8x12");
    f
}

fn same(f: &Folder, one: &str, other: &str, names: &[&str]) {
    for name in names {
        assert!(f.bytes(&format!("{one}/{name}")) == f.bytes(&format!("{other}/{name}")), "{one} and {other}: {name}");
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    for f in [pictures(), latents()] {
        for t in [1, 2, 5] {
            f.ok(&format!("generate a.fcdm -c 1,2,3 --steps 3 -b 2 -t {t} -o {t} --save-latents {t}.safetensors"));
        }
        assert!(f.bytes("1.safetensors") == f.bytes("2.safetensors") && f.bytes("1.safetensors") == f.bytes("5.safetensors"));
        let files: Vec<String> = f.files().iter().filter_map(|n| n.strip_prefix("1/").map(str::to_owned)).collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        same(&f, "1", "2", &files);
        same(&f, "1", "5", &files);
    }
}

/// Also where entry points of several batch sizes are combined, and with rows left over.
#[test]
fn a_picture_does_not_depend_on_its_batch() {
    let nets = [
        ("flow16/weights.safetensors", "sde", "8x12"),
        ("eps8/0000003.pt", "ddpm", "8x12"),
        ("wide20/weights.safetensors", "ddim", "12x20"),
    ];
    for (net, sampler, size) in nets {
        let f = Folder::new();
        f.ok(&format!("compile GOLDEN/{net} -o a.fcdm --size {size}"));
        f.ok(&format!("compile GOLDEN/{net} -o b.fcdm --size {size} --batch 3,5"));
        let seeds = "--seeds 0-6 --steps 4 --cfg-scale 3";
        for b in [1, 2, 3, 7] {
            f.ok(&format!("generate a.fcdm -c 4 {seeds} --sampler {sampler} -b {b} -t 2 -o a{b} --save-latents a{b}.safetensors"));
            f.ok(&format!("generate b.fcdm -c 4 {seeds} --sampler {sampler} -b {b} -t 3 -o b{b} --save-latents b{b}.safetensors"));
        }
        let (_, first) = tensor(&f.bytes("a1.safetensors"), "latents");
        for name in ["a2", "a3", "a7", "b1", "b2", "b3", "b7"] {
            let (_, values) = tensor(&f.bytes(&format!("{name}.safetensors")), "latents");
            let differ = first.iter().zip(&values).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
            assert_eq!(differ, 0, "{net}: {name}: of {} values", first.len());
        }
        // A picture asked for alone.
        f.ok(&format!(
            "generate a.fcdm -c 4 --seed 5 --steps 4 --cfg-scale 3 --sampler {sampler} -o alone --save-latents alone.safetensors"
        ));
        let (_, alone) = tensor(&f.bytes("alone.safetensors"), "latents");
        assert_eq!(alone, first[5 * alone.len()..6 * alone.len()], "{net}");
    }
}

#[test]
fn which_pictures() {
    let f = pictures();
    let names = |line: &str| -> Vec<String> {
        let _ = std::fs::remove_dir_all(f.path("o"));
        f.ok(&format!("generate a.fcdm --steps 1 -o o {line}"));
        f.files().iter().filter_map(|n| n.strip_prefix("o/").map(str::to_owned)).collect()
    };
    assert_eq!(
        names("--class-labels 7,null --seeds 0-1,9"),
        [
            "000000-class7-seed0.png",
            "000001-class7-seed1.png",
            "000002-class7-seed9.png",
            "000003-null-seed0.png",
            "000004-null-seed1.png",
            "000005-null-seed9.png"
        ]
    );
    assert_eq!(
        names("-c 3,3 -n 2 -s 5"),
        ["000000-class3-seed5.png", "000001-class3-seed6.png", "000002-class3-seed7.png", "000003-class3-seed8.png"]
    );
    assert_eq!(names("--class-label 3").len(), 1);
    assert_eq!(names("").len(), 10, "every class once");
    assert_eq!(names("-c 1 -s 18446744073709551615 -n 2"), ["000000-class1-seed18446744073709551615.png", "000001-class1-seed0.png"]);
}

#[test]
fn labels_by_name() {
    let f = Folder::new();
    let names: Vec<String> = (0..10).map(|i| if i == 4 { "très/long coat".into() } else { format!("garment{i}") }).collect();
    f.write("names.txt", names.join("\n"));
    f.ok("compile GOLDEN/flow16/weights.safetensors -o a.fcdm --size 8x8 --class-names names.txt");
    f.ok("generate a.fcdm -c garment2 --steps 2 -o name");
    f.ok("generate a.fcdm -c 2 --steps 2 -o number");
    same(&f, "name", "number", &["000000-garment2-seed0.png"]);
    let mut command = f.command("generate a.fcdm --steps 1 -o space -c");
    assert!(command.arg("très/long coat, garment9").output().unwrap().status.success());
    assert!(f.path("space/000000-très_long_coat-seed0.png").exists() && f.path("space/000001-garment9-seed1.png").exists());
    assert!(f.fails(2, "generate a.fcdm -c garment99").contains("expected one of garment0, garment1, "));
    assert!(f.fails(2, "generate a.fcdm -c 10").ends_with("class labels: expected 0 to 9, found 10"));
}

/// The uncompressed international text chunks of a PNG: keyword and text.
fn texts(png: &[u8]) -> Vec<(String, String)> {
    let (mut at, mut found) = (8, Vec::new());
    while at < png.len() {
        let length = u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
        if &png[at + 4..at + 8] == b"iTXt" {
            let body = &png[at + 8..at + 8 + length];
            let mut parts = body.split(|&b| b == 0);
            let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
            found.push((text(parts.next().unwrap()), text(body.rsplit(|&b| b == 0).next().unwrap())));
        }
        at += 12 + length;
    }
    found
}

#[test]
fn a_picture_says_how_it_was_made() {
    let f = pictures();
    let checksum = f.json("inspect a.fcdm")["checksum"].as_str().unwrap().to_owned();
    f.ok("generate a.fcdm -c 3 -s 42 --steps 7 --cfg-scale 2.5 --cfg-interval 0.1,0.9 --cfg-channels all -o o");
    let expected = format!(
        "Steps: 7, Sampler: euler, CFG scale: 2.5, Seed: 42, Size: 12x8, Class: 3 (class3), Artifact: {checksum}, CFG channels: all, \
         CFG interval: 0.1-0.9, Version: fcdm 0.1.0"
    );
    let found = texts(&f.bytes("o/000000-class3-seed42.png"));
    assert_eq!(found, [("parameters".to_owned(), expected), ("Software".to_owned(), "fcdm".to_owned())]);
    let said = f.ok("generate a.fcdm -c 3 --steps 2 -o o");
    assert!(said.starts_with("wrote o/000000-class3-seed0.png\n8x12 pictures\neuler, 2 steps, guidance 1.5 on all channels; "), "{said}");
}

#[test]
fn grids_archives_and_latents_hold_the_same_pictures() {
    let f = pictures();
    let s = f.json("generate a.fcdm -c 0,1,2,3,4 --steps 2 -b 2 -o o --grid --npz p.npz --save-latents l.safetensors --sampler heun");
    assert_eq!(
        (&s["sampler"], &s["steps"], &s["latents"], &s["cfg_scale"]),
        (&json!("heun"), &json!(2), &json!("l.safetensors"), &json!(1.5))
    );
    let files: Vec<&str> = s["pictures"].as_array().unwrap().iter().map(|p| p["file"].as_str().unwrap()).collect();
    assert_eq!(s["pictures"][4], json!({ "file": "o/000004-class4-seed4.png", "label": 4, "seed": 4 }));
    let pngs: Vec<Picture> = files.iter().map(|p| read_png(&f.path(p)).unwrap()).collect();
    assert!(pngs.iter().all(|p| (p.height, p.width, p.channels) == (8, 12, 3)));

    let (shape, values) = tensor(&f.bytes("l.safetensors"), "latents");
    assert_eq!(shape, [5, 3, 8, 12]);
    for (p, state) in pngs.iter().zip(values.chunks_exact(3 * 96)) {
        let last: Vec<f32> = (0..96).flat_map(|i| (0..3).map(move |c| c * 96 + i)).map(|i| state[i]).collect();
        assert_eq!(*p, Picture::from_unit(8, 12, 3, &last));
    }

    let archive = f.bytes("p.npz");
    assert!(archive.starts_with(b"PK\x03\x04") && &archive[30..39] == b"arr_0.npy");
    let at = archive.windows(6).position(|w| w == b"\x93NUMPY").unwrap();
    let length = u16::from_le_bytes(archive[at + 8..at + 10].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&archive[at + 10..at + 10 + length]).unwrap();
    assert!(header.contains("'descr': '|u1'") && header.contains("'fortran_order': False"), "{header}");
    assert!(header.replace(' ', "").contains("'shape':(5,8,12,3"), "{header}");
    let pixels: Vec<u8> = pngs.iter().flat_map(|p| p.pixels.clone()).collect();
    assert!(archive[at + 10 + length..].starts_with(&pixels));

    // Five in three columns, two rows, gaps of two.
    let grid = read_png(&f.path("o/grid.png")).unwrap();
    assert_eq!((grid.width, grid.height), (3 * 14 + 2, 2 * 10 + 2));
    assert_eq!(grid.pixels[(2 * 44 + 2) * 3..][..36], pngs[0].pixels[..36]);
    f.ok("generate a.fcdm -c 0,1,2 --steps 1 -o wide --grid 3");
    assert_eq!(read_png(&f.path("wide/grid.png")).unwrap().height, 12);
}

#[test]
fn latents_are_written_when_there_is_nothing_to_show() {
    let f = latents();
    let s = f.json("generate a.fcdm -c 1,2 --steps 2 -o o");
    assert_eq!((&s["pictures"], &s["latents"]), (&json!([]), &json!("o/latents.safetensors")));
    assert_eq!(tensor(&f.bytes("o/latents.safetensors"), "latents").0, [2, 4, 8, 12]);
    assert_eq!(f.files(), ["a.fcdm", "o/latents.safetensors"]);
    for line in ["--grid", "--npz p.npz"] {
        assert!(f.fails(2, &format!("generate a.fcdm -c 1 --steps 2 -o never {line}")).contains("latents of 4 channels"));
        assert!(!f.path("never").exists());
    }
}

/// Options that other programs have taught people's fingers.
#[test]
fn aliases() {
    let f = latents();
    let made = |line: &str| {
        f.ok(&format!("generate a.fcdm -c 1 -o o --save-latents l.safetensors {line}"));
        f.bytes("l.safetensors")
    };
    let reference = made("--steps 4 --cfg-scale 3 --sampler ddpm");
    assert!(made("--num-sampling-steps 4 --cfg-scale 3 --ddpm") == reference);
    assert!(made("--num-inference-steps 4 --guidance-scale 3 --sampler ddpm") == reference);
    assert!(apart(&made("--num-inference-steps 4 --guidance-scale 3"), &reference) > 0.01, "the default is ddim");
    assert!(apart(&made("--steps ddim5 --eta 0.5"), &made("--steps ddim5")) > 0.01);
    let few = made("--steps 6 --sampler dpm++2m");
    for name in ["dpmpp-2m", "dpmpp_2m", "dpm++_2m"] {
        assert!(made(&format!("--steps logsnr6 --sampler {name}")) == few, "{name}");
    }
    let spaced = made("--steps even6 --sampler dpm++2m");
    assert!(apart(&spaced, &few) > 0.01, "a bare number is logsnr to the few-step solvers");
    assert!(made("--steps even6") == made("--steps 6"), "and even to the others");
    assert!(apart(&made("--steps even6 --sampler unipc"), &spaced) > 0.01);
}

/// The largest difference between the values of two files of latents.
fn apart(one: &[u8], other: &[u8]) -> f32 {
    let (one, other) = (tensor(one, "latents").1, tensor(other, "latents").1);
    assert_eq!(one.len(), other.len());
    one.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn every_form_and_last_step_of_the_sde() {
    let f = pictures();
    let mut seen = Vec::new();
    for form in ["constant", "SBDM", "sbdm", "sigma", "linear", "decreasing", "increasing-decreasing"] {
        f.ok(&format!("generate a.fcdm -c 1 --steps 5 --sampler sde --diffusion-form {form} -o o --force --save-latents l.safetensors"));
        seen.push(f.bytes("l.safetensors"));
    }
    assert!(seen[1] == seen[2] && seen[3] == seen[4], "a name in either case, and two names of one form");
    for (a, b) in [(0, 1), (1, 3), (4, 5), (5, 6)] {
        assert!(apart(&seen[a], &seen[b]) > 0.01, "forms {a} and {b}: {}", apart(&seen[a], &seen[b]));
    }
    let mut seen = Vec::new();
    for last in ["none", "Mean", "mean", "Tweedie", "Euler"] {
        let line = format!(
            "generate a.fcdm -c 1 --steps 5 --sampler sde --last-step {last} --last-step-size 0.1 -o o --force --save-latents l.safetensors"
        );
        f.ok(&format!("{line} --sde-solver heun --diffusion-norm 0.5"));
        f.ok(&line);
        seen.push(f.bytes("l.safetensors"));
    }
    assert!(seen[1] == seen[2]);
    for (a, b) in [(0, 1), (2, 3), (2, 4)] {
        assert!(apart(&seen[a], &seen[b]) > 0.01, "last steps {a} and {b}: {}", apart(&seen[a], &seen[b]));
    }
    // On the linear path both formulas are x + (1-t) v; whether they also round alike is up to the values.
    assert!(apart(&seen[3], &seen[4]) < 1e-5, "{}", apart(&seen[3], &seen[4]));
}

#[test]
fn classes_are_named_as_people_type_them() {
    let f = pictures();
    let labels = |asked: &str| -> Vec<u64> {
        let summary = f.json(&format!("generate --steps 1 -o o -c {asked}"));
        summary["pictures"].as_array().unwrap().iter().map(|p| p["label"].as_u64().unwrap()).collect()
    };
    assert_eq!(labels("0-2,T-Shirt,SHOES"), [0, 1, 2, 9, 6]);
    for (asked, expected) in [
        ("tshirt", "found `tshirt`; did you mean `t-shirt`?"),
        ("shoe", "did you mean `shoes`?"),
        ("dresses", "did you mean `dress`?"),
        ("8-10", "expected a range within 0 to 9, found `8-10`"),
    ] {
        let line = f.fails(2, &format!("generate --steps 1 -o p -c {asked}"));
        assert!(line.contains(expected), "{line}");
    }
}

#[test]
fn a_seed_may_be_drawn() {
    let f = pictures();
    let ran = f.run("generate --steps 1 -c 0 -o o --seed -1");
    let seed: u64 = ran.err.lines().find_map(|l| l.strip_prefix("note: seed ")).unwrap().parse().unwrap();
    assert!(ran.code == Some(0) && f.path(&format!("o/000000-dress-seed{seed}.png")).exists(), "{ran:?}");
    assert!(f.misused("generate --seed -2").contains("or -1 for any"));
}
