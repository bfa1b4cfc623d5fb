//! The text form: printing and parsing are inverse, errors point at their place, nothing panics.
#![allow(clippy::unwrap_used)]

mod cases;

use cases::{Noise, cases};
use fcdm_ir::ops::*;
use fcdm_ir::text::{parse_function, parse_module};
use fcdm_ir::verify::{verify, verify_module};
use fcdm_ir::{Builder, Function, Module, Type, Value};
use proptest::prelude::*;

const BLOCK: &str = "\
weight @dw.w : f32[7,7,128]
weight @dw.b : f32[128]
weight @ada.w : f32[384,128]
weight @ada.b : f32[384]
weight @pw1.w : f32[384,128] as bf16
weight @pw1.b : f32[384]
weight @grn.gamma : f32[384]
weight @grn.beta : f32[384]
weight @pw2.w : f32[128,384]
weight @pw2.b : f32[128]

fn @block(%x: f32[1,32,32,128], %c: f32[1,128]) {
  %h0 = dwconv2d %x, @dw.w, @dw.b {pad=3} : f32[1,32,32,128]
  %s = silu %c : f32[1,128]
  %m = linear %s, @ada.w, @ada.b : f32[1,384]
  %shift, %scale, %gate = split %m {axis=1, parts=3} : f32[1,128], f32[1,128], f32[1,128]
  %h1 = layer_norm %h0 {eps=1e-6} : f32[1,32,32,128]
  %h2 = modulate %h1, %shift, %scale : f32[1,32,32,128]
  %h3 = linear %h2, @pw1.w, @pw1.b : f32[1,32,32,384]
  %h4 = gelu %h3 : f32[1,32,32,384]
  %h5 = grn %h4, @grn.gamma, @grn.beta {eps=1e-6} : f32[1,32,32,384]
  %h6 = linear %h5, @pw2.w, @pw2.b : f32[1,32,32,128]
  %h7 = gated_add %x, %h6, %gate : f32[1,32,32,128]
  return %h7, input=%x, bias=@pw2.b
}
";

#[test]
fn canonical_text_prints_as_it_was() {
    let f = parse_function(BLOCK).unwrap();
    verify(&f).unwrap();
    assert_eq!(f.to_string(), BLOCK);
    assert_eq!(parse_function(&f.to_string()).unwrap(), f);
    let stored = |f: &Function| f.weights().filter_map(|(_, d)| Some((d.name.clone(), d.stored.clone()?))).collect::<Vec<_>>();
    assert_eq!(stored(&f), [("pw1.w".to_owned(), "bf16".to_owned())]);
    assert_eq!(stored(&fcdm_ir::flow::sweep(&f)), stored(&f), "copies say it too");
}

#[test]
fn a_module_keeps_its_weights_once_and_its_order() {
    let text = "\
weight @w : f32[2]
weight @v : f32[2]

fn @a(%x: f32[2]) {
  %0 = add %x, @w : f32[2]
  return y=%0
}

fn @weights() {
  %0 = fill {value=1.0, dtype=f32, shape=[2]} : f32[2]
  %1 = mul @w, %0 : f32[2]
  return v=%1
}

fn @b(%x: f32[2]) {
  return @v
}
";
    let (module, lines) = parse_module("m.ir", text).unwrap();
    verify_module(&module).unwrap();
    // Canonical order is that of first mention.
    assert_eq!(module.to_string(), text);
    assert_eq!((lines[1].header, lines[1].insts.as_slice(), lines[1].results), (9, &[10, 11][..], 12));
    assert_eq!(Module::default().to_string(), "");
    assert_eq!(parse_module("", "; nothing\n").unwrap().0, Module::default());
}

#[test]
fn white_space_and_comments_do_not_matter() {
    let text = "fn @f ( % x: f32 [ 2 ] ) ; c\r\n{ %y=neg %x:f32[2] ; } return\n\treturn %y}";
    assert!(parse_function(text).is_err(), "a sigil is part of its name");
    let f = parse_function(&text.replace("% x", "%x")).unwrap();
    assert_eq!(f.to_string(), "fn @f(%x: f32[2]) {\n  %y = neg %x : f32[2]\n  return %y\n}\n");
}

