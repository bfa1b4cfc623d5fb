//! The weights of the functions that have been made of a model, at whatever sizes.
//!
//! Nearly all follow from the file alone: these are the same at every size, have the model's names and are stored once. Constants that
//! follow from the size (a table of positions, a mask) belong to it: their names say for which size they were made, and another
//! size shares one only if it has equal values.

use fcdm_compiler::onnx::Weight;

use crate::role::Role;

/// A weight that a function asks for.
struct Held {
    /// What the function calls it, after the prefix.
    name: String,
    /// What the model calls it.
    of: String,
    weight: Weight,
    role: Option<Role>,
}

/// All of a model's functions.
#[derive(Default)]
pub(super) struct Weights(Vec<Held>);

impl Weights {
    /// The name of a weight of the function at a height and width: that of an equal one that is held, or a new one.
    pub fn hold(&mut self, of: &str, size: [usize; 2], weight: &Weight, role: Option<Role>) -> String {
        if let Some(held) = self.0.iter().find(|h| h.of == of && h.weight.equals(weight)) {
            return held.name.clone();
        }
        let own = format!("{of}.{}x{}", size[0], size[1]);
        let mut name = if weight.of_size() || self.get(of).is_some() { own } else { of.to_owned() };
        while self.get(&name).is_some() {
            name.push('_');
        }
        self.0.push(Held { name: name.clone(), of: of.to_owned(), weight: weight.clone(), role });
        name
    }

    /// The weight that a function calls so.
    pub fn get(&self, name: &str) -> Option<&Weight> {
        self.0.iter().find(|h| h.name == name).map(|h| &h.weight)
    }

    /// What it is for.
    pub fn role(&self, name: &str) -> Option<Role> {
        self.0.iter().find(|h| h.name == name)?.role
    }
}
