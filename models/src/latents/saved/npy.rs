//! The `.npy` format (NumPy Enhancement Proposal 1), versions 1 to 3: a header that is a Python dict of three keys, then the elements.
//! Arrays of pickled objects and of structures are refused, both orders of axes are read.

use std::path::Path;

use fcdm_runtime::mapped::MappedFile;

use super::array::Layout;
use super::{LatentsError, Opened, Source, Wanted, wrong};

/// Longest header that is read; NumPy's own limit is 10,000.
const HEADER: usize = 1 << 16;

/// Most axes that are listed.
const RANK: usize = 8;

/// What a header says. Parts of it that are not as expected come as field, expected and found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// NumPy's name of the elements' type.
    descr: String,
    fortran: bool,
    pub shape: Vec<usize>,
    /// Where the elements begin.
    pub data: usize,
}

/// Field, expected, found.
pub(super) type Wrong = (&'static str, String, String);

impl Header {
    /// Reads the header at the beginning of a file.
    pub fn parse(bytes: &[u8]) -> Result<Header, Wrong> {
        let cut = || ("header", "a whole header".to_owned(), format!("a file of {} bytes", bytes.len()));
        let (start, length) = match bytes.get(6).ok_or_else(cut)? {
            1 => (10, bytes.get(8..10).map(|b| usize::from(u16::from_le_bytes([b[0], b[1]])))),
            2 | 3 => (12, bytes.get(8..12).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize)),
            version => return Err(("version", "1 to 3".into(), version.to_string())),
        };
        let length = length.ok_or_else(cut)?;
        if length > HEADER {
            return Err(("header", format!("at most {HEADER} bytes"), length.to_string()));
        }
        let text = bytes.get(start..start + length).ok_or_else(cut)?;
        let text = std::str::from_utf8(text).map_err(|_| ("header", "text".into(), "other bytes".into()))?;
        let (descr, fortran, shape) = Text(text).dict()?;
        Ok(Header { descr, fortran, shape, data: start + length })
    }

    /// How what is wanted lies in the elements, of which there are enough in `available` bytes.
    pub fn layout(&self, wanted: Wanted, available: usize) -> Result<Layout, Wrong> {
        let element = wanted.element(&self.descr).ok_or_else(|| ("descr", wanted.elements().into(), format!("`{}`", self.descr)))?;
        let (n, [c, h, w]) = wanted.parts(&self.shape).ok_or_else(|| ("shape", wanted.shapes().into(), format!("{:?}", self.shape)))?;
        let layout = Layout::new(element, [n, c, h, w], self.fortran).filter(|layout| layout.bytes() <= available);
        layout.ok_or_else(|| ("shape", format!("one that fits the file's {available} bytes of elements"), format!("{:?}", self.shape)))
    }
}

/// What is left of a header's text.
struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    fn dict(mut self) -> Result<(String, bool, Vec<usize>), Wrong> {
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        self.token("{")?;
        while !self.eat("}") {
            let key = self.quoted()?;
            self.token(":")?;
            match key {
                "descr" => descr = Some(self.descr()?),
                "fortran_order" if self.eat("True") => fortran = Some(true),
                "fortran_order" => {
                    self.token("False")?;
                    fortran = Some(false);
                }
                "shape" => shape = Some(self.shape()?),
                _ => return Err(self.wrong("descr, fortran_order and shape")),
            }
            // The last may be followed by a comma too.
            if !self.eat(",") {
                self.token("}")?;
                break;
            }
        }
        let missing = |key: &'static str| (key, "in the header".to_owned(), "none".to_owned());
        Ok((
            descr.ok_or_else(|| missing("descr"))?,
            fortran.ok_or_else(|| missing("fortran_order"))?,
            shape.ok_or_else(|| missing("shape"))?,
        ))
    }

    fn descr(&mut self) -> Result<String, Wrong> {
        self.skip();
        match self.0.starts_with(['[', '(']) {
            true => Err(("descr", Wanted::LATENTS.elements().into(), "a structure".into())),
            false => self.quoted().map(str::to_owned),
        }
    }

    fn shape(&mut self) -> Result<Vec<usize>, Wrong> {
        let mut shape = Vec::new();
        self.token("(")?;
        while !self.eat(")") {
            self.skip();
            // Python 2 wrote long integers with an L.
            let digits = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
            let extent = self.0[..digits].parse().ok().filter(|_| shape.len() < RANK);
            shape.push(extent.ok_or_else(|| self.wrong("extents"))?);
            self.0 = &self.0[digits..];
            self.eat("L");
            if !self.eat(",") {
                self.token(")")?;
                break;
            }
        }
        Ok(shape)
    }

    fn quoted(&mut self) -> Result<&'a str, Wrong> {
        self.skip();
        let quote = self.0.chars().next().filter(|c| matches!(c, '\'' | '"')).ok_or_else(|| self.wrong("a string"))?;
        let (text, rest) = self.0[1..].split_once(quote).ok_or_else(|| self.wrong("a whole string"))?;
        if text.len() > 64 || text.chars().any(char::is_control) {
            return Err(self.wrong("a short string"));
        }
        self.0 = rest;
        Ok(text)
    }

    fn token(&mut self, token: &str) -> Result<(), Wrong> {
        if self.eat(token) { Ok(()) } else { Err(self.wrong(&format!("`{token}`"))) }
    }

    fn eat(&mut self, token: &str) -> bool {
        self.skip();
        self.0.strip_prefix(token).inspect(|rest| self.0 = rest).is_some()
    }

    fn skip(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\n', '\t', '\r']);
    }

    fn wrong(&self, expected: &str) -> Wrong {
        let found: String = self.0.chars().take(24).flat_map(char::escape_default).collect();
        ("header", expected.to_owned(), format!("`{found}`"))
    }
}

