//! What an encoder says of a picture, as trainers want it: the posterior's mean and deviation, straight and mirrored, or one sample.

use fcdm_runtime::autoencoder::Encoder;
use fcdm_runtime::rng::{Purpose, Stream, normals, uniform};

use super::Array;
use crate::pictures::Picture;
use crate::tensors::channels_first;

/// An encoder, and what is kept of its results.
pub struct Posteriors {
    encoder: Encoder,
    arrays: Vec<Array>,
    /// The seed of samples and flips; `None` keeps mean and deviation.
    samples: Option<u64>,
    flip: bool,
}

impl Posteriors {
    /// With a seed, a sample of every picture, of which half are mirrored, chosen at random, if `flip`; else mean and deviation, and those
    /// of the mirrored picture too, if `flip`.
    pub fn new(encoder: Encoder, samples: Option<u64>, flip: bool) -> Posteriors {
        let mut arrays = vec![Array::Latents];
        if samples.is_none() {
            let mut add = |array, wanted: bool| arrays.extend(wanted.then_some(array));
            add(Array::Deviations, encoder.has_deviation());
            add(Array::FlippedLatents, flip);
            add(Array::FlippedDeviations, flip && encoder.has_deviation());
        }
        Posteriors { encoder, arrays, samples, flip }
    }

    /// What [`Posteriors::encode`] gives, in its order.
    pub fn arrays(&self) -> &[Array] {
        &self.arrays
    }

    /// Height, width and channels of pictures.
    pub fn picture(&self) -> [usize; 3] {
        self.encoder.picture()
    }

    /// Height, width and channels of latents.
    pub fn latent(&self) -> [usize; 3] {
        self.encoder.latent()
    }

    /// The values of all arrays for picture `index`, `[C,h,w]` each.
    ///
    /// # Panics
    /// If the picture has another size.
    pub fn encode(&mut self, picture: &Picture, index: usize) -> Vec<Vec<f32>> {
        let stream = |purpose| Stream { purpose, item: index as u32, step: 0 };
        if let Some(seed) = self.samples {
            let flip = self.flip && uniform(seed, stream(Purpose::Flip), 0) < 0.5;
            let (mut mean, deviation) = self.posterior(if flip { picture.mirrored() } else { picture.clone() });
            let mut noise = vec![0.0; mean.len()];
            normals(seed, stream(Purpose::Posterior), &mut noise);
            mean.iter_mut().zip(&deviation).zip(&noise).for_each(|((m, d), n)| *m += d * n);
            return vec![mean];
        }
        let straight = self.posterior(picture.clone());
        let mirrored = if self.flip { self.posterior(picture.mirrored()) } else { (vec![], vec![]) };
        let of = |array: &Array| match array {
            Array::Latents => straight.0.clone(),
            Array::Deviations => straight.1.clone(),
            Array::FlippedLatents => mirrored.0.clone(),
            Array::FlippedDeviations => mirrored.1.clone(),
        };
        self.arrays.iter().map(of).collect()
    }

    /// Mean and deviation, `[C,h,w]`.
    fn posterior(&mut self, picture: Picture) -> (Vec<f32>, Vec<f32>) {
        let [h, w, c] = self.encoder.latent();
        let (mut mean, mut deviation) = (vec![0.0; h * w * c], vec![0.0; h * w * c]);
        self.encoder.encode(&picture.to_unit(), &mut mean, &mut deviation);
        (channels_first(&mean, [c, h, w]), channels_first(&deviation, [c, h, w]))
    }
}
