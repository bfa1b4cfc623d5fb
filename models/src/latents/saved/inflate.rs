//! Compressed bytes whose length is known before they are unpacked: what a file says beyond what its bytes can hold is refused, and
//! memory for the rest is asked for.

use std::io::Read;

use fcdm_runtime::memory::Need;
use flate2::read::{DeflateDecoder, GzDecoder, ZlibDecoder};

use super::{LatentsError, wrong};

/// A compression that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    /// As in ZIP files.
    Deflate,
    Zlib,
    Gzip,
}

/// Deflate makes at most 1032 bytes of one.
const RATIO: u64 = 1032;

impl Compression {
    /// What `packed` begins with, `length` bytes; a part of `file` called `field`.
    pub fn unpack(self, packed: &[u8], length: usize, file: &str, field: &str) -> Result<Vec<u8>, LatentsError> {
        let bytes = |found: &dyn std::fmt::Display| wrong(file, field, format!("{length} bytes unpacked"), found.to_string());
        let most = (packed.len() as u64).saturating_mul(RATIO);
        if length as u64 > most {
            return Err(bytes(&format!("{} bytes packed, which hold at most {most}", packed.len())));
        }
        let need = Need::of("an array").with("unpacked", length as u64);
        need.reserve().map_err(|source| LatentsError::NoMemory { file: file.to_owned(), source })?;
        let mut unpacked = Vec::with_capacity(length);
        let mut reader: Box<dyn Read + '_> = match self {
            Compression::Deflate => Box::new(DeflateDecoder::new(packed)),
            Compression::Zlib => Box::new(ZlibDecoder::new(packed)),
            Compression::Gzip => Box::new(GzDecoder::new(packed)),
        };
        (&mut reader).take(length as u64).read_to_end(&mut unpacked).map_err(|e| bytes(&e))?;
        if unpacked.len() < length { Err(bytes(&unpacked.len())) } else { Ok(unpacked) }
    }
}
