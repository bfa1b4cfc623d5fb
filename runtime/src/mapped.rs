//! A file mapped read-only into memory: weights are used where they lie, nothing is copied.
//!
//! An empty file maps to an empty slice. The file must not be truncated while it is mapped: its pages would be
//! gone, and reading them ends the process (SIGBUS on Unix). That is the contract of every memory map.

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::Mmap;

/// A read-only memory map of a whole file; unmapped when dropped.
#[derive(Debug)]
pub struct MappedFile {
    /// `None` for an empty file, which some systems refuse to map.
    map: Option<Mmap>,
}

impl MappedFile {
    /// Maps the file at `path`. Errors are those of opening and mapping; directories are refused by the system.
    pub fn open(path: impl AsRef<Path>) -> io::Result<MappedFile> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(MappedFile { map: None });
        }
        // SAFETY: the map is private to this value, read-only, and lives as long as the slices handed out. Another
        // process may still change the file; readers here treat every byte as hostile and re-check what they use.
        let map = unsafe { Mmap::map(&file)? };
        Ok(MappedFile { map: Some(map) })
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }
}
