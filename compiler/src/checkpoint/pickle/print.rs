//! Plain values as JSON-like text: what a Namespace says about a training run.
//!
//! Bounded twice, since memo sharing lets a short pickle describe an exponentially large tree: nesting by [`DEPTH`],
//! length by the caller. What is cut off or is not plain appears as `…` or `"<description>"`.

use super::{Pickle, Value};

/// Deepest nesting that is printed.
const DEPTH: usize = 8;

/// Prints `value` in at most `limit` bytes, give or take one item's description.
pub(in super::super) fn plain(pickle: &Pickle, value: Value, limit: usize) -> String {
    let mut out = String::new();
    print(pickle, value, limit, DEPTH, &mut out);
    out
}

fn print(pickle: &Pickle, value: Value, limit: usize, depth: usize, out: &mut String) {
    if out.len() >= limit || depth == 0 {
        if !out.ends_with('…') {
            out.push('…');
        }
        return;
    }
    match value {
        Value::None => out.push_str("null"),
        Value::Bool(b) => out.push_str(if b { "true" } else { "false" }),
        Value::Text(_) => quoted(pickle.text(value).unwrap_or_default(), limit - out.len(), out),
        Value::Float(_) => out.push_str(&format!("{:?}", pickle.number(value).unwrap_or(f64::NAN))),
        Value::Int(_) | Value::Wide(_) => match pickle.int(value) {
            Some(i) => out.push_str(&i.to_string()),
            None => out.push_str("\"<wide integer>\""),
        },
        Value::Unit => out.push_str("[]"),
        Value::Bytes(_) | Value::Node(_) => compound(pickle, value, limit, depth, out),
    }
}

fn compound(pickle: &Pickle, value: Value, limit: usize, depth: usize, out: &mut String) {
    if let Some(items) = pickle.tuple(value) {
        sequence(pickle, items.iter().copied(), limit, depth, out);
    } else if let Some(items) = pickle.list(value) {
        sequence(pickle, items, limit, depth, out);
    } else if let Some(pairs) = pickle.dict(value) {
        out.push('{');
        for (i, (key, value)) in pairs.enumerate() {
            out.push_str(if i == 0 { "" } else { ", " });
            print(pickle, key, limit, depth - 1, out);
            if out.len() >= limit {
                break;
            }
            out.push_str(": ");
            print(pickle, value, limit, depth - 1, out);
        }
        out.push('}');
    } else {
        quoted(format!("<{}>", pickle.kind(value)).as_bytes(), limit, out);
    }
}

fn sequence(pickle: &Pickle, items: impl Iterator<Item = Value>, limit: usize, depth: usize, out: &mut String) {
    out.push('[');
    for (i, item) in items.enumerate() {
        out.push_str(if i == 0 { "" } else { ", " });
        print(pickle, item, limit, depth - 1, out);
        if out.len() >= limit {
            break;
        }
    }
    out.push(']');
}

/// A JSON string of at most the first `limit` bytes of `text`.
fn quoted(text: &[u8], limit: usize, out: &mut String) {
    let cut = String::from_utf8_lossy(&text[..text.len().min(limit)]);
    out.push_str(&serde_json::Value::String(cut.into_owned()).to_string());
    if text.len() > limit {
        out.push('…');
    }
}
