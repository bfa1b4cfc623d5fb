//! Ops that move elements: reshapes, slices, concatenations. A reshape is made in the order that the value has wherever the
//! axes that become one lie together there; otherwise they are brought together first.

use std::sync::Arc;

use fcdm_ir::ops::{Concat, Embedding, Fill, Flip, Reshape, Slice, Split};
use fcdm_ir::{DType, Value};

use super::constant::Constant;
use super::error::{Translated, form, wrong};
use super::import::{Ordered, Padded, Translation, Val, plain, preferred};
use super::node::{Node, axes, axis};
use super::shapes::{SliceOf, broadcast, flattened, reshape_dims, slices, squeezed, unsqueezed};

/// Old axes that together become new axes; those of extent 1 are left out.
struct Group {
    old: Vec<usize>,
    new: Vec<usize>,
}

/// The finest groups of axes with equal products.
fn groups(old: &[usize], new: &[usize]) -> Vec<Group> {
    let solid = |d: &[usize]| (0..d.len()).filter(|&a| d[a] != 1).collect::<Vec<usize>>();
    let (from, to) = (solid(old), solid(new));
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    while i < from.len() || j < to.len() {
        let (first, first_new) = (i, j);
        let (mut p, mut q) = (1usize, 1usize);
        while i == first || j == first_new || p != q {
            if (p <= q && i < from.len()) || j == to.len() {
                p *= old[from[i]];
                i += 1;
            } else {
                q *= new[to[j]];
                j += 1;
            }
        }
        out.push(Group { old: from[first..i].to_vec(), new: to[first_new..j].to_vec() });
    }
    out
}

/// The groups in the order in which their axes lie, if each one's lie together and in order.
fn in_place<'a>(groups: &'a [Group], solid: &[usize]) -> Option<Vec<&'a Group>> {
    let mut sequence = Vec::new();
    let mut rest = solid;
    while let Some(first) = rest.first() {
        let group = groups.iter().find(|g| g.old[0] == *first)?;
        rest = rest.strip_prefix(&group.old[..])?;
        sequence.push(group);
    }
    Some(sequence)
}

/// An order of all axes of `dims` in which those of more than one element are as given.
fn completed(solid: &[usize], dims: &[usize]) -> Vec<usize> {
    let fits = |o: &Vec<usize>| o.iter().copied().filter(|&a| dims[a] != 1).eq(solid.iter().copied());
    let usual = [preferred(dims.len()), plain(dims.len())].into_iter().find(fits);
    usual.unwrap_or_else(|| with_units(solid, dims))
}

/// The order with the axes of extent 1 added, each behind the axis before it, so that a single sample stays in front.
fn with_units(solid: &[usize], dims: &[usize]) -> Vec<usize> {
    let mut order = solid.to_vec();
    for unit in (0..dims.len()).filter(|&a| dims[a] == 1) {
        let place = order.iter().position(|&a| a + 1 == unit).map_or(0, |p| p + 1);
        order.insert(place, unit);
    }
    order
}

impl Translation {
    /// The value under other extents of ONNX.
    pub fn reshaped(&mut self, t: &Ordered, dims: &[usize]) -> Translated<Ordered> {
        let old = self.dims(t);
        let groups = groups(&old, dims);
        let solid: Vec<usize> = t.order.iter().copied().filter(|&a| old[a] != 1).collect();
        let (v, sequence) = match in_place(&groups, &solid) {
            Some(sequence) => (t.v, sequence),
            None => {
                let sequence = gathered(&groups, dims);
                let solid: Vec<usize> = sequence.iter().flat_map(|g| g.old.clone()).collect();
                let order = with_units(&solid, &old);
                (self.arranged(t, &order)?, sequence)
            }
        };
        let solid: Vec<usize> = sequence.iter().flat_map(|g| g.new.clone()).collect();
        let order = completed(&solid, dims);
        let shape: Vec<usize> = order.iter().map(|&a| dims[a]).collect();
        let v = if self.b.ty(v).shape == shape { v } else { self.one(Reshape { shape }, &[v])? };
        Ok(Ordered { v, order })
    }

    pub fn reshape(&mut self, node: &Node<'_>) -> Translated<()> {
        let t = self.tensor(node, 0)?;
        let old = self.dims(&t);
        let known = |i: usize| self.known(node, i);
        let listed = |i: usize| node.ints("axes").map(<[i64]>::to_vec).or_else(|| known(i)?.as_ints().map(<[i64]>::to_vec));
        let dims = match node.op() {
            "Flatten" => flattened(node, &old)?,
            "Squeeze" if node.operands() > 1 && listed(1).is_none() => return form("with axes that are computed"),
            "Squeeze" => squeezed(&old, listed(1).as_deref())?,
            "Unsqueeze" => match listed(1) {
                Some(list) => unsqueezed(&old, &list)?,
                None => return form("with axes that are computed"),
            },
            _ => match known(1).and_then(|c| c.as_ints().map(<[i64]>::to_vec)) {
                Some(shape) => reshape_dims(&old, &shape, node.int_or("allowzero", 0) != 0)?,
                None => return form("to extents that are computed"),
            },
        };
        let y = self.reshaped(&t, &dims)?;
        self.define(node, y)
    }

