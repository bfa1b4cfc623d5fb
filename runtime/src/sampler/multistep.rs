//! Few-step solvers of the diffusion ODE for networks that predict eps: DPM-Solver++(2M) (Lu et al. 2022, arXiv
//! 2211.01095, algorithm 2) and UniPC-2 (Zhao et al. 2023, arXiv 2302.04867, algorithms 5 to 8, B(h) = e^h - 1). One
//! evaluation a step, second order, from the data predictions of the steps before.
//!
//! `alpha = sqrt(abar)`, `sigma = sqrt(1 - abar)`, `lambda = ln(alpha / sigma)`. Step k goes from s = t_k to t = t_{k+1},
//! `h = lambda_t - lambda_s`, `r = (lambda_s - lambda_{k-1}) / h`, with `m_k = (x - sigma_s eps) / alpha_s`:
//!
//! ```text
//! predictor, both:  x_t = sigma_t/sigma_s x_s + alpha_t (1 - e^-h) (m_k + (m_k - m_{k-1}) / 2r)
//! corrector, UniPC: x_s = sigma_s/sigma_q x_q + alpha_s (1 - e^-g) (m_{k-1} + a_1 (m_{k-2} - m_{k-1}) / p + a_2 (m_k - m_{k-1}))
//! ```
//!
//! The corrector redoes the step before, from q = t_{k-1}, `g = lambda_s - lambda_q`, `p = (lambda_{k-2} - lambda_q) / g`,
//! now that m_k is known: the network was asked at the predicted x_s, the predictor goes on from the corrected one. For
//! `z = -g` its weights solve `a_1 + a_2 = z phi_2(z) / (e^z - 1)`, `p a_1 + a_2 = 2 z phi_3(z) / (e^z - 1)`; with
//! m_{k-1} alone `a_2 = 1/2`. UniPC's predictor of order 2 has the weight 1/2 for every B(h), which makes it DPM-Solver++'s.
//!
//! The first step has no m_{k-1}, and the last, to sigma = 0, no finite h: both are of first order, and the last one's
//! result is its data prediction. x0 is not clipped: these are latents.

use super::diffusion::Outputs;
use super::{Buffers, Denoiser, Layout, SamplerError};
use crate::schedule::{Schedule, Spacing};

/// Which formulas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    DpmSolver,
    UniPc,
}

/// What the next step needs of the steps before.
#[derive(Clone, Default)]
pub(super) struct History {
    /// The step that it is for.
    next: usize,
    /// How many of `data` there are; the others are zero.
    depth: usize,
    /// m_{k-1} and m_{k-2}.
    data: [Vec<f64>; 2],
    /// What the predictor of step k-1 started from, corrected and not rounded; empty without a corrector.
    base: Vec<f64>,
}

impl History {
    /// For states of `length` values.
    pub fn new(length: usize, rule: Rule) -> Self {
        let corrected = if rule == Rule::UniPc { length } else { 0 };
        Self { next: 0, depth: 0, data: [vec![0.0; length], vec![0.0; length]], base: vec![0.0; corrected] }
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        size_of::<f64>() * (self.data.iter().map(Vec::len).sum::<usize>() + self.base.len())
    }

    /// Forgets: the next step is a first one.
    pub fn clear(&mut self) {
        self.depth = 0;
        self.data.iter_mut().chain([&mut self.base]).for_each(|values| values.fill(0.0));
    }
}

/// `x_t = x x_s + now m_k + before m_{k-1}`.
#[derive(Clone, Copy)]
struct Predictor {
    x: f64,
    now: f64,
    before: f64,
}

/// `x_s = base x_q + now m_k + before[0] m_{k-1} + before[1] m_{k-2}`.
#[derive(Clone, Copy)]
struct Corrector {
    base: f64,
    now: f64,
    before: [f64; 2],
}

/// A step's weights by the depth of the history.
#[derive(Clone)]
struct Step {
    /// None; one or more.
    predictor: [Predictor; 2],
    /// None: nothing to correct; one; two.
    corrector: [Option<Corrector>; 3],
}

#[derive(Clone)]
pub(super) struct Multistep {
    schedule: Schedule,
    /// From the noisiest on.
    steps: Vec<Step>,
}

