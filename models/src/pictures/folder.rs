//! A folder of pictures, and what is made of all of them: a contact sheet, an archive.

use std::io;
use std::path::{Path, PathBuf};

use fcdm_runtime::file::{FileError, replace_file};
use fcdm_runtime::memory::{Need, NoMemory, bytes};
use thiserror::Error;

use super::{GAP, Picture, Text, columns_of, grid, read_png, write_npz, write_png};

/// A folder that was not finished.
#[derive(Debug, Error)]
pub enum PicturesError {
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A picture cannot be read back.
    #[error("{}: {source}", path.display())]
    Read {
        /// The picture.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// All pictures together take more memory than there is.
    #[error(transparent)]
    NoMemory(#[from] NoMemory),
}

/// Writes pictures as they are finished.
pub struct Pictures {
    output: PathBuf,
    grid: Option<usize>,
    npz: Option<PathBuf>,
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

impl Pictures {
    /// Makes the folder. `grid` is the number of columns of a contact sheet, 0 for what suits, `npz` the archive that is also written.
    ///
    /// # Errors
    /// When the folder cannot be made. Those that were made and stay empty go away with the value.
    pub fn new(output: &Path, grid: Option<usize>, npz: Option<PathBuf>) -> Result<Pictures, FileError> {
        let failed = |source| FileError { path: output.to_owned(), action: "make the folder", source };
        let folder = Folder::make(output).map_err(failed)?;
        Ok(Pictures { output: output.to_owned(), grid, npz, files: Vec::new(), _folder: folder })
    }

    /// Where a picture of that name goes.
    pub fn path(&self, name: &str) -> PathBuf {
        self.output.join(format!("{name}.png"))
    }

    /// Writes number `index`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(&mut self, index: usize, name: &str, picture: &Picture, texts: &[Text<'_>]) -> Result<(), FileError> {
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
    ///
    /// # Errors
    /// When a picture cannot be read back, or a file cannot be written.
    pub fn finish(&mut self, shape: [usize; 3]) -> Result<(), PicturesError> {
        self.files.sort();
        if self.grid.is_some() {
            let count = self.files.len();
            Need::of("a contact sheet").with("pictures and sheet", sheet_bytes(self.grid, count, shape)).reserve()?;
            let all = self.files().map(read).collect::<Result<Vec<_>, _>>()?;
            let columns = columns(self.grid, count);
            write_png(&self.path("grid"), &grid(&all, columns, GAP), &[("Software", "fcdm")])?;
        }
        if let Some(path) = &self.npz {
            let pictures = self.files().map(read_png);
            replace_file(path, |file| write_npz(file, shape, self.files.len(), pictures).map_err(FileError::writing(path)))?;
        }
        Ok(())
    }
}

/// Bytes that [`Pictures::finish`] takes for a contact sheet of so many pictures of height, width and channels `shape`, and what is on
/// it; `grid` as in [`Pictures::new`].
pub fn sheet_bytes(grid: Option<usize>, count: usize, [h, w, c]: [usize; 3]) -> u64 {
    if grid.is_none() {
        return 0;
    }
    // The last row need not be full.
    let cells = columns(grid, count).saturating_add(count);
    bytes(&[cells, h.saturating_add(2 * GAP), w.saturating_add(2 * GAP), c], 1).saturating_add(bytes(&[count, h, w, c], 1))
}

/// Columns of a contact sheet of so many.
fn columns(grid: Option<usize>, count: usize) -> usize {
    grid.filter(|&columns| columns > 0).unwrap_or_else(|| columns_of(count)).min(count.max(1))
}

fn read(path: &Path) -> Result<Picture, PicturesError> {
    read_png(path).map_err(|source| PicturesError::Read { path: path.to_owned(), source })
}
