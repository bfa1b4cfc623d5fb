//! `run` and `bench` of ONNX models, by either engine.

use fcdm_models::pictures::{Picture, write_png};
use safetensors::SafeTensors;

use crate::process::{Folder, Tensors};

fn floats(bytes: &[u8], name: &str) -> (Vec<usize>, Vec<f32>) {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let view = file.tensor(name).unwrap();
    (view.shape().to_vec(), view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect())
}

fn inputs() -> Vec<u8> {
    let x: Vec<f32> = (0..768).map(|i| (i % 37) as f32 / 20.0 - 0.9).collect();
    Tensors::default().f32("x", &[2, 4, 8, 12], &x).i64("t", &[2], &[437, 5]).i64("y", &[2], &[1, 3]).bytes()
}

#[test]
fn both_engines_run_a_model() {
    let f = Folder::new();
    f.write("in", inputs());
    let said = f.json("run GOLDEN/onnx/fcdm2.onnx --inputs in --outputs ours -t 2");
    assert_eq!(said["shapes"]["out"], serde_json::json!([2, 8, 8, 12]));
    let said = f.ok("run GOLDEN/onnx/fcdm2.onnx --inputs in --outputs theirs --backend tract");
    assert_eq!(said, "wrote out [2, 8, 8, 12] to theirs\n");
    let ((shape, ours), (other, theirs)) = (floats(&f.bytes("ours"), "out"), floats(&f.bytes("theirs"), "out"));
    assert_eq!(shape, other);
    let square = |v: &mut dyn Iterator<Item = f32>| v.map(|x| f64::from(x).powi(2)).sum::<f64>();
    let far = square(&mut ours.iter().zip(&theirs).map(|(a, b)| a - b)) / square(&mut theirs.iter().copied());
    assert!(far.sqrt() < 1e-5, "relative L2 distance {:.1e}", far.sqrt());
}

#[test]
fn both_engines_are_timed() {
    let f = Folder::new();
    for (engine, threads) in [("fcdm", 2), ("tract", 1)] {
        let line = format!("bench GOLDEN/onnx/ops/conv.onnx --backend {engine} --runs 2 --warmup 0 --seconds 0 -t 2");
        let said = f.json(&line);
        assert_eq!((&said["engine"], &said["threads"], &said["times"]["runs"]), (&engine.into(), &threads.into(), &2.into()));
        assert!(said["times"]["median_s"].as_f64().unwrap() > 0.0);
        assert!(f.ok(&line).contains(&format!("{engine}, {threads} threads: ")));
    }
}

#[test]
fn extents_can_be_given() {
    let f = Folder::new();
    let bench = "bench GOLDEN/onnx/bad/dynamic.onnx --runs 1 --warmup 0 --seconds 0";
    assert!(
        f.fails(3, bench).ends_with("input `x`: expected static extents, found the symbolic dimension `batch`; give the input's shape")
    );
    f.ok(&format!("{bench} --shape x=5x3"));
    assert!(f.fails(3, &format!("{bench} --shape x=5x4")).ends_with("`x`: expected extents [batch,3], found [5, 4]"));
    assert!(f.fails(3, &format!("{bench} --shape z=1")).ends_with("`z`: expected one of the inputs [\"x\"]"));
    assert!(f.misused(&format!("{bench} --shape x=5*3")).contains("expected NAME=EXTENTS"));
}

