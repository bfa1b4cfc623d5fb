//! ONNX models as people export them. What ONNX Runtime makes of them is in `tests/golden/cases/onnx.safetensors`
//! (`tests/reference/make_onnx_cases.py`).

use std::path::Path;

use fcdm_models::pictures::read_png;
use safetensors::SafeTensors;

use super::case;
use super::process::{Folder, Tensors};

/// The bytes of a tensor in the file of golden values.
fn golden(name: &str) -> Vec<u8> {
    let bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cases/onnx.safetensors")).unwrap();
    SafeTensors::deserialize(&bytes).unwrap().tensor(name).unwrap().data().to_vec()
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// Relative L2 distance.
#[track_caller]
fn close(found: &[f32], expected: &[f32], most: f64) {
    assert_eq!(found.len(), expected.len());
    let square = |v: &mut dyn Iterator<Item = f32>| v.map(|x| f64::from(x).powi(2)).sum::<f64>();
    let far = (square(&mut found.iter().zip(expected).map(|(a, b)| a - b)) / square(&mut expected.iter().copied())).sqrt();
    assert!(far < most, "relative L2 distance {far:.1e}");
}

/// The picture in a file is the golden one, but for how a byte is rounded.
#[track_caller]
fn picture(folder: &Folder, file: &str, name: &str) {
    let (found, expected) = (read_png(&folder.path(file)).unwrap().pixels, golden(name));
    assert_eq!(found.len(), expected.len());
    let most = found.iter().zip(&expected).map(|(&a, &b)| a.abs_diff(b)).max();
    assert!(most <= Some(2), "{most:?}");
}

fn tensor(bytes: &[u8], name: &str) -> Vec<f32> {
    f32s(SafeTensors::deserialize(bytes).unwrap().tensor(name).unwrap().data())
}

/// Compiles into an artifact that has the entry points of the shared checkpoint's, and draws the same picture, where that is.
fn compiles_as_its_checkpoint(folder: &Folder, line: &str) {
    folder.ok(line);
    let entries = |name: &str| {
        let mut entries = folder.json(&format!("inspect {name}"))["entries"].take();
        // Steps are called what the file calls them.
        let list = entries.as_array_mut().unwrap();
        list.iter_mut().for_each(|e| e["winograd"] = e["winograd"].as_array().unwrap().len().into());
        entries
    };
    let found = entries("o.fcdm");
    let names: Vec<_> = found.as_array().unwrap().iter().map(|e| (e["name"].clone(), e["rows"].clone())).collect();
    assert_eq!(serde_json::json!(names), serde_json::json!([["condition", 64], ["denoise", 1], ["denoise", 2]]));
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/checkpoints/clothing-pixel.pt");
    if !checkpoint.exists() {
        eprintln!("not compared: {} is not there", checkpoint.display());
        return;
    }
    folder.write("c.pt", std::fs::read(checkpoint).unwrap());
    folder.ok("compile c.pt -o c.fcdm --size 32x32 --batch 1,2");
    assert_eq!(found, entries("c.fcdm"));
    let [drawn, expected] = ["o", "c"].map(|name| {
        folder.ok(&format!("generate {name}.fcdm -c 1 --steps 3 --cfg-scale 2 -o {name}"));
        let file = folder.files().into_iter().find(|f| f.starts_with(&format!("{name}/")) && f.ends_with(".png")).unwrap();
        read_png(&folder.path(&file)).unwrap().pixels
    });
    assert!(drawn == expected);
}

/// A channel norm in plain ops, with constants as nodes.
#[test]
fn case_01_fcdm_with_a_plain_norm() {
    let Some(folder) = case("01-fcdm-onnx-plain-norm") else { return };
    compiles_as_its_checkpoint(&folder, "compile plain.onnx -o o.fcdm");
}

/// Constants follow from the size: a table that attention adds to.
#[test]
fn case_02_a_decoder_at_two_sizes() {
    let Some(folder) = case("02-vae-onnx-two-sizes") else { return };
    for z in ["z8", "z16", "z24"] {
        folder.ok(&format!("decode {z}.safetensors --vae dec.onnx -o {z}"));
        picture(&folder, &format!("{z}/000000.png"), &format!("02/{z}"));
    }
    // A whole picture and tiles, in one file.
    folder.ok("compile --vae dec.onnx --size 24x24 -o o.fcdm");
    folder.ok("decode z24.safetensors --vae o.fcdm -o again");
    picture(&folder, "again/000000.png", "02/z24");
}

#[test]
fn case_06_resize_of_operator_set_10() {
    let Some(folder) = case("06-resize-opset10-linear") else { return };
    folder.ok("run m.onnx --inputs in.safetensors --outputs o.safetensors");
    close(&tensor(&folder.bytes("o.safetensors"), "y"), &tensor(&folder.bytes("want.safetensors"), "y"), 2e-6);
}

/// Means and log-variances are not latents of twice as many channels.
#[test]
fn case_07_an_encoder_that_gives_moments() {
    let Some(folder) = case("07-vae-encoder-moments") else { return };
    let ran = folder.run("encode photos --vae enc.onnx --vae-scale 0.18215 -o lat --size 64");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("latents 4 x 16 x 16"), "{ran:?}");
    assert!(
        ran.err.contains("note: enc.onnx: the 8 channels of `latent_parameters` are means and log-variances: so it is called"),
        "{ran:?}"
    );
    for (file, name) in [("features", "07/mean"), ("deviations", "07/std")] {
        let bytes = folder.bytes(&format!("lat/latents_{file}/000000.npy"));
        let expected = f32s(&golden(name));
        close(&f32s(&bytes[bytes.len() - 4 * expected.len()..]), &expected, 1e-4);
    }
}