#[test]
fn errors_point_at_their_place() {
    let check = |text: &str, expected: &str| assert_eq!(parse_module("f.ir", text).unwrap_err().to_string(), expected, "{text}");
    check(
        "fn @f(%x: f32[2]) {\n\t%y = nag %x : f32[2]\n  return %y\n}\n",
        "f.ir:2:7: there is no op `nag`\n  \t%y = nag %x : f32[2]\n  \t     ^",
    );
    check("fn @f(%x: f99[2]) {", "f.ir:1:11: there is no element type `f99`\n  fn @f(%x: f99[2]) {\n            ^");
    check(
        "fn @f(%x: f32[18446744073709551616]) {",
        "f.ir:1:15: `18446744073709551616` is not a non-negative integer\n  fn @f(%x: f32[18446744073709551616]) {\n                ^",
    );
    let body = |inst: &str| format!("fn @f(%x: f32[2]) {{\n{inst}\nreturn %x\n}}\n");
    let message = |inst: &str| {
        let e = parse_module("f.ir", &body(inst)).unwrap_err();
        format!("{}:{}: {}", e.line, e.col, e.message)
    };
    assert_eq!(message("%y = add %x, %z : f32[2]"), "2:14: `%z` is not defined");
    assert_eq!(message("%y = add %x, @z : f32[2]"), "2:14: there is no line `weight @z` before this function");
    assert_eq!(message("%y = scale %x : f32[2]"), "2:6: `scale` needs the attribute `by`");
    assert_eq!(message("%y = scale %x {by=two} : f32[2]"), "2:6: `scale`: `by=two` is not a number");
    assert_eq!(message("%y = scale %x {by=2.0, to=1} : f32[2]"), "2:24: `scale` has no attribute `to`");
    assert_eq!(message("%y = scale %x {by=2.0, by=1.0} : f32[2]"), "2:24: the attribute `by` is given twice");
    assert_eq!(message("%y = neg %x : f32[9223372036854775808]"), "2:19: `9223372036854775808` is not a non-negative integer");
    assert_eq!(message("%y, %z = neg %x : f32[2]"), "2:10: 2 results with 1 types");
    assert_eq!(message("%y = neg %x ? f32[2]"), "2:13: expected ':', found '?'");
    assert_eq!(message("%y = neg %x : f32[1,1,1,1,1,1,1,1,1]"), "2:15: 9 axes, at most 8 are possible");
    let e = parse_module("f.ir", "weight @w : f32[2] as [2]").unwrap_err();
    assert_eq!((e.col, e.message.as_str()), (23, "expected the name of an encoding, of at most 16 characters, found '['"));
    let e = parse_module("f.ir", "fn @f() {\n  return").unwrap_err();
    assert_eq!((e.line, e.col, e.message.as_str()), (2, 9, "expected `%name` or `@name`, found the end of the text"));
    assert_eq!(parse_function("").unwrap_err().message, "expected one function, found 0");
}

#[test]
fn deep_and_long_texts_are_refused_quietly() {
    for text in ["[".repeat(1 << 20), "fn @f(".repeat(1 << 16), "{".repeat(1 << 20), "%".repeat(1 << 20), "é".repeat(1 << 18)] {
        assert!(parse_module("f.ir", &text).is_err());
    }
}

/// A function of randomly chosen ops over values of a few shapes, with weights, several results and chosen names.
fn random_function(seed: u64) -> Function {
    let mut noise = Noise::new(seed);
    let mut b = Builder::new("random");
    let all = cases();
    let mut values: Vec<Value> = Vec::new();
    for _ in 0..1 + noise.below(12) {
        let case = &all[noise.below(all.len())];
        let operands: Vec<Value> = case
            .operands
            .iter()
            .map(|ty| {
                let fitting: Vec<Value> = values.iter().copied().filter(|&v| b.ty(v) == ty).collect();
                match noise.below(4) {
                    // The type is in the name: a weight has one.
                    0 => b.weight(&format!("w.{ty}").replace(['[', ']', ','], "-"), ty.clone()),
                    1 => b.input("x", ty.clone()),
                    _ if fitting.is_empty() => b.input("a$b", ty.clone()),
                    _ => fitting[noise.below(fitting.len())],
                }
            })
            .collect();
        let results = b.emit(case.op.clone(), &operands);
        if noise.below(2) == 0 {
            b.name(results[0], ["h", "0", "x"][noise.below(3)]);
        }
        values.extend(results);
    }
    let results = (0..1 + noise.below(3)).map(|i| (format!("out{i}"), values[noise.below(values.len())])).collect();
    b.finish(results)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn built_functions_survive_print_and_parse(seed: u64) {
        let f = random_function(seed);
        verify(&f).unwrap();
        let text = f.to_string();
        let again = parse_function(&text).unwrap();
        prop_assert_eq!(&again, &f);
        prop_assert_eq!(again.to_string(), text);
    }

    #[test]
    fn mutated_text_never_panics(
        seed: u64,
        edits in prop::collection::vec((any::<prop::sample::Index>(), "[ -~\\n;%@é]{0,3}", 0usize..4), 1..6),
    ) {
        let mut text: Vec<char> = random_function(seed).to_string().chars().collect();
        for (at, insert, remove) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + remove).min(text.len());
            text.splice(at..end, insert.chars());
        }
        let text: String = text.into_iter().collect();
        match parse_module("m.ir", &text) {
            Err(e) => drop(e.to_string()),
            Ok((module, _)) => {
                let _ = verify_module(&module);
                let printed = module.to_string();
                prop_assert_eq!(parse_module("m.ir", &printed).unwrap().0.to_string(), printed);
            }
        }
    }
}

#[test]
fn fill_keeps_its_attributes() {
    let mut b = Builder::new("f");
    let y = b.one(Fill { value: -1.25e-30, dtype: fcdm_ir::DType::F16, shape: vec![] }, &[]);
    let x = b.input("x", Type::f32([1]));
    let f = b.finish(vec![("y".into(), y), ("x".into(), x)]);
    assert_eq!(f.to_string(), "fn @f(%x: f32[1]) {\n  %0 = fill {value=-1.25e-30, dtype=f16, shape=[]} : f16[]\n  return y=%0, %x\n}\n");
    assert_eq!(parse_function(&f.to_string()).unwrap(), f);
}
