//! What opening a hostile artifact may allocate: a small multiple of the file's size, whatever the file claims.

#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use fcdm_runtime::artifact::{self, Artifact};
use fcdm_runtime::plan;

/// Counts live and peak bytes.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed to `System` unchanged; the counters touch no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps `dealloc`'s contract, and `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes allocated for one byte of file, at most: a list of one-digit numbers takes two bytes each in JSON, eight in
/// memory, and twice that while it grows; an empty string three and 24. A parse tree would take more.
const FACTOR: usize = 24;

/// For names, messages and the allocator's own rounding.
const CONSTANT: usize = 1 << 16;

const ENTRY: &str = r#"{"name":"","rows":0,"inputs":[],"outputs":[],"arena_bytes":0,"arena_lower_bound":0,"steps":[]}"#;
const STEP: &str = r#"{"label":"","kernel":"linear","inputs":[],"outputs":[]}"#;
const MODEL: &str = r#"{"prediction":"velocity","in_channels":4,"out_channels":4,"num_classes":1,"null_class":false,"class_names":[],
    "hidden":8,"depths":[1,1,1,1,1],"mlp_ratio":3.0,"height":8,"width":8}"#;

/// The text of a plan of that version.
fn plan(version: u32, entries: &str) -> String {
    format!(r#"{{"version":{version},"entries":[{entries}]}}"#)
}

/// A header without tensors whose metadata are sound but for `key`, and whose checksum is right, computed from its
/// documentation: an attacker can do that too.
fn metadata(key: &str, value: &str) -> String {
    let plan = plan(plan::VERSION, "");
    let sound = [("fcdm.version", artifact::VERSION), ("fcdm.model", MODEL), ("fcdm.plan", &plan), ("fcdm.checksums", "{}")];
    let mut map: BTreeMap<&str, String> = sound.into_iter().map(|(k, v)| (k, v.to_string())).collect();
    map.insert(key, value.to_string());
    let mut canonical = (map.len() as u64).to_le_bytes().to_vec();
    for text in map.iter().flat_map(|(k, v)| [*k, v.as_str()]) {
        canonical.extend((text.len() as u64).to_le_bytes());
        canonical.extend(text.as_bytes());
    }
    canonical.extend(0u64.to_le_bytes());
    map.insert("fcdm.checksum", format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&canonical)));
    serde_json::to_string(&BTreeMap::from([("__metadata__", map)])).unwrap()
}

/// Writes a file of that header and returns its size.
fn put(path: &Path, header: &str) -> usize {
    let length = header.len().next_multiple_of(64) + 56;
    let mut bytes = (length as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(8 + length, b' ');
    std::fs::write(path, &bytes).unwrap();
    bytes.len()
}

#[test]
fn opening_allocates_a_small_multiple_of_the_file() {
    let many = |item: &str| vec![item; 200_000].join(",");
    let headers = [
        format!(r#"{{"x":{{"dtype":"F32","shape":[{}],"data_offsets":[0,0]}}}}"#, many("0")),
        format!(
            r#"{{"x":{{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4611686018427387904]}},"y":{{"dtype":"{}"}}}}"#,
            many("")
        ),
        format!(r#"{{"x":{}"#, "[".repeat(500_000)),
        format!(r#"{{"x":{}"#, r#"{"dtype":"#.repeat(100_000)),
        format!(r#"{{"__metadata__":{{{}}}}}"#, (0..50_000).map(|i| format!(r#""{i}":"""#)).collect::<Vec<_>>().join(",")),
        metadata("fcdm.provenance", &format!("[{}]", many("0"))),
        metadata("fcdm.report", &format!("[{}", many("{}"))),
        metadata("fcdm.checksums", &format!("{{{}}}", many("\"a\":\"\""))),
        metadata("fcdm.model", &format!(r#"{{"class_names":[{}]}}"#, many("\"\""))),
        metadata("fcdm.model", &format!(r#"{{"depths":[{}]}}"#, many("1"))),
        metadata("fcdm.plan", &plan(plan::VERSION, &many("{}"))),
        // Sound plans of a version that is not ours.
        metadata("fcdm.plan", &plan(plan::VERSION + 1, &many(ENTRY))),
        metadata("fcdm.plan", &plan(plan::VERSION + 1, &ENTRY.replace("[]}", &format!("[{}]}}", many(STEP))))),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hostile.fcdm");

    put(&path, &metadata("fcdm.license", "none"));
    Artifact::open(&path).expect("sound but for nothing");
    for header in headers {
        let length = put(&path, &header);
        let before = LIVE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let result = Artifact::open(&path);
        let used = PEAK.load(Ordering::Relaxed) - before;
        assert!(result.is_err());
        drop(result);
        assert!(used <= FACTOR * length + CONSTANT, "{used} bytes for a file of {}: {}", length, &header[..100.min(header.len())]);
    }
    // The length prefix alone promises much and must cost nothing.
    for claimed in [u64::MAX, 1 << 40, 99_999_999] {
        std::fs::write(&path, claimed.to_le_bytes()).unwrap();
        let before = LIVE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        assert!(Artifact::open(&path).is_err());
        assert!(PEAK.load(Ordering::Relaxed) - before <= CONSTANT);
    }
}
