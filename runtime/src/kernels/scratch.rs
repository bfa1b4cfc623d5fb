//! How work and scratch memory are shared out among threads.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// How the units of a phase are shared out.
#[derive(Clone, Debug)]
pub(crate) enum Split<'a> {
    /// Whoever comes first: units below the counter are taken. A thread that the system has put to sleep holds nobody up.
    Claimed(&'a AtomicUsize),
    /// A thread's index decides, for a thread alone and for tests; so many units of its part are taken.
    Fixed { thread: usize, taken: usize },
}

impl Split<'_> {
    /// The next units, at most `most`: large shares at first, single units at the end.
    pub fn claim(&mut self, total: usize, most: usize, threads: usize) -> Option<Range<usize>> {
        match self {
            Split::Claimed(next) => {
                let share = |first: usize| ((total - first) / (2 * threads)).clamp(1, most);
                let take = |first: usize| (first < total).then(|| first + share(first));
                let first = next.fetch_update(Relaxed, Relaxed, take).ok()?;
                Some(first..first + share(first))
            }
            Split::Fixed { thread, taken } => {
                let all = part(total, *thread, threads);
                let left = (all.start + *taken).min(all.end)..all.end;
                *taken += left.len().min(most);
                let taken = left.start..left.end.min(left.start.saturating_add(most));
                (!taken.is_empty()).then_some(taken)
            }
        }
    }
}

/// The units that fall to a thread, one by one.
#[derive(Clone, Debug)]
pub(crate) struct Units<'a> {
    pub split: Split<'a>,
    pub total: usize,
    pub threads: usize,
    pub taken: Range<usize>,
}

impl Iterator for Units<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.taken.is_empty() {
            self.taken = self.split.claim(self.total, usize::MAX, self.threads)?;
        }
        self.taken.next()
    }
}

/// Thread `thread`'s share of `total` units when `threads` share them: contiguous, sizes differing by at most one.
pub(crate) fn part(total: usize, thread: usize, threads: usize) -> Range<usize> {
    let (each, rest) = (total / threads, total % threads);
    let start = thread * each + thread.min(rest);
    start..start + each + usize::from(thread < rest)
}

/// Memory that all threads see; each phase writes disjoint parts of it or only reads it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scratch {
    start: *mut f32,
    count: usize,
}

// SAFETY: an address and a length; the methods that access the memory are unsafe.
unsafe impl Send for Scratch {}
// SAFETY: as for `Send`.
unsafe impl Sync for Scratch {}

impl Scratch {
    /// `count` f32 at `start`, which must be aligned to 8 bytes, or at least 8 if none are there.
    pub fn new(start: *mut f32, count: usize) -> Scratch {
        Scratch { start, count }
    }

    /// Elements `range`, to read.
    ///
    /// # Safety
    /// - Nobody writes them while the result lives.
    pub unsafe fn read<'a>(&self, range: Range<usize>) -> &'a [f32] {
        assert!(range.start <= range.end && range.end <= self.count);
        // SAFETY: inside the scratch; the caller's contract.
        unsafe { std::slice::from_raw_parts(self.start.add(range.start), range.len()) }
    }

    /// Elements `range`, to write.
    ///
    /// # Safety
    /// - Nobody else accesses them while the result lives.
    pub unsafe fn write<'a>(&self, range: Range<usize>) -> &'a mut [f32] {
        assert!(range.start <= range.end && range.end <= self.count);
        // SAFETY: inside the scratch; the caller's contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }

    /// The address of element `range.start`, the whole range being inside.
    pub fn address(&self, range: Range<usize>) -> *mut f32 {
        assert!(range.start <= range.end && range.end <= self.count);
        // SAFETY: inside the scratch.
        unsafe { self.start.add(range.start) }
    }

    /// Elements `range` of the scratch seen as f64, to read.
    ///
    /// # Safety
    /// - Nobody writes them while the result lives.
    pub unsafe fn read_f64<'a>(&self, range: Range<usize>) -> &'a [f64] {
        assert!(range.start <= range.end && range.end <= self.count / 2);
        // SAFETY: inside the scratch, which is aligned for f64; the caller's contract.
        unsafe { std::slice::from_raw_parts(self.start.cast::<f64>().add(range.start), range.len()) }
    }

    /// Elements `range` of the scratch seen as f64, to write.
    ///
    /// # Safety
    /// - Nobody else accesses them while the result lives.
    pub unsafe fn write_f64<'a>(&self, range: Range<usize>) -> &'a mut [f64] {
        assert!(range.start <= range.end && range.end <= self.count / 2);
        // SAFETY: inside the scratch, which is aligned for f64; the caller's contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast::<f64>().add(range.start), range.len()) }
    }
}

/// The first `count` elements of a thread's own scratch as f64, zeroed.
pub(crate) fn zeroed_f64(own: &mut [f32], count: usize) -> &mut [f64] {
    assert!(count <= own.len() / 2);
    // SAFETY: own scratch is aligned to 64 bytes and holds that many; any bits are an f64.
    let sums = unsafe { std::slice::from_raw_parts_mut(own.as_mut_ptr().cast::<f64>(), count) };
    sums.fill(0.0);
    sums
}

/// The first places of a thread's own scratch as `count` addresses of rows, two f32 each.
pub(crate) fn addresses(own: &mut [f32], count: usize) -> &mut [*const f32] {
    assert!(2 * count <= own.len() && own.as_ptr().cast::<*const f32>().is_aligned());
    // SAFETY: aligned and inside of the scratch, an address having the size of two f32 at most; any bits are an address.
    unsafe { std::slice::from_raw_parts_mut(own.as_mut_ptr().cast(), count) }
}

/// From one row of `count` f32 to the next: whole cache lines, and an odd number of them, since rows a power of two apart
/// would share cache sets.
pub(crate) fn row_step(count: usize) -> usize {
    (count.div_ceil(16) | 1) * 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover() {
        for total in [0, 1, 5, 64] {
            for threads in [1, 2, 5, 7] {
                let all: Vec<usize> = (0..threads).flat_map(|t| part(total, t, threads)).collect();
                assert_eq!(all, (0..total).collect::<Vec<_>>());
            }
        }
    }
}
