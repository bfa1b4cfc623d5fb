//! Memory for the values of a run, aligned to cache lines and zero at the start. Allocated once: `run` never
//! allocates.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use crate::plan::ALIGN;

/// The system gave no memory of that size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot allocate an arena of {bytes} bytes")]
pub struct ArenaError {
    /// What was asked for.
    pub bytes: usize,
}

/// Bytes at an address divisible by [`ALIGN`].
#[derive(Debug)]
pub struct Arena {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the memory is owned by the arena alone and has no interior mutability: access goes through the raw
// pointer, whose users answer for it.
unsafe impl Send for Arena {}
// SAFETY: as for `Send`; `&Arena` gives nothing but the address.
unsafe impl Sync for Arena {}

impl Arena {
    /// An arena of `bytes` zero bytes.
    ///
    /// # Errors
    /// If the size overflows or the system refuses it.
    pub fn new(bytes: usize) -> Result<Arena, ArenaError> {
        let layout = Layout::from_size_align(bytes.max(ALIGN), ALIGN).map_err(|_| ArenaError { bytes })?;
        // SAFETY: the layout's size is not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(ArenaError { bytes })?;
        Ok(Arena { start, layout })
    }

    /// The first byte.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Number of bytes, at least what was asked for.
    pub fn bytes(&self) -> usize {
        self.layout.size()
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, freed once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_and_zero() {
        for bytes in [0, 1, 63, 64, 4097] {
            let arena = Arena::new(bytes).expect("a few bytes are there");
            assert_eq!(arena.as_ptr() as usize % ALIGN, 0);
            assert!(arena.bytes() >= bytes);
            // SAFETY: `bytes` bytes from the start belong to the arena.
            assert!(unsafe { std::slice::from_raw_parts(arena.as_ptr(), bytes) }.iter().all(|&b| b == 0));
        }
    }

    #[test]
    fn refuses_what_cannot_be() {
        assert_eq!(Arena::new(usize::MAX).expect_err("too large"), ArenaError { bytes: usize::MAX });
        let huge = isize::MAX as usize / 2;
        assert_eq!(Arena::new(huge).expect_err("too large").to_string(), format!("cannot allocate an arena of {huge} bytes"));
    }
}
