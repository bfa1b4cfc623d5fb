//! `compile --quantize`: sizes, rules, what is refused, the same bytes of every instruction set, and what calibration gains.
#![allow(clippy::unwrap_used)]

use serde_json::Value as Json;

use crate::process::{Folder, Tensors, finish, tensor};

const CHECKPOINT: &str = "GOLDEN/eps8/0000003.pt --size 16x8 --batch 1";

fn compile(f: &Folder, options: &str, to: &str) -> String {
    f.ok(&format!("compile {CHECKPOINT} {options} -o {to}.fcdm"))
}

/// Latents of three pictures.
fn latents(f: &Folder, model: &str, isa: Option<&str>, threads: usize) -> Vec<f32> {
    let line = format!("generate {model}.fcdm -c 1,2,3 --steps 4 -t {threads} -o o --force --save-latents {model}.safetensors");
    let mut command = f.command(&line);
    if let Some(isa) = isa {
        command.env("FCDM_ISA", isa);
    }
    let ran = finish(&line, command);
    assert_eq!(ran.code, Some(0), "{line}: {}", ran.err);
    tensor(&f.bytes(&format!("{model}.safetensors")), "latents").1
}

/// Signal to noise, in decibels.
fn snr(of: &[f32], to: &[f32]) -> f64 {
    let square = |v: f64| v * v;
    let signal: f64 = of.iter().map(|&v| square(f64::from(v))).sum();
    let noise: f64 = of.iter().zip(to).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    10.0 * (signal / noise).log10()
}

#[test]
fn fewer_bits_make_smaller_files_that_say_so() {
    let f = Folder::new();
    for ty in ["f32", "f16", "i8", "i6", "i4", "w8a8", "q8_0"] {
        let text = compile(&f, &format!("--quantize {ty}"), ty);
        assert_eq!(text.contains("; the same bytes on every CPU"), !ty.starts_with('f'), "{text}");
        assert_eq!(text.contains(" products in whole numbers"), ty == "w8a8", "{text}");
        // What the tensors' shapes say is what was written.
        let json: Json = f.json(&format!("inspect {ty}.fcdm"));
        let (weights, file) = (json["weight_bytes"].as_u64().unwrap(), json["file_bytes"].as_u64().unwrap());
        assert_eq!(file, f.bytes(&format!("{ty}.fcdm")).len() as u64);
        assert!(weights < file && json["precision"].as_str().unwrap().contains(if ty.starts_with('f') { ty } else { "i" }), "{json}");
    }
    let size = |ty: &str| f.bytes(&format!("{ty}.fcdm")).len();
    let falling = ["f32", "f16", "i8", "i6", "i4"];
    assert!(falling.windows(2).all(|pair| size(pair[0]) > size(pair[1])), "{:?}", falling.map(size));
    assert!(f.bytes("q8_0.fcdm") == f.bytes("i8.fcdm"), "stable-diffusion.cpp's name for it");
}

