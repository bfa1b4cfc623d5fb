//! Tensors whose values are known: initialisers, constants, and what is computed of them. Floats of any width are f32 here;
//! integers and booleans i64.

use std::path::{Component, Path};

use half::f16;
use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::DataType;

use super::error::OnnxError;

/// The most elements that a constant may have: 4 GB of f32.
pub(super) const MAX_COUNT: usize = 1 << 30;

/// Elements, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Data {
    Float(Vec<f32>),
    Int(Vec<i64>),
}

/// A tensor with its values.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Constant {
    /// The initialiser's name, or one made of the node's.
    pub name: String,
    /// True for initialisers and what merely moves their elements: trained, and not part of the formula.
    pub trained: bool,
    /// True for what follows from the extents of an input: another number, or another shape, at another size.
    pub of_size: bool,
    /// Extents, in ONNX's order.
    pub dims: Vec<usize>,
    pub data: Data,
}

impl Constant {
    /// Values with extents whose product is their number.
    pub fn floats(name: &str, dims: Vec<usize>, values: Vec<f32>) -> Constant {
        debug_assert_eq!(dims.iter().product::<usize>(), values.len());
        Constant { name: name.to_owned(), trained: false, of_size: false, dims, data: Data::Float(values) }
    }

    /// As [`Constant::floats`].
    pub fn ints(name: &str, dims: Vec<usize>, values: Vec<i64>) -> Constant {
        debug_assert_eq!(dims.iter().product::<usize>(), values.len());
        Constant { name: name.to_owned(), trained: false, of_size: false, dims, data: Data::Int(values) }
    }

    pub fn count(&self) -> usize {
        match &self.data {
            Data::Float(v) => v.len(),
            Data::Int(v) => v.len(),
        }
    }

    /// The values as floats.
    pub fn as_floats(&self) -> Vec<f32> {
        match &self.data {
            Data::Float(v) => v.clone(),
            Data::Int(v) => v.iter().map(|&i| i as f32).collect(),
        }
    }

    /// The values, if they are integers.
    pub fn as_ints(&self) -> Option<&[i64]> {
        match &self.data {
            Data::Int(v) => Some(v),
            Data::Float(_) => None,
        }
    }

    /// The one number that all elements are. An f32 is widened by way of its shortest decimal: 1e-6 stays 1e-6.
    pub fn uniform(&self) -> Option<f64> {
        match &self.data {
            Data::Float(v) => v.first().filter(|&first| v.iter().all(|x| x == first)).map(|&x| widened(x)),
            Data::Int(v) => v.first().filter(|&first| v.iter().all(|x| x == first)).map(|&x| x as f64),
        }
    }

    /// Elements in the order of other axes: axis i of the result is axis `perm[i]`.
    pub fn permuted(&self, perm: &[usize]) -> Constant {
        let dims = perm.iter().map(|&a| self.dims[a]).collect();
        let data = match &self.data {
            Data::Float(v) => Data::Float(permuted(v, &self.dims, perm)),
            Data::Int(v) => Data::Int(permuted(v, &self.dims, perm)),
        };
        Constant { name: self.name.clone(), trained: self.trained, of_size: self.of_size, dims, data }
    }
}

/// The f64 of an f32's shortest decimal.
pub(super) fn widened(x: f32) -> f64 {
    format!("{x:?}").parse().unwrap_or(f64::from(x))
}

/// Row-major strides.
pub(super) fn strides(dims: &[usize]) -> Vec<usize> {
    let mut s = vec![1; dims.len()];
    for i in (1..dims.len()).rev() {
        s[i - 1] = s[i] * dims[i];
    }
    s
}

/// The elements at `offset + sum of index * steps` for every index below `dims`, in order.
pub(super) fn gathered<T: Copy>(x: &[T], dims: &[usize], steps: &[isize], offset: usize) -> Vec<T> {
    let count = dims.iter().product();
    let (mut out, mut index, mut at) = (Vec::with_capacity(count), vec![0; dims.len()], offset as isize);
    for _ in 0..count {
        out.push(x[at as usize]);
        for a in (0..dims.len()).rev() {
            index[a] += 1;
            at += steps[a];
            if index[a] < dims[a] {
                break;
            }
            at -= steps[a] * dims[a] as isize;
            index[a] = 0;
        }
    }
    out
}

/// Elements in the order of other axes.
pub(super) fn permuted<T: Copy>(x: &[T], dims: &[usize], perm: &[usize]) -> Vec<T> {
    let from = strides(dims);
    let to: Vec<usize> = perm.iter().map(|&a| dims[a]).collect();
    let steps: Vec<isize> = perm.iter().map(|&a| from[a] as isize).collect();
    gathered(x, &to, &steps, 0)
}

/// Product of extents, if it is not beyond all bounds.
pub(super) fn counted(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= MAX_COUNT)
}

