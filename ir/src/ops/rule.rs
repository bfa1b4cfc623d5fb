//! Checks that several ops' shape rules share. Each takes the number of the constraint it stands for.
//!
//! Shape rules use saturating arithmetic on extents: a hostile number becomes `usize::MAX`, which
//! [`Op::infer`](super::Op::infer) refuses as `op.size`.

use super::Share;
use crate::types::{DType, Type, TypeError};

/// The most elements a tensor may have.
pub(super) const MAX_COUNT: u64 = 1 << 40;

/// True unless an extent is zero or there are more than [`MAX_COUNT`] elements.
pub(crate) fn sized(t: &Type) -> bool {
    t.shape.iter().all(|&d| d >= 1) && t.shape.iter().fold(1, |n: u64, &d| n.saturating_mul(d as u64)) <= MAX_COUNT
}

fn fail(constraint: &'static str, message: String) -> Result<(), TypeError> {
    Err(TypeError { constraint, message })
}

/// `t` has a float type.
pub(super) fn float(constraint: &'static str, name: &str, t: &Type) -> Result<(), TypeError> {
    if t.dtype.is_float() { Ok(()) } else { fail(constraint, format!("{name} must be a float tensor, found {t}")) }
}

/// `t` is a float image `[N,H,W,C]`; its extents.
pub(super) fn image(constraint: &'static str, name: &str, t: &Type) -> Result<[usize; 4], TypeError> {
    match t.shape[..] {
        [n, h, w, c] if t.dtype.is_float() => Ok([n, h, w, c]),
        _ => Err(TypeError { constraint, message: format!("{name} must be a float image [N,H,W,C], found {t}") }),
    }
}

/// `t` is a float tensor of at least that rank.
pub(super) fn rank_at_least(constraint: &'static str, name: &str, t: &Type, rank: usize) -> Result<(), TypeError> {
    if t.dtype.is_float() && t.rank() >= rank {
        return Ok(());
    }
    fail(constraint, format!("{name} must be a float tensor of rank >= {rank}, found {t}"))
}

/// `t` is of exactly that type.
pub(super) fn is(constraint: &'static str, name: &str, t: &Type, dtype: DType, shape: &[usize]) -> Result<(), TypeError> {
    if t.dtype == dtype && t.shape == shape {
        return Ok(());
    }
    fail(constraint, format!("{name} must be {}, found {t}", Type::new(dtype, shape)))
}

/// As [`is`], for an operand that may have been left out.
pub(super) fn is_or_none(constraint: &'static str, name: &str, t: Option<&&Type>, dtype: DType, shape: &[usize]) -> Result<(), TypeError> {
    t.map_or(Ok(()), |t| is(constraint, name, t, dtype, shape))
}

/// `axis` is an axis of `t`.
pub(super) fn axis(constraint: &'static str, t: &Type, axis: usize) -> Result<(), TypeError> {
    if axis < t.rank() { Ok(()) } else { fail(constraint, format!("axis {axis} is not an axis of {t}")) }
}

/// `axes` are distinct axes of `t`.
pub(super) fn axes(constraint: &'static str, t: &Type, axes: &[usize]) -> Result<(), TypeError> {
    let distinct = axes.iter().enumerate().all(|(i, a)| *a < t.rank() && !axes[..i].contains(a));
    if distinct { Ok(()) } else { fail(constraint, format!("{axes:?} are not distinct axes of {t}")) }
}

/// A variance's or norm's guard against division by zero.
pub(super) fn positive(constraint: &'static str, eps: f64) -> Result<(), TypeError> {
    if eps > 0.0 { Ok(()) } else { fail(constraint, format!("eps must be positive, found {eps:?}")) }
}

/// Product of extents, saturating.
pub(super) fn product(extents: &[usize]) -> usize {
    extents.iter().fold(1, |n: usize, &d| n.saturating_mul(d))
}

/// Row i is made of row i of every operand.
pub(super) fn row_by_row(x: &[&Type]) -> Option<Vec<Share>> {
    Some(vec![Share::Row; x.len()])
}

/// Row i is made of row i of the first operand and the whole of the others: weights.
pub(super) fn row_of_first(x: &[&Type]) -> Option<Vec<Share>> {
    let share = |i: usize| if i == 0 { Share::Row } else { Share::Whole };
    Some((0..x.len()).map(share).collect())
}
