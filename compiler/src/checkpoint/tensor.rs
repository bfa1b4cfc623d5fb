//! Where a tensor lies in the file, and how its values are read from there.
//!
//! [`TensorClaim::place`] admits only what fits: after it, reading a tensor can neither leave its storage nor produce more
//! values than the storage holds.

use std::ops::Range;

use half::{bf16, f16};

/// Largest number of axes; the model's own tensors have at most 4.
pub(super) const RANK: usize = 8;

/// The type in which a tensor's elements are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// IEEE 754 binary64, rounded to nearest when read.
    F64,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16, widened when read.
    F16,
    /// The upper half of a binary32, widened when read.
    BF16,
    /// Anything else, by name: counters, masks and quantised values, which are no weights and cannot be read.
    Other(&'static str),
}

impl ElementType {
    /// Name in messages, as in `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            ElementType::F64 => "f64",
            ElementType::F32 => "f32",
            ElementType::F16 => "f16",
            ElementType::BF16 => "bf16",
            ElementType::Other(name) => name,
        }
    }

    /// Bytes of an element that can be read.
    fn size(self) -> Option<usize> {
        match self {
            ElementType::F64 => Some(8),
            ElementType::F32 => Some(4),
            ElementType::F16 | ElementType::BF16 => Some(2),
            ElementType::Other(_) => None,
        }
    }
}

/// What a tensor is, without its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type in the file.
    pub dtype: ElementType,
    /// Extent of every axis; empty for a scalar.
    pub shape: Vec<usize>,
}

/// A tensor and its place in the file.
#[derive(Clone, Debug)]
pub(super) struct Located {
    pub info: TensorInfo,
    /// Distance of neighbours along each axis, in elements.
    pub strides: Vec<usize>,
    /// Offset of the first element in the file, in bytes.
    pub start: usize,
}

/// What a file claims about a tensor, before anything is believed.
pub(super) struct TensorClaim<'a> {
    pub dtype: ElementType,
    /// Bytes of one element.
    pub size: usize,
    pub shape: &'a [i64],
    pub strides: &'a [i64],
    /// First element, counted in elements from the storage's beginning.
    pub offset: i64,
    /// Where the storage lies in the file.
    pub storage: Range<usize>,
}

impl TensorClaim<'_> {
    /// Checks every claim; the error is what was expected and what was found.
    pub fn place(&self) -> Result<Located, (String, String)> {
        if self.shape.len() > RANK || self.strides.len() != self.shape.len() {
            let found = format!("{} axes and {} strides", self.shape.len(), self.strides.len());
            return Err((format!("at most {RANK} axes, each with a stride"), found));
        }
        let sizes = |values: &[i64]| values.iter().map(|&v| usize::try_from(v).ok()).collect::<Option<Vec<usize>>>();
        let (Some(shape), Some(strides), Ok(offset)) = (sizes(self.shape), sizes(self.strides), usize::try_from(self.offset)) else {
            let found = format!("shape {:?}, strides {:?}, offset {}", self.shape, self.strides, self.offset);
            return Err(("no negative shape, stride or offset".into(), found));
        };
        let room = self.storage.len() / self.size;
        let claim = || format!("shape {shape:?} with strides {strides:?} from element {offset} on");
        let beyond = || (format!("a view of the {room} elements of its storage"), claim());
        // A view of stride 0 repeats elements: a few bytes would expand without bound. No weight is stored so.
        let count = shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
        // A zero extent after an overflowing product is still an empty tensor.
        let empty = shape.contains(&0);
        if !empty {
            count.filter(|&n| n <= room).ok_or_else(beyond)?;
            let steps = shape.iter().zip(&strides).map(|(&extent, &stride)| (extent - 1).checked_mul(stride));
            let last = steps.into_iter().try_fold(offset, |at, step| at.checked_add(step?));
            last.filter(|&last| last < room).ok_or_else(beyond)?;
        }
        let start = if empty { self.storage.start } else { self.storage.start + offset * self.size };
        Ok(Located { info: TensorInfo { dtype: self.dtype, shape }, strides, start })
    }
}

/// Row-major strides; an empty tensor's do not matter.
pub(super) fn row_major(shape: &[i64]) -> Option<Vec<i64>> {
    let mut strides = vec![1i64; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].checked_mul(shape[axis].max(1))?;
    }
    Some(strides)
}

impl Located {
    /// A part of the tensor: these indices of its first axis; `None` when it does not have them.
    pub fn rows(&self, rows: Range<usize>) -> Option<Located> {
        let (&extent, &stride) = (self.info.shape.first()?, self.strides.first()?);
        (rows.start <= rows.end && rows.end <= extent).then_some(())?;
        let mut part = self.clone();
        part.info.shape[0] = rows.len();
        // Of an empty part nothing is read: its strides and start may be anything.
        if !part.info.shape.contains(&0) {
            part.start += rows.start * stride * self.info.dtype.size()?;
        }
        Some(part)
    }

    /// The values in row-major order as f32; `None` when the elements are no floats.
    pub fn read(&self, bytes: &[u8]) -> Option<Vec<f32>> {
        Some(match self.info.dtype {
            ElementType::F32 => self.gather(bytes, f32::from_le_bytes),
            ElementType::F16 => self.gather(bytes, |b| f16::from_le_bytes(b).to_f32()),
            ElementType::BF16 => self.gather(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            ElementType::F64 => self.gather(bytes, |b| f64::from_le_bytes(b) as f32),
            ElementType::Other(_) => return None,
        })
    }

    /// The values in row-major order; `None` when the elements are not 32- or 64-bit signed integers.
    pub fn read_integers(&self, bytes: &[u8]) -> Option<Vec<i64>> {
        match self.info.dtype {
            ElementType::Other("i64") => Some(self.gather(bytes, i64::from_le_bytes)),
            ElementType::Other("i32") => Some(self.gather(bytes, |b| i32::from_le_bytes(b).into())),
            _ => None,
        }
    }

    fn gather<const N: usize, T>(&self, bytes: &[u8], widen: impl Fn([u8; N]) -> T) -> Vec<T> {
        let shape = &self.info.shape;
        if shape.contains(&0) {
            return Vec::new();
        }
        let count: usize = shape.iter().product();
        let mut values = Vec::with_capacity(count);
        // Trailing axes that follow each other without gaps are read as one run.
        let (mut run, mut outer) = (1, shape.len());
        while outer > 0 && (shape[outer - 1] == 1 || self.strides[outer - 1] == run) {
            outer -= 1;
            run *= shape[outer];
        }
        let mut place = [0usize; RANK];
        loop {
            let element: usize = place[..outer].iter().zip(&self.strides).map(|(&i, &stride)| i * stride).sum();
            let start = self.start + element * N;
            let (elements, _) = bytes[start..start + run * N].as_chunks::<N>();
            values.extend(elements.iter().map(|&b| widen(b)));
            // Count up, the last axis fastest.
            let Some(axis) = (0..outer).rev().find(|&axis| place[axis] + 1 < shape[axis]) else { return values };
            place[axis] += 1;
            place[axis + 1..outer].fill(0);
        }
    }
}

/// How many values are infinite or not a number.
pub fn count_nonfinite(values: &[f32]) -> usize {
    values.iter().filter(|v| !v.is_finite()).count()
}
