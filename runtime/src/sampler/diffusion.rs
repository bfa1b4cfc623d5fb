//! Ancestral sampling with learned variance (Ho et al. 2020; Nichol and Dhariwal 2021, eq. 15) and DDIM
//! (Song et al. 2021, eq. 12 and 16). x0 is not clipped: these are latents.

use super::{Buffers, Denoiser, Layout, SamplerError, StepNoise};
use crate::schedule::{Schedule, Spacing};

#[derive(Clone)]
pub(super) struct Diffusion {
    schedule: Schedule,
    rule: Rule,
}

#[derive(Clone, Copy)]
enum Rule {
    Ddpm,
    Ddim { eta: f64 },
}

impl Diffusion {
    pub fn ddpm(spacing: Spacing) -> Result<Self, SamplerError> {
        Ok(Self { schedule: Schedule::new(spacing)?, rule: Rule::Ddpm })
    }

    pub fn ddim(spacing: Spacing, eta: f64) -> Result<Self, SamplerError> {
        if !(0.0..=1.0).contains(&eta) {
            return Err(SamplerError::option("eta", "0 to 1", eta));
        }
        Ok(Self { schedule: Schedule::new(spacing)?, rule: Rule::Ddim { eta } })
    }

    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// All but the last step, unless there is no noise at all.
    pub fn noise_steps(&self) -> usize {
        match self.rule {
            Rule::Ddim { eta: 0.0 } => 0,
            _ => self.schedule.len() - 1,
        }
    }

    pub fn step(
        &self,
        k: usize,
        layout: Layout,
        state: &mut [f32],
        buffers: &mut Buffers,
        denoiser: &mut dyn Denoiser,
        noise: &mut dyn StepNoise,
    ) {
        let i = self.schedule.len() - 1 - k;
        denoiser.denoise(state, k, self.schedule.timesteps[i] as f64, &mut buffers.output);
        let noisy = k < self.noise_steps();
        if noisy {
            noise.fill(k, &mut buffers.noise);
        }
        let outputs = Outputs { values: &buffers.output, layout };
        let noise = noisy.then_some(buffers.noise.as_slice());
        match self.rule {
            Rule::Ddpm => self.ancestral(i, state, outputs, noise),
            Rule::Ddim { eta } => self.implicit(i, eta, state, outputs, noise),
        }
    }

    fn ancestral(&self, i: usize, state: &mut [f32], outputs: Outputs, noise: Option<&[f32]>) {
        let s = &self.schedule;
        let (log_beta, log_posterior) = (s.log_beta[i], s.log_posterior_variance[i]);
        outputs.each(state, |at, x, eps, v| {
            let x0 = s.x0_from_xt[i] * x - s.x0_from_eps[i] * eps;
            let mean = s.mean_x0[i] * x0 + s.mean_xt[i] * x;
            let Some(noise) = noise else { return mean };
            let f = (v + 1.0) / 2.0;
            let log_variance = f * log_beta + (1.0 - f) * log_posterior;
            mean + libm::exp(0.5 * log_variance) * f64::from(noise[at])
        });
    }

    fn implicit(&self, i: usize, eta: f64, state: &mut [f32], outputs: Outputs, noise: Option<&[f32]>) {
        let s = &self.schedule;
        let (abar, prev) = (s.abar[i], s.abar_prev[i]);
        let sigma = eta * ((1.0 - prev) / (1.0 - abar)).sqrt() * (1.0 - abar / prev).sqrt();
        let (to_x0, to_eps) = (prev.sqrt(), (1.0 - prev - sigma * sigma).max(0.0).sqrt());
        outputs.each(state, |at, x, eps, _| {
            let x0 = s.x0_from_xt[i] * x - s.x0_from_eps[i] * eps;
            let next = to_x0 * x0 + to_eps * eps;
            noise.map_or(next, |noise| next + sigma * f64::from(noise[at]))
        });
    }
}

/// The network's output rows beside the state's: eps first, then the variances, if any.
pub(super) struct Outputs<'a> {
    pub values: &'a [f32],
    pub layout: Layout,
}

impl Outputs<'_> {
    /// `x <- f(index, x, eps, v)` for every element; v is 0 where the network predicts none.
    pub fn each(&self, state: &mut [f32], mut f: impl FnMut(usize, f64, f64, f64) -> f64) {
        let Layout { channels, out_channels, .. } = self.layout;
        for (row, (xs, outs)) in state.chunks_exact_mut(channels).zip(self.values.chunks_exact(out_channels)).enumerate() {
            for (c, x) in xs.iter_mut().enumerate() {
                let v = outs.get(channels + c).map_or(0.0, |&v| f64::from(v));
                *x = f(row * channels + c, f64::from(*x), f64::from(outs[c]), v) as f32;
            }
        }
    }
}
