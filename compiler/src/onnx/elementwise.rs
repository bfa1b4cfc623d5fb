//! Functions of single elements, and of two tensors that broadcast.

use fcdm_ir::ops::{
    Add, Clamp, Cos, Div, Erf, Exp, Fill, Gelu, LeakyRelu, Log, Mul, Neg, Offset, Relu, Scale, Sigmoid, Sin, Sqrt, Sub, Tanh,
};
use fcdm_ir::{DType, Op, Value};

use super::error::{Translated, form, wrong};
use super::import::{Ordered, Translation, Val};
use super::node::Node;
use super::shapes::broadcast;
use super::timestep::AngleFunction;

impl Translation {
    pub fn unary(&mut self, node: &Node<'_>, op: impl Into<Op>) -> Translated<()> {
        let t = self.tensor(node, 0)?;
        let v = self.one(op, &[t.v])?;
        self.define(node, Ordered { v, order: t.order })
    }

    pub fn function(&mut self, node: &Node<'_>) -> Translated<()> {
        match node.op() {
            "Relu" => self.unary(node, Relu {}),
            "LeakyRelu" => self.unary(node, LeakyRelu { slope: node.float_or("alpha", 0.01) }),
            "Sigmoid" => self.unary(node, Sigmoid {}),
            "Tanh" => self.unary(node, Tanh {}),
            "Erf" => self.unary(node, Erf {}),
            "Exp" => self.unary(node, Exp {}),
            "Log" => self.unary(node, Log {}),
            "Sqrt" => self.unary(node, Sqrt {}),
            "Neg" => self.unary(node, Neg {}),
            "Cos" => self.angle(node, Cos {}, AngleFunction::Cos),
            "Sin" => self.angle(node, Sin {}, AngleFunction::Sin),
            "Gelu" => match node.text_or("approximate", "none") {
                "none" => self.unary(node, Gelu {}),
                "tanh" => self.composed(node, Translation::gelu_tanh),
                other => form(format!("attribute `approximate`: expected none or tanh, found {other}")),
            },
            "Swish" => {
                let by = node.float_or("alpha", 1.0);
                self.composed(node, |g, x| {
                    let inner = if by == 1.0 { x } else { g.one(Scale { by }, &[x])? };
                    let gate = g.one(Sigmoid {}, &[inner])?;
                    g.one(Mul {}, &[x, gate])
                })
            }
            "HardSigmoid" => {
                let (by, offset) = (node.float_or("alpha", 0.2), node.float_or("beta", 0.5));
                self.composed(node, |g, x| g.hard_sigmoid(x, by, offset))
            }
            "HardSwish" => self.composed(node, |g, x| {
                let gate = g.hard_sigmoid(x, 1.0 / 6.0, 0.5)?;
                g.one(Mul {}, &[x, gate])
            }),
            "Softplus" => self.composed(node, Translation::softplus),
            "Reciprocal" => self.composed(node, Translation::reciprocal),
            "Abs" => self.composed(node, |g, x| {
                let (above, minus) = (g.one(Relu {}, &[x])?, g.one(Neg {}, &[x])?);
                let below = g.one(Relu {}, &[minus])?;
                g.one(Add {}, &[above, below])
            }),
            _ => unreachable!("the table sends no other op here"),
        }
    }

    /// A formula of one operand, in whatever order its axes are.
    fn composed(&mut self, node: &Node<'_>, f: impl FnOnce(&mut Translation, Value) -> Translated<Value>) -> Translated<()> {
        let t = self.tensor(node, 0)?;
        let v = f(self, t.v)?;
        self.define(node, Ordered { v, order: t.order })
    }

    fn angle(&mut self, node: &Node<'_>, op: impl Into<Op>, function: AngleFunction) -> Translated<()> {
        self.composed(node, |g, x| {
            let y = g.one(op, &[x])?;
            g.note_function(x, function, y);
            Ok(y)
        })
    }

    fn hard_sigmoid(&mut self, x: Value, by: f64, offset: f64) -> Translated<Value> {
        let y = self.one(Scale { by }, &[x])?;
        let y = self.one(Offset { by: offset }, &[y])?;
        self.one(Clamp { min: 0.0, max: 1.0 }, &[y])
    }

