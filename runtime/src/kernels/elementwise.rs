//! `y = f(x)`, `y = f(a, b)` and constants, element by element. Formulas as for the IR ops of the same name; NaN in, NaN out.
//! `relu` and `step` follow the IR: `max(x, 0)`, `1 where x > 0`. y may take the place of an operand.

use serde::{Deserialize, Serialize};

use super::{Args, KernelDef, Needs, Signature, Task, Worker};
use crate::check::Fault;
use crate::check::rule::same_count;
use crate::cost::Cost;
use crate::plan::Operand;
use crate::simd::{Isa, Simd, math, variants};

/// `-> y`: every element is `value`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fill {
    /// The value.
    pub value: f32,
}

/// `x -> y`, equal counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Unary {
    Neg,
    Scale { by: f32 },
    Offset { by: f32 },
    Exp,
    Log,
    Sqrt,
    Erf,
    Sigmoid,
    Silu,
    Gelu,
    Tanh,
    Cos,
    Sin,
    Relu,
    LeakyRelu { slope: f32 },
    Clamp { min: f32, max: f32 },
    Step,
}

/// `a, b -> y`, equal counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    DivNoNan,
}

impl KernelDef for Fill {
    fn signature(&self) -> Signature {
        Signature::of(&[], &["y"])
    }

    fn check(&self, _: &[Operand], _: &[Operand]) -> Result<(), Fault> {
        Ok(())
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(0, x, y)
    }

    fn task(&self, _: &[Operand], y: &[Operand], _: Isa) -> Box<dyn Task> {
        Box::new(Elementwise { op: Op::Fill(self.value), count: y[0].count() })
    }
}

impl KernelDef for Unary {
    fn signature(&self) -> Signature {
        Signature::of(&["x"], &["y"]).taking(&[0])
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        same_count("unary.1", &x[0], &y[0])
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(0, x, y)
    }

    fn task(&self, _: &[Operand], y: &[Operand], isa: Isa) -> Box<dyn Task> {
        Box::new(Elementwise { op: Op::Unary(*self, unary(isa)), count: y[0].count() })
    }
}

impl KernelDef for Binary {
    fn signature(&self) -> Signature {
        Signature::of(&["a", "b"], &["y"]).taking(&[0, 1])
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        same_count("binary.1", &x[0], &y[0]).and(same_count("binary.2", &x[1], &y[0]))
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(0, x, y)
    }

    fn task(&self, _: &[Operand], y: &[Operand], isa: Isa) -> Box<dyn Task> {
        Box::new(Elementwise { op: Op::Binary(*self, binary(isa)), count: y[0].count() })
    }
}

/// Elements of which a thread gets a whole number: a cache line.
const UNIT: usize = 16;

enum Op {
    Fill(f32),
    Unary(Unary, UnaryRun),
    Binary(Binary, BinaryRun),
}

struct Elementwise {
    op: Op,
    count: usize,
}

impl Task for Elementwise {
    fn needs(&self, _threads: usize) -> Needs {
        Needs::PLAIN
    }

    unsafe fn run(&self, _phase: usize, args: &Args, worker: &mut Worker<'_>) {
        while let Some(units) = worker.claim(self.count.div_ceil(UNIT), usize::MAX) {
            let (first, count) = (units.start * UNIT, (units.end * UNIT).min(self.count) - units.start * UNIT);
            // Addresses, since y may lie where an input does.
            let (y, input) = (args.output(0).wrapping_add(first), |i| args.address(i).cast::<f32>().wrapping_add(first));
            // SAFETY: the task's contract; threads have disjoint ranges, and inputs have the output's count.
            unsafe {
                match self.op {
                    Op::Fill(value) => std::slice::from_raw_parts_mut(y, count).fill(value),
                    Op::Unary(f, run) => run(f, input(0), y, count),
                    Op::Binary(f, run) => run(f, input(0), input(1), y, count),
                }
            }
        }
    }
}

variants! {
    /// # Safety
    /// - `x` and `y` are valid for `count` elements; they are equal or do not overlap.
    unsafe fn unary(f: Unary, x: *const f32, y: *mut f32, count: usize) as UnaryRun = unary_body
}

