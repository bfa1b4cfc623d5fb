//! What sampling begins from, where that is in files: a user's own noise, or a picture, of which a part may be kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use fcdm_models::latents::saved::Latents;
use fcdm_models::pictures::{load_brightness, load_middle, picture_size};
use fcdm_models::tensors::{Extent, TensorFile, TensorsError, channels_last};
use fcdm_runtime::artifact::{Artifact, ModelInfo};
use fcdm_runtime::engine::Cpu;
use fcdm_runtime::generate::{Begin, Init, MaskEdge, Noise};
use fcdm_runtime::memory::{Need, f32s};

use crate::failure::mistaken::{Wanted, opened};
use crate::failure::{CHECKPOINT, Failure, PICTURE};
use crate::help::BEGIN;

/// Options to begin from a picture.
#[derive(Args)]
#[group(skip)]
#[command(next_help_heading = BEGIN)]
pub struct Arguments {
    /// The picture; its middle, scaled to the model's size.
    ///
    /// Sampling begins from it, and not from noise alone.
    #[arg(long, value_name = "FILE", alias = "init-img", conflicts_with = "init_latents")]
    init_image: Option<PathBuf>,
    /// Begin from latents, of a file or a folder.
    ///
    /// One, or as many as there are pictures: whatever `decode` takes.
    #[arg(long, value_name = "FILE")]
    init_latents: Option<PathBuf>,
    /// How much is made anew [default: 0.75].
    ///
    /// Of N steps, the last N times this are done. With a mask the default is 1.
    #[arg(long, value_name = "0..1")]
    strength: Option<f64>,
    /// Mask as large as the picture: white is made anew.
    ///
    /// What is black or transparent is kept.
    #[arg(long, value_name = "FILE", requires = "init_image", alias = "mask-image")]
    mask: Option<PathBuf>,
    /// Greys of the mask: hard or soft [default: hard].
    ///
    /// hard: from the middle on they are white, as in diffusers; soft: they mix.
    #[arg(long, value_enum, value_name = "EDGE", requires = "mask", hide_possible_values = true)]
    mask_mode: Option<Edge>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Edge {
    Hard,
    Soft,
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
            return Ok(Some(given(Init::new(latents(path, image)?, model, self.strength), path)));
        }
        let Some(path) = &self.init_image else {
            return match self.strength {
                Some(_) => Err(Failure::usage("strength: expected with --init-image or --init-latents")),
                None => Ok(None),
            };
        };
        let mut begin = Begin::new(artifact, model, &Cpu::new(threads)?)?;
        let size = begin.size();
        let read = opened(path, Wanted::Picture, load_middle(path, size))?;
        if read.size != size {
            let (file, [h, w], r, [to_h, to_w]) = (path.display(), read.size, read.shown, size);
            crate::say::note(format!("{file}: of {w} x {h} pixels the middle {} x {}, scaled to {to_w} x {to_h}", r.width, r.height));
        }
        let init = Init::new(begin.state(&read.picture)?, model, self.strength);
        let Some(mask) = &self.mask else { return Ok(Some(given(init, path))) };
        let found = opened(mask, Wanted::Picture, picture_size(mask))?;
        if found != read.size && found != size {
            let (file, [h, w], [found_h, found_w]) = (mask.display(), read.size, found);
            let line = format!("{file}: expected a mask of {w} x {h} pixels, as {} has, found {found_w} x {found_h}", path.display());
            return Err(Failure::new(PICTURE, line));
        }
        let mask = load_brightness(mask, size)?;
        let edge = if matches!(self.mask_mode, Some(Edge::Soft)) { MaskEdge::Soft } else { MaskEdge::Hard };
        Ok(Some(given(init.keeping(read.picture, &mask, edge, model, self.strength), path)))
    }
}

/// All latents of a file or folder, `[n,H,W,C]`, which have channels, height and width `image`.
fn latents(path: &Path, image: [usize; 3]) -> Result<Vec<f32>, Failure> {
    let mut latents = opened(path, Wanted::Latents, Latents::open(path))?;
    latents.note().into_iter().for_each(crate::say::note);
    if latents.shape() != image {
        let ([c, h, w], [fc, fh, fw]) = (image, latents.shape());
        let line = format!("{}: expected latents of {c} x {h} x {w}, as the model has, found {fc} x {fh} x {fw}", path.display());
        return Err(Failure::new(CHECKPOINT, line));
    }
    let count = latents.count();
    Need::of(format!("{count} latents")).with("values", f32s(&[count, image[0], image[1], image[2]])).reserve()?;
    let mut values = Vec::with_capacity(count * image.iter().product::<usize>());
    for i in 0..count {
        values.extend(channels_last(&latents.read(i)?, image));
    }
    Ok(values)
}

fn given(init: Init, path: &Path) -> Beginning {
    let file = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let mask = if init.is_masked() { ", Mask: yes" } else { "" };
    let text = format!(", Init: {file}, Strength: {}{mask}", init.strength());
    Beginning { init, text }
}

/// Reads `noise` of a user's file, and `step_noise` if the sampler wants it.
pub fn noise(path: &Path, model: &ModelInfo, pictures: usize, noise_steps: usize) -> Result<Noise, Failure> {
    opened(path, Wanted::Tensors, read_noise(path, model, pictures, noise_steps))
}

fn read_noise(path: &Path, model: &ModelInfo, pictures: usize, noise_steps: usize) -> Result<Noise, TensorsError> {
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
