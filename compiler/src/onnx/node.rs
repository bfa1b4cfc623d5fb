//! A node of the graph: its operands, and its attributes with ONNX's defaults.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};

use super::error::{Translated, wrong};

/// A node as the translations see it.
pub(super) struct Node<'a>(pub &'a NodeProto);

impl<'a> Node<'a> {
    /// The op's name.
    pub fn op(&self) -> &'a str {
        &self.0.op_type
    }

    /// Its name, or, without one, that of its first result.
    pub fn name(&self) -> &'a str {
        if self.0.name.is_empty() { self.0.output.first().map_or("", String::as_str) } else { &self.0.name }
    }

    /// The op and all attributes, as error messages show them: `Conv {group=2, strides=[1,1]}`.
    pub fn describe(&self) -> String {
        let domain = if self.0.domain.is_empty() { String::new() } else { format!("{}.", self.0.domain) };
        if self.0.attribute.is_empty() {
            return format!("{domain}{}", self.op());
        }
        let list: Vec<String> = self.0.attribute.iter().map(shown).collect();
        format!("{domain}{} {{{}}}", self.op(), list.join(", "))
    }

    /// Name of the operand of that index, if it is given.
    pub fn operand(&self, i: usize) -> Option<&'a str> {
        self.0.input.get(i).map(String::as_str).filter(|n| !n.is_empty())
    }

    /// How many operands are listed.
    pub fn operands(&self) -> usize {
        self.0.input.len()
    }

    /// Names of the results that something may use.
    pub fn results(&self) -> &'a [String] {
        &self.0.output
    }

    fn attr(&self, name: &str) -> Option<&'a AttributeProto> {
        self.0.attribute.iter().find(|a| a.name == name)
    }

    pub fn has(&self, name: &str) -> bool {
        self.attr(name).is_some()
    }

    pub fn int(&self, name: &str) -> Option<i64> {
        self.attr(name).map(|a| a.i)
    }

    pub fn int_or(&self, name: &str, default: i64) -> i64 {
        self.int(name).unwrap_or(default)
    }

    pub fn float_or(&self, name: &str, default: f32) -> f64 {
        super::constant::widened(self.attr(name).map_or(default, |a| a.f))
    }

    pub fn text_or(&self, name: &str, default: &'a str) -> &'a str {
        self.attr(name).map_or(default, |a| std::str::from_utf8(&a.s).unwrap_or("?"))
    }

    pub fn ints(&self, name: &str) -> Option<&'a [i64]> {
        self.attr(name).map(|a| &a.ints[..])
    }

    pub fn floats(&self, name: &str) -> Option<&'a [f32]> {
        self.attr(name).map(|a| &a.floats[..])
    }

    pub fn tensor(&self, name: &str) -> Option<&'a TensorProto> {
        self.attr(name).and_then(|a| a.t.as_ref())
    }

    /// An attribute of extents or counts, with `default` if it is not given, and exactly `N` of them.
    pub fn counts<const N: usize>(&self, name: &str, default: usize) -> Translated<[usize; N]> {
        let Some(list) = self.ints(name) else { return Ok([default; N]) };
        let counts: Option<Vec<usize>> = list.iter().map(|&i| usize::try_from(i).ok().filter(|&i| i <= 1 << 24)).collect();
        match counts.and_then(|c| c.try_into().ok()) {
            Some(counts) => Ok(counts),
            None => wrong(format!("expected {N} numbers in `{name}`, not negative, found {list:?}")),
        }
    }
}

/// `name=value`.
fn shown(a: &AttributeProto) -> String {
    let list = |items: Vec<String>| {
        let more = if items.len() > 8 { ",.." } else { "" };
        format!("[{}{more}]", items[..items.len().min(8)].join(","))
    };
    let value = match AttributeType::try_from(a.r#type).unwrap_or(AttributeType::Undefined) {
        AttributeType::Float => format!("{:?}", a.f),
        AttributeType::Int => a.i.to_string(),
        AttributeType::String => String::from_utf8_lossy(&a.s[..a.s.len().min(40)]).replace(char::is_control, " "),
        AttributeType::Floats => list(a.floats.iter().map(|f| format!("{f:?}")).collect()),
        AttributeType::Ints => list(a.ints.iter().map(i64::to_string).collect()),
        AttributeType::Tensor => "tensor".to_owned(),
        AttributeType::Graph | AttributeType::Graphs => "graph".to_owned(),
        _ => "..".to_owned(),
    };
    format!("{}={value}", a.name)
}

/// An axis counted from the front; ONNX counts from the back too.
pub(super) fn axis(axis: i64, rank: usize) -> Translated<usize> {
    let from_front = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    match usize::try_from(from_front) {
        Ok(a) if a < rank => Ok(a),
        _ => wrong(format!("axis {axis} is not an axis of {rank}")),
    }
}

/// Axes counted from the front, each once, in increasing order.
pub(super) fn axes(list: &[i64], rank: usize) -> Translated<Vec<usize>> {
    let mut found = list.iter().map(|&a| axis(a, rank)).collect::<Translated<Vec<usize>>>()?;
    found.sort_unstable();
    match found.windows(2).any(|w| w[0] == w[1]) {
        true => wrong(format!("axes {list:?} are not distinct")),
        false => Ok(found),
    }
}
