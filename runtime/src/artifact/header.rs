//! The safetensors container: 8 bytes little-endian header length, a JSON header, the data.
//!
//! Read here and not by the `safetensors` crate (0.8.0) because its sum of header and data lengths overflows for
//! offsets near 2^64, a panic where overflow is checked; because of duplicate names it silently keeps one; and because
//! it collects the table in a self-describing buffer many times the header's size. What is refused here is refused before anything is allocated
//! for it, and what is allocated is bounded by the header's length.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
#[cfg(feature = "write")]
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::error::{Fault, one_line};
use crate::plan::{ALIGN, Element};

/// Longest header in bytes. The `safetensors` library refuses longer ones too.
pub const HEADER_LIMIT: usize = 100_000_000;

/// Bytes before the header.
pub(super) const PREFIX: usize = 8;

const METADATA: &str = "__metadata__";

/// The values of `__metadata__` by key.
pub(super) type Strings = BTreeMap<String, String>;

/// The tensors by name.
pub(super) type Table = BTreeMap<String, TensorEntry>;

/// One tensor of the table. Offsets are bytes from the start of the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TensorEntry {
    pub dtype: Element,
    pub shape: Vec<usize>,
    pub begin: usize,
    pub end: usize,
}

/// A header as it was written, its table not yet checked.
pub(super) struct RawHeader {
    pub metadata: Strings,
    tensors: BTreeMap<String, RawEntry>,
    /// Where the data begin in the file.
    pub data_start: usize,
}

#[derive(serde::Deserialize)]
#[cfg_attr(feature = "write", derive(serde::Serialize))]
#[serde(deny_unknown_fields)]
struct RawEntry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

/// Bytes of a tensor; `None` when they are more than memory can have.
pub(super) fn byte_length(dtype: Element, shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(dtype.bytes(), |product: usize, &extent| product.checked_mul(extent)).filter(|&n| isize::try_from(n).is_ok())
}

impl RawHeader {
    /// Reads the header of a file with the contents `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let broken = |why: String| Fault::NotSafetensors(why);
        let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX>() else {
            return Err(broken(format!("expected at least {PREFIX} bytes, found {}", bytes.len())));
        };
        let length = u64::from_le_bytes(*prefix);
        let most = rest.len().min(HEADER_LIMIT);
        let Some(length) = usize::try_from(length).ok().filter(|&n| n <= most) else {
            return Err(broken(format!("expected a header of at most {most} bytes, found a length of {length}")));
        };
        let text = std::str::from_utf8(&rest[..length]).map_err(|e| broken(format!("header: {e}")))?;
        // Only spaces may pad it; JSON would allow any white space.
        let json = text.trim_end_matches(' ');
        if !(json.starts_with('{') && json.ends_with('}')) {
            return Err(broken("expected a header that is a JSON object padded with spaces".into()));
        }
        let parsed: Parsed = serde_json::from_str(json).map_err(|e| broken(format!("header: {}", one_line(&e.to_string()))))?;
        Ok(Self { metadata: parsed.metadata, tensors: parsed.tensors, data_start: PREFIX + length })
    }

    /// Checks the table against a file of `file_length` bytes: the tensors lie one after another, without overlap or
    /// hole, from the first byte of the data to the last, each aligned and as long as its shape says.
    pub fn table(self, file_length: usize) -> Result<(Strings, Table), Fault> {
        if !self.data_start.is_multiple_of(ALIGN) {
            return Err(Fault::NotSafetensors(format!(
                "expected data that begin at a multiple of {ALIGN} bytes, found {}",
                self.data_start
            )));
        }
        let mut tensors = BTreeMap::new();
        for (name, raw) in self.tensors {
            let entry = raw.check(&name)?;
            tensors.insert(name, entry);
        }
        let mut in_order: Vec<_> = tensors.iter().collect();
        in_order.sort_by_key(|(_, entry)| (entry.begin, entry.end));
        let mut covered = 0;
        for (name, entry) in in_order {
            if entry.begin != covered {
                return Err(Fault::tensor(name, format!("data_offsets that begin at {covered}"), entry.begin));
            }
            covered = entry.end;
        }
        let data = file_length - self.data_start;
        if covered != data {
            return Err(Fault::NotSafetensors(format!("expected {covered} bytes of tensors, found {data}")));
        }
        Ok((self.metadata, tensors))
    }
}

