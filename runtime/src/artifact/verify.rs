//! Whether an artifact's tensors hold the bytes that were written: their checksums. The bytes of a file are read in blocks and not
//! through the map, so that verifying makes nothing resident.

use std::io;
use std::ops::Range;
#[cfg(feature = "threads")]
use std::sync::atomic::{AtomicUsize, Ordering};

use xxhash_rust::xxh3::Xxh3;

use super::error::{ArtifactError, Fault, one_line};
use super::header::Unique;
use super::reader::{Artifact, required};
use super::{checksum, keys};
#[cfg(feature = "threads")]
use crate::threads::available;

/// Bytes read at a time: few enough to be hashed from the second-level cache, many enough to hide the system call.
const BLOCK: usize = 1 << 18;

/// Below this many bytes a second thread costs more than it saves.
#[cfg(feature = "threads")]
const SERIAL_BYTES: usize = 4 << 20;

/// Threads beyond this number wait for memory.
#[cfg(feature = "threads")]
const MAX_THREADS: usize = 8;

/// A sum, or `None` when it was broken off.
pub(super) type Summed = io::Result<Option<u64>>;

impl Artifact {
    /// Compares every tensor's bytes with its checksum.
    ///
    /// # Errors
    /// Names the first damaged tensor in order of names.
    pub fn verify(&self) -> Result<(), ArtifactError> {
        self.verify_rest(&[], &|| false).map(|done| debug_assert!(done, "nobody breaks it off"))
    }

    /// Verifies on all threads; `known` are the sums of the first tensors. False if `cancelled` said so.
    pub(super) fn verify_rest(&self, known: &[u64], cancelled: &(dyn Fn() -> bool + Sync)) -> Result<bool, ArtifactError> {
        let mut sums: Vec<Summed> = known.iter().map(|&sum| Ok(Some(sum))).collect();
        let rest: Vec<_> = self.tensors.values().skip(known.len()).map(|entry| self.range(entry)).collect();
        sums.extend(self.sums(&rest, cancelled));
        let mut sums = sums.into_iter();
        self.find_damage(&mut |_| sums.next().expect("there is a sum for every tensor")).map_err(|fault| fault.at(self.path()))
    }

    /// Holds the sums of all tensors, asked for in order of names, against the checksums. False if one was broken off.
    pub(super) fn find_damage(&self, sum: &mut dyn FnMut(Range<usize>) -> Summed) -> Result<bool, Fault> {
        let text = required(&self.metadata, keys::CHECKSUMS)?;
        let Unique(mut listed) =
            serde_json::from_str(text).map_err(|e| Fault::field(keys::CHECKSUMS, "a map of checksums", one_line(&e.to_string())))?;
        for (name, entry) in &self.tensors {
            let expected =
                listed.remove(name).ok_or_else(|| Fault::field(keys::CHECKSUMS, format!("tensor `{}`", one_line(name)), "nothing"))?;
            let Some(found) = sum(self.range(entry)).map_err(Fault::Read)? else { return Ok(false) };
            let found = checksum::hex(found);
            if found != expected {
                return Err(Fault::tensor(name, format!("bytes with checksum {}", one_line(&expected)), found));
            }
        }
        match listed.pop_first() {
            Some((name, _)) => Err(Fault::field(keys::CHECKSUMS, "only tensors that exist", format!("`{}`", one_line(&name)))),
            None => Ok(true),
        }
    }

    /// The sums of all `ranges`, in their order, each byte read once; on several threads when there is much to read.
    #[cfg(feature = "threads")]
    fn sums(&self, ranges: &[Range<usize>], cancelled: &(dyn Fn() -> bool + Sync)) -> Vec<Summed> {
        let bytes: usize = ranges.iter().map(Range::len).sum();
        let threads = if bytes < SERIAL_BYTES { 1 } else { available().clamp(1, MAX_THREADS).min(ranges.len()) };
        let next = AtomicUsize::new(0);
        let work = || {
            let (mut done, mut block) = (Vec::new(), Vec::new());
            while let Some((i, range)) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, ranges.get(i)?))) {
                done.push((i, self.sum(range.clone(), &mut block, cancelled)));
            }
            done
        };
        let mut sums: Vec<Summed> = ranges.iter().map(|_| Ok(None)).collect();
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

    /// The sums of all `ranges`, in their order.
    #[cfg(not(feature = "threads"))]
    fn sums(&self, ranges: &[Range<usize>], cancelled: &(dyn Fn() -> bool + Sync)) -> Vec<Summed> {
        let mut block = Vec::new();
        ranges.iter().map(|range| self.sum(range.clone(), &mut block, cancelled)).collect()
    }

    /// The sum of a range of bytes; `cancelled` is asked before every block.
    pub(super) fn sum(&self, range: Range<usize>, block: &mut Vec<u8>, cancelled: &dyn Fn() -> bool) -> Summed {
        let mut hash = Xxh3::new();
        let mut at = range.start;
        while at < range.end {
            if cancelled() {
                return Ok(None);
            }
            let end = range.end.min(at + BLOCK);
            hash.update(self.source.block(at..end, block)?);
            at = end;
        }
        Ok(Some(hash.digest()))
    }
}

#[cfg(all(test, feature = "files", feature = "write"))]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use xxhash_rust::xxh3::xxh3_64;

    use super::*;
    use crate::artifact::tests::{contents, put, tensors};
    use crate::artifact::{TensorSource, WriteError};
    use crate::plan::Element;

    /// More than one thread's worth, in tensors longer and shorter than a block.
    pub(in super::super) fn many(path: &Path) -> Result<String, WriteError> {
        let tensor = |i: usize| {
            let bytes: Vec<u8> = (0..(i + 1) * 190_016).map(|k| ((k * 31 + i) >> 3) as u8).collect();
            TensorSource::bytes(format!("t{i}"), Element::F32, vec![bytes.len() / 4], bytes)
        };
        put(path, &contents(), tensors().into_iter().chain((0..8).map(tensor)).collect())
    }

    pub(in super::super) fn never() -> bool {
        false
    }

    #[test]
    fn threads_and_blocks_change_no_sum() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.fcdm");
        many(&path).unwrap();
        let artifact = Artifact::open(&path).unwrap();
        assert!(artifact.file_bytes() > SERIAL_BYTES);
        let ranges: Vec<_> = artifact.tensors.values().map(|e| artifact.range(e)).collect();
        let sums: Vec<u64> = artifact.sums(&ranges, &never).into_iter().map(|s| s.unwrap().unwrap()).collect();
        let expected: Vec<u64> = artifact.tensors().map(|(_, _, _, bytes)| xxh3_64(bytes)).collect();
        assert_eq!(sums, expected);
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error_and_no_crash() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.fcdm");
        many(&path).unwrap();
        let artifact = Artifact::open_unverified(&path).unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100_000).unwrap();
        let message = artifact.verify().unwrap_err().to_string();
        assert!(message.starts_with(&format!("{}: cannot read: ", path.display())), "{message}");
    }
}
