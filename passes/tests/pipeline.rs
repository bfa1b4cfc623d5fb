//! The pipelines on a small network of FCDM's shape, and what the driver promises.
#![allow(clippy::unwrap_used)]

mod evaluation;

use std::collections::BTreeMap;

use evaluation::assert_same_values;
use fcdm_ir::text::parse_module;
use fcdm_ir::verify::verify_module;
use fcdm_ir::{Function, Module};
use fcdm_passes::{OPTIMISED, PASSES, PLAIN, Report, find, run};

/// One block, a way down and up again beside it, and the final layer; width 4, ratio 3.
const NETWORK: &str = "\
weight @in.w : f32[4,3,3,2]
weight @in.b : f32[4]
weight @t.0.w : f32[4,8]
weight @t.0.b : f32[4]
weight @t.2.w : f32[4,4]
weight @t.2.b : f32[4]
weight @table : f32[3,4]
weight @ada.w : f32[12,4]
weight @ada.b : f32[12]
weight @dw.w : f32[7,7,4]
weight @dw.b : f32[4]
weight @pw1.w : f32[12,4]
weight @pw1.b : f32[12]
weight @gamma : f32[12]
weight @beta : f32[12]
weight @pw2.w : f32[4,12]
weight @pw2.b : f32[4]
weight @down.w : f32[1,3,3,4]
weight @up.w : f32[8,3,3,4]
weight @reduce.w : f32[4,6]
weight @reduce.b : f32[4]
weight @final.w : f32[8,4]
weight @final.b : f32[8]
weight @out.w : f32[4,3,3,4]
weight @out.b : f32[4]

fn @fcdm(%x: f32[2,4,4,2], %t: f32[2], %y: i32[2]) {
  %e = timestep_embedding %t {dim=8} : f32[2,8]
  %t0 = linear %e, @t.0.w, @t.0.b : f32[2,4]
  %t1 = silu %t0 : f32[2,4]
  %t2 = linear %t1, @t.2.w, @t.2.b : f32[2,4]
  %class = embedding @table, %y : f32[2,4]
  %c = add %t2, %class : f32[2,4]
  %s = silu %c : f32[2,4]
  %z = conv2d %x, @in.w, @in.b {stride=1, pad=[1,1,1,1]} : f32[2,4,4,4]
  %m = linear %s, @ada.w, @ada.b : f32[2,12]
  %shift, %scale, %gate = split %m {axis=1, parts=3} : f32[2,4], f32[2,4], f32[2,4]
  %h0 = dwconv2d %z, @dw.w, @dw.b {pad=3} : f32[2,4,4,4]
  %h1 = layer_norm %h0 {eps=1e-6} : f32[2,4,4,4]
  %h2 = modulate %h1, %shift, %scale : f32[2,4,4,4]
  %h3 = linear %h2, @pw1.w, @pw1.b : f32[2,4,4,12]
  %h4 = gelu %h3 : f32[2,4,4,12]
  %h5 = grn %h4, @gamma, @beta {eps=1e-6} : f32[2,4,4,12]
  %h6 = linear %h5, @pw2.w, @pw2.b : f32[2,4,4,4]
  %h7 = gated_add %z, %h6, %gate : f32[2,4,4,4]
  %fm = linear %s, @final.w, @final.b : f32[2,8]
  %fshift, %fscale = split %fm {axis=1, parts=2} : f32[2,4], f32[2,4]
  %d0 = conv2d %h7, @down.w {stride=1, pad=[1,1,1,1]} : f32[2,4,4,1]
  %d1 = pixel_unshuffle %d0 {factor=2} : f32[2,2,2,4]
  %u0 = conv2d %d1, @up.w {stride=1, pad=[1,1,1,1]} : f32[2,2,2,8]
  %u1 = pixel_shuffle %u0 {factor=2} : f32[2,4,4,2]
  %skip = concat %u1, %h7 {axis=3} : f32[2,4,4,6]
  %r = linear %skip, @reduce.w, @reduce.b : f32[2,4,4,4]
  %n = layer_norm %r {eps=1e-6} : f32[2,4,4,4]
  %f = modulate %n, %fshift, %fscale : f32[2,4,4,4]
  %out = conv2d %f, @out.w, @out.b {stride=1, pad=[1,1,1,1]} : f32[2,4,4,4]
  return output=%out
}
";

fn network() -> Module {
    parse_module("network", NETWORK).unwrap_or_else(|e| panic!("{e}")).0
}

