//! `y = f(x)`, `y = f(a, b)` and constants, element by element. Formulas as on [`crate::plan::Unary`] and
//! [`crate::plan::Binary`]; NaN in, NaN out. `relu` and `step` follow the IR: `max(x, 0)`, `1 where x > 0`.

use super::{Args, Needs, Task, Worker};
use crate::plan::{Binary, Kernel, Step, Unary};
use crate::simd::{Simd, math, variants};

/// Elements of which a thread gets a whole number: a cache line.
const UNIT: usize = 16;

#[derive(Clone, Copy, Debug)]
enum Op {
    Fill(f32),
    Unary(Unary),
    Binary(Binary),
}

struct Elementwise {
    op: Op,
    count: usize,
}

pub(super) fn task(step: &Step) -> Box<dyn Task> {
    let op = match step.kernel {
        Kernel::Fill { value } => Op::Fill(value),
        Kernel::Unary(f) => Op::Unary(f),
        Kernel::Binary(f) => Op::Binary(f),
        _ => unreachable!("`kernels::task` sends no other kernel here"),
    };
    Box::new(Elementwise { op, count: step.outputs[0].count() })
}

impl Task for Elementwise {
    fn needs(&self, _threads: usize) -> Needs {
        Needs::PLAIN
    }

    unsafe fn run(&self, _phase: usize, args: &Args, worker: &mut Worker<'_>) {
        while let Some(units) = worker.claim(self.count.div_ceil(UNIT), usize::MAX) {
            let range = units.start * UNIT..(units.end * UNIT).min(self.count);
            // SAFETY: the task's contract; threads have disjoint ranges.
            let y = unsafe { args.output_range(0, range.clone()) };
            // SAFETY: the task's contract; inputs have the output's count.
            let input = |i| unsafe { &args.input(i, self.count)[range.clone()] };
            match self.op {
                Op::Fill(value) => y.fill(value),
                // SAFETY: x and y are equally long.
                Op::Unary(f) => unsafe { unary(worker.isa, f, input(0), y) },
                // SAFETY: a, b and y are equally long.
                Op::Binary(f) => unsafe { binary(worker.isa, f, input(0), input(1), y) },
            }
        }
    }
}

variants! {
    /// # Safety
    /// - `x.len() == y.len()`.
    unsafe fn unary(f: Unary, x: &[f32], y: &mut [f32]) = unary_body
}

variants! {
    /// # Safety
    /// - `a`, `b` and `y` are equally long.
    unsafe fn binary(f: Binary, a: &[f32], b: &[f32], y: &mut [f32]) = binary_body
}

/// Applies `$e` to vectors of the slices. A macro, since a closure would not get the CPU features.
macro_rules! each {
    ($s:ident, $y:ident, |$($v:ident of $x:ident),+| $e:expr) => {{
        let whole = $y.len() / S::LANES * S::LANES;
        let mut i = 0;
        while i < whole {
            // SAFETY: i + LANES <= len, the length of all slices.
            $(let $v = unsafe { $s.load($x.as_ptr().add(i)) };)+
            let v = $e;
            // SAFETY: as above.
            unsafe { $s.store($y.as_mut_ptr().add(i), v) };
            i += S::LANES;
        }
        let n = $y.len() - i;
        if n > 0 {
            // SAFETY: i + n == len, the length of all slices; n < LANES.
            $(let $v = unsafe { $s.load_partial($x.as_ptr().add(i), n) };)+
            let v = $e;
            // SAFETY: as above.
            unsafe { $s.store_partial($y.as_mut_ptr().add(i), v, n) };
        }
    }};
}

