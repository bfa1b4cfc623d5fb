//! Models that are compiled for a schedule and some classes alone: the table that they hold in the place of weights changes nothing but
//! what they can be asked for.

use crate::process::{Folder, Tensors, tensor};
use serde_json::json;

const DIFFUSION: &str = "compile GOLDEN/eps8/0000003.pt --size 8x12";
const FLOW: &str = "compile GOLDEN/flow16/weights.safetensors --size 8x12";

/// The states that a command generates.
fn states(f: &Folder, line: &str) -> Vec<f32> {
    f.ok(&format!("generate {line} -o o --force --save-latents l.safetensors"));
    tensor(&f.bytes("l.safetensors"), "latents").1
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let differ: f64 = a.iter().zip(b).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    (differ / b.iter().map(|&b| square(f64::from(b))).sum::<f64>()).sqrt()
}

/// Rounding apart: the table is made in one order of additions for every machine, where a condition in f32 takes that of the CPU.
#[track_caller]
fn the_same(a: &[f32], b: &[f32], what: &str) {
    let found = distance(a, b);
    assert!(found < 1e-4, "{what}: {found:e}");
}

#[test]
fn a_table_in_f32_changes_nothing() {
    for (compile, samplers) in [(DIFFUSION, &["ddim", "ddpm", "dpm++2m", "unipc"][..]), (FLOW, &["euler", "heun", "sde"])] {
        let f = Folder::new();
        f.ok(&format!("{compile} -o a.fcdm"));
        for sampler in samplers {
            f.ok(&format!("{compile} -o s.fcdm --steps 4 --sampler {sampler} --classes 7,1-2,1"));
            assert!(f.bytes("s.fcdm").len() < f.bytes("a.fcdm").len(), "{sampler}");
            for (asked, rest) in [("7", "--cfg-scale 3"), ("1,2", "--cfg-scale 1"), ("2,null", "--seeds 3-5 -b 2 --cfg-interval 0.3,0.9")] {
                let whole = states(&f, &format!("a.fcdm -c {asked} --steps 4 --sampler {sampler} {rest}"));
                let table = states(&f, &format!("s.fcdm -c {asked} --steps 4 --sampler {sampler} {rest}"));
                the_same(&table, &whole, &format!("{sampler} {asked}"));
                assert!(table == states(&f, &format!("s.fcdm -c {asked} {rest}")), "{sampler} {asked}: by itself");
            }
            // What it was compiled for is what it does where nobody says otherwise.
            let whole = states(&f, &format!("a.fcdm -c 1,2,7 --steps 4 --sampler {sampler}"));
            the_same(&states(&f, "s.fcdm"), &whole, sampler);
        }
    }
}

/// Equal weights give equal files, on every instruction set.
#[test]
fn equal_weights_give_equal_tables() {
    let f = Folder::new();
    let line = |to: &str| format!("{DIFFUSION} -o {to} --steps ddim5 --classes all");
    f.ok(&line("a.fcdm"));
    let mut scalar = f.command(&line("b.fcdm"));
    assert!(scalar.env("FCDM_ISA", "scalar").output().unwrap().status.success());
    assert!(f.bytes("a.fcdm") == f.bytes("b.fcdm"));
}

#[test]
fn other_types_have_tables_of_other_types() {
    let f = Folder::new();
    f.ok(&format!("{FLOW} -o a.fcdm"));
    let whole = states(&f, "a.fcdm -c 1,2 --steps 4");
    let types = [
        ("--type-rules ^condition[.]=f16", "f16", 1e-3),
        ("--quantize bf16", "f16", 3e-2),
        ("--quantize w8a8", "f16", 6e-2),
        ("--quantize i6", "i8", 0.3),
        ("--quantize i4 --type-rules ^condition[.]=i8,.*=f32", "i8", 3e-2),
    ];
    for (types, table, most) in types {
        f.ok(&format!("{FLOW} -o s.fcdm --steps 4 --classes 1,2 {types}"));
        let ir = f.ok("inspect s.fcdm --ir");
        let tables: Vec<&str> = ir.lines().filter(|line| line.starts_with("weight @condition.")).collect();
        assert!(
            !tables.is_empty() && tables.iter().all(|line| line.contains("f32[12,") && line.ends_with(&format!(" as {table}"))),
            "{types}: {tables:?}"
        );
        assert!(!ir.contains("t_embedder") && !ir.contains("adaLN") && !ir.contains("embedding_table"), "{ir}");
        let found = distance(&states(&f, "s.fcdm -c 1,2"), &whole);
        assert!(found > 0.0 && found < most, "{types}: {found:e}");
    }
    f.ok(&format!("{FLOW} -o s.fcdm --steps 4 --classes 1,2 --type-rules ^condition[.]=i8,latent=bf16"));
    assert!(f.ok("inspect s.fcdm --ir").lines().any(|line| line.starts_with("weight @condition.") && line.ends_with(" as i8")));
    f.ok("generate s.fcdm -o i8");
}

