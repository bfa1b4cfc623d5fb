//! A file as a read-only slice of memory. Weights are used in place, so that pages which a run never touches are
//! never read and all processes that run the same artifact share one copy.
//!
//! **Caveat.** The operating system cannot freeze a file. If somebody overwrites it in place while it is mapped the
//! bytes change under the reader, and if somebody truncates it the next access to the lost pages ends the process
//! (`SIGBUS`). Files written by [`crate::file::replace_file`] are replaced by renaming, which leaves every existing
//! map on the old contents, so a running model may be updated on disk; anything else that writes into the same file
//! has to be kept away by whoever deploys it. No address outside the map is ever reached.

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::{Mmap, MmapOptions};

/// A mapped file. The bytes start on a page boundary, hence aligned for every element type.
#[derive(Debug)]
pub struct MappedFile {
    /// `None` for an empty file, of which there is nothing to map.
    map: Option<Mmap>,
}

impl MappedFile {
    /// Maps the whole of `path`.
    ///
    /// # Errors
    /// Whatever opening or mapping it gives; a directory or a device is [`io::ErrorKind::InvalidInput`].
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        if metadata.len() == 0 {
            return Ok(Self { map: None });
        }
        let length =
            usize::try_from(metadata.len()).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "too large for the address space"))?;
        // SAFETY: the map is read-only and private to this value; the one thing that `map` asks for and nobody can
        // give, that no other process changes the file, is the caveat above. The slices handed out are `u8`, for
        // which every value is valid.
        let map = unsafe { MmapOptions::new().len(length).map(&file)? };
        Ok(Self { map: Some(map) })
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }
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
}
