//! Whether an artifact's tensors hold the bytes that were written: their checksums. What could do harm is checked when an
//! artifact is opened; damaged weights only make results worthless. So a caller may begin at once while a thread
//! verifies beside it, and asks for the verdict before it lets a result out.
//!
//! The bytes are read from the file in blocks and not through the map, so that verifying makes nothing resident.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use xxhash_rust::xxh3::Xxh3;

use super::error::{ArtifactError, Fault, one_line};
use super::header::Unique;
use super::reader::{Artifact, required};
use super::{checksum, keys};

/// Bytes read at a time: few enough to be hashed from the second-level cache, many enough to hide the system call.
const BLOCK: usize = 1 << 18;

/// Below this many bytes a second thread costs more than it saves.
const SERIAL_BYTES: usize = 4 << 20;

/// Threads beyond this number wait for memory.
const MAX_THREADS: usize = 8;

/// A sum, or `None` when it was broken off.
type Summed = io::Result<Option<u64>>;

impl Artifact {
    /// Compares every tensor's bytes with its checksum.
    ///
    /// # Errors
    /// Names the first damaged tensor in order of names.
    pub fn verify(&self) -> Result<(), ArtifactError> {
        self.verify_rest(&[], &|| false).map(|done| debug_assert!(done, "nobody breaks it off"))
    }

    /// Starts to do what [`Self::verify`] does on a thread of low priority.
    pub fn verify_in_background(self: &Arc<Self>) -> Verification {
        let progress = Arc::new(Progress::default());
        let (artifact, shared) = (Arc::clone(self), Arc::clone(&progress));
        let work = move || {
            yield_to_others();
            shared.verify(&artifact);
        };
        // A system that refuses the thread leaves all of the work to `Verification::wait`.
        drop(std::thread::Builder::new().name("verify".into()).spawn(work));
        Verification { artifact: Arc::clone(self), progress }
    }

    /// Verifies on all threads; `known` are the sums of the first tensors. False if `cancelled` said so.
    fn verify_rest(&self, known: &[u64], cancelled: &(dyn Fn() -> bool + Sync)) -> Result<bool, ArtifactError> {
        let mut sums: Vec<Summed> = known.iter().map(|&sum| Ok(Some(sum))).collect();
        let rest: Vec<_> = self.tensors.values().skip(known.len()).map(|entry| self.range(entry)).collect();
        sums.extend(self.sums(&rest, cancelled));
        let mut sums = sums.into_iter();
        self.find_damage(&mut |_| sums.next().expect("there is a sum for every tensor")).map_err(|fault| fault.at(self.path()))
    }

