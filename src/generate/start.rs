//! What sampling begins from: noise, a user's own noise, or a picture with some noise on it, of which a part may be kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use fcdm_models::pictures::{Picture, load_exactly};
use fcdm_models::tensors::{Extent, TensorFile, channels_last};
use fcdm_runtime::artifact::{Artifact, ModelInfo};
use fcdm_runtime::autoencoder::Encoder;
use fcdm_runtime::sampler::{GivenNoise, PictureNoise, StepNoise, initial_state_between};

use super::job::Job;
use crate::failure::Failure;

/// Options to begin from a picture.
#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    /// Begin from this picture (PNG, JPEG, WebP), as large as those that the model makes, and not from noise alone.
    #[arg(long, value_name = "FILE", alias = "init-img", conflicts_with = "init_latents")]
    init_image: Option<PathBuf>,
    /// Begin from `latents [1 or n,C,H,W]` of a safetensors file.
    #[arg(long, value_name = "FILE")]
    init_latents: Option<PathBuf>,
    /// How much of the picture is made anew: of N steps, the last N times this are done [default: 0.75; 1 with --mask].
    #[arg(long, value_name = "0..1")]
    strength: Option<f64>,
    /// A picture of the same size: what is black is kept, what is white is made anew.
    #[arg(long, value_name = "FILE", requires = "init_image", alias = "mask-image")]
    mask: Option<PathBuf>,
}

/// Share of the way that is gone anew where nobody says otherwise.
const STRENGTH: f64 = 0.75;

/// Clean states to begin from.
pub struct Init {
    /// One state for all pictures, or one for each, `[H,W,C]`.
    clean: Vec<f32>,
    state: usize,
    strength: f64,
    mask: Option<Mask>,
    text: String,
}

/// What is kept of a picture.
struct Mask {
    /// Of states, `[H,W]`: 1 is made anew.
    latent: Vec<f32>,
    /// Of pixels, 0 to 255.
    pixels: Vec<u8>,
    picture: Picture,
}

impl Arguments {
    /// Reads and encodes what the options name.
    pub fn open(&self, artifact: &Arc<Artifact>, model: &ModelInfo, threads: usize) -> Result<Option<Init>, Failure> {
        let state = model.height * model.width * model.in_channels;
        let text = |path: &Path| path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let strength = self.strength.unwrap_or(if self.mask.is_some() { 1.0 } else { STRENGTH });
        if let Some(path) = &self.init_latents {
            let image = [model.in_channels, model.height, model.width];
            let file = TensorFile::open(path)?;
            let (_, values) =
                file.floats("latents", &[Extent::Any("n"), Extent::Is(image[0]), Extent::Is(image[1]), Extent::Is(image[2])])?;
            return Ok(Some(Init { clean: channels_last(&values, image), state, strength, mask: None, text: text(path) }));
        }
        let Some(path) = &self.init_image else {
            return match self.strength {
                Some(_) => Err(Failure::usage("strength: expected with --init-image or --init-latents")),
                None => Ok(None),
            };
        };
        let encoder = artifact.autoencoder().is_some().then(|| Encoder::new(artifact, threads)).transpose()?;
        let size = match &encoder {
            Some(encoder) => [encoder.picture()[0], encoder.picture()[1]],
            None => [model.height, model.width],
        };
        let picture = load_exactly(path, size)?;
        let clean = match encoder {
            Some(mut encoder) => {
                let (mut mean, mut deviation) = (vec![0.0; state], vec![0.0; state]);
                encoder.encode(&picture.to_unit(), &mut mean, &mut deviation);
                mean
            }
            None if model.in_channels == 3 => picture.to_unit(),
            None => {
                let line =
                    format!("init-image: expected a model of RGB pictures or one with an encoder, found {} channels", model.in_channels);
                return Err(Failure::usage(line));
            }
        };
        let mask = self.mask.as_deref().map(|path| Mask::open(path, picture, [model.height, model.width])).transpose()?;
        Ok(Some(Init { clean, state, strength, mask, text: text(path) }))
    }
}

