//! Wrong IR text for `opt`: several lines, with the place.

use crate::process::Folder;

#[track_caller]
fn refused(text: &str) -> String {
    let f = Folder::new();
    f.write("a.ir", text);
    let ran = f.run("opt a.ir");
    assert_eq!((ran.code, ran.out.as_str()), (Some(5), ""), "{ran:?}");
    assert!(ran.err.starts_with("error: a.ir:"), "{ran:?}");
    ran.err
}

#[test]
fn text_that_does_not_parse() {
    let message = refused("fn @f(%x: f32[2]) {\n  %y = neg %x : f32[2]\n  retrun %y\n}\n");
    assert!(message.starts_with("error: a.ir:3:") && message.contains("\n") && message.contains('^'), "{message}");
    for text in [
        "nonsense",
        "fn",
        "fn @f(",
        "fn @f() {",
        "\u{0}",
        "fn @f(%x: f32[2]) {\n  return %x\n}}",
        "fn @f(%x: f32[99999999999999999999]) {\n  return %x\n}\n",
    ] {
        let message = refused(text);
        assert!(message.contains('^'), "{message}");
    }
    let f = Folder::new();
    f.write("a.ir", b"\xff\xfe");
    assert!(f.fails(5, "opt a.ir").starts_with("error: a.ir: "));
}

#[test]
fn text_that_does_not_verify() {
    let message = refused("fn @f(%x: f32[2]) {\n  %y = neg %x : f32[3]\n  return %y\n}\n");
    assert!(message.contains("a.ir:2:") && message.contains("type.3: %y is f32[2], declared as f32[3]"), "{message}");
    let message = refused("fn @f(%x: f32[2]) {\n  %a = add %x, %b : f32[2]\n  return %a\n}\n");
    assert!(message.contains("ssa.1: %b is used before its definition") || message.contains("%b"), "{message}");
    refused("fn @f(%x: f32[0]) {\n  return %x\n}\n");
    refused("fn @f(%x: f32[4294967296,4294967296,4294967296]) {\n  return %x\n}\n");
}

#[test]
fn deep_and_long_texts() {
    // No recursion over the length of a function or the depth of a bracket.
    let deep = format!("fn @f(%x: f32[{}", "[".repeat(200_000));
    refused(&deep);
    let mut long = String::from("fn @f(%v0: f32[2]) {\n");
    (0..20_000).for_each(|i| long.push_str(&format!("  %v{} = neg %v{i} : f32[2]\n", i + 1)));
    long.push_str("  return %v20000\n}\n");
    let f = Folder::new();
    f.write("a.ir", &long);
    assert!(f.ok("opt --pass simplify a.ir").starts_with("fn @f(%v0: f32[2]) {\n"));
}

/// Values that a pass could compute, were they not as large as all memory.
#[test]
fn constants_as_large_as_memory() {
    let f = Folder::new();
    f.write("a.ir", "fn @f(%x: f32[2]) {\n  %y = fill {value=1, shape=[1048576,1048576]} : f32[1048576,1048576]\n  %z = neg %y : f32[1048576,1048576]\n  return %z\n}\n");
    let ran = f.run("opt a.ir");
    assert!(matches!(ran.code, Some(0 | 5)), "{ran:?}");
}

#[test]
fn passes_that_there_are_not() {
    let f = Folder::new();
    assert!(f.misused("opt --pass nonsense a.ir").contains("expected one of "));
}
