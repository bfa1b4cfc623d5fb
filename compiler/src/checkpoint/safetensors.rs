//! safetensors: 8 bytes of header length, a JSON header, then the tensors without gaps.
//!
//! Element types are those of the `safetensors` crate, but the header is read here, to the same rules and stricter.
//! The crate (0.8) caps the header's length and refuses overlaps, holes and overflow; it also buffers the whole
//! header as a generic JSON tree before typing it (`serde(flatten)`), which costs a hostile header some 16 bytes of
//! memory for each of its own, accepts shapes of any rank, and of two tensors of one name silently keeps the last.
//! Format: <https://github.com/huggingface/safetensors#format>.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use safetensors::Dtype;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::budget::Budget;
use super::contents::{Content, Contents, Entry};
use super::error::{CheckpointError, Place, shown};
use super::tensor::{ElementType, RANK, TensorClaim, row_major};

/// Bytes of the length before the header.
const LENGTH: usize = 8;
/// Longest header, as in the `safetensors` crate.
const MOST: u64 = 100_000_000;
/// Longest value of `__metadata__` that is kept: descriptions, not data.
const KEPT: usize = 4096;

/// True if the bytes begin as a safetensors file does: a length, then a JSON object.
pub(super) fn looks_like(bytes: &[u8]) -> bool {
    bytes.get(LENGTH) == Some(&b'{')
}

/// One tensor's description in the header.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    dtype: Dtype,
    shape: Shape,
    data_offsets: (u64, u64),
}

/// A shape of at most [`RANK`] axes; more are refused before they are stored.
struct Shape {
    extents: [i64; RANK],
    rank: usize,
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Extents;
        impl<'de> Visitor<'de> for Extents {
            type Value = Shape;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write!(f, "a shape of at most {RANK} axes")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut axes: A) -> Result<Shape, A::Error> {
                let mut shape = Shape { extents: [0; RANK], rank: 0 };
                while let Some(extent) = axes.next_element::<u64>()? {
                    let place = shape.extents.get_mut(shape.rank).ok_or_else(|| A::Error::invalid_length(RANK + 1, &self))?;
                    *place = i64::try_from(extent).map_err(|_| A::Error::custom("an extent beyond 2^63"))?;
                    shape.rank += 1;
                }
                Ok(shape)
            }
        }
        deserializer.deserialize_seq(Extents)
    }
}

/// What the header holds.
struct Header {
    tensors: Vec<(String, Description)>,
    metadata: BTreeMap<String, String>,
}

/// Reads the header's object entry by entry, so that every entry is paid for before it is kept.
struct Entries<'r, 'b, 'c> {
    budget: &'b mut Budget<'c>,
    /// The budget's own error, which JSON errors cannot carry.
    exceeded: &'r RefCell<Option<CheckpointError>>,
}

impl<'de> Visitor<'de> for Entries<'_, '_, '_> {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let Entries { budget, exceeded } = self;
        let paid = |result: Result<(), CheckpointError>| {
            result.map_err(|e| {
                *exceeded.borrow_mut() = Some(e);
                A::Error::custom("too many entries")
            })
        };
        let mut header = Header { tensors: Vec::new(), metadata: BTreeMap::new() };
        while let Some(key) = map.next_key::<String>()? {
            paid(budget.charge(key.len()))?;
            if key == "__metadata__" {
                map.next_value_seed(Metadata(&mut header.metadata))?;
            } else {
                let description = map.next_value::<Description>()?;
                paid(budget.push(&mut header.tensors, (key, description)))?;
            }
        }
        Ok(header)
    }
}

/// Keeps the short texts of `__metadata__`, up to [`KEPT`] bytes each and 16 times that in all.
struct Metadata<'m>(&'m mut BTreeMap<String, String>);

impl<'de> DeserializeSeed<'de> for Metadata<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Metadata<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of strings")
    }
    /// Some writers say `null` where they have nothing to say, and the `safetensors` crate reads that.
    fn visit_none<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut left = 16 * KEPT;
        while let Some(key) = map.next_key::<String>()? {
            if left < key.len() + 64 {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = map.next_value::<String>()?;
            if value.len() <= KEPT && key.len() + value.len() <= left {
                // What one more entry of the map takes besides its text.
                left = left.saturating_sub(key.len() + value.len() + 64);
                self.0.insert(key, serde_json::Value::String(value).to_string());
            }
        }
        Ok(())
    }
}

