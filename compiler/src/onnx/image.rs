//! Ops on images: pooling, resizing, depth to space and back.

use fcdm_ir::Value;
use fcdm_ir::ops::{Add, AvgPool2d, PixelShuffle, Relu, Reshape, Slice, Sub, Transpose, UpsampleNearest};
use fcdm_ir::resample::upsample_bilinear;

use super::conv::padding;
use super::error::{Translated, form, wrong};
use super::import::{Ordered, Translation};
use super::node::Node;

/// Samples, rows, columns, channels.
const IMAGE: [usize; 4] = [0, 2, 3, 1];

impl Translation {
    /// The operand as an image, channels last.
    fn image(&mut self, node: &Node<'_>) -> Translated<Value> {
        let t = self.tensor(node, 0)?;
        if t.order.len() != 4 {
            return form(format!("on {} axes: images have 4", t.order.len()));
        }
        self.arranged(&t, &IMAGE)
    }

    fn picture(&mut self, node: &Node<'_>, v: Value) -> Translated<()> {
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
        let factor = usize::try_from(node.int_or("blocksize", 1)).ok().filter(|f| (1..=1 << 12).contains(f));
        let Some(f) = factor else { return wrong("a block size that is no positive number") };
        let &[n, h, w, c] = &self.b.ty(x).shape[..] else { return wrong("an image without four axes") };
        let y = match (node.op(), node.text_or("mode", "DCR")) {
            ("DepthToSpace", "CRD") => self.one(PixelShuffle { factor: f }, &[x])?,
            ("DepthToSpace", "DCR") if c % (f * f) == 0 => {
                let each = c / (f * f);
                let x = self.one(Reshape { shape: vec![n, h, w, f, f, each] }, &[x])?;
                let x = self.one(Transpose { perm: vec![0, 1, 3, 2, 4, 5] }, &[x])?;
                self.one(Reshape { shape: vec![n, h * f, w * f, each] }, &[x])?
            }
            ("SpaceToDepth", _) if h % f == 0 && w % f == 0 => {
                let x = self.one(Reshape { shape: vec![n, h / f, f, w / f, f, c] }, &[x])?;
                let x = self.one(Transpose { perm: vec![0, 1, 3, 2, 4, 5] }, &[x])?;
                self.one(Reshape { shape: vec![n, h / f, w / f, f * f * c] }, &[x])?
            }
            (_, mode) => return wrong(format!("blocks of {f} for extents {:?} in mode {mode}", [n, c, h, w])),
        };
        self.picture(node, y)
    }

    /// Resize and Upsample, by whole factors.
    pub fn resize(&mut self, node: &Node<'_>) -> Translated<()> {
        let x = self.image(node)?;
        let &[n, h, w, c] = &self.b.ty(x).shape[..] else { return wrong("an image without four axes") };
        let [fh, fw] = self.factors(node, [n, c, h, w])?;
        let transformation =
            node.text_or("coordinate_transformation_mode", if node.op() == "Upsample" { "asymmetric" } else { "half_pixel" });
        let y = match (node.text_or("mode", "nearest"), transformation) {
            ("nearest", kind) => {
                let floor = node.op() == "Upsample" || node.text_or("nearest_mode", "round_prefer_floor") == "floor";
                let exact = match kind {
                    "asymmetric" => floor,
                    "half_pixel" | "pytorch_half_pixel" => node.text_or("nearest_mode", "round_prefer_floor").starts_with("round"),
                    _ => false,
                };
                if !exact || fh != fw {
                    return form("nearest with such coordinates, or factors that differ");
                }
                self.one(UpsampleNearest { factor: fh }, &[x])?
            }
            ("linear", "half_pixel" | "pytorch_half_pixel") => upsample_bilinear(&mut self.b, x, [fh, fw])?,
            (mode, kind) => return form(format!("`{mode}` with `{kind}`: expected nearest, or linear with half_pixel")),
        };
        self.picture(node, y)
    }

    /// How many pixels a pixel becomes, along rows and columns.
    fn factors(&self, node: &Node<'_>, dims: [usize; 4]) -> Translated<[usize; 2]> {
        if node.has("axes") || node.has("antialias") && node.int_or("antialias", 0) != 0 {
            return form("of given axes, or with antialiasing");
        }
        let at = if node.op() == "Upsample" || self.opset < 11 { 1 } else { 2 };
        let scales = self.known(node, at).filter(|c| c.count() == 4).map(|c| c.as_floats().iter().map(|&s| f64::from(s)).collect());
        let sizes = self.known(node, 3).filter(|c| c.count() == 4);
        let from_sizes = || Some(sizes?.as_floats().iter().zip(dims).map(|(&s, d)| f64::from(s) / d as f64).collect::<Vec<f64>>());
        let listed = || node.floats("scales").filter(|s| s.len() == 4).map(|s| s.iter().map(|&s| f64::from(s)).collect());
        let Some(scales) = scales.or_else(from_sizes).or_else(listed) else { return form("to extents that are computed") };
        let whole = |s: f64| (s.fract() == 0.0 && (1.0..=4096.0).contains(&s)).then_some(s as usize);
        match (scales[0], scales[1], whole(scales[2]), whole(scales[3])) {
            (1.0, 1.0, Some(h), Some(w)) => Ok([h, w]),
            _ => form(format!("by factors {scales:?}: expected whole ones of rows and columns")),
        }
    }
}