/// Reads a tensor of the model. `folder` is where files of external data are looked for.
pub(super) fn read(file: &str, folder: &Path, name: &str, mut t: TensorProto) -> Result<Constant, OnnxError> {
    let bad = |reason: String| OnnxError::Tensor { file: file.to_owned(), tensor: name.to_owned(), reason };
    let dims: Option<Vec<usize>> = t.dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    let counts = dims.and_then(|dims| Some((counted(&dims)?, dims)));
    let Some((count, dims)) = counts else {
        return Err(bad(format!("expected extents of at most {MAX_COUNT} elements, found {:?}", t.dims)));
    };
    let kind = DataType::try_from(t.data_type).map_err(|_| bad(format!("unknown element type {}", t.data_type)))?;
    let raw = if t.data_location == Some(1) || !t.external_data.is_empty() {
        Some(external(file, folder, name, &t, count, kind)?)
    } else {
        Some(std::mem::take(&mut t.raw_data)).filter(|bytes| !bytes.is_empty())
    };
    let data = match &raw {
        Some(bytes) => from_bytes(kind, bytes),
        None => from_fields(kind, &t),
    };
    let data = data.ok_or_else(|| bad(format!("element type {} is not supported", kind.as_str_name())))?;
    let found = match &data {
        Data::Float(v) => v.len(),
        Data::Int(v) => v.len(),
    };
    if found != count {
        return Err(bad(format!("expected {count} values for extents {dims:?}, found {found}")));
    }
    Ok(Constant { name: name.to_owned(), trained: true, of_size: false, dims, data })
}

/// Bytes of one element.
fn width(kind: DataType) -> Option<usize> {
    match kind {
        DataType::Double | DataType::Int64 => Some(8),
        DataType::Float | DataType::Int32 => Some(4),
        DataType::Float16 | DataType::Bfloat16 => Some(2),
        DataType::Bool | DataType::Uint8 | DataType::Int8 => Some(1),
        _ => None,
    }
}

fn from_bytes(kind: DataType, bytes: &[u8]) -> Option<Data> {
    fn each<const N: usize, T>(bytes: &[u8], f: impl Fn([u8; N]) -> T) -> Vec<T> {
        bytes.chunks_exact(N).map(|c| f(c.try_into().expect("chunks of N bytes"))).collect()
    }
    Some(match kind {
        DataType::Float => Data::Float(each(bytes, f32::from_le_bytes)),
        DataType::Double => Data::Float(each(bytes, |b| f64::from_le_bytes(b) as f32)),
        DataType::Float16 => Data::Float(each(bytes, |b| f16::from_le_bytes(b).to_f32())),
        DataType::Bfloat16 => Data::Float(each(bytes, |b| half::bf16::from_le_bytes(b).to_f32())),
        DataType::Int64 => Data::Int(each(bytes, i64::from_le_bytes)),
        DataType::Int32 => Data::Int(each(bytes, |b| i64::from(i32::from_le_bytes(b)))),
        DataType::Bool | DataType::Uint8 => Data::Int(bytes.iter().map(|&b| i64::from(b)).collect()),
        DataType::Int8 => Data::Int(bytes.iter().map(|&b| i64::from(b as i8)).collect()),
        _ => return None,
    })
}

fn from_fields(kind: DataType, t: &TensorProto) -> Option<Data> {
    let ints = || t.int32_data.iter().map(|&i| i64::from(i));
    Some(match kind {
        DataType::Float => Data::Float(t.float_data.clone()),
        DataType::Double => Data::Float(t.double_data.iter().map(|&d| d as f32).collect()),
        DataType::Float16 => Data::Float(t.int32_data.iter().map(|&b| f16::from_bits(b as u16).to_f32()).collect()),
        DataType::Bfloat16 => Data::Float(t.int32_data.iter().map(|&b| half::bf16::from_bits(b as u16).to_f32()).collect()),
        DataType::Int64 => Data::Int(t.int64_data.clone()),
        DataType::Int32 | DataType::Bool | DataType::Uint8 | DataType::Int8 => Data::Int(ints().collect()),
        _ => return None,
    })
}

/// The bytes of a tensor that lie in another file of the model's folder.
fn external(file: &str, folder: &Path, name: &str, t: &TensorProto, count: usize, kind: DataType) -> Result<Vec<u8>, OnnxError> {
    use std::io::{Read, Seek, SeekFrom};
    let entry = |key: &str| t.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
    let location = entry("location").unwrap_or("");
    let fail = |reason: String| OnnxError::External {
        file: file.to_owned(),
        tensor: name.to_owned(),
        expected: folder.join(location).display().to_string(),
        reason,
    };
    // A model must not read what lies elsewhere.
    let inside = Path::new(location).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if location.is_empty() || !inside {
        return Err(fail("not a place inside of the model's folder".to_owned()));
    }
    let width = width(kind).ok_or_else(|| fail(format!("element type {} is not supported", kind.as_str_name())))?;
    let offset = entry("offset").map_or(Ok(0), str::parse::<u64>).map_err(|e| fail(format!("its offset: {e}")))?;
    let bytes = count * width;
    let mut source = std::fs::File::open(folder.join(location)).map_err(|e| fail(e.to_string()))?;
    let length = source.metadata().map_err(|e| fail(e.to_string()))?.len();
    if offset.checked_add(bytes as u64).is_none_or(|end| end > length) {
        return Err(fail(format!("expected {bytes} bytes from {offset}, found a file of {length}")));
    }
    let mut out = vec![0; bytes];
    source.seek(SeekFrom::Start(offset)).and_then(|_| source.read_exact(&mut out)).map_err(|e| fail(e.to_string()))?;
    Ok(out)
}
