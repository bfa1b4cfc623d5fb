//! What is asked of a model and cannot be: which option, what it may be, what it is.

use crate::sampler::SamplerError;

/// A request that does not go with the model, or whose parts do not go together.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// An option out of range, or one that does not go with the model or another option.
    #[error("{option}: expected {expected}, found {found}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What would do.
        expected: String,
        /// What was given.
        found: String,
    },
    /// What the model was not specialised to, [`crate::artifact::Specialisation`].
    #[error("{option}: this model was compiled for {held}; found {found}")]
    NotHeld {
        /// The option that asks for it.
        option: &'static str,
        /// What it was compiled for.
        held: String,
        /// What was asked for.
        found: String,
    },
    /// An option of the sampler.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
}

impl RequestError {
    pub(crate) fn new(option: &'static str, expected: impl Into<String>, found: impl ToString) -> RequestError {
        RequestError::Option { option, expected: expected.into(), found: found.to_string() }
    }
}

/// The option by which classes are asked for.
pub(crate) const CLASSES: &str = "class labels";
