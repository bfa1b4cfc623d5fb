//! Convolutions. Weights are `[O,I/groups,KH,KW]` in ONNX; here `[O,KH,KW,I]`, for depthwise ones `[K,K,C]`, for 1x1 ones the
//! matrix `[O,I]` of a linear layer.
//!
//! Groups: depthwise with stride 1 and a square kernel is an op of its own; other depthwise convolutions become dense ones
//! whose weight is zero between groups; a few groups are convolved one by one.

use std::sync::Arc;

use fcdm_ir::Value;
use fcdm_ir::ops::{Concat, Conv2d, ConvTranspose2d, DwConv2d, Linear, Slice, Split};

use super::constant::{Constant, Data};
use super::error::{Translated, form, wrong};
use super::import::{Ordered, Translation};
use super::node::Node;
use super::weight::Arrangement;

/// The most groups that are convolved one by one.
const GROUPS: usize = 64;

/// The most values of a depthwise convolution's weight as a dense one.
const DENSE: usize = 1 << 24;

/// A convolution with known weights.
#[derive(Clone)]
pub(super) struct KnownConvolution {
    pub x: Ordered,
    pub weight: Arc<Constant>,
    pub bias: Option<Arc<Constant>>,
    pub stride: usize,
    /// Top, left, bottom, right.
    pub pad: [usize; 4],
    pub groups: usize,
}

/// Images have four axes; the stride is one number; nothing is dilated.
fn planar(node: &Node<'_>, rank: usize) -> Translated<usize> {
    if rank != 4 {
        return form(format!("on {rank} axes: images have 4"));
    }
    if node.counts::<2>("dilations", 1)? != [1, 1] {
        return form("dilated");
    }
    match node.counts::<2>("strides", 1)? {
        [a, b] if a == b && a > 0 => Ok(a),
        _ => form("with strides that differ, or of 0"),
    }
}

/// Padding along one axis, before and after, so that the result has `ceil(extent / stride)` elements.
fn same(extent: usize, kernel: usize, stride: usize, upper: bool) -> [usize; 2] {
    let total = ((extent.div_ceil(stride) - 1) * stride + kernel).saturating_sub(extent);
    let less = total / 2;
    if upper { [less, total - less] } else { [total - less, less] }
}

/// Amounts of padding beside a rule for them, which may only be none.
fn no_pads(node: &Node<'_>) -> Translated<()> {
    match node.counts::<4>("pads", 0)? {
        [0, 0, 0, 0] => Ok(()),
        pads => wrong(format!("attribute `pads`: expected none beside auto_pad or output_shape, found {pads:?}")),
    }
}

/// A kernel's size may be said, and is the weight's.
fn kernel_shape(node: &Node<'_>, kernel: [usize; 2]) -> Translated<()> {
    match node.ints("kernel_shape") {
        Some(said) if !said.iter().eq(&kernel.map(|k| k as i64)) => {
            wrong(format!("attribute `kernel_shape`: expected {kernel:?}, as the weight has, found {said:?}"))
        }
        _ => Ok(()),
    }
}

/// Top, left, bottom, right, as attributes say.
pub(super) fn padding(node: &Node<'_>, size: [usize; 2], kernel: [usize; 2], stride: usize) -> Translated<[usize; 4]> {
    let auto = node.text_or("auto_pad", "NOTSET");
    if !["NOTSET", ""].contains(&auto) {
        no_pads(node)?;
    }
    match auto {
        "NOTSET" | "" => node.counts::<4>("pads", 0),
        "VALID" => Ok([0; 4]),
        kind @ ("SAME_UPPER" | "SAME_LOWER") => {
            let [h, w] = [0, 1].map(|i| same(size[i], kernel[i], stride, kind == "SAME_UPPER"));
            Ok([h[0], w[0], h[1], w[1]])
        }
        other => wrong(format!("there is no auto_pad `{other}`")),
    }
}

/// Padding of a transposed convolution, whose result has `whole` pixels without, and `scaled` by the rule of SAME.
fn transposed_padding(node: &Node<'_>, scaled: [usize; 2], whole: [usize; 2]) -> Translated<[usize; 4]> {
    let asked = if node.has("output_shape") { Some(node.counts::<2>("output_shape", 0)?) } else { None };
    let output = match (asked, node.text_or("auto_pad", "NOTSET")) {
        (None, "NOTSET" | "") => return node.counts::<4>("pads", 0),
        (None, "VALID") => whole,
        (None, "SAME_UPPER" | "SAME_LOWER") => scaled,
        (Some(output), "NOTSET" | "" | "VALID" | "SAME_UPPER" | "SAME_LOWER") => output,
        (_, other) => return wrong(format!("there is no auto_pad `{other}`")),
    };
    no_pads(node)?;
    match [0, 1].map(|a| whole[a].checked_sub(output[a])) {
        [Some(h), Some(w)] if h % 2 == 0 && w % 2 == 0 => Ok([h / 2, w / 2, h / 2, w / 2]),
        // On which side the odd one goes has been defined both ways.
        [Some(_), Some(_)] => form(format!("to extents {output:?}, which {whole:?} do not become by equal padding: expected `pads`")),
        _ => form(format!("to extents {output:?}, larger than the {whole:?} that there are")),
    }
}

