//! Moves elements between index spaces: transposes, concatenates, splits, slices, flips, broadcasts, shuffles
//! pixels, upsamples. One `i` of the index space `extents` goes from `x[from + i . x_strides]` to
//! `y[to + i . y_strides]`. No two i have the same place in y (checked), so any parting among threads is right.

use serde::{Deserialize, Serialize};

use super::{Args, KernelDef, Needs, Signature, Strided, Task, Worker};
use crate::check::Fault;
use crate::check::rule::{ensure, sane};
use crate::cost::{Cost, size};
use crate::plan::Operand;
use crate::simd::Isa;

/// Most axes of the index space.
pub const MAX_AXES: usize = 6;

/// `x -> y`: element `i` of the index space `extents` goes from `x[from + i . x_strides]` to `y[to + i . y_strides]`. It may leave parts
/// of y untouched (another step writes them).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// The index space, at most [`MAX_AXES`] axes.
    pub extents: Vec<usize>,
    /// Element of x at index 0.
    pub from: usize,
    /// Step in x per axis.
    pub x_strides: Vec<isize>,
    /// Element of y at index 0.
    pub to: usize,
    /// Step in y per axis.
    pub y_strides: Vec<isize>,
}

impl KernelDef for Copy {
    fn signature(&self) -> Signature {
        let part = Strided { first: self.to, extents: self.extents.clone(), strides: self.y_strides.clone() };
        Signature::of(&["x"], &["y"]).partly(part)
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        let Copy { extents, from, x_strides, to, y_strides } = self;
        let axes = extents.len();
        ensure("copy.1", axes <= MAX_AXES && axes == x_strides.len() && axes == y_strides.len(), "strides for at most 6 axes", extents)?;
        ensure("copy.2", sane(extents).is_some(), "extents of at least 1 and a sane size", extents)?;
        inside("copy.3", "x", extents, *from, x_strides, x[0].count())?;
        inside("copy.4", "y", extents, *to, y_strides, y[0].count())?;
        ensure("copy.5", injective(extents, y_strides), "strides under which no element of y is written twice", y_strides)
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        let moved = self.extents.iter().fold(1, |n: u64, &e| n.saturating_mul(e as u64));
        let width = |o: &Operand| size(o) / o.count().max(1) as u64;
        Cost { macs: 0, bytes: moved.saturating_mul(width(&x[0]) + width(&y[0])) }
    }

    fn task(&self, _: &[Operand], _: &[Operand], _: Isa) -> Box<dyn Task> {
        let axes = self.extents.iter().zip(&self.x_strides).zip(&self.y_strides).map(|((&extent, &x), &y)| Axis { extent, x, y });
        Box::new(Walk { axes: merge(axes), from: self.from, to: self.to })
    }
}

