//! Elements of arrays as NumPy and zarr store them, and the latents among them.

use half::f16;

/// What elements are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element {
    /// Bytes: 1, 2, 4 or 8.
    pub size: usize,
    kind: Kind,
    big_endian: bool,
}

/// What the bytes of an element are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// f16, f32 or f64.
    Float,
    Signed,
    Unsigned,
}

impl Element {
    /// By NumPy's name of it, such as `<f4`.
    pub fn named(descr: &str) -> Option<Element> {
        let (order, rest) = descr.split_at_checked(1)?;
        let (kind, size) = match rest {
            "f2" => (Kind::Float, 2),
            "f4" => (Kind::Float, 4),
            "f8" => (Kind::Float, 8),
            "i1" => (Kind::Signed, 1),
            "i2" => (Kind::Signed, 2),
            "i4" => (Kind::Signed, 4),
            "i8" => (Kind::Signed, 8),
            "u1" => (Kind::Unsigned, 1),
            "u2" => (Kind::Unsigned, 2),
            "u4" => (Kind::Unsigned, 4),
            "u8" => (Kind::Unsigned, 8),
            _ => return None,
        };
        let big_endian = match order {
            "<" => false,
            ">" => true,
            "=" => cfg!(target_endian = "big"),
            // Of one byte there is no order.
            "|" if size == 1 => false,
            _ => return None,
        };
        Some(Element { size, kind, big_endian })
    }

    /// Whether it is a whole number.
    pub fn is_integer(self) -> bool {
        self.kind != Kind::Float
    }

    /// The element at the beginning of `bytes`; f64 and large whole numbers are rounded to nearest.
    fn value(self, bytes: &[u8]) -> f32 {
        let mut word = [0u8; 8];
        word[..self.size].copy_from_slice(&bytes[..self.size]);
        if self.big_endian {
            word[..self.size].reverse();
        }
        let [a, b, c, d, ..] = word;
        let unused = 64 - 8 * self.size;
        match self.size {
            _ if self.kind == Kind::Unsigned => u64::from_le_bytes(word) as f32,
            _ if self.kind == Kind::Signed => (i64::from_le_bytes(word) << unused >> unused) as f32,
            2 => f16::from_le_bytes([a, b]).to_f32(),
            4 => f32::from_le_bytes([a, b, c, d]),
            _ => f64::from_le_bytes(word) as f32,
        }
    }
}

/// How an array of latents `[n,C,h,w]` lies in its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub element: Element,
    pub shape: [usize; 4],
    /// Elements between neighbours along each axis.
    strides: [usize; 4],
}

impl Layout {
    /// Of an array whose last axis runs fastest, or, in Fortran's order, its first. `None` if it has more bytes than can be counted.
    pub fn new(element: Element, shape: [usize; 4], fortran: bool) -> Option<Layout> {
        shape.iter().try_fold(element.size, |n, &extent| n.checked_mul(extent.max(1)))?;
        let mut strides = [1; 4];
        let order = if fortran { [0, 1, 2, 3] } else { [3, 2, 1, 0] };
        for pair in order.windows(2) {
            strides[pair[1]] = strides[pair[0]] * shape[pair[0]];
        }
        Some(Layout { element, shape, strides })
    }

    /// Bytes of all of it.
    pub fn bytes(&self) -> usize {
        self.element.size * self.shape.iter().product::<usize>()
    }

    /// Puts a latent's values, from the first of each axis up to `part`, where they belong in `[C,h,w]`: `at` is the first of them there
    /// and `whole` its extents.
    ///
    /// # Panics
    /// If `bytes` are fewer than [`Layout::bytes`], or the part is not inside.
    pub fn read_into(&self, bytes: &[u8], index: usize, part: [usize; 3], values: &mut [f32], at: [usize; 3], whole: [usize; 3]) {
        let [sn, sc, sh, sw] = self.strides;
        for c in 0..part[0] {
            for y in 0..part[1] {
                let from = index * sn + c * sc + y * sh;
                let to = ((at[0] + c) * whole[1] + at[1] + y) * whole[2] + at[2];
                for (x, value) in values[to..to + part[2]].iter_mut().enumerate() {
                    *value = self.element.value(&bytes[(from + x * sw) * self.element.size..]);
                }
            }
        }
    }

    /// A latent's values, `[C,h,w]`.
    ///
    /// # Panics
    /// As [`Layout::read_into`].
    pub fn read(&self, bytes: &[u8], index: usize) -> Vec<f32> {
        let [_, c, h, w] = self.shape;
        let mut values = vec![0.0; c * h * w];
        self.read_into(bytes, index, [c, h, w], &mut values, [0; 3], [c, h, w]);
        values
    }
}
