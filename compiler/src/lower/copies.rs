//! Ops that only move elements, as strided copies.

use fcdm_ir::{Inst, Value};
use fcdm_runtime::kernels::{Copy, MAX_AXES};

use super::{LowerError, Lowering, View};

/// Row-major strides.
fn strides(shape: &[usize]) -> Vec<isize> {
    let mut s = vec![1isize; shape.len()];
    for i in (1..shape.len()).rev() {
        s[i - 1] = s[i] * shape[i] as isize;
    }
    s
}

/// A copy under construction: extents with a stride on either side.
#[derive(Clone)]
struct Walk {
    axes: Vec<(usize, isize, isize)>,
    from: usize,
    to: usize,
}

impl Walk {
    fn new(extents: &[usize], x: Vec<isize>, y: Vec<isize>) -> Walk {
        let axes = extents.iter().zip(x).zip(y).map(|((&e, x), y)| (e, x, y)).collect();
        Walk { axes, from: 0, to: 0 }
    }

    /// Drops axes of extent 1 and merges neighbours that both sides step through as one.
    fn kernel(mut self) -> Result<Copy, usize> {
        self.axes.retain(|a| a.0 != 1);
        let mut merged: Vec<(usize, isize, isize)> = Vec::new();
        for (e, x, y) in self.axes {
            match merged.last_mut() {
                Some(outer) if outer.1 == x * e as isize && outer.2 == y * e as isize => *outer = (outer.0 * e, x, y),
                _ => merged.push((e, x, y)),
            }
        }
        if merged.is_empty() {
            merged.push((1, 1, 1));
        }
        if merged.len() > MAX_AXES {
            return Err(merged.len());
        }
        Ok(Copy {
            extents: merged.iter().map(|a| a.0).collect(),
            from: self.from,
            x_strides: merged.iter().map(|a| a.1).collect(),
            to: self.to,
            y_strides: merged.iter().map(|a| a.2).collect(),
        })
    }
}

