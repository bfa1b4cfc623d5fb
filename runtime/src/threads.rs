//! Who executes: a pool of threads, or, without the feature `threads`, the caller alone behind the same interface.

#[cfg(not(feature = "threads"))]
mod caller;
#[cfg(feature = "threads")]
mod pool;

#[cfg(not(feature = "threads"))]
pub use caller::Pool;
#[cfg(feature = "threads")]
pub use pool::Pool;

/// As many threads as this machine runs at once; 1 without the feature `threads`.
pub fn available() -> usize {
    if cfg!(feature = "threads") { std::thread::available_parallelism().map_or(1, usize::from) } else { 1 }
}