impl Translation {
    /// A known operand, for whose values there is no op that takes them computed.
    pub fn constant(&self, node: &Node<'_>, i: usize, what: &str) -> Translated<Arc<Constant>> {
        match self.known(node, i) {
            Some(c) => Ok(c),
            None => form(format!("with {what} computed by the network")),
        }
    }

    /// A known operand that may be left out.
    pub fn optional(&self, node: &Node<'_>, i: usize, what: &str) -> Translated<Option<Arc<Constant>>> {
        node.operand(i).map(|_| self.constant(node, i, what)).transpose()
    }

    pub fn conv(&mut self, node: &Node<'_>) -> Translated<()> {
        let x = self.tensor(node, 0)?;
        let stride = planar(node, x.order.len())?;
        let (weight, bias) = (self.constant(node, 1, "weights")?, self.optional(node, 2, "a bias")?);
        let (dims, &[o, i, kh, kw]) = (self.dims(&x), &weight.dims[..]) else {
            return wrong(format!("a weight of extents {:?}", weight.dims));
        };
        let groups = usize::try_from(node.int_or("group", 1)).unwrap_or(0);
        let right = groups > 0 && o % groups == 0 && dims[1] == i * groups && bias.as_ref().is_none_or(|b| b.count() == o);
        if !right || kh * kw == 0 {
            return wrong(format!("a weight of extents {:?} in {groups} groups for an image of {dims:?}", weight.dims));
        }
        kernel_shape(node, [kh, kw])?;
        let mut pad = padding(node, [dims[2], dims[3]], [kh, kw], stride)?;
        let mut x = x;
        if let Some(zeros) = self.padded.get(&x.v) {
            pad.iter_mut().zip(zeros.pad).for_each(|(p, z)| *p += z);
            x = zeros.image.clone();
        }
        let y = self.convolved(KnownConvolution { x, weight, bias, stride, pad, groups })?;
        self.define(node, y)
    }

    /// The result of a convolution, noted as such.
    pub fn convolved(&mut self, c: KnownConvolution) -> Translated<Ordered> {
        let order = vec![0, 2, 3, 1];
        let x = self.arranged(&c.x, &order)?;
        let v = self.grouped(x, &c)?;
        self.convolutions.insert(v, c);
        Ok(Ordered { v, order })
    }

    fn grouped(&mut self, x: Value, c: &KnownConvolution) -> Translated<Value> {
        let &[o, i, kh, kw] = &c.weight.dims[..] else { return wrong("a weight without four axes") };
        let bias = c.bias.as_ref().map(|b| self.vector(b)).transpose()?;
        if c.groups == 1 {
            return self.dense(x, &c.weight, bias, c);
        }
        let [p, ..] = c.pad;
        if i == 1 && o == c.groups && c.stride == 1 && kh == kw && c.pad == [p; 4] && p < kh {
            let form = Arrangement { view: vec![o, kh, kw], perm: vec![1, 2, 0], shape: vec![kh, kw, o] };
            let w = self.weight(&c.weight, form)?;
            let operands: Vec<Value> = [x, w].into_iter().chain(bias).collect();
            return self.one(DwConv2d { pad: p }, &operands);
        }
        if c.groups > GROUPS || i == 1 {
            return self.dense(x, &Arc::new(between(&c.weight, c.groups)?), bias, c);
        }
        let parts = self.b.try_emit(Split { axis: 3, parts: c.groups }, &[x])?;
        let mut joined: Option<Value> = None;
        for (g, part) in parts.into_iter().enumerate() {
            let each = o / c.groups;
            let weight = Arc::new(rows(&c.weight, g * each, each));
            let bias = bias.map(|b| self.one(Slice { axis: 0, start: g * each, len: each }, &[b])).transpose()?;
            let y = self.dense(part, &weight, bias, c)?;
            joined = Some(match joined {
                None => y,
                Some(before) => self.one(Concat { axis: 3 }, &[before, y])?,
            });
        }
        joined.map_or_else(|| wrong("no groups"), Ok)
    }

    /// One group.
    fn dense(&mut self, x: Value, weight: &Arc<Constant>, bias: Option<Value>, c: &KnownConvolution) -> Translated<Value> {
        let &[o, i, kh, kw] = &weight.dims[..] else { return wrong("a weight without four axes") };
        let linear = [kh, kw, c.stride] == [1, 1, 1] && c.pad == [0; 4];
        let shape = if linear { vec![o, i] } else { vec![o, kh, kw, i] };
        let w = self.weight(weight, Arrangement { view: vec![o, i, kh, kw], perm: vec![0, 2, 3, 1], shape })?;
        let operands: Vec<Value> = [x, w].into_iter().chain(bias).collect();
        if linear { self.one(Linear {}, &operands) } else { self.one(Conv2d { stride: c.stride, pad: c.pad.to_vec() }, &operands) }
    }

