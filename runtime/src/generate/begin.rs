//! What sampling begins from: noise by seed, a user's own noise, or clean states with some noise on them, of which a part may be
//! kept.

use std::sync::Arc;

use super::job::Job;
use crate::artifact::{Artifact, ModelInfo};
use crate::autoencoder::Encoder;
use crate::engine::Device;
use crate::network::NetworkError;
use crate::picture::Picture;
use crate::request::RequestError;
use crate::sampler::{GivenNoise, PictureNoise, StepNoise, initial_state_between};

/// Share of the way that is gone anew where nobody says otherwise.
const STRENGTH: f64 = 0.75;

/// Makes clean states of pictures: by the artifact's encoder, or, of a model of pictures, as they are.
pub struct Begin {
    encoder: Option<Encoder>,
    /// Height, width and channels of states.
    state: [usize; 3],
}

impl Begin {
    /// What turns pictures into states of this model.
    ///
    /// # Errors
    /// When there is an autoencoder without an encoder, or one that is not sound.
    pub fn new(artifact: &Arc<Artifact>, model: &ModelInfo, device: &dyn Device) -> Result<Begin, NetworkError> {
        let encoder = artifact.autoencoder().is_some().then(|| Encoder::new(artifact, device)).transpose()?;
        Ok(Begin { encoder, state: [model.height, model.width, model.in_channels] })
    }

    /// Height and width that pictures have to have.
    pub fn size(&self) -> [usize; 2] {
        let [h, w, _] = self.encoder.as_ref().map_or(self.state, Encoder::picture);
        [h, w]
    }

    /// The clean state of a picture, an autoencoder's mean.
    ///
    /// # Errors
    /// One line, when the model's states are no pictures and there is nothing to make them of pictures.
    ///
    /// # Panics
    /// If the picture has another size.
    pub fn state(&mut self, picture: &Picture) -> Result<Vec<f32>, RequestError> {
        let [h, w, c] = self.state;
        match &mut self.encoder {
            Some(encoder) => {
                let (mut mean, mut deviation) = (vec![0.0; h * w * c], vec![0.0; h * w * c]);
                encoder.encode(&picture.to_unit(), &mut mean, &mut deviation);
                Ok(mean)
            }
            None if c == picture.channels && c == 3 => Ok(picture.to_unit()),
            None => {
                let found = format!("{c} channels");
                Err(RequestError::new("init-image", "a model of RGB pictures or one with an encoder", found))
            }
        }
    }
}

/// What becomes of a mask's greys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaskEdge {
    /// From the middle on a pixel is made anew, below it is kept; a state's position goes with the first of its pixels. As diffusers has it.
    #[default]
    Hard,
    /// A pixel is mixed; a state's position has the mean over its pixels.
    Soft,
}

/// Clean states to begin from.
#[derive(Clone, Debug)]
pub struct Init {
    /// One state for all pictures, or one for each, `[H,W,C]`.
    clean: Vec<f32>,
    /// Values of one.
    state: usize,
    strength: f64,
    mask: Option<Mask>,
}

/// What is kept of a picture.
#[derive(Clone, Debug)]
struct Mask {
    /// Of states, `[H,W]`: 1 is made anew.
    latent: Vec<f32>,
    /// Of pixels, 0 to 255.
    pixels: Vec<u8>,
    picture: Picture,
}

impl Init {
    /// From clean states, one for all pictures or one for each, `[n,H,W,C]`. Where nobody says which share of the way is gone anew it
    /// is three quarters.
    ///
    /// # Panics
    /// If there is no whole number of states, or none.
    pub fn new(clean: Vec<f32>, model: &ModelInfo, strength: Option<f64>) -> Init {
        let state = model.height * model.width * model.in_channels;
        assert!(!clean.is_empty() && clean.len().is_multiple_of(state), "whole states");
        Init { clean, state, strength: strength.unwrap_or(STRENGTH), mask: None }
    }

    /// Keeps what is black in `mask`, of the picture that the state was made of, and makes anew what is white. Where nobody says otherwise
    /// the whole way is gone.
    ///
    /// # Panics
    /// If both are not of one size, a multiple of the state's, in RGB.
    pub fn keeping(self, picture: Picture, mask: &Picture, edge: MaskEdge, model: &ModelInfo, strength: Option<f64>) -> Init {
        let mask = Mask::new(picture, mask, edge, [model.height, model.width]);
        Init { mask: Some(mask), strength: strength.unwrap_or(1.0), ..self }
    }

    /// The clean states of a batch.
    pub(super) fn states(&self, batch: &[Job]) -> Vec<f32> {
        let count = self.count();
        batch.iter().flat_map(|job| &self.clean[job.index % count * self.state..][..self.state]).copied().collect()
    }

    /// How many states there are.
    pub fn count(&self) -> usize {
        self.clean.len() / self.state
    }

    /// Share of the way that is gone anew.
    pub fn strength(&self) -> f64 {
        self.strength
    }

