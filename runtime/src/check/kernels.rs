//! What each kernel demands of its operands' shapes and of its attributes.

use super::{Fault, count, ensure};
use crate::kernels::MAX_AXES;
use crate::plan::{Element, Epilogue, Kernel, Operand, Rearrange, Step};

/// Greatest kernel, stride or padding of a convolution; far above any in use, and no sum of a few overflows.
const MAX_SPAN: usize = 1 << 16;

/// Fails unless the operand has that shape.
fn shape(what: &str, operand: &Operand, want: &[usize]) -> Result<(), Fault> {
    ensure(operand.shape == want, format!("{want:?} for {what}"), &operand.shape)
}

/// The operand's extents, of which there must be as many.
fn rank<const N: usize>(what: &str, operand: &Operand) -> Result<[usize; N], Fault> {
    let found = <[usize; N]>::try_from(operand.shape.as_slice());
    found.map_err(|_| (format!("{N} axes for {what}"), format!("{:?}", operand.shape)))
}

/// The first and last extents of an operand of at least two axes.
fn ends(what: &str, operand: &Operand) -> Result<(usize, usize), Fault> {
    match *operand.shape.as_slice() {
        [first, .., last] => Ok((first, last)),
        _ => Err((format!("at least two axes for {what}"), format!("{:?}", operand.shape))),
    }
}

/// Extent of a convolution's output: `(extent + before + after - kernel) / stride + 1`.
fn convolved(extent: usize, pads: [usize; 2], kernel: usize, stride: usize) -> Result<usize, Fault> {
    let sane = stride > 0 && kernel > 0 && [kernel, stride, pads[0], pads[1]].iter().all(|&v| v <= MAX_SPAN);
    ensure(sane, "kernel and stride of at least 1, none of kernel, stride and padding excessive", (kernel, stride, pads))?;
    let room = (extent + pads[0] + pads[1]).checked_sub(kernel);
    room.map(|r| r / stride + 1)
        .ok_or_else(|| ("a kernel no larger than the padded image".into(), format!("{kernel} over {extent} and {pads:?}")))
}

/// Output channels of a convolution that has `[N,OH,OW]` of its own and becomes the image y by a rearrangement.
fn rearranged(own: [usize; 3], then: Rearrange, y: [usize; 4]) -> Result<usize, Fault> {
    let source = then.source(y).filter(|s| count(s).is_some());
    let source = source.ok_or_else(|| (format!("a y that is an image after {then:?}"), format!("{y:?}")))?;
    let want = [own[0], own[1], own[2], source[3]];
    ensure(source == want, format!("{want:?} for y before {then:?}"), source)?;
    Ok(source[3])
}

fn number(what: &str, found: usize, min: usize, max: usize) -> Result<(), Fault> {
    let expected = if min == max { format!("{min} {what}") } else { format!("{min} to {max} {what}") };
    ensure((min..=max).contains(&found), expected, found)
}

