//! `linear(x, @w as w8a8, b)` -> `linear(quantise_rows(x), @w as i8, b)`: what an integer product multiplies. `w4a8` becomes `i4`, and so
//! on. Convolutions alike; of a concatenation each part by itself, whose ranges differ.
//!
//! Codes have seven bits, for which most CPUs have the faster instructions, since sums of two products fit 16 bits. What GRN has scaled has
//! eight: there a few channels may be a hundred times as large as the others, which share their range.
//!
//! Fires for images only: a condition is a vector a sample, few of them, and stays f32. [`Settings::rows`] may leave convolutions out that
//! are computed otherwise; their weights are stored the same.

use std::collections::HashMap;

use fcdm_ir::ops::{Concat, Grn, QuantiseRows, ScaleChannels, UpsampleNearest};
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
        let codes = codes_of_rows(r, inst.operands[0]);
        return r.b.one(UpsampleNearest { factor }, &[codes]);
    }
    let joined = r.def::<Concat>(x).filter(|(concat, _)| concat.axis + 1 == r.old().ty(x).rank());
    let Some((concat, inst)) = joined.filter(|_| r.used_once(x)) else {
        return codes_of_rows(r, x);
    };
    let codes: Vec<Value> = inst.operands.iter().map(|&part| codes_of_rows(r, part)).collect();
    r.b.one(concat.clone(), &codes)
}

/// The rows of an old value as codes.
fn codes_of_rows(r: &mut Rewriter<'_>, x: Value) -> Value {
    let scaled = r.def::<ScaleChannels>(x).is_some() || r.def::<Grn>(x).is_some();
    let x = r.map(x);
    r.b.one(QuantiseRows { bits: if scaled { 8 } else { 7 } }, &[x])
}
