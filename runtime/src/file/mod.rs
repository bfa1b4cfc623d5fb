//! Writing a file so that it is there whole or not at all: into a temporary file in the same directory ([`temporary`]), flushed to
//! the disk, put in the target's place. Readers and maps of the old file keep the old contents. On an error, a full
//! disk or a cancellation the old file stays as it was and nothing is left behind.

mod temporary;
pub mod tensors;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use temporary::Temporary;

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot {action}: {source}", path.display())]
pub struct FileError {
    /// The file that was to be written, not the temporary one.
    pub path: PathBuf,
    /// What failed: `write`, `replace`, ...
    pub action: &'static str,
    /// What the system said.
    pub source: io::Error,
}

impl FileError {
    /// For `map_err` on what is written inside [`replace_file`].
    pub fn writing(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        Self::during(path, "write")
    }

    fn during<'a>(path: &'a Path, action: &'static str) -> impl Fn(io::Error) -> Self + 'a {
        move |source| Self { path: path.to_path_buf(), action, source }
    }
}

/// Bytes that are gathered before the system is asked to write them.
pub const WRITE_BUFFER: usize = 1 << 16;

/// Calls `write` and puts what it wrote in the place of `path`, with the permissions of an ordinary new file. A
/// symbolic link stays one: the file that it points to is replaced. A target that is neither file nor directory (a
/// device, a pipe) cannot be replaced and is written directly.
///
/// # Errors
/// What `write` returns, as it is; or a [`FileError`] for everything around it.
pub fn replace_file<E: From<FileError>>(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>) -> Result<(), E> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    match fs::metadata(&target) {
        Ok(found) if found.is_dir() => {
            return Err(FileError::writing(path)(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory")).into());
        }
        Ok(found) if !found.is_file() => {
            let device = OpenOptions::new().write(true).open(&target).map_err(FileError::during(path, "open"))?;
            return fill(path, device, write).map(drop);
        }
        _ => {}
    }
    let (file, temporary) = Temporary::beside(&target).map_err(FileError::during(path, "create a temporary file beside it"))?;
    let file = fill(path, file, write)?;
    // A rename may reach the disk before the data does; without this a power cut could leave an empty file in the
    // place of a good one. It is also where a delayed "no space left" comes to light.
    file.sync_all().map_err(FileError::during(path, "flush"))?;
    Ok(temporary.persist(file, &target).map_err(FileError::during(path, "replace"))?)
}

/// Runs `write` on a buffered `file` and hands the file back when all of it was accepted.
fn fill<E: From<FileError>>(path: &Path, file: File, write: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>) -> Result<File, E> {
    let mut writer = BufWriter::with_capacity(WRITE_BUFFER, file);
    write(&mut writer)?;
    Ok(writer.into_inner().map_err(|e| FileError::writing(path)(e.into_error()))?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    fn put(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
        replace_file(path, |w| w.write_all(bytes).map_err(FileError::writing(path)))
    }

    fn names(dir: &Path) -> Vec<String> {
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn replaces_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        put(&path, b"one").unwrap();
        put(&path, b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(names(dir.path()), ["a.bin"]);
    }

    #[test]
    fn failing_writer_keeps_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        put(&path, b"old").unwrap();
        let result = replace_file(&path, |w| {
            w.write_all(&[7; 1 << 18]).unwrap();
            Err(FileError::writing(&path)(io::Error::other("changed my mind")))
        });
        assert_eq!(result.unwrap_err().to_string(), format!("{}: cannot write: changed my mind", path.display()));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["a.bin"]);
    }

    #[test]
    fn directories_as_targets_and_absent_directories_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let message = put(dir.path(), b"x").unwrap_err().to_string();
        assert_eq!(message, format!("{}: cannot write: it is a directory", dir.path().display()));
        let path = dir.path().join("no/such/a.bin");
        let message = put(&path, b"x").unwrap_err().to_string();
        assert!(message.starts_with(&format!("{}: cannot create a temporary file beside it:", path.display())), "{message}");
        assert!(names(dir.path()).is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_those_of_an_ordinary_file() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("ours"), b"x").unwrap();
        fs::write(dir.path().join("ordinary"), b"x").unwrap();
        let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode("ours"), mode("ordinary"));
    }

    #[cfg(unix)]
    #[test]
    fn unwritable_directory_is_an_error() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).unwrap();
        // The superuser may write everywhere, and then there is nothing to refuse.
        let privileged = File::create(dir.path().join("probe")).is_ok();
        let result = put(&dir.path().join("a.bin"), b"x");
        assert_eq!(result.is_ok(), privileged);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn symbolic_links_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        put(&file, b"old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        put(&link, b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn full_device_is_an_error_and_devices_stay_devices() {
        let message = put(Path::new("/dev/full"), b"x").unwrap_err().to_string();
        assert!(message.starts_with("/dev/full: cannot write: No space left"), "{message}");
        put(Path::new("/dev/null"), b"x").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