    pub fn conv_transpose(&mut self, node: &Node<'_>) -> Translated<()> {
        let x = self.tensor(node, 0)?;
        let stride = planar(node, x.order.len())?;
        if node.int_or("group", 1) != 1 {
            return form("in groups");
        }
        let (weight, bias) = (self.constant(node, 1, "weights")?, self.optional(node, 2, "a bias")?);
        let (dims, &[i, o, kh, kw]) = (self.dims(&x), &weight.dims[..]) else {
            return wrong(format!("a weight of extents {:?}", weight.dims));
        };
        if dims[1] != i || kh * kw == 0 {
            return wrong(format!("a weight of extents {:?} for an image of {dims:?}", weight.dims));
        }
        kernel_shape(node, [kh, kw])?;
        let extra = node.counts::<2>("output_padding", 0)?;
        // Of an axis of extent n without padding.
        let full = |n: usize, k: usize, extra: usize| (n - 1) * stride + k + extra;
        let whole = [full(dims[2], kh, extra[0]), full(dims[3], kw, extra[1])];
        let pad = transposed_padding(node, [dims[2] * stride, dims[3] * stride], whole)?;
        let output = [whole[0].checked_sub(pad[0] + pad[2]), whole[1].checked_sub(pad[1] + pad[3])];
        let [Some(h), Some(w)] = output else { return wrong(format!("padding {pad:?} is larger than the result")) };
        let input = self.arranged(&x, &[0, 2, 3, 1])?;
        let weights = self.weight(&weight, Arrangement { view: vec![i, o, kh, kw], perm: vec![0, 2, 3, 1], shape: vec![i, kh, kw, o] })?;
        let bias = bias.map(|b| self.vector(&b)).transpose()?;
        let operands: Vec<Value> = [input, weights].into_iter().chain(bias).collect();
        let v = self.one(ConvTranspose2d { stride, pad: pad.to_vec(), output: vec![h, w] }, &operands)?;
        self.define(node, Ordered { v, order: vec![0, 2, 3, 1] })
    }

    /// `x a + b` per channel with known numbers, as part of the convolution that computed x, if one did.
    pub fn scaled_convolution(&mut self, x: &Ordered, a: &[f32], b: &[f32]) -> Translated<Option<Ordered>> {
        let Some(c) = self.convolutions.get(&x.v).cloned() else { return Ok(None) };
        let mut weight = (*c.weight).clone();
        let each = weight.count() / a.len().max(1);
        let Data::Float(values) = &mut weight.data else { return Ok(None) };
        values.iter_mut().enumerate().for_each(|(i, v)| *v *= a[i / each]);
        let before = c.bias.as_ref().map_or_else(|| vec![0.0; a.len()], |b| b.as_floats());
        let bias = a.iter().zip(b).zip(&before).map(|((a, b), before)| a * before + b).collect();
        let name = c.bias.as_ref().map_or_else(|| format!("{}.bias", c.weight.name), |b| b.name.clone());
        let of_size = c.bias.as_ref().is_some_and(|b| b.of_size);
        let bias = Constant { trained: true, of_size, ..Constant::floats(&name, vec![a.len()], bias) };
        self.convolved(KnownConvolution { weight: Arc::new(weight), bias: Some(Arc::new(bias)), ..c }).map(Some)
    }
}

/// Output channels of a weight.
fn rows(w: &Constant, start: usize, len: usize) -> Constant {
    let each = w.count() / w.dims[0];
    let values = w.as_floats()[start * each..(start + len) * each].to_vec();
    Constant { dims: [&[len], &w.dims[1..]].concat(), data: Data::Float(values), ..w.clone() }
}

/// The weight of one dense convolution: zero between groups.
fn between(w: &Constant, groups: usize) -> Translated<Constant> {
    let (o, i, k) = (w.dims[0], w.dims[1], w.dims[2] * w.dims[3]);
    let wide = i * groups;
    if o.saturating_mul(wide).saturating_mul(k) > DENSE {
        return form(format!("in {groups} groups of such size"));
    }
    let (values, mut dense) = (w.as_floats(), vec![0.0; o * wide * k]);
    for row in 0..o {
        let first = row / (o / groups) * i;
        dense[(row * wide + first) * k..][..i * k].copy_from_slice(&values[row * i * k..][..i * k]);
    }
    Ok(Constant { dims: vec![o, wide, w.dims[2], w.dims[3]], data: Data::Float(dense), ..w.clone() })
}
