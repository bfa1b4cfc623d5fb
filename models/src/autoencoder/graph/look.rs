//! The input of an ONNX half, and the size at which the model is looked at for what is the same at all sizes.

use fcdm_compiler::onnx::{Model, Onnx, OnnxError};

use super::super::PICTURE_CHANNELS;
use super::Wrong;

/// Sides of latents at which a model of any size is looked at: the first that it can have. Some say that they can have any, and have the
/// one that they were exported at.
fn looks() -> impl Iterator<Item = usize> {
    [16, 64, 32, 8, 128].into_iter().chain((1..=16).map(|n| 8 * n))
}

/// Pixels of a picture that a latent may stand for, of which a side at which an encoder is looked at is a multiple.
const LOOKED_AT_PER_LATENT: usize = 8;

/// A model's one input, an image: its name, channels and fixed height and width.
pub(super) struct ImageInput {
    pub name: String,
    pub channels: usize,
    pub fixed: [Option<usize>; 2],
}

impl ImageInput {
    pub fn of(model: &Model, file: &str) -> Result<ImageInput, Wrong> {
        let wrong = |text: String| Err(format!("{file}: {text}"));
        let declared = model.declared().map_err(|e| e.to_string())?;
        let [(name, extents)] = &declared[..] else {
            let names: Vec<&str> = declared.iter().map(|(n, _)| n.as_str()).collect();
            return wrong(format!("expected one input, a picture or latents, found {names:?}"));
        };
        let &[rows, channels, height, width] = &extents[..] else {
            return wrong(format!("input `{name}`: expected extents [N,C,H,W], found {} axes", extents.len()));
        };
        if let Some(rows) = rows.filter(|&n| n != 1) {
            return wrong(format!(
                "input `{name}`: expected one image at a time, found {rows}: export it with a batch of 1, or a dynamic one"
            ));
        }
        let Some(channels) = channels.or_else(|| model.channels(name)) else {
            let found = "found a dynamic dimension, and no convolution that tells it";
            return wrong(format!("input `{name}`: expected a number of channels, {found}: export it with static channels"));
        };
        Ok(ImageInput { name: name.clone(), channels, fixed: [height, width] })
    }
}

/// A model at the first size that it can have, of those at which it is looked at.
pub(super) fn looked_at(model: &Model, input: &ImageInput) -> Result<([usize; 2], Onnx), OnnxError> {
    let per_latent = if input.channels == PICTURE_CHANNELS { LOOKED_AT_PER_LATENT } else { 1 };
    let mut first: Option<OnnxError> = None;
    for side in looks() {
        let size = input.fixed.map(|f| f.unwrap_or(side * per_latent));
        match (at(model, input, size), &first) {
            (Ok(onnx), _) => return Ok((size, onnx)),
            // Nothing about sizes is wrong.
            (Err(e), Some(before)) if e.to_string() == before.to_string() => break,
            (Err(e), None) => first = Some(e),
            _ => {}
        }
        if input.fixed.iter().all(Option::is_some) {
            break;
        }
    }
    Err(first.expect("there are sizes"))
}

/// A model at a size of its input.
pub(super) fn at(model: &Model, input: &ImageInput, [height, width]: [usize; 2]) -> Result<Onnx, OnnxError> {
    model.at(&[(input.name.clone(), vec![1, input.channels, height, width])])
}

/// The names of a model's outputs.
pub(super) fn names(onnx: &Onnx) -> Vec<&str> {
    onnx.outputs().iter().map(|o| o.name.as_str()).collect()
}
