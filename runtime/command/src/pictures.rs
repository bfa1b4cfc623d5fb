//! Options of commands that write pictures, and the pictures that are there already.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use clap::Args;
use fcdm_runtime::file::FileError;
use fcdm_runtime::picture::files::{Destination, Files, is_another, parameters_of};

use crate::failure::Failure;
use crate::help::OUTPUT;
use crate::say;

/// What to write.
#[derive(Args)]
#[group(skip)]
#[command(next_help_heading = OUTPUT)]
pub struct Arguments {
    /// Folder; or a file x.png, or - [default: out].
    ///
    /// In a folder every picture has a file. One file is for the only picture, or with --grid for all as one; `-` is the standard output.
    #[arg(short, long, default_value = "out", value_name = "PATH", hide_default_value = true)]
    pub output: PathBuf,
    /// Also write all pictures as one, grid.png.
    ///
    /// The number of columns may be given.
    #[arg(long, value_name = "COLUMNS", num_args = 0..=1, default_missing_value = "0")]
    pub grid: Option<usize>,
    /// Overwrite other pictures.
    ///
    /// Those, that is, that were made with another model or other options, and other files of their names.
    #[arg(long)]
    pub force: bool,
}

impl Arguments {
    fn is_bytes(&self) -> bool {
        self.output.as_os_str() == "-"
    }

    /// Where `--output` says that pictures go.
    ///
    /// # Errors
    /// For a kind of file that is not written, or a terminal.
    pub fn destination(&self) -> Result<Destination, Failure> {
        if self.is_bytes() {
            return match io::stdout().is_terminal() {
                true => Err(Failure::usage("output: expected a file or a pipe for the bytes of a picture, found a terminal")),
                false => Ok(Destination::Bytes),
            };
        }
        let path = self.output.clone();
        let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
        match extension.as_deref() {
            _ if path.is_dir() => Ok(Destination::Folder(path)),
            Some("png") => Ok(Destination::File(path)),
            Some("jpg" | "jpeg" | "webp" | "gif" | "bmp" | "tif" | "tiff" | "avif") => {
                let (found, instead) = (path.display(), path.with_extension("png"));
                Err(Failure::usage(format!("output: expected a folder or a PNG file, such as {}, found {found}", instead.display())))
            }
            _ => Ok(Destination::Folder(path)),
        }
    }

    /// Whether `--json`, if it is asked for, has a place beside the pictures.
    ///
    /// # Errors
    /// Where their bytes go to the standard output too.
    pub fn goes_with_json(&self, json: bool) -> Result<(), Failure> {
        match json && self.is_bytes() {
            true => Err(Failure::usage("json: expected another --output than -, where the bytes of a picture go")),
            false => Ok(()),
        }
    }

    /// Makes the folder. `grid` is the number of columns of a contact sheet of the `count` pictures, 0 for what suits.
    ///
    /// # Errors
    /// When there is no place for so many.
    pub fn open(&self, grid: Option<usize>, count: usize) -> Result<Files, Failure> {
        let to = self.destination()?;
        if !matches!(to, Destination::Folder(_)) && grid.is_none() && count != 1 {
            let (count, found) = (counted(count), self.output.display());
            return Err(Failure::usage(format!("output: expected a folder for {count}, or --grid for one sheet of them, found {found}")));
        }
        match &to {
            Destination::Folder(_) => {}
            Destination::File(path) => writable(path)?,
            Destination::Bytes => say::output_is_bytes(),
        }
        Ok(Files::new(to, grid)?)
    }

    /// Refuses to overwrite a file that is not the picture made by `parameters`.
    ///
    /// # Errors
    /// Names it, and says what to do.
    pub fn may_replace(&self, path: Option<&Path>, parameters: &str) -> Result<(), Failure> {
        match path {
            Some(path) if !self.force && is_another(path, parameters) => {
                let found = match parameters_of(path) {
                    Some(_) => "a picture made with another model or other options is there",
                    None => "another file is there",
                };
                let line = format!("{}: {found}; --force overwrites, or choose another --output", path.display());
                Err(Failure::new(1, line))
            }
            _ => Ok(()),
        }
    }

    /// Says where pictures went: `new` of them were made now.
    pub fn announce(&self, files: &Files, new: usize) {
        let (paths, sheet) = (files.paths(), files.sheet_path());
        let of_all = sheet.as_ref().filter(|_| files.count() > 0).map_or_else(String::new, |sheet| format!(", all on {}", sheet.display()));
        match (&paths[..], &sheet) {
            ([], Some(sheet)) => crate::sayln!("wrote {} on one sheet to {}", counted(files.count()), sheet.display()),
            ([], None) => {}
            ([path], _) => crate::sayln!("wrote {}{of_all}", path.display()),
            (all, _) if new < all.len() => {
                let (to, there) = (self.output.display(), all.len() - new);
                crate::sayln!("wrote {} to {to}, {there} were there{of_all}", counted(new));
            }
            (all, _) => crate::sayln!("wrote {} to {}{of_all}", counted(all.len()), self.output.display()),
        }
    }
}

/// `1 picture`, `2 pictures`.
pub fn counted(n: usize) -> String {
    format!("{n} picture{}", if n == 1 { "" } else { "s" })
}

/// Hours of work should not end in a folder that is not there.
///
/// # Errors
/// When it is not there, or the file is one.
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
