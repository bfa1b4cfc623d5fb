//! The training losses as IR: of a network `(x, t, y) -> output`, a function of data, noise and what [`super::objective`] draws.
//!
//! `x_t = alpha x + sigma n`; `mse = mean((scale output - (data x + noise n))^2)` by sample; `loss = weight mse + bound vb`. One
//! formula covers every path and prediction: which they are is in the coefficients, which have a row for each sample.
//!
//! `vb` is there for networks with learned variance (Nichol and Dhariwal, arXiv 2102.09672, eq. 14 and 15): bits by dimension of the bound's
//! term at t, on a mean that is not differentiated, so that it trains the variance alone.

use fcdm_ir::flow::Copier;
use fcdm_ir::ops::{
    Add, Broadcast, Clamp, Exp, Log, Mul, Neg, Offset, Reshape, Scale, ScaleChannels, Slice, Step, StopGradient, Sub, Sum, Tanh,
};
use fcdm_ir::{Builder, Function, Op, Type, Value};
use fcdm_passes::LOSS;

/// A column of the coefficients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Of the data in `x_t`.
    Alpha,
    /// Of the noise in `x_t`.
    Sigma,
    /// Of the network's output.
    Scale,
    /// Of the data in the target.
    Data,
    /// Of the noise in the target.
    Noise,
    /// Of `mse` in the loss: over the batch they add up to about 1.
    Weight,
    /// Of `vb` in the loss.
    Bound,
    /// `ln` of the posterior's variance.
    LogPosterior,
    /// `ln` of beta.
    LogBeta,
    /// The posterior mean's coefficient of the data.
    MeanData,
    /// The posterior mean's coefficient of `x_t`.
    MeanState,
    /// `data = FromState x_t - FromNoise eps`: the coefficient of `x_t`.
    FromState,
    /// And that of eps.
    FromNoise,
    /// 1 at the first timestep, where the bound's term is the likelihood of bins, else 0.
    First,
}

impl Column {
    /// How many there are.
    pub const COUNT: usize = Column::First as usize + 1;
}

/// The function `(x [N,H,W,C], noise as x, t [N], y [N], coefficients [N, Column::COUNT]) -> loss [N], mse [N], vb [N]`; without learned
/// variance there is no vb.
///
/// # Panics
/// If the network is none of `(x, t, y) -> output`, with as many or twice as many channels.
pub fn training_loss(network: &Function) -> Function {
    let &[x, t, y] = network.inputs() else { panic!("a network of x, t and y") };
    let image = network.ty(x).clone();
    let n = image.shape[0];
    let mut b = Builder::new("gradient");
    let (data, noise) = (b.input("x", image.clone()), b.input("noise", image.clone()));
    let (time, label) = (b.input("t", network.ty(t).clone()), b.input("y", network.ty(y).clone()));
    let coefficients = b.input("coefficients", Type::f32([n, Column::COUNT]));
    let mut loss = Loss { b, image, coefficients };

    let state = loss.mixed(data, Column::Alpha, noise, Column::Sigma);
    loss.b.name(state, "x_t");
    let mut copier = Copier::new(network);
    [(x, state), (t, time), (y, label)].into_iter().for_each(|(old, new)| copier.bind(old, new));
    let output = copier.copy(&mut loss.b, network.results()[0].1);

    let channels = loss.image.channels();
    let learned = loss.b.ty(output).channels() != channels;
    let (prediction, variance) = if learned {
        let part = |l: &mut Loss, start| l.b.one(Slice { axis: 3, start, len: channels }, &[output]);
        (part(&mut loss, 0), Some(part(&mut loss, channels)))
    } else {
        (output, None)
    };
    let target = loss.mixed(data, Column::Data, noise, Column::Noise);
    let scaled = loss.times(prediction, Column::Scale);
    let error = loss.b.one(Sub {}, &[scaled, target]);
    let square = loss.b.one(Mul {}, &[error, error]);
    let mse = loss.mean(square);
    let mut whole = loss.weighted(mse, Column::Weight);
    let mut results = vec![("mse".to_owned(), mse)];
    if let Some(variance) = variance {
        let vb = loss.variational_bound(data, state, prediction, variance);
        let term = loss.weighted(vb, Column::Bound);
        whole = loss.b.one(Add {}, &[whole, term]);
        results.push(("vb".to_owned(), vb));
    }
    results.insert(0, (LOSS.to_owned(), whole));
    loss.b.finish(results)
}

