//! The way from states to pictures: through a decoder, if these are latents, else as they are.

use crate::artifact::ModelInfo;
use crate::autoencoder::Decoder;
use crate::memory::f32s;
use crate::picture::Picture;

/// Makes pictures of states.
pub struct Shown {
    decoder: Option<Decoder>,
    /// Height, width and channels.
    shape: [usize; 3],
    /// The decoder's picture.
    values: Vec<f32>,
}

impl Shown {
    /// `None` if there is no decoder and the states' channels are no picture's.
    pub fn new(decoder: Option<Decoder>, model: &ModelInfo) -> Option<Shown> {
        let as_they_are = Picture::CHANNELS.contains(&model.in_channels).then_some([model.height, model.width, model.in_channels]);
        let shape = decoder.as_ref().map(Decoder::picture).or(as_they_are)?;
        let values = vec![0.0; if decoder.is_some() { shape.iter().product() } else { 0 }];
        Some(Shown { decoder, shape, values })
    }

    /// Height, width and channels of pictures.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Bytes that are held: by the decoder, and for a picture's values.
    pub(super) fn held_bytes(&self) -> u64 {
        self.decoder.as_ref().map_or(0, Decoder::held_bytes).saturating_add(f32s(&[self.values.len()]))
    }

    /// The picture of a state `[H,W,C]`.
    ///
    /// # Panics
    /// If the state has another length.
    pub fn picture(&mut self, state: &[f32]) -> Picture {
        let [h, w, c] = self.shape;
        let Some(decoder) = &mut self.decoder else { return Picture::from_unit(h, w, c, state) };
        decoder.decode(state, &mut self.values);
        Picture::from_unit(h, w, c, &self.values)
    }
}
