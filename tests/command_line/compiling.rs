//! `compile` and `init`.

use crate::process::Folder;
use serde_json::json;

#[test]
fn pt_and_its_safetensors_twin_give_equal_artifacts() {
    let f = Folder::new();
    for level in ["-O0", "-O1"] {
        f.ok(&format!("compile GOLDEN/eps8/0000003.pt -o pt.fcdm --size 16x8 {level}"));
        f.ok(&format!("compile GOLDEN/eps8/0000003.safetensors -o st.fcdm --size 16x8 {level}"));
        assert!(f.bytes("pt.fcdm") == f.bytes("st.fcdm"), "{level}: the artifacts differ");
    }
    f.ok("compile GOLDEN/eps8/0000003.pt -o model.fcdm --size 16x8 --weights model");
    f.ok("compile GOLDEN/eps8/0000003.pt -o ema.fcdm --size 16x8 --weights ema");
    assert!(f.bytes("ema.fcdm") == f.bytes("pt.fcdm"), "auto takes ema");
    assert!(f.bytes("model.fcdm") != f.bytes("ema.fcdm"), "model and ema are not the same weights");
    assert_eq!(f.files(), ["ema.fcdm", "model.fcdm", "pt.fcdm", "st.fcdm"]);
}

#[test]
fn the_summary() {
    let f = Folder::new();
    let s = f.json("compile GOLDEN/eps8/0000003.pt -o a.fcdm --size 16x8 --batch 3,1,3");
    assert_eq!(s["output"], "a.fcdm");
    assert_eq!(s["config"]["depths"], json!([1, 1, 2, 1, 1]));
    assert_eq!(s["not_finite"], json!([]));
    let entries: Vec<_> =
        s["entries"].as_array().unwrap().iter().map(|e| (e["name"].as_str().unwrap(), e["rows"].as_u64().unwrap())).collect();
    assert_eq!(entries, [("condition", 64), ("denoise", 1), ("denoise", 3)]);
    let fired = |s: &serde_json::Value| s["passes"].as_array().unwrap().iter().filter(|p| p["fired"] == true).count();
    let plain = f.json("compile GOLDEN/eps8/0000003.pt -o b.fcdm --size 16x8 -O0");
    assert!(fired(&s) > fired(&plain), "-O0 does less");
    assert_eq!(s["weights_xxh3"], plain["weights_xxh3"]);
    let text = f.ok("compile GOLDEN/eps8/0000003.pt -o c.fcdm --size 16x8");
    assert!(text.starts_with("weights: ema of a PyTorch file"), "{text}");
    assert!(text.contains("\nmodel: FCDM, width 8, blocks [1, 1, 2, 1, 1], diffusion (eps and variance)\n"), "{text}");
    assert!(text.contains("\nclasses: 10 and the null class\n") && text.contains("\nwrote c.fcdm, "), "{text}");
    let ir = f.ok("compile GOLDEN/eps8/0000003.pt -o d.fcdm --size 16x8 --print-after-all");
    assert_eq!(ir.matches("; after ").count(), s["passes"].as_array().unwrap().len());
}

#[test]
fn what_is_recorded() {
    let f = Folder::new();
    let names: Vec<String> = (0..10).map(|i| format!("garment {i}")).collect();
    f.write("names.txt", format!("\u{feff}{}\r\n\r\n", names.join("\r\n")));
    let mut compile = f.command("compile GOLDEN/eps8/0000003.pt -o a.fcdm --size 16x8 --class-names names.txt --record-source --license");
    assert!(compile.arg("CC BY 4.0").status().unwrap().success());
    let about = f.json("inspect a.fcdm");
    assert_eq!(about["model"]["class_names"], json!(names));
    assert_eq!((&about["license"], &about["provenance"]["source"]), (&json!("CC BY 4.0"), &json!("0000003.pt")));
    assert!(about["provenance"]["arguments"].as_object().is_some_and(|a| !a.is_empty()), "{about:#}");
    assert_eq!((&about["model"]["height"], &about["model"]["width"]), (&json!(16), &json!(8)));
    f.ok("compile GOLDEN/eps8/0000003.pt -o b.fcdm --size 16x8 --no-null-class");
    let plain = f.json("inspect b.fcdm");
    assert_eq!(plain["license"], json!(null));
    assert_eq!(plain["provenance"]["source"], json!(null), "equal weights give equal files");
    assert_eq!((&plain["model"]["null_class"], &plain["model"]["num_classes"]), (&json!(false), &json!(11)));
}