    /// Holds the sums of all tensors, asked for in order of names, against the checksums. False if one was broken off.
    fn find_damage(&self, sum: &mut dyn FnMut(Range<usize>) -> Summed) -> Result<bool, Fault> {
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
    fn sums(&self, ranges: &[Range<usize>], cancelled: &(dyn Fn() -> bool + Sync)) -> Vec<Summed> {
        let bytes: usize = ranges.iter().map(Range::len).sum();
        let available = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if bytes < SERIAL_BYTES { 1 } else { available.clamp(1, MAX_THREADS).min(ranges.len()) };
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

    /// The sum of a range of the file's bytes; `cancelled` is asked before every block.
    fn sum(&self, range: Range<usize>, block: &mut Vec<u8>, cancelled: &dyn Fn() -> bool) -> Summed {
        block.resize(BLOCK, 0);
        let mut hash = Xxh3::new();
        let mut at = range.start;
        while at < range.end {
            if cancelled() {
                return Ok(None);
            }
            let part = &mut block[..BLOCK.min(range.end - at)];
            self.map.read_at(part, at)?;
            hash.update(part);
            at += part.len();
        }
        Ok(Some(hash.digest()))
    }
}

/// A verification that goes on in the background. Dropped, it ends soon.
pub struct Verification {
    artifact: Arc<Artifact>,
    progress: Arc<Progress>,
}

impl Verification {
    /// Whether damage has been found by now.
    pub fn found_damage(&self) -> bool {
        matches!(self.progress.state().verdict, Some(Err(_)))
    }

    /// The verdict. What is not verified yet is verified here, on all threads and at this thread's priority: where the
    /// machine is busy the other may hardly have run. `Ok(false)` if `cancelled` said so before there was a verdict.
    ///
    /// # Errors
    /// As [`Artifact::verify`].
    pub fn wait(self, cancelled: &(dyn Fn() -> bool + Sync)) -> Result<bool, ArtifactError> {
        self.progress.stop.store(true, Ordering::Relaxed);
        let State { sums, verdict } = std::mem::take(&mut *self.progress.state());
        match verdict {
            Some(verdict) => verdict.map(|()| true).map_err(|fault| fault.at(self.artifact.path())),
            None => self.artifact.verify_rest(&sums, cancelled),
        }
    }
}

impl Drop for Verification {
    fn drop(&mut self) {
        self.progress.stop.store(true, Ordering::Relaxed);
    }
}

/// What the thread in the background tells the others.
#[derive(Default)]
struct Progress {
    stop: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Sums of the first tensors in order of names.
    sums: Vec<u64>,
    verdict: Option<Result<(), Fault>>,
}

impl Progress {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it is held")
    }

    fn verify(&self, artifact: &Artifact) {
        let mut block = Vec::new();
        let stopped = || self.stop.load(Ordering::Relaxed);
        let found = artifact.find_damage(&mut |range| {
            let sum = artifact.sum(range, &mut block, &stopped)?;
            self.state().sums.extend(sum);
            Ok(sum)
        });
        match found {
            Ok(false) => {}
            Ok(true) => self.state().verdict = Some(Ok(())),
            Err(fault) => self.state().verdict = Some(Err(fault)),
        }
    }
}

/// The calling thread runs when no other wants to. Only on Linux has a thread a priority of its own that anybody may lower.
fn yield_to_others() {
    // Refused, it takes its share of the processor for a moment.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = rustix::process::setpriority_process(None, 19);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use xxhash_rust::xxh3::xxh3_64;

    use super::*;
    use crate::artifact::tests::{contents, put, tensors};
    use crate::artifact::{TensorSource, WriteError};
    use crate::plan::Element;

    /// More than one thread's worth, in tensors longer and shorter than a block.
    fn many(path: &Path) -> Result<String, WriteError> {
        let tensor = |i: usize| {
            let bytes: Vec<u8> = (0..(i + 1) * 190_016).map(|k| ((k * 31 + i) >> 3) as u8).collect();
            TensorSource::bytes(format!("t{i}"), Element::F32, vec![bytes.len() / 4], bytes)
        };
        put(path, &contents(), tensors().into_iter().chain((0..8).map(tensor)).collect())
    }

    fn never() -> bool {
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
    fn verdict_is_the_same_however_much_the_background_did() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.fcdm");
        many(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let count = Artifact::open(&path).unwrap().tensors().len();
        for damaged in [None, Some("a"), Some("t4"), Some("t7")] {
            let artifact = Arc::new(Artifact::open_unverified(&path).unwrap());
            let place = damaged.map(|name| artifact.range(&artifact.tensors[name]).end - 1);
            let mut bytes = whole.clone();
            place.into_iter().for_each(|at| bytes[at] ^= 1);
            std::fs::write(&path, bytes).unwrap();
            let expected = artifact.verify().map_err(|e| e.to_string());
            assert_eq!(expected.is_err(), damaged.is_some());
            assert!(damaged.is_none_or(|name| expected.clone().unwrap_err().contains(&format!("tensor `{name}`: expected bytes"))));
            let new = || Verification { artifact: Arc::clone(&artifact), progress: Arc::default() };
            let verdict = |v: Verification| v.wait(&never).map(|done| assert!(done)).map_err(|e| e.to_string());

            // To its end, to the middle, not at all.
            let all = new();
            all.progress.verify(&artifact);
            assert_eq!(all.found_damage(), damaged.is_some());
            assert_eq!(verdict(all), expected);
            let some = new();
            let sums = artifact.tensors().take(count / 2).map(|(_, _, _, bytes)| xxh3_64(bytes));
            some.progress.state().sums.extend(sums);
            assert_eq!(verdict(some), expected);
            assert_eq!(verdict(new()), expected);
            assert_eq!(verdict(artifact.verify_in_background()), expected);
            std::fs::write(&path, &whole).unwrap();
        }
    }

    #[test]
    fn ends_when_it_is_cancelled_or_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.fcdm");
        many(&path).unwrap();
        let artifact = Arc::new(Artifact::open_unverified(&path).unwrap());
        let new = || Verification { artifact: Arc::clone(&artifact), progress: Arc::default() };
        assert!(!new().wait(&|| true).unwrap());
        let stopped = new();
        stopped.progress.stop.store(true, Ordering::Relaxed);
        stopped.progress.verify(&artifact);
        assert!(stopped.progress.state().sums.is_empty() && stopped.progress.state().verdict.is_none());
        let progress = Arc::clone(&stopped.progress);
        progress.stop.store(false, Ordering::Relaxed);
        drop(stopped);
        assert!(progress.stop.load(Ordering::Relaxed));
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