    /// `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
    fn gelu_tanh(&mut self, x: Value) -> Translated<Value> {
        let square = self.one(Mul {}, &[x, x])?;
        let bend = self.one(Scale { by: 0.044715 }, &[square])?;
        let bend = self.one(Offset { by: 1.0 }, &[bend])?;
        let inner = self.one(Mul {}, &[x, bend])?;
        let inner = self.one(Scale { by: (2.0 / std::f64::consts::PI).sqrt() }, &[inner])?;
        let gate = self.one(Tanh {}, &[inner])?;
        let gate = self.one(Offset { by: 1.0 }, &[gate])?;
        let half = self.one(Scale { by: 0.5 }, &[x])?;
        self.one(Mul {}, &[half, gate])
    }

    /// `max(x, 0) + ln(1 + exp(-|x|))`.
    fn softplus(&mut self, x: Value) -> Translated<Value> {
        let (above, minus) = (self.one(Relu {}, &[x])?, self.one(Neg {}, &[x])?);
        let below = self.one(Relu {}, &[minus])?;
        let size = self.one(Add {}, &[above, below])?;
        let size = self.one(Neg {}, &[size])?;
        let power = self.one(Exp {}, &[size])?;
        let sum = self.one(Offset { by: 1.0 }, &[power])?;
        let log = self.one(Log {}, &[sum])?;
        self.one(Add {}, &[above, log])
    }

    pub fn reciprocal(&mut self, x: Value) -> Translated<Value> {
        let one = self.filled(1.0, x)?;
        self.one(Div {}, &[one, x])
    }

    /// A constant of the shape of a value.
    pub fn filled(&mut self, value: f64, like: Value) -> Translated<Value> {
        let shape = self.b.ty(like).shape.clone();
        self.one(Fill { value, dtype: DType::F32, shape }, &[])
    }

    pub fn clip(&mut self, node: &Node<'_>) -> Translated<()> {
        let bound = |name: &str, i: usize, none: f32| -> Translated<f64> {
            match (self.known(node, i), node.operand(i)) {
                (Some(c), _) => c.uniform().map_or_else(|| wrong("expected one number as a bound"), Ok),
                (None, Some(_)) => form("with bounds that are computed"),
                (None, None) => Ok(node.float_or(name, none)),
            }
        };
        // The largest f32, as a bound that is none; an infinity cannot be an attribute.
        let (min, max) = (bound("min", 1, f32::MIN)?, bound("max", 2, f32::MAX)?);
        let finite = |b: f64| b.clamp(f64::from(f32::MIN), f64::from(f32::MAX));
        self.unary(node, Clamp { min: finite(min), max: finite(max) })
    }

    /// `max(x, 0) - slope max(-x, 0)`.
    pub fn prelu(&mut self, node: &Node<'_>) -> Translated<()> {
        let slope = self.constant(node, 1, "a slope")?;
        if let Some(slope) = slope.uniform() {
            return self.unary(node, LeakyRelu { slope });
        }
        let x = self.tensor(node, 0)?;
        let dims = self.dims(&x);
        if broadcast(&dims, &slope.dims)? != dims {
            return wrong(format!("a slope of extents {:?} for {dims:?}", slope.dims));
        }
        let slopes = self.spread(&Val::Known(slope), &dims, &x.order.clone())?;
        let (above, minus) = (self.one(Relu {}, &[x.v])?, self.one(Neg {}, &[x.v])?);
        let below = self.one(Relu {}, &[minus])?;
        let below = self.one(Mul {}, &[below, slopes])?;
        let v = self.one(Sub {}, &[above, below])?;
        self.define(node, Ordered { v, order: x.order })
    }

    pub fn pow(&mut self, node: &Node<'_>) -> Translated<()> {
        let x = self.tensor(node, 0)?;
        let Some(exponent) = self.constant(node, 1, "an exponent")?.uniform() else { return form("with several exponents") };
        let v = match exponent {
            1.0 => x.v,
            2.0 => self.one(Mul {}, &[x.v, x.v])?,
            3.0 => {
                let square = self.one(Mul {}, &[x.v, x.v])?;
                self.one(Mul {}, &[square, x.v])?
            }
            0.5 => self.one(Sqrt {}, &[x.v])?,
            -0.5 => {
                let root = self.one(Sqrt {}, &[x.v])?;
                self.reciprocal(root)?
            }
            -1.0 => self.reciprocal(x.v)?,
            _ => return form(format!("with exponent {exponent:?}: expected 1, 2, 3, 0.5, -0.5 or -1")),
        };
        self.define(node, Ordered { v, order: x.order })
    }