/// Fails unless the step's operands and attributes are what its kernel can compute. Every operand is inside of its
/// memory and has extents of at least 1.
pub(super) fn check(step: &Step) -> Result<(), Fault> {
    let (x, y) = (&step.inputs, &step.outputs);
    let (least, most, results) = operands(&step.kernel);
    number("inputs", x.len(), least, most)?;
    number("outputs", y.len(), results, results)?;
    let labels = match step.kernel {
        Kernel::Embedding => Some(1),
        Kernel::OneHot => Some(0),
        _ => None,
    };
    for (i, operand) in x.iter().chain(y).enumerate() {
        if step.kernel.packed_weights() == Some(i) && matches!(operand.dtype, Element::BF16 | Element::F16) {
            let stored = matches!(operand.at, crate::plan::Place::Weight(_));
            ensure(stored, format!("a tensor of the artifact for {:?} weights", operand.dtype), &operand.at)?;
            continue;
        }
        let want = if labels == Some(i) { Element::I32 } else { Element::F32 };
        ensure(operand.dtype == want, format!("{want:?} for operand {i}"), operand.dtype)?;
    }
    if let Some(i) = labels {
        ensure(matches!(x[i].at, crate::plan::Place::Input(_)), "labels that are an input, whose range is checked", &x[i].at)?;
    }
    let eps_of = |eps: f32| ensure(eps.is_finite() && eps >= 0.0, "a finite eps of at least 0", eps);
    match &step.kernel {
        Kernel::Fill { .. } => Ok(()),
        Kernel::Unary(_) => same_count(&x[0], &y[0]),
        Kernel::Binary(_) => same_count(&x[0], &y[0]).and(same_count(&x[1], &y[0])),
        Kernel::Sum { axes, .. } => {
            let rank = x[0].shape.len();
            let sound = rank > 0 && axes.iter().enumerate().all(|(i, &a)| a < rank && !axes[..i].contains(&a));
            ensure(sound, format!("different axes below {rank}"), axes)?;
            let want: Vec<usize> = x[0].shape.iter().enumerate().map(|(a, &e)| if axes.contains(&a) { 1 } else { e }).collect();
            shape("y", &y[0], &want)
        }
        Kernel::Copy { extents, from, x_strides, to, y_strides } => {
            let axes = extents.len();
            ensure(axes <= MAX_AXES && axes == x_strides.len() && axes == y_strides.len(), "strides for at most 6 axes", extents)?;
            ensure(count(extents).is_some(), "extents of at least 1 and a sane size", extents)?;
            inside("x", extents, *from, x_strides, x[0].count())?;
            inside("y", extents, *to, y_strides, y[0].count())?;
            ensure(injective(extents, y_strides), "strides under which no element of y is written twice", y_strides)
        }
        Kernel::Linear => {
            let (rows, k) = x[0].shape.split_at(x[0].shape.len().saturating_sub(1));
            ensure(k.len() == 1 && y[0].shape.len() == x[0].shape.len(), "equal ranks of x and y, at least 1", &y[0].shape)?;
            let o = y[0].shape[rows.len()];
            shape("y", &y[0], &[rows, &[o]].concat())?;
            weights(&x[1], x.get(2), o, 1, k[0])
        }
        Kernel::ConcatLinear => {
            let (a, b) = (&x[0].shape, &x[1].shape);
            let (Some((&i, rows)), Some((&j, others))) = (a.split_last(), b.split_last()) else {
                return Err(("at least one axis for a and b".into(), format!("{a:?} and {b:?}")));
            };
            ensure(rows == others, format!("{rows:?} before b's last axis"), others)?;
            let o = *y[0].shape.last().ok_or_else(|| ("at least one axis for y".to_owned(), "[]".to_owned()))?;
            shape("y", &y[0], &[rows, &[o]].concat())?;
            weights(&x[2], x.get(3), o, 1, i + j)
        }
        Kernel::Matmul => {
            let [b, m, k] = rank("a", &x[0])?;
            let [_, _, n] = rank("b", &x[1])?;
            shape("b", &x[1], &[b, k, n])?;
            shape("y", &y[0], &[b, m, n])
        }
        Kernel::Attention { scale } => {
            ensure(scale.is_finite(), "a finite scale", scale)?;
            let ([b, m, k], [_, s, n]) = (rank("q", &x[0])?, rank("v", &x[2])?);
            shape("k", &x[1], &[b, s, k])?;
            shape("v", &x[2], &[b, s, n])?;
            shape("y", &y[0], &[b, m, n])
        }
        Kernel::Conv2d { kernel: [kh, kw], stride, pad, upsample, epilogue, then } => {
            let ([n, h, w, i], image) = (upsampled(&x[0], *upsample)?, rank("y", &y[0])?);
            let own = [n, convolved(h, [pad[0], pad[2]], *kh, *stride)?, convolved(w, [pad[1], pad[3]], *kw, *stride)?];
            let o = rearranged(own, *then, image)?;
            // One more channel than there are, since bf16 weights may have that many.
            count(&[*kh, *kw, i + 1]).ok_or_else(|| ("a sane size of the kernel".into(), format!("{kh} x {kw} x {i}")))?;
            weights(&x[1], None, o, kh * kw, i)?;
            after_product(step, *epilogue, *then, o)
        }
        Kernel::Conv2dWinograd { pad, upsample, epilogue, then } => {
            let ([n, h, w, i], image) = (upsampled(&x[0], *upsample)?, rank("y", &y[0])?);
            let own = [n, convolved(h, [pad[0], pad[2]], 3, 1)?, convolved(w, [pad[1], pad[3]], 3, 1)?];
            let o = rearranged(own, *then, image)?;
            count(&[9, i + 1]).ok_or_else(|| ("a sane number of channels".into(), i.to_string()))?;
            weights(&x[1], None, o, 9, i)?;
            after_product(step, *epilogue, *then, o)
        }
        Kernel::ConvTranspose2d { stride, pad } => {
            let ([n, h, w, i], [_, kh, kw, o], [_, oh, ow, _]) = (rank("x", &x[0])?, rank("w", &x[1])?, rank("y", &y[0])?);
            let back = [convolved(oh, [pad[0], pad[2]], kh, *stride)?, convolved(ow, [pad[1], pad[3]], kw, *stride)?];
            ensure(back == [h, w], format!("a y that the convolution maps back to {:?}", [h, w]), back)?;
            shape("w", &x[1], &[i, kh, kw, o])?;
            shape("y", &y[0], &[n, oh, ow, o])?;
            x.get(2).map_or(Ok(()), |b| shape("b", b, &[o]))
        }
        Kernel::Conv2dWeightGrad { stride, pad } => {
            let ([n, h, w, i], [_, _, _, o], [_, kh, kw, _]) = (rank("x", &x[0])?, rank("dy", &x[1])?, rank("dw", &y[0])?);
            let out = [convolved(h, [pad[0], pad[2]], kh, *stride)?, convolved(w, [pad[1], pad[3]], kw, *stride)?];
            shape("dy", &x[1], &[n, out[0], out[1], o])?;
            shape("dw", &y[0], &[o, kh, kw, i])
        }
        Kernel::DwConv2d { pad } => depthwise(step, *pad).and_then(|c| x.get(2).map_or(Ok(()), |b| shape("b", b, &[c]))),
        Kernel::DwConvNormModulate { pad, eps } => {
            eps_of(*eps)?;
            let c = depthwise(step, *pad)?;
            shape("y", &y[0], &x[0].shape)?;
            shape("b", &x[2], &[c])?;
            shape("shift", &x[3], &[x[0].shape[0], c])?;
            shape("scale", &x[4], &[x[0].shape[0], c])
        }
        Kernel::DwConv2dWeightGrad { pad } => {
            let ([n, h, w, c], [kh, kw, _]) = (rank("x", &x[0])?, rank("dw", &y[0])?);
            let out = [convolved(h, [*pad; 2], kh, 1)?, convolved(w, [*pad; 2], kw, 1)?];
            shape("dy", &x[1], &[n, out[0], out[1], c])?;
            shape("dw", &y[0], &[kh, kw, c])
        }
        Kernel::SumSquares => {
            let [n, _, _, c] = rank("x", &x[0])?;
            shape("y", &y[0], &[n, c])
        }
        Kernel::GrnScale { eps } => {
            eps_of(*eps)?;
            let [_, c] = rank("ss", &x[0])?;
            shape("gamma", &x[1], &[c])?;
            shape("a", &y[0], &x[0].shape)
        }
        Kernel::Grn { eps } => eps_of(*eps).and(affine(step)),
        Kernel::GroupNorm { groups, eps, .. } => {
            eps_of(*eps)?;
            affine(step)?;
            ensure(*groups > 0 && x[0].shape[3] % groups == 0, format!("groups that divide {} channels", x[0].shape[3]), groups)
        }
        Kernel::Softmax => ends_or_one(&x[0]).and(shape("y", &y[0], &x[0].shape)),
        Kernel::LayerNorm { eps } => eps_of(*eps).and(ends_or_one(&x[0])).and(shape("y", &y[0], &x[0].shape)),
        Kernel::NormModulate { eps } => eps_of(*eps).and(channelwise(step, 0, &[1, 2])),
        Kernel::Modulate => channelwise(step, 0, &[1, 2]),
        Kernel::GatedAdd => shape("h", &x[1], &x[0].shape).and(channelwise(step, 0, &[2])),
        Kernel::ScaleChannels => channelwise(step, 0, &[1]),
        Kernel::TimestepEmbedding => {
            let ([n], [_, dim]) = (rank("t", &x[0])?, rank("y", &y[0])?);
            ensure(dim % 2 == 0, "an even width", dim)?;
            shape("y", &y[0], &[n, dim])
        }
        Kernel::Embedding => {
            let ([_, width], [n]) = (rank("table", &x[0])?, rank("labels", &x[1])?);
            shape("y", &y[0], &[n, width])
        }
        Kernel::OneHot => {
            let ([n], [_, depth]) = (rank("labels", &x[0])?, rank("y", &y[0])?);
            shape("y", &y[0], &[n, depth])
        }
        Kernel::LinearGeluSumsq => {
            let ([n, h, w, k], [_, _, _, o]) = (rank("x", &x[0])?, rank("h", &y[0])?);
            shape("h", &y[0], &[n, h, w, o])?;
            shape("ss", &y[1], &[n, o])?;
            weights(&x[1], x.get(2), o, 1, k)
        }
        Kernel::ScaleLinearGatedAdd => {
            let ([n, h, w, k], [_, _, _, o]) = (rank("h", &x[0])?, rank("y", &y[0])?);
            shape("a", &x[1], &[n, k])?;
            weights(&x[2], x.get(3), o, 1, k)?;
            shape("gate", &x[4], &[n, o])?;
            shape("x", &x[5], &[n, h, w, o])?;
            shape("y", &y[0], &[n, h, w, o])
        }
    }
}