#[test]
fn what_is_said_of_it() {
    let f = Folder::new();
    let names: Vec<String> = (0..10).map(|i| format!("garment{i}")).collect();
    f.write("names.txt", names.join("\n"));
    let compile = format!("{DIFFUSION} --class-names names.txt -o a.fcdm --steps 4 --classes garment3,1");
    let said = f.ok(&compile);
    let lines = ["\nspecialised: for 4 steps of ddim, classes garment1, garment3 and none\n", " as a table of 4 steps x 3 classes, "];
    let inspected = f.ok("inspect a.fcdm");
    for text in [&said, &inspected] {
        assert!(lines.iter().all(|line| text.contains(line)) && text.contains(" as weights; table taken\n"), "{text}");
        assert!(text.contains("\nsampling: ddim, 4 steps, "), "{text}");
    }
    let s = f.json(&compile);
    let sizes = &s["condition"];
    assert_eq!((&sizes["times"], &sizes["classes"], &sizes["table"]), (&json!(4), &json!(3), &json!(true)));
    assert!(sizes["table_bytes"].as_u64() < sizes["weight_bytes"].as_u64());
    let about = f.json("inspect a.fcdm");
    let expected = json!({ "sampler": "ddim", "steps": "even4", "times": [999.0, 666.0, 333.0, 0.0], "classes": [1, 3, 10] });
    assert_eq!((&about["model"]["specialisation"], &about["report"]["condition"]), (&expected, sizes));
    let files = f.json("generate a.fcdm -o o");
    assert_eq!((&files["steps"], &files["sampler"]), (&json!(4), &json!("ddim")));
    // A model without a null class has none in its table.
    f.ok(&format!("{DIFFUSION} --no-null-class -o b.fcdm --steps 3 --sampler unipc --classes 10,0"));
    assert!(f.ok("inspect b.fcdm").contains("\nspecialised: for 3 steps of unipc, classes 0, 10\n"));
    f.ok("generate b.fcdm -o o2");
}

/// Where the table would be larger the weights stay, and all else with them.
#[test]
fn a_table_that_would_be_larger_is_not_taken() {
    let f = Folder::new();
    f.ok(&format!("{DIFFUSION} -o a.fcdm"));
    let said = f.ok(&format!("{DIFFUSION} -o b.fcdm --steps 200 --classes all"));
    assert!(said.contains(" as a table of 200 steps x 11 classes, ") && said.contains(" as weights; weights kept\n"), "{said}");
    assert!(!said.contains("specialised"), "{said}");
    let [a, b] = ["a.fcdm", "b.fcdm"].map(|name| f.json(&format!("inspect {name}")));
    assert_eq!((&a["model"], &a["entries"], &a["weight_bytes"]), (&b["model"], &b["entries"], &b["weight_bytes"]));
    assert_eq!(b["report"]["condition"]["table"], false);
    assert!(states(&f, "a.fcdm -c 5 --steps 7") == states(&f, "b.fcdm -c 5 --steps 7"));
}

/// What asks at no other times, by whatever name it goes, and what begins in the middle.
#[test]
fn all_that_asks_at_its_times_does() {
    let f = Folder::new();
    f.ok(&format!("{FLOW} -o a.fcdm"));
    f.ok(&format!("{FLOW} -o s.fcdm --steps 8 --classes 1,4"));
    for line in ["-c 1 --steps 4", "-c 4,1 --steps 2", "-c 1,4 --steps 8 --interpolate 3 --seed 5", "-c 4,null --steps 8 --interpolate 2"] {
        the_same(&states(&f, &format!("s.fcdm {line}")), &states(&f, &format!("a.fcdm {line}")), line);
    }
    f.ok("generate a.fcdm -c 1 --steps 2 -o p.png");
    for line in [
        "--init-image p.png --strength 0.5 --steps 8",
        "--init-image p.png --mask p.png --steps 4",
        "--init-image p.png --strength 0.25 --steps 8",
    ] {
        the_same(&states(&f, &format!("s.fcdm -c 1 {line}")), &states(&f, &format!("a.fcdm -c 1 {line}")), line);
    }
    f.ok(&format!("{DIFFUSION} -o d.fcdm --steps 4 --classes 1"));
    // Of other samplers too the steps are those that it was compiled for, and not what a bare number would mean to them.
    for line in ["--ddpm", "--sampler unipc", "--sampler dpm++2m --steps even4", "--steps 1", "--steps 2 --eta 0.5"] {
        f.ok(&format!("generate d.fcdm {line} -o d"));
        std::fs::remove_dir_all(f.path("d")).unwrap();
    }
}

#[test]
fn one_evaluation_and_measuring() {
    let f = Folder::new();
    f.ok(&format!("{DIFFUSION} -o a.fcdm"));
    f.ok(&format!("{DIFFUSION} -o s.fcdm --steps 4 --classes 1,4"));
    let x: Vec<f32> = (0..2 * 4 * 96).map(|i| (i % 13) as f32 / 7.0 - 1.0).collect();
    f.write("in", Tensors::default().f32("x", &[2, 4, 8, 12], &x).f32("t", &[2], &[333.0, 999.0]).f32("y", &[2], &[4.0, 10.0]).bytes());
    let result = |model: &str| {
        f.ok(&format!("run {model} --inputs in --outputs out"));
        tensor(&f.bytes("out"), "output").1
    };
    the_same(&result("s.fcdm"), &result("a.fcdm"), "run");
    let report = f.json("bench s.fcdm --runs 1 --seconds 0 --warmup 0 -t 1");
    assert_eq!(report["condition"]["rows"], 64);
    f.ok("bench s.fcdm --entry condition --runs 1 --seconds 0 --warmup 0 -t 1");
}

/// An export has the same table as its checkpoint.
#[test]
fn an_onnx_model() {
    let f = Folder::new();
    let options = "--steps 4 --classes 0,9 --size 8x12";
    f.ok(&format!("compile GOLDEN/eps8/weights.safetensors -o a.fcdm {options}"));
    f.ok(&format!("compile GOLDEN/onnx/fcdm_batch.onnx -o b.fcdm {options}"));
    let [a, b] = ["a.fcdm", "b.fcdm"].map(|name| f.json(&format!("inspect {name}")));
    assert_eq!((&a["model"], &a["report"]["condition"]), (&b["model"], &b["report"]["condition"]));
    assert!(states(&f, "a.fcdm --cfg-scale 2") == states(&f, "b.fcdm --cfg-scale 2"));
}
