//! Where samplers get their noise from.

use crate::rng::{Purpose, Stream, normals};

/// Standard normal noise for the steps of a sampler.
pub trait StepNoise {
    /// Fills `out`, laid out as the states are, with the noise of step `step` (0 is the noisiest). Steps without
    /// noise do not ask.
    fn fill(&mut self, step: usize, out: &mut [f32]);
}

/// Noise by a seed for each picture, independent of which pictures are sampled together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PictureNoise {
    seeds: Vec<u64>,
}

impl PictureNoise {
    /// One seed for each state.
    pub fn new(seeds: impl Into<Vec<u64>>) -> Self {
        Self { seeds: seeds.into() }
    }
}

impl StepNoise for PictureNoise {
    fn fill(&mut self, step: usize, out: &mut [f32]) {
        let step = u32::try_from(step).expect("samplers have fewer steps than 2^32");
        draw(&self.seeds, Stream { purpose: Purpose::SamplerNoise, item: 0, step }, out);
    }
}

/// The states that sampling starts from, one for each seed, in `out`.
///
/// # Panics
/// When `out` does not divide into as many states.
pub fn initial_state(seeds: &[u64], out: &mut [f32]) {
    draw(seeds, Stream { purpose: Purpose::InitialState, item: 0, step: 0 }, out);
}

fn draw(seeds: &[u64], stream: Stream, out: &mut [f32]) {
    if seeds.is_empty() && out.is_empty() {
        return;
    }
    assert!(!seeds.is_empty() && out.len().is_multiple_of(seeds.len()), "{} seeds for {} elements", seeds.len(), out.len());
    let each = out.len() / seeds.len();
    for (i, seed) in seeds.iter().enumerate() {
        normals(*seed, stream, &mut out[i * each..(i + 1) * each]);
    }
}

/// Noise from a tensor `[steps, states, height, width, channels]`.
#[derive(Clone, Debug, PartialEq)]
pub struct GivenNoise {
    values: Vec<f32>,
}

impl GivenNoise {
    /// Has to hold [`super::Sampler::noise_steps`] steps at least.
    pub fn new(values: impl Into<Vec<f32>>) -> Self {
        Self { values: values.into() }
    }
}

impl StepNoise for GivenNoise {
    /// # Panics
    /// When the tensor has no such step.
    fn fill(&mut self, step: usize, out: &mut [f32]) {
        let begin = step * out.len();
        let noise = self.values.get(begin..begin + out.len()).expect("the noise tensor holds every step that asks");
        out.copy_from_slice(noise);
    }
}

/// For samplers without noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoNoise;

impl StepNoise for NoNoise {
    /// # Panics
    /// Always.
    fn fill(&mut self, step: usize, _: &mut [f32]) {
        panic!("step {step} of a sampler with noise was given none");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_does_not_depend_on_its_batch() {
        let mut pair = [0.0; 24];
        let mut alone = [0.0; 12];
        for step in [0, 7] {
            PictureNoise::new([3, 4]).fill(step, &mut pair);
            PictureNoise::new([4]).fill(step, &mut alone);
            assert_eq!(pair[12..], alone);
            assert_ne!(pair[..12], alone);
        }
        initial_state(&[3, 4], &mut pair);
        let start = pair;
        initial_state(&[4], &mut alone);
        assert_eq!(start[12..], alone);
        PictureNoise::new([3, 4]).fill(0, &mut pair);
        assert_ne!(start, pair, "the start and the first step's noise are independent");
    }

    #[test]
    fn given_noise_is_cut_by_steps() {
        let mut out = [0.0; 2];
        GivenNoise::new([1.0, 2.0, 3.0, 4.0]).fill(1, &mut out);
        assert_eq!(out, [3.0, 4.0]);
    }
}
