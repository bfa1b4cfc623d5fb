//! What a training step does with a gradient: AdamW, and running averages of what it makes.

use super::{Adamw, Add, Broadcast, Div, FusedDef, Mul, Offset, Reshape, Scale, Slice, Sqrt, Sub};
use crate::function::{Builder, Value};
use crate::types::{TypeError, ensure};

/// What stands where in the rates of `adamw`, before the averages' pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// Multiplies the gradient: clipping.
    Gradient,
    /// Multiplies the weights first: `1 - learning rate * weight decay`.
    Decay,
    /// `learning rate / (1 - beta1^k)` at step k, from 1.
    Step,
    /// `1 / sqrt(1 - beta2^k)`.
    Root,
}

impl Rate {
    /// How many there are.
    pub const COUNT: usize = 4;

    /// How many there are with so many averages: each has its decay d behind them, and `1 - d`, which is not that in f32.
    pub const fn count(averages: usize) -> usize {
        Rate::COUNT + 2 * averages
    }
}

impl FusedDef for Adamw {
    fn operands(&self) -> &'static [&'static str] {
        &["p", "g", "m", "v", "rates", "e1?", "e2?", "e3?"]
    }

    fn expand(&self, b: &mut Builder, x: &[Value]) -> Result<Vec<Value>, TypeError> {
        let &[p, g, m, v, rates] = &x[..5] else { unreachable!("the number of operands has been checked") };
        let averages = &x[5..];
        let (ty, count) = (b.ty(p).clone(), Rate::count(averages.len()));
        for &like in [g, m, v].iter().chain(averages) {
            ensure!("adamw.1", *b.ty(like) == ty, "operands differ: {} vs {ty}", b.ty(like));
        }
        let found = b.ty(rates).clone();
        ensure!("adamw.2", found == ty.with_shape([count]), "rates must be {}, found {found}", ty.with_shape([count]));
        let inside = |beta: f64| (0.0..1.0).contains(&beta);
        ensure!("adamw.3", inside(self.beta1) && inside(self.beta2), "betas must be from 0 to below 1, found `{self:?}`");
        ensure!("adamw.4", self.eps > 0.0, "eps must be positive, found {:?}", self.eps);
        let rate = |b: &mut Builder, at: usize| {
            let one = b.try_one(Slice { axis: 0, start: at, len: 1 }, rates)?;
            let one = b.try_one(Reshape { shape: vec![1; ty.rank()] }, one)?;
            b.try_one(Broadcast { shape: ty.shape.clone() }, one)
        };
        let times = |b: &mut Builder, v: Value, at: usize| {
            let rate = rate(b, at)?;
            Ok::<Value, TypeError>(b.try_emit(Mul {}, &[v, rate])?[0])
        };
        let g = times(b, g, Rate::Gradient as usize)?;
        let change = b.try_emit(Sub {}, &[g, m])?[0];
        let change = b.try_one(Scale { by: 1.0 - self.beta1 }, change)?;
        let m = b.try_emit(Add {}, &[m, change])?[0];
        let square = b.try_emit(Mul {}, &[g, g])?[0];
        let square = b.try_one(Scale { by: 1.0 - self.beta2 }, square)?;
        let kept = b.try_one(Scale { by: self.beta2 }, v)?;
        let v = b.try_emit(Add {}, &[kept, square])?[0];
        let deviation = b.try_one(Sqrt {}, v)?;
        let deviation = times(b, deviation, Rate::Root as usize)?;
        let deviation = b.try_one(Offset { by: self.eps }, deviation)?;
        let step = times(b, m, Rate::Step as usize)?;
        let step = b.try_emit(Div {}, &[step, deviation])?[0];
        let p = times(b, p, Rate::Decay as usize)?;
        let p = b.try_emit(Sub {}, &[p, step])?[0];
        let mut results = vec![p, m, v];
        for (i, &average) in averages.iter().enumerate() {
            let kept = times(b, average, Rate::count(i))?;
            let new = times(b, p, Rate::count(i) + 1)?;
            results.push(b.try_emit(Add {}, &[kept, new])?[0]);
        }
        Ok(results)
    }
}
