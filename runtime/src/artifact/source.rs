//! Where an artifact's bytes are: in a mapped file, or in memory. Either way they begin at a multiple of [`ALIGN`], so that weights
//! are used in place.

use std::io;
use std::ops::Range;
use std::sync::Arc;

#[cfg(feature = "files")]
use crate::mapped::MappedFile;
use crate::plan::ALIGN;

/// An artifact in memory. Made of what the caller has: used in place where that begins at a multiple of [`ALIGN`], else
/// moved. A vector is moved inside of its own memory if it has room for [`ALIGN`] bytes more.
#[derive(Debug)]
pub struct Bytes {
    held: Held,
    start: usize,
    length: usize,
}

#[derive(Debug)]
enum Held {
    Owned(Vec<u8>),
    Shared(Arc<[u8]>),
    Static(&'static [u8]),
}

/// How far the next multiple of [`ALIGN`] is.
fn gap(bytes: &[u8]) -> usize {
    let address = bytes.as_ptr().addr();
    address.next_multiple_of(ALIGN) - address
}

impl Bytes {
    fn in_place(held: Held, length: usize) -> Bytes {
        Bytes { held, start: 0, length }
    }

    fn copied(bytes: &[u8]) -> Bytes {
        let mut copy = Vec::with_capacity(bytes.len() + ALIGN);
        copy.extend_from_slice(bytes);
        copy.into()
    }

    fn as_slice(&self) -> &[u8] {
        let all: &[u8] = match &self.held {
            Held::Owned(bytes) => bytes,
            Held::Shared(bytes) => bytes,
            Held::Static(bytes) => bytes,
        };
        &all[self.start..self.start + self.length]
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(mut bytes: Vec<u8>) -> Bytes {
        let length = bytes.len();
        if gap(&bytes) == 0 {
            return Bytes::in_place(Held::Owned(bytes), length);
        }
        bytes.reserve_exact(ALIGN);
        // The memory may be another one now.
        let start = gap(&bytes);
        bytes.resize(length + start, 0);
        bytes.copy_within(..length, start);
        Bytes { held: Held::Owned(bytes), start, length }
    }
}

impl From<Arc<[u8]>> for Bytes {
    fn from(bytes: Arc<[u8]>) -> Bytes {
        let length = bytes.len();
        if gap(&bytes) == 0 { Bytes::in_place(Held::Shared(bytes), length) } else { Bytes::copied(&bytes) }
    }
}

impl From<&'static [u8]> for Bytes {
    fn from(bytes: &'static [u8]) -> Bytes {
        if gap(bytes) == 0 { Bytes::in_place(Held::Static(bytes), bytes.len()) } else { Bytes::copied(bytes) }
    }
}

/// What an artifact reads from.
#[derive(Debug)]
pub(super) enum Source {
    #[cfg(feature = "files")]
    File(MappedFile),
    Memory(Bytes),
}

impl Source {
    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            #[cfg(feature = "files")]
            Source::File(file) => file.bytes(),
            Source::Memory(bytes) => bytes.as_slice(),
        }
    }

    /// Bytes that are looked at once: of a file they are read into the buffer, so that no page of the map becomes resident.
    pub fn block<'a>(&'a self, range: Range<usize>, buffer: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        match self {
            #[cfg(feature = "files")]
            Source::File(file) => {
                buffer.resize(range.len(), 0);
                file.read_at(buffer, range.start)?;
                Ok(buffer)
            }
            Source::Memory(bytes) => {
                buffer.clear();
                Ok(&bytes.as_slice()[range])
            }
        }
    }

    /// Gives the memory of bytes that are not needed for now back to the system, which has it only of a file.
    pub fn hand_back(&self, range: Range<usize>) {
        match self {
            #[cfg(feature = "files")]
            Source::File(file) => file.hand_back(range),
            Source::Memory(bytes) => debug_assert!(range.end <= bytes.length, "a range of the bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_aligned_and_the_same() {
        let expected: Vec<u8> = (0..1000).map(|i| i as u8).collect();
        let held = |bytes: Bytes| {
            assert!(bytes.as_slice() == expected && gap(bytes.as_slice()) == 0);
            bytes
        };
        for spare in [0, 1, ALIGN, 5000] {
            let mut bytes = Vec::with_capacity(1000 + spare);
            bytes.extend_from_slice(&expected);
            let before = bytes.as_ptr().addr();
            let after = held(bytes.into()).as_slice().as_ptr().addr();
            assert!(spare < ALIGN || after - before < ALIGN, "moved inside of its own memory");
        }
        held(Arc::<[u8]>::from(&expected[..]).into());
        // One of these begins at a multiple, and stays where it is.
        let leaked: &'static [u8] = Box::leak(vec![0; 1000 + ALIGN].into_boxed_slice());
        let aligned = &leaked[gap(leaked)..][..1000];
        assert_eq!(Bytes::from(aligned).as_slice().as_ptr(), aligned.as_ptr());
        assert_ne!(Bytes::from(&aligned[1..]).as_slice().as_ptr(), aligned[1..].as_ptr());
        assert!(Bytes::from(Vec::new()).as_slice().is_empty());
    }
}