impl Mask {
    /// Reads a mask for a picture: brightness; a state's position has the mean over its pixels.
    fn open(path: &Path, picture: Picture, [height, width]: [usize; 2]) -> Result<Mask, Failure> {
        let read = load_exactly(path, [picture.height, picture.width])?;
        // The middle channel stands for the brightness of what should be grey anyway.
        let pixels: Vec<u8> = read.pixels.iter().skip(1).step_by(3).copied().collect();
        let factor = picture.height / height;
        let mean = |y: usize, x: usize| {
            let row = |dy: usize| &pixels[(y * factor + dy) * picture.width + x * factor..][..factor];
            let sum: f32 = (0..factor).flat_map(row).map(|&p| f32::from(p)).sum();
            sum / (255 * factor * factor) as f32
        };
        let latent = (0..height).flat_map(|y| (0..width).map(move |x| (y, x))).map(|(y, x)| mean(y, x)).collect();
        Ok(Mask { latent, pixels, picture })
    }
}

impl Init {
    /// The clean states of a batch.
    pub fn states(&self, batch: &[Job]) -> Vec<f32> {
        let count = self.clean.len() / self.state;
        batch.iter().flat_map(|job| &self.clean[job.index % count * self.state..][..self.state]).copied().collect()
    }

    /// Share of the way that is gone anew.
    pub fn strength(&self) -> f64 {
        self.strength
    }

    /// What is made anew of states.
    pub fn mask(&self) -> Option<&[f32]> {
        self.mask.as_ref().map(|m| &*m.latent)
    }

    /// Puts the pixels back that the mask keeps: an autoencoder does not give them back exactly.
    pub fn restore(&self, made: &mut Picture) {
        let Some(mask) = &self.mask else { return };
        let pixels = made.pixels.chunks_exact_mut(3).zip(mask.picture.pixels.chunks_exact(3)).zip(&mask.pixels);
        for ((made, kept), &m) in pixels {
            let m = u32::from(m);
            made.iter_mut().zip(kept).for_each(|(a, &b)| *a = ((u32::from(*a) * m + u32::from(b) * (255 - m) + 127) / 255) as u8);
        }
    }

    /// For the text that a picture carries.
    pub fn text(&self) -> String {
        let mask = if self.mask.is_some() { ", Mask: yes" } else { "" };
        format!(", Init: {}, Strength: {}{mask}", self.text, self.strength)
    }
}

/// Starting noise of a batch into `states`, and the noise of its steps.
pub fn starting_noise(noise: &Option<Noise>, batch: &[Job], states: &mut [f32]) -> Box<dyn StepNoise> {
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

/// Noise given by the user, channels last.
pub struct Noise {
    start: Vec<f32>,
    /// `[steps, n, H, W, C]` and the number of steps.
    steps: Option<(Vec<f32>, usize)>,
    pictures: usize,
}

impl Noise {
    /// Reads `noise`, and `step_noise` if the sampler wants it.
    pub fn open(path: &Path, model: &ModelInfo, pictures: usize, noise_steps: usize) -> Result<Noise, Failure> {
        let file = TensorFile::open(path)?;
        let image = [model.in_channels, model.height, model.width];
        let state = [Extent::Is(pictures), Extent::Is(image[0]), Extent::Is(image[1]), Extent::Is(image[2])];
        let (_, start) = file.floats("noise", &state)?;
        let mut steps = None;
        if noise_steps > 0 && file.has("step_noise") {
            let expected = [&[Extent::AtLeast(noise_steps)], &state[..]].concat();
            let (shape, values) = file.floats("step_noise", &expected)?;
            steps = Some((channels_last(&values, image), shape[0]));
        }
        Ok(Noise { start: channels_last(&start, image), steps, pictures })
    }

    /// The steps' noise of a batch.
    fn steps(&self, batch: &[Job]) -> Option<Vec<f32>> {
        let (values, steps) = self.steps.as_ref()?;
        let state = values.len() / (steps * self.pictures);
        let of = |k: usize, job: &Job| &values[(k * self.pictures + job.index) * state..][..state];
        Some((0..*steps).flat_map(|k| batch.iter().flat_map(move |job| of(k, job))).copied().collect())
    }
}
