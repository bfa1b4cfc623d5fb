//! Memory as the checker sees it: ranges of bytes, and for each who wrote it last.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::lower::BufferId;

/// Who wrote bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// Whoever was there before the first step.
    Before,
    /// The program's step of that index, as that buffer.
    Step(usize, BufferId),
}

/// Bytes with one writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub from: usize,
    pub to: usize,
    pub by: Writer,
}

/// Bytes that were written, as disjoint ranges: start -> (end, writer).
#[derive(Clone, Debug, Default)]
pub(super) struct Memory(BTreeMap<usize, (usize, Writer)>);

impl Memory {
    /// Bytes that hold something from the start.
    pub fn filled(bytes: usize) -> Memory {
        let mut memory = Memory::default();
        memory.write(0..bytes, Writer::Before);
        memory
    }

    /// Replaces what the bytes held; what lies around them stays.
    pub fn write(&mut self, bytes: Range<usize>, by: Writer) {
        if let Some((&from, &(to, old))) = self.0.range(..bytes.start).next_back()
            && to > bytes.start
        {
            self.0.insert(from, (bytes.start, old));
            self.0.insert(bytes.start, (to, old));
        }
        while let Some((&from, &(to, old))) = self.0.range(bytes.clone()).next() {
            self.0.remove(&from);
            if to > bytes.end {
                self.0.insert(bytes.end, (to, old));
            }
        }
        self.0.insert(bytes.start, (bytes.end, by));
    }

    /// What a range holds, counted from its start, neighbours of one writer as one; nothing where nobody wrote.
    pub fn read(&self, bytes: Range<usize>) -> Vec<Held> {
        let before = self.0.range(..bytes.start).next_back().filter(|(_, (to, _))| *to > bytes.start);
        let mut held: Vec<Held> = Vec::new();
        for (&from, &(to, by)) in before.into_iter().chain(self.0.range(bytes.clone())) {
            let (from, to) = (from.max(bytes.start) - bytes.start, to.min(bytes.end) - bytes.start);
            match held.last_mut() {
                Some(last) if last.to == from && last.by == by => last.to = to,
                _ => held.push(Held { from, to, by }),
            }
        }
        held
    }
}

/// The first bytes of so many that nobody wrote.
pub(super) fn hole(held: &[Held], bytes: usize) -> Option<Range<usize>> {
    let mut at = 0;
    for h in held {
        if h.from > at {
            return Some(at..h.from);
        }
        at = h.to;
    }
    (at < bytes).then_some(at..bytes)
}

/// The first byte at which two contents differ.
pub(super) fn difference(a: &[Held], b: &[Held]) -> Option<usize> {
    let i = (0..a.len().max(b.len())).find(|&i| a.get(i) != b.get(i))?;
    match (a.get(i), b.get(i)) {
        (Some(a), Some(b)) if a.from == b.from && a.by == b.by => Some(a.to.min(b.to)),
        (a, b) => a.into_iter().chain(b).map(|h| h.from).min(),
    }
}

/// Who wrote a byte.
pub(super) fn writer(held: &[Held], at: usize) -> Option<Writer> {
    held.iter().find(|h| h.from <= at && at < h.to).map(|h| h.by)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(step: usize) -> Writer {
        Writer::Step(step, BufferId(step))
    }

    /// Against a byte-by-byte memory.
    #[test]
    fn ranges_are_bytes() {
        let mut memory = Memory::default();
        let mut bytes: Vec<Option<Writer>> = vec![None; 64];
        let mut state = 1u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % below
        };
        for _ in 0..2000 {
            let (from, len) = (random(60), 1 + random(4));
            let who = by(random(3));
            memory.write(from..from + len, who);
            bytes[from..from + len].fill(Some(who));
            let (from, to) = (random(32), 33 + random(31));
            let held = memory.read(from..to);
            assert!((from..to).all(|i| writer(&held, i - from) == bytes[i]));
            assert!(held.windows(2).all(|w| w[0].to < w[1].from || w[0].by != w[1].by));
            assert_eq!(hole(&held, to - from).map(|h| h.start), (from..to).position(|i| bytes[i].is_none()));
        }
    }

    #[test]
    fn the_first_byte_that_differs() {
        let held = |parts: &[(usize, usize, usize)]| parts.iter().map(|&(from, to, s)| Held { from, to, by: by(s) }).collect::<Vec<_>>();
        let a = held(&[(0, 8, 1), (8, 12, 2)]);
        assert_eq!(difference(&a, &a), None);
        assert_eq!(difference(&a, &held(&[(0, 8, 1), (8, 16, 2)])), Some(12));
        assert_eq!(difference(&a, &held(&[(0, 6, 1), (6, 12, 2)])), Some(6));
        assert_eq!(difference(&a, &held(&[(0, 8, 1), (8, 12, 3)])), Some(8));
        assert_eq!(difference(&a, &held(&[(0, 8, 1)])), Some(8));
        assert_eq!(difference(&a, &held(&[(2, 8, 1), (8, 12, 2)])), Some(0));
    }
}