    /// Whether a part is kept.
    pub fn is_masked(&self) -> bool {
        self.mask.is_some()
    }

    /// What is made anew of states.
    pub(super) fn mask(&self) -> Option<&[f32]> {
        self.mask.as_ref().map(|m| &*m.latent)
    }

    /// Puts the pixels back that the mask keeps: an autoencoder does not give them back exactly.
    pub(super) fn restore(&self, made: &mut Picture) {
        let Some(mask) = &self.mask else { return };
        let pixels = made.pixels.chunks_exact_mut(3).zip(mask.picture.pixels.chunks_exact(3)).zip(&mask.pixels);
        for ((made, kept), &m) in pixels {
            let m = u32::from(m);
            made.iter_mut().zip(kept).for_each(|(a, &b)| *a = ((u32::from(*a) * m + u32::from(b) * (255 - m) + 127) / 255) as u8);
        }
    }
}

impl Mask {
    fn new(picture: Picture, mask: &Picture, edge: MaskEdge, [height, width]: [usize; 2]) -> Mask {
        let shape = |p: &Picture| (p.height, p.width, p.channels);
        assert!(shape(&picture) == shape(mask) && mask.channels == 3, "a mask is as large as its picture");
        // The middle channel stands for the brightness of what should be grey anyway.
        let mut pixels: Vec<u8> = mask.pixels.iter().skip(1).step_by(3).copied().collect();
        let factor = picture.height / height;
        if edge == MaskEdge::Hard {
            pixels.iter_mut().for_each(|p| *p = if *p < 128 { 0 } else { 255 });
        }
        let mean = |y: usize, x: usize| {
            let row = |dy: usize| &pixels[(y * factor + dy) * picture.width + x * factor..][..factor];
            let sum: f32 = (0..factor).flat_map(row).map(|&p| f32::from(p)).sum();
            sum / (255 * factor * factor) as f32
        };
        let first = |y: usize, x: usize| f32::from(pixels[y * factor * picture.width + x * factor]) / 255.0;
        let of = |(y, x)| if edge == MaskEdge::Hard { first(y, x) } else { mean(y, x) };
        let latent = (0..height).flat_map(|y| (0..width).map(move |x| (y, x))).map(of).collect();
        Mask { latent, pixels, picture }
    }
}

/// Noise given by the user, channels last.
#[derive(Clone, Debug)]
pub struct Noise {
    start: Vec<f32>,
    /// `[steps, n, H, W, C]` and the number of steps.
    steps: Option<(Vec<f32>, usize)>,
    pictures: usize,
}

impl Noise {
    /// Starting noise of so many pictures, `[n,H,W,C]`, and that of so many steps, if it is given too: `[steps,n,H,W,C]`.
    ///
    /// # Panics
    /// If a length does not divide so.
    pub fn new(start: Vec<f32>, steps: Option<(Vec<f32>, usize)>, pictures: usize) -> Noise {
        assert!(pictures > 0 && start.len().is_multiple_of(pictures), "a state for every picture");
        assert!(steps.as_ref().is_none_or(|(values, n)| values.len() == n * start.len()), "a state for every step and picture");
        Noise { start, steps, pictures }
    }

    /// For how many pictures it is given.
    pub fn count(&self) -> usize {
        self.pictures
    }

    /// For how many steps it is given.
    pub(super) fn steps_given(&self) -> usize {
        self.steps.as_ref().map_or(0, |(_, steps)| *steps)
    }

    /// The steps' noise of a batch.
    fn steps(&self, batch: &[Job]) -> Option<Vec<f32>> {
        let (values, steps) = self.steps.as_ref()?;
        let state = values.len() / (steps * self.pictures);
        let of = |k: usize, job: &Job| &values[(k * self.pictures + job.index) * state..][..state];
        Some((0..*steps).flat_map(|k| batch.iter().flat_map(move |job| of(k, job))).copied().collect())
    }
}

/// Starting noise of a batch into `states`, and the noise of its steps.
pub(super) fn starting_noise(noise: Option<&Noise>, batch: &[Job], states: &mut [f32]) -> Box<dyn StepNoise> {
    let seeds: Vec<u64> = batch.iter().map(|j| j.seed).collect();
    let Some(given) = noise else {
        let way = |j: &Job| j.towards.map_or((j.seed, j.seed, 0.0), |(_, seed, weight)| (j.seed, seed, weight));
        initial_state_between(&batch.iter().map(way).collect::<Vec<_>>(), states);
        return Box::new(PictureNoise::new(seeds));
    };
    let state = states.len() / batch.len();
    for (job, to) in batch.iter().zip(states.chunks_exact_mut(state)) {
        to.copy_from_slice(&given.start[job.index * state..][..state]);
    }
    match given.steps(batch) {
        Some(steps) => Box::new(GivenNoise::new(steps)),
        None => Box::new(PictureNoise::new(seeds)),
    }
}
