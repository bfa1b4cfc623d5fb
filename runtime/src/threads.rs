//! A pool of threads that all run the same closure: the executor's parallel loop. The threads persist; between
//! two runs a few microseconds apart they spin, so that a step costs no system call, and after that they sleep.
//!
//! Work is not stolen and not queued: which part a thread does follows from its index alone, so that results
//! cannot depend on timing.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Rounds of spinning before sleep, some tens of microseconds: longer than the pause between steps.
const SPINS: usize = 4000;

/// Rounds of giving up the time slice before sleep, for machines with more threads than cores.
const YIELDS: usize = 8;

type Job = *const (dyn Fn(usize) + Sync);

struct Shared {
    /// Counts runs. A worker has work when it differs from what it last saw.
    epoch: AtomicUsize,
    /// The current run's closure; written by `run` before the epoch, read by workers after it.
    job: UnsafeCell<Option<Job>>,
    /// Workers that have not finished the current run.
    pending: AtomicUsize,
    /// Workers that sleep or are about to.
    sleepers: AtomicUsize,
    /// True while the caller sleeps or is about to.
    caller_sleeps: AtomicBool,
    stop: AtomicBool,
    lock: Mutex<()>,
    work: Condvar,
    done: Condvar,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    spins: usize,
}

// SAFETY: `job` is written only by `run`, which has the pool exclusively, while no worker runs (pending is 0),
// and read by workers only between the epoch's increment and their decrement of `pending`. The closure behind
// it is `Sync` and outlives the run, because `run` waits for all.
unsafe impl Send for Shared {}
// SAFETY: as for `Send`.
unsafe impl Sync for Shared {}

/// The pool. Dropping it ends the threads.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish()
    }
}

impl Pool {
    /// A pool of `threads` threads, the caller of [`Pool::run`] being one; 0 counts as 1.
    ///
    /// # Errors
    /// If the system starts no more threads.
    pub fn new(threads: usize) -> std::io::Result<Pool> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shared = Arc::new(Shared {
            epoch: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            pending: AtomicUsize::new(0),
            sleepers: AtomicUsize::new(0),
            caller_sleeps: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            lock: Mutex::new(()),
            work: Condvar::new(),
            done: Condvar::new(),
            panic: Mutex::new(None),
            // With more threads than cores, spinning takes the time from those that have work.
            spins: if threads > cores { 0 } else { SPINS },
        });
        let mut pool = Pool { shared, workers: Vec::new() };
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let worker = std::thread::Builder::new().name(format!("fcdm-{index}")).spawn(move || work(&shared, index))?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// Number of threads, the caller among them.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `job(i)` for every thread index i, on that thread, 0 being the caller's, and returns when all have
    /// returned. Allocates nothing. A panic in any of them is resumed here after all have finished.
    pub fn run(&mut self, job: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() {
            return job(0);
        }
        let s = &*self.shared;
        // SAFETY: only the lifetime is erased; the workers use the closure only before this function returns.
        let erased: Job = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Job>(job) };
        // SAFETY: `&mut self`, and the last run has ended: no worker looks at the cell.
        unsafe { *s.job.get() = Some(erased) };
        s.pending.store(self.workers.len(), SeqCst);
        s.epoch.fetch_add(1, SeqCst);
        // Either this load sees a worker that is about to sleep, or that worker's check sees the new epoch.
        if s.sleepers.load(SeqCst) > 0 {
            let _guard = lock(&s.lock);
            s.work.notify_all();
        }
        let own = catch_unwind(AssertUnwindSafe(|| job(0)));
        wait(
            s,
            || s.pending.load(SeqCst) == 0,
            || {
                s.caller_sleeps.store(true, SeqCst);
                let mut guard = lock(&s.lock);
                while s.pending.load(SeqCst) != 0 {
                    guard = s.done.wait(guard).unwrap_or_else(PoisonError::into_inner);
                }
                s.caller_sleeps.store(false, SeqCst);
            },
        );
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        let panic = lock(&s.panic).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.shared.epoch.fetch_add(1, SeqCst);
        {
            let _guard = lock(&self.shared.lock);
            self.shared.work.notify_all();
        }
        for worker in self.workers.drain(..) {
            // A worker's panics were caught and handed on by `run`.
            let _ = worker.join();
        }
    }
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns when `ready`, first spinning, then yielding, then by `sleep`.
fn wait(s: &Shared, ready: impl Fn() -> bool, sleep: impl FnOnce()) {
    for _ in 0..s.spins {
        if ready() {
            return;
        }
        std::hint::spin_loop();
    }
    for _ in 0..YIELDS {
        if ready() {
            return;
        }
        std::thread::yield_now();
    }
    sleep();
}

fn work(s: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        wait(
            s,
            || s.epoch.load(SeqCst) != seen,
            || {
                s.sleepers.fetch_add(1, SeqCst);
                let mut guard = lock(&s.lock);
                while s.epoch.load(SeqCst) == seen {
                    guard = s.work.wait(guard).unwrap_or_else(PoisonError::into_inner);
                }
                s.sleepers.fetch_sub(1, SeqCst);
            },
        );
        if s.stop.load(SeqCst) {
            return;
        }
        // One step at a time: no run begins before this one has ended everywhere.
        seen = seen.wrapping_add(1);
        // SAFETY: between the epoch's increment and the decrement of `pending` the cell is not written.
        let job = unsafe { *s.job.get() }.expect("`run` sets the job before the epoch");
        // SAFETY: `run` does not return before `pending` is 0, so the closure is alive.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| unsafe { (*job)(index) })) {
            *lock(&s.panic) = Some(panic);
        }
        if s.pending.fetch_sub(1, SeqCst) == 1 && s.caller_sleeps.load(SeqCst) {
            let _guard = lock(&s.lock);
            s.done.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_once() {
        for threads in [1, 2, 5, 17] {
            let mut pool = Pool::new(threads).expect("threads start");
            let counts: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
            for round in 1..=200 {
                pool.run(&|i| {
                    counts[i].fetch_add(1, SeqCst);
                });
                assert!(counts.iter().all(|c| c.load(SeqCst) == round), "{threads} threads, round {round}");
            }
        }
    }

    #[test]
    fn wakes_after_sleep() {
        let mut pool = Pool::new(3).expect("threads start");
        let count = AtomicUsize::new(0);
        for _ in 0..5 {
            std::thread::sleep(std::time::Duration::from_millis(5));
            pool.run(&|i| {
                if i == 2 {
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
                count.fetch_add(1, SeqCst);
            });
        }
        assert_eq!(count.load(SeqCst), 15);
    }

    #[test]
    fn panics_arrive_and_the_pool_survives() {
        let mut pool = Pool::new(3).expect("threads start");
        for guilty in 0..3 {
            let caught = catch_unwind(AssertUnwindSafe(|| pool.run(&|i| assert!(i != guilty, "thread {i}"))));
            let message = caught.expect_err("one thread panicked");
            assert_eq!(message.downcast_ref::<String>(), Some(&format!("thread {guilty}")));
            let count = AtomicUsize::new(0);
            pool.run(&|_| {
                count.fetch_add(1, SeqCst);
            });
            assert_eq!(count.load(SeqCst), 3);
        }
    }
}
