//! Pictures from latents and back: the model in the box, `decode`, `encode`, runs that begin from pictures.

use crate::process::{Folder, tensor};
use fcdm_models::pictures::{Picture, load, read_png, read_text, write_png};
use serde_json::json;

/// A folder with the model in the box as an artifact, for tests that name one.
fn boxed() -> Folder {
    let f = Folder::new();
    let weights = concat!(env!("CARGO_MANIFEST_DIR"), "/models/weights");
    let line = format!("compile {weights}/clothing/clothing-latent.safetensors --vae {weights}/taef2 --encoder --size 16x16 -o a.fcdm");
    f.ok(&format!("{line} --sampling 3,2,all"));
    f
}

fn picture(f: &Folder, name: &str) -> Picture {
    read_png(&f.path(name)).unwrap()
}

/// The greatest difference between values of f32, by their bytes.
fn apart(a: &[u8], b: &[u8]) -> f32 {
    let values = |bytes: &[u8]| -> Vec<f32> { bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect() };
    assert_eq!(a.len(), b.len());
    values(a).iter().zip(values(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Mean squared distance of bytes.
fn distance(a: &Picture, b: &Picture) -> f64 {
    let square = |(&a, &b): (&u8, &u8)| f64::from(a.abs_diff(b)).powi(2);
    a.pixels.iter().zip(&b.pixels).map(square).sum::<f64>() / a.pixels.len() as f64
}

#[test]
fn without_a_model_there_is_one_in_the_box() {
    let f = Folder::new();
    f.run("generate --steps 1 -c 0 -o warm");
    let s = f.json("generate --steps 2 -o o");
    assert_eq!((s["pictures"].as_array().unwrap().len(), &s["cfg_scale"]), (10, &json!(2.0)));
    assert!(f.files().contains(&"o/000009-t-shirt-seed9.png".to_owned()), "{:?}", f.files());
    // Five columns and two rows, with gaps of 2.
    let grid = picture(&f, "o/grid.png");
    assert_eq!((grid.width, grid.height), (5 * 130 + 2, 2 * 130 + 2));
    let text = read_text(&f.path("o/000004-pants-seed4.png"), "parameters").unwrap().unwrap();
    assert!(text.contains("Sampler: euler, CFG scale: 2, Seed: 4, Size: 128x128, Class: 4 (pants)"), "{text}");
}

#[test]
fn saved_latents_decode_to_the_same_pictures() {
    let f = boxed();
    f.ok("generate a.fcdm -c 1,2,3 --steps 3 -o o --save-latents l.safetensors");
    let s = f.json("decode l.safetensors --vae a.fcdm -o d --grid");
    assert_eq!((&s["tiles"], s["pictures"].as_array().unwrap().len()), (&json!(1), 3));
    for (name, other) in [("o/000000-class1-seed0.png", "d/000000.png"), ("o/000002-class3-seed2.png", "d/000002.png")] {
        assert_eq!(picture(&f, name), picture(&f, other), "{name}");
    }
    // Autoencoders by their weights, and the one in the box.
    let taef2 = concat!(env!("CARGO_MANIFEST_DIR"), "/models/weights/taef2/taef2_decoder.pth");
    f.ok(&format!("decode l.safetensors --vae {taef2} -o e"));
    f.ok("decode l.safetensors -o g");
    for folder in ["e", "g"] {
        assert_eq!(picture(&f, "d/000001.png"), picture(&f, &format!("{folder}/000001.png")), "{folder}");
    }
}

#[test]
fn memory_for_decoding_is_bounded() {
    let f = Folder::new();
    let weights = concat!(env!("CARGO_MANIFEST_DIR"), "/models/weights");
    let compile = format!("compile {weights}/clothing/clothing-latent.safetensors --vae {weights}/taef2 --size 32x32");
    f.ok(&format!("{compile} -o a.fcdm"));
    let names = |name: &str| -> Vec<String> {
        let entries = f.json(&format!("inspect {name}"))["entries"].clone();
        entries.as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("a.fcdm"), ["condition", "denoise", "denoise", "decode", "decode.16x16"]);
    f.ok("generate a.fcdm -c 1 --steps 1 -o o --save-latents l.safetensors");
    let whole = f.json("decode l.safetensors --vae a.fcdm -o d")["bytes"].as_u64().unwrap();
    let tiled = f.json(&format!("decode l.safetensors --vae a.fcdm -o t --max-memory {}", whole - 1));
    assert!(tiled["tiles"] == 9 && tiled["bytes"].as_u64().unwrap() < whole, "{tiled}");
    f.ok(&format!("{compile} -o b.fcdm --max-memory {}", whole - 1));
    assert_eq!(names("b.fcdm"), ["condition", "denoise", "denoise", "decode.16x16"]);
    assert_eq!(f.json("decode l.safetensors --vae b.fcdm -o u")["tiles"], 9);
    assert_eq!(picture(&f, "t/000000.png"), picture(&f, "u/000000.png"));
    let line = f.fails(2, &format!("{compile} -o c.fcdm --max-memory 1MB"));
    assert!(line.starts_with("error: max-memory: `decode` takes at least ") && line.ends_with(" bytes, found 1000000"), "{line}");
    let line = f.fails(2, "generate a.fcdm -c 1 --steps 1 -o n --max-memory 1MB");
    assert!(line.starts_with("error: a.fcdm: max-memory: decoding latents of 32x32 takes at least "), "{line}");
    assert!(!f.path("c.fcdm").exists() && !f.path("n").exists());
}

/// Two classes of coloured squares of several sizes.
fn photos(f: &Folder) {
    for (i, name) in ["in/red/1", "in/red/2", "in/blue/3"].iter().enumerate() {
        let (width, height) = (150 + 40 * i, 130);
        let pixel = |p: usize| [(p % width) as u8, if i == 2 { 20 } else { 200 }, (p / width) as u8];
        std::fs::create_dir_all(f.path(name).parent().unwrap()).unwrap();
        let p = Picture { width, height, channels: 3, pixels: (0..width * height).flat_map(pixel).collect() };
        write_png(&f.path(&format!("{name}.png")), &p, &[]).unwrap();
    }
}

#[test]
fn pictures_are_encoded_in_both_layouts() {
    let f = Folder::new();
    photos(&f);
    let s = f.json("encode in -o npy --size 64");
    assert_eq!((&s["pictures"], &s["classes"], &s["shape"]), (&json!(3), &json!(["blue", "red"]), &json!([32, 8, 8])));
    let features = f.bytes("npy/latents_features/000001.npy");
    let values = |bytes: &[u8]| bytes[bytes.len() - 4 * 32 * 64..].to_vec();
    // Already there: nothing is encoded again, and what is missing is.
    assert_eq!(f.json("encode in -o npy --size 64")["encoded"], 0);
    std::fs::remove_file(f.path("npy/latents_labels/000001.npy")).unwrap();
    assert_eq!(f.json("encode in -o npy --size 64")["encoded"], 1);
    assert!(f.bytes("npy/latents_features/000001.npy") == features);
    assert!(f.fails(1, "encode in -o npy --size 72").contains("latents.json: cannot write: it is of other latents"));

    f.ok("encode in -o zarr --size 64 --format zarr");
    let chunk = f.bytes("zarr/latents/0.0.0.0");
    assert!(chunk[4 * 32 * 64..2 * 4 * 32 * 64] == values(&features), "the same latents in either layout");
    assert!(f.files().contains(&"zarr/flipped_latents/0.0.0.0".to_owned()) && f.files().contains(&"zarr/.zgroup".to_owned()));

    // Samples of a posterior without deviation are its mean, of the picture or its mirror.
    f.ok("encode in -o samples --size 64 --samples");
    let flipped = values(&f.bytes("npy/latents_flipped_features/000001.npy"));
    let sample = values(&f.bytes("samples/latents_features/000001.npy"));
    assert!(sample == values(&features) || sample == flipped);
    assert!(apart(&flipped, &values(&features)) > 0.01 && !f.path("samples/latents_flipped_features").exists());
}

/// A store is of the pictures that it was begun with, and says of every latent which that is.
#[test]
fn latents_know_their_pictures() {
    let f = Folder::new();
    photos(&f);
    f.ok("encode in -o l --size 64");
    let rows = || -> Vec<serde_json::Value> {
        String::from_utf8(f.bytes("l/manifest.jsonl")).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    };
    let files: Vec<_> = rows().iter().map(|r| (r["index"].as_u64().unwrap(), r["file"].clone(), r["label"].clone())).collect();
    assert_eq!(files[0].0, 0);
    assert!(files.iter().all(|(_, file, label)| file.as_str().unwrap().starts_with(["blue/", "red/"][label.as_u64().unwrap() as usize])));
    assert!(rows().iter().all(|r| r["crop"].as_array().unwrap().len() == 4 && r["size"].as_array().unwrap().len() == 2));
    let description: serde_json::Value = serde_json::from_slice(&f.bytes("l/latents.json")).unwrap();
    assert_eq!(description["classes"], json!(["blue", "red"]));

    // A class that comes before the others would shift their numbers.
    std::fs::create_dir(f.path("in/black")).unwrap();
    std::fs::copy(f.path("in").join(files[0].1.as_str().unwrap()), f.path("in/black/new.png")).unwrap();
    let line = f.fails(1, "encode in -o l --size 64");
    assert!(line.contains("1 new (black/new.png), 3 of another class (blue/") && line.ends_with("; --force encodes all anew"), "{line}");
    assert_eq!(f.json("encode in -o l --size 64 --force")["encoded"], 4);
    assert_eq!((rows().len(), rows()[0]["file"].clone()), (4, json!("black/new.png")));
    std::fs::remove_dir_all(f.path("in/black")).unwrap();
    assert!(f.fails(1, "encode in -o l --size 64").contains("1 gone (black/new.png)"));

    // One bad picture does not move the others' numbers; small ones are counted; a text is left out.
    f.write("in/blue/bad.png", "no picture");
    f.write("in/blue/notes.txt", "text");
    let ran = f.run("encode in -o skipped --size 256 --skip-bad --json");
    let summary: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&summary["pictures"], summary["left_out"].as_array().unwrap().len()), (&json!(3), 1));
    assert!(summary["enlarged"].as_u64() > Some(0), "{summary}");
    assert!(ran.err.contains("note: 1 files that are no pictures are left out, the first is in/blue/notes.txt\n"), "{ran:?}");
    assert!(ran.err.contains("warning: 1 pictures are left out; in/blue/bad.png: expected a picture"), "{ran:?}");
    // Its classes name a model's.
    f.ok("compile GOLDEN/eps8/0000003.pt --size 8 -o plain.fcdm");
    let line = f.fails(2, "compile GOLDEN/eps8/0000003.pt --size 8 --class-names l/latents.json -o a.fcdm");
    assert!(line.contains("10") && line.contains("3"), "{line}");
}

/// With a deviation samples differ from the mean by noise that the seed decides.
#[test]
fn posteriors_are_sampled() {
    let f = Folder::new();
    photos(&f);
    let encode = |out: &str, more: &str| {
        f.ok(&format!("encode in -o {out} --vae GOLDEN/kl8 --size 64 --no-flip {more}"));
        let bytes = f.bytes(&format!("{out}/latents_features/000002.npy"));
        bytes[bytes.len() - 4 * 4 * 64..].to_vec()
    };
    let (mean, sample) = (encode("mean", ""), encode("sample", "--samples"));
    assert!(f.path("mean/latents_deviations/000002.npy").exists() && !f.path("sample/latents_deviations").exists());
    assert!(sample == encode("again", "--samples"));
    assert!(apart(&mean, &sample) > 0.01 && apart(&sample, &encode("other", "--samples --seed 1")) > 0.01);
}

#[test]
fn a_run_may_begin_from_a_picture_and_keep_a_part_of_it() {
    let f = boxed();
    f.ok("generate a.fcdm -c 4 --steps 8 -o o --save-latents l.safetensors");
    let name = "o/000000-class4-seed0.png";
    let origin = picture(&f, name);
    let from = |more: &str| -> Picture {
        f.ok(&format!("generate a.fcdm -c 4 --seed 9 --steps 8 -o i --force {more}"));
        picture(&f, "i/000000-class4-seed9.png")
    };
    let (little, much) = (from(&format!("--init-image {name} --strength 0.25")), from(&format!("--init-image {name} --strength 1")));
    assert!(distance(&little, &origin) < distance(&much, &origin), "{} {}", distance(&little, &origin), distance(&much, &origin));
    assert_eq!(from("--init-latents l.safetensors --strength 1"), from(""), "nothing of the picture is left");
    let text = read_text(&f.path("i/000000-class4-seed9.png"), "parameters").unwrap().unwrap();
    assert!(!text.contains("Init"), "{text}");

    // The upper half is kept.
    let pixels = (0..128 * 128).map(|p| if p < 64 * 128 { 0 } else { 255 }).collect();
    write_png(&f.path("mask.png"), &Picture { width: 128, height: 128, channels: 1, pixels }, &[]).unwrap();
    let filled = from(&format!("--init-image {name} --mask mask.png"));
    let half = filled.pixels.len() / 2;
    let lower = |p: &Picture| Picture { height: 64, pixels: p.pixels[half..].to_vec(), ..p.clone() };
    assert!(filled.pixels[..half] == origin.pixels[..half] && distance(&lower(&filled), &lower(&origin)) > 10.0);
    // Greys are one or the other, or mix; transparent is black; a larger picture is cut and scaled, and its mask with it.
    let grey = |value: u8| Picture { width: 128, height: 128, channels: 1, pixels: vec![value; 128 * 128] };
    write_png(&f.path("dark.png"), &grey(100), &[]).unwrap();
    let masked = |more: &str| from(&format!("--init-image {name} --mask dark.png {more}"));
    assert!(masked("") == origin && masked("--mask-mode soft") != origin);
    let clear: Vec<u8> = (0..128 * 128).flat_map(|_| [255, 255, 255, 0]).collect();
    let mut png = png::Encoder::new(std::fs::File::create(f.path("clear.png")).unwrap(), 128, 128);
    png.set_color(png::ColorType::Rgba);
    png.write_header().unwrap().write_image_data(&clear).unwrap();
    assert!(from(&format!("--init-image {name} --mask clear.png")) == origin);
    let mut wide = Picture { width: 160, height: 128, channels: 3, pixels: vec![9; 160 * 128 * 3] };
    for y in 0..128 {
        wide.pixels[(y * 160 + 16) * 3..][..128 * 3].copy_from_slice(&origin.pixels[y * 128 * 3..][..128 * 3]);
    }
    write_png(&f.path("wide.png"), &wide, &[]).unwrap();
    let ran = f.run("generate a.fcdm -c 4 --seed 9 --steps 8 -o i --force --init-image wide.png --strength 0.25");
    assert!(ran.err.contains("note: wide.png: of 160 x 128 pixels the middle 128 x 128, scaled to 128 x 128"), "{ran:?}");
    assert!(picture(&f, "i/000000-class4-seed9.png") == little);
    from(&format!("--init-image {name} --mask mask.png"));
    let text = read_text(&f.path("i/000000-class4-seed9.png"), "parameters").unwrap().unwrap();
    assert!(text.contains(", Init: 000000-class4-seed0.png, Strength: 1, Mask: yes"), "{text}");
}

#[test]
fn ways_between_pictures() {
    let f = boxed();
    f.ok("generate a.fcdm -c 1,2 --seeds 5 --steps 2 --interpolate 4 -o o");
    f.ok("generate a.fcdm -c 1,2 --seeds 5 --steps 2 -o ends");
    let files: Vec<String> = f.files().iter().filter_map(|n| n.strip_prefix("o/").map(str::to_owned)).collect();
    assert_eq!(
        (files.len(), &*files[0], &*files[1], &*files[4]),
        (5, "000000-class1-seed5.png", "000001-class1-seed5-to-class2-seed5-0.250.png", "000004-class2-seed5.png")
    );
    assert_eq!(picture(&f, "o/000000-class1-seed5.png"), picture(&f, "ends/000000-class1-seed5.png"));
    assert_eq!(picture(&f, "o/000004-class2-seed5.png"), picture(&f, "ends/000001-class2-seed5.png"));
    let at: Vec<Picture> = files.iter().map(|n| picture(&f, &format!("o/{n}"))).collect();
    let from_start: Vec<f64> = at.iter().map(|p| distance(p, &at[0])).collect();
    assert!(from_start.windows(2).all(|w| w[0] < w[1]), "{from_start:?}");
    let line = f.fails(2, "generate a.fcdm -c 1 --steps 2 --interpolate 4 -o n");
    assert!(line.starts_with("error: interpolate: expected at least two pictures"), "{line}");
}

#[test]
fn what_is_there_is_not_made_again() {
    let f = boxed();
    let line = "generate a.fcdm -c 1,2 --seeds 0-2 --steps 1 -o o --npz n.npz";
    f.ok(line);
    let before = f.bytes("n.npz");
    std::fs::remove_file(f.path("o/000003-class2-seed0.png")).unwrap();
    // Of other options.
    f.ok("generate a.fcdm -c 1 --seeds 1 --steps 2 -o other");
    std::fs::copy(f.path("other/000000-class1-seed1.png"), f.path("o/000001-class1-seed1.png")).unwrap();
    let refused = f.fails(1, &format!("{line} --resume"));
    assert!(refused.starts_with("error: o/000001-class1-seed1.png: a picture made with another model or other options is there; --force"));
    let s = f.json(&format!("{line} --resume --force"));
    assert_eq!((&s["sampled"], s["pictures"].as_array().unwrap().len()), (&json!(2), 6));
    assert!(f.bytes("n.npz") == before);
    assert_eq!(f.json(&format!("{line} --resume"))["sampled"], 0);
}

#[test]
fn previews_come_and_go() {
    let f = boxed();
    f.ok("generate a.fcdm -c 1,2 -b 2 --steps 4 --preview 2 -o o");
    assert_eq!(f.files().iter().filter(|n| n.starts_with("o/")).count(), 2);
    // A second, cheaper decoder.
    let weights = concat!(env!("CARGO_MANIFEST_DIR"), "/models/weights");
    let decoder = format!("{weights}/taef2/taef2_decoder.pth");
    f.ok(&format!("compile {weights}/clothing/clothing-latent.safetensors --vae {decoder} --preview-vae {decoder} --size 16x16 -o b.fcdm"));
    f.ok("generate b.fcdm -c 1 --steps 2 --preview 1 -o p");
    let (_, latents) = tensor(
        &{
            f.ok("generate b.fcdm -c 1 --steps 2 -o q --save-latents l.safetensors");
            f.bytes("l.safetensors")
        },
        "latents",
    );
    assert_eq!(latents.len(), 32 * 16 * 16);
    assert_eq!(load(&f.path("p/000000-class1-seed0.png")).unwrap(), picture(&f, "q/000000-class1-seed0.png"));
}
