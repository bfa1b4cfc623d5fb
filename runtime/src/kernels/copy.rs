//! Moves elements between index spaces: transposes, concatenates, splits, slices, flips, broadcasts, shuffles
//! pixels, upsamples. One `i` of the index space `extents` goes from `x[from + i . x_strides]` to
//! `y[to + i . y_strides]`. No two i have the same place in y (checked), so any parting among threads is right.

use super::{Args, Needs, Task, Worker};
use crate::plan::{Kernel, Step};

/// Most axes of the index space.
pub(crate) const MAX_AXES: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Axis {
    extent: usize,
    x: isize,
    y: isize,
}

struct Copy {
    /// Outer axes, then the inner one; extents multiply to less than `isize::MAX`.
    axes: Vec<Axis>,
    from: usize,
    to: usize,
}

pub(super) fn task(step: &Step) -> Box<dyn Task> {
    let Kernel::Copy { extents, from, x_strides, to, y_strides } = &step.kernel else {
        unreachable!("`kernels::task` sends no other kernel here")
    };
    let axes = extents.iter().zip(x_strides).zip(y_strides).map(|((&extent, &x), &y)| Axis { extent, x, y });
    Box::new(Copy { axes: merge(axes), from: *from, to: *to })
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

impl Task for Copy {
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
            unsafe { move_run(args.inputs[0].cast::<f32>().offset(x), inner.x, args.output(0).offset(y), inner.y, count) };
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

    fn kernel(extents: &[usize], from: usize, x: &[isize], to: usize, y: &[isize]) -> Kernel {
        Kernel::Copy { extents: extents.to_vec(), from, x_strides: x.to_vec(), to, y_strides: y.to_vec() }
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
