//! `linear(x, @w as w8a8, b)` -> `linear(quantise_rows(x), @w as i8, b)`: what an integer product multiplies. `w4a8` becomes `i4`, and so
//! on. Convolutions alike; of a concatenation each part by itself, whose ranges differ.
//!
//! Fires for images only: a condition is a vector a sample, few of them, and stays f32. [`Settings::rows`] may leave convolutions out that
//! are computed otherwise; their weights are stored the same.

use std::collections::HashMap;

use fcdm_ir::ops::{Concat, QuantiseRows, UpsampleNearest};
use fcdm_ir::{Def, Function, Value};

use crate::pipeline::Settings;
use crate::quantise_weights::is_product;
use crate::rewrite::{Rewriter, rewrite};

/// What weights are stored as that are multiplied by codes: `i8` of `w8a8`.
pub fn encoding_of(stored: &str) -> Option<String> {
    let bits = stored.strip_prefix('w')?.strip_suffix("a8")?;
    (!bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit())).then(|| format!("i{bits}"))
}

/// The pass.
pub(crate) fn quantise_rows(f: &Function, settings: &Settings<'_>) -> Function {
    let encodings: HashMap<String, String> =
        f.weights().filter_map(|(_, data)| Some((data.name.clone(), encoding_of(data.stored.as_deref()?)?))).collect();
    let quantised = rewrite(f, |r, inst| {
        if !is_product(inst) || stored_as(r, inst.operands[1]).and_then(encoding_of).is_none() {
            return None;
        }
        let x = inst.operands[0];
        let image = r.old().ty(x).rank() > 2 && r.old().value(x).def != Def::Weight;
        if !image || !(settings.rows)(r.old(), inst) {
            return None;
        }
        let codes = codes_of(r, x);
        let operands = [&[codes], &r.map_all(&inst.operands[1..])[..]].concat();
        Some(r.b.emit(inst.op.clone(), &operands))
    });
    let stored: HashMap<String, Option<String>> = quantised.weights().map(|(_, d)| (d.name.clone(), d.stored.clone())).collect();
    quantised.stored(|weight| encodings.get(weight).cloned().or_else(|| stored.get(weight).cloned().flatten()))
}

fn stored_as<'a>(r: &Rewriter<'a>, w: Value) -> Option<&'a str> {
    r.old().value(w).stored.as_deref()
}

/// The rows of an old value as codes: of a concatenation over channels, those of its parts; of an enlarged image, the small one's.
fn codes_of(r: &mut Rewriter<'_>, x: Value) -> Value {
    if let Some((&UpsampleNearest { factor }, inst)) = r.def::<UpsampleNearest>(x).filter(|_| r.used_once(x)) {
        let small = r.map(inst.operands[0]);
        let codes = r.b.one(QuantiseRows {}, &[small]);
        return r.b.one(UpsampleNearest { factor }, &[codes]);
    }
    let joined = r.def::<Concat>(x).filter(|(concat, _)| concat.axis + 1 == r.old().ty(x).rank());
    let Some((concat, inst)) = joined.filter(|_| r.used_once(x)) else {
        let x = r.map(x);
        return r.b.one(QuantiseRows {}, &[x]);
    };
    let (op, parts) = (concat.clone(), r.map_all(&inst.operands));
    let codes: Vec<Value> = parts.iter().map(|&part| r.b.one(QuantiseRows {}, &[part])).collect();
    r.b.one(op, &codes)
}
