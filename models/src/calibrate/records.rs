//! What calibration has found out so far, in files: memory does not hold a model's worth of it, and what was interrupted goes on.
//!
//! A record is a few sections of bytes under a name. In a folder that the user names each is a file, written whole or not at all:
//!
//! | bytes | |
//! | --- | --- |
//! | 8 | `fcdmcal1` |
//! | 8 | what it is of: a hash of the checkpoint's weights, of all that decides the values, and of its name |
//! | 8 | XXH3 of all that follows |
//! | | each section: its length (u64, little-endian), its bytes |
//!
//! What is damaged, of another checkpoint or of other settings is made anew. Without a folder records are in one file that has no name.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use fcdm_compiler::prepared::Bytes;
use fcdm_runtime::file::{FileError, replace_file};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::compile::CompileError;
use crate::options::OptionError;

const MAGIC: &[u8; 8] = b"fcdmcal1";

/// Bytes before the sections.
const HEAD: u64 = 24;

/// Where records are.
pub(crate) struct Records {
    place: Place,
    /// What all of them are of.
    of: u64,
    taken: Cell<usize>,
}

enum Place {
    Folder(PathBuf),
    /// A file without a name, and its length; `None` where there can be none.
    Unnamed(Option<Arc<Mutex<File>>>, RefCell<u64>),
}

impl Records {
    /// In a folder, which is made, or without one. `of` is all that decides what they hold.
    pub fn new(folder: Option<&Path>, of: &str) -> Result<Records, CompileError> {
        let place = match folder {
            Some(folder) => {
                let cannot = |e| OptionError(format!("calibration-folder: {}: {e}", folder.display()));
                std::fs::create_dir_all(folder).map_err(cannot)?;
                Place::Folder(folder.to_owned())
            }
            None => Place::Unnamed(tempfile::tempfile().ok().map(|file| Arc::new(Mutex::new(file))), RefCell::new(0)),
        };
        Ok(Records { place, of: xxh3_64(of.as_bytes()), taken: Cell::new(0) })
    }

    /// How many were there already.
    pub fn taken(&self) -> usize {
        self.taken.get()
    }

    fn key(&self, name: &str) -> u64 {
        xxh3_64(format!("{:016x} {name}", self.of).as_bytes())
    }

    /// The sections of a record, if it is there and has sections of these lengths.
    pub fn get(&self, name: &str, lengths: &[usize]) -> Option<Vec<Bytes>> {
        let Place::Folder(folder) = &self.place else { return None };
        let key = self.key(name);
        let path = folder.join(format!("{key:016x}.fcdmcal"));
        let ranges = ranges(lengths.iter().copied());
        check(&path, key, &ranges).ok()?.then_some(())?;
        self.taken.set(self.taken.get() + 1);
        Some(ranges.into_iter().map(|range| section(&path, range)).collect())
    }

    /// Writes a record.
    pub fn put(&self, name: &str, sections: Vec<Vec<u8>>) -> Result<Vec<Bytes>, FileError> {
        let ranges = ranges(sections.iter().map(Vec::len));
        match &self.place {
            Place::Folder(folder) => {
                let key = self.key(name);
                let path = folder.join(format!("{key:016x}.fcdmcal"));
                let length = |bytes: &Vec<u8>| (bytes.len() as u64).to_le_bytes();
                let mut sum = Xxh3::new();
                for bytes in &sections {
                    sum.update(&length(bytes));
                    sum.update(bytes);
                }
                replace_file(&path, |file| {
                    let all = [&MAGIC[..], &key.to_le_bytes(), &sum.digest().to_le_bytes()].concat();
                    let mut write = || -> io::Result<()> {
                        file.write_all(&all)?;
                        sections.iter().try_for_each(|bytes| {
                            file.write_all(&length(bytes))?;
                            file.write_all(bytes)
                        })
                    };
                    write().map_err(FileError::writing(&path))
                })?;
                Ok(ranges.into_iter().map(|range| section(&path, range)).collect())
            }
            Place::Unnamed(Some(file), length) => {
                let mut all = Vec::new();
                for bytes in sections {
                    let begin = *length.borrow();
                    let mut open = file.lock().expect("nobody panics with it");
                    open.seek(SeekFrom::Start(begin))
                        .and_then(|_| open.write_all(&bytes))
                        .map_err(FileError::writing(Path::new("a temporary file")))?;
                    *length.borrow_mut() += bytes.len() as u64;
                    let (file, count) = (file.clone(), bytes.len());
                    all.push(Bytes::new(move || read(&mut file.lock().expect("nobody panics with it"), begin, count)));
                }
                Ok(all)
            }
            Place::Unnamed(None, _) => Ok(sections.into_iter().map(Bytes::held).collect()),
        }
    }
}

