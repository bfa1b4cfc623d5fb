//! A folder of pictures: every sub-folder is a class, in the order of names, as `torchvision`'s `ImageFolder` has it.

use std::io;
use std::path::{Path, PathBuf};

/// A picture and its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PictureFile {
    /// The file.
    pub path: PathBuf,
    /// Its class; 0 for pictures without sub-folders.
    pub label: i64,
}

/// Extensions of what is taken for a picture.
const EXTENSIONS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// The pictures below `folder`, and the names of the classes. Sub-folders of classes are searched too. If there are no sub-folders with
/// pictures, those in `folder` itself are of one class, which has no name.
///
/// # Errors
/// When a folder cannot be read.
pub fn pictures(folder: &Path) -> io::Result<(Vec<PictureFile>, Vec<String>)> {
    let (mut all, mut classes) = (Vec::new(), Vec::new());
    for sub in sorted(folder)?.into_iter().filter(|p| p.is_dir()) {
        let mut files = Vec::new();
        collect(&sub, &mut files)?;
        if files.is_empty() {
            continue;
        }
        let label = classes.len() as i64;
        classes.push(sub.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned()));
        all.extend(files.into_iter().map(|path| PictureFile { path, label }));
    }
    if all.is_empty() {
        let files = sorted(folder)?.into_iter().filter(|p| is_picture(p));
        all.extend(files.map(|path| PictureFile { path, label: 0 }));
    }
    Ok((all, classes))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    // A list in place of recursion: folders may be nested as deeply as anyone likes.
    let mut todo = vec![folder.to_owned()];
    while let Some(next) = todo.pop() {
        for path in sorted(&next)? {
            // Links to folders are not followed: they may lead back.
            if path.is_dir() && !path.is_symlink() {
                todo.push(path);
            } else if is_picture(&path) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(())
}

fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = std::fs::read_dir(folder)?.map(|e| Ok(e?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    path.is_file() && extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn classes_are_folders_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b/2.png", "b/1.JPG", "a/x/y.webp", "a/notes.txt", "empty/readme", "top.png"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        let (files, classes) = pictures(dir.path()).unwrap();
        let found: Vec<(String, i64)> =
            files.iter().map(|f| (f.path.strip_prefix(dir.path()).unwrap().to_string_lossy().into_owned(), f.label)).collect();
        assert_eq!(found, [("a/x/y.webp".into(), 0), ("b/1.JPG".into(), 1), ("b/2.png".into(), 1)]);
        assert_eq!(classes, ["a", "b"]);
        let (files, classes) = pictures(&dir.path().join("b")).unwrap();
        assert_eq!((files.len(), files[0].label, classes.len()), (2, 0, 0));
    }
}