impl RawEntry {
    fn check(self, name: &str) -> Result<TensorEntry, Fault> {
        let dtype = Element::named(&self.dtype).ok_or_else(|| Fault::tensor(name, "dtype F32, BF16, F16 or I32", one_line(&self.dtype)))?;
        let [begin, end] = self.data_offsets;
        let length =
            byte_length(dtype, &self.shape).ok_or_else(|| Fault::tensor(name, "a shape that fits into memory", Extents(&self.shape)))?;
        if end.checked_sub(begin) != Some(length) {
            return Err(Fault::tensor(name, format!("data_offsets {length} bytes apart"), format!("{begin} and {end}")));
        }
        if !begin.is_multiple_of(ALIGN) {
            return Err(Fault::tensor(name, format!("data at a multiple of {ALIGN} bytes"), begin));
        }
        Ok(TensorEntry { dtype, shape: self.shape, begin, end })
    }
}

/// A shape in a message, cut when it is absurd.
pub(crate) struct Extents<'a>(pub &'a [usize]);

impl fmt::Display for Extents<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [first @ .., _] if first.len() >= 8 => write!(f, "{:?} and {} more", &self.0[..8], self.0.len() - 8),
            all => write!(f, "{all:?}"),
        }
    }
}

/// The JSON header, duplicates refused.
struct Parsed {
    metadata: Strings,
    tensors: BTreeMap<String, RawEntry>,
}

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tensors;
        impl<'de> Visitor<'de> for Tensors {
            type Value = Parsed;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a map of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parsed, A::Error> {
                let (mut metadata, mut tensors) = (None, BTreeMap::new());
                while let Some(name) = map.next_key::<Cow<str>>()? {
                    if name == METADATA {
                        let Unique(entries) = map.next_value()?;
                        if metadata.replace(entries).is_some() {
                            return Err(A::Error::custom("duplicate __metadata__"));
                        }
                        continue;
                    }
                    insert_new(&mut tensors, name.into_owned(), map.next_value()?)?;
                }
                Ok(Parsed { metadata: metadata.unwrap_or_default(), tensors })
            }
        }
        deserializer.deserialize_map(Tensors)
    }
}

/// A map of strings without duplicate keys.
pub(super) struct Unique(pub Strings);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = Unique;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a map from strings to strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((key, value)) = map.next_entry()? {
                    insert_new(&mut entries, key, value)?;
                }
                Ok(Unique(entries))
            }
        }
        deserializer.deserialize_map(Texts)
    }
}

fn insert_new<V, E: serde::de::Error>(map: &mut BTreeMap<String, V>, key: String, value: V) -> Result<(), E> {
    match map.entry(key) {
        Entry::Vacant(slot) => {
            slot.insert(value);
            Ok(())
        }
        Entry::Occupied(slot) => Err(E::custom(format!("duplicate key `{}`", slot.key()))),
    }
}

/// Length prefix and header, padded so that the data begin aligned. `None` when longer than [`HEADER_LIMIT`].
#[cfg(feature = "write")]
pub(super) fn print(metadata: &Strings, tensors: &Table) -> Option<Vec<u8>> {
    struct Printed<'a>(&'a Strings, &'a Table);
    impl Serialize for Printed<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(self.1.len() + 1))?;
            map.serialize_entry(METADATA, self.0)?;
            for (name, t) in self.1 {
                let raw = RawEntry { dtype: t.dtype.name().into(), shape: t.shape.clone(), data_offsets: [t.begin, t.end] };
                map.serialize_entry(name, &raw)?;
            }
            map.end()
        }
    }
    let mut bytes = vec![0; PREFIX];
    serde_json::to_writer(&mut bytes, &Printed(metadata, tensors)).expect("strings and numbers have a JSON form");
    bytes.resize(bytes.len().next_multiple_of(ALIGN), b' ');
    let length = bytes.len() - PREFIX;
    bytes[..PREFIX].copy_from_slice(&(length as u64).to_le_bytes());
    (length <= HEADER_LIMIT).then_some(bytes)
}

/// Whether safetensors reserves this name.
#[cfg(feature = "write")]
pub(super) fn is_reserved(name: &str) -> bool {
    name == METADATA
}
