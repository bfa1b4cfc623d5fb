//! `.npz`: `.npy` files in a ZIP, stored as they are (`numpy.savez`), which are read in place, or deflated (`numpy.savez_compressed`), of
//! which the array that is meant is unpacked.

use std::io::Cursor;
use std::path::Path;

use fcdm_runtime::mapped::MappedFile;
use zip::{CompressionMethod, ZipArchive};

use super::array::Layout;
use super::inflate::Compression;
use super::npy::{Header, Wrong};
use super::tensors::{Chosen, choose, named};
use super::{LatentsError, Opened, Source, Wanted, wrong};

/// Most arrays of which headers are looked at.
const ARRAYS: usize = 1024;

/// Bytes that are unpacked to read a header.
const HEAD: usize = 1 << 10;

/// An entry of the archive.
struct Member {
    /// Without `.npy`.
    name: String,
    /// Where its bytes lie in the file.
    start: usize,
    end: usize,
    /// Bytes unpacked.
    size: usize,
    packed: Option<Compression>,
}

/// One array of an archive.
struct Npz {
    bytes: Bytes,
    layout: Layout,
}

/// The array with its header before it.
enum Bytes {
    Mapped(MappedFile, usize),
    Unpacked(Vec<u8>, usize),
}

impl Source for Npz {
    fn count(&self) -> usize {
        self.layout.shape[0]
    }

    fn read(&mut self, index: usize) -> Result<Vec<f32>, LatentsError> {
        Ok(self.layout.read(
            match &self.bytes {
                Bytes::Mapped(map, at) => &map.bytes()[*at..],
                Bytes::Unpacked(bytes, at) => &bytes[*at..],
            },
            index,
        ))
    }
}

pub(super) fn open(path: &Path, wanted: Wanted) -> Result<Opened, LatentsError> {
    let archive = Archive::open(path)?;
    let Chosen::One { index, note } = choose(&archive.file, "arrays", &archive.arrays(), wanted, false)? else {
        return Err(wrong(&archive.file, "arrays", format!("one of {}", wanted.what()), "several without names"));
    };
    Ok(Opened { note, ..archive.array(index, wanted)? })
}

/// The array of that name, if there is one.
pub(super) fn beside(path: &Path, wanted: Wanted) -> Result<Option<Opened>, LatentsError> {
    let archive = Archive::open(path)?;
    named(&archive.arrays(), wanted).map(|index| archive.array(index, wanted)).transpose()
}

/// An archive of which the headers were read.
struct Archive {
    file: String,
    map: MappedFile,
    members: Vec<Member>,
    headers: Vec<Header>,
}

impl Archive {
    fn open(path: &Path) -> Result<Archive, LatentsError> {
        let file = path.display().to_string();
        let map = MappedFile::open(path).map_err(|source| LatentsError::Read { file: file.clone(), source })?;
        let members = members(&file, map.bytes())?;
        let mut headers = Vec::new();
        for member in &members {
            let field = |(field, expected, found): Wrong| wrong(&file, format!("{}.npy: {field}", member.name), expected, found);
            let all = &map.bytes()[member.start..member.end];
            let header = match member.packed {
                None => Header::parse(all).map_err(field)?,
                // An array may be shorter than that.
                Some(packed) => Header::parse(&packed.unpack(all, member.size.min(HEAD), &file, &member.name)?).map_err(field)?,
            };
            headers.push(header);
        }
        Ok(Archive { file, map, members, headers })
    }

    /// Names and shapes of the arrays.
    fn arrays(&self) -> Vec<(String, Vec<usize>)> {
        self.members.iter().zip(&self.headers).map(|(member, header)| (member.name.clone(), header.shape.clone())).collect()
    }

    fn array(self, index: usize, wanted: Wanted) -> Result<Opened, LatentsError> {
        let Archive { file, map, members, headers } = self;
        let (member, header) = (&members[index], &headers[index]);
        let field = |(field, expected, found): Wrong| wrong(&file, format!("{}.npy: {field}", member.name), expected, found);
        // A header that is longer than the array was not read to its end.
        let available = member.size.saturating_sub(header.data);
        let layout = header.layout(wanted, available).map_err(field)?;
        let length = header.data + layout.bytes();
        let bytes = match member.packed {
            None => Bytes::Mapped(map, member.start + header.data),
            Some(packed) => {
                Bytes::Unpacked(packed.unpack(&map.bytes()[member.start..member.end], length, &file, &member.name)?, header.data)
            }
        };
        let [_, c, h, w] = layout.shape;
        Ok(Opened { source: Box::new(Npz { bytes, layout }), shape: [c, h, w], note: None })
    }
}

/// The arrays of an archive: where they lie.
fn members(file: &str, bytes: &[u8]) -> Result<Vec<Member>, LatentsError> {
    let broken = |e: zip::result::ZipError| wrong(file, "archive", "a ZIP of NumPy arrays", e.to_string());
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    let mut members = Vec::new();
    for i in 0..archive.len() {
        let entry = archive.by_index_raw(i).map_err(broken)?;
        let name = entry.name().map_err(broken)?;
        let Some(name) = name.strip_suffix(".npy") else { continue };
        let name: String = name.chars().take(128).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        let packed = match entry.compression() {
            CompressionMethod::Stored => None,
            CompressionMethod::DEFLATE => Some(Compression::Deflate),
            other => return Err(wrong(file, format!("{name}.npy"), "a stored or deflated array", format!("compression {other}"))),
        };
        let place = || {
            let start = usize::try_from(entry.data_start()?).ok()?;
            let end = start.checked_add(usize::try_from(entry.compressed_size()).ok()?).filter(|&end| end <= bytes.len())?;
            Some((start, end, usize::try_from(entry.size()).ok()?))
        };
        let found = || format!("{} bytes in a file of {}", entry.compressed_size(), bytes.len());
        let (start, end, size) = place().ok_or_else(|| wrong(file, format!("{name}.npy"), "an array inside of the file", found()))?;
        if packed.is_none() && size > end - start {
            return Err(wrong(file, format!("{name}.npy"), format!("{size} bytes"), (end - start).to_string()));
        }
        if entry.encrypted() {
            return Err(wrong(file, format!("{name}.npy"), "an array that is not encrypted", "one that is"));
        }
        if members.len() == ARRAYS {
            return Err(wrong(file, "arrays", format!("at most {ARRAYS}"), "more"));
        }
        members.push(Member { name, start, end, size, packed });
    }
    Ok(members)
}