#[inline(always)]
unsafe fn unary_body<S: Simd>(s: S, f: Unary, x: &[f32], y: &mut [f32]) {
    debug_assert_eq!(x.len(), y.len());
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    match f {
        Unary::Neg => each!(s, y, |v of x| s.neg(v)),
        Unary::Scale { by } => each!(s, y, |v of x| s.mul(v, s.splat(by))),
        Unary::Offset { by } => each!(s, y, |v of x| s.add(v, s.splat(by))),
        Unary::Exp => each!(s, y, |v of x| math::exp(s, v)),
        // Only losses take logarithms: not worth a polynomial.
        Unary::Log => y.iter_mut().zip(x).for_each(|(y, &x)| *y = f64::from(x).ln() as f32),
        Unary::Sqrt => each!(s, y, |v of x| s.sqrt(v)),
        Unary::Erf => each!(s, y, |v of x| math::erf(s, v)),
        Unary::Sigmoid => each!(s, y, |v of x| math::sigmoid(s, v)),
        Unary::Silu => each!(s, y, |v of x| math::silu(s, v)),
        Unary::Gelu => each!(s, y, |v of x| math::gelu(s, [v])[0]),
        Unary::Tanh => each!(s, y, |v of x| math::tanh(s, v)),
        // Angles are few, and large ones need all of their digits reduced; `libm`'s bits are the same on every machine.
        Unary::Cos => y.iter_mut().zip(x).for_each(|(y, &x)| *y = libm::cos(f64::from(x)) as f32),
        Unary::Sin => y.iter_mut().zip(x).for_each(|(y, &x)| *y = libm::sin(f64::from(x)) as f32),
        Unary::Relu => each!(s, y, |v of x| s.max(zero, v)),
        Unary::LeakyRelu { slope } => each!(s, y, |v of x| s.select(s.lt(zero, v), v, s.mul(v, s.splat(slope)))),
        Unary::Clamp { min, max } => each!(s, y, |v of x| s.min(s.splat(max), s.max(s.splat(min), v))),
        Unary::Step => each!(s, y, |v of x| s.select(s.lt(zero, v), one, zero)),
    }
}

#[inline(always)]
unsafe fn binary_body<S: Simd>(s: S, f: Binary, a: &[f32], b: &[f32], y: &mut [f32]) {
    debug_assert!(a.len() == y.len() && b.len() == y.len());
    let (zero, least) = (s.splat(0.0), s.splat(f32::from_bits(1)));
    match f {
        Binary::Add => each!(s, y, |u of a, v of b| s.add(u, v)),
        Binary::Sub => each!(s, y, |u of a, v of b| s.sub(u, v)),
        Binary::Mul => each!(s, y, |u of a, v of b| s.mul(u, v)),
        Binary::Div => each!(s, y, |u of a, v of b| s.div(u, v)),
        // |b| is below the least positive number only if b is zero; a NaN is not below anything.
        Binary::DivNoNan => each!(s, y, |u of a, v of b| s.select(s.lt(s.abs(v), least), zero, s.div(u, v))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, run_all, step, values};
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
                let s = step(Kernel::Unary(f), &[&[count]], &[&[count]]);
                run_all(&s, &[&x], |y, what| close(&y[0], &want, 1e-6, &format!("{f:?} {what}")));
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
                let s = step(Kernel::Binary(f), &[&[count], &[count]], &[&[count]]);
                run_all(&s, &[&a, &b], |y, what| close(&y[0], &want, 1e-6, &format!("{f:?} {what}")));
            }
        }
    }

    #[test]
    fn fill_touches_every_element() {
        for count in [1, 15, 16, 17, 100] {
            let s = step(Kernel::Fill { value: 2.5 }, &[], &[&[count]]);
            run_all(&s, &[], |y, _| assert!(y[0].iter().all(|&y| y == 2.5)));
        }
    }

    #[test]
    fn division_without_nan() {
        let s = step(Kernel::Binary(Binary::DivNoNan), &[&[4], &[4]], &[&[4]]);
        let (a, b) = ([1.0, 1.0, 1.0, 0.0], [0.0, -0.0, f32::NAN, 0.0]);
        run_all(&s, &[&a, &b], |y, _| {
            assert_eq!(y[0][..2], [0.0, 0.0]);
            assert!(y[0][2].is_nan() && y[0][3] == 0.0);
        });
    }
}
