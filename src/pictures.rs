//! Options of commands that write pictures.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use fcdm_models::pictures::Pictures;
use fcdm_runtime::file::FileError;

use crate::failure::Failure;
use crate::help::OUTPUT;

/// What to write.
#[derive(Args)]
#[group(skip)]
#[command(next_help_heading = OUTPUT)]
pub struct Arguments {
    /// Folder of the pictures.
    #[arg(short, long, default_value = "out", value_name = "FOLDER")]
    pub output: PathBuf,
    /// Also write all pictures as one, grid.png.
    ///
    /// The number of columns may be given.
    #[arg(long, value_name = "COLUMNS", num_args = 0..=1, default_missing_value = "0")]
    pub grid: Option<usize>,
    /// Also write a NumPy archive, for FID and the like.
    ///
    /// It has one array `arr_0`, uint8 [n,H,W,C], as evaluators read it.
    #[arg(long, value_name = "FILE")]
    pub npz: Option<PathBuf>,
}

impl Arguments {
    /// Makes the folder. `grid` is the number of columns of a contact sheet, 0 for what suits.
    pub fn open(&self, grid: Option<usize>) -> Result<Pictures, Failure> {
        self.npz.as_deref().map_or(Ok(()), writable)?;
        Ok(Pictures::new(&self.output, grid, self.npz.clone())?)
    }
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

/// Paths that are no UTF-8 have no JSON form.
pub fn shown(path: impl AsRef<Path>) -> String {
    path.as_ref().display().to_string()
}
