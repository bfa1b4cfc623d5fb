//! An assembly's tensors in memory: a plan that runs without an artifact, as for a model that is evaluated once.

use std::collections::BTreeMap;

use fcdm_runtime::executor::WeightStore;
use fcdm_runtime::plan::{ALIGN, Element};

use crate::assemble::Assembly;
use crate::weights::{WeightError, WeightSource};

/// Tensors by name.
pub struct InMemory(BTreeMap<String, Aligned>);

struct Aligned {
    element: Element,
    shape: Vec<usize>,
    /// The values begin at `start`, which is where the alignment asks for.
    bytes: Vec<u8>,
    start: usize,
}

impl InMemory {
    /// Makes every tensor of an assembly.
    ///
    /// # Errors
    /// When a weight cannot be had.
    pub fn new(assembly: &Assembly, source: &dyn WeightSource) -> Result<InMemory, WeightError> {
        let mut tensors = BTreeMap::new();
        for (stored, usage) in assembly.tensors() {
            // Room is reserved beforehand: the vector must not move once its alignment is known.
            let mut bytes = Vec::with_capacity(stored.bytes() + ALIGN);
            let start = (bytes.as_ptr() as usize).next_multiple_of(ALIGN) - bytes.as_ptr() as usize;
            bytes.resize(start, 0);
            assembly.pieces(usage, &stored, source, &mut |piece| {
                bytes.extend(piece);
                Ok::<(), WeightError>(())
            })?;
            tensors.insert(stored.name, Aligned { element: stored.element, shape: stored.shape, bytes, start });
        }
        Ok(InMemory(tensors))
    }
}

impl WeightStore for InMemory {
    fn tensor(&self, name: &str) -> Option<(Element, &[usize], &[u8])> {
        self.0.get(name).map(|t| (t.element, &t.shape[..], &t.bytes[t.start..]))
    }
}