    /// No instruction: another order.
    pub fn transpose(&mut self, node: &Node<'_>) -> Translated<()> {
        let t = self.tensor(node, 0)?;
        let rank = t.order.len();
        let perm: Vec<i64> = node.ints("perm").map_or_else(|| (0..rank as i64).rev().collect(), <[i64]>::to_vec);
        if axes(&perm, rank)?.len() != rank {
            return wrong(format!("expected {rank} numbers in `perm`, found {perm:?}"));
        }
        // Axis j of the result is axis perm[j] of the operand.
        let becomes = |a: &usize| perm.iter().position(|&p| p == *a as i64);
        match t.order.iter().map(becomes).collect() {
            Some(order) => self.define(node, Ordered { v: t.v, order }),
            None => form("with axes counted from the back"),
        }
    }

    pub fn expand(&mut self, node: &Node<'_>) -> Translated<()> {
        let t = self.tensor(node, 0)?;
        let Some(shape) = self.known(node, 1) else { return form("to extents that are computed") };
        let shape: Option<Vec<usize>> = shape.as_ints().unwrap_or(&[]).iter().map(|&d| usize::try_from(d).ok()).collect();
        let Some(shape) = shape else { return wrong("expected extents, found a negative number") };
        let dims = broadcast(&self.dims(&t), &shape)?;
        let t = self.lead(&t, dims.len())?;
        let v = self.spread(&Val::Computed(t.clone()), &dims, &t.order.clone())?;
        self.define(node, Ordered { v, order: t.order })
    }

    pub fn concat(&mut self, node: &Node<'_>) -> Translated<()> {
        let parts = (0..node.operands()).map(|i| self.operand(node, i)).collect::<Translated<Vec<Val>>>()?;
        let computed = parts.iter().find_map(|p| if let Val::Computed(t) = p { Some(t.clone()) } else { None });
        let Some(first) = computed else { return wrong("no operand is computed") };
        let at = axis(node.required_int("axis")?, first.order.len())?;
        if let Some(y) = self.timestep_embedding(&parts, at)? {
            return self.define(node, y);
        }
        let place = first.order.iter().position(|&a| a == at).expect("an axis of the value");
        let mut joined: Option<Value> = None;
        for part in &parts {
            let dims = self.dims_of(part);
            if dims.len() != first.order.len() {
                return wrong("operands differ in rank");
            }
            let v = self.spread(part, &dims, &first.order)?;
            joined = Some(match joined {
                None => v,
                Some(before) => self.one(Concat { axis: place }, &[before, v])?,
            });
        }
        let Some(v) = joined else { return wrong("no operands") };
        self.define(node, Ordered { v, order: first.order })
    }

    /// `len` elements of an axis from `start`.
    pub fn part(&mut self, t: &Ordered, at: usize, start: usize, len: usize) -> Translated<Ordered> {
        let place = t.order.iter().position(|&a| a == at).expect("an axis of the value");
        Ok(Ordered { v: self.one(Slice { axis: place, start, len }, &[t.v])?, order: t.order.clone() })
    }

    pub fn slice(&mut self, node: &Node<'_>) -> Translated<()> {
        let mut t = self.tensor(node, 0)?;
        let constants: Vec<Option<Arc<Constant>>> = (0..node.operands()).map(|i| self.known(node, i)).collect();
        let operand = |i: usize| constants.get(i).and_then(|c| c.as_ref()).and_then(|c| c.as_ints());
        for SliceOf { axis: at, start, len, step } in slices(node, self.opset, &self.dims(&t), &operand)? {
            t = match step {
                1 => self.part(&t, at, start, len)?,
                -1 => {
                    let part = self.part(&t, at, start + 1 - len, len)?;
                    let place = t.order.iter().position(|&a| a == at).expect("an axis of the value");
                    Ordered { v: self.one(Flip { axes: vec![place] }, &[part.v])?, order: part.order }
                }
                2.. => self.every(&t, at, start, len, step as usize)?,
                _ => return form("with steps below -1"),
            };
        }
        self.define(node, t)
    }

