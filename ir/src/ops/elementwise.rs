//! Constants and elementwise ops. One line per op: formula, then the cotangent of the operand in plain ops.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI};

use ndarray::Zip;

use super::rule;
use super::{
    Add, Clamp, Cos, Cost, Div, DivNoNan, Erf, Exp, Fill, Gelu, LeakyRelu, Log, Mul, Neg, Offset, OpDef, Relu, Scale, Share, Sigmoid, Silu,
    Sin, Sqrt, Step, Sub, Tanh,
};
use crate::eval::Tensor;
use crate::function::{Builder, Value};
use crate::types::{Type, TypeError, ensure};

impl OpDef for Fill {
    fn operands(&self) -> &'static [&'static str] {
        &[]
    }

    fn infer(&self, _x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        let representable = self.dtype.is_float() || f64::from(self.value as i32) == self.value;
        ensure!("fill.1", representable, "an i32 cannot hold {:?}", self.value);
        Ok(vec![Type::new(self.dtype, self.shape.clone())])
    }

    fn rows(&self, _x: &[&Type]) -> Option<Vec<Share>> {
        Some(Vec::new())
    }

    fn eval(&self, _x: &[&Tensor]) -> Vec<Tensor> {
        vec![Tensor::from_elem(self.shape.clone(), self.value)]
    }

    fn grad(&self, _b: &mut Builder, _x: &[Value], _y: &[Value], _dy: &[Value]) -> Vec<Option<Value>> {
        Vec::new()
    }

    fn cost(&self, _x: &[&Type], _y: &[&Type]) -> Cost {
        Cost::default()
    }
}

/// `Op "constraint"  |op, x| value  |b, op, x, y, dy| cotangent of x  flops per element`. The constraint is that x is float.
macro_rules! unary {
    ($($name:ident $constraint:literal
        |$op:ident, $v:ident| $f:expr, |$b:ident, $gop:ident, $x:ident, $y:ident, $dy:ident| $g:expr, $flops:literal
        $(, require $c2:literal |$rop:ident| $cond:expr, $text:literal)?;)*) => {$(
        impl OpDef for $name {
            fn operands(&self) -> &'static [&'static str] {
                &["x"]
            }

            fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
                rule::float($constraint, "x", x[0])?;
                $( let $rop = self; ensure!($c2, $cond, "{}, found `{}`", $text, super::Op::from(self.clone())); )?
                Ok(vec![x[0].clone()])
            }

            fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
                rule::row_by_row(x)
            }

            fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
                let $op = self;
                vec![x[0].mapv(|$v| $f)]
            }

            #[allow(unused_variables)]
            fn grad(&self, $b: &mut Builder, x: &[Value], y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
                let ($gop, $x, $y, $dy) = (self, x[0], y[0], dy[0]);
                vec![$g]
            }

            fn cost(&self, _x: &[&Type], y: &[&Type]) -> Cost {
                Cost::flops($flops * y[0].count())
            }
        }
    )*};
}

unary! {
    Neg "neg.1" |_op, x| -x, |b, op, x, y, dy| Some(b.one(Neg {}, &[dy])), 1;
    Scale "scale.1" |op, x| op.by * x, |b, op, x, y, dy| Some(b.one(op.clone(), &[dy])), 1;
    Offset "offset.1" |op, x| x + op.by, |b, op, x, y, dy| Some(dy), 1;
    Exp "exp.1" |_op, x| x.exp(), |b, op, x, y, dy| Some(b.one(Mul {}, &[dy, y])), 1;
    Log "log.1" |_op, x| x.ln(), |b, op, x, y, dy| Some(b.one(Div {}, &[dy, x])), 1;
    Sqrt "sqrt.1" |_op, x| x.sqrt(), |b, op, x, y, dy| Some(sqrt_grad(b, y, dy)), 1;
    Erf "erf.1" |_op, x| erf(x), |b, op, x, y, dy| Some(erf_grad(b, x, dy)), 1;
    Sigmoid "sigmoid.1" |_op, x| sigmoid(x), |b, op, x, y, dy| Some(sigmoid_grad(b, y, dy)), 3;
    Silu "silu.1" |_op, x| x * sigmoid(x), |b, op, x, y, dy| Some(silu_grad(b, x, y, dy)), 4;
    Gelu "gelu.1" |_op, x| 0.5 * x * (1.0 + erf(x * FRAC_1_SQRT_2)), |b, op, x, y, dy| Some(gelu_grad(b, x, dy)), 5;
    Tanh "tanh.1" |_op, x| x.tanh(), |b, op, x, y, dy| Some(tanh_grad(b, y, dy)), 1;
    Cos "cos.1" |_op, x| x.cos(), |b, op, x, y, dy| Some(cos_grad(b, x, dy)), 1;
    Sin "sin.1" |_op, x| x.sin(), |b, op, x, y, dy| Some(sin_grad(b, x, dy)), 1;
    Relu "relu.1" |_op, x| if x < 0.0 { 0.0 } else { x }, |b, op, x, y, dy| Some(above_zero(b, x, dy)), 1;
    LeakyRelu "leaky_relu.1" |op, x| if x > 0.0 { x } else { op.slope * x },
        |b, op, x, y, dy| Some(leaky_relu_grad(b, op.slope, x, dy)), 2;
    Clamp "clamp.1" |op, x| x.clamp(op.min, op.max), |b, op, x, y, dy| Some(clamp_grad(b, op, x, dy)), 2,
        require "clamp.2" |op| op.min <= op.max, "min must not exceed max";
    Step "step.1" |_op, x| f64::from(x > 0.0), |b, op, x, y, dy| None, 1;
}

