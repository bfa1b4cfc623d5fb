//! The ZIP container that `torch.save` writes, read strictly: a directory of stored (uncompressed) entries.
//!
//! A general ZIP crate answers to more than this reader may accept. `zip` 9 keeps the last of several entries of one
//! name, hunts for further directories when one fails, accepts data before the archive, keeps several hundred bytes
//! per entry, and tells where a stored entry's data lies only through a seekable reader. Here a file has exactly one
//! reading, or is refused:
//! - the end record ends the file (its comment included), and the directory ends where the end record begins;
//! - every entry is stored, unencrypted, on this disk, and of a name of its own; ZIP64 sizes and offsets are read;
//! - the local header repeats name and method; header and data lie before the directory and overlap nothing.
//!
//! Checksums are not compared: PyTorch can be told not to compute them, and does not compare them either.
//! Layout: PKWARE's APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12 (directory), 4.3.14-16 (end records).

use std::ops::Range;

use super::budget::Budget;
use super::error::{CheckpointError, Place, shown};

/// First bytes of a ZIP that holds an entry.
pub(super) const LOCAL: &[u8; 4] = b"PK\x03\x04";
const CENTRAL: &[u8; 4] = b"PK\x01\x02";
const END: &[u8; 4] = b"PK\x05\x06";
const END64: &[u8; 4] = b"PK\x06\x06";
const LOCATOR64: &[u8; 4] = b"PK\x06\x07";
/// Fixed bytes of each record, signature included.
const LOCAL_LEN: usize = 30;
const CENTRAL_LEN: usize = 46;
const END_LEN: usize = 22;
const END64_LEN: usize = 56;
const LOCATOR64_LEN: usize = 20;
/// Encrypted, strongly encrypted, or with a masked directory.
const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
/// Values that send the reader to the ZIP64 record.
const SATURATED16: u64 = 0xffff;
const SATURATED32: u64 = 0xffff_ffff;

/// One stored entry.
#[derive(Clone, Copy)]
struct Entry<'a> {
    name: &'a str,
    header: usize,
    start: usize,
    end: usize,
}

/// The entries of an archive, sorted by name.
pub(super) struct Directory<'a> {
    entries: Vec<Entry<'a>>,
}

/// Where the directory lies.
struct Extent {
    count: u64,
    start: usize,
    end: usize,
}

impl<'a> Directory<'a> {
    /// Reads and checks the directory of the archive `bytes`.
    pub fn read(file: &str, bytes: &'a [u8], budget: &mut Budget) -> Result<Self, CheckpointError> {
        let place = Place { file, part: "ZIP directory" };
        let extent = extent(bytes, place)?;
        // 46 bytes is the least an entry takes: a larger count is refused before anything is allocated for it.
        let most = (extent.end - extent.start) / CENTRAL_LEN;
        let count = usize::try_from(extent.count).ok().filter(|&n| n <= most);
        let count = count.ok_or_else(|| place.expected(format!("at most {most} entries"), extent.count.to_string()))?;
        let mut entries = Vec::new();
        budget.reserve(&mut entries, count)?;
        let mut at = extent.start;
        for _ in 0..count {
            let (entry, next) = central(bytes, at, extent.start, extent.end, place)?;
            entries.push(entry);
            at = next;
        }
        if at != extent.end {
            return Err(place.expected_at(at, "the directory's end", format!("{} more bytes", extent.end - at)));
        }
        disjoint(&mut entries, place)?;
        entries.sort_unstable_by_key(|e| e.name);
        match entries.windows(2).find(|w| w[0].name == w[1].name) {
            Some(w) => Err(place.expected("entries of different names", format!("two named `{}`", shown(w[0].name.as_bytes())))),
            None => Ok(Directory { entries }),
        }
    }

    /// Where the data of the entry `name` lies in the archive.
    pub fn find(&self, name: &str) -> Option<Range<usize>> {
        let i = self.entries.binary_search_by_key(&name, |e| e.name).ok()?;
        Some(self.entries[i].start..self.entries[i].end)
    }