variants! {
    /// # Safety
    /// - `a`, `b` and `y` are valid for `count` elements; y is equal to either or does not overlap it.
    unsafe fn binary(f: Binary, a: *const f32, b: *const f32, y: *mut f32, count: usize) as BinaryRun = binary_body
}

/// Applies `$e` to vectors of the operands. A macro, since a closure would not get the CPU features.
macro_rules! each {
    ($s:ident, $y:ident[$count:ident], |$($v:ident of $x:ident),+| $e:expr) => {{
        let whole = $count / S::LANES * S::LANES;
        let mut i = 0;
        while i < whole {
            // SAFETY: i + LANES <= count; the caller's contract.
            $(let $v = unsafe { $s.load($x.add(i)) };)+
            let v = $e;
            // SAFETY: as above.
            unsafe { $s.store($y.add(i), v) };
            i += S::LANES;
        }
        let n = $count - i;
        if n > 0 {
            // SAFETY: i + n == count and n < LANES; the caller's contract.
            $(let $v = unsafe { $s.load_partial($x.add(i), n) };)+
            let v = $e;
            // SAFETY: as above.
            unsafe { $s.store_partial($y.add(i), v, n) };
        }
    }};
}

/// Applies a function of one number to every element.
///
/// # Safety
/// - As of [`unary`].
unsafe fn each_alone(x: *const f32, y: *mut f32, count: usize, f: impl Fn(f64) -> f64) {
    for i in 0..count {
        // SAFETY: the caller's contract.
        unsafe { *y.add(i) = f(f64::from(*x.add(i))) as f32 };
    }
}

#[inline(always)]
unsafe fn unary_body<S: Simd>(s: S, f: Unary, x: *const f32, y: *mut f32, count: usize) {
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    match f {
        Unary::Neg => each!(s, y[count], |v of x| s.neg(v)),
        Unary::Scale { by } => each!(s, y[count], |v of x| s.mul(v, s.splat(by))),
        Unary::Offset { by } => each!(s, y[count], |v of x| s.add(v, s.splat(by))),
        Unary::Exp => each!(s, y[count], |v of x| math::exp(s, v)),
        // Only losses take logarithms: not worth a polynomial. `libm`'s bits are the same on every machine, the system's are not.
        // SAFETY: the caller's contract.
        Unary::Log => unsafe { each_alone(x, y, count, libm::log) },
        Unary::Sqrt => each!(s, y[count], |v of x| s.sqrt(v)),
        Unary::Erf => each!(s, y[count], |v of x| math::erf(s, v)),
        Unary::Sigmoid => each!(s, y[count], |v of x| math::sigmoid(s, v)),
        Unary::Silu => each!(s, y[count], |v of x| math::silu(s, v)),
        Unary::Gelu => each!(s, y[count], |v of x| math::gelu(s, [v])[0]),
        Unary::Tanh => each!(s, y[count], |v of x| math::tanh(s, v)),
        // Angles are few, and large ones need all of their digits reduced.
        // SAFETY: the caller's contract, as above and below.
        Unary::Cos => unsafe { each_alone(x, y, count, libm::cos) },
        // SAFETY: as above.
        Unary::Sin => unsafe { each_alone(x, y, count, libm::sin) },
        Unary::Relu => each!(s, y[count], |v of x| s.max(zero, v)),
        Unary::LeakyRelu { slope } => each!(s, y[count], |v of x| s.select(s.lt(zero, v), v, s.mul(v, s.splat(slope)))),
        Unary::Clamp { min, max } => each!(s, y[count], |v of x| s.min(s.splat(max), s.max(s.splat(min), v))),
        Unary::Step => each!(s, y[count], |v of x| s.select(s.lt(zero, v), one, zero)),
    }
}