#[test]
fn rules_are_of_names_and_the_first_counts() {
    let f = Folder::new();
    let by_type = |options: &str| {
        compile(&f, options, "a");
        f.ok("inspect a.fcdm --ir")
    };
    let ir = by_type(r"--quantize i8 --type-rules latent.*pwconv1=i4,latent.*=f16,^output_layer=f32");
    let stored_in = |ir: &str, name: &str| {
        let line = ir.lines().find(|l| l.starts_with(&format!("weight @{name} "))).unwrap_or_else(|| panic!("no {name}"));
        line.rsplit_once(" as ").map_or("f32", |(_, ty)| ty).to_owned()
    };
    let stored = |name: &str| stored_in(&ir, name);
    assert_eq!(stored("latent.0.pwconv1.weight"), "i4");
    assert_eq!(stored("latent.0.pwconv2.weight"), "f16");
    assert_eq!(stored("output_layer.weight"), "f32");
    assert_eq!(stored("encoder_level_1.0.pwconv1.weight"), "i8");
    assert_eq!(stored("encoder_level_1.0.dwconv.weight"), "f16");
    assert_eq!(stored("t_embedder_1.mlp.0.weight"), "i8");
    assert_eq!(stored("x_embedder.weight"), "f16");
    // No bias is ever stored in fewer bits.
    assert!(!ir.lines().any(|l| l.starts_with("weight @") && l.contains(".bias") && l.contains(" as ")), "{ir}");
    // Few bits are for where many weights are: what works at the image's full size is not there.
    let ir = by_type("--quantize i4");
    for (name, ty) in [
        ("latent.0.pwconv1", "i4"),
        ("encoder_level_2.0.pwconv2", "i4"),
        ("decoder_level_1.0.pwconv1", "i6"),
        ("decoder_level_1.0.adaLN_modulation.1", "i6"),
        ("output_layer", "i8"),
        ("down1_2.conv.0", "i8"),
        ("up2_1.conv.0", "i6"),
        ("up3_2.conv.0", "i4"),
        ("reduce_chans_2", "i8"),
        ("y_embedder_3.embedding_table", "i8"),
        ("final_layer.conv", "f16"),
    ] {
        assert_eq!(stored_in(&ir, &format!("{name}.weight")), ty, "{name}");
    }
}

/// The checkpoint's 131 MB of f32 are mapped and its layers are made one after the other: what is written to is less than what is read,
/// whatever the encoding. A thread's stack counts as well.
#[cfg(target_os = "linux")]
#[test]
fn memory_is_that_of_some_layers() {
    let f = Folder::new();
    f.ok("init FCDM-S -o s.safetensors");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let limit = format!("-d {}", 80_000 + 4 * 1024 * threads);
    for ty in ["i8", "w4a8"] {
        let line = format!("compile s.safetensors --quantize {ty} --batch 1 -o {ty}.fcdm");
        let ran = finish(&line, f.limited(&line, &limit));
        assert_eq!(ran.code, Some(0), "{line} within ulimit {limit}: {}", ran.err);
    }
}

#[test]
fn what_is_no_type_or_rule() {
    let f = Folder::new();
    let refused = |options: &str| f.misused(&format!("compile {CHECKPOINT} {options} -o a.fcdm"));
    assert!(refused("--quantize int3").contains("expected a type (f32, f16, bf16, i8, i6, i4, w8a8, w6a8, w4a8), found `int3`"));
    assert!(refused("--type-rules latent=i3").contains("type-rules: expected a type (f32, "));
    assert!(refused("--type-rules latent").contains("type-rules: expected PATTERN=TYPE, such as latent.*=i4, found `latent`"));
    assert!(refused("--type-rules (=i4").contains("expected a regular expression in the rule `(=i4`: "));
    let nothing = f.run(&format!("compile {CHECKPOINT} --type-rules latent=i4,nowhere=i4 -o a.fcdm"));
    assert_eq!(nothing.code, Some(2));
    assert!(nothing.err.contains("type-rules: expected patterns of weights' names (see inspect), found `nowhere=i4`"), "{nothing:?}");
    assert!(f.files().is_empty());
}

/// Whatever multiplies.
#[test]
fn the_same_bytes_of_every_instruction_set() {
    let f = Folder::new();
    for ty in ["i8", "w8a8", "w4a8"] {
        compile(&f, &format!("--quantize {ty}"), ty);
        let best = latents(&f, ty, None, 2);
        assert!(best.iter().all(|v| v.is_finite()));
        for isa in fcdm_runtime::simd::Isa::NAMES.iter().filter(|isa| fcdm_runtime::simd::Isa::named(isa).is_some()) {
            let other = latents(&f, ty, Some(isa), 3);
            assert!(best.iter().zip(&other).all(|(a, b)| a.to_bits() == b.to_bits()), "{ty}: {isa} differs");
        }
    }
}

