//! Verification beside the work: what could do harm is checked when an artifact is opened, damaged weights only make results
//! worthless. So a caller may begin at once while a thread verifies, and asks for the verdict before it lets a result out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::error::{ArtifactError, Fault};
use super::reader::Artifact;

impl Artifact {
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

#[cfg(all(test, feature = "files", feature = "write"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use xxhash_rust::xxh3::xxh3_64;

    use super::super::verify::tests::{many, never};
    use super::*;

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
}