/// All elements `first + i . strides` lie in `0 .. count`.
fn inside(rule: &'static str, what: &str, extents: &[usize], first: usize, strides: &[isize], count: usize) -> Result<(), Fault> {
    let (mut low, mut high) = (first as i128, first as i128);
    for (&extent, &stride) in extents.iter().zip(strides) {
        let reach = (extent as i128 - 1) * stride as i128;
        if reach < 0 { low += reach } else { high += reach }
    }
    ensure(rule, low >= 0 && high < count as i128, format!("indices of {what} in 0 .. {count}"), (low, high))
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

#[derive(Clone, std::marker::Copy, Debug, PartialEq, Eq)]
struct Axis {
    extent: usize,
    x: isize,
    y: isize,
}

struct Walk {
    /// Outer axes, then the inner one; extents multiply to less than `isize::MAX`.
    axes: Vec<Axis>,
    from: usize,
    to: usize,
}

/// Drops axes of extent 1 and joins neighbours that one stride describes; at least one axis is left.
fn merge(axes: impl Iterator<Item = Axis>) -> Vec<Axis> {
    let mut merged: Vec<Axis> = Vec::new();
    for axis in axes.filter(|a| a.extent != 1) {
        let inner = (axis.extent as isize).wrapping_mul(axis.x);
        let inner_y = (axis.extent as isize).wrapping_mul(axis.y);
        match merged.last_mut() {
            Some(outer) if outer.x == inner && outer.y == inner_y => {
                *outer = Axis { extent: outer.extent * axis.extent, ..axis };
            }
            _ => merged.push(axis),
        }
    }
    if merged.is_empty() {
        merged.push(Axis { extent: 1, x: 1, y: 1 });
    }
    merged
}

/// Elements of a contiguous run that one unit of work moves: 16 KB.
const RUN: usize = 4096;

impl Task for Walk {
    fn needs(&self, _threads: usize) -> Needs {
        Needs::PLAIN
    }

    unsafe fn run(&self, _phase: usize, args: &Args, worker: &mut Worker<'_>) {
        let (inner, outer) = self.axes.split_last().expect("`merge` leaves an axis");
        let rows: usize = outer.iter().map(|a| a.extent).product();
        let pieces = inner.extent.div_ceil(RUN);
        for unit in worker.units(rows * pieces) {
            let (mut row, piece) = (unit / pieces, unit % pieces);
            let (mut x, mut y) = (self.from as isize, self.to as isize);
            for axis in outer.iter().rev() {
                let i = (row % axis.extent) as isize;
                row /= axis.extent;
                x += i * axis.x;
                y += i * axis.y;
            }
            let start = piece * RUN;
            let count = RUN.min(inner.extent - start);
            x += start as isize * inner.x;
            y += start as isize * inner.y;
            // SAFETY: the index is in the space, and all of the space lies inside x and y (checked at load); no
            // other unit has these elements of y, and x and y do not overlap.
            unsafe { move_run(args.address(0).cast::<f32>().offset(x), inner.x, args.output(0).offset(y), inner.y, count) };
        }
    }
}

/// # Safety
/// - `count` elements with these strides are inside the tensors at `x` and `y`, which do not overlap.
unsafe fn move_run(x: *const f32, x_stride: isize, y: *mut f32, y_stride: isize, count: usize) {
    if x_stride == 1 && y_stride == 1 {
        // SAFETY: the caller's contract.
        unsafe { std::ptr::copy_nonoverlapping(x, y, count) };
        return;
    }
    for i in 0..count as isize {
        // SAFETY: the caller's contract.
        unsafe { *y.offset(i * y_stride) = *x.offset(i * x_stride) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{run_all, step, values};
    use super::*;

    fn kernel(extents: &[usize], from: usize, x: &[isize], to: usize, y: &[isize]) -> Copy {
        Copy { extents: extents.to_vec(), from, x_strides: x.to_vec(), to, y_strides: y.to_vec() }
    }

    #[test]
    fn transposes() {
        let (h, w, c) = (5, 7, 3);
        let x = values(h * w * c, 1);
        let k = kernel(&[w, h, c], 0, &[3, 21, 1], 0, &[15, 3, 1]);
        run_all(&step(k, &[&[h, w, c]], &[&[w, h, c]]), &[&x], |y, _| {
            for (i, &y) in y[0].iter().enumerate() {
                let (a, b, d) = (i / (h * c), i / c % h, i % c);
                assert_eq!(y, x[(b * w + a) * c + d]);
            }
        });
    }

    #[test]
    fn flips_and_broadcasts() {
        let x = [1.0, 2.0, 3.0];
        let k = kernel(&[2, 3], 2, &[0, -1], 0, &[3, 1]);
        run_all(&step(k, &[&[3]], &[&[2, 3]]), &[&x], |y, _| assert_eq!(y[0], [3.0, 2.0, 1.0, 3.0, 2.0, 1.0]));
    }

    #[test]
    fn leaves_the_rest_alone() {
        let x = values(6, 3);
        let k = kernel(&[2, 3], 0, &[3, 1], 2, &[5, 1]);
        assert_eq!(k.signature().outputs[0].writes(40), Some(vec![8..20, 28..40]));
        run_all(&step(k, &[&[2, 3]], &[&[2, 5]]), &[&x], |y, _| {
            assert!([0, 1, 5, 6].iter().all(|&i: &usize| y[0][i].is_nan()));
            assert_eq!((&y[0][2..5], &y[0][7..]), (&x[..3], &x[3..]));
        });
    }

    #[test]
    fn long_runs_are_one_axis() {
        let axes = merge([Axis { extent: 4, x: 12, y: 12 }, Axis { extent: 1, x: 9, y: 9 }, Axis { extent: 12, x: 1, y: 1 }].into_iter());
        assert_eq!(axes, [Axis { extent: 48, x: 1, y: 1 }]);
        let x = values(3 * RUN + 5, 4);
        let k = kernel(&[x.len()], 0, &[1], 0, &[1]);
        run_all(&step(k, &[&[x.len()]], &[&[x.len()]]), &[&x], |y, _| assert_eq!(y[0], x));
    }
}