/// Channels that are left open are those of the first convolution.
#[test]
fn case_08_all_axes_dynamic() {
    let Some(folder) = case("08-vae-onnx-dynamic-channels") else { return };
    folder.ok("decode z.safetensors --vae dec.onnx --vae-scale 0.18215 -o o");
    picture(&folder, "o/000000.png", "08/z");
}

/// The one size that a file has is the one that it is made for; another is refused.
#[test]
fn case_09_a_size_of_its_own() {
    let Some(folder) = case("09-vae-onnx-static-size") else { return };
    folder.ok("decode z.safetensors --vae dec.onnx -o o");
    picture(&folder, "o/000000.png", "09/z");
    for (size, name) in [("--size 8x8", "a.fcdm"), ("", "b.fcdm")] {
        folder.ok(&format!("compile --vae dec.onnx {size} -o {name}"));
    }
    assert!(folder.bytes("a.fcdm") == folder.bytes("b.fcdm"));
    let line = folder.fails(2, "compile --vae dec.onnx --size 16x16 -o c.fcdm");
    let expected = "error: size: dec.onnx is the decoder of latents of 8x8, pictures of 32x32, for which it was exported, found latents of 16x16: ask \
                    for that size, or export it with dynamic height and width";
    assert_eq!(line, expected);
}

#[test]
fn case_10_operator_set_23() {
    let Some(folder) = case("10-opset-23") else { return };
    folder.ok("run m.onnx --inputs in.safetensors --outputs o.safetensors");
    close(&tensor(&folder.bytes("o.safetensors"), "y"), &f32s(&golden("10/y")), 2e-6);
    folder.write("z.safetensors", Tensors::default().f32("latents", &[1, 4, 16, 16], &f32s(&golden("10/latents"))).bytes());
    folder.ok("decode z.safetensors --vae dec.onnx -o o");
    picture(&folder, "o/000000.png", "10/picture");
}

/// A batch that is left open is of as many rows as are asked for.
#[test]
fn case_22_any_number_of_rows() {
    let Some(folder) = case("22-fcdm-onnx-dynamic-batch") else { return };
    compiles_as_its_checkpoint(&folder, "compile m.onnx -o o.fcdm");
    folder.ok("compile m.onnx -o p.fcdm --size 32x32 --batch 1,2");
    assert!(folder.bytes("o.fcdm") == folder.bytes("p.fcdm"));
}
