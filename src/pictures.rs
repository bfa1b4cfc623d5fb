//! A folder of pictures, and what is made of all of them: a contact sheet, an archive.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use fcdm_models::pictures::{Picture, Text, grid, read_png, write_npz, write_png};
use fcdm_runtime::file::{FileError, replace_file};

use crate::failure::Failure;

/// What to write.
#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    /// Folder for the pictures.
    #[arg(short, long, default_value = "out", value_name = "FOLDER")]
    pub output: PathBuf,
    /// Also write all pictures as one, `grid.png`; the number of columns may be given.
    #[arg(long, value_name = "COLUMNS", num_args = 0..=1, default_missing_value = "0")]
    pub grid: Option<usize>,
    /// Also write an archive with one array `arr_0`, uint8 [n,H,W,C], as evaluators read it.
    #[arg(long, value_name = "FILE")]
    pub npz: Option<PathBuf>,
}

/// Gap between the pictures of a grid.
pub const GAP: usize = 2;

/// Writes pictures as they are finished.
pub struct Pictures<'a> {
    a: &'a Arguments,
    grid: Option<usize>,
    /// By the pictures' numbers, once all are there.
    files: Vec<(usize, PathBuf)>,
    _folder: Folder,
}

/// Folders that were made, the innermost first. Those into which nothing was written go away again.
struct Folder(Vec<PathBuf>);

impl Folder {
    fn make(path: &Path) -> io::Result<Folder> {
        let missing = path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists());
        let folder = Folder(missing.map(Path::to_owned).collect());
        std::fs::create_dir_all(path).map(|()| folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // One that is not empty stays, and so do those around it.
        let _ = self.0.iter().try_for_each(std::fs::remove_dir);
    }
}

impl<'a> Pictures<'a> {
    /// Makes the folder. `grid` is the number of columns of a contact sheet, 0 for what suits.
    pub fn new(a: &'a Arguments, grid: Option<usize>) -> Result<Pictures<'a>, Failure> {
        a.npz.as_deref().map_or(Ok(()), writable)?;
        let failed = |e: io::Error| Failure::new(1, format!("{}: cannot make the folder: {e}", a.output.display()));
        let folder = Folder::make(&a.output).map_err(failed)?;
        Ok(Pictures { a, grid, files: Vec::new(), _folder: folder })
    }

    /// Where a picture of that name goes.
    pub fn path(&self, name: &str) -> PathBuf {
        self.a.output.join(format!("{name}.png"))
    }

    /// Writes number `index`.
    pub fn add(&mut self, index: usize, name: &str, picture: &Picture, texts: &[Text<'_>]) -> Result<(), Failure> {
        let path = self.path(name);
        write_png(&path, picture, texts)?;
        self.keep(index, path);
        Ok(())
    }

    /// Number `index` was there already.
    pub fn keep(&mut self, index: usize, path: PathBuf) {
        self.files.push((index, path));
    }

    /// Files in the order of the pictures, after [`Pictures::finish`].
    pub fn files(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.files.iter().map(|(_, path)| path.as_path())
    }

    /// Writes what belongs to all pictures, which have height, width and channels `shape`.
    pub fn finish(&mut self, shape: [usize; 3]) -> Result<(), Failure> {
        self.files.sort();
        if let Some(columns) = self.grid {
            let all = self.files().map(read).collect::<Result<Vec<_>, _>>()?;
            let columns = if columns == 0 { columns_of(all.len()) } else { columns };
            write_png(&self.path("grid"), &grid(&all, columns, GAP), &[("Software", "fcdm")])?;
        }
        if let Some(path) = &self.a.npz {
            let pictures = self.files().map(read_png);
            replace_file(path, |file| write_npz(file, shape, self.files.len(), pictures).map_err(FileError::writing(path)))?;
        }
        Ok(())
    }
}

/// Columns of a grid of `n` pictures: about as many as rows, and such that the last row is full if that can be.
pub fn columns_of(n: usize) -> usize {
    let square = (n as f64).sqrt().ceil().max(1.0) as usize;
    (square..=square + square / 2).find(|c| n.is_multiple_of(*c)).unwrap_or(square)
}

/// Hours of work should not end in a folder that is not there.
pub fn writable(path: &Path) -> Result<(), Failure> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found = |kind: io::ErrorKind, text: &str| FileError::writing(path)(io::Error::new(kind, text));
    if path.is_dir() {
        return Err(found(io::ErrorKind::IsADirectory, "it is a directory").into());
    }
    if !folder.is_dir() {
        return Err(found(io::ErrorKind::NotFound, "there is no such folder").into());
    }
    Ok(())
}

fn read(path: &Path) -> Result<Picture, Failure> {
    read_png(path).map_err(|e| Failure::new(1, format!("{}: {e}", path.display())))
}

/// Paths that are no UTF-8 have no JSON form.
pub fn shown(path: impl AsRef<Path>) -> String {
    path.as_ref().display().to_string()
}
