//! Flow matching on the linear path `x_t = t x1 + (1-t) x0` (x1 data, x0 noise): the ODE `dx/dt = v`, and the SDE
//! `dx = (v + w score) dt + sqrt(2 w) dB` with `score = (t v - x) / (1-t)`, which needs no second network evaluation.

use super::{Buffers, Denoiser, DiffusionForm, LastStep, MAX_FLOW_STEPS, SamplerError, Solver, StepNoise};

#[derive(Clone)]
pub(super) struct Ode {
    steps: usize,
    solver: Solver,
}

impl Ode {
    pub fn new(steps: usize, solver: Solver) -> Result<Self, SamplerError> {
        check_steps(steps, 1)?;
        Ok(Self { steps, solver })
    }

    pub fn solver(&self) -> Solver {
        self.solver
    }

    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Point `i` of the time grid. A quotient, so that a step's end has the bits of the next one's start.
    pub fn time(&self, i: usize) -> f64 {
        i as f64 / self.steps as f64
    }

    pub fn evaluations(&self) -> Vec<f64> {
        let of_step = |k| match self.solver {
            Solver::Euler => vec![self.time(k)],
            Solver::Heun => vec![self.time(k), self.time(k + 1)],
        };
        (0..self.steps).flat_map(of_step).collect()
    }

    pub fn step(&self, k: usize, state: &mut [f32], buffers: &mut Buffers, denoiser: &mut dyn Denoiser) {
        let dt = 1.0 / self.steps as f64;
        let Buffers { output, second, input, .. } = buffers;
        match self.solver {
            Solver::Euler => {
                denoiser.denoise(state, k, self.time(k), output);
                update(state, |i, x| x + dt * f64::from(output[i]));
            }
            Solver::Heun => {
                denoiser.denoise(state, 2 * k, self.time(k), output);
                for ((to, &x), &v) in input.iter_mut().zip(&*state).zip(&*output) {
                    *to = (f64::from(x) + dt * f64::from(v)) as f32;
                }
                denoiser.denoise(input, 2 * k + 1, self.time(k + 1), second);
                update(state, |i, x| x + dt * (0.5 * (f64::from(output[i]) + f64::from(second[i]))));
            }
        }
    }
}

/// A time at which the network is asked, with `w(t) / (1-t)`.
#[derive(Clone, Copy)]
struct Evaluation {
    t: f64,
    gain: f64,
}

impl Evaluation {
    /// `v + w score`.
    fn drift(self, v: f32, x: f64) -> f64 {
        let v = f64::from(v);
        v + self.gain * (self.t * v - x)
    }
}

/// One update of the grid.
#[derive(Clone, Copy)]
struct Update {
    start: Evaluation,
    /// For Heun.
    end: Option<Evaluation>,
    /// Standard deviation of the noise: `sqrt(2 w dt)`.
    kick: f64,
}

#[derive(Clone)]
pub(super) struct Sde {
    dt: f64,
    solver: Solver,
    updates: Vec<Update>,
    last: LastStep,
    last_size: f64,
    /// Where the last step asks; not used by [`LastStep::None`].
    ending: Evaluation,
}

impl Sde {
    pub fn new(steps: usize, solver: Solver, form: DiffusionForm, norm: f64, last: LastStep, last_size: f64) -> Result<Self, SamplerError> {
        check_steps(steps, 2)?;
        if !(norm.is_finite() && norm >= 0.0) {
            return Err(SamplerError::option("norm", "a number not below 0", norm));
        }
        if last != LastStep::None && !(last_size > 0.0 && last_size < 1.0) {
            return Err(SamplerError::option("last_size", "more than 0, less than 1", last_size));
        }
        let last_size = if last == LastStep::None { 0.0 } else { last_size };
        let end = 1.0 - last_size;
        let dt = end / (steps - 1) as f64;
        // The form that is infinite at 0 takes its value at the end of the first step there.
        let regular = |t: f64| if form == DiffusionForm::Sbdm { t.max(dt) } else { t };
        let evaluation = |t: f64| Evaluation { t, gain: form.gain(regular(t), norm) };
        let updates: Vec<Update> = (0..steps - 1)
            .map(|k| {
                let t = k as f64 * dt;
                // Rounding must not carry the very last point of a whole grid past 1, or stop short of it.
                let next = if last == LastStep::None && k + 2 == steps { 1.0 } else { t + dt };
                Update {
                    start: evaluation(t),
                    end: (solver == Solver::Heun).then(|| evaluation(next)),
                    kick: (2.0 * form.size(regular(t), norm)).sqrt() * dt.sqrt(),
                }
            })
            .collect();
        if updates.iter().filter_map(|u| u.end).any(|e| !e.gain.is_finite()) {
            return Err(SamplerError::SingularEnd(form));
        }
        Ok(Self { dt, solver, updates, last, last_size, ending: evaluation(end) })
    }

