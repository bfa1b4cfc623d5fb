//! `decode`, `preview`, of whole latents and of tiles, and `encode`: images of one row, whose sizes and channels are those that the
//! descriptions say.

use crate::artifact::{AutoencoderInfo, ModelInfo, one_line};
use crate::entry_name::{DecoderKind, EntryName};
use crate::picture::Picture;
use crate::plan::{Element, Entry, Port};

/// Height, width and channels of an image `[1,H,W,C]`.
pub(crate) type Image = [usize; 3];

/// Latents to a picture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecoderEntry {
    /// Where it is in the artifact's plan.
    pub place: usize,
    pub kind: DecoderKind,
    pub latent: Image,
    pub picture: Image,
}

/// A picture to latents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EncoderEntry {
    /// Where it is in the artifact's plan.
    pub place: usize,
    pub picture: Image,
    pub latent: Image,
    /// Whether the posterior has a standard deviation.
    pub has_deviation: bool,
}

/// The image at a port of f32.
pub(crate) fn image(port: &Port) -> Option<Image> {
    match *port.shape.as_slice() {
        [1, h, w, c] if port.dtype == Element::F32 => Some([h, w, c]),
        _ => None,
    }
}

/// What ports are, for messages: their types and extents, of which there may be too many.
fn shown(ports: &[Port]) -> Vec<String> {
    ports.iter().take(3).map(|p| one_line(&format!("{:?}{:?}", p.dtype, p.shape))).collect()
}

/// Pixels that latents of an autoencoder stand for, if that is a number.
fn pixels([h, w, _]: Image, factor: usize) -> Option<[usize; 2]> {
    Some([h.checked_mul(factor)?, w.checked_mul(factor)?])
}

pub(super) fn decoders(plan: &[Entry], info: &AutoencoderInfo, model: Option<&ModelInfo>) -> Result<Vec<DecoderEntry>, String> {
    let named = plan.iter().enumerate().filter_map(|(place, e)| match e.name.parse() {
        Ok(EntryName::Decode(kind, tile)) => Some((place, e, kind, tile)),
        _ => None,
    });
    let decoder = |(place, e, kind, tile): (usize, &Entry, DecoderKind, Option<[usize; 2]>)| {
        let name = &e.name;
        let one = |ports: &[Port], what: &str| match ports {
            [port] => image(port).ok_or_else(|| format!("`{name}`: expected one {what} f32[1,H,W,C], found {:?}", shown(ports))),
            _ => Err(format!("`{name}`: expected one {what} f32[1,H,W,C], found {:?}", shown(ports))),
        };
        let (latent, picture) = (one(&e.inputs, "input")?, one(&e.outputs, "output")?);
        let (channels, factor) = (info.latent_channels, info.factor);
        if latent[2] != channels || pixels(latent, factor) != Some([picture[0], picture[1]]) {
            return Err(format!(
                "`{name}`: expected latents of {channels} channels and a picture {factor} times as large, found {latent:?} and {picture:?}"
            ));
        }
        if !Picture::CHANNELS.contains(&picture[2]) {
            return Err(format!("`{name}`: expected a picture of 1 or 3 channels, found {picture:?}"));
        }
        let size = tile.or(model.map(|m| [m.height, m.width]));
        match size.filter(|&[h, w]| [h, w] != latent[..2]) {
            Some([h, w]) => Err(format!("`{name}`: expected latents of {h}x{w}, found {latent:?}")),
            None => Ok(DecoderEntry { place, kind, latent, picture }),
        }
    };
    named.map(decoder).collect()
}

pub(super) fn encoder(plan: &[Entry], info: &AutoencoderInfo, model: Option<&ModelInfo>) -> Result<Option<EncoderEntry>, String> {
    let Some((place, e)) = plan.iter().enumerate().find(|(_, e)| e.is(EntryName::Encode)) else { return Ok(None) };
    let names: Vec<&str> = e.outputs.iter().take(3).map(|p| p.name.as_str()).collect();
    let images: Vec<Option<Image>> = e.inputs.iter().take(2).chain(e.outputs.iter().take(3)).map(image).collect();
    let (picture, latent) = match (images[..].split_first(), &names[..]) {
        (Some((&Some(picture), [Some(latent), rest @ ..])), ["mean"] | ["mean", "std"])
            if e.inputs.len() == 1 && rest.iter().all(|i| *i == Some(*latent)) =>
        {
            (picture, *latent)
        }
        _ => {
            let found = (shown(&e.inputs), names, shown(&e.outputs));
            return Err(format!("`encode`: expected picture -> mean, or mean and std, of latents, all f32[1,H,W,C], found {found:?}"));
        }
    };
    let (channels, factor) = (info.latent_channels, info.factor);
    if picture[2] != 3 || latent[2] != channels || pixels(latent, factor) != Some([picture[0], picture[1]]) {
        return Err(format!(
            "`encode`: expected a picture of 3 channels and latents of {channels}, {factor} times smaller, found {picture:?} and {latent:?}"
        ));
    }
    match model.map(|m| [m.height, m.width, m.in_channels]).filter(|state| *state != latent) {
        Some(state) => Err(format!("`encode`: expected latents of {state:?}, as the denoiser has, found {latent:?}")),
        None => Ok(Some(EncoderEntry { place, picture, latent, has_deviation: names.len() == 2 })),
    }
}
