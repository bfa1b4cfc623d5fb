//! `bench`: what it says, not how fast anything is.

use serde_json::Value;

use crate::process::Folder;

fn folder() -> Folder {
    let f = Folder::new();
    f.ok("compile GOLDEN/flow16/weights.safetensors -o a.fcdm --size 24x16 --batch 1,2");
    f
}

/// As little as can be measured.
const ONCE: &str = "bench a.fcdm --runs 1 --seconds 0 --warmup 0 -t 2";

/// Labels of the denoiser's steps in order, and its batch size.
fn labels(f: &Folder, rows: usize) -> Vec<String> {
    let plan = f.ok("inspect a.fcdm --plan");
    let lines = plan.lines().skip_while(|l| !l.starts_with(&format!("entry denoise rows={rows} "))).skip(1);
    let steps = lines.take_while(|l| !l.starts_with("entry ")).filter_map(|l| l.split_once('%'));
    steps.map(|(_, rest)| rest.split_once(" = ").unwrap().0.to_owned()).collect()
}

#[test]
fn the_profile_has_every_step_in_order() {
    let f = folder();
    let text = f.ok(&format!("{ONCE} --profile"));
    let (_, table) = text.split_once("\nsteps, in order\n").unwrap_or_else(|| panic!("{text}"));
    let found: Vec<&str> = table.lines().filter_map(|l| Some(l.split_once("  %")?.1.split_once(": ")?.0)).collect();
    assert_eq!(found, labels(&f, 1), "{text}");
    assert!(table.contains(": linear_gelu_sumsq 1x24x16x16 48x1x16 48 -> 1x24x16x48 1x48\n"), "{table}");
}

