//! What ONNX's operator sets define: which ops there are, how many operands they take, which attributes. `schemas.txt` is made
//! from ONNX's own definitions (`tests/reference/make_onnx_schemas.py`, which says what is in a line); a node is held against
//! it before it is translated, and against what the translation asked for afterwards ([`Node::finish`]). So an attribute is
//! used, or says what it would say if it were left out, or is refused by name: who passes one over computes another network.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use tract_onnx::pb::AttributeProto;
use tract_onnx::pb::attribute_proto::AttributeType;

use super::error::{Refusal, Translated, wrong};
use super::node::{Node, value_of};

/// The oldest and the newest operator set that `schemas.txt` describes.
pub(super) const OPSETS: RangeInclusive<i64> = 7..=28;

/// An op's line.
pub(super) struct Schema {
    opsets: RangeInclusive<i64>,
    /// The first operator set of each, and the most operands; `None` is any number.
    operands: Vec<(i64, Option<usize>)>,
    attributes: Vec<Attribute>,
}

struct Attribute {
    name: &'static str,
    kind: &'static str,
    opsets: RangeInclusive<i64>,
    default: Option<&'static str>,
}

static SCHEMAS: LazyLock<HashMap<&str, Schema>> =
    LazyLock::new(|| include_str!("schemas.txt").lines().map(|l| schema(l).expect("`every_line_is_read` is the test of that")).collect());

/// `10-` or `7-12`.
fn range(text: &str) -> Option<RangeInclusive<i64>> {
    let (first, last) = text.split_once('-')?;
    Some(first.parse().ok()?..=if last.is_empty() { *OPSETS.end() } else { last.parse().ok()? })
}

fn schema(line: &'static str) -> Option<(&'static str, Schema)> {
    let mut words = line.split(' ');
    let (name, opsets) = (words.next()?, range(words.next()?)?);
    let most = |t: &str| if t == "*" { Some(None) } else { t.parse().ok().map(Some) };
    let operands = words.next()?.split(',').map(|part| {
        let (count, since) = part.split_once('@')?;
        Some((since.parse().ok()?, most(count)?))
    });
    let operands = operands.collect::<Option<Vec<_>>>()?;
    let attribute = |word: &'static str| {
        let mut parts = word.splitn(4, ':');
        let (name, kind, opsets) = (parts.next()?, parts.next()?, range(parts.next()?)?);
        Some(Attribute { name, kind, opsets, default: parts.next() })
    };
    Some((name, Schema { opsets, operands, attributes: words.map(attribute).collect::<Option<Vec<_>>>()? }))
}

/// What a kind of attribute is called in messages, and its type.
fn kind(letters: &str) -> (&'static str, AttributeType) {
    match letters {
        "i" => ("an integer", AttributeType::Int),
        "f" => ("a number", AttributeType::Float),
        "s" => ("a text", AttributeType::String),
        "t" => ("a tensor", AttributeType::Tensor),
        "g" => ("a graph", AttributeType::Graph),
        "is" => ("integers", AttributeType::Ints),
        "fs" => ("numbers", AttributeType::Floats),
        "ss" => ("texts", AttributeType::Strings),
        _ => ("another kind of value", AttributeType::Undefined),
    }
}

/// A list of ranges, as messages say them.
fn shown(ranges: &[&RangeInclusive<i64>]) -> String {
    let one = |r: &&RangeInclusive<i64>| match r.end() == OPSETS.end() {
        true => format!("from {} on", r.start()),
        false => format!("{} to {}", r.start(), r.end()),
    };
    ranges.iter().map(one).collect::<Vec<_>>().join(" and ")
}

/// Holds a node against the definition of its op in an operator set.
pub(super) fn check(node: &Node<'_>, opset: i64) -> Translated<()> {
    let Some(schema) = SCHEMAS.get(node.op()) else { return Err(Refusal::Op) };
    if !schema.opsets.contains(&opset) {
        return wrong(format!("operator set {opset} has no such op; those {} do", shown(&[&schema.opsets])));
    }
    let most = schema.operands.iter().rev().find(|(since, _)| *since <= opset).and_then(|(_, most)| *most);
    if let Some(most) = most.filter(|&most| node.operands() > most) {
        return wrong(format!("expected at most {most} operands in operator set {opset}, found {}", node.operands()));
    }
    let mut seen = Vec::new();
    for a in node.attributes() {
        if seen.contains(&&*a.name) {
            return wrong(format!("attribute `{}` is given twice", short(&a.name)));
        }
        seen.push(&*a.name);
        attribute(schema, a, opset)?;
    }
    Ok(())
}

fn attribute(schema: &Schema, a: &AttributeProto, opset: i64) -> Translated<()> {
    let known: Vec<&Attribute> = schema.attributes.iter().filter(|d| d.name == a.name).collect();
    let Some(defined) = known.iter().find(|d| d.opsets.contains(&opset)) else {
        let others: Vec<&RangeInclusive<i64>> = known.iter().map(|d| &d.opsets).collect();
        let where_else = if others.is_empty() { "no set does".to_owned() } else { format!("those {} do", shown(&others)) };
        let found = value_of(a);
        return wrong(format!(
            "attribute `{}`: operator set {opset} has none of that name for this op ({where_else}), found {found}",
            short(&a.name)
        ));
    };
    let (expected, ty) = kind(defined.kind);
    if a.r#type != ty as i32 || !a.ref_attr_name.is_empty() {
        return wrong(format!("attribute `{}`: expected {expected}, found {}", defined.name, value_of(a)));
    }
    Ok(())
}

/// What an attribute says that says nothing: its default in that operator set, if that is this one's value, and if there is one.
pub(super) fn default(op: &str, a: &AttributeProto, opset: i64) -> Option<(bool, &'static str)> {
    let defined = SCHEMAS.get(op)?.attributes.iter().find(|d| d.name == a.name && d.opsets.contains(&opset))?;
    let default = defined.default?;
    let same = match defined.kind {
        "i" => default.parse() == Ok(a.i),
        "f" => default.parse() == Ok(a.f),
        "s" => default.as_bytes() == &a.s[..],
        _ => false,
    };
    Some((same, default))
}

/// At most a few words of a text, on one line.
fn short(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read() {
        for line in include_str!("schemas.txt").lines() {
            assert!(schema(line).is_some(), "{line}");
        }
        let resize = &SCHEMAS["Resize"];
        assert_eq!((resize.opsets.clone(), &resize.operands[..]), (10..=28, &[(10, Some(2)), (11, Some(4))][..]));
        let mode = |op: &str, since: i64| SCHEMAS[op].attributes.iter().any(|a| a.name == "mode" && *a.opsets.start() == since);
        assert!(mode("DepthToSpace", 11) && mode("SpaceToDepth", 28));
        let axis: Vec<_> = SCHEMAS["Softmax"].attributes.iter().map(|a| (a.opsets.clone(), a.default)).collect();
        assert_eq!(axis, [(7..=12, Some("1")), (13..=28, Some("-1"))]);
    }
}
