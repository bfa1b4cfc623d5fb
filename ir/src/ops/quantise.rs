//! Rounding of rows to codes.

use ndarray::Axis;

use super::rule;
use super::{Cost, OpDef, QuantiseRows, Share};
use crate::eval::Tensor;
use crate::function::{Builder, Value};
use crate::types::{Type, TypeError};

impl OpDef for QuantiseRows {
    fn operands(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        rule::rank_at_least("quantise_rows.1", "x", x[0], 1)?;
        if !matches!(self.bits, 7 | 8) {
            let message = format!("codes must have 7 or 8 bits, found {}", self.bits);
            return Err(TypeError { constraint: "quantise_rows.2", message });
        }
        Ok(vec![x[0].clone()])
    }

    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
        // A vector is one row.
        rule::row_by_row(x).filter(|_| x[0].rank() > 1)
    }

    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
        let mut y = x[0].clone();
        let most = ((1 << self.bits) - 1) as f64;
        let last = Axis(y.ndim() - 1);
        for mut row in y.lanes_mut(last) {
            if row.iter().any(|v| !v.is_finite()) {
                row.fill(f64::NAN);
                continue;
            }
            let least = row.iter().fold(0.0, |a: f64, &v| a.min(v));
            let width = row.iter().fold(0.0, |a: f64, &v| a.max(v)) - least;
            if width == 0.0 {
                continue;
            }
            let rate = most / width;
            let zero = (-least * rate).round_ties_even();
            row.mapv_inplace(|v| (((v * rate).round_ties_even() + zero).clamp(0.0, most) - zero) / rate);
        }
        vec![y]
    }

    fn grad(&self, _: &mut Builder, _: &[Value], _: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
        vec![Some(dy[0])]
    }

    fn cost(&self, x: &[&Type], _: &[&Type]) -> Cost {
        Cost::flops(6 * x[0].count())
    }
}