#[test]
fn the_summary_names_what_was_measured() {
    let f = folder();
    let text = f.ok(ONCE);
    assert!(text.starts_with("a.fcdm: batch 1, 24x16, 2 threads, "), "{text}");
    for line in ["\ndenoise: ", "\nstart to first result: ", "\nmemory: peak "] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(text.lines().count() <= 5 && text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let text = f.ok(&format!("{ONCE} -v"));
    for line in ["\ncondition: ", "\nceiling, measured: ", "\nmemory: now ", "\nstart: verify the file "] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let steps = labels(&f, 1).len();
    let (_, table) = text.split_once(&format!("\nslowest steps, 10 of {steps}\n")).unwrap_or_else(|| panic!("{text}"));
    assert_eq!(table.lines().filter(|l| l.contains("  %")).count(), 10, "{text}");
    assert!(!text.contains("instruction sets"), "{text}");
}

fn number(v: &Value) -> f64 {
    v.as_f64().unwrap_or_else(|| panic!("expected a number, found {v}"))
}

/// Every field that README.md documents, and the sums that have to agree.
#[test]
fn json_has_everything() {
    let f = folder();
    for rows in [1, 2] {
        let all = f.json(&format!("{ONCE} --batch {rows}"));
        assert_eq!((&all["batch"], &all["threads"], &all["size"]), (&rows.into(), &2.into(), &serde_json::json!([24, 16])));
        assert!(all["isa"].is_string() && all["isas"].is_null(), "{all}");
        assert!(number(&all["ceiling"]["gflops"]) > 0.0 && number(&all["ceiling"]["read_gb_s"]) > 0.0, "{all}");
        assert!(all.as_object().unwrap().contains_key("others_share"), "{all}");
        for entry in ["evaluation", "condition"] {
            let whole = &all[entry];
            assert_eq!(whole["runs"], 1, "{all}");
            assert!(number(&whole["median_s"]) > 0.0 && number(&whole["minimum_s"]) > 0.0 && number(&whole["gflops"]) > 0.0, "{all}");
        }
        let memory = &all["memory"];
        for field in ["arena_bytes", "scratch_bytes", "weight_bytes"] {
            assert!(number(&memory[field]) > 0.0, "{field}: {all}");
        }
        if cfg!(target_os = "linux") {
            assert!(number(&memory["peak_bytes"]) >= number(&memory["anonymous_bytes"]), "{all}");
        }
        let parts = ["open_s", "load_s", "condition_s", "evaluation_s"].iter().map(|p| number(&all["start"][p])).sum::<f64>();
        assert!((parts - number(&all["start"]["total_s"])).abs() < 1e-6, "{all}");

        let steps = all["steps"].as_array().unwrap();
        assert_eq!(steps.iter().map(|s| s["label"].as_str().unwrap()).collect::<Vec<_>>(), labels(&f, rows));
        let sum = |list: &[Value], field: &str| list.iter().map(|s| number(&s[field])).sum::<f64>();
        let kernels = all["kernels"].as_array().unwrap();
        for field in ["macs", "bytes", "steps"] {
            let whole = if field == "steps" { steps.len() as f64 } else { sum(steps, field) };
            assert_eq!(sum(kernels, field), whole, "{field}: {all}");
        }
        assert_eq!(sum(steps, "macs"), number(&all["evaluation"]["macs"]), "{all}");
        assert!((sum(steps, "time_share") - 1.0).abs() < 1e-6 && (sum(kernels, "time_share") - 1.0).abs() < 1e-6, "{all}");
        for field in ["seconds", "gflops", "gflops_share", "gb_s"] {
            assert!(steps.iter().chain(kernels).all(|s| number(&s[field]) >= 0.0), "{field}: {all}");
        }
    }
}

/// What the plan's steps cost is what the network costs, counted from the IR: nothing is lost or done twice.
#[test]
fn the_plan_does_the_networks_work() {
    let f = folder();
    let about = f.json("inspect a.fcdm");
    let stages = about["report"]["macs"].as_array().unwrap();
    let macs: f64 = stages.iter().filter(|s| s[0] != "condition").map(|s| number(&s[1])).sum();
    assert_eq!(number(&f.json(ONCE)["evaluation"]["macs"]), macs);
}

#[test]
fn instruction_sets_in_turn() {
    let f = folder();
    let isas = f.json(&format!("{ONCE} --compare-isa"))["isas"].clone();
    let isas = isas.as_array().unwrap();
    let scalar = isas.last().unwrap();
    assert_eq!((&scalar["isa"], number(&scalar["relative_l2_to_scalar"])), (&"scalar".into(), 0.0));
    assert!(isas.iter().all(|i| number(&i["relative_l2_to_scalar"]) < 1e-5 && number(&i["ratio"]) >= 1.0), "{isas:?}");
    assert!(isas.iter().any(|i| number(&i["ratio"]) == 1.0), "{isas:?}");
    let text = f.ok(&format!("{ONCE} --compare-isa"));
    let (_, table) = text.split_once("\ninstruction sets, in turn\n").unwrap_or_else(|| panic!("{text}"));
    assert_eq!(table.lines().skip(1).map(|l| l.rsplit_once(' ').unwrap().1).collect::<Vec<_>>(), {
        isas.iter().map(|i| i["isa"].as_str().unwrap()).collect::<Vec<_>>()
    });
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let f = folder();
    assert_eq!(f.fails(2, "bench a.fcdm --batch 3"), "error: batch: expected one of [1, 2], found 3");
    assert!(f.fails(4, "bench nosuch.fcdm").contains("nosuch.fcdm"));
    f.write("other", "not an artifact");
    f.fails(4, "bench other");
    for option in ["--runs 0", "--runs x", "--seconds=-1", "--seconds nan", "--seconds 1e9", "--warmup=-1", "-t 0", "--batch x"] {
        f.misused(&format!("bench a.fcdm {option}"));
    }
    let mut command = f.command("bench a.fcdm");
    command.env("FCDM_ISA", "sse9");
    assert!(f.fails_as(1, "bench a.fcdm", command).contains("FCDM_ISA"));
}
