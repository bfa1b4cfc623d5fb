//! An assembly's tensors in memory: a plan that runs without an artifact, as for a model that is evaluated once.

use std::collections::BTreeMap;
use std::ops::Deref;

use fcdm_runtime::executor::WeightStore;
use fcdm_runtime::plan::{ALIGN, Element};

use crate::assemble::Assembly;
use crate::weights::{Stored, WeightError, WeightSource, WeightUse};

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
        InMemory::beside(assembly, source, &|_| false)
    }

    /// As [`InMemory::new`], but for tensors that are elsewhere.
    ///
    /// # Errors
    /// As there.
    pub fn beside(assembly: &Assembly, source: &dyn WeightSource, elsewhere: &dyn Fn(&Stored) -> bool) -> Result<InMemory, WeightError> {
        let mut tensors = BTreeMap::new();
        for (stored, usage) in assembly.tensors().filter(|(stored, _)| !elsewhere(stored)) {
            let mut aligned = Aligned::new(&stored);
            assembly.pieces(usage, &stored, source, &mut |piece| {
                aligned.bytes.extend(piece);
                Ok::<(), WeightError>(())
            })?;
            tensors.insert(stored.name, aligned);
        }
        Ok(InMemory(tensors))
    }

    /// The tensors of some uses of weights, whose parts are there.
    pub fn of(uses: impl Iterator<Item = (WeightUse, Vec<Vec<u8>>)>) -> InMemory {
        let mut tensors = BTreeMap::new();
        for (usage, parts) in uses {
            for (stored, part) in usage.stored().into_iter().zip(parts) {
                let mut aligned = Aligned::new(&stored);
                aligned.bytes.extend(part);
                aligned.bytes.resize(aligned.start + stored.bytes(), 0);
                tensors.insert(stored.name, aligned);
            }
        }
        InMemory(tensors)
    }
}

impl Aligned {
    /// Without values yet, with room for all: the vector must not move once its alignment is known.
    fn new(stored: &Stored) -> Aligned {
        let mut bytes = Vec::with_capacity(stored.bytes() + ALIGN);
        let start = (bytes.as_ptr() as usize).next_multiple_of(ALIGN) - bytes.as_ptr() as usize;
        bytes.resize(start, 0);
        Aligned { element: stored.element, shape: stored.shape.clone(), bytes, start }
    }
}

impl WeightStore for InMemory {
    fn tensor(&self, name: &str) -> Option<(Element, &[usize], &[u8])> {
        self.0.get(name).map(|t| (t.element, &t.shape[..], &t.bytes[t.start..]))
    }
}

/// A store with some tensors in the place of its own.
pub struct Replaced<S> {
    /// The store.
    pub under: S,
    /// What is in the place of its own.
    pub over: InMemory,
}

impl<S: Deref<Target: WeightStore>> WeightStore for Replaced<S> {
    fn tensor(&self, name: &str) -> Option<(Element, &[usize], &[u8])> {
        self.over.tensor(name).or_else(|| self.under.tensor(name))
    }
}