    pub fn solver(&self) -> Solver {
        self.solver
    }

    pub fn steps(&self) -> usize {
        self.updates.len() + usize::from(self.last != LastStep::None)
    }

    /// Where step `k` begins.
    pub fn time(&self, k: usize) -> f64 {
        self.updates.get(k).map_or(self.ending.t, |update| update.start.t)
    }

    pub fn noise_steps(&self) -> usize {
        self.updates.len()
    }

    pub fn evaluations(&self) -> Vec<f64> {
        let grid = self.updates.iter().flat_map(|u| std::iter::once(u.start).chain(u.end));
        let ending = (self.last != LastStep::None).then_some(self.ending);
        grid.chain(ending).map(|e| e.t).collect()
    }

    pub fn step(&self, k: usize, state: &mut [f32], buffers: &mut Buffers, denoiser: &mut dyn Denoiser, noise: &mut dyn StepNoise) {
        let Some(now) = self.updates.get(k) else {
            return self.finish(state, &mut buffers.output, denoiser);
        };
        let Buffers { output, second, input, noise: drawn, .. } = buffers;
        noise.fill(k, drawn);
        let dt = self.dt;
        let kick = |i: usize| now.kick * f64::from(drawn[i]);
        let Some(end) = now.end else {
            denoiser.denoise(state, k, now.start.t, output);
            return update(state, |i, x| x + dt * now.start.drift(output[i], x) + kick(i));
        };
        for (i, (to, &x)) in input.iter_mut().zip(&*state).enumerate() {
            *to = (f64::from(x) + kick(i)) as f32;
        }
        denoiser.denoise(input, 2 * k, now.start.t, output);
        for (i, (to, &x)) in input.iter_mut().zip(&*state).enumerate() {
            let kicked = f64::from(x) + kick(i);
            *to = (kicked + dt * now.start.drift(output[i], kicked)) as f32;
        }
        denoiser.denoise(input, 2 * k + 1, end.t, second);
        update(state, |i, x| {
            let kicked = x + kick(i);
            let first = now.start.drift(output[i], kicked);
            kicked + 0.5 * dt * (first + end.drift(second[i], kicked + dt * first))
        });
    }

    fn finish(&self, state: &mut [f32], output: &mut [f32], denoiser: &mut dyn Denoiser) {
        let evaluation: usize = self.updates.iter().map(|u| 1 + usize::from(u.end.is_some())).sum();
        let (t, size) = (self.ending.t, self.last_size);
        denoiser.denoise(state, evaluation, t, output);
        update(state, |i, x| match self.last {
            LastStep::Mean => x + size * self.ending.drift(output[i], x),
            LastStep::Euler => x + size * f64::from(output[i]),
            // x/t + (1-t)^2/t score, with the score's denominator cancelled.
            LastStep::Tweedie => x / t + (1.0 - t) / t * (t * f64::from(output[i]) - x),
            LastStep::None => unreachable!("it has no step of its own"),
        });
    }
}

fn check_steps(steps: usize, least: usize) -> Result<(), SamplerError> {
    if (least..=MAX_FLOW_STEPS).contains(&steps) {
        return Ok(());
    }
    Err(SamplerError::option("steps", format!("{least} to {MAX_FLOW_STEPS}"), steps))
}

/// `x <- f(index, x)` for every element.
fn update(state: &mut [f32], f: impl Fn(usize, f64) -> f64) {
    for (i, x) in state.iter_mut().enumerate() {
        *x = f(i, f64::from(*x)) as f32;
    }
}
