//! A zarr store of version 2, as `encode` and the official scripts write it: the array `latents`, or an array by itself. Chunks may be of any
//! extents, uncompressed or by zlib and gzip; one that is not there is an error and not a chunk of zeros, for a store that lacks some is not finished.

use std::ops::Range;
use std::path::{Path, PathBuf};

use fcdm_runtime::mapped::MappedFile;
use serde_json::Value;

use super::array::Layout;
use super::inflate::Compression;
use super::{LatentsError, Opened, Source, Wanted, wrong};

/// What describes an array.
const DESCRIPTION: &str = ".zarray";

/// A description of a few fields is no longer.
const LONGEST: u64 = 1 << 20;

struct Zarr {
    folder: PathBuf,
    /// Number of latents.
    count: usize,
    shape: [usize; 3],
    /// Of a chunk.
    chunk: Layout,
    /// Which of the axes of `[n,C,h,w]` the array has.
    axes: Range<usize>,
    separator: char,
    compressed: Option<Compression>,
    /// The chunk that was read last, by its place: the next latent is mostly in it too.
    last: Option<([usize; 4], Chunk)>,
}

enum Chunk {
    Mapped(MappedFile),
    Unpacked(Vec<u8>),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Chunk::Mapped(map) => map.bytes(),
            Chunk::Unpacked(bytes) => bytes,
        }
    }
}

impl Zarr {
    /// Reads a chunk, unless it is the last one.
    fn chunk(&mut self, place: [usize; 4]) -> Result<&[u8], LatentsError> {
        if self.last.as_ref().is_none_or(|(last, _)| *last != place) {
            self.last = None;
            let parts = place[self.axes.clone()].iter().map(usize::to_string).collect::<Vec<_>>();
            let path = self.folder.join(parts.join(&self.separator.to_string()));
            let file = path.display().to_string();
            let map = MappedFile::open(&path).map_err(|source| LatentsError::Read { file: file.clone(), source })?;
            let expected = self.chunk.bytes();
            let chunk = match self.compressed {
                Some(packed) => Chunk::Unpacked(packed.unpack(map.bytes(), expected, &file, "chunk")?),
                None if map.bytes().len() < expected => {
                    return Err(wrong(&file, "chunk", format!("{expected} bytes"), map.bytes().len().to_string()));
                }
                None => Chunk::Mapped(map),
            };
            self.last = Some((place, chunk));
        }
        Ok(self.last.as_ref().expect("it was read").1.bytes())
    }
}

impl Source for Zarr {
    fn count(&self) -> usize {
        self.count
    }

    fn read(&mut self, index: usize) -> Result<Vec<f32>, LatentsError> {
        let (whole, layout) = (self.shape, self.chunk);
        let [rows, parts @ ..] = layout.shape;
        let mut values = vec![0.0; whole.iter().product()];
        let starts = |axis: usize| (0..whole[axis]).step_by(parts[axis]);
        for c in starts(0) {
            for y in starts(1) {
                for x in starts(2) {
                    let at = [c, y, x];
                    let part = [0, 1, 2].map(|axis| parts[axis].min(whole[axis] - at[axis]));
                    let place = [index / rows, c / parts[0], y / parts[1], x / parts[2]];
                    layout.read_into(self.chunk(place)?, index % rows, part, &mut values, at, whole);
                }
            }
        }
        Ok(values)
    }
}

/// The array of that name in a store, if there is one.
pub(super) fn beside(path: &Path, wanted: Wanted) -> Result<Option<Opened>, LatentsError> {
    let folder = path.join(wanted.names()[0]);
    if folder.join(DESCRIPTION).is_file() { array(&folder, wanted).map(Some) } else { Ok(None) }
}

