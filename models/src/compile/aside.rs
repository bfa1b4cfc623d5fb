//! Artifacts that are looked at and gone.

use std::io::{BufWriter, Cursor};
use std::path::Path;
use std::sync::Arc;

use fcdm_runtime::artifact::Artifact;

use super::{CompileError, Destination};

/// What is written, in a file without a name, or in memory where there can be none or the disk is full; `name` stands for it in messages.
///
/// # Errors
/// What `write` says, and what is wrong with what it wrote.
pub fn aside(name: &str, write: &mut dyn FnMut(Destination<'_>) -> Result<(), CompileError>) -> Result<Arc<Artifact>, CompileError> {
    if let Ok(file) = tempfile::tempfile() {
        let mut output = BufWriter::new(file);
        match write(Destination::Open(name, &mut output)) {
            Ok(()) => {
                if let Ok(file) = output.into_inner() {
                    return Ok(Arc::new(Artifact::of_file(Path::new(name), file)?));
                }
            }
            // The folder of temporary files is full.
            Err(CompileError::Write(_)) => {}
            Err(e) => return Err(e),
        }
    }
    let mut bytes = Cursor::new(Vec::new());
    write(Destination::Open(name, &mut bytes))?;
    Ok(Arc::new(Artifact::from_bytes(name, bytes.into_inner())?))
}
