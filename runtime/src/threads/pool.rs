//! A pool of threads that all run the same closure: the executor's parallel loop. The threads persist; between
//! two runs a few microseconds apart they spin, so that a step costs no system call, and after that they sleep.
//!
//! Nobody waits for a worker that has not come: the closure hands out units of work to whoever asks, the caller can do
//! all of them, and a worker that the system has put to sleep finds the run closed. Units are computed alike on every
//! thread, so results cannot depend on timing.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Rounds of spinning before sleep, some tens of microseconds: longer than the pause between steps.
const SPINS: usize = 4000;

/// Rounds of giving up the time slice before sleep, for machines with more threads than cores.
const YIELDS: usize = 8;

type Job = *const (dyn Fn(usize) + Sync);

/// One run in one word: its number in the upper half, whether workers may still join it, and how many are in it. So
/// joining, closing and leaving are single steps that cannot be torn apart.
const OPEN: u64 = 1 << 31;
const ONE_RUN: u64 = 1 << 32;
const JOINED: u64 = OPEN - 1;

struct Shared {
    state: AtomicU64,
    /// The current run's closure: written by `run` while the state is closed and nobody has joined, read by workers that
    /// have joined.
    job: UnsafeCell<Option<Job>>,
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

// SAFETY: `job` is written only by `run`, which has the pool exclusively, while the state is closed with nobody in it, and
// read only by workers that have joined an open run. The closure behind it is `Sync` and outlives the run, because `run`
// closes it and waits for all that have joined.
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
    /// Number of threads of a pool that is asked for `threads`.
    pub const fn size(threads: usize) -> usize {
        if threads == 0 { 1 } else { threads }
    }

