//! `compile --quantize auto`: a type for every layer by what it costs in pictures.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::process::Folder;

const DIFFUSION: &str = "compile GOLDEN/eps8/0000003.pt --size 8x8 --batch 1";
const FLOW: &str = "compile GOLDEN/flow16/weights.safetensors --size 8x8 --batch 1";

/// What was chosen, as `inspect` shows it.
fn chosen(f: &Folder, model: &str) -> Json {
    f.json(&format!("inspect {model}.fcdm"))["report"]["quantisation"].clone()
}

fn bytes(f: &Folder, model: &str) -> u64 {
    f.bytes(&format!("{model}.fcdm")).len() as u64
}

fn db(v: &Json) -> f64 {
    v.as_f64().unwrap_or_else(|| panic!("expected dB, found {v}"))
}

#[test]
fn a_budget_is_kept_and_used() {
    let f = Folder::new();
    f.ok(&format!("{FLOW} --quantize i4 -o i4.fcdm"));
    f.ok(&format!("{FLOW} --quantize f16 -o f16.fcdm"));
    let budget = (bytes(&f, "i4") + bytes(&f, "f16")) / 2;
    let said = f.ok(&format!("{FLOW} --quantize auto --budget {budget} -o auto.fcdm"));
    assert!(said.contains("\nchosen: the best of ") && said.contains(" dB predicted, "), "{said}");
    assert!(bytes(&f, "auto") <= budget && bytes(&f, "auto") + budget / 10 > budget, "{} of {budget}", bytes(&f, "auto"));
    let report = chosen(&f, "auto");
    assert_eq!((&report["goal"]["budget"], &report["unit"]), (&Json::from(budget), &Json::from("psnr")));
    assert_eq!((&report["measured"]["pictures"], &report["measured"]["steps"]), (&Json::from(16), &Json::from(50)));
    assert!(db(&report["measured"]["worst_db"]) <= db(&report["measured"]["db"]));
    // What it says of a layer is how the layer is stored.
    let ir = f.ok("inspect auto.fcdm --ir");
    let layers = report["layers"].as_array().unwrap();
    assert!(layers.len() > 20);
    let mut types: BTreeMap<String, usize> = BTreeMap::new();
    for layer in layers {
        let (name, ty) = (layer["weight"].as_str().unwrap(), layer["type"].as_str().unwrap());
        let line = ir.lines().find(|l| l.starts_with(&format!("weight @{name} "))).unwrap_or_else(|| panic!("no {name}"));
        assert!(line.ends_with(&format!(" as {ty}")), "{ty}: {line}");
        *types.entry(ty.to_owned()).or_default() += 1;
    }
    assert!(types.len() > 1, "{types:?}");
    assert!(f.ok("inspect auto.fcdm -v").lines().any(|l| l.contains(" dB  ") && l.contains("pwconv1.weight")));
    f.ok("generate auto.fcdm -o o");
}

#[test]
fn a_budget_below_all_says_what_would_do() {
    let f = Folder::new();
    let e = f.fails(2, &format!("{DIFFUSION} --quantize auto --quiet --budget 20kB -o a.fcdm"));
    let least =
        e.strip_prefix("error: budget: expected at least ").and_then(|rest| rest.split_once(' ')).unwrap_or_else(|| panic!("{e}")).0;
    let f = Folder::new();
    f.ok(&format!("{DIFFUSION} --quantize auto --budget {least} -o a.fcdm"));
    let budget: u64 = least.parse().unwrap();
    assert!(bytes(&f, "a") <= budget && bytes(&f, "a") + 1024 > budget, "{} of {budget}", bytes(&f, "a"));
    assert_eq!(chosen(&f, "a")["unit"], "snr", "of latents");
}

