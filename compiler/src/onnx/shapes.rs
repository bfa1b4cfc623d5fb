//! What ONNX's ops do to extents: broadcasting, reshapes with 0 and -1, slices from either end.

use super::error::{Translated, form, wrong};
use super::node::{Node, axes, axis};

/// The extents that two tensors have together.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Translated<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |d: &[usize], i: usize| (i + d.len()).checked_sub(rank).map_or(1, |i| d[i]);
    let both = |i: usize| match (at(a, i), at(b, i)) {
        (x, y) if x == y => Ok(x),
        (1, y) => Ok(y),
        (x, 1) => Ok(x),
        _ => wrong(format!("extents {a:?} and {b:?} do not broadcast")),
    };
    let dims = (0..rank).map(both).collect::<Translated<Vec<usize>>>()?;
    match super::constant::counted(&dims) {
        Some(_) => Ok(dims),
        None => wrong(format!("{dims:?} is too large")),
    }
}

/// The extents that `Reshape` asks for: 0 is the extent of before, -1 what is left.
pub(super) fn reshape_dims(from: &[usize], shape: &[i64], zeros: bool) -> Translated<Vec<usize>> {
    let count: usize = from.iter().product();
    let mut dims = Vec::new();
    for (i, &d) in shape.iter().enumerate() {
        dims.push(match d {
            0 if !zeros => *from.get(i).map_or_else(|| wrong(format!("there is no axis {i} to copy an extent of")), Ok)?,
            -1 => 0,
            _ => usize::try_from(d).map_or_else(|_| wrong(format!("expected extents, found {shape:?}")), Ok)?,
        });
    }
    if let Some(free) = shape.iter().position(|&d| d == -1) {
        let rest = dims.iter().enumerate().filter(|(i, _)| *i != free).try_fold(1usize, |n, (_, &d)| n.checked_mul(d));
        dims[free] = rest.filter(|&r| r > 0).map_or(0, |r| count / r);
    }
    match super::constant::counted(&dims) {
        Some(n) if n == count => Ok(dims),
        _ => wrong(format!("{from:?} does not reshape to {shape:?}")),
    }
}

/// The extents that `Flatten` gives: what is before the axis, and the rest.
pub(super) fn flattened(node: &Node<'_>, dims: &[usize]) -> Translated<Vec<usize>> {
    let at = node.int_or("axis", 1);
    let at = if at == dims.len() as i64 { dims.len() } else { axis(at, dims.len())? };
    Ok(vec![dims[..at].iter().product(), dims[at..].iter().product()])
}

/// Extents without those axes, or without all of extent 1.
pub(super) fn squeezed(dims: &[usize], list: Option<&[i64]>) -> Translated<Vec<usize>> {
    let gone = match list {
        Some(list) => axes(list, dims.len())?,
        None => (0..dims.len()).filter(|&a| dims[a] == 1).collect(),
    };
    if let Some(&a) = gone.iter().find(|&&a| dims[a] != 1) {
        return wrong(format!("axis {a} of {dims:?} has not extent 1"));
    }
    Ok((0..dims.len()).filter(|a| !gone.contains(a)).map(|a| dims[a]).collect())
}

/// Extents with axes of extent 1 added at those places of the result.
pub(super) fn unsqueezed(dims: &[usize], list: &[i64]) -> Translated<Vec<usize>> {
    let new = axes(list, dims.len() + list.len())?;
    let mut old = dims.iter();
    Ok((0..dims.len() + new.len()).map(|a| if new.contains(&a) { 1 } else { *old.next().expect("as many as are not new") }).collect())
}

/// A part of one axis: `len` elements, every `step`-th, the first at `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SliceOf {
    pub axis: usize,
    pub start: usize,
    pub len: usize,
    pub step: isize,
}

/// What `Slice` takes; before opset 10 its bounds are attributes, later operands.
pub(super) fn slices<'a>(
    node: &Node<'a>,
    opset: i64,
    dims: &[usize],
    operand: &dyn Fn(usize) -> Option<&'a [i64]>,
) -> Translated<Vec<SliceOf>> {
    let given = |name: &str, i: usize| if opset < 10 { node.ints(name) } else { operand(i) };
    let (Some(starts), Some(ends)) = (given("starts", 1), given("ends", 2)) else { return form("with bounds that are computed") };
    let (list, steps) = (given("axes", 3), given("steps", 4));
    let known = opset < 10 || [3, 4].iter().all(|&i| node.operand(i).is_none() || operand(i).is_some());
    let right = starts.len() == ends.len() && list.is_none_or(|l| l.len() == starts.len()) && steps.is_none_or(|s| s.len() == starts.len());
    if !known || !right {
        return wrong("expected as many starts, ends, axes and steps");
    }
    let mut parts = Vec::new();
    for i in 0..starts.len() {
        let at = axis(list.map_or(i as i64, |l| l[i]), dims.len())?;
        let step = steps.map_or(1, |s| s[i]);
        let part = bounds(dims[at] as i64, starts[i], ends[i], step).filter(|p| p.1 > 0);
        let Some((start, len)) = part else { return wrong(format!("nothing is left of axis {at} of {dims:?}")) };
        parts.push(SliceOf { axis: at, start, len, step: step as isize });
    }
    Ok(parts)
}

/// First element and number of elements.
fn bounds(extent: i64, start: i64, end: i64, step: i64) -> Option<(usize, usize)> {
    let from_front = |i: i64| if i < 0 { i.saturating_add(extent) } else { i };
    let (low, high) = match step {
        1.. => (from_front(start).clamp(0, extent), from_front(end).clamp(0, extent)),
        ..=-1 => (from_front(start).clamp(0, extent - 1), if end < -extent { -1 } else { from_front(end).clamp(-1, extent - 1) }),
        0 => return None,
    };
    let span = if step > 0 { high - low } else { low - high }.max(0) as u64;
    let len = span.div_ceil(step.unsigned_abs());
    Some((usize::try_from(low).ok()?, usize::try_from(len).ok()?))
}
