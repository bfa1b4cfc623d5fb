//! What shape rules of kernels are made of. Each fails with the number of the constraint that it is, expected and found.

use super::{Fault, count};
use crate::encoding::Matrix;
use crate::plan::Operand;

/// Greatest kernel, stride or padding of a convolution; far above any in use, and no sum of a few overflows.
pub(crate) const MAX_SPAN: usize = 1 << 16;

/// Fails unless `ok`, with the number of the constraint, what was expected and what was found.
pub(crate) fn ensure(rule: &'static str, ok: bool, expected: impl Into<String>, found: impl std::fmt::Debug) -> Result<(), Fault> {
    if ok { Ok(()) } else { Err(Fault { rule, expected: expected.into(), found: format!("{found:?}") }) }
}

/// Fails unless the operand has that shape.
pub(crate) fn shape(rule: &'static str, what: &str, operand: &Operand, want: &[usize]) -> Result<(), Fault> {
    ensure(rule, operand.shape == want, format!("{want:?} for {what}"), &operand.shape)
}

/// Fails unless the operand has the other one's shape.
pub(crate) fn like(rule: &'static str, what: &str, operand: &Operand, other: &Operand) -> Result<(), Fault> {
    shape(rule, what, operand, &other.shape)
}

/// Fails unless the two have equally many elements.
pub(crate) fn same_count(rule: &'static str, x: &Operand, y: &Operand) -> Result<(), Fault> {
    ensure(rule, x.count() == y.count(), format!("{} elements", y.count()), x.count())
}

/// The operand's extents, of which there must be as many.
pub(crate) fn rank<const N: usize>(rule: &'static str, what: &str, operand: &Operand) -> Result<[usize; N], Fault> {
    let found = <[usize; N]>::try_from(operand.shape.as_slice());
    found.map_err(|_| Fault { rule, expected: format!("{N} axes for {what}"), found: format!("{:?}", operand.shape) })
}

/// The first and last extents of an operand of at least two axes.
pub(crate) fn ends(rule: &'static str, what: &str, operand: &Operand) -> Result<(usize, usize), Fault> {
    match *operand.shape.as_slice() {
        [first, .., last] => Ok((first, last)),
        _ => Err(Fault { rule, expected: format!("at least two axes for {what}"), found: format!("{:?}", operand.shape) }),
    }
}

/// All extents but the last, and that, of an operand of at least one axis.
pub(crate) fn rows<'a>(rule: &'static str, what: &str, operand: &'a Operand) -> Result<(&'a [usize], usize), Fault> {
    let split = operand.shape.split_last().map(|(&last, rows)| (rows, last));
    split.ok_or_else(|| Fault { rule, expected: format!("at least one axis for {what}"), found: "[]".to_owned() })
}

/// Fails unless the number is finite and at least 0.
pub(crate) fn epsilon(rule: &'static str, eps: f32) -> Result<(), Fault> {
    ensure(rule, eps.is_finite() && eps >= 0.0, "a finite eps of at least 0", eps)
}

/// The matrix that an operand is, which must have those extents.
pub(crate) fn matrix(rule: &'static str, operand: &Operand, want: Matrix) -> Result<(), Fault> {
    shape(rule, "the weights", operand, &[want.rows, want.taps, want.channels])
}

/// Extent of a convolution's output: `(extent + before + after - kernel) / stride + 1`.
pub(crate) fn convolved(rule: &'static str, extent: usize, pads: [usize; 2], kernel: usize, stride: usize) -> Result<usize, Fault> {
    let sane = stride > 0 && kernel > 0 && [kernel, stride, pads[0], pads[1]].iter().all(|&v| v <= MAX_SPAN);
    ensure(rule, sane, "kernel and stride of at least 1, none of kernel, stride and padding excessive", (kernel, stride, pads))?;
    let room = (extent + pads[0] + pads[1]).checked_sub(kernel);
    let expected = || "a kernel no larger than the padded image".to_owned();
    room.map(|r| r / stride + 1).ok_or_else(|| Fault { rule, expected: expected(), found: format!("{kernel} over {extent} and {pads:?}") })
}

/// `x [N,..,C] -> y` as x, with `vectors` of `[N,C]`.
pub(crate) fn channelwise(rules: [&'static str; 3], x: &Operand, vectors: &[&Operand], y: &Operand) -> Result<(), Fault> {
    let (n, c) = ends(rules[0], "x", x)?;
    vectors.iter().try_for_each(|v| shape(rules[1], "a vector of the sample", v, &[n, c]))?;
    like(rules[2], "y", y, x)
}

/// `x [N,H,W,C], gamma [C], beta [C] -> y` as x; returns the channels.
pub(crate) fn affine(rules: [&'static str; 4], x: &[Operand], y: &Operand) -> Result<usize, Fault> {
    let [_, _, _, c] = rank(rules[0], "x", &x[0])?;
    shape(rules[1], "gamma", &x[1], &[c])?;
    shape(rules[2], "beta", &x[2], &[c])?;
    like(rules[3], "y", y, &x[0])?;
    Ok(c)
}

/// Number of elements of extents that are hostile numbers, if it is sane.
pub(crate) fn sane(extents: &[usize]) -> Option<usize> {
    count(extents)
}