fn quietly(names: &[&str], m: Module) -> (Module, Report) {
    run(names, m, &mut |_, _| {}).unwrap_or_else(|e| panic!("{e}"))
}

fn ops(f: &Function) -> BTreeMap<&'static str, usize> {
    let mut count = BTreeMap::new();
    f.insts().iter().for_each(|i| *count.entry(i.op.name()).or_default() += 1);
    count
}

#[test]
fn the_optimised_denoiser_is_three_kernels_a_block_and_its_frame() {
    let (m, _) = quietly(OPTIMISED, network());
    let denoise = m.function("denoise").unwrap();
    let expected = BTreeMap::from([
        ("conv2d", 2),
        ("fused.dwconv_norm_modulate", 1),
        ("fused.linear_gelu_sumsq", 1),
        ("grn_scale", 1),
        ("fused.scale_linear_gated_add", 1),
        ("fused.conv2d", 2),
        ("fused.concat_linear", 1),
        ("fused.norm_modulate", 1),
    ]);
    assert_eq!(ops(denoise), expected, "{m}");
    let inputs: Vec<&str> = denoise.inputs().iter().map(|&v| denoise.value(v).name.as_str()).collect();
    assert_eq!(inputs, ["x", "shift", "scale", "gate", "fshift", "fscale"]);
    assert_same_values("optimised", &network(), &m);
}

#[test]
fn the_optimised_condition_has_every_projection_and_the_weights_the_folded_bias() {
    let (m, _) = quietly(OPTIMISED, network());
    let names: Vec<&str> = m.functions.iter().map(Function::name).collect();
    assert_eq!(names, ["weights", "condition", "denoise"]);
    let condition = m.function("condition").unwrap();
    assert_eq!(ops(condition)["linear"], 4, "{m}");
    assert_eq!(ops(condition)["split"], 2, "{m}");
    let weights = m.function(Module::WEIGHTS).unwrap();
    assert_eq!(ops(weights), BTreeMap::from([("linear", 1), ("add", 1)]), "{m}");
    let used: Vec<&str> = m.function("denoise").unwrap().weights().map(|(_, d)| d.name.as_str()).collect();
    assert!(used.contains(&weights.results()[0].0.as_str()), "{m}");
    assert!(!used.contains(&"pw2.b") && !used.contains(&"beta"), "{m}");
}

/// Attention, a residual block and an upsampling, as in a decoder: nothing is left between the products and the norms.
#[test]
fn an_optimised_decoder_is_its_products_and_norms() {
    let text = "\
weight @g : f32[4]
weight @l : f32[4,4]
weight @w1 : f32[4,3,3,4]
weight @w2 : f32[4,3,3,4]
weight @up : f32[4,3,3,4]
weight @skip : f32[4,1,1,4]

fn @decode(%z: f32[1,2,3,4]) {
  %n = group_norm %z, @g, @g {groups=2, eps=1e-6} : f32[1,2,3,4]
  %s = reshape %n {shape=[1,6,4]} : f32[1,6,4]
  %q = linear %s, @l, @g : f32[1,6,4]
  %t = transpose %q {perm=[0,2,1]} : f32[1,4,6]
  %m = matmul %s, %t : f32[1,6,6]
  %c = scale %m {by=0.5} : f32[1,6,6]
  %p = softmax %c : f32[1,6,6]
  %a = matmul %p, %s : f32[1,6,4]
  %i = reshape %a {shape=[1,2,3,4]} : f32[1,2,3,4]
  %o = linear %i, @l, @g : f32[1,2,3,4]
  %r = add %o, %z : f32[1,2,3,4]
  %n1 = group_norm %r, @g, @g {groups=2, eps=1e-6} : f32[1,2,3,4]
  %a1 = silu %n1 : f32[1,2,3,4]
  %c1 = conv2d %a1, @w1, @g {stride=1, pad=[1,1,1,1]} : f32[1,2,3,4]
  %n2 = group_norm %c1, @g, @g {groups=2, eps=1e-6} : f32[1,2,3,4]
  %a2 = silu %n2 : f32[1,2,3,4]
  %c2 = conv2d %a2, @w2, @g {stride=1, pad=[1,1,1,1]} : f32[1,2,3,4]
  %k = conv2d %r, @skip {stride=1, pad=[0,0,0,0]} : f32[1,2,3,4]
  %b = add %k, %c2 : f32[1,2,3,4]
  %u = upsample_nearest %b {factor=2} : f32[1,4,6,4]
  %y = conv2d %u, @up, @g {stride=1, pad=[1,1,1,1]} : f32[1,4,6,4]
  return %y
}
";
    let (m, _) = parse_module("decoder", text).unwrap();
    let (m, _) = quietly(OPTIMISED, m);
    let found = ops(m.function("decode").unwrap());
    let want = [
        ("conv2d", 2),
        ("fused.attention", 1),
        ("fused.conv2d", 2),
        ("fused.group_norm", 2),
        ("fused.linear", 1),
        ("group_norm", 1),
        ("linear", 1),
        ("reshape", 2),
    ];
    assert_eq!(found, want.into_iter().collect());
}

