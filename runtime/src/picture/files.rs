//! Where finished pictures go: each into a file of a folder, or into one file; and the contact sheet of all of them.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use super::png::{Text, read_png, read_text, write_png};
use super::{GAP, Picture, columns_of, grid};
use crate::file::FileError;
use crate::memory::{Need, NoMemory, bytes};

/// Pictures that were not written.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
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

/// Where pictures go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A folder, which is made if it is not there: a picture is the file `NAME.png` in it, the contact sheet `grid.png`.
    Folder(PathBuf),
    /// One file: the only picture, or the contact sheet.
    File(PathBuf),
    /// No file: [`Files::finish`] hands out the bytes that [`Destination::File`] would have.
    Bytes,
}

/// Keyword of the text in which a picture says how it was made.
pub const PARAMETERS: &str = "parameters";

/// Writes pictures as they are finished.
pub struct Files {
    to: Destination,
    grid: Option<usize>,
    /// By the pictures' numbers, once all are there.
    written: Vec<(usize, Written)>,
    _folder: Option<Folder>,
}

/// A finished picture.
enum Written {
    File(PathBuf),
    /// One that is not written yet: with its parameters.
    Held(Picture, String),
}

impl Written {
    fn read(&self) -> Result<Cow<'_, Picture>, FilesError> {
        match self {
            Written::Held(picture, _) => Ok(Cow::Borrowed(picture)),
            Written::File(path) => read_png(path).map(Cow::Owned).map_err(|source| FilesError::Read { path: path.clone(), source }),
        }
    }
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

fn texts(parameters: &str) -> [Text<'_>; 2] {
    [(PARAMETERS, parameters), ("Software", "fcdm")]
}

impl Files {
    /// Makes the folder. `grid` is the number of columns of a contact sheet, 0 for what suits.
    ///
    /// # Errors
    /// When the folder cannot be made. Those that were made and stay empty go away with the value.
    pub fn new(to: Destination, grid: Option<usize>) -> Result<Files, FileError> {
        let folder = match &to {
            Destination::Folder(path) => {
                let failed = |source| FileError { path: path.clone(), action: "make the folder", source };
                Some(Folder::make(path).map_err(failed)?)
            }
            Destination::File(_) | Destination::Bytes => None,
        };
        Ok(Files { to, grid, written: Vec::new(), _folder: folder })
    }

    /// Which file a picture of that name is, if it is one of its own.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        match &self.to {
            Destination::Folder(folder) => Some(folder.join(format!("{name}.png"))),
            Destination::File(path) if self.grid.is_none() => Some(path.clone()),
            Destination::File(_) | Destination::Bytes => None,
        }
    }

    /// Which file the contact sheet is, if there will be one.
    pub fn sheet_path(&self) -> Option<PathBuf> {
        self.grid?;
        match &self.to {
            Destination::Folder(folder) => Some(folder.join("grid.png")),
            Destination::File(path) => Some(path.clone()),
            Destination::Bytes => None,
        }
    }

    /// Adds number `index`, and writes it if it is a file of its own in a folder.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(&mut self, index: usize, name: &str, picture: Picture, parameters: &str) -> Result<(), FileError> {
        let written = match (&self.to, self.path(name)) {
            (Destination::Folder(_), Some(path)) => {
                write_png(&path, &picture, &texts(parameters))?;
                Written::File(path)
            }
            _ => Written::Held(picture, parameters.to_owned()),
        };
        self.written.push((index, written));
        Ok(())
    }

    /// Number `index` was there already.
    pub fn keep(&mut self, index: usize, path: PathBuf) {
        self.written.push((index, Written::File(path)));
    }

    /// Writes what belongs to all pictures, which have height, width and channels `shape`: the contact sheet, made by
    /// `parameters`. The bytes are those of [`Destination::Bytes`].
    ///
    /// # Errors
    /// When a picture cannot be read back, or a file cannot be written.
    pub fn finish(&mut self, shape: [usize; 3], parameters: &str) -> Result<Option<Vec<u8>>, FilesError> {
        self.written.sort_by_key(|(index, _)| *index);
        if self.written.is_empty() {
            return Ok(None);
        }
        if self.grid.is_some() {
            let count = self.written.len();
            Need::of("a contact sheet").with("pictures and sheet", sheet_bytes(self.grid, count, shape)).reserve()?;
            let all = self.pictures().collect::<Result<Vec<_>, _>>()?;
            let sheet = grid(&all, columns(self.grid, count), GAP);
            return self.put(&sheet, parameters);
        }
        match (&self.to, &self.written[..]) {
            (Destination::File(_) | Destination::Bytes, [(_, Written::Held(picture, parameters))]) => self.put(picture, parameters),
            _ => Ok(None),
        }
    }

    /// Writes the sheet, or the only picture of what is no folder.
    fn put(&self, picture: &Picture, parameters: &str) -> Result<Option<Vec<u8>>, FilesError> {
        match self.sheet_path().or_else(|| self.path("")) {
            Some(path) => {
                write_png(&path, picture, &texts(parameters))?;
                Ok(None)
            }
            None => Ok(Some(picture.to_png(&texts(parameters)))),
        }
    }

    /// The pictures in order, after [`Files::finish`].
    pub fn pictures(&self) -> impl ExactSizeIterator<Item = Result<Cow<'_, Picture>, FilesError>> {
        self.written.iter().map(|(_, written)| written.read())
    }

    /// How many pictures there are.
    pub fn count(&self) -> usize {
        self.written.len()
    }

    /// Files of the pictures that have one of their own, in their order, after [`Files::finish`].
    pub fn paths(&self) -> Vec<PathBuf> {
        let path = |written: &Written| match written {
            Written::File(path) => Some(path.clone()),
            Written::Held(..) => self.path(""),
        };
        self.written.iter().filter_map(|(_, written)| path(written)).collect()
    }
}

/// Whether a file is a picture that was made otherwise than by `parameters`, or another file; not if it is not there.
pub fn is_another(path: &Path, parameters: &str) -> bool {
    path.is_file() && parameters_of(path).as_deref() != Some(parameters)
}

/// How a picture says that it was made.
pub fn parameters_of(path: &Path) -> Option<String> {
    read_text(path, PARAMETERS).ok()?
}

/// Bytes that [`Files::finish`] takes for a contact sheet of so many pictures of height, width and channels `shape`, and what is on
/// it; `grid` as in [`Files::new`].
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