#[inline(always)]
unsafe fn binary_body<S: Simd>(s: S, f: Binary, a: *const f32, b: *const f32, y: *mut f32, count: usize) {
    let (zero, least) = (s.splat(0.0), s.splat(f32::from_bits(1)));
    match f {
        Binary::Add => each!(s, y[count], |u of a, v of b| s.add(u, v)),
        Binary::Sub => each!(s, y[count], |u of a, v of b| s.sub(u, v)),
        Binary::Mul => each!(s, y[count], |u of a, v of b| s.mul(u, v)),
        Binary::Div => each!(s, y[count], |u of a, v of b| s.div(u, v)),
        // |b| is below the least positive number only if b is zero; a NaN is not below anything.
        Binary::DivNoNan => each!(s, y[count], |u of a, v of b| s.select(s.lt(s.abs(v), least), zero, s.div(u, v))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, run_all, run_in_place, step, values};
    use super::*;

    #[test]
    fn unary_against_f64_over_tails() {
        type F = fn(f64) -> f64;
        let cases: [(Unary, F); 17] = [
            (Unary::Neg, |x| -x),
            (Unary::Scale { by: 1.5 }, |x| 1.5 * x),
            (Unary::Offset { by: -0.25 }, |x| x - 0.25),
            (Unary::Exp, f64::exp),
            (Unary::Log, f64::ln),
            (Unary::Sqrt, f64::sqrt),
            (Unary::Erf, libm::erf),
            (Unary::Sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
            (Unary::Silu, |x| x / (1.0 + (-x).exp())),
            (Unary::Gelu, |x| x / 2.0 * libm::erfc(-x / std::f64::consts::SQRT_2)),
            (Unary::Tanh, f64::tanh),
            (Unary::Cos, f64::cos),
            (Unary::Sin, f64::sin),
            (Unary::Relu, |x| x.max(0.0)),
            (Unary::LeakyRelu { slope: 0.2 }, |x| if x > 0.0 { x } else { f64::from(0.2f32) * x }),
            (Unary::Clamp { min: -0.5, max: 0.5 }, |x| x.clamp(-0.5, 0.5)),
            (Unary::Step, |x| f64::from(u8::from(x > 0.0))),
        ];
        for (f, exact) in cases {
            for count in (1..=35).chain([257]) {
                let mut x = values(count, 7);
                if matches!(f, Unary::Log | Unary::Sqrt) {
                    x.iter_mut().for_each(|x| *x = x.abs() + 0.1);
                }
                let want: Vec<f64> = x.iter().map(|&x| exact(f64::from(x))).collect();
                let s = step(f, &[&[count]], &[&[count]]);
                run_all(&s, &[&x], |y, what| close(&y[0], &want, 1e-6, &format!("{f:?} {what}")));
                run_in_place(&s, &[&x]);
            }
        }
    }

    #[test]
    fn binary_against_f64_over_tails() {
        type F = fn(f64, f64) -> f64;
        let cases: [(Binary, F); 5] = [
            (Binary::Add, |a, b| a + b),
            (Binary::Sub, |a, b| a - b),
            (Binary::Mul, |a, b| a * b),
            (Binary::Div, |a, b| a / b),
            (Binary::DivNoNan, |a, b| if b == 0.0 { 0.0 } else { a / b }),
        ];
        for (f, exact) in cases {
            for count in 1..=35 {
                let (a, mut b) = (values(count, 1), values(count, 2));
                b.iter_mut().for_each(|b| *b += b.signum());
                if f == Binary::DivNoNan {
                    b[count / 2] = -0.0;
                }
                let want: Vec<f64> = a.iter().zip(&b).map(|(&a, &b)| exact(f64::from(a), f64::from(b))).collect();
                let s = step(f, &[&[count], &[count]], &[&[count]]);
                run_all(&s, &[&a, &b], |y, what| close(&y[0], &want, 1e-6, &format!("{f:?} {what}")));
                run_in_place(&s, &[&a, &b]);
            }
        }
    }

    #[test]
    fn fill_touches_every_element() {
        for count in [1, 15, 16, 17, 100] {
            let s = step(Fill { value: 2.5 }, &[], &[&[count]]);
            run_all(&s, &[], |y, _| assert!(y[0].iter().all(|&y| y == 2.5)));
        }
    }

    #[test]
    fn division_without_nan() {
        let s = step(Binary::DivNoNan, &[&[4], &[4]], &[&[4]]);
        let (a, b) = ([1.0, 1.0, 1.0, 0.0], [0.0, -0.0, f32::NAN, 0.0]);
        run_all(&s, &[&a, &b], |y, _| {
            assert_eq!(y[0][..2], [0.0, 0.0]);
            assert!(y[0][2].is_nan() && y[0][3] == 0.0);
        });
    }
}
