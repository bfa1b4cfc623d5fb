//! The pool where there are no threads, or none are wanted: whoever calls does all of the work.

/// The caller.
#[derive(Debug)]
pub struct Pool;

impl Pool {
    /// Number of threads, whatever is asked for: 1.
    pub const fn size(_: usize) -> usize {
        1
    }

    /// As many threads as [`Pool::size`] says, which need not be started.
    ///
    /// # Errors
    /// None.
    pub fn new(_: usize) -> std::io::Result<Pool> {
        Ok(Pool)
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        1
    }

    /// Calls `job(0)`.
    pub fn run(&mut self, job: &(dyn Fn(usize) + Sync)) {
        job(0);
    }
}
