//! Known pictures: a run that begins in the middle, from one with noise (SDEdit, Meng et al. 2022, "image to image"), and a
//! run in which a part of the picture is given (inpainting by replacement, Lugmayr et al. 2022, without its resampling).
//!
//! Both rest on one formula, the state that a clean one x has at the beginning of step k, for noise z:
//! `sqrt(abar_k) x + sqrt(1 - abar_k) z` for diffusion, `t_k x + (1 - t_k) z` for flow, and x itself after the last step.

use super::{Kind, Sampler, SamplerError, Solver};

/// A part of the states that is known, in the order of the states.
#[derive(Clone, Copy, Debug)]
pub struct Keep<'a> {
    /// Clean states; only what the mask keeps is looked at.
    pub clean: &'a [f32],
    /// For every position, the same for all states: 1 is made anew, 0 is kept, what is between is a mixture.
    pub mask: &'a [f32],
    /// The noise that the run begins with.
    pub noise: &'a [f32],
}

impl Sampler {
    /// The step that a run of `strength` begins with: of n steps it does the last `n strength`, rounded, but at least one.
    ///
    /// # Errors
    /// When it is not above 0 and at most 1.
    pub fn first_step(&self, strength: f64) -> Result<usize, SamplerError> {
        if !(strength > 0.0 && strength <= 1.0) {
            return Err(SamplerError::option("strength", "more than 0, at most 1", strength));
        }
        let n = self.steps();
        Ok(n - ((n as f64 * strength).round() as usize).max(1))
    }

    /// How many evaluations a whole run has done before step `k`: those of a run that begins there are
    /// [`Self::evaluations`]`[n..]`.
    pub fn evaluations_before(&self, k: usize) -> usize {
        let two = matches!(&self.kind, Kind::Ode(o) if o.solver() == Solver::Heun)
            || matches!(&self.kind, Kind::Sde(s) if s.solver() == Solver::Heun);
        k * if two { 2 } else { 1 }
    }

    /// Factors of the clean state and of the noise in a state at the beginning of step `k`, or at the end.
    fn level(&self, k: usize) -> (f64, f64) {
        let n = self.steps();
        if k == n {
            return (1.0, 0.0);
        }
        let flow = |t: f64| (t, 1.0 - t);
        match (&self.kind, self.schedule()) {
            (Kind::Ode(o), _) => flow(o.time(k)),
            (Kind::Sde(s), _) => flow(s.time(k)),
            (_, schedule) => {
                let abar = schedule.expect("diffusion samplers have a schedule").abar[n - 1 - k];
                (abar.sqrt(), (1.0 - abar).sqrt())
            }
        }
    }

    /// Writes the states that `clean` has with `noise` at the beginning of step `k`; after the last step, `k` being the
    /// number of steps, that is `clean`.
    ///
    /// # Panics
    /// When `k` is above [`Self::steps`] or the lengths differ.
    pub fn noised(&self, k: usize, clean: &[f32], noise: &[f32], state: &mut [f32]) {
        assert!(k <= self.steps(), "step {k} of {}", self.steps());
        assert_eq!((clean.len(), noise.len()), (state.len(), state.len()), "elements of the state");
        let (a, b) = self.level(k);
        for ((to, &x), &z) in state.iter_mut().zip(clean).zip(noise) {
            *to = mixed(a, x, b, z);
        }
    }

    /// What the network, when it was asked last, thought that a state at the beginning of step `k` comes from: the inverse of
    /// [`Self::noised`], with the noise that it predicted. For looking at; after the last step, the state itself.
    ///
    /// # Panics
    /// When `k` is above [`Self::steps`] or the lengths differ.
    pub fn estimate(&self, k: usize, state: &[f32], clean: &mut [f32]) {
        assert_eq!((state.len(), clean.len()), (self.layout.state_len(), self.layout.state_len()), "elements of the state");
        let ((a, b), layout) = (self.level(k), self.layout);
        let diffusion = self.schedule().is_some();
        let rows = state.chunks_exact(layout.channels).zip(clean.chunks_exact_mut(layout.channels));
        for ((state, clean), output) in rows.zip(self.buffers.output.chunks_exact(layout.out_channels)) {
            for ((to, &x), &out) in clean.iter_mut().zip(state).zip(output) {
                let (x, out) = (f64::from(x), f64::from(out));
                // eps is the noise; velocity leads from here to the end.
                *to = if diffusion { (x - b * out) / a } else { x + b * out } as f32;
            }
        }
    }

    /// Puts what is known into a state at the beginning of step `k`, or at the end: to be done before the first step of a run
    /// and after every step. What the mask keeps ends as `keep.clean`, bit by bit. Multistep methods go on undisturbed: their
    /// history of an element is of use to that element alone, and what is kept does not ask for any.
    ///
    /// # Panics
    /// When `k` is above [`Self::steps`] or a length is not the layout's.
    pub fn keep(&self, k: usize, keep: &Keep<'_>, state: &mut [f32]) {
        let (length, layout) = (self.layout.state_len(), self.layout);
        assert!(k <= self.steps(), "step {k} of {}", self.steps());
        assert_eq!((state.len(), keep.clean.len(), keep.noise.len()), (length, length, length), "elements of the state");
        assert_eq!(keep.mask.len(), layout.positions, "positions of the mask");
        let (a, b) = self.level(k);
        for (i, (to, (&x, &z))) in state.iter_mut().zip(keep.clean.iter().zip(keep.noise)).enumerate() {
            match keep.mask[i / layout.channels % layout.positions] {
                0.0 => *to = mixed(a, x, b, z),
                1.0 => {}
                m => *to = (f64::from(m) * f64::from(*to) + (1.0 - f64::from(m)) * (a * f64::from(x) + b * f64::from(z))) as f32,
            }
        }
    }
}

/// `a x + b z`; x itself where b is 0, whatever z is.
fn mixed(a: f64, x: f32, b: f64, z: f32) -> f32 {
    if b == 0.0 { x } else { (a * f64::from(x) + b * f64::from(z)) as f32 }
}