/// A file of one array.
pub(super) struct Npy {
    map: MappedFile,
    data: usize,
    layout: Layout,
}

impl Npy {
    /// Opens a file, whose header is checked against its length.
    pub fn open(path: &Path, wanted: Wanted) -> Result<Npy, LatentsError> {
        let file = || path.display().to_string();
        let map = MappedFile::open(path).map_err(|source| LatentsError::Read { file: file(), source })?;
        let field = |(field, expected, found): Wrong| wrong(&file(), field, expected, found);
        if !map.bytes().starts_with(b"\x93NUMPY") {
            return Err(wrong(&file(), "header", "a NumPy array", "another kind of file"));
        }
        let header = Header::parse(map.bytes()).map_err(field)?;
        let layout = header.layout(wanted, map.bytes().len() - header.data).map_err(field)?;
        Ok(Npy { data: header.data, layout, map })
    }

    /// Number and shape of latents.
    pub fn shape(&self) -> [usize; 4] {
        self.layout.shape
    }

    /// A latent's values.
    pub fn values(&self, index: usize) -> Vec<f32> {
        self.layout.read(&self.map.bytes()[self.data..], index)
    }
}

impl Source for Npy {
    fn count(&self) -> usize {
        self.layout.shape[0]
    }

    fn read(&mut self, index: usize) -> Result<Vec<f32>, LatentsError> {
        Ok(self.values(index))
    }
}

pub(super) fn open(path: &Path, wanted: Wanted) -> Result<Opened, LatentsError> {
    let npy = Npy::open(path, wanted)?;
    let [_, c, h, w] = npy.shape();
    Ok(Opened { source: Box::new(npy), shape: [c, h, w], note: None })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn header(text: &str) -> Vec<u8> {
        [b"\x93NUMPY\x01\0", &(text.len() as u16).to_le_bytes()[..], text.as_bytes()].concat()
    }

    #[test]
    fn headers() {
        let parsed = Header::parse(&header("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 4, 8, 8), }   \n")).unwrap();
        assert_eq!((parsed.descr.as_str(), parsed.fortran, &parsed.shape[..]), ("<f4", false, &[1, 4, 8, 8][..]));
        let parsed = Header::parse(&header("{\"shape\":(3L,),\"fortran_order\":True,\"descr\":\"|O\"}")).unwrap();
        assert_eq!((parsed.descr.as_str(), parsed.fortran, &parsed.shape[..]), ("|O", true, &[3][..]));
        for (text, field) in [
            ("", "header"),
            ("{", "header"),
            ("{'descr': [('a', '<f4')], ", "descr"),
            ("{'descr': '<f4', 'fortran_order': False}", "shape"),
            ("{'descr': '<f4', 'fortran_order': Maybe}", "header"),
            ("{'shape': (99999999999999999999,)}", "header"),
            ("{'shape': (1,1,1,1,1,1,1,1,1)}", "header"),
            ("{'shape': (-1,)}", "header"),
            ("{'x': 1}", "header"),
        ] {
            assert_eq!(Header::parse(&header(text)).unwrap_err().0, field, "{text}");
        }
        for length in 0..12 {
            assert!(Header::parse(&b"\x93NUMPY\x02\0\xff\xff\xff\xff"[..length]).is_err());
        }
    }
}