    /// Every entry's name, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.entries.iter().map(|e| e.name)
    }
}

/// No byte may belong to two entries: headers and data in file order must not overlap.
fn disjoint(entries: &mut [Entry], place: Place) -> Result<(), CheckpointError> {
    entries.sort_unstable_by_key(|e| e.header);
    match entries.windows(2).find(|w| w[0].end > w[1].header) {
        Some(w) => {
            let found = format!("`{}` over `{}`", shown(w[0].name.as_bytes()), shown(w[1].name.as_bytes()));
            Err(place.expected_at(w[1].header, "entries that do not overlap", found))
        }
        None => Ok(()),
    }
}

/// Little-endian number of `len` <= 8 bytes at `at`; `None` past the end.
fn number(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(len)?)?;
    Some(field.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)))
}

/// True where `signature` stands at `at`.
fn signed(bytes: &[u8], at: usize, signature: &[u8; 4]) -> bool {
    bytes.get(at..).is_some_and(|rest| rest.starts_with(signature))
}

/// Finds the end record and reads where the directory lies.
fn extent(bytes: &[u8], place: Place) -> Result<Extent, CheckpointError> {
    let none = || place.expected("an end record at the file's end", "none: the file is truncated or damaged");
    let last = bytes.len().checked_sub(END_LEN).ok_or_else(none)?;
    // The comment takes at most 65,535 bytes and must reach exactly to the end of the file.
    let fits = |&at: &usize| signed(bytes, at, END) && number(bytes, at + 20, 2) == Some((last - at) as u64);
    let end = (last.saturating_sub(0xffff)..=last).rev().find(fits).ok_or_else(none)?;
    let field = |at: usize, len: usize| number(bytes, at, len).ok_or_else(none);
    let (disk, directory_disk) = (field(end + 4, 2)?, field(end + 6, 2)?);
    let (on_disk, mut count) = (field(end + 8, 2)?, field(end + 10, 2)?);
    let (mut size, mut start) = (field(end + 12, 4)?, field(end + 16, 4)?);
    if disk != 0 || directory_disk != 0 || on_disk != count {
        return Err(place.expected_at(end, "an archive in one part", "one split over several"));
    }
    let mut stop = end;
    if let Some(locator) = end.checked_sub(LOCATOR64_LEN).filter(|&at| signed(bytes, at, LOCATOR64)) {
        let record = usize::try_from(field(locator + 8, 8)?).ok().filter(|&at| at.checked_add(END64_LEN) == Some(locator));
        let record = record.filter(|&at| signed(bytes, at, END64));
        stop = record.ok_or_else(|| place.expected_at(locator, "a ZIP64 end record right before its locator", "none"))?;
        let wide = (field(stop + 32, 8)?, field(stop + 40, 8)?, field(stop + 48, 8)?);
        let agree = |narrow: u64, wide: u64, saturated: u64| narrow == wide || narrow == saturated;
        if !agree(count, wide.0, SATURATED16) || !agree(size, wide.1, SATURATED32) || !agree(start, wide.2, SATURATED32) {
            return Err(place.expected_at(stop, "end records that agree", "different counts, sizes or offsets"));
        }
        (count, size, start) = wide;
    }
    if start.checked_add(size) != Some(stop as u64) {
        let found = format!("{size} bytes from byte {start} on");
        return Err(place.expected_at(end, format!("a directory that ends at byte {stop}"), found));
    }
    let start = usize::try_from(start).expect("not beyond `stop`, which is a usize");
    Ok(Extent { count, start, end: stop })
}

