//! Whether a JPEG file has its end. Decoders fill up what is missing with grey; a photograph that was cut in copying is better left out.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

/// Start of an image, and its end. These have no length, and neither have `0x01` and `0xd0` to `0xd7`.
const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;

/// Whether the file's image ends with an end of image, as ISO/IEC 10918-1 annex B has it. What follows it does not matter.
///
/// # Errors
/// When the file cannot be read.
pub fn is_whole(path: &Path) -> io::Result<bool> {
    match walk(&mut BufReader::with_capacity(1 << 16, File::open(path)?)) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

/// From marker to marker; the end of the file is an error.
fn walk(file: &mut (impl Read + Seek)) -> io::Result<()> {
    loop {
        match marker(file)? {
            EOI => return Ok(()),
            0x00 | 0x01 | SOI | 0xd0..=0xd7 => {}
            // The data of a scan follow its header; in them 0xff is followed by 0, or by a restart marker.
            _ => {
                let mut length = [0; 2];
                file.read_exact(&mut length)?;
                file.seek_relative(i64::from(u16::from_be_bytes(length)).max(2) - 2)?;
            }
        }
    }
}

/// The code after the next 0xff.
fn marker(file: &mut impl Read) -> io::Result<u8> {
    let mut byte = [0];
    while byte[0] != 0xff {
        file.read_exact(&mut byte)?;
    }
    // Any number of 0xff may stand before a code.
    while byte[0] == 0xff {
        file.read_exact(&mut byte)?;
    }
    Ok(byte[0])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_end_is_found_where_it_is_one() {
        let whole = |bytes: &[u8]| walk(&mut io::Cursor::new(bytes)).is_ok();
        // A segment that holds the code of an end, a scan with a stuffed byte and a restart, the end, and more.
        let jpeg = b"\xff\xd8\xff\xe1\x00\x06\xff\xd9ab\xff\xda\x00\x02data\xff\x00more\xff\xd0last\xff\xd9beyond";
        assert!(whole(jpeg));
        for cut in 0..jpeg.len() - 6 {
            assert!(!whole(&jpeg[..cut]), "cut at {cut}");
        }
        assert!(!whole(b"\xff\xd8\xff\xda\x00\x02\xff\xff"));
    }
}
