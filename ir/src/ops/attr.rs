//! Attributes of ops: their text form, and what of them makes two ops the same. A number prints as the shortest text that reads
//! back as itself. A new type is one impl: [`Attr`], or [`Word`] where an attribute is one of a few words.

use std::hash::Hash;

use crate::types::DType;

/// A type that an attribute of an op may have.
pub trait Attr: Sized {
    /// What a message calls it.
    const WHAT: &'static str;
    /// As in the text form.
    fn print(&self) -> String;
    /// Reads what [`Attr::print`] wrote.
    fn parse(text: &str) -> Option<Self>;
    /// False for an infinity or NaN, which the text form can hold and [`Op::infer`](super::Op::infer) refuses.
    fn is_finite(&self) -> bool;
    /// What ops are compared and hashed by: equal exactly where the texts are.
    fn bits(&self) -> impl Eq + Hash;
}

impl Attr for usize {
    const WHAT: &'static str = "a non-negative integer";

    fn print(&self) -> String {
        self.to_string()
    }
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|&n| i64::try_from(n).is_ok())
    }
    fn is_finite(&self) -> bool {
        true
    }
    fn bits(&self) -> impl Eq + Hash {
        *self
    }
}

impl Attr for f64 {
    const WHAT: &'static str = "a number";

    fn print(&self) -> String {
        // Debug switches to an exponent where Display would write many zeros: 1e-6.
        format!("{self:?}")
    }
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
    fn is_finite(&self) -> bool {
        f64::is_finite(*self)
    }
    fn bits(&self) -> impl Eq + Hash {
        // Zeros have a sign, which a product keeps; NaNs have one text.
        if self.is_nan() { f64::NAN.to_bits() } else { self.to_bits() }
    }
}

impl Attr for DType {
    const WHAT: &'static str = "an element type";

    fn print(&self) -> String {
        self.name().to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        DType::from_name(text)
    }
    fn is_finite(&self) -> bool {
        true
    }
    fn bits(&self) -> impl Eq + Hash {
        *self
    }
}

impl Attr for Vec<usize> {
    const WHAT: &'static str = "a list of non-negative integers";

    fn print(&self) -> String {
        format!("[{}]", self.iter().map(usize::to_string).collect::<Vec<_>>().join(","))
    }
    fn parse(text: &str) -> Option<Self> {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?.trim();
        if inner.is_empty() {
            return Some(Vec::new());
        }
        inner.split(',').map(|d| <usize as Attr>::parse(d.trim())).collect()
    }
    fn is_finite(&self) -> bool {
        true
    }
    fn bits(&self) -> impl Eq + Hash {
        &self[..]
    }
}

/// An attribute that is one of a few words.
pub trait Word: Copy + Eq + Hash + 'static {
    /// What a message calls it.
    const WHAT: &'static str;
    /// Every value with its word.
    const WORDS: &'static [(&'static str, Self)];
}

impl<W: Word> Attr for W {
    const WHAT: &'static str = <W as Word>::WHAT;

    fn print(&self) -> String {
        let word = W::WORDS.iter().find(|(_, value)| value == self);
        word.expect("every value has a word").0.to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        W::WORDS.iter().find(|(word, _)| *word == text).map(|&(_, value)| value)
    }
    fn is_finite(&self) -> bool {
        true
    }
    fn bits(&self) -> impl Eq + Hash {
        *self
    }
}

impl Word for bool {
    const WHAT: &'static str = "`true` or `false`";
    const WORDS: &'static [(&'static str, bool)] = &[("false", false), ("true", true)];
}

/// Attribute `attr` of op `op` as `find` has it; where it has none, the default, if there is one.
pub(super) fn find<A: Attr>(op: &str, attr: &str, default: Option<A>, find: &mut dyn FnMut(&str) -> Option<String>) -> Result<A, String> {
    match (find(attr), default) {
        (Some(text), _) => A::parse(&text).ok_or_else(|| format!("`{op}`: `{attr}={text}` is not {}", A::WHAT)),
        (None, Some(default)) => Ok(default),
        (None, None) => Err(format!("`{op}` needs the attribute `{attr}`")),
    }
}

/// True if an attribute is its default, and need not be printed.
pub(super) fn is_default<A: Attr>(value: &A, default: Option<A>) -> bool {
    default.is_some_and(|default| value.bits() == default.bits())
}