/// Reads the directory's record at `at` and the local header it points to; returns the entry and the next record.
fn central<'a>(bytes: &'a [u8], at: usize, limit: usize, end: usize, place: Place) -> Result<(Entry<'a>, usize), CheckpointError> {
    let cut = || place.expected_at(at, "an entry", "none, or a truncated one");
    let bytes_here = bytes.get(..end).ok_or_else(cut)?;
    let field = |offset: usize, len: usize| number(bytes_here, at + offset, len).ok_or_else(cut);
    if !signed(bytes_here, at, CENTRAL) {
        return Err(cut());
    }
    let (flags, method) = (field(8, 2)? as u16, field(10, 2)?);
    let (mut packed, mut size) = (field(20, 4)?, field(24, 4)?);
    let lengths = [field(28, 2)? as usize, field(30, 2)? as usize, field(32, 2)? as usize];
    let (mut disk, mut header) = (field(34, 2)?, field(42, 4)?);
    let name_at = at + CENTRAL_LEN;
    let name = bytes_here.get(name_at..name_at + lengths[0]).ok_or_else(cut)?;
    let extra = bytes_here.get(name_at + lengths[0]..name_at + lengths[0] + lengths[1]).ok_or_else(cut)?;
    let next = name_at + lengths.iter().sum::<usize>();
    if next > end {
        return Err(cut());
    }
    let wrong = |expected: &str, found: String| place.expected_at(at, format!("{expected} `{}`", shown(name)), found);
    let text = std::str::from_utf8(name).map_err(|_| wrong("an UTF-8 name for", "other bytes".into()))?;
    // ZIP64 values stand in this order, and only those whose own field is saturated.
    let mut wide = zip64(extra);
    for (value, len, saturated) in
        [(&mut size, 8, SATURATED32), (&mut packed, 8, SATURATED32), (&mut header, 8, SATURATED32), (&mut disk, 4, SATURATED16)]
    {
        if *value == saturated {
            let lacking = || wrong("ZIP64 sizes for", "none".into());
            *value = number(wide, 0, len).ok_or_else(lacking)?;
            wide = &wide[len..];
        }
    }
    if flags & ENCRYPTED != 0 {
        return Err(wrong("an unencrypted entry", "an encrypted one".into()));
    }
    if method != 0 || packed != size {
        return Err(wrong("a stored entry", format!("compression method {method}, {packed} bytes for {size}")));
    }
    if disk != 0 {
        return Err(wrong("an archive in one part at", format!("part {disk}")));
    }
    let start = local(bytes, header, name).ok_or_else(|| wrong("a local header for", format!("none at byte {header}")))?;
    let stop = usize::try_from(size).ok().and_then(|size| start.checked_add(size)).filter(|&stop| stop <= limit);
    let stop = stop.ok_or_else(|| wrong("data before the directory for", format!("{size} bytes from byte {start} on")))?;
    let header = usize::try_from(header).expect("a local header was read there");
    Ok((Entry { name: text, header, start, end: stop }, next))
}

/// The ZIP64 field (id 1) among the extra fields; empty when there is none.
fn zip64(mut extra: &[u8]) -> &[u8] {
    while let (Some(id), Some(len)) = (number(extra, 0, 2), number(extra, 2, 2)) {
        let Some((field, rest)) = extra[4..].split_at_checked(len as usize) else { break };
        if id == 1 {
            return field;
        }
        extra = rest;
    }
    &[]
}

/// Checks the local header at `header` against the directory; returns where its data begins.
fn local(bytes: &[u8], header: u64, name: &[u8]) -> Option<usize> {
    let at = usize::try_from(header).ok()?;
    let fixed = bytes.get(at..at.checked_add(LOCAL_LEN)?)?;
    let stored = fixed.starts_with(LOCAL) && number(fixed, 6, 2)? as u16 & ENCRYPTED == 0 && number(fixed, 8, 2)? == 0;
    let (name_len, extra_len) = (number(fixed, 26, 2)? as usize, number(fixed, 28, 2)? as usize);
    let same = bytes.get(at + LOCAL_LEN..at + LOCAL_LEN + name_len)? == name;
    (stored && same).then_some(at + LOCAL_LEN + name_len + extra_len)
}