    /// A pool of `threads` threads, the caller of [`Pool::run`] being one; 0 counts as 1.
    ///
    /// # Errors
    /// If the system starts no more threads.
    pub fn new(threads: usize) -> std::io::Result<Pool> {
        let cores = super::available();
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(None),
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

    /// Calls `job(0)` on this thread, and meanwhile `job(i)` at most once on every worker i that comes before `job(0)` has
    /// returned: a job claims its work, it does not own it by index. Returns when all that were called have returned.
    /// Allocates nothing. A panic in any of them is resumed here after all have finished.
    pub fn run(&mut self, job: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() {
            return job(0);
        }
        let s = &*self.shared;
        // SAFETY: only the lifetime is erased; the workers use the closure only before this function returns.
        let erased: Job = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Job>(job) };
        // SAFETY: `&mut self`, and the last run was closed and left by all: no worker looks at the cell.
        unsafe { *s.job.get() = Some(erased) };
        let run = (s.state.load(SeqCst) & !(ONE_RUN - 1)).wrapping_add(ONE_RUN);
        s.state.store(run | OPEN, SeqCst);
        // Either this load sees a worker that is about to sleep, or that worker's check sees the new run.
        if s.sleepers.load(SeqCst) > 0 {
            let _guard = lock(&s.lock);
            s.work.notify_all();
        }
        let own = catch_unwind(AssertUnwindSafe(|| job(0)));
        s.state.fetch_and(!OPEN, SeqCst);
        let left = || s.state.load(SeqCst) & JOINED == 0;
        wait(s, left, || {
            s.caller_sleeps.store(true, SeqCst);
            let mut guard = lock(&s.lock);
            while !left() {
                guard = s.done.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
            s.caller_sleeps.store(false, SeqCst);
        });
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
        // A run that is open and not yet seen, or the end.
        let called = || {
            let state = s.state.load(SeqCst);
            state & OPEN != 0 && state / ONE_RUN != seen || s.stop.load(SeqCst)
        };
        wait(s, called, || {
            s.sleepers.fetch_add(1, SeqCst);
            let mut guard = lock(&s.lock);
            while !called() {
                guard = s.work.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
            s.sleepers.fetch_sub(1, SeqCst);
        });
        if s.stop.load(SeqCst) {
            return;
        }
        let joined = s.state.fetch_update(SeqCst, SeqCst, |state| (state & OPEN != 0).then_some(state + 1));
        // The run may have been closed meanwhile.
        let Ok(state) = joined else { continue };
        seen = state / ONE_RUN;
        // SAFETY: this worker has joined: the cell is not written before it has left.
        let job = unsafe { *s.job.get() }.expect("`run` sets the job before it opens the run");
        // SAFETY: `run` does not return before all that have joined have left, so the closure is alive.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| unsafe { (*job)(index) })) {
            *lock(&s.panic) = Some(panic);
        }
        if s.state.fetch_sub(1, SeqCst) & (OPEN | JOINED) == 1 && s.caller_sleeps.load(SeqCst) {
            let _guard = lock(&s.lock);
            s.done.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a job of `units` that sleeps a little over each, and returns how often each was done and by whom.
    fn claimed(pool: &mut Pool, units: usize) -> (Vec<usize>, Vec<usize>) {
        let next = AtomicUsize::new(0);
        let counts: Vec<AtomicUsize> = (0..units).map(|_| AtomicUsize::new(0)).collect();
        let calls: Vec<AtomicUsize> = (0..pool.threads()).map(|_| AtomicUsize::new(0)).collect();
        pool.run(&|thread| {
            calls[thread].fetch_add(1, SeqCst);
            loop {
                let unit = next.fetch_add(1, SeqCst);
                if unit >= units {
                    return;
                }
                counts[unit].fetch_add(1, SeqCst);
            }
        });
        let values = |v: Vec<AtomicUsize>| v.iter().map(|c| c.load(SeqCst)).collect();
        (values(counts), values(calls))
    }

    #[test]
    fn every_unit_once_and_nobody_twice() {
        for threads in [1, 2, 5, 17] {
            let mut pool = Pool::new(threads).expect("threads start");
            for units in (0..200).map(|i| i % 7) {
                let (counts, calls) = claimed(&mut pool, units);
                assert!(counts.iter().all(|&c| c == 1), "{threads} threads: {counts:?}");
                assert!(calls[0] == 1 && calls.iter().all(|&c| c <= 1), "{threads} threads: {calls:?}");
            }
        }
    }

    #[test]
    fn workers_come_even_after_they_slept() {
        let mut pool = Pool::new(3).expect("threads start");
        for _ in 0..5 {
            std::thread::sleep(std::time::Duration::from_millis(5));
            // Returns only when all three are in it.
            let barrier = std::sync::Barrier::new(3);
            pool.run(&|_| {
                barrier.wait();
            });
        }
    }

    #[test]
    fn a_worker_that_does_not_come_is_not_waited_for() {
        let mut pool = Pool::new(2).expect("threads start");
        while pool.shared.sleepers.load(SeqCst) == 0 {
            std::thread::yield_now();
        }
        // As if nobody slept, so that nobody is woken.
        pool.shared.sleepers.store(0, SeqCst);
        for _ in 0..100 {
            let (counts, calls) = claimed(&mut pool, 9);
            assert!(counts.iter().all(|&c| c == 1) && calls[0] == 1);
        }
        pool.shared.sleepers.store(1, SeqCst);
    }

    #[test]
    fn panics_arrive_and_the_pool_survives() {
        let mut pool = Pool::new(3).expect("threads start");
        for guilty in 0..3 {
            let barrier = std::sync::Barrier::new(3);
            let caught = catch_unwind(AssertUnwindSafe(|| {
                pool.run(&|i| {
                    barrier.wait();
                    assert!(i != guilty, "thread {i}");
                })
            }));
            let message = caught.expect_err("one thread panicked");
            assert_eq!(message.downcast_ref::<String>(), Some(&format!("thread {guilty}")));
            assert!(claimed(&mut pool, 9).0.iter().all(|&c| c == 1));
        }
    }
}