/// Least and most inputs of a kernel, and its outputs.
fn operands(kernel: &Kernel) -> (usize, usize, usize) {
    match kernel {
        Kernel::Fill { .. } => (0, 0, 1),
        Kernel::Unary(_) | Kernel::Sum { .. } | Kernel::Copy { .. } | Kernel::SumSquares | Kernel::Softmax => (1, 1, 1),
        Kernel::LayerNorm { .. } | Kernel::TimestepEmbedding | Kernel::OneHot => (1, 1, 1),
        Kernel::Binary(_) | Kernel::Matmul | Kernel::Conv2dWeightGrad { .. } | Kernel::DwConv2dWeightGrad { .. } => (2, 2, 1),
        Kernel::GrnScale { .. } | Kernel::ScaleChannels | Kernel::Embedding => (2, 2, 1),
        Kernel::Linear => (2, 3, 1),
        Kernel::Conv2d { epilogue, .. } | Kernel::Conv2dWinograd { epilogue, .. } => {
            let residual = usize::from(epilogue.residual);
            (2 + residual, 3 + residual, 1)
        }
        Kernel::ConvTranspose2d { .. } | Kernel::DwConv2d { .. } => (2, 3, 1),
        Kernel::Grn { .. } | Kernel::GroupNorm { .. } | Kernel::Modulate | Kernel::GatedAdd | Kernel::NormModulate { .. } => (3, 3, 1),
        Kernel::Attention { .. } => (3, 3, 1),
        Kernel::LinearGeluSumsq => (3, 3, 2),
        Kernel::ConcatLinear => (3, 4, 1),
        Kernel::DwConvNormModulate { .. } => (5, 5, 1),
        Kernel::ScaleLinearGatedAdd => (6, 6, 1),
    }
}