    /// Add, Sub, Mul, Div.
    pub fn binary(&mut self, node: &Node<'_>) -> Translated<()> {
        let (a, b) = (self.operand(node, 0)?, self.operand(node, 1)?);
        let dims = broadcast(&self.dims_of(&a), &self.dims_of(&b))?;
        // A number may still be one for more elements than the other operand has.
        let fills = |x: &Ordered| dims.ends_with(&self.dims(x)) && dims.iter().product::<usize>() == self.b.ty(x.v).count();
        let y = match (scalar(&a), scalar(&b), &a, &b) {
            (None, Some(c), Val::Computed(x), _) if fills(x) => self.with_scalar(node.op(), x, c, &dims)?,
            (Some(c), None, _, Val::Computed(x)) if fills(x) => self.scalar_with(node.op(), c, x, &dims)?,
            _ => self.broadcasting(node.op(), &a, &b, &dims)?,
        };
        self.define(node, y)
    }

    fn with_scalar(&mut self, op: &str, x: &Ordered, c: f64, dims: &[usize]) -> Translated<Ordered> {
        let x = self.lead(x, dims.len())?;
        let v = match op {
            "Add" => self.one(Offset { by: c }, &[x.v])?,
            "Sub" => self.one(Offset { by: -c }, &[x.v])?,
            "Mul" => self.one(Scale { by: c }, &[x.v])?,
            _ if c.is_normal() => self.one(Scale { by: 1.0 / c }, &[x.v])?,
            _ => {
                let c = self.filled(c, x.v)?;
                self.one(Div {}, &[x.v, c])?
            }
        };
        Ok(Ordered { v, order: x.order })
    }

    fn scalar_with(&mut self, op: &str, c: f64, x: &Ordered, dims: &[usize]) -> Translated<Ordered> {
        if op == "Add" || op == "Mul" {
            return self.with_scalar(op, x, c, dims);
        }
        let x = self.lead(x, dims.len())?;
        let v = if op == "Sub" {
            let minus = self.one(Neg {}, &[x.v])?;
            self.one(Offset { by: c }, &[minus])?
        } else {
            let c = self.filled(c, x.v)?;
            self.one(Div {}, &[c, x.v])?
        };
        Ok(Ordered { v, order: x.order })
    }

    /// In the order of the operand that has the most elements; the other is repeated.
    fn broadcasting(&mut self, op: &str, a: &Val, b: &Val, dims: &[usize]) -> Translated<Ordered> {
        let size = |g: &Translation, v: &Val| if let Val::Computed(t) = v { g.b.ty(t.v).count() } else { 0 };
        let main = if size(self, a) >= size(self, b) { a } else { b };
        let Val::Computed(main) = main else { return wrong("no operand is computed") };
        let more = dims.len() - main.order.len();
        let order: Vec<usize> = (0..more).chain(main.order.iter().map(|a| a + more)).collect();
        let (x, y) = (self.spread(a, dims, &order)?, self.spread(b, dims, &order)?);
        let op: Op = match op {
            "Add" => Add {}.into(),
            "Sub" => Sub {}.into(),
            "Mul" => Mul {}.into(),
            _ => Div {}.into(),
        };
        let product = matches!(op, Op::Mul(_));
        let v = self.one(op, &[x, y])?;
        match (a, b) {
            (Val::Computed(t), Val::Known(c)) | (Val::Known(c), Val::Computed(t)) if product => self.note_product(t, c, v),
            _ => {}
        }
        Ok(Ordered { v, order })
    }
}

/// The one number that a constant is: of a single element, or repeated by the exporter, but not trained.
fn scalar(v: &Val) -> Option<f64> {
    match v {
        Val::Known(c) if c.count() == 1 || !c.trained => c.uniform().filter(|c| c.is_finite()),
        _ => None,
    }
}
