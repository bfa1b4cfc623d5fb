//! Ops on images: pooling, depth to space and back.

use fcdm_ir::Value;
use fcdm_ir::ops::{Add, AvgPool2d, PixelShuffle, Relu, Reshape, Slice, Sub, Transpose};

use super::conv::padding;
use super::error::{Translated, form, wrong};
use super::import::{Ordered, Translation};
use super::node::Node;

/// Samples, rows, columns, channels.
const IMAGE: [usize; 4] = [0, 2, 3, 1];

impl Translation {
    /// The operand as an image, channels last.
    pub fn image(&mut self, node: &Node<'_>) -> Translated<Value> {
        let t = self.tensor(node, 0)?;
        if t.order.len() != 4 {
            return form(format!("on {} axes: images have 4", t.order.len()));
        }
        self.arranged(&t, &IMAGE)
    }

    pub fn picture(&mut self, node: &Node<'_>, v: Value) -> Translated<()> {
        self.define(node, Ordered { v, order: IMAGE.to_vec() })
    }

    /// Pooling over tiles that neither overlap nor are padded.
    pub fn pool(&mut self, node: &Node<'_>) -> Translated<()> {
        let x = self.image(node)?;
        let kernel = node.counts::<2>("kernel_shape", 0)?;
        let size = kernel[0];
        let tiles =
            kernel == [size; 2] && node.counts::<2>("strides", 1)? == kernel && size > 0 && node.counts::<2>("dilations", 1)? == [1, 1];
        let &[_, h, w, _] = &self.b.ty(x).shape[..] else { return wrong("an image without four axes") };
        if !tiles || padding(node, [h, w], kernel, size.max(1))? != [0; 4] {
            return form("over other windows than tiles: expected strides equal to the kernel and no padding");
        }
        // There is no padding to be counted, and no order of indices where these are no result.
        node.passed_over(&["count_include_pad", "storage_order"]);
        if node.int_or("ceil_mode", 0) != 0 && (h % size != 0 || w % size != 0) {
            return form("with a last tile that is cut off");
        }
        if node.results().len() > 1 && !node.results()[1].is_empty() {
            return form("with indices as a result");
        }
        let x = self.one(Slice { axis: 1, start: 0, len: h / size * size }, &[x])?;
        let x = self.one(Slice { axis: 2, start: 0, len: w / size * size }, &[x])?;
        let y = if node.op() == "MaxPool" { self.max_of_tiles(x, size)? } else { self.one(AvgPool2d { size }, &[x])? };
        self.picture(node, y)
    }

    /// `max(a, b) = a + relu(b - a)`, over the pixels of a tile.
    fn max_of_tiles(&mut self, x: Value, size: usize) -> Translated<Value> {
        let &[n, h, w, c] = &self.b.ty(x).shape[..] else { return wrong("an image without four axes") };
        let (rows, columns) = (h / size, w / size);
        let x = self.one(Reshape { shape: vec![n * rows, size, columns, size, c] }, &[x])?;
        let mut most: Option<Value> = None;
        for at in 0..size * size {
            let row = self.one(Slice { axis: 1, start: at / size, len: 1 }, &[x])?;
            let pixel = self.one(Slice { axis: 3, start: at % size, len: 1 }, &[row])?;
            most = Some(match most {
                None => pixel,
                Some(most) => {
                    let more = self.one(Sub {}, &[pixel, most])?;
                    let more = self.one(Relu {}, &[more])?;
                    self.one(Add {}, &[most, more])?
                }
            });
        }
        let Some(most) = most else { return wrong("a kernel of 0") };
        self.one(Reshape { shape: vec![n, rows, columns, c] }, &[most])
    }

    /// Depth to space, and back, by PyTorch's order of channels (CRD) or TensorFlow's (DCR).
    pub fn depth_to_space(&mut self, node: &Node<'_>) -> Translated<()> {
        let x = self.image(node)?;
        let size = node.required_int("blocksize")?;
        let Some(f) = usize::try_from(size).ok().filter(|f| (1..=1 << 12).contains(f)) else {
            return wrong(format!("attribute `blocksize`: expected 1 to 4096, found {size}"));
        };
        let &[n, h, w, c] = &self.b.ty(x).shape[..] else { return wrong("an image without four axes") };
        let (mode, divides) = (node.text_or("mode", "DCR"), h % f == 0 && w % f == 0);
        let (tiles, perm, shape) = match (node.op(), mode) {
            ("DepthToSpace", "CRD") => {
                let y = self.one(PixelShuffle { factor: f }, &[x])?;
                return self.picture(node, y);
            }
            ("DepthToSpace", "DCR") if c % (f * f) == 0 => {
                let each = c / (f * f);
                (vec![n, h, w, f, f, each], vec![0, 1, 3, 2, 4, 5], vec![n, h * f, w * f, each])
            }
            ("SpaceToDepth", "DCR") if divides => {
                (vec![n, h / f, f, w / f, f, c], vec![0, 1, 3, 2, 4, 5], vec![n, h / f, w / f, f * f * c])
            }
            ("SpaceToDepth", "CRD") if divides => {
                (vec![n, h / f, f, w / f, f, c], vec![0, 1, 3, 5, 2, 4], vec![n, h / f, w / f, f * f * c])
            }
            (_, "DCR" | "CRD") => return wrong(format!("blocks of {f} for extents {:?}", [n, c, h, w])),
            (_, mode) => return wrong(format!("attribute `mode`: expected DCR or CRD, found {mode}")),
        };
        let y = self.one(Reshape { shape: tiles }, &[x])?;
        let y = self.one(Transpose { perm }, &[y])?;
        let y = self.one(Reshape { shape }, &[y])?;
        self.picture(node, y)
    }
}
