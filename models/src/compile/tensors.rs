//! The tensors of an artifact on their way into its file.

use std::cell::RefCell;
use std::path::Path;

use fcdm_compiler::assemble::Assembly;
use fcdm_compiler::compiled::BuildError;
use fcdm_compiler::weights::{Stored, WeightError, WeightUse};
use fcdm_runtime::artifact::{ArtifactContents, TensorSource, WriteError, write, write_to};

use super::{CompileError, Destination, Observer, Phase};
use crate::import::Sources;

/// Why a tensor was not made and written.
enum Unmade {
    Disk(std::io::Error),
    Weight(WeightError),
}

impl From<WeightError> for Unmade {
    fn from(e: WeightError) -> Unmade {
        Unmade::Weight(e)
    }
}

/// Writes the file: tensors are made one at a time and in pieces, as they are written. Returns its checksum.
pub(super) fn write_tensors<'a>(
    to: Destination<'_>,
    contents: &ArtifactContents,
    assembly: &Assembly,
    tensors: impl Iterator<Item = (Stored, &'a WeightUse)>,
    weights: &Sources<'_>,
    observer: &mut dyn Observer,
) -> Result<String, CompileError> {
    // The writer only knows errors of the disk; one of a weight is kept here and given back in its place.
    let failed: RefCell<Option<WeightError>> = RefCell::new(None);
    let keep = |e: Unmade| match e {
        Unmade::Disk(e) => e,
        Unmade::Weight(e) => {
            let text = e.to_string();
            *failed.borrow_mut() = Some(e);
            std::io::Error::other(text)
        }
    };
    let keep = &keep;
    let tensors = tensors.map(|(stored, usage)| {
        TensorSource::new(stored.name.clone(), stored.element, stored.shape.clone(), move |w| {
            assembly.pieces(usage, &stored, weights, &mut |piece| w.write_all(&piece).map_err(Unmade::Disk)).map_err(keep)
        })
    });
    let go_on = std::cell::Cell::new(true);
    let mut progress = |done, total| go_on.set(observer.progress(Phase::Packing, done, total));
    let written = match to {
        Destination::Path(path) => write(path, contents, tensors.collect(), &|| !go_on.get(), &mut progress),
        Destination::Open(name, output) => write_to(Path::new(name), output, contents, tensors.collect(), &|| !go_on.get(), &mut progress),
    };
    match (written, failed.take()) {
        (_, Some(e)) => Err(BuildError::from(e).into()),
        (Err(WriteError::Cancelled { .. }), None) => Err(CompileError::Cancelled),
        (Err(e), None) => Err(e.into()),
        (Ok(checksum), None) => Ok(checksum),
    }
}