pub(super) fn open(path: &Path, wanted: Wanted) -> Result<Opened, LatentsError> {
    let inner = path.join(wanted.names()[0]);
    let folder = [path, &inner].into_iter().find(|folder| folder.join(DESCRIPTION).is_file());
    let Some(folder) = folder else {
        let store = path.display().to_string();
        return Err(match [path, &inner].iter().any(|folder| folder.join("zarr.json").is_file()) {
            true => wrong(&store, "zarr_format", "2", "3 (zarr.json): write it with zarr_format=2"),
            false => {
                let expected = format!("`{}`, which is written last", wanted.names()[0]);
                wrong(&store, "arrays", expected, "none: a store that is not finished, or of something else")
            }
        });
    };
    array(folder, wanted)
}

fn array(folder: &Path, wanted: Wanted) -> Result<Opened, LatentsError> {
    let file = folder.join(DESCRIPTION).display().to_string();
    let read = |e| LatentsError::Read { file: file.clone(), source: e };
    let length = std::fs::metadata(&file).map_err(read)?.len();
    if length > LONGEST {
        return Err(wrong(&file, "description", format!("at most {LONGEST} bytes"), length.to_string()));
    }
    let text = std::fs::read(folder.join(DESCRIPTION)).map_err(read)?;
    let about: Value = serde_json::from_slice(&text).map_err(|e| wrong(&file, "description", "a JSON object", e.to_string()))?;
    let zarr = described(folder, &file, &about, wanted)?;
    Ok(Opened { shape: zarr.shape, source: Box::new(zarr), note: None })
}

/// What an array's description says, field by field.
fn described(folder: &Path, file: &str, about: &Value, wanted: Wanted) -> Result<Zarr, LatentsError> {
    let found = |value: &Value| value.to_string().chars().take(96).collect::<String>();
    let field = |name: &str, expected: &str| wrong(file, name, expected, found(&about[name]));
    let extents = |name: &str| -> Option<Vec<usize>> {
        let list = about[name].as_array().filter(|list| list.len() <= 4)?;
        list.iter().map(|n| n.as_u64().and_then(|n| usize::try_from(n).ok())).collect()
    };
    if about["zarr_format"] != 2 {
        return Err(field("zarr_format", "2"));
    }
    let shape = extents("shape").ok_or_else(|| field("shape", wanted.shapes()))?;
    let (count, image) = wanted.parts(&shape).ok_or_else(|| field("shape", wanted.shapes()))?;
    let chunks = extents("chunks").filter(|c| c.len() == shape.len()).and_then(|c| wanted.parts(&c));
    let (rows, part) = chunks.ok_or_else(|| field("chunks", "an extent for each axis"))?;
    let element = about["dtype"].as_str().and_then(|d| wanted.element(d)).ok_or_else(|| field("dtype", wanted.elements()))?;
    let fortran = match about["order"].as_str() {
        Some("C") => false,
        Some("F") => true,
        _ => return Err(field("order", "C or F")),
    };
    if !about["filters"].is_null() && about["filters"].as_array().is_none_or(|list| !list.is_empty()) {
        return Err(field("filters", "none"));
    }
    let compressed = match (&about["compressor"], about["compressor"]["id"].as_str()) {
        (Value::Null, _) => None,
        (_, Some("zlib")) => Some(Compression::Zlib),
        (_, Some("gzip")) => Some(Compression::Gzip),
        _ => return Err(field("compressor", "none, zlib or gzip (write it with compressor=None)")),
    };
    let separator = match about.get("dimension_separator").map(|s| s.as_str()) {
        None | Some(Some(".")) => '.',
        Some(Some("/")) => '/',
        Some(_) => return Err(field("dimension_separator", "`.` or `/`")),
    };
    let [c, h, w] = part;
    let chunk = Layout::new(element, [rows, c, h, w], fortran).ok_or_else(|| field("chunks", "chunks of bytes that can be counted"))?;
    let axes = if shape.len() == 3 { 1..4 } else { 0..shape.len() };
    Ok(Zarr { folder: folder.to_owned(), count, shape: image, chunk, axes, separator, compressed, last: None })
}
