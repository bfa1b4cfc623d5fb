//! Checksums: XXH3-64 with seed 0, written as 16 lower-case hex digits.
//!
//! `fcdm.checksum` is the hash of this byte string, in which `n(x)` is x as 8 bytes little-endian and `s(x)` is
//! `n(length)` followed by the bytes of x:
//! `n(count)` then `s(key) s(value)` for every metadata entry but `fcdm.checksum` in order of keys, then
//! `n(count)` then `s(name) s(dtype) n(rank) n(extent).. n(begin) n(end)` for every tensor in order of names,
//! with offsets counted from the first byte of the data as in the safetensors header. It depends on what the header
//! says and not on how its JSON is written.

use std::sync::atomic::{AtomicUsize, Ordering};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::header::{Strings, Table, dtype_name};
use super::keys;

/// Below this many bytes a second thread costs more than it saves.
const SERIAL_BYTES: usize = 4 << 20;

/// Threads beyond this number wait for memory.
const MAX_THREADS: usize = 8;

/// A checksum as text.
pub(super) fn hex(sum: u64) -> String {
    format!("{sum:016x}")
}

/// The value of `fcdm.checksum`.
pub(super) fn of_header(metadata: &Strings, tensors: &Table) -> u64 {
    let mut hash = Xxh3::new();
    let number = |hash: &mut Xxh3, n: usize| hash.update(&(n as u64).to_le_bytes());
    let text = |hash: &mut Xxh3, s: &str| {
        number(hash, s.len());
        hash.update(s.as_bytes());
    };
    let covered = || metadata.iter().filter(|(key, _)| *key != keys::CHECKSUM);
    number(&mut hash, covered().count());
    for (key, value) in covered() {
        text(&mut hash, key);
        text(&mut hash, value);
    }
    number(&mut hash, tensors.len());
    for (name, entry) in tensors {
        text(&mut hash, name);
        text(&mut hash, dtype_name(entry.dtype));
        number(&mut hash, entry.shape.len());
        for n in entry.shape.iter().chain([&entry.begin, &entry.end]) {
            number(&mut hash, *n);
        }
    }
    hash.digest()
}

/// The hashes of all `parts`, in their order, each byte read once; on several threads when there is much to read.
pub(super) fn of_parts(parts: &[&[u8]]) -> Vec<u64> {
    let bytes: usize = parts.iter().map(|p| p.len()).sum();
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if bytes < SERIAL_BYTES { 1 } else { available.clamp(1, MAX_THREADS).min(parts.len()) };
    if threads <= 1 {
        return parts.iter().map(|p| xxh3_64(p)).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some((i, part)) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, parts.get(i)?))) {
            done.push((i, xxh3_64(part)));
        }
        done
    };
    let mut sums = vec![0; parts.len()];
    std::thread::scope(|scope| {
        // A system that refuses a thread leaves its share to this one.
        let others: Vec<_> = (1..threads).filter_map(|_| std::thread::Builder::new().spawn_scoped(scope, work).ok()).collect();
        let mine = work();
        let theirs = others.into_iter().flat_map(|t| t.join().expect("hashing does not panic"));
        for (i, sum) in mine.into_iter().chain(theirs) {
            sums[i] = sum;
        }
    });
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_change_nothing() {
        let data: Vec<u8> = (0..SERIAL_BYTES + 12345).map(|i| ((i * 31) >> 3) as u8).collect();
        let parts: Vec<&[u8]> = data.chunks(700_001).collect();
        assert_eq!(of_parts(&parts), parts.iter().map(|p| xxh3_64(p)).collect::<Vec<_>>());
    }

    #[test]
    fn text_has_16_digits() {
        assert_eq!(hex(0xabc), "0000000000000abc");
        assert_eq!(hex(xxh3_64(b"")), "2d06800538d394c2");
    }
}
