//! A node of the graph: its operands, and its attributes with ONNX's defaults. It keeps which attributes have been asked for:
//! one that nobody asks for may only say what it would say if it were left out.

use std::cell::RefCell;

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};

use super::error::{Translated, form, wrong};
use super::schema;

/// A node as the translations see it.
pub(super) struct Node<'a> {
    proto: &'a NodeProto,
    /// Of every attribute, whether somebody has asked for it.
    asked: RefCell<Vec<bool>>,
}

impl<'a> Node<'a> {
    pub fn new(proto: &'a NodeProto) -> Node<'a> {
        Node { proto, asked: RefCell::new(vec![false; proto.attribute.len()]) }
    }

    /// The op's name.
    pub fn op(&self) -> &'a str {
        &self.proto.op_type
    }

    /// True if the op is one of ONNX's own.
    pub fn of_onnx(&self) -> bool {
        self.proto.domain.is_empty() || self.proto.domain == "ai.onnx"
    }

    /// The attributes that it has.
    pub fn attributes(&self) -> &'a [AttributeProto] {
        &self.proto.attribute
    }

    /// Whether every attribute has been asked for, or says what it would say if it were left out. For when the node is translated.
    pub fn finish(&self, opset: i64) -> Translated<()> {
        for (a, asked) in self.proto.attribute.iter().zip(&*self.asked.borrow()) {
            if *asked {
                continue;
            }
            match schema::default(self.op(), a, opset) {
                Some((true, _)) => {}
                Some((false, default)) => return form(format!("attribute `{}`: expected {default}, found {}", a.name, value_of(a))),
                None => return form(format!("attribute `{}`: expected none, found {}", a.name, value_of(a))),
            }
        }
        Ok(())
    }

    /// Attributes that make no difference to what is translated.
    pub fn passed_over(&self, names: &[&str]) {
        for name in names {
            self.attr(name);
        }
    }

    /// Its name, or, without one, that of its first result.
    pub fn name(&self) -> &'a str {
        if self.proto.name.is_empty() { self.proto.output.first().map_or("", String::as_str) } else { &self.proto.name }
    }

    /// The op and all attributes, as error messages show them: `Conv {group=2, strides=[1,1]}`.
    pub fn describe(&self) -> String {
        let domain = if self.proto.domain.is_empty() { String::new() } else { format!("{}.", self.proto.domain) };
        if self.proto.attribute.is_empty() {
            return format!("{domain}{}", self.op());
        }
        let list: Vec<String> = self.proto.attribute.iter().map(shown).collect();
        format!("{domain}{} {{{}}}", self.op(), list.join(", "))
    }

    /// Name of the operand of that index, if it is given.
    pub fn operand(&self, i: usize) -> Option<&'a str> {
        self.proto.input.get(i).map(String::as_str).filter(|n| !n.is_empty())
    }

    /// How many operands are listed.
    pub fn operands(&self) -> usize {
        self.proto.input.len()
    }

    /// Names of the results that something may use.
    pub fn results(&self) -> &'a [String] {
        &self.proto.output
    }

    fn attr(&self, name: &str) -> Option<&'a AttributeProto> {
        let found = self.proto.attribute.iter().position(|a| a.name == name)?;
        self.asked.borrow_mut()[found] = true;
        Some(&self.proto.attribute[found])
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

    /// An integer that has to be given.
    pub fn required_int(&self, name: &str) -> Translated<i64> {
        self.int(name).map_or_else(|| wrong(format!("attribute `{name}`: expected an integer, found none")), Ok)
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
            None => wrong(format!("attribute `{name}`: expected {N} numbers, not negative, found {list:?}")),
        }
    }
}

/// `name=value`.
fn shown(a: &AttributeProto) -> String {
    format!("{}={}", a.name.replace(char::is_control, " "), value_of(a))
}

/// What an attribute says, for messages.
pub(super) fn value_of(a: &AttributeProto) -> String {
    let list = |items: Vec<String>| {
        let more = if items.len() > 8 { ",.." } else { "" };
        format!("[{}{more}]", items[..items.len().min(8)].join(","))
    };
    match AttributeType::try_from(a.r#type).unwrap_or(AttributeType::Undefined) {
        AttributeType::Float => format!("{:?}", a.f),
        AttributeType::Int => a.i.to_string(),
        AttributeType::String => String::from_utf8_lossy(&a.s[..a.s.len().min(40)]).replace(char::is_control, " "),
        AttributeType::Floats => list(a.floats.iter().map(|f| format!("{f:?}")).collect()),
        AttributeType::Ints => list(a.ints.iter().map(i64::to_string).collect()),
        AttributeType::Tensor => "tensor".to_owned(),
        AttributeType::Graph | AttributeType::Graphs => "graph".to_owned(),
        _ => "..".to_owned(),
    }
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