/// FCDM-S at 32x32: all wide convolutions but up3_2, which has four tiles, and the first and the last, which are narrow.
#[test]
fn convolutions_by_winograd() {
    let f = Folder::new();
    f.ok("init FCDM-S --num-classes 10 -o s.safetensors");
    let text = f.ok("compile s.safetensors -o s.fcdm -v");
    let direct = f.json("compile s.safetensors -o direct.fcdm --no-winograd");
    let about = f.json("inspect s.fcdm");
    let denoise = |about: &serde_json::Value| about["entries"].as_array().unwrap().iter().find(|e| e["name"] == "denoise").unwrap().clone();
    assert_eq!(denoise(&direct)["winograd"], json!([]));
    assert_eq!(denoise(&about)["winograd"], json!(["down1_2", "down2_3", "up2_1", "output_layer"]));
    assert_eq!(about["weight_bytes"], direct["weight_bytes"], "weights are the same either way");
    let line = "denoise x1: 90 steps, 4 convolutions by Winograd, arena ";
    assert!(text.contains(line) && f.ok("inspect s.fcdm -v").contains(line), "{text}");
}

#[test]
fn the_artifact_is_a_safetensors_file() {
    let f = Folder::new();
    for net in ["eps8", "flow16", "wide20"] {
        f.ok(&format!("compile GOLDEN/{net}/weights.safetensors -o {net}.fcdm --size 8x12"));
        let bytes = f.bytes(&format!("{net}.fcdm"));
        let (length, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!((length + 8) % 64, 0, "the data begin aligned");
        assert_eq!(header.metadata().as_ref().unwrap()["fcdm.version"], "2");
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(tensors.len() as u64, f.json(&format!("inspect {net}.fcdm"))["tensors"].as_u64().unwrap());
    }
}

#[test]
fn without_an_output_it_is_named_after_the_checkpoint() {
    let f = Folder::new();
    f.ok("compile GOLDEN/eps8/0000003.pt --size 4x4 --batch 1");
    assert_eq!(f.files(), ["0000003.fcdm"]);
}

#[test]
fn fresh_weights_compile() {
    let f = Folder::new();
    let made = f.json("init FCDM-S -o s.safetensors --seed 7 --num-classes 5 --in-channels 3 --velocity");
    let counted = f.json("inspect s.safetensors");
    let sum: u64 = counted["parameters"].as_array().unwrap().iter().map(|p| p[1].as_u64().unwrap()).sum();
    assert_eq!(made["parameters"].as_u64(), Some(sum));
    f.ok("init fcdm-s -o again.safetensors --seed 7 --num-classes 5 --in-channels 3 --velocity");
    assert!(f.bytes("s.safetensors") == f.bytes("again.safetensors"), "a seed gives the same weights");
    let out = f.ok("compile s.safetensors -o s.fcdm --size 8x8 --batch 1");
    assert!(out.contains("model: FCDM-S, flow matching (velocity)\n") && out.contains("\nclasses: 5 and the null class\n"), "{out}");
    assert_eq!(f.files(), ["again.safetensors", "s.fcdm", "s.safetensors"]);
}

/// Half the bytes, and pictures that differ little: see [`crate::numbers`] for how much.
#[test]
fn half_weights() {
    let f = Folder::new();
    let size = |name: &str| f.bytes(name).len();
    for precision in ["f32", "bf16", "f16"] {
        f.ok(&format!("compile GOLDEN/eps8/0000003.pt -o {precision}.fcdm --size 16x8 --precision {precision}"));
        let text = f.ok(&format!("inspect {precision}.fcdm"));
        assert!(text.contains(&format!("\nprecision: {precision}\n")), "{text}");
    }
    assert!(size("bf16.fcdm") < size("f32.fcdm") && size("f16.fcdm") < size("f32.fcdm"));
    let refused = f.misused("compile GOLDEN/eps8/0000003.pt -o x.fcdm --size 16x8 --precision int3");
    assert!(refused.contains("int3") && refused.contains("bf16"), "{refused}");
}

/// The trainer's arguments say 256 pixels; the golden network has four channels, of latents at 1/8.
#[test]
fn the_size_is_that_of_the_pictures_trained_on() {
    let f = Folder::new();
    let summary = f.ok("compile GOLDEN/eps8/0000003.pt -o a.fcdm");
    assert!(summary.contains("\nsize: 32x32 latents, no decoder\n"), "{summary}");
    let ran = f.run("compile GOLDEN/eps8/0000003.pt -o a.fcdm --size 8");
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (Some(0), "warning: size: 8x8 makes pictures of 64x64; the checkpoint was trained on 256x256\n")
    );
    assert!(f.ok("inspect GOLDEN/eps8/0000003.pt").contains("trained on: pictures of 256x256\n"));
}
