//! Tensors that are made beforehand, by more than their own values: whole numbers that were rounded for the inputs of a product, and what
//! their shortfall adds to biases.

use std::collections::HashMap;
use std::io;

/// Bytes that are somewhere.
pub struct Bytes(Box<dyn Fn() -> io::Result<Vec<u8>> + Send + Sync>);

impl Bytes {
    /// What `read` reads.
    pub fn new(read: impl Fn() -> io::Result<Vec<u8>> + Send + Sync + 'static) -> Bytes {
        Bytes(Box::new(read))
    }

    /// In memory.
    pub fn held(bytes: Vec<u8>) -> Bytes {
        Bytes::new(move || Ok(bytes.clone()))
    }

    /// Reads them.
    ///
    /// # Errors
    /// When they cannot be read any more.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        (self.0)()
    }
}

/// What takes the place of tensors, or is added to them, when an artifact is written.
#[derive(Default)]
pub struct Prepared {
    parts: HashMap<String, Vec<Bytes>>,
    added: HashMap<String, Vec<f32>>,
}

impl Prepared {
    /// The bytes of all parts of a use of a weight, by its key ([`crate::weights::WeightUse::key`]).
    pub fn parts(&mut self, key: String, parts: Vec<Bytes>) {
        self.parts.insert(key, parts);
    }

    /// Adds to the values of a weight. What was to be added before is added as well.
    ///
    /// # Panics
    /// If that is of another length.
    pub fn add(&mut self, weight: &str, values: Vec<f32>) {
        match self.added.get_mut(weight) {
            Some(known) => {
                assert_eq!(known.len(), values.len(), "values of {weight}");
                known.iter_mut().zip(values).for_each(|(known, value)| *known += value);
            }
            None => drop(self.added.insert(weight.to_owned(), values)),
        }
    }

    /// Whether nothing is prepared.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.added.is_empty()
    }

    /// The bytes of a part.
    pub(crate) fn part(&self, key: &str, part: usize) -> Option<io::Result<Vec<u8>>> {
        self.parts.get(key)?.get(part).map(Bytes::read)
    }

    /// Values of a weight with what is added to them.
    pub(crate) fn added(&self, weight: &str, mut values: Vec<f32>) -> Vec<f32> {
        if let Some(added) = self.added.get(weight) {
            values.iter_mut().zip(added).for_each(|(value, added)| *value += added);
        }
        values
    }
}
