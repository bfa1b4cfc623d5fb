//! What `config.json` says of an `AutoencoderKL`.

use serde_json::json;

use super::super::fields::{Fields, Wrong};
use super::super::posterior::Scaling;

/// What the file decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Widths from the highest resolution to the lowest.
    pub block_out_channels: Vec<usize>,
    /// Resnets per block of the encoder; the decoder's have one more.
    pub layers_per_block: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Groups of every group norm.
    pub norm_num_groups: usize,
    /// What lies between its latents and the denoiser's.
    pub scaling: Scaling,
    /// Whether there is attention at the lowest resolution.
    pub mid_block_add_attention: bool,
    /// Whether a layer follows the encoder.
    pub use_quant_conv: bool,
    /// Whether one precedes the decoder.
    pub use_post_quant_conv: bool,
}

/// The most levels.
const LEVELS: usize = 8;

impl Config {
    /// Takes all fields.
    ///
    /// # Errors
    /// One line: field, expected, found.
    pub(crate) fn read(mut fields: Fields) -> Result<Config, Wrong> {
        fields.shared()?;
        let latent_channels = fields.count("latent_channels", 4, 1..=1024)?;
        let config = Config {
            block_out_channels: fields.counts("block_out_channels")?,
            layers_per_block: fields.count("layers_per_block", 1, 1..=16)?,
            latent_channels,
            norm_num_groups: fields.count("norm_num_groups", 32, 1..=4096)?,
            scaling: Scaling::read(&mut fields, latent_channels)?,
            mid_block_add_attention: fields.flag("mid_block_add_attention", true)?,
            use_quant_conv: fields.flag("use_quant_conv", true)?,
            use_post_quant_conv: fields.flag("use_post_quant_conv", true)?,
        };
        config.validate()?;
        let levels = config.block_out_channels.len();
        fields.fixed("act_fn", &json!("silu"))?;
        fields.fixed("down_block_types", &json!(vec!["DownEncoderBlock2D"; levels]))?;
        fields.fixed("up_block_types", &json!(vec!["UpDecoderBlock2D"; levels]))?;
        fields.finish()?;
        Ok(config)
    }

    fn validate(&self) -> Result<(), Wrong> {
        let (levels, groups) = (self.block_out_channels.len(), self.norm_num_groups);
        if !(1..=LEVELS).contains(&levels) {
            return Err(format!("block_out_channels: expected 1 to {LEVELS} widths, found {levels}"));
        }
        if let Some(w) = self.block_out_channels.iter().find(|&&w| w == 0 || w > 1 << 14 || !w.is_multiple_of(groups)) {
            return Err(format!("block_out_channels: expected multiples of {groups} (norm_num_groups) up to 16384, found {w}"));
        }
        Ok(())
    }

    /// Pixels of a picture that a latent stands for, along either axis.
    pub fn factor(&self) -> usize {
        1 << (self.block_out_channels.len() - 1)
    }
}
