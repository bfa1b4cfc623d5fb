//! What size a network is compiled for where nobody says: that of the pictures it was trained on, which trainers record, in
//! latents of its autoencoder. Another size makes smears, for a convolutional network has learned how large things are.

use crate::autoencoder::Autoencoder;
use crate::fcdm::Import;

/// Names under which trainers record the side of their pictures, in pixels.
const RECORDED: [&str; 4] = ["image_size", "image-size", "resolution", "img_size"];

/// Height and width of latents where nothing tells them: pictures of 256 at 1/8.
pub const DEFAULT: [usize; 2] = [32, 32];

/// Pixels for a latent where the autoencoder is not known.
pub const USUAL_FACTOR: usize = 8;

/// The name under which our own trainer records height and width of the network's input.
pub const INPUT: &str = "fcdm.size";

/// Height and width of the pictures that a checkpoint was trained on, if it records them.
pub fn trained_on(import: &Import, autoencoder: Option<&Autoencoder>) -> Option<[usize; 2]> {
    let arguments = import.state_dict()?.checkpoint().arguments();
    let factor = factor(import, autoencoder);
    let of_input = arguments.get(INPUT).and_then(|text| sides(text)).map(|sides| sides.map(|side| side * factor));
    of_input.or_else(|| sides(RECORDED.iter().find_map(|name| arguments.get(*name))?))
}

/// A side, or height and width, as a checkpoint's arguments have them.
fn sides(text: &str) -> Option<[usize; 2]> {
    // A safetensors file has texts only.
    let value = serde_json::from_str(text).ok()?;
    let value = if let serde_json::Value::String(inner) = &value { serde_json::from_str(inner).ok()? } else { value };
    let side = |v: &serde_json::Value| v.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=1 << 16).contains(n));
    match &value {
        serde_json::Value::Array(sides) if sides.len() == 2 => Some([side(&sides[0])?, side(&sides[1])?]),
        one => side(one).map(|n| [n, n]),
    }
}

/// Pixels that a value of the network's input stands for, along either axis: 1 for a network of pictures.
pub fn factor(import: &Import, autoencoder: Option<&Autoencoder>) -> usize {
    match (autoencoder, import.config().in_channels) {
        (Some(a), _) => a.factor(),
        (None, 1 | 3) => 1,
        (None, _) => USUAL_FACTOR,
    }
}

/// Height and width of the network's input: what an ONNX model, of it or of its autoencoder, was exported for, or what was trained on, or [`DEFAULT`].
///
/// # Errors
/// One line, when the pictures trained on are of no size that the network takes.
pub fn inferred(import: Option<&Import>, autoencoder: Option<&Autoencoder>) -> Result<[usize; 2], String> {
    let own = import.and_then(Import::onnx).map(|(_, size)| size).or_else(|| autoencoder?.own_size());
    let trained = import.and_then(|i| Some((i, trained_on(i, autoencoder)?)));
    let (import, pictures) = match (own, trained) {
        (Some(own), _) => return Ok(own),
        (None, Some(trained)) => trained,
        (None, None) => return Ok(DEFAULT),
    };
    let factor = factor(import, autoencoder);
    let [h, w] = pictures.map(|side| side / factor);
    if pictures.iter().all(|side| side.is_multiple_of(4 * factor)) {
        return Ok([h, w]);
    }
    let found = format!("{} x {}", pictures[0], pictures[1]);
    Err(format!("size: expected --size HxW: the checkpoint was trained on pictures of {found}, which are no multiples of {}", 4 * factor))
}