#[test]
fn the_plain_pipeline_only_splits() {
    let (m, report) = quietly(PLAIN, network());
    assert!(m.functions.iter().all(|f| f.insts().iter().all(|i| !i.op.is_fused())), "{m}");
    assert_eq!(m.functions.iter().map(|f| f.insts().len()).sum::<usize>(), network().functions[0].insts().len());
    assert_eq!(report.runs.iter().map(|r| r.fired).collect::<Vec<_>>(), [false, false, false, true]);
    assert_same_values("plain", &network(), &m);
}

#[test]
fn every_pass_of_the_optimised_pipeline_finds_its_pattern_or_says_that_it_did_not() {
    let (m, report) = quietly(OPTIMISED, network());
    let fired: Vec<&str> = report.runs.iter().filter(|r| r.fired).map(|r| r.pass).collect();
    let of_autoencoders = ["fuse_upsample_conv", "fuse_residual", "fuse_activation", "fuse_attention"];
    // Nothing is asked to be stored in fewer bits.
    let idle = [&["simplify", "quantise_weights", "quantise_rows", "eliminate_dead_code"], &of_autoencoders[..]].concat();
    // What runs twice has found all there is the first time.
    let first = OPTIMISED.iter().enumerate().filter(|(i, p)| !OPTIMISED[..*i].contains(p)).map(|(_, p)| *p);
    assert_eq!(fired, first.filter(|p| !idle.contains(p)).collect::<Vec<_>>());
    for pair in report.runs.windows(2) {
        assert_eq!(pair[0].after, pair[1].before);
    }
    let (again, report) = quietly(OPTIMISED, m.clone());
    assert!(again == m && report.runs.iter().all(|r| !r.fired), "a second run changes\n{again}");
}

#[test]
fn the_observer_sees_every_module_in_order() {
    let mut seen = Vec::new();
    let (m, _) = run(OPTIMISED, network(), &mut |pass, m| seen.push((pass.name, m.clone()))).unwrap();
    assert_eq!(seen.iter().map(|(name, _)| *name).collect::<Vec<_>>(), OPTIMISED);
    assert!(seen.last().unwrap().1 == m);
    for (name, m) in &seen {
        verify_module(m).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        assert_same_values(name, &network(), m);
    }
}

#[test]
fn names_of_passes_are_unique_and_pipelines_name_passes() {
    for (i, pass) in PASSES.iter().enumerate() {
        assert!(PASSES[..i].iter().all(|p| p.name != pass.name), "two passes are called {}", pass.name);
        assert_eq!(find(pass.name).unwrap().name, pass.name);
        assert!(!pass.about.is_empty());
    }
    for name in PLAIN.iter().chain(OPTIMISED) {
        assert!(find(name).is_some(), "there is no pass `{name}`");
    }
    assert!(find("no_such_pass").is_none());
}

#[test]
fn a_pass_stands_in_the_file_of_its_name() {
    for pass in PASSES {
        let path = format!("{}/src/{}.rs", env!("CARGO_MANIFEST_DIR"), pass.name);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert!(text.contains(&format!("fn {}(", pass.name)), "{path} has no function of its name");
    }
}

#[test]
fn an_invalid_input_is_reported_before_any_pass_runs() {
    let (m, _) = parse_module("bad", "fn @f(%x: f32[2]) {\n  %y = exp %x : f32[3]\n  return %y\n}\n").unwrap();
    let mut ran = 0;
    let error = run(OPTIMISED, m, &mut |_, _| ran += 1).unwrap_err();
    assert_eq!((error.pass, ran), ("input", 0));
    assert_eq!(error.errors[0].rule, "type.3");
    let text = error.to_string();
    assert!(text.starts_with("invalid IR after `input`; @f, instruction 0: type.3: "), "{text}");
}

#[test]
#[should_panic(expected = "there is no pass `fuse_everything`")]
fn an_unknown_pass_is_a_bug_of_the_caller() {
    let _ = run(&["fuse_everything"], network(), &mut |_, _| {});
}