/// Reads and checks the header of the file `bytes`: tensors in the order of their data, and the texts of `__metadata__` as JSON strings.
pub(super) fn read(file: &str, bytes: &[u8], budget: &mut Budget) -> Result<Contents, CheckpointError> {
    let place = Place { file, part: "header" };
    let (length, rest) = bytes.split_first_chunk::<LENGTH>().ok_or_else(|| place.expected("8 bytes of length", "fewer"))?;
    let length = u64::from_le_bytes(*length);
    let most = MOST.min(rest.len() as u64);
    if length > most {
        return Err(place.expected(format!("a length of at most {most} bytes"), format!("{length} bytes")));
    }
    let (json, data) = rest.split_at(length as usize);
    let exceeded = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_slice(json);
    let header = reader.deserialize_map(Entries { budget, exceeded: &exceeded }).and_then(|header| reader.end().map(|()| header));
    let Header { mut tensors, metadata } = header.map_err(|error| {
        let invalid = || place.expected("a JSON object of tensors", shown(error.to_string().as_bytes()));
        exceeded.take().unwrap_or_else(invalid)
    })?;
    // Empty tensors share their offset with the next one; names make the order definite.
    tensors.sort_unstable_by(|(a, x), (b, y)| (x.data_offsets, a).cmp(&(y.data_offsets, b)));
    let mut entries = Vec::new();
    budget.reserve(&mut entries, tensors.len())?;
    let mut covered = 0;
    for (name, description) in tensors {
        let (begin, end) = description.data_offsets;
        if begin != covered || end < begin || end > data.len() as u64 {
            let expected = format!("data from byte {covered} on, up to byte {} at most", data.len());
            return Err(place.tensor(&name, expected, format!("bytes {begin} to {end}")));
        }
        covered = end;
        let base = LENGTH + json.len();
        let stored = description.place(base + begin as usize..base + end as usize);
        let stored = stored.map_err(|(expected, found)| place.tensor(&name, expected, found))?;
        budget.charge(16 * stored.info.shape.len() + 32)?;
        entries.push(Entry { name, dict: 0, content: Content::Tensor(stored) });
    }
    match covered == data.len() as u64 {
        true => Ok(Contents { entries, dicts: vec![String::new()], arguments: metadata, optimizer_step: None }),
        false => Err(place.expected(format!("tensors that cover all {} bytes of data", data.len()), format!("{covered} bytes covered"))),
    }
}

impl Description {
    /// Checks that shape and type fill exactly the bytes `storage` of the file.
    fn place(&self, storage: std::ops::Range<usize>) -> Result<super::tensor::Located, (String, String)> {
        let shape = &self.shape.extents[..self.shape.rank];
        let bits = shape.iter().try_fold(self.dtype.bitsize() as u64, |n, &extent| n.checked_mul(extent as u64));
        let bytes = bits.filter(|bits| bits % 8 == 0).map(|bits| bits / 8);
        let misfit = || {
            let expected = format!("the {} bytes between its offsets", storage.len());
            (expected, format!("shape {shape:?} of {}", self.dtype))
        };
        let strides = row_major(shape).filter(|_| bytes == Some(storage.len() as u64)).ok_or_else(misfit)?;
        // Types of less than a byte are placed as bytes; they cannot be read, only named.
        let size = (self.dtype.bitsize() / 8).max(1);
        match element(self.dtype) {
            ElementType::Other(_) if self.dtype.bitsize() < 8 => {
                let shape = shape.iter().map(|&e| e as usize).collect();
                let info = super::TensorInfo { dtype: element(self.dtype), shape };
                Ok(super::tensor::Located { info, strides: Vec::new(), start: storage.start })
            }
            dtype => TensorClaim { dtype, size, shape, strides: &strides, offset: 0, storage: storage.clone() }.place(),
        }
    }
}

fn element(dtype: Dtype) -> ElementType {
    ElementType::Other(match dtype {
        Dtype::F64 => return ElementType::F64,
        Dtype::F32 => return ElementType::F32,
        Dtype::F16 => return ElementType::F16,
        Dtype::BF16 => return ElementType::BF16,
        Dtype::BOOL => "bool",
        Dtype::U8 => "u8",
        Dtype::I8 => "i8",
        Dtype::U16 => "u16",
        Dtype::I16 => "i16",
        Dtype::U32 => "u32",
        Dtype::I32 => "i32",
        Dtype::U64 => "u64",
        Dtype::I64 => "i64",
        Dtype::C64 => "c64",
        _ => "floats of at most 8 bits",
    })
}
