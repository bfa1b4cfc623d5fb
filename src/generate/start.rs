//! What sampling begins from, where that is in files: a user's own noise, or a picture, of which a part may be kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use fcdm_models::pictures::load_exactly;
use fcdm_models::tensors::{Extent, TensorFile, channels_last};
use fcdm_runtime::artifact::{Artifact, ModelInfo};
use fcdm_runtime::engine::Cpu;
use fcdm_runtime::generate::{Begin, Init, Noise};

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

/// Clean states to begin from, and their text for pictures.
pub struct Beginning {
    pub init: Init,
    pub text: String,
}

impl Arguments {
    /// Reads and encodes what the options name.
    pub fn open(&self, artifact: &Arc<Artifact>, model: &ModelInfo, threads: usize) -> Result<Option<Beginning>, Failure> {
        if let Some(path) = &self.init_latents {
            let image = [model.in_channels, model.height, model.width];
            let file = TensorFile::open(path)?;
            let (_, values) =
                file.floats("latents", &[Extent::Any("n"), Extent::Is(image[0]), Extent::Is(image[1]), Extent::Is(image[2])])?;
            return Ok(Some(given(Init::new(channels_last(&values, image), model, self.strength), path)));
        }
        let Some(path) = &self.init_image else {
            return match self.strength {
                Some(_) => Err(Failure::usage("strength: expected with --init-image or --init-latents")),
                None => Ok(None),
            };
        };
        let mut begin = Begin::new(artifact, model, &Cpu::new(threads)?)?;
        let picture = load_exactly(path, begin.size())?;
        let init = Init::new(begin.state(&picture).map_err(Failure::usage)?, model, self.strength);
        let Some(mask) = &self.mask else { return Ok(Some(given(init, path))) };
        let mask = load_exactly(mask, [picture.height, picture.width])?;
        Ok(Some(given(init.keeping(picture, &mask, model, self.strength), path)))
    }
}

fn given(init: Init, path: &Path) -> Beginning {
    let file = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let mask = if init.is_masked() { ", Mask: yes" } else { "" };
    let text = format!(", Init: {file}, Strength: {}{mask}", init.strength());
    Beginning { init, text }
}

/// Reads `noise` of a user's file, and `step_noise` if the sampler wants it.
pub fn noise(path: &Path, model: &ModelInfo, pictures: usize, noise_steps: usize) -> Result<Noise, Failure> {
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
    Ok(Noise::new(channels_last(&start, image), steps, pictures))
}