fn same_count(x: &Operand, y: &Operand) -> Result<(), Fault> {
    ensure(x.count() == y.count(), format!("{} elements", y.count()), x.count())
}

fn ends_or_one(x: &Operand) -> Result<(), Fault> {
    ensure(!x.shape.is_empty(), "at least one axis", &x.shape)
}

/// Packed weights of `o` rows and `taps * channels` columns, and their bias.
fn weights(w: &Operand, b: Option<&Operand>, o: usize, taps: usize, channels: usize) -> Result<(), Fault> {
    shape("packed weights", w, &w.dtype.packed(o, taps, channels))?;
    b.map_or(Ok(()), |b| shape("bias", b, &[o]))
}

/// Extents of an image every pixel of which stands for `by` x `by`.
fn upsampled(x: &Operand, by: usize) -> Result<[usize; 4], Fault> {
    let [n, h, w, i] = rank("x", x)?;
    ensure((1..=MAX_SPAN).contains(&by), format!("an upsampling by 1 to {MAX_SPAN}"), by)?;
    let large = count(&[h, by]).zip(count(&[w, by])).filter(|&(h, w)| count(&[n, h, w, i]).is_some());
    let (h, w) = large.ok_or_else(|| (format!("a sane size upsampled by {by}"), format!("{:?}", x.shape)))?;
    Ok([n, h, w, i])
}

