//! Printing and parsing of attributes. A number prints as the shortest text that reads back as itself.

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
}

/// Attribute `attr` of op `op` as `find` has it.
pub(super) fn find<A: Attr>(op: &str, attr: &str, find: &mut dyn FnMut(&str) -> Option<String>) -> Result<A, String> {
    let text = find(attr).ok_or_else(|| format!("`{op}` needs the attribute `{attr}`"))?;
    A::parse(&text).ok_or_else(|| format!("`{op}`: `{attr}={text}` is not {}", A::WHAT))
}