#[test]
fn what_is_asked_for_in_decibels_is_measured() {
    let f = Folder::new();
    for wanted in [20.0, 35.0] {
        f.ok(&format!("{FLOW} --quantize auto-a8 --min-psnr {wanted} -o {wanted}.fcdm"));
        let report = chosen(&f, &wanted.to_string());
        assert!(db(&report["measured"]["db"]) >= wanted && report["goal"]["min_db"] == wanted, "{report}");
        assert!(report["layers"].as_array().unwrap().iter().any(|l| l["type"].as_str().unwrap().ends_with("a8")), "{report}");
    }
    assert!(bytes(&f, "20") < bytes(&f, "35"));
    let e = f.fails(2, &format!("{FLOW} --quantize auto --quiet --min-psnr 100 -o a.fcdm"));
    assert!(e.starts_with("error: min-psnr: expected at most ") && e.ends_with(", found 100"), "{e}");
}

/// What rules say is not measured, and what a table is in the place of is not there.
#[test]
fn with_rules_and_for_a_schedule() {
    let f = Folder::new();
    f.ok(&format!("{FLOW} --quantize auto --min-psnr 25 --type-rules latent=bf16 --steps 4 --classes 1,2 -o a.fcdm"));
    let report = chosen(&f, "a");
    let names: Vec<&str> = report["layers"].as_array().unwrap().iter().map(|l| l["weight"].as_str().unwrap()).collect();
    assert!(
        !names.is_empty() && !names.iter().any(|n| n.contains("latent") || n.contains("adaLN") || n.contains("embedder_1")),
        "{names:?}"
    );
    assert_eq!(report["measured"]["steps"], 4);
    let ir = f.ok("inspect a.fcdm --ir");
    assert!(ir.lines().any(|l| l.starts_with("weight @latent.0.pwconv1.weight ") && l.ends_with(" as bf16")), "{ir}");
}

#[test]
fn where_it_does_not_apply() {
    let f = Folder::new();
    f.copy(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/onnx")));
    for (line, expected) in [
        (format!("{DIFFUSION} --quantize i8 --budget 1MB"), "budget: expected --quantize auto or auto-a8, found i8"),
        (format!("{DIFFUSION} --min-psnr 30"), "min-psnr: expected --quantize auto or auto-a8, found f32"),
        ("compile fcdm_batch.onnx --size 8x12 --quantize auto".to_owned(), "quantize: auto: expected a checkpoint, found an ONNX model"),
        (
            "compile fcdm_batch.onnx --size 8x12 --quantize i8 --calibrate".to_owned(),
            "calibrate: expected a checkpoint, found an ONNX model",
        ),
        ("compile --vae GOLDEN/kl8 --size 8x8 --calibrate".to_owned(), "calibrate: expected a checkpoint, found an autoencoder alone"),
    ] {
        assert_eq!(f.fails(2, &format!("{line} -o a.fcdm")), format!("error: {expected}"), "{line}");
    }
    let refused = f.misused(&format!("{DIFFUSION} --quantize auto --budget 1MB --min-psnr 30 -o a.fcdm"));
    assert!(refused.contains("cannot be used with"), "{refused}");
    assert!(f.misused(&format!("{DIFFUSION} --quantize auto --min-psnr 0 -o a.fcdm")).contains("expected decibels, 1 to 100"));
}

/// Layers that stay floats by themselves may be forced; what that costs is said.
#[test]
fn what_is_forced_warns() {
    let f = Folder::new();
    let ran = f.run(&format!("{FLOW} --quantize i8 --type-rules final_layer=i4,latent.0=i4 -o a.fcdm"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let warnings: Vec<&str> = ran.err.lines().filter(|l| l.starts_with("warning: type-rules: ")).collect();
    let [warning] = warnings[..] else { panic!("expected one warning, found {warnings:?}") };
    let found = warning.strip_prefix("warning: type-rules: `final_layer.conv.weight` is of the few that stay floats by themselves, found i4; that alone leaves what is generated ");
    let db: f64 = found.and_then(|rest| rest.strip_suffix(" dB close")).unwrap_or_else(|| panic!("{warning}")).parse().unwrap();
    assert!(db > 0.0 && db < 60.0, "{warning}");
}