/// `Op "constraint" "constraint"  |a, b| value  |build, a, b, y, dy| [cotangent of a, of b]`. The constraints are that the
/// types are equal and that they are float.
macro_rules! binary {
    ($($name:ident $equal:literal $float:literal |$a:ident, $c:ident| $f:expr,
        |$b:ident, $ga:ident, $gc:ident, $y:ident, $dy:ident| $g:expr, $flops:literal;)*) => {$(
        impl OpDef for $name {
            fn operands(&self) -> &'static [&'static str] {
                &["a", "b"]
            }

            fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
                ensure!($equal, x[0] == x[1], "operands differ: {} vs {}", x[0], x[1]);
                rule::float($float, "a", x[0])?;
                Ok(vec![x[0].clone()])
            }

            fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
                rule::row_by_row(x)
            }

            fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
                vec![Zip::from(x[0]).and(x[1]).map_collect(|&$a, &$c| $f)]
            }

            #[allow(unused_variables)]
            fn grad(&self, $b: &mut Builder, x: &[Value], y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
                let ($ga, $gc, $y, $dy) = (x[0], x[1], y[0], dy[0]);
                $g.into_iter().map(Some).collect()
            }

            fn cost(&self, _x: &[&Type], y: &[&Type]) -> Cost {
                Cost::flops($flops * y[0].count())
            }
        }
    )*};
}

binary! {
    Add "add.1" "add.2" |a, b| a + b, |_build, a, b, y, dy| [dy, dy], 1;
    Sub "sub.1" "sub.2" |a, b| a - b, |build, a, b, y, dy| [dy, build.one(Neg {}, &[dy])], 1;
    Mul "mul.1" "mul.2" |a, b| a * b, |build, a, b, y, dy| [build.one(Mul {}, &[dy, b]), build.one(Mul {}, &[dy, a])], 1;
    Div "div.1" "div.2" |a, b| a / b, |build, a, b, y, dy| quotient_grad(build, Div {}, b, y, dy), 1;
    DivNoNan "div_no_nan.1" "div_no_nan.2" |a, b| if b == 0.0 { 0.0 } else { a / b },
        |build, a, b, y, dy| quotient_grad(build, DivNoNan {}, b, y, dy), 2;
}

/// `y = a/b`: `da = dy/b`, `db = -(dy/b) y`.
fn quotient_grad(build: &mut Builder, op: impl Into<super::Op>, b: Value, y: Value, dy: Value) -> [Value; 2] {
    let da = build.one(op, &[dy, b]);
    let product = build.one(Mul {}, &[da, y]);
    [da, build.one(Neg {}, &[product])]
}

/// `dy / (2 y)`, 0 where y = 0.
fn sqrt_grad(b: &mut Builder, y: Value, dy: Value) -> Value {
    let quotient = b.one(DivNoNan {}, &[dy, y]);
    b.one(Scale { by: 0.5 }, &[quotient])
}

/// `factor * exp(-rate x^2)`.
fn gaussian(b: &mut Builder, x: Value, rate: f64, factor: f64) -> Value {
    let square = b.one(Mul {}, &[x, x]);
    let exponent = b.one(Scale { by: -rate }, &[square]);
    let bell = b.one(Exp {}, &[exponent]);
    b.one(Scale { by: factor }, &[bell])
}