/// Bias and residual of a convolution with `o` channels.
fn after_product(step: &Step, epilogue: Epilogue, then: Rearrange, o: usize) -> Result<(), Fault> {
    let (bias, residual) = epilogue.operands(step.inputs.len());
    bias.map_or(Ok(()), |b| shape("bias", &step.inputs[b], &[o]))?;
    let Some(r) = residual else { return Ok(()) };
    ensure(then == Rearrange::Keep, "no residual where the result is rearranged", then)?;
    shape("residual", &step.inputs[r], &step.outputs[0].shape)
}

/// The depthwise convolution's x, w and y; returns the channels.
fn depthwise(step: &Step, pad: usize) -> Result<usize, Fault> {
    let ([n, h, w, c], [kh, kw, _]) = (rank("x", &step.inputs[0])?, rank("w", &step.inputs[1])?);
    shape("w", &step.inputs[1], &[kh, kw, c])?;
    let out = [convolved(h, [pad; 2], kh, 1)?, convolved(w, [pad; 2], kw, 1)?];
    shape("y", &step.outputs[0], &[n, out[0], out[1], c])?;
    Ok(c)
}

/// `x [N,H,W,C], gamma [C], beta [C] -> y` as x.
fn affine(step: &Step) -> Result<(), Fault> {
    let [_, _, _, c] = rank("x", &step.inputs[0])?;
    shape("gamma", &step.inputs[1], &[c])?;
    shape("beta", &step.inputs[2], &[c])?;
    shape("y", &step.outputs[0], &step.inputs[0].shape)
}

/// `x [N,..,C] -> y` as x, with `vectors` of `[N,C]`.
fn channelwise(step: &Step, x: usize, vectors: &[usize]) -> Result<(), Fault> {
    let (n, c) = ends("x", &step.inputs[x])?;
    for &v in vectors {
        shape("a vector of the sample", &step.inputs[v], &[n, c])?;
    }
    shape("y", &step.outputs[0], &step.inputs[x].shape)
}

/// All elements `first + i . strides` lie in `0 .. count`.
fn inside(what: &str, extents: &[usize], first: usize, strides: &[isize], count: usize) -> Result<(), Fault> {
    let (mut low, mut high) = (first as i128, first as i128);
    for (&extent, &stride) in extents.iter().zip(strides) {
        let reach = (extent as i128 - 1) * stride as i128;
        if reach < 0 { low += reach } else { high += reach }
    }
    ensure(low >= 0 && high < count as i128, format!("indices of {what} in 0 .. {count}"), (low, high))
}

/// No two indices have the same element: ordered by stride, every stride steps over all that the smaller ones
/// reach. Sufficient, and all that transposes, slices and shuffles need.
fn injective(extents: &[usize], strides: &[isize]) -> bool {
    let mut axes = [(0u128, 0u128); MAX_AXES];
    let mut n = 0;
    for (&extent, &stride) in extents.iter().zip(strides).filter(|(e, _)| **e > 1) {
        axes[n] = (stride.unsigned_abs() as u128, extent as u128);
        n += 1;
    }
    axes[..n].sort_unstable();
    let mut reach = 0;
    axes[..n].iter().all(|&(stride, extent)| {
        let apart = stride > reach;
        reach += stride * (extent - 1);
        apart
    })
}