impl Multistep {
    pub fn new(spacing: Spacing, rule: Rule) -> Result<Self, SamplerError> {
        let schedule = Schedule::new(spacing)?;
        let points: Vec<Point> = schedule.abar.iter().rev().map(|&abar| Point::new(abar)).collect();
        let step = |k: usize| {
            let earlier = |back: usize| k.checked_sub(back).map(|i| points[i]);
            let predictor = [None, earlier(1)].map(|before| predictor(before, points[k], points.get(k + 1).copied()));
            let corrector = match (rule, earlier(1)) {
                (Rule::UniPc, Some(from)) => [None, Some(corrector(None, from, points[k])), Some(corrector(earlier(2), from, points[k]))],
                _ => [None; 3],
            };
            Step { predictor, corrector }
        };
        let steps = (0..points.len()).map(step).collect();
        Ok(Self { schedule, steps })
    }

    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    pub fn step(&self, k: usize, layout: Layout, state: &mut [f32], buffers: &mut Buffers, denoiser: &mut dyn Denoiser) {
        let Buffers { output, history, .. } = buffers;
        if history.next != k {
            history.clear();
        }
        let s = &self.schedule;
        let i = self.steps.len() - 1 - k;
        denoiser.denoise(state, k, s.timesteps[i] as f64, output);
        let (to_x, to_eps) = (s.x0_from_xt[i], s.x0_from_eps[i]);
        let step = &self.steps[k];
        let (predictor, corrector) = (step.predictor[history.depth.min(1)], step.corrector[history.depth]);
        let [before, oldest] = &mut history.data;
        let base = &mut history.base;
        Outputs { values: output, layout }.each(state, |at, x, eps, _| {
            let now = to_x * x - to_eps * eps;
            let x = corrector.map_or(x, |c| c.base * base[at] + c.now * now + c.before[0] * before[at] + c.before[1] * oldest[at]);
            if let Some(base) = base.get_mut(at) {
                *base = x;
            }
            oldest[at] = now;
            predictor.x * x + predictor.now * now + predictor.before * before[at]
        });
        // The oldest made room for the newest.
        history.data.swap(0, 1);
        history.depth = (history.depth + 1).min(2);
        history.next = k + 1;
    }
}

/// A timestep in the solvers' coordinates.
#[derive(Clone, Copy)]
struct Point {
    alpha: f64,
    sigma: f64,
    lambda: f64,
}

impl Point {
    fn new(abar: f64) -> Self {
        Self { alpha: abar.sqrt(), sigma: (1.0 - abar).sqrt(), lambda: 0.5 * libm::log(abar / (1.0 - abar)) }
    }
}

/// From `at` to `to`, clean data if there is none.
fn predictor(before: Option<Point>, at: Point, to: Option<Point>) -> Predictor {
    let Some(to) = to else { return Predictor { x: 0.0, now: 1.0, before: 0.0 } };
    let h = to.lambda - at.lambda;
    let gain = -to.alpha * libm::expm1(-h);
    let slope = before.map_or(0.0, |before| 0.5 * h / (at.lambda - before.lambda));
    Predictor { x: to.sigma / at.sigma, now: gain * (1.0 + slope), before: -gain * slope }
}

/// Redoes the step from `from` to `at`; `older` is the point before `from`.
fn corrector(older: Option<Point>, from: Point, at: Point) -> Corrector {
    let g = at.lambda - from.lambda;
    let (z, b) = (-g, libm::expm1(-g));
    let gain = -at.alpha * b;
    let (slope, now) = match older {
        None => (0.0, 0.5),
        Some(older) => {
            let p = (older.lambda - from.lambda) / g;
            let (first, second) = (z * phi(2, z) / b, 2.0 * z * phi(3, z) / b);
            let a = (first - second) / (1.0 - p);
            (a / p, first - a)
        }
    };
    Corrector { base: at.sigma / from.sigma, now: gain * now, before: [gain * (1.0 - slope - now), gain * slope] }
}

/// `phi_j(z)`, the sum of `z^i / (i + j)!`, for z below 0: `phi_0 = e^z`, `phi_{j+1} = (phi_j - 1/j!) / z`, which cancels for
/// small z; there by the series, whose twentieth term is below 1e-18.
fn phi(j: u32, z: f64) -> f64 {
    let factorial = |n: u32| (1..=n).map(f64::from).product::<f64>();
    if z < -1.0 {
        return (0..j).fold(libm::exp(z), |phi, i| (phi - 1.0 / factorial(i)) / z);
    }
    let first = 1.0 / factorial(j);
    let terms = (1..20).scan(first, |term, i| {
        *term *= z / f64::from(i + j);
        Some(*term)
    });
    first + terms.sum::<f64>()
}
