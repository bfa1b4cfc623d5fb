//! Ops whose result is their operand: they say something to passes and to gradients.

use super::rule;
use super::{Barrier, Cost, OpDef, Share, StopGradient};
use crate::eval::Tensor;
use crate::function::{Builder, Value};
use crate::types::{Type, TypeError};

/// `Op |b, op, dy| cotangent of x`.
macro_rules! identity {
    ($($name:ident |$b:ident, $op:ident, $dy:ident| $g:expr;)*) => {$(
        impl OpDef for $name {
            fn operands(&self) -> &'static [&'static str] {
                &["x"]
            }

            fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
                Ok(vec![x[0].clone()])
            }

            fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
                rule::row_by_row(x)
            }

            fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
                vec![x[0].clone()]
            }

            #[allow(unused_variables)]
            fn grad(&self, $b: &mut Builder, _x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
                let ($op, $dy) = (self, dy[0]);
                vec![$g]
            }

            fn cost(&self, _x: &[&Type], _y: &[&Type]) -> Cost {
                Cost::default()
            }
        }
    )*};
}

identity! {
    Barrier |b, op, dy| Some(dy);
    StopGradient |b, op, dy| None;
}
