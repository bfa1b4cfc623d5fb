//! Memory for the values of a run, aligned to cache lines and zero at the start. Allocated once: `run` never
//! allocates.
//!
//! The allocator is asked for no more than its own alignment and the start moved up to ours: asked for more, it would
//! clear the memory itself, where otherwise it takes pages that the system clears when they are first used. Tens of
//! megabytes need not be written before the first step, and what no step uses never becomes resident.

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

/// Alignment that every allocator gives without more ado.
const NATURAL: usize = align_of::<usize>();

/// Bytes at an address divisible by [`ALIGN`].
#[derive(Debug)]
pub struct Arena {
    allocated: NonNull<u8>,
    layout: Layout,
    /// Inside of what is allocated, with [`ALIGN`] bytes to spare.
    start: NonNull<u8>,
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
        let refused = ArenaError { bytes };
        let with_gap = bytes.max(ALIGN).checked_add(ALIGN).ok_or(refused)?;
        let layout = Layout::from_size_align(with_gap, NATURAL).map_err(|_| refused)?;
        // SAFETY: the layout's size is not zero.
        let allocated = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(refused)?;
        let gap = allocated.addr().get().next_multiple_of(ALIGN) - allocated.addr().get();
        // SAFETY: the gap is below `ALIGN`, by which the allocation is longer than what is used of it.
        let start = unsafe { allocated.add(gap) };
        Ok(Arena { allocated, layout, start })
    }

    /// The first byte.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Number of bytes, at least what was asked for.
    pub fn bytes(&self) -> usize {
        self.layout.size() - ALIGN
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, freed once.
        unsafe { dealloc(self.allocated.as_ptr(), self.layout) }
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