    /// Every `step`-th element: the first of each tile. The last tile may have to be filled up.
    fn every(&mut self, t: &Ordered, at: usize, start: usize, len: usize, step: usize) -> Translated<Ordered> {
        let extent = self.dims(t)[at];
        let place = t.order.iter().position(|&a| a == at).expect("an axis of the value");
        let there = (extent - start).min(len * step);
        let mut v = self.part(t, at, start, there)?.v;
        if there < len * step {
            let mut shape = self.b.ty(v).shape.clone();
            shape[place] = len * step - there;
            let zeros = self.one(Fill { value: 0.0, dtype: DType::F32, shape }, &[])?;
            v = self.one(Concat { axis: place }, &[v, zeros])?;
        }
        let mut tiles = self.b.ty(v).shape.clone();
        tiles.splice(place..=place, [len, step]);
        let v = self.one(Reshape { shape: tiles.clone() }, &[v])?;
        let v = self.one(Slice { axis: place + 1, start: 0, len: 1 }, &[v])?;
        tiles.remove(place + 1);
        Ok(Ordered { v: self.one(Reshape { shape: tiles }, &[v])?, order: t.order.clone() })
    }

    pub fn split(&mut self, node: &Node<'_>) -> Translated<()> {
        let t = self.tensor(node, 0)?;
        let at = axis(node.int_or("axis", 0), t.order.len())?;
        let extent = self.dims(&t)[at];
        let count = node.results().len();
        if node.int("num_outputs").is_some_and(|n| n != count as i64) {
            return wrong(format!("attribute `num_outputs`: expected {count}, as there are, found {}", node.int_or("num_outputs", 0)));
        }
        let given = node.ints("split").map(<[i64]>::to_vec).or_else(|| self.known(node, 1)?.as_ints().map(<[i64]>::to_vec));
        let lens: Vec<usize> = match given {
            Some(list) => match list.iter().map(|&l| usize::try_from(l).ok()).collect() {
                Some(lens) => lens,
                None => return wrong("expected lengths, found a negative number"),
            },
            None if node.operand(1).is_some() => return form("into parts that are computed"),
            None if self.opset < 18 && !extent.is_multiple_of(count.max(1)) => {
                return wrong(format!("extent {extent} does not split into {count} equal parts"));
            }
            None => {
                let each = extent.div_ceil(count.max(1));
                (0..count).map(|i| each.min(extent.saturating_sub(i * each))).collect()
            }
        };
        if lens.len() != count || lens.iter().sum::<usize>() != extent {
            return wrong(format!("parts {lens:?} do not make up extent {extent}"));
        }
        let place = t.order.iter().position(|&a| a == at).expect("an axis of the value");
        let equal = lens.windows(2).all(|w| w[0] == w[1]) && count > 1 && count <= 1024;
        let parts = if equal {
            self.b.try_emit(Split { axis: place, parts: count }, &[t.v])?
        } else {
            let mut start = 0;
            let mut parts = Vec::new();
            for len in lens {
                parts.push(self.part(&t, at, start, len)?.v);
                start += len;
            }
            parts
        };
        for (i, v) in parts.into_iter().enumerate() {
            self.define_nth(node, i, Val::Computed(Ordered { v, order: t.order.clone() }))?;
        }
        Ok(())
    }

    /// Rows of a table by labels; parts of a value by known indices.
    pub fn gather(&mut self, node: &Node<'_>) -> Translated<()> {
        if let Some(indices) = self.known(node, 1) {
            return self.gather_known(node, &indices);
        }
        let (table, labels) = (self.tensor(node, 0)?, self.tensor(node, 1)?);
        let dims = self.dims(&table);
        if dims.len() != 2 || axis(node.int_or("axis", 0), 2)? != 0 {
            return form("by computed indices of anything but a table's rows");
        }
        let (rows, shape) = (self.arranged(&table, &[0, 1])?, self.dims(&labels));
        let count: usize = shape.iter().product();
        let flat = self.reshaped(&labels, &[count])?;
        let v = self.one(Embedding {}, &[rows, flat.v])?;
        let y = self.reshaped(&Ordered { v, order: vec![0, 1] }, &[&shape[..], &[dims[1]]].concat())?;
        self.define(node, y)
    }

    fn gather_known(&mut self, node: &Node<'_>, indices: &Constant) -> Translated<()> {
        let t = self.tensor(node, 0)?;
        let dims = self.dims(&t);
        let at = axis(node.int_or("axis", 0), dims.len())?;
        let Some(list) = indices.as_ints().filter(|l| !l.is_empty() && l.len() <= 256) else { return form("by so many indices") };
        let list = list.iter().map(|&i| axis(i, dims[at])).collect::<Translated<Vec<usize>>>()?;
        let place = t.order.iter().position(|&a| a == at).expect("an axis of the value");
        // Runs of neighbours are slices.
        let runs = list.chunk_by(|a, b| a + 1 == *b).map(|run| (run[0], run.len())).collect::<Vec<_>>();
        let mut v = self.part(&t, at, runs[0].0, runs[0].1)?.v;
        for &(start, len) in &runs[1..] {
            let next = self.part(&t, at, start, len)?.v;
            v = self.one(Concat { axis: place }, &[v, next])?;
        }
        let shape = [&dims[..at], &indices.dims, &dims[at + 1..]].concat();
        let y = self.reshaped(&Ordered { v, order: t.order }, &shape)?;
        self.define(node, y)
    }