struct Loss {
    b: Builder,
    image: Type,
    coefficients: Value,
}

impl Loss {
    fn one(&mut self, op: impl Into<Op>, x: Value) -> Value {
        self.b.one(op, &[x])
    }

    /// A column: `[N,1]`.
    fn column(&mut self, column: Column) -> Value {
        self.b.one(Slice { axis: 1, start: column as usize, len: 1 }, &[self.coefficients])
    }

    /// `x [N,H,W,C]`, every sample times its coefficient.
    fn times(&mut self, x: Value, column: Column) -> Value {
        let ty = self.b.ty(x).clone();
        let factor = self.column(column);
        let factor = self.one(Broadcast { shape: vec![ty.shape[0], ty.channels()] }, factor);
        self.b.one(ScaleChannels {}, &[x, factor])
    }

    fn mixed(&mut self, x: Value, of_x: Column, y: Value, of_y: Column) -> Value {
        let (x, y) = (self.times(x, of_x), self.times(y, of_y));
        self.b.one(Add {}, &[x, y])
    }

    /// A column at every element of an image.
    fn everywhere(&mut self, column: Column) -> Value {
        let v = self.column(column);
        let v = self.one(Reshape { shape: vec![self.image.shape[0], 1, 1, 1] }, v);
        self.one(Broadcast { shape: self.image.shape.clone() }, v)
    }

    /// `v [N]`, every sample times its coefficient.
    fn weighted(&mut self, v: Value, column: Column) -> Value {
        let factor = self.column(column);
        let factor = self.one(Reshape { shape: vec![self.image.shape[0]] }, factor);
        self.b.one(Mul {}, &[v, factor])
    }

    /// By sample: `[N]`.
    fn mean(&mut self, x: Value) -> Value {
        let n = self.image.shape[0];
        let sum = self.one(Sum { axes: vec![1, 2, 3] }, x);
        let sum = self.one(Reshape { shape: vec![n] }, sum);
        self.one(Scale { by: n as f64 / self.image.count() as f64 }, sum)
    }

    /// `a + b`, `a - b`, `a * b`.
    fn add(&mut self, a: Value, b: Value) -> Value {
        self.b.one(Add {}, &[a, b])
    }

    fn sub(&mut self, a: Value, b: Value) -> Value {
        self.b.one(Sub {}, &[a, b])
    }

    fn mul(&mut self, a: Value, b: Value) -> Value {
        self.b.one(Mul {}, &[a, b])
    }

    /// The bound's term at t, in bits by dimension: `[N]`.
    fn variational_bound(&mut self, data: Value, state: Value, eps: Value, v: Value) -> Value {
        let log_posterior = self.everywhere(Column::LogPosterior);
        let fraction = self.one(Offset { by: 1.0 }, v);
        let fraction = self.one(Scale { by: 0.5 }, fraction);
        let up = self.times(fraction, Column::LogBeta);
        let rest = self.one(Neg {}, fraction);
        let rest = self.one(Offset { by: 1.0 }, rest);
        let down = self.times(rest, Column::LogPosterior);
        let log_variance = self.add(up, down);

        let eps = self.one(StopGradient {}, eps);
        let (from_state, from_noise) = (self.times(state, Column::FromState), self.times(eps, Column::FromNoise));
        let guess = self.sub(from_state, from_noise);
        let mean = self.mixed(guess, Column::MeanData, state, Column::MeanState);
        let true_mean = self.mixed(data, Column::MeanData, state, Column::MeanState);

        let divergence = self.divergence(log_posterior, log_variance, true_mean, mean);
        let bins = self.bins(data, mean, log_variance);
        let (bins, divergence) = (self.mean(bins), self.mean(divergence));
        // The one or the other: a coefficient of exactly 1.
        let change = self.sub(bins, divergence);
        let change = self.weighted(change, Column::First);
        let nats = self.add(divergence, change);
        self.one(Scale { by: std::f64::consts::LOG2_E }, nats)
    }

