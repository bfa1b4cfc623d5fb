//! However a file is made, opening it takes memory in proportion to its size. A test of its own, since the
//! allocator's count is the whole process's.
#![allow(clippy::unwrap_used)]
#![forbid(unsafe_code)]

#[path = "checkpoint/assemble.rs"]
#[allow(dead_code)]
mod assemble;

use assemble::*;
use std::sync::Arc;

use fcdm_compiler::checkpoint::{Checkpoint, StateDict};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Opens and drops the file, and holds the peak on the way against 8 bytes per byte and 1 MiB.
fn bounded(what: &str, bytes: Vec<u8>) {
    let size = bytes.len();
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let result = Checkpoint::from_bytes("evil.pt", bytes).and_then(|c| StateDict::only(&Arc::new(c))).map(drop);
    let peak = ALLOCATOR.peak_usage() - before;
    println!("{what}: {size} bytes, {peak} more at the peak, {}", result.map_or_else(|e| e.to_string(), |()| "opened".into()));
    assert!(peak <= 8 * size + (1 << 20), "{what}: {peak} bytes for {size}");
}

#[test]
fn memory_is_in_proportion_to_the_file() {
    const MANY: usize = 400_000;
    bounded("a small checkpoint", small());
    for (what, opcode) in [
        ("Nones", &b"N"[..]),
        ("marks", b"("),
        ("lists", b"]"),
        ("dicts", b"}"),
        ("memoised lists", b"]\x94"),
        ("memos", b"\x94"),
        ("appends", b"Na"),
        ("state", b"Nb"),
        ("duplicates", b"2"),
        ("globals", b"ca\nb\n"),
        ("calls", b"h\x00)R"),
        ("persistent ids", b"NQ"),
        ("tuples of one", b"\x85"),
    ] {
        let start = b"ca\nb\nq\x00)R".to_vec();
        bounded(what, pt(&pickle(&[start, opcode.repeat(MANY)].concat())));
    }
    let marks = [b"}".to_vec(), b"(".to_vec(), b"N".repeat(MANY), b"u".to_vec()].concat();
    bounded("one large dict", pt(&pickle(&marks)));

    // Many names of one memoised tensor: a few bytes each in the file, a whole entry in the tables.
    let shared = [view(0, &[1; 8], &[1; 8]), b"q\x000".to_vec()].concat();
    let names: Vec<u8> = (0..100_000u32).flat_map(|i| [text(&format!("{i:x}")), b"h\x00".to_vec()].concat()).collect();
    bounded("one tensor of many names", pt(&pickle(&[&shared[..], b"}(", &names, b"u"].concat())));

    // One long text printed many times among the arguments.
    let long = [text(&"x".repeat(4000)), b"q\x000".to_vec()].concat();
    let args: Vec<u8> = (0..50_000u32).flat_map(|i| [text(&format!("{i:x}")), b"h\x00".to_vec()].concat()).collect();
    let args = [b"}(", &args[..], b"u"].concat();
    let both = dict(&[("model", dict(&[("w", view(0, &[1], &[1]))])), ("args", args)]);
    bounded("long arguments", pt(&pickle(&[long, both].concat())));

    let empty = |count: usize| (0..count).map(|i| entry(&i.to_string(), b"")).collect::<Vec<_>>();
    bounded("a ZIP of many entries", zip(&empty(60_000)));

    let tensors = |shape: &str, count: usize| {
        let one = |i: usize| format!(r#""{i}":{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}"#);
        safetensors(&format!("{{{}}}", (0..count).map(one).collect::<Vec<_>>().join(",")), b"")
    };
    bounded("empty tensors", tensors("[0]", 50_000));
    bounded("empty tensors of 8 axes", tensors("[0,0,0,0,0,0,0,0]", 50_000));
    bounded("a shape without end", safetensors(&format!(r#"{{"w":{{"dtype":"F32","shape":[{}0]}}}}"#, "0,".repeat(MANY)), b""));
    let metadata = (0..MANY / 4).map(|i| format!(r#""{i}":"""#)).collect::<Vec<_>>().join(",");
    bounded("metadata without end", safetensors(&format!(r#"{{"__metadata__":{{{metadata}}}}}"#), b""));
    let escapes = "\\u0041".repeat(MANY);
    bounded("a long name", safetensors(&format!(r#"{{"{escapes}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}}}"#), b""));

    // A fixed walk of damages over the small checkpoint.
    let mut state = 1u32;
    for _ in 0..2000 {
        let mut bytes = small();
        for _ in 0..3 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = state as usize / 7 % bytes.len();
            bytes[at] = (state >> 24) as u8;
        }
        let size = bytes.len();
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        drop(Checkpoint::from_bytes("evil.pt", bytes).and_then(|c| StateDict::only(&Arc::new(c))));
        assert!(ALLOCATOR.peak_usage() - before <= 8 * size + (1 << 20));
    }
}
