//! Resize and Upsample, by whole factors of rows and columns.
//!
//! Where a pixel of the result lies in the operand is said by `coordinate_transformation_mode` since operator set 11. Before, in
//! Upsample and in Resize of set 10, pixel i lies at `i / factor`, which is called asymmetric since, in every mode; nearest then
//! takes the pixel before it.

use std::sync::Arc;

use fcdm_ir::Value;
use fcdm_ir::ops::UpsampleNearest;
use fcdm_ir::resample::{Origin, upsample_bilinear};

use super::constant::Constant;
use super::error::{Translated, form, wrong};
use super::import::Translation;
use super::node::{Node, axis};

/// How the pixels between come about.
enum Method {
    /// Every pixel is repeated.
    Repeated,
    Linear(Origin),
}

impl Translation {
    pub fn resize(&mut self, node: &Node<'_>) -> Translated<()> {
        let x = self.image(node)?;
        let &[n, h, w, c] = &self.b.ty(x).shape[..] else { return wrong("an image without four axes") };
        let factors = self.factors(node, [n, c, h, w])?;
        let method = self.method(node)?;
        let y = self.enlarged(x, factors, method)?;
        self.picture(node, y)
    }

    fn enlarged(&mut self, x: Value, [rows, columns]: [usize; 2], method: Method) -> Translated<Value> {
        match method {
            Method::Repeated if rows == columns => self.one(UpsampleNearest { factor: rows }, &[x]),
            Method::Repeated => form(format!("nearest by factors {rows} and {columns} that differ")),
            Method::Linear(origin) => Ok(upsample_bilinear(&mut self.b, x, [rows, columns], origin)?),
        }
    }

    fn method(&self, node: &Node<'_>) -> Translated<Method> {
        // They are for cubic interpolation and for cropping, which are refused.
        node.passed_over(&["cubic_coeff_a", "extrapolation_value"]);
        let mode = node.text_or("mode", "nearest");
        let (place, rounding) = match node.op() == "Upsample" || self.opset < 11 {
            true => ("asymmetric", "floor"),
            false => (
                node.text_or("coordinate_transformation_mode", "half_pixel"),
                // Linear interpolation rounds nothing; exporters say how nevertheless.
                node.text_or("nearest_mode", "round_prefer_floor"),
            ),
        };
        let halves = ["half_pixel", "pytorch_half_pixel"].contains(&place);
        match (mode, place, rounding) {
            ("nearest", "asymmetric", "floor") => Ok(Method::Repeated),
            // Of a whole factor's phases none lies as far as half a pixel from the centre.
            ("nearest", _, "round_prefer_floor" | "round_prefer_ceil") if halves => Ok(Method::Repeated),
            ("linear", "asymmetric", _) => Ok(Method::Linear(Origin::FirstPhase)),
            ("linear", _, _) if halves => Ok(Method::Linear(Origin::Centre)),
            _ => form(format!(
                "mode {mode} with coordinates {place} and rounding {rounding}: expected nearest with half_pixel rounded or asymmetric \
                 with floor, or linear with either of them"
            )),
        }
    }

    /// How many pixels a pixel becomes, along rows and columns.
    fn factors(&self, node: &Node<'_>, dims: [usize; 4]) -> Translated<[usize; 2]> {
        let axes = match node.ints("axes") {
            Some(list) => list.iter().map(|&a| axis(a, 4)).collect::<Translated<Vec<usize>>>()?,
            None => vec![0, 1, 2, 3],
        };
        let mut factors = [1.0; 4];
        for (&a, factor) in axes.iter().zip(self.listed_factors(node, &axes, dims)?) {
            factors[a] = factor;
        }
        let whole = |s: f64| (s.fract() == 0.0 && (1.0..=4096.0).contains(&s)).then_some(s as usize);
        match (factors[0], factors[1], whole(factors[2]), whole(factors[3])) {
            (1.0, 1.0, Some(h), Some(w)) => Ok([h, w]),
            _ => form(format!("by factors {factors:?}: expected whole ones of rows and columns")),
        }
    }

    /// The factors that are given, or follow from extents that are, one for every axis of `axes`.
    fn listed_factors(&self, node: &Node<'_>, axes: &[usize], dims: [usize; 4]) -> Translated<Vec<f64>> {
        let (scales, sizes) = match node.op() {
            "Upsample" => (self.factor_operand(node, 1)?, None),
            _ if self.opset < 11 => (self.factor_operand(node, 1)?, None),
            _ => (self.factor_operand(node, 2)?, self.factor_operand(node, 3)?),
        };
        let wide = |list: &[f32]| list.iter().map(|&s| f64::from(s)).collect::<Vec<f64>>();
        let factors = match (node.floats("scales"), scales, sizes) {
            (Some(list), None, None) => wide(list),
            (None, Some(scales), None) => wide(&scales.as_floats()),
            (None, None, Some(sizes)) => sizes.as_floats().iter().zip(axes).map(|(&s, &a)| f64::from(s) / dims[a] as f64).collect(),
            _ => return wrong("expected either factors or extents"),
        };
        if factors.len() != axes.len() {
            return wrong(format!("expected {} factors or extents, found {}", axes.len(), factors.len()));
        }
        Ok(factors)
    }

    /// An operand that may be left out, or be empty, which is the same.
    fn factor_operand(&self, node: &Node<'_>, i: usize) -> Translated<Option<Arc<Constant>>> {
        match (node.operand(i), self.known(node, i)) {
            (None, _) => Ok(None),
            (Some(_), None) => form("to extents that are computed"),
            (Some(_), Some(c)) => Ok(Some(c).filter(|c| c.count() > 0)),
        }
    }
}
