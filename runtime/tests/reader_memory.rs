//! What opening a hostile artifact may allocate: a small multiple of the file's size, whatever the file claims.

#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use fcdm_runtime::artifact::Artifact;

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

#[test]
fn opening_allocates_a_small_multiple_of_the_file() {
    let many = |item: &str| vec![item; 200_000].join(",");
    let metadata =
        |key: &str, value: &str| format!(r#"{{"__metadata__":{{"fcdm.version":"1","{key}":{}}}}}"#, serde_json::to_string(value).unwrap());
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
        metadata("fcdm.report", &format!("[{}]", many("{}"))),
        metadata("fcdm.checksums", &format!("{{{}}}", many("\"a\":\"\""))),
        metadata("fcdm.model", &format!(r#"{{"class_names":[{}]}}"#, many("\"\""))),
        metadata("fcdm.model", &format!(r#"{{"depths":[{}]}}"#, many("1"))),
        metadata("fcdm.plan", &format!(r#"{{"version":1,"entries":[{}]}}"#, many("{}"))),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hostile.fcdm");
    for header in headers {
        let mut bytes = (header.len().next_multiple_of(64) as u64 + 56).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(header.len().next_multiple_of(64) + 64, b' ');
        std::fs::write(&path, &bytes).unwrap();
        let before = LIVE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let result = Artifact::open(&path);
        let used = PEAK.load(Ordering::Relaxed) - before;
        assert!(result.is_err());
        drop(result);
        assert!(
            used <= FACTOR * bytes.len() + CONSTANT,
            "{used} bytes for a file of {}: {}",
            bytes.len(),
            &header[..100.min(header.len())]
        );
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
