//! Formats of pictures, by their first bytes: those that are read, and those that people have and that are not.

use std::fmt;

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PictureFormat {
    Png,
    Jpeg,
    WebP,
    Bmp,
    Gif,
    Tiff,
    Avif,
    Heic,
    JpegXl,
    Jpeg2000,
    Photoshop,
    OpenExr,
    Svg,
}

use PictureFormat::*;

impl PictureFormat {
    /// The format of a file that begins so.
    pub fn of(start: &[u8]) -> Option<PictureFormat> {
        Some(match start {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', ..] => Png,
            [0xff, 0xd8, 0xff, ..] => Jpeg,
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => WebP,
            // The length of the file, and two fields that are zero.
            [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => Bmp,
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Gif,
            [b'I', b'I', b'*' | b'+', 0, ..] | [b'M', b'M', 0, b'*' | b'+', ..] => Tiff,
            [0xff, 0x0a, ..] | [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] => JpegXl,
            [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] | [0xff, 0x4f, 0xff, 0x51, ..] => Jpeg2000,
            [b'8', b'B', b'P', b'S', ..] => Photoshop,
            [0x76, 0x2f, 0x31, 0x01, ..] => OpenExr,
            [_, _, _, _, b'f', b't', b'y', b'p', brands @ ..] => return of_brands(start, brands),
            _ => return None,
        })
    }

    /// Whether its pixels are read.
    pub fn is_read(self) -> bool {
        matches!(self, Png | Jpeg | WebP | Bmp | Gif | Tiff)
    }
}

/// Of files in ISO's base format the first brand says what it is; the general ones, what others it is compatible with.
fn of_brands(start: &[u8], brands: &[u8]) -> Option<PictureFormat> {
    let length = u32::from_be_bytes(start[..4].try_into().ok()?) as usize;
    let (brands, _) = brands[..brands.len().min(length.saturating_sub(8))].as_chunks::<4>();
    let format = |brand: &[u8; 4]| match brand {
        b"avif" | b"avis" => Some(Avif),
        b"heic" | b"heix" | b"hevc" | b"heim" | b"heis" | b"hevm" | b"hevs" => Some(Heic),
        _ => None,
    };
    match brands.first()? {
        b"mif1" | b"msf1" | b"miaf" => brands.iter().find_map(format).or(Some(Heic)),
        brand => format(brand),
    }
}

impl fmt::Display for PictureFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Png => "PNG",
            Jpeg => "JPEG",
            WebP => "WebP",
            Bmp => "BMP",
            Gif => "GIF",
            Tiff => "TIFF",
            Avif => "AVIF",
            Heic => "HEIC",
            JpegXl => "JPEG XL",
            Jpeg2000 => "JPEG 2000",
            Photoshop => "Photoshop",
            OpenExr => "OpenEXR",
            Svg => "SVG",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brands() {
        assert_eq!(PictureFormat::of(b"\0\0\0\x1cftypavif\0\0\0\0mif1"), Some(Avif));
        assert_eq!(PictureFormat::of(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf"), Some(Avif));
        assert_eq!(PictureFormat::of(b"\0\0\0\x18ftypheic"), Some(Heic));
        assert_eq!(PictureFormat::of(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic"), Some(Heic));
        assert_eq!(PictureFormat::of(b"\0\0\0\x18ftypisom"), None);
        for length in 0..12 {
            PictureFormat::of(&b"\0\0\0\x18ftypmif1"[..length]);
        }
    }
}
