//! What fused ops do to a product or a norm before it is stored, as attributes: an activation, a rearrangement.

use super::{Attr, Op, PixelShuffle, PixelUnshuffle, Relu, Silu, Word};
use crate::function::{Builder, Value};
use crate::types::TypeError;

/// An elementwise function with which something ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// None.
    None,
    /// `relu`.
    Relu,
    /// `silu`.
    Silu,
}

impl Activation {
    /// The activation that a plain op is.
    pub fn of(op: &Op) -> Option<Activation> {
        match op {
            Op::Relu(_) => Some(Activation::Relu),
            Op::Silu(_) => Some(Activation::Silu),
            _ => None,
        }
    }

    /// Emits the plain op.
    pub(super) fn expand(self, b: &mut Builder, x: Value) -> Result<Value, TypeError> {
        match self {
            Activation::None => Ok(x),
            Activation::Relu => b.try_one(Relu {}, x),
            Activation::Silu => b.try_one(Silu {}, x),
        }
    }
}

impl Word for Activation {
    const WHAT: &'static str = "an activation (`none`, `relu`, `silu`)";
    const WORDS: &'static [(&'static str, Activation)] =
        &[("none", Activation::None), ("relu", Activation::Relu), ("silu", Activation::Silu)];
}

/// To which pixels an image's elements go. Prints as `keep`, `shuffle2`, `unshuffle2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rearrange {
    /// To their own.
    Keep,
    /// As by `pixel_shuffle`.
    Shuffle {
        /// Its factor.
        factor: usize,
    },
    /// As by `pixel_unshuffle`.
    Unshuffle {
        /// Its factor.
        factor: usize,
    },
}

impl Rearrange {
    /// The rearrangement that a plain op is.
    pub fn of(op: &Op) -> Option<Rearrange> {
        match op {
            Op::PixelShuffle(o) => Some(Rearrange::Shuffle { factor: o.factor }),
            Op::PixelUnshuffle(o) => Some(Rearrange::Unshuffle { factor: o.factor }),
            _ => None,
        }
    }

    /// Emits the plain op.
    pub(super) fn expand(self, b: &mut Builder, x: Value) -> Result<Value, TypeError> {
        match self {
            Rearrange::Keep => Ok(x),
            Rearrange::Shuffle { factor } => b.try_one(PixelShuffle { factor }, x),
            Rearrange::Unshuffle { factor } => b.try_one(PixelUnshuffle { factor }, x),
        }
    }
}

impl Attr for Rearrange {
    const WHAT: &'static str = "a rearrangement (`keep`, `shuffle2`, `unshuffle2`)";

    fn print(&self) -> String {
        match self {
            Rearrange::Keep => "keep".to_owned(),
            Rearrange::Shuffle { factor } => format!("shuffle{factor}"),
            Rearrange::Unshuffle { factor } => format!("unshuffle{factor}"),
        }
    }
    fn parse(text: &str) -> Option<Self> {
        if text == "keep" {
            return Some(Rearrange::Keep);
        }
        if let Some(factor) = text.strip_prefix("shuffle") {
            return Some(Rearrange::Shuffle { factor: Attr::parse(factor)? });
        }
        Some(Rearrange::Unshuffle { factor: Attr::parse(text.strip_prefix("unshuffle")?)? })
    }
    fn is_finite(&self) -> bool {
        true
    }
    fn bits(&self) -> impl Eq + std::hash::Hash {
        *self
    }
}