/// Offset and length of every section.
fn ranges(lengths: impl Iterator<Item = usize>) -> Vec<(u64, usize)> {
    let mut at = HEAD;
    let mut next = |length: usize| {
        let begin = at + 8;
        at = begin + length as u64;
        (begin, length)
    };
    lengths.map(&mut next).collect()
}

fn section(path: &Path, (begin, length): (u64, usize)) -> Bytes {
    let path = path.to_owned();
    Bytes::new(move || read(&mut File::open(&path)?, begin, length))
}

fn read(file: &mut File, begin: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.seek(SeekFrom::Start(begin))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Whether a file is that record, whole and undamaged. Its length is looked at first, and no more of it is read at once than a buffer.
fn check(path: &Path, key: u64, ranges: &[(u64, usize)]) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let end = ranges.last().map_or(HEAD, |(begin, length)| begin + *length as u64);
    let mut head = [0; HEAD as usize];
    if file.metadata()?.len() != end || file.read_exact(&mut head).is_err() {
        return Ok(false);
    }
    let (mut sum, mut buffer) = (Xxh3::new(), vec![0; 1 << 16]);
    let (mut at, mut next) = (HEAD, ranges.iter());
    while at < end {
        // A section's length, and then its bytes.
        let (begin, length) = *next.next().expect("sections go to the end");
        let mut told = [0; 8];
        file.read_exact(&mut told)?;
        sum.update(&told);
        if u64::from_le_bytes(told) != length as u64 {
            return Ok(false);
        }
        let mut left = length;
        while left > 0 {
            let some = left.min(buffer.len());
            file.read_exact(&mut buffer[..some])?;
            sum.update(&buffer[..some]);
            left -= some;
        }
        at = begin + length as u64;
    }
    Ok(head[..8] == MAGIC[..] && head[8..16] == key.to_le_bytes() && head[16..] == sum.digest().to_le_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn values(found: &[Bytes]) -> Vec<Vec<u8>> {
        found.iter().map(|bytes| bytes.read().unwrap()).collect()
    }

    #[test]
    fn what_was_put_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let sections = || vec![vec![1, 2, 3], Vec::new(), vec![7; 100_000]];
        for folder in [None, Some(folder.path())] {
            let records = Records::new(folder, "this").unwrap();
            assert!(records.get("a", &[3, 0, 100_000]).is_none());
            let first = records.put("a", sections()).unwrap();
            let second = records.put("b", vec![vec![9]]).unwrap();
            assert_eq!((values(&first), values(&second)), (sections(), vec![vec![9]]));
        }
        let again = Records::new(Some(folder.path()), "this").unwrap();
        assert_eq!(values(&again.get("a", &[3, 0, 100_000]).unwrap()), sections());
        assert!(again.get("a", &[3, 1, 99_999]).is_none() && again.get("c", &[1]).is_none());
        assert_eq!(again.taken(), 1);
        assert!(Records::new(Some(folder.path()), "that").unwrap().get("a", &[3, 0, 100_000]).is_none());
    }

    #[test]
    fn what_is_damaged_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(Some(folder.path()), "this").unwrap();
        records.put("a", vec![vec![5; 40], vec![6; 10]]).unwrap();
        let path = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let good = std::fs::read(&path).unwrap();
        for i in 0..good.len() {
            let mut bad = good.clone();
            bad[i] ^= 16;
            std::fs::write(&path, bad).unwrap();
            assert!(records.get("a", &[40, 10]).is_none(), "byte {i}");
        }
        for bad in [&good[..good.len() - 1], &good[..10], &[]] {
            std::fs::write(&path, bad).unwrap();
            assert!(records.get("a", &[40, 10]).is_none());
        }
        std::fs::write(&path, &good).unwrap();
        assert!(records.get("a", &[40, 10]).is_some());
    }
}