    /// Constant padding; zeros around an image are left to the convolution after it.
    pub fn pad(&mut self, node: &Node<'_>) -> Translated<()> {
        if node.text_or("mode", "constant") != "constant" {
            return form("other than with a constant");
        }
        let t = self.tensor(node, 0)?;
        let rank = t.order.len();
        let given = node.ints("pads").map(<[i64]>::to_vec).or_else(|| self.known(node, 1)?.as_ints().map(<[i64]>::to_vec));
        let Some(given) = given else { return form("by amounts that are computed") };
        let listed = match node.operand(3).map(|_| self.known(node, 3)) {
            None => plain(rank),
            Some(Some(list)) => list.as_ints().unwrap_or(&[]).iter().map(|&a| axis(a, rank)).collect::<Translated<Vec<usize>>>()?,
            Some(None) => return form("of axes that are computed"),
        };
        let value = match node.operand(2).map(|_| self.known(node, 2)) {
            None => node.float_or("value", 0.0),
            Some(Some(c)) => c.uniform().unwrap_or(0.0),
            Some(None) => return form("with a value that is computed"),
        };
        if given.len() != 2 * listed.len() || given.iter().any(|p| p.unsigned_abs() > 1 << 20) {
            return wrong(format!("expected {} amounts, found {given:?}", 2 * listed.len()));
        }
        let mut amounts = vec![[0i64; 2]; rank];
        listed.iter().enumerate().for_each(|(i, &a)| amounts[a] = [given[i], given[i + listed.len()]]);
        let y = self.surrounded(&t, &amounts, value)?;
        let spatial = rank == 4 && amounts[..2] == [[0, 0]; 2] && amounts.iter().flatten().all(|&p| p >= 0);
        if value == 0.0 && spatial && y.v != t.v {
            let [[top, bottom], [left, right]] = [amounts[2], amounts[3]];
            let pad = [top, left, bottom, right].map(|p| p as usize);
            self.padded.insert(y.v, Padded { image: t, pad });
        }
        self.define(node, y)
    }

    /// Elements of a constant before and after those of every axis; negative amounts cut off.
    pub fn surrounded(&mut self, t: &Ordered, amounts: &[[i64; 2]], value: f64) -> Translated<Ordered> {
        let mut t = t.clone();
        for (at, &[before, after]) in amounts.iter().enumerate() {
            let place = t.order.iter().position(|&a| a == at).expect("an axis of the value");
            let cut = [before, after].map(|p| (-p).max(0) as usize);
            if cut != [0, 0] {
                let len = self.dims(&t)[at].checked_sub(cut[0] + cut[1]).filter(|&l| l > 0);
                let Some(len) = len else { return wrong("nothing is left of an axis") };
                t = self.part(&t, at, cut[0], len)?;
            }
            for (amount, first) in [(before, true), (after, false)] {
                if amount > 0 {
                    let mut shape = self.b.ty(t.v).shape.clone();
                    shape[place] = amount as usize;
                    let fill = self.one(Fill { value, dtype: DType::F32, shape }, &[])?;
                    let operands = if first { [fill, t.v] } else { [t.v, fill] };
                    t.v = self.one(Concat { axis: place }, &operands)?;
                }
            }
        }
        Ok(t)
    }
}

/// The order in which axes of such extents are wanted. Exporters write images under more than four axes, the others of extent 1.
fn wanted(dims: &[usize]) -> Vec<usize> {
    let solid: Vec<usize> = (1..dims.len()).filter(|&a| dims[a] != 1).collect();
    match (dims.len(), &solid[..]) {
        (5.., &[c, h, w]) => [0, h, w, c].into_iter().chain((1..dims.len()).filter(|&a| dims[a] == 1)).collect(),
        (rank, _) => preferred(rank),
    }
}

/// The groups in the order in which the result is wanted: as in an image where no group holds axes of it that lie apart.
fn gathered<'a>(groups: &'a [Group], dims: &[usize]) -> Vec<&'a Group> {
    let order = wanted(dims);
    let place = |a: usize| order.iter().position(|&o| o == a).unwrap_or(0);
    let together = groups.iter().all(|g| g.new.windows(2).all(|w| place(w[1]) == place(w[0]) + 1));
    let mut sequence: Vec<&Group> = groups.iter().collect();
    if together {
        sequence.sort_by_key(|g| g.new.first().map_or(0, |&a| place(a)));
    }
    sequence
}