#[test]
fn what_does_not_fit_is_refused() {
    let f = Folder::new();
    f.write("in", inputs());
    let run = "run GOLDEN/onnx/fcdm2.onnx --outputs out --inputs";
    let tensors = || Tensors::default().f32("x", &[2, 4, 8, 12], &[0.5; 768]).i64("t", &[2], &[0, 1]);
    f.write("label", tensors().i64("y", &[2], &[1, 99]).bytes());
    let line = f.fails(3, &format!("{run} label"));
    assert!(line.starts_with("error: input `y`: expected labels from 0 to ") && line.ends_with(", found 99"), "{line}");
    f.write("rows", tensors().i64("y", &[3], &[1, 0, 1]).bytes());
    assert!(f.fails(3, &format!("{run} rows")).ends_with("fcdm2.onnx: `y`: expected extents [2], found [3]"));
    f.write("fewer", tensors().bytes());
    assert!(f.fails(3, &format!("{run} fewer")).contains("`y`"));
    f.ok("compile GOLDEN/eps8/0000003.pt -o a.fcdm --size 8x12");
    let line = f.fails(2, "run a.fcdm --inputs in --outputs out --backend tract");
    assert_eq!(line, "error: --backend: an artifact has one already; it is for ONNX models");
    f.fails(2, "bench a.fcdm --backend fcdm");
}

/// What an encoder's file does not say, the decoder beside it does; what was decided is said.
#[test]
fn an_encoder_with_its_decoder() {
    let f = Folder::new();
    for name in ["encoder_unsaid", "decoder"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/onnx/vae/{name}.onnx"));
        f.write(&format!("{name}.onnx"), std::fs::read(path).unwrap());
    }
    std::fs::create_dir_all(f.path("in/a")).unwrap();
    write_png(&f.path("in/a/x.png"), &Picture { width: 8, height: 8, channels: 3, pixels: (0..192).collect() }, &[]).unwrap();
    let line = f.fails(3, "encode in --vae encoder_unsaid.onnx -o lat --size 8");
    assert!(line.contains("8 channels may be latents, or means and log-variances of 4: give the decoder with it"), "{line}");
    let ran = f.run("encode in --vae encoder_unsaid.onnx,decoder.onnx -o lat --size 8");
    let note = "note: encoder_unsaid.onnx: the 8 channels of `out` are means and log-variances: the decoder takes 4\n";
    assert!(ran.code == Some(0) && ran.err == note && ran.out.contains("to latents 4 x 4 x 4"), "{ran:?}");
    let ran = f.run("compile --vae encoder_unsaid.onnx,decoder.onnx --encoder --size 4x4 -o o.fcdm");
    assert!(ran.code == Some(0) && ran.err == note && ran.out.contains("autoencoder: ONNX, 4 channels at 1/2"), "{ran:?}");
}

/// An exported FCDM is compiled into what its checkpoint is compiled into, at the size that it was exported for.
#[test]
fn an_exported_fcdm_generates_as_its_checkpoint() {
    let f = Folder::new();
    f.ok("compile GOLDEN/onnx/fcdm1.onnx -o onnx.fcdm");
    f.ok("compile GOLDEN/eps8/weights.safetensors -o ckpt.fcdm --size 8x12");
    let [onnx, ckpt] = ["onnx", "ckpt"].map(|name| f.json(&format!("inspect {name}.fcdm")));
    assert_eq!(onnx["model"], ckpt["model"]);
    assert_eq!(onnx["entries"], ckpt["entries"]);
    for name in ["onnx", "ckpt"] {
        f.ok(&format!("generate {name}.fcdm -c 1,2 --steps 4 --cfg-scale 2 -o o --save-latents {name}.safetensors"));
    }
    assert!(f.bytes("onnx.safetensors") == f.bytes("ckpt.safetensors"));
    let line = f.fails(2, "compile GOLDEN/onnx/fcdm1.onnx -o other.fcdm --size 16x16");
    assert_eq!(line, "error: size: the ONNX model was exported for 8x12, found 16x16");
    let line = f.fails(3, "compile GOLDEN/onnx/ops/conv.onnx -o other.fcdm");
    assert!(line.contains("conv.onnx: expected the inputs x [N,C,H,W], t [N], y [N] of an FCDM and one image, found "), "{line}");
    let line = f.fails(3, "compile GOLDEN/eps8/weights.safetensors --vae GOLDEN/onnx/fcdm1.onnx -o other.fcdm");
    assert!(line.contains("expected one input, a picture or latents, found [\"x\", \"t\", \"y\"]"), "{line}");
}
