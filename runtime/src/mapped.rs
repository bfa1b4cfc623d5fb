//! A file as a read-only slice of memory. Weights are used in place, so that pages which a run never touches are
//! never read and all processes that run the same artifact share one copy.
//!
//! **Caveat.** The operating system cannot freeze a file. If somebody overwrites it in place while it is mapped the
//! bytes change under the reader, and if somebody truncates it the next access to the lost pages ends the process
//! (`SIGBUS`). Files written by [`crate::file::replace_file`] are replaced by renaming, which leaves every existing
//! map on the old contents, so a running model may be updated on disk; anything else that writes into the same file
//! has to be kept away by whoever deploys it. No address outside the map is ever reached.
//!
//! A page that was read through the map counts as this process's memory until it is handed back. So what is only to be
//! looked at once, to verify it, is read from the same open file into a buffer; and what has been used for the last
//! time is handed back.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use memmap2::{Mmap, MmapOptions};

/// A mapped file. The bytes start on a page boundary, hence aligned for every element type.
#[derive(Debug)]
pub struct MappedFile {
    file: File,
    /// `None` for an empty file, of which there is nothing to map.
    map: Option<Mmap>,
}

impl MappedFile {
    /// Maps the whole of `path`.
    ///
    /// # Errors
    /// Whatever opening or mapping it gives; a directory or a device is [`io::ErrorKind::InvalidInput`].
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        MappedFile::of(File::open(path)?)
    }

    /// Maps the whole of an open file.
    ///
    /// # Errors
    /// As [`MappedFile::open`].
    pub fn of(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        if metadata.len() == 0 {
            return Ok(Self { file, map: None });
        }
        let length =
            usize::try_from(metadata.len()).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "too large for the address space"))?;
        // SAFETY: the map is read-only and private to this value; the one thing that `map` asks for and nobody can
        // give, that no other process changes the file, is the caveat above. The slices handed out are `u8`, for
        // which every value is valid.
        let map = unsafe { MmapOptions::new().len(length).map(&file)? };
        Ok(Self { file, map: Some(map) })
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }

    /// Fills `buffer` with the file's bytes from `at` on. Read from the file and not from the map, so that no page
    /// becomes resident; the file is the one that is mapped, whatever its path stands for by now.
    ///
    /// # Errors
    /// What reading gives; [`io::ErrorKind::UnexpectedEof`] if the file has become shorter.
    pub fn read_at(&self, buffer: &mut [u8], at: usize) -> io::Result<()> {
        read_exact_at(&self.file, buffer, at as u64)
    }

    /// Gives the memory of a range of bytes back to the system: they stay readable and, when they are used again, are
    /// read again, from the file or the system's cache of it. Whole pages are given back, also those that the range
    /// only touches. Where the system knows no such request nothing happens.
    ///
    /// # Panics
    /// If the range is not inside of the file.
    pub fn hand_back(&self, range: Range<usize>) {
        assert!(range.start <= range.end && range.end <= self.bytes().len(), "a range of the file");
        #[cfg(unix)]
        if let Some(map) = self.map.as_ref().filter(|_| !range.is_empty()) {
            // SAFETY: the map is of a file, shared and read-only. Dropping its pages changes none of its bytes: the next
            // access brings back the file's, which are what was there before. The range lies inside.
            let advised = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len()) };
            // A system that refuses keeps the pages, which is where we were before.
            drop(advised);
        }
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, at)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut buffer: &mut [u8], mut at: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => (buffer, at) = (&mut buffer[n..], at + n as u64),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Where no file can be mapped there is none to read from.
#[cfg(not(any(unix, windows)))]
fn read_exact_at(_: &File, _: &mut [u8], _: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn maps_empty_and_ordinary_files_and_refuses_directories() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, b"").unwrap();
        assert_eq!(MappedFile::open(&path).unwrap().bytes(), b"");
        std::fs::write(&path, b"hello").unwrap();
        assert_eq!(MappedFile::open(&path).unwrap().bytes(), b"hello");
        assert_eq!(MappedFile::open(dir.path().join("absent")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(MappedFile::open(dir.path()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn reads_from_the_file_and_says_where_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, b"hello").unwrap();
        let file = MappedFile::open(&path).unwrap();
        // What the path stands for later does not matter.
        std::fs::write(dir.path().join("b"), b"other").unwrap();
        std::fs::rename(dir.path().join("b"), &path).unwrap();
        let mut three = [0; 3];
        file.read_at(&mut three, 2).unwrap();
        assert_eq!(&three, b"llo");
        assert_eq!(file.read_at(&mut three, 3).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn bytes_that_were_handed_back_are_there_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let bytes: Vec<u8> = (0..1 << 20).map(|i| (i >> 8) as u8 ^ i as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = MappedFile::open(&path).unwrap();
        assert_eq!(file.bytes(), bytes);
        for range in [0..0, 0..bytes.len(), 5000..5001, 12_345..987_654, bytes.len()..bytes.len()] {
            file.hand_back(range);
            assert_eq!(file.bytes(), bytes);
        }
        std::fs::write(&path, b"").unwrap();
        MappedFile::open(&path).unwrap().hand_back(0..0);
    }
}
