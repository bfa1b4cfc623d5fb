//! Checksums: XXH3-64 with seed 0, written as 16 lower-case hex digits.
//!
//! `fcdm.checksum` is the hash of this byte string, in which `n(x)` is x as 8 bytes little-endian and `s(x)` is
//! `n(length)` followed by the bytes of x:
//! `n(count)` then `s(key) s(value)` for every metadata entry but `fcdm.checksum` in order of keys, then
//! `n(count)` then `s(name) s(dtype) n(rank) n(extent).. n(begin) n(end)` for every tensor in order of names,
//! with offsets counted from the first byte of the data as in the safetensors header. It depends on what the header
//! says and not on how its JSON is written.

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::header::{Strings, Table};
use super::keys;

/// A checksum as text.
pub(super) fn hex(sum: u64) -> String {
    format!("{sum:016x}")
}

/// The checksum of bytes, as text.
pub fn of(bytes: &[u8]) -> String {
    hex(xxh3_64(bytes))
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
        text(&mut hash, entry.dtype.name());
        number(&mut hash, entry.shape.len());
        for n in entry.shape.iter().chain([&entry.begin, &entry.end]) {
            number(&mut hash, *n);
        }
    }
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_16_digits() {
        assert_eq!(hex(0xabc), "0000000000000abc");
        assert_eq!(of(b""), "2d06800538d394c2");
    }
}