    /// Of Gaussians, in nats: `(l2 - l1 - 1 + exp(l1 - l2) + (m1 - m2)^2 exp(-l2)) / 2`.
    fn divergence(&mut self, log1: Value, log2: Value, mean1: Value, mean2: Value) -> Value {
        let ratio = self.sub(log2, log1);
        let inverse = self.one(Neg {}, ratio);
        let inverse = self.one(Exp {}, inverse);
        let precision = self.one(Neg {}, log2);
        let precision = self.one(Exp {}, precision);
        let apart = self.sub(mean1, mean2);
        let apart = self.mul(apart, apart);
        let apart = self.mul(apart, precision);
        let sum = self.one(Offset { by: -1.0 }, ratio);
        let sum = self.add(sum, inverse);
        let sum = self.add(sum, apart);
        self.one(Scale { by: 0.5 }, sum)
    }

    /// `-ln` of the probability that a Gaussian gives to the bin 2/255 wide around x, in nats; beyond 0.999 the bin is open-ended. Probabilities
    /// are at least 1e-12, below which they have no gradient.
    fn bins(&mut self, x: Value, mean: Value, log_variance: Value) -> Value {
        let precision = self.one(Scale { by: -0.5 }, log_variance);
        let precision = self.one(Exp {}, precision);
        let centred = self.sub(x, mean);
        let edge = |l: &mut Loss, by: f64| {
            let at = l.one(Offset { by }, centred);
            let at = l.mul(precision, at);
            l.distribution(at)
        };
        let (high, low) = (edge(self, 1.0 / 255.0), edge(self, -1.0 / 255.0));
        let inside = self.sub(high, low);
        let above = self.one(Neg {}, low);
        let above = self.one(Offset { by: 1.0 }, above);
        // 1 where x lies below, above.
        let is_low = self.one(Neg {}, x);
        let is_low = self.one(Offset { by: -0.999 }, is_low);
        let is_low = self.one(Step {}, is_low);
        let is_high = self.one(Offset { by: -0.999 }, x);
        let is_high = self.one(Step {}, is_high);
        let mut log = self.log_probability(inside);
        for (mask, open) in [(is_low, high), (is_high, above)] {
            let open = self.log_probability(open);
            let change = self.sub(open, log);
            let change = self.mul(mask, change);
            log = self.add(log, change);
        }
        self.one(Neg {}, log)
    }

    fn log_probability(&mut self, p: Value) -> Value {
        // Two is never reached.
        let p = self.one(Clamp { min: 1e-12, max: 2.0 }, p);
        self.one(Log {}, p)
    }

    /// The normal distribution's function by tanh, which the bound is defined with: `(1 + tanh(sqrt(2/pi) (z + 0.044715 z^3))) / 2`.
    fn distribution(&mut self, z: Value) -> Value {
        let square = self.mul(z, z);
        let cubic = self.mul(square, z);
        let cubic = self.one(Scale { by: 0.044715 }, cubic);
        let sum = self.add(z, cubic);
        let sum = self.one(Scale { by: (2.0 / std::f64::consts::PI).sqrt() }, sum);
        let t = self.one(Tanh {}, sum);
        let t = self.one(Offset { by: 1.0 }, t);
        self.one(Scale { by: 0.5 }, t)
    }
}