/// One state at one time for one class, as in a batch.
#[test]
fn a_row_alone_is_the_row_among_others() {
    let f = Folder::new();
    for ty in ["i8", "i4", "w8a8"] {
        compile(&f, &format!("--quantize {ty}"), "a");
        let generate = |classes: &str| {
            f.ok(&format!("generate a.fcdm -c {classes} --steps 1 --cfg-scale 1 -o o --force --save-latents l"));
            tensor(&f.bytes("l"), "latents").1
        };
        let (alone, among) = (generate("3"), generate("3,0,9"));
        assert!(alone == among[..alone.len()] && among.len() == 3 * alone.len(), "{ty}");
    }
}

/// `c.safetensors`: the checkpoint with some of its values changed.
fn changed(f: &Folder, change: impl Fn(&str, &mut [f32])) {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/eps8/weights.safetensors");
    let bytes = std::fs::read(golden).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut all = Tensors::default();
    for (name, view) in file.tensors() {
        let mut values: Vec<f32> = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        change(&name, &mut values);
        all = all.f32(&name, view.shape(), &values);
    }
    f.write("c.safetensors", all.bytes());
}

/// What is not finite cannot be calibrated for, nor measured.
#[test]
fn calibration_of_what_is_not_finite() {
    let f = Folder::new();
    changed(&f, |name, values| {
        if name == "latent.0.pwconv1.weight" {
            values[7] = f32::NAN;
        }
    });
    let refused = f.fails(3, "compile c.safetensors --size 8x8 --quantize i8 --calibrate -o a.fcdm --quiet");
    assert!(refused.contains("expected finite inputs of `") && refused.ends_with("` while it generates, found others"), "{refused}");
    let refused = f.fails(3, "compile c.safetensors --size 8x8 --quantize auto -o a.fcdm --quiet");
    assert!(refused.contains("expected finite pictures of its own, found others"), "{refused}");
}

/// One channel that is far larger than all others is what networks of this kind have failed by in eight bits elsewhere.
#[test]
fn a_channel_that_stands_out() {
    let f = Folder::new();
    changed(&f, |name, values| {
        if name.ends_with(".grn.gamma") {
            values[3] *= 100.0;
        }
    });
    let latents = |ty: &str| {
        f.ok(&format!("compile c.safetensors --size 16x8 --batch 1 --quantize {ty} -o {ty}.fcdm"));
        latents(&f, ty, None, 2)
    };
    let floats = latents("f32");
    for ty in ["i8", "w8a8"] {
        let found = snr(&floats, &latents(ty));
        println!("{ty}: {found:.1} dB");
        assert!(found >= 25.0, "{ty}: {found:.1} dB");
    }
}

/// Calibration takes the checkpoint and nothing else, and makes the same file again. A network of random weights, whose pixels are all alike,
/// gains nothing by it; that products do is tested beside the rounding, and what trained ones gain stands in BENCHMARKS.md.
#[test]
fn calibrated_weights_make_the_same_pictures() {
    let f = Folder::new();
    compile(&f, "--quantize f32", "f32");
    let floats = latents(&f, "f32", None, 2);
    for (ty, least) in [("i8", 25.0), ("w8a8", 22.0), ("i4", 5.0)] {
        compile(&f, &format!("--quantize {ty}"), "plain");
        compile(&f, &format!("--quantize {ty} --calibrate"), "calibrated");
        let [plain, calibrated] = ["plain", "calibrated"].map(|model| snr(&floats, &latents(&f, model, None, 2)));
        println!("{ty}: {plain:.1} dB, calibrated {calibrated:.1} dB");
        assert!(calibrated > least && plain > least, "{ty}: {plain:.1} dB, calibrated {calibrated:.1} dB");
        assert!(f.bytes("plain.fcdm") != f.bytes("calibrated.fcdm"));
        assert_eq!(f.bytes("plain.fcdm").len(), f.bytes("calibrated.fcdm").len());
    }
    // Trajectories are the model's own, whatever schedule it is for.
    compile(&f, "--quantize i8 --calibrate --steps 4 --classes 1,2", "for_four_steps");
    f.ok("generate for_four_steps.fcdm -o four");
    compile(&f, "--quantize i4 --calibrate", "again");
    assert!(f.bytes("again.fcdm") == f.bytes("calibrated.fcdm"), "the same weights and options make the same file");
}
