//! The file that is written before it has its name.
//!
//! On Linux it has none at all (`O_TMPFILE`) until it is whole, so that nothing is left of a process that is killed. Where the file
//! system has no such files, and for the moment between a name and the place of another file, it is `.fcdm-NUMBER.part` beside the
//! target, the number made of the target's name. Whoever holds one has it locked, which ends with the process: the next one that writes
//! the same target removes what nobody holds, and passes over what somebody does.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

/// Processes that write the same target at once.
const MOST: usize = 100;

/// What an open file is called until it has its place.
pub(super) struct Temporary(Option<Name>);

/// A name that goes away with the value.
struct Name(PathBuf);

impl Drop for Name {
    fn drop(&mut self) {
        // Renamed, it is gone already.
        let _ = fs::remove_file(&self.0);
    }
}

fn directory(target: &Path) -> &Path {
    target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl Temporary {
    /// An empty file in the target's folder, with the permissions of an ordinary new one.
    pub fn beside(target: &Path) -> io::Result<(File, Temporary)> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Ok(file) = nameless::create(directory(target)) {
            return Ok((file, Temporary(None)));
        }
        let (file, name) = Name::take(target, &mut |path| {
            let file = OpenOptions::new().write(true).create_new(true).open(path)?;
            // A file system without locks has nobody who removes it.
            let _ = file.try_lock();
            // Between the two steps it may have been taken for abandoned.
            if is_at(&file, path) { Ok(file) } else { Err(io::ErrorKind::AlreadyExists.into()) }
        })?;
        Ok((file, Temporary(Some(name))))
    }

    /// Puts the file in the target's place.
    pub fn persist(self, file: File, target: &Path) -> io::Result<()> {
        let name = match self.0 {
            Some(name) => name,
            #[cfg(any(target_os = "linux", target_os = "android"))]
            None => match nameless::link(&file, target) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    let _ = file.try_lock();
                    Name::take(target, &mut |path| nameless::link(&file, path))?.1
                }
                linked => return linked,
            },
            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            None => return Err(io::ErrorKind::Unsupported.into()),
        };
        fs::rename(&name.0, target)
    }
}

impl Name {
    /// The first free name for a target's temporary file, by what `make` makes there.
    fn take<T>(target: &Path, make: &mut dyn FnMut(&Path) -> io::Result<T>) -> io::Result<(T, Name)> {
        let number = xxh3_64(target.file_name().unwrap_or_default().as_encoded_bytes());
        for k in 0..MOST {
            let suffix = if k == 0 { String::new() } else { format!("-{k}") };
            let path = directory(target).join(format!(".fcdm-{number:016x}{suffix}.part"));
            let taken = |e: &io::Error| e.kind() == io::ErrorKind::AlreadyExists;
            match make(&path) {
                Err(e) if taken(&e) => {}
                made => return Ok((made?, Name(path))),
            }
            if removed_abandoned(&path) {
                match make(&path) {
                    Err(e) if taken(&e) => {}
                    made => return Ok((made?, Name(path))),
                }
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

/// Removes a temporary file that nobody holds. Nothing is written to it, whoever made it.
fn removed_abandoned(path: &Path) -> bool {
    if !fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        return false;
    }
    let Ok(file) = OpenOptions::new().write(true).open(path) else { return false };
    file.try_lock().is_ok() && is_at(&file, path) && fs::remove_file(path).is_ok()
}

/// Whether a path still leads to an open file.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let place = |found: io::Result<fs::Metadata>| found.ok().map(|found| (found.dev(), found.ino()));
    let open = place(file.metadata());
    open.is_some() && open == place(fs::symlink_metadata(path))
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod nameless {
    //! Files without a name.
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;
    use std::path::Path;

    use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};

    /// Where the system shows open files as paths, by which they get names.
    const OPEN_FILES: &str = "/proc/self/fd";

    pub fn create(directory: &Path) -> io::Result<File> {
        if !Path::new(OPEN_FILES).is_dir() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        // The system takes the umask off.
        Ok(open(directory, OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC, Mode::from_raw_mode(0o666))?.into())
    }

    pub fn link(file: &File, path: &Path) -> io::Result<()> {
        let open = format!("{OPEN_FILES}/{}", file.as_raw_fd());
        Ok(linkat(CWD, open, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A named one, also where files need no name.
    fn named(target: &Path) -> (File, Temporary) {
        let make = &mut |path: &Path| OpenOptions::new().write(true).create_new(true).open(path);
        let (file, name) = Name::take(target, make).unwrap();
        file.try_lock().unwrap();
        (file, Temporary(Some(name)))
    }

    #[test]
    fn what_nobody_holds_is_removed_and_what_somebody_holds_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a");
        let (held, first) = named(&target);
        let (mut file, second) = named(&target);
        assert_eq!(names(dir.path()).len(), 2, "{:?}", names(dir.path()));
        // The process of the first is killed: its lock ends, its name stays.
        drop(held);
        std::mem::forget(first);
        file.write_all(b"second").unwrap();
        second.persist(file, &target).unwrap();
        assert_eq!(names(dir.path()).len(), 2);
        let (file, third) = named(&target);
        assert_eq!(names(dir.path()).len(), 2, "in the place of the first");
        third.persist(file, &target).unwrap();
        assert_eq!(names(dir.path()), ["a"]);
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn a_whole_file_takes_a_name_or_another_ones_place() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a");
        for text in ["one", "two"] {
            let Ok(mut file) = nameless::create(dir.path()) else {
                println!("skipped: the file system has no nameless files");
                return;
            };
            let there = names(dir.path());
            file.write_all(text.as_bytes()).unwrap();
            assert_eq!(names(dir.path()), there);
            Temporary(None).persist(file, &target).unwrap();
            assert_eq!((fs::read(&target).unwrap(), names(dir.path())), (text.as_bytes().to_vec(), vec!["a".to_owned()]));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_its_place_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (target, other) = (dir.path().join("a"), dir.path().join("other"));
        fs::write(&other, "mine").unwrap();
        let (file, name) = named(&target);
        let path = name.0.as_ref().unwrap().0.clone();
        drop((file, name));
        std::os::unix::fs::symlink(&other, &path).unwrap();
        let (file, name) = named(&target);
        assert_ne!(name.0.as_ref().unwrap().0, path);
        name.persist(file, &target).unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"mine");
        assert!(path.is_symlink());
    }
}
