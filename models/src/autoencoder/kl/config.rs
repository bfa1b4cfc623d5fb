//! What `config.json` says of an `AutoencoderKL`.

use serde::Deserialize;

/// `config.json`: the fields that say something of the network. The rest of the file is passed over.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Config {
    /// Channels of pictures.
    #[serde(default = "three")]
    pub in_channels: usize,
    /// The same.
    #[serde(default = "three")]
    pub out_channels: usize,
    /// Widths from the highest resolution to the lowest.
    pub block_out_channels: Vec<usize>,
    /// Resnets per block of the encoder; the decoder's have one more.
    #[serde(default = "one")]
    pub layers_per_block: usize,
    /// Channels of the latents.
    #[serde(default = "four")]
    pub latent_channels: usize,
    /// Groups of every group norm.
    #[serde(default = "thirty_two")]
    pub norm_num_groups: usize,
    /// What the denoiser's latents are the autoencoder's times.
    #[serde(default = "stable_diffusion")]
    pub scaling_factor: f64,
    /// What is subtracted from the autoencoder's latents before that.
    #[serde(default)]
    pub shift_factor: Option<f64>,
}

fn one() -> usize {
    1
}
fn three() -> usize {
    3
}
fn four() -> usize {
    4
}
fn thirty_two() -> usize {
    32
}
fn stable_diffusion() -> f64 {
    0.18215
}

impl Config {
    /// Checks ranges.
    ///
    /// # Errors
    /// One line: field, expected, found.
    pub fn validate(&self) -> Result<(), String> {
        let wrong = |field: &str, expected: &str, found: String| Err(format!("{field}: expected {expected}, found {found}"));
        let n = self.block_out_channels.len();
        if !(1..=8).contains(&n) {
            return wrong("block_out_channels", "1 to 8 widths", n.to_string());
        }
        for (field, value) in [("in_channels", self.in_channels), ("out_channels", self.out_channels)] {
            if value != 3 {
                return wrong(field, "3", value.to_string());
            }
        }
        for (field, value, most) in [
            ("layers_per_block", self.layers_per_block, 16),
            ("latent_channels", self.latent_channels, 1024),
            ("norm_num_groups", self.norm_num_groups, 4096),
        ] {
            if !(1..=most).contains(&value) {
                return wrong(field, &format!("1 to {most}"), value.to_string());
            }
        }
        let groups = self.norm_num_groups;
        if let Some(w) = self.block_out_channels.iter().find(|&&w| w == 0 || w > 1 << 14 || !w.is_multiple_of(groups)) {
            return wrong("block_out_channels", &format!("multiples of {groups} (norm_num_groups) up to 16384"), w.to_string());
        }
        let scale = self.scaling_factor;
        if !(scale.is_finite() && scale.abs() > 1e-6) {
            return wrong("scaling_factor", "a number other than 0", scale.to_string());
        }
        match self.shift_factor {
            Some(shift) if !shift.is_finite() => wrong("shift_factor", "a number", shift.to_string()),
            _ => Ok(()),
        }
    }

    /// Pixels of a picture that a latent stands for, along either axis.
    pub fn factor(&self) -> usize {
        1 << (self.block_out_channels.len() - 1)
    }
}
