//! However IR text is made, parsing and verifying it take memory in proportion to its length. A test of its own, since
//! the allocator's count is the whole process's.
#![allow(clippy::unwrap_used)]
#![forbid(unsafe_code)]

use fcdm_ir::text::parse_module;
use fcdm_ir::verify::verify_module;
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Bytes of memory allowed for a byte of text: a value of two characters costs a name, a type, a use.
const FACTOR: usize = 64;

/// ... and for any text at all.
const FLOOR: usize = 1 << 20;

/// Parses and, if that succeeds, verifies, and holds the peak on the way against the text's length.
fn bounded(what: &str, text: &str) {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let result = parse_module("evil.ir", text).map_err(|e| e.line).map(|(m, _)| verify_module(&m).is_ok());
    let peak = ALLOCATOR.peak_usage() - before;
    println!("{what}: {} bytes, {peak} more at the peak, {result:?}", text.len());
    assert!(peak <= FACTOR * text.len() + FLOOR, "{what}: {peak} bytes for {}", text.len());
}

#[test]
fn memory_is_in_proportion_to_the_text() {
    const MANY: usize = 100_000;
    let body = |lines: &str| format!("fn @f(%x: f32[2]) {{\n{lines}  return %x\n}}\n");
    bounded("an empty module", "");
    bounded("brackets", &"[".repeat(MANY));
    bounded("braces", &"{".repeat(MANY));
    bounded("one long name", &format!("fn @{}", "a".repeat(MANY)));
    bounded("comments", &";\n".repeat(MANY));
    bounded("many axes", &format!("weight @w : f32[{}]", "1,".repeat(MANY)));
    bounded("many functions", &"fn @f() {\n  return\n}\n".repeat(MANY / 10));
    bounded("many inputs", &format!("fn @f({}", "%a: f32[1], ".repeat(MANY / 10)));
    bounded("many attributes", &body(&format!("  %y = neg %x {{{}a=1}} : f32[2]\n", "a=1, ".repeat(MANY / 10))));
    bounded("many results", &body(&format!("  {}%y = split %x {{axis=0, parts=2}} : f32[1]\n", "%a, ".repeat(MANY / 10))));
    bounded("many operands", &body(&format!("  %y = neg {}%x : f32[2]\n", "%x, ".repeat(MANY / 10))));
    bounded("huge tensors", &body("  %y = fill {value=0.0, dtype=f32, shape=[1048576,1048575]} : f32[1048576,1048575]\n"));
    bounded("huge parts", &body("  %y = split %x {axis=0, parts=18446744073709551615} : f32[1]\n"));
    let chain: String = (0..MANY / 20).map(|i| format!("  %a{i} = neg %x : f32[2]\n")).collect();
    bounded("the same instruction", &body(&chain));
}
