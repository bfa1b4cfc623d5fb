//! Memory for the values of a run, aligned to cache lines and zero at the start. Allocated once: `run` never
//! allocates.
//!
//! The allocator is asked for no more than its own alignment and the start moved up to ours: asked for more, it would
//! clear the memory itself, where otherwise it takes pages that the system clears when they are first used. Tens of
//! megabytes need not be written before the first step, and what no step uses never becomes resident. Large arenas are in
//! huge pages where the system's maps are at hand (the feature `files`) and have them.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

#[cfg(feature = "files")]
use memmap2::MmapMut;

use crate::plan::ALIGN;

/// Size of a huge page.
#[cfg(feature = "files")]
const HUGE: usize = 2 << 20;

/// Arenas of at least this size ask for huge pages: FCDM-XL, whose values take 10 MB, gains 3 % by them. Small ones lose as
/// much, since inside of one page what is a power of two apart shares sets of every cache.
#[cfg(any(feature = "files", test))]
const LARGE: usize = 8 << 20;

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
    start: NonNull<u8>,
    bytes: usize,
    memory: Memory,
}

#[derive(Debug)]
enum Memory {
    /// Longer than what is used by [`ALIGN`] bytes.
    Heap(NonNull<u8>, Layout),
    /// Held for its drop only; access goes through `start`.
    #[cfg(feature = "files")]
    Pages(#[allow(dead_code)] MmapMut),
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
        #[cfg(feature = "files")]
        if let Some(arena) = (bytes >= LARGE).then(|| Arena::of_pages(bytes)).flatten() {
            return Ok(arena);
        }
        let longer = bytes.max(ALIGN).checked_add(ALIGN);
        let layout = longer.and_then(|n| Layout::from_size_align(n, NATURAL).ok()).ok_or(ArenaError { bytes })?;
        // SAFETY: the layout's size is not zero.
        let allocated = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(ArenaError { bytes })?;
        let gap = allocated.addr().get().next_multiple_of(ALIGN) - allocated.addr().get();
        // SAFETY: the gap is below `ALIGN`, by which the allocation is longer than what is used of it.
        let start = unsafe { allocated.add(gap) };
        Ok(Arena { start, bytes: layout.size() - ALIGN, memory: Memory::Heap(allocated, layout) })
    }

    /// Pages of the system, zero until they are touched and resident only then, from the first whole huge page on. `None` where
    /// the system gives none; the allocator may still.
    #[cfg(feature = "files")]
    fn of_pages(bytes: usize) -> Option<Arena> {
        let mut map = MmapMut::map_anon(bytes.checked_add(HUGE).filter(|&b| isize::try_from(b).is_ok())?).ok()?;
        // Where there are no huge pages, small ones do.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        let start = map.as_mut_ptr();
        // SAFETY: the map is longer by a huge page than what follows the first multiple of its size.
        let start = NonNull::new(unsafe { start.add(start.align_offset(HUGE)) })?;
        Some(Arena { start, bytes, memory: Memory::Pages(map) })
    }

    /// The first byte.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Number of bytes, at least what was asked for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        match self.memory {
            // SAFETY: allocated in `new` with this layout, freed once.
            Memory::Heap(allocated, layout) => unsafe { dealloc(allocated.as_ptr(), layout) },
            #[cfg(feature = "files")]
            Memory::Pages(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_and_zero() {
        for bytes in [0, 1, 63, 64, 4097, LARGE - 1, LARGE, LARGE + 1] {
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