/// `dy * 2/sqrt(pi) * exp(-x^2)`.
fn erf_grad(b: &mut Builder, x: Value, dy: Value) -> Value {
    let slope = gaussian(b, x, 1.0, FRAC_2_SQRT_PI);
    b.one(Mul {}, &[dy, slope])
}

/// `1 - v`.
fn one_minus(b: &mut Builder, v: Value) -> Value {
    let negative = b.one(Neg {}, &[v]);
    b.one(Offset { by: 1.0 }, &[negative])
}

/// `dy * y * (1 - y)`.
fn sigmoid_grad(b: &mut Builder, y: Value, dy: Value) -> Value {
    let rest = one_minus(b, y);
    let slope = b.one(Mul {}, &[y, rest]);
    b.one(Mul {}, &[dy, slope])
}

/// `dy * (s + y (1 - s))`, `s = sigmoid(x)`.
fn silu_grad(b: &mut Builder, x: Value, y: Value, dy: Value) -> Value {
    let s = b.one(Sigmoid {}, &[x]);
    let rest = one_minus(b, s);
    let bend = b.one(Mul {}, &[y, rest]);
    let slope = b.one(Add {}, &[s, bend]);
    b.one(Mul {}, &[dy, slope])
}

/// `dy * (Phi(x) + x phi(x))`, the normal distribution and its density.
fn gelu_grad(b: &mut Builder, x: Value, dy: Value) -> Value {
    let scaled = b.one(Scale { by: FRAC_1_SQRT_2 }, &[x]);
    let e = b.one(Erf {}, &[scaled]);
    let doubled = b.one(Offset { by: 1.0 }, &[e]);
    let distribution = b.one(Scale { by: 0.5 }, &[doubled]);
    let density = gaussian(b, x, 0.5, 1.0 / (2.0 * PI).sqrt());
    let bend = b.one(Mul {}, &[x, density]);
    let slope = b.one(Add {}, &[distribution, bend]);
    b.one(Mul {}, &[dy, slope])
}

/// `dy * (1 - y^2)`.
fn tanh_grad(b: &mut Builder, y: Value, dy: Value) -> Value {
    let square = b.one(Mul {}, &[y, y]);
    let slope = one_minus(b, square);
    b.one(Mul {}, &[dy, slope])
}

/// `-dy * sin(x)`.
fn cos_grad(b: &mut Builder, x: Value, dy: Value) -> Value {
    let slope = b.one(Sin {}, &[x]);
    let product = b.one(Mul {}, &[dy, slope]);
    b.one(Neg {}, &[product])
}

/// `dy * cos(x)`.
fn sin_grad(b: &mut Builder, x: Value, dy: Value) -> Value {
    let slope = b.one(Cos {}, &[x]);
    b.one(Mul {}, &[dy, slope])
}

/// `dy` where x > 0, else 0.
fn above_zero(b: &mut Builder, x: Value, dy: Value) -> Value {
    let mask = b.one(Step {}, &[x]);
    b.one(Mul {}, &[dy, mask])
}

/// `dy * (slope + (1 - slope) step(x))`.
fn leaky_relu_grad(b: &mut Builder, slope: f64, x: Value, dy: Value) -> Value {
    let mask = b.one(Step {}, &[x]);
    let rise = b.one(Scale { by: 1.0 - slope }, &[mask]);
    let factor = b.one(Offset { by: slope }, &[rise]);
    b.one(Mul {}, &[dy, factor])
}

/// `dy` where min < x < max, else 0.
fn clamp_grad(b: &mut Builder, op: &Clamp, x: Value, dy: Value) -> Value {
    let over = b.one(Offset { by: -op.min }, &[x]);
    let negative = b.one(Neg {}, &[x]);
    let under = b.one(Offset { by: op.max }, &[negative]);
    let kept = above_zero(b, over, dy);
    above_zero(b, under, kept)
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `2/sqrt(pi) * exp(-x^2) * sum_n 2^n x^(2n+1) / (2n+1)!!` (Abramowitz & Stegun 7.1.6). All terms have one sign, so
/// nothing cancels; beyond 6 the result is 1 in f64.
fn erf(x: f64) -> f64 {
    if x.is_nan() || x.abs() > 6.0 {
        return if x.is_nan() { x } else { x.signum() };
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > sum.abs() * 1e-17 {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    FRAC_2_SQRT_PI * (-x * x).exp() * sum
}
