//! `inspect` and `opt`.

use crate::process::{Folder, finish};
use fcdm_ir::text::parse_module;
use std::io::Write;
use std::process::Stdio;

#[test]
fn an_artifact() {
    let f = Folder::new();
    f.ok("compile GOLDEN/flow16/weights.safetensors -o a.fcdm --size 24x16 --batch 1,2");
    let text = f.ok("inspect a.fcdm -v");
    assert!(
        text.contains(
            "FCDM: width 16, blocks [1, 2, 2, 2, 1], ratio 3, 10 classes and the null class, 3 channels at 24x16, predicts velocity"
        ),
        "{text}"
    );
    let ir = f.ok("inspect a.fcdm --ir");
    let (module, _) = parse_module("a.fcdm", &ir).unwrap();
    let names: Vec<&str> = module.functions.iter().map(|f| f.name()).collect();
    assert_eq!(names, ["weights", "condition.64", "denoise.1", "denoise.2"]);
    assert_eq!(module.to_string(), ir);
    let plan = f.ok("inspect a.fcdm --plan");
    assert!(plan.starts_with("entry condition rows=64 arena="), "{plan}");
    assert_eq!(plan.lines().filter(|l| l.starts_with("entry ")).count(), 3);
    assert!(!plan.contains('?'), "every port has a name");
    for (line, name) in [("--dot", "denoise.1"), ("--dot condition.64", "condition.64")] {
        let dot = f.ok(&format!("inspect a.fcdm {line}"));
        assert!(dot.starts_with("digraph") && dot.contains(name) && dot.trim_end().ends_with('}'), "{dot}");
    }
    assert!(f.fails(2, "inspect a.fcdm --dot nosuch").contains("denoise.2, found `nosuch`"));
    let about = f.json("inspect a.fcdm");
    assert_eq!(about["file_bytes"].as_u64().unwrap() as usize, f.bytes("a.fcdm").len());
}

#[test]
fn checkpoints() {
    let f = Folder::new();
    let text = f.ok("inspect GOLDEN/eps8/0000003.pt -v");
    assert!(text.contains("format: PyTorch\n") && text.contains("weights: ema\n"), "{text}");
    assert!(
        text.contains("FCDM: width 8, blocks [1, 1, 2, 1, 1], expanded [24, 48, 96], 10 classes and the null class, 4 channels"),
        "{text}"
    );
    let (pt, st) = (f.json("inspect GOLDEN/eps8/0000003.pt"), f.json("inspect GOLDEN/eps8/0000003.safetensors"));
    assert_eq!((&pt["config"], &pt["parameters"]), (&st["config"], &st["parameters"]));
    assert!(f.fails(2, "inspect GOLDEN/eps8/0000003.pt --plan").contains("--plan and --dot are for artifacts"));
}

/// What a user reads: nothing of how a plan is made, and no line that a terminal breaks. `--verbose` tells the rest.
#[test]
fn what_is_said_by_default() {
    let f = Folder::new();
    let names: Vec<String> = (0..10).map(|i| format!("photograph of kind {i}")).collect();
    f.write("names.txt", names.join("\n"));
    let compiled = f.ok("compile GOLDEN/flow16/weights.safetensors -o a.fcdm --size 24x16 --class-names names.txt --sampling 20,2,all");
    let inspected = f.ok("inspect a.fcdm");
    for text in [&compiled, &inspected] {
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        for inside in ["arena", "passes", "Winograd", "checksum", "xxh3"] {
            assert!(!text.contains(inside), "{inside}: {text}");
        }
        for line in [
            "model: FCDM, width 16, blocks [1, 2, 2, 2, 1], flow matching (velocity)\n",
            "size: 24x16 pictures\n",
            "precision: f32\n",
            "classes: 10 and the null class: photograph of kind 0, photograph of kind 1, ..\n",
            "sampling: euler, 20 steps, guidance 2 on all channels\n",
            "\nmemory: ",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
    let details = f.ok("compile GOLDEN/flow16/weights.safetensors -o a.fcdm --size 24x16 -v") + &f.ok("-v inspect a.fcdm");
    for inside in ["arena", "passes that fired: ", "checksum: ", "weights_xxh3: ", "multiply-accumulates"] {
        assert!(details.contains(inside), "{inside}: {details}");
    }
    for file in ["GOLDEN/eps8/0000003.pt", "FCDM-XL"] {
        let text = f.ok(&format!("inspect {file}"));
        assert!(text.lines().all(|line| line.chars().count() <= 80) && text.lines().count() < 12, "{text}");
    }
}

/// The figures of the paper: 698.8 million parameters, 64.5 GFLOPs (multiply-accumulates).
#[test]
fn the_largest_of_the_paper() {
    let f = Folder::new();
    let about = f.json("inspect FCDM-XL");
    let sum = |key: &str| about[key].as_array().unwrap().iter().map(|p| p[1].as_u64().unwrap()).sum::<u64>();
    assert_eq!(sum("parameters"), 698_754_056);
    assert_eq!(sum("macs_32x32"), 64_530_022_400);
    let text = f.ok("inspect xl -v");
    assert!(text.contains("parameters: 698,754,056") && text.contains("multiply-accumulates at 32x32: 64,530,022,400"), "{text}");
}

#[test]
fn opt_on_files_and_the_standard_input() {
    let f = Folder::new();
    f.ok("compile GOLDEN/eps8/0000003.pt -o a.fcdm --size 8x8 --batch 1 -O0");
    let ir = f.ok("inspect a.fcdm --ir");
    f.write("a.ir", &ir);
    let listed = f.json("opt");
    for pass in listed["passes"].as_array().unwrap() {
        let name = pass["pass"].as_str().unwrap();
        let out = f.ok(&format!("opt --pass {name} a.ir"));
        assert_eq!(parse_module("out", &out).unwrap().0.to_string(), out, "{name}");
    }
    assert!(f.ok("opt").ends_with(&format!("pipeline: {}\n", strings(&listed["pipeline"]).join(", "))));
    let report = f.json("opt a.ir");
    assert_eq!(strings_of(&report["passes"], "pass"), strings(&listed["pipeline"]));
    assert!(report["ir"].as_str().unwrap().contains("fused."), "the pipeline fuses");
    let all = f.ok("opt --print-after-all a.ir");
    assert_eq!(all.matches("; after ").count(), strings(&listed["pipeline"]).len());

    let mut child = f.command("opt -").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(ir.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(out.stdout).unwrap(), report["ir"].as_str().unwrap());
    assert_eq!(finish("opt -", f.command("opt -")).code, Some(0), "nothing in, nothing out");
}

fn strings(list: &serde_json::Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
}

fn strings_of(list: &serde_json::Value, key: &str) -> Vec<String> {
    list.as_array().unwrap().iter().map(|v| v[key].as_str().unwrap().to_owned()).collect()
}

/// `fcdm inspect ... | head`: the reader goes away. That is no crash.
#[cfg(unix)]
#[test]
fn a_closed_pipe() {
    let f = Folder::new();
    f.ok("compile GOLDEN/eps8/0000003.pt -o a.fcdm --size 8x8");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let out = f.command("inspect a.fcdm --plan").stdout(writer).output().unwrap();
    assert_eq!((out.status.code(), String::from_utf8(out.stderr).unwrap()), (Some(141), String::new()));
}

/// A standard output that takes nothing is an error as any other.
#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output() {
    let f = Folder::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = f.command("inspect FCDM-S");
    command.stdout(full);
    assert!(f.fails_as(1, "inspect FCDM-S > /dev/full", command).starts_with("error: standard output: No space left"));
}
