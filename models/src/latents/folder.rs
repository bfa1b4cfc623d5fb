//! A folder of pictures: every sub-folder is a class, in the order of names, as `torchvision`'s `ImageFolder` has it. What systems
//! and tools leave beside pictures is passed over: names that begin with a dot, `__MACOSX` and the like.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

/// A picture and its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PictureFile {
    /// The file.
    pub path: PathBuf,
    /// Its name below the folder, see [`name_text`].
    pub name: String,
    /// Its class; 0 for pictures without sub-folders.
    pub label: usize,
}

/// What is in a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dataset {
    /// The pictures, by class and name.
    pub pictures: Vec<PictureFile>,
    /// Names of the classes; none if there are no sub-folders.
    pub classes: Vec<String>,
    /// Pictures of formats that are not read, by their extension.
    pub unread: Vec<PathBuf>,
    /// What else is there.
    pub left_out: Vec<PathBuf>,
}

/// Extensions of what is read.
const READ: [&str; 10] = ["png", "apng", "jpg", "jpeg", "jpe", "webp", "bmp", "gif", "tif", "tiff"];

/// Extensions of pictures that are not.
const UNREAD: [&str; 14] = ["heic", "heif", "avif", "jxl", "jp2", "psd", "svg", "dng", "cr2", "cr3", "nef", "arw", "raf", "exr"];

/// Names that are no one's pictures, beside those that begin with a dot.
const PASSED_OVER: [&str; 5] = ["__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN"];

impl Dataset {
    /// Looks through a folder. Sub-folders of classes are searched too. If there are no sub-folders with pictures, those in the folder itself
    /// are of one class, which has no name.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn open(folder: &Path) -> io::Result<Dataset> {
        let mut all = Dataset::default();
        let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = sorted(folder)?.into_iter().partition(|p| p.is_dir());
        let mut found = Vec::new();
        for sub in &folders {
            let mut files = Vec::new();
            collect(sub, &mut files)?;
            found.push(files);
        }
        let is_picture = |path: &PathBuf| has_extension(path, &READ) || has_extension(path, &UNREAD);
        if !found.iter().flatten().any(is_picture) {
            all.sort_in(files, folder, 0);
            all.left_out.extend(found.into_iter().flatten());
            return Ok(all);
        }
        for (label, (sub, files)) in folders.iter().zip(found).enumerate() {
            all.classes.push(name_text(sub.file_name().unwrap_or_default()));
            all.sort_in(files, folder, label);
        }
        all.left_out.extend(files);
        Ok(all)
    }

    /// Classes that have no picture among `pictures`.
    pub fn empty_classes(&self) -> Vec<&str> {
        let mut seen = vec![false; self.classes.len()];
        for picture in &self.pictures {
            seen.get_mut(picture.label).into_iter().for_each(|s| *s = true);
        }
        self.classes.iter().zip(seen).filter(|(_, seen)| !seen).map(|(name, _)| name.as_str()).collect()
    }

    fn sort_in(&mut self, files: Vec<PathBuf>, folder: &Path, label: usize) {
        for path in files {
            if has_extension(&path, &READ) {
                let name = name_text(path.strip_prefix(folder).unwrap_or(&path).as_os_str());
                self.pictures.push(PictureFile { path, name, label });
            } else if has_extension(&path, &UNREAD) {
                self.unread.push(path);
            } else {
                self.left_out.push(path);
            }
        }
    }
}

/// A file's name as text, `/` between its parts; bytes that are no UTF-8 as `\xff`.
pub fn name_text(name: &OsStr) -> String {
    let chunks = name.as_encoded_bytes().utf8_chunks();
    let text: String = chunks.map(|c| c.invalid().iter().fold(c.valid().to_owned(), |text, b| format!("{text}\\x{b:02x}"))).collect();
    if std::path::MAIN_SEPARATOR == '/' { text } else { text.replace(std::path::MAIN_SEPARATOR, "/") }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    // A list in place of recursion: folders may be nested as deeply as anyone likes.
    let mut todo = vec![folder.to_owned()];
    while let Some(next) = todo.pop() {
        for path in sorted(&next)? {
            match path.is_dir() {
                // Links to folders are not followed: they may lead back.
                true if path.is_symlink() => {}
                true => todo.push(path),
                false => files.push(path),
            }
        }
    }
    files.sort();
    Ok(())
}

/// What is in a folder, but for what is passed over.
fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let hidden = name.as_encoded_bytes().starts_with(b".") || PASSED_OVER.iter().any(|p| name.eq_ignore_ascii_case(p));
        if !hidden {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn has_extension(path: &Path, of: &[&str]) -> bool {
    path.extension().is_some_and(|e| of.iter().any(|known| e.eq_ignore_ascii_case(known)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        dir
    }

    fn pictures(dataset: &Dataset) -> Vec<(&str, usize)> {
        dataset.pictures.iter().map(|p| (p.name.as_str(), p.label)).collect()
    }

    #[test]
    fn classes_are_folders_in_order() {
        let dir = folder(&["b/2.png", "b/1.JPG", "a/x/y.webp", "a/notes.txt", "top.png", "c/z.bmp"]);
        let found = Dataset::open(dir.path()).unwrap();
        assert_eq!(pictures(&found), [("a/x/y.webp", 0), ("b/1.JPG", 1), ("b/2.png", 1), ("c/z.bmp", 2)]);
        assert_eq!(found.classes, ["a", "b", "c"]);
        assert_eq!(found.left_out, [dir.path().join("a/notes.txt"), dir.path().join("top.png")]);
        let found = Dataset::open(&dir.path().join("b")).unwrap();
        assert_eq!((pictures(&found), found.classes.len()), (vec![("1.JPG", 0), ("2.png", 0)], 0));
    }

    /// A class keeps its number, whether it has pictures or not.
    #[test]
    fn classes_without_pictures_are_told() {
        let dir = folder(&["a/1.png", "b/readme", "c/1.heic", "d/1.png"]);
        let found = Dataset::open(dir.path()).unwrap();
        assert_eq!((pictures(&found), found.empty_classes()), (vec![("a/1.png", 0), ("d/1.png", 3)], vec!["b", "c"]));
        assert_eq!(found.unread, [dir.path().join("c/1.heic")]);
    }

    #[test]
    fn what_systems_leave_is_passed_over() {
        let names =
            ["a/._1.jpg", "a/1.jpg", ".DS_Store", "__MACOSX/a/._1.jpg", ".ipynb_checkpoints/1.jpg", "a/Thumbs.db", "b/.cache/2.png"];
        let dir = folder(&names);
        let found = Dataset::open(dir.path()).unwrap();
        assert_eq!(
            (pictures(&found), &found.classes[..], found.left_out.len()),
            (vec![("a/1.jpg", 0)], &["a".to_owned(), "b".into()][..], 0)
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn names_need_not_be_utf_8() {
        use std::os::unix::ffi::OsStrExt;
        let dir = folder(&[]);
        let class = dir.path().join(OsStr::from_bytes(b"d\xffress"));
        std::fs::create_dir(&class).unwrap();
        std::fs::write(class.join(OsStr::from_bytes(b"\xfe.png")), b"").unwrap();
        let found = Dataset::open(dir.path()).unwrap();
        assert_eq!((pictures(&found), &found.classes[0][..]), (vec![("d\\xffress/\\xfe.png", 0)], "d\\xffress"));
    }
}