impl Lowering<'_> {
    fn copy(&mut self, v: Value, walk: Walk, x: View, y: View) {
        let kernel = walk.kernel().expect("at most six axes by construction");
        self.step(v, kernel, vec![x], vec![y]);
    }

    fn try_copy(&mut self, inst: &Inst, walk: Walk, x: View, y: View) -> Result<(), LowerError> {
        let v = inst.results[0];
        let failed = |rank| LowerError::Axes { value: self.f.value(v).name.clone(), op: inst.op.name(), rank };
        let kernel = walk.kernel().map_err(failed)?;
        self.step(v, kernel, vec![x], vec![y]);
        Ok(())
    }

    /// Everything, in order.
    pub(super) fn copy_all(&mut self, v: Value, x: View, y: View) {
        let count = x.shape.iter().product();
        self.copy(v, Walk::new(&[count], vec![1], vec![1]), x, y);
    }

    /// Rows `(c, dy, dx)` of a computed matrix in the order `(dy, dx, c)`.
    pub(super) fn shuffle_rows(&mut self, v: Value, factor: usize) -> View {
        let x = self.view(v);
        let (o, square) = (x.shape[0], factor * factor);
        let (channels, row) = (o / square, x.shape[1..].iter().product::<usize>());
        let y = self.scratch(x.shape.clone());
        let (row_, square_) = (row as isize, square as isize);
        let walk = Walk::new(&[square, channels, row], vec![row_, square_ * row_, 1], vec![channels as isize * row_, row_, 1]);
        self.copy(v, walk, x, y.clone());
        y
    }

    pub(super) fn transpose(&mut self, inst: &Inst, perm: &[usize]) -> Result<(), LowerError> {
        let (x, y) = (self.view(inst.operands[0]), self.define(inst.results[0]));
        let from = strides(&x.shape);
        let walk = Walk::new(&y.shape, perm.iter().map(|&p| from[p]).collect(), strides(&y.shape));
        self.try_copy(inst, walk, x, y)
    }

    pub(super) fn broadcast(&mut self, inst: &Inst) -> Result<(), LowerError> {
        let (x, y) = (self.view(inst.operands[0]), self.define(inst.results[0]));
        let mut from = strides(&x.shape);
        from.iter_mut().zip(&x.shape).filter(|(_, e)| **e == 1).for_each(|(s, _)| *s = 0);
        let walk = Walk::new(&y.shape, from, strides(&y.shape));
        self.try_copy(inst, walk, x, y)
    }

    pub(super) fn flip(&mut self, inst: &Inst, axes: &[usize]) -> Result<(), LowerError> {
        let (x, y) = (self.view(inst.operands[0]), self.define(inst.results[0]));
        let mut walk = Walk::new(&x.shape, strides(&x.shape), strides(&y.shape));
        for &a in axes {
            walk.from += walk.axes[a].1 as usize * (x.shape[a] - 1);
            walk.axes[a].1 *= -1;
        }
        self.try_copy(inst, walk, x, y)
    }

    /// The block of `len` elements along `axis` that starts at `from` in x and at `to` in y.
    fn block(&mut self, v: Value, axis: usize, len: usize, (x, from): (View, usize), (y, to): (View, usize)) {
        let outer: usize = x.shape[..axis].iter().product();
        let inner: usize = x.shape[axis + 1..].iter().product();
        let row = |s: &View| (s.shape[axis] * inner) as isize;
        let mut walk = Walk::new(&[outer, len * inner], vec![row(&x), 1], vec![row(&y), 1]);
        (walk.from, walk.to) = (from * inner, to * inner);
        self.copy(v, walk, x, y);
    }

    pub(super) fn slice(&mut self, inst: &Inst, axis: usize, start: usize) {
        let (x, y) = (self.view(inst.operands[0]), self.define(inst.results[0]));
        let len = y.shape[axis];
        self.block(inst.results[0], axis, len, (x, start), (y, 0));
    }

    pub(super) fn split(&mut self, inst: &Inst, axis: usize) {
        for (i, &r) in inst.results.iter().enumerate() {
            let (x, y) = (self.view(inst.operands[0]), self.define(r));
            let len = y.shape[axis];
            self.block(r, axis, len, (x, i * len), (y, 0));
        }
    }

    pub(super) fn concat(&mut self, inst: &Inst, axis: usize) {
        let y = self.define(inst.results[0]);
        let mut at = 0;
        for &v in &inst.operands {
            let x = self.view(v);
            let len = x.shape[axis];
            self.block(inst.results[0], axis, len, (x, 0), (y.clone(), at));
            at += len;
        }
    }

    /// Every pixel `factor` times in both directions.
    pub(super) fn upsample(&mut self, inst: &Inst, factor: usize) {
        let (x, y) = (self.view(inst.operands[0]), self.define(inst.results[0]));
        let &[n, h, w, c] = &x.shape[..] else { unreachable!("rank 4 by upsample_nearest.1") };
        let (c_, wc, f) = (c as isize, (w * c) as isize, factor as isize);
        let extents = [n * h, factor, w, factor, c];
        let walk = Walk::new(&extents, vec![wc, 0, c_, 0, 1], vec![f * wc * f, wc * f, f * c_, c_, 1]);
        self.copy(inst.results[0], walk, x, y);
    }

    pub(super) fn pixel_shuffle(&mut self, inst: &Inst, factor: usize) {
        let (x, y) = (self.view(inst.operands[0]), self.define(inst.results[0]));
        let (extents, deep, wide) = shuffle(&x.shape, factor);
        self.copy(inst.results[0], Walk::new(&extents, deep, wide), x, y);
    }

    pub(super) fn pixel_unshuffle(&mut self, inst: &Inst, factor: usize) {
        let (x, y) = (self.view(inst.operands[0]), self.define(inst.results[0]));
        let (extents, deep, wide) = shuffle(&y.shape, factor);
        self.copy(inst.results[0], Walk::new(&extents, wide, deep), x, y);
    }
}

/// The index space (row, dy, column, dx, channel) of a shuffle, its strides in the deep image `[N,H,W,C*f*f]` and in
/// the wide one `[N,f*H,f*W,C]`.
fn shuffle(deep: &[usize], factor: usize) -> ([usize; 5], Vec<isize>, Vec<isize>) {
    let &[n, h, w, cff] = deep else { unreachable!("rank 4 by the shuffles' constraints") };
    let (f, c) = (factor as isize, (cff / (factor * factor)) as isize);
    let (w_, cff_) = (w as isize, cff as isize);
    let extents = [n * h, factor, w, factor, c as usize];
    (extents, vec![w_ * cff_, f, cff_, 1, f * f], vec![f * w_ * f * c, w_ * f * c, f * c, c, 1])
}
