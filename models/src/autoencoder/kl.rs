//! diffusers' `AutoencoderKL`, the autoencoder of Stable Diffusion (`sd-vae-ft-ema`, `-mse`, SDXL's): a convolutional encoder to
//! a Gaussian over latents, and a decoder; single-head attention at the lowest resolution (Rombach et al. 2022, arXiv
//! 2112.10752, section 3.1 and appendix G).
//!
//! The functions here speak the denoiser's language: latents are scaled as it was trained on (`scaling_factor`,
//! `shift_factor` of `config.json`), pictures are RGB in [-1,1].

mod blocks;
mod config;

use fcdm_ir::ops::UpsampleNearest;
use fcdm_ir::{Function, Type};

use super::{Half, PICTURE_CHANNELS};
use crate::layers::{Declaration, Layer, Wiring};
use crate::parameter::Parameter;
use crate::role::Region;
use blocks::{Level, Mid, Norm, Shapes, norm_silu};
pub use config::Config;

/// An `AutoencoderKL`: its layers, with everything that the file decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Kl {
    config: Config,
    /// What the IR's names of weights have before those of the file.
    prefix: String,
    encoder: Coder,
    decoder: Coder,
    /// Behind the encoder, if there is such.
    quant: Option<Layer>,
    /// Before the decoder.
    post_quant: Option<Layer>,
    /// Encoder and decoder, then what stands between.
    parameters: Vec<Parameter>,
}

/// Layers of encoder or decoder.
#[derive(Clone, Debug, PartialEq)]
struct Coder {
    conv_in: Layer,
    /// In the order of the data.
    levels: Vec<Level>,
    mid: Mid,
    norm_out: Layer,
    conv_out: Layer,
}

impl Kl {
    /// What attention is called, which the configuration does not say, is told by the names and shapes in the file.
    pub fn new(config: Config, shape: Shapes<'_>, prefix: &str) -> Kl {
        let mut parameters = Vec::new();
        let d = &mut Declaration::new(&mut parameters);
        let encoder = Coder::encoder(d, &config, shape);
        let decoder = Coder::decoder(d, &config, shape);
        let z = config.latent_channels;
        let quant = config.use_quant_conv.then(|| d.pointwise("quant_conv", 2 * z, 2 * z, true));
        let post_quant = config.use_post_quant_conv.then(|| d.pointwise("post_quant_conv", z, z, true));
        let config = Config { scaling: config.scaling.prefixed(prefix), ..config };
        Kl { config, prefix: prefix.to_owned(), encoder, decoder, quant, post_quant, parameters }
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// All parameters, encoder and decoder.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Values of what the configuration gives as constants, by the names of weights in the IR.
    pub fn constant(&self, name: &str) -> Option<Vec<f32>> {
        self.config.scaling.constant(name)
    }

    /// The greatest number of values per latent position that a layer gives.
    pub fn widest(&self) -> usize {
        let widths = self.config.block_out_channels.iter().rev().enumerate();
        // An upsampled image still has the channels of the level below.
        let level = |(i, w): (usize, &usize)| w << (2 * (i + 1).min(self.config.block_out_channels.len() - 1));
        widths.map(level).max().unwrap_or(0)
    }

    /// `@decode(latent [1,h,w,C]) -> picture [1,fh,fw,3]`.
    pub fn decode(&self, height: usize, width: usize) -> Function {
        let (c, half) = (&self.config, &self.decoder);
        let mut wiring = Wiring::new(Half::Decoder.entry_name(), &self.prefix);
        let net = &mut wiring;
        let x = net.b.input("latent", Type::f32([1, height, width, c.latent_channels]));
        let mut x = c.scaling.decoded(&mut net.b, x);
        if let Some(post_quant) = &self.post_quant {
            x = net.layer(post_quant, x);
        }
        x = net.layer(&half.conv_in, x);
        x = half.mid.apply(net, x);
        for level in &half.levels {
            x = level.resnets(net, x);
            if let Some(upsampler) = &level.resampler {
                x = net.b.one(UpsampleNearest { factor: 2 }, &[x]);
                x = net.layer(upsampler, x);
                net.name(&level.name, x);
            }
        }
        x = norm_silu(net, &half.norm_out, x);
        x = net.layer(&half.conv_out, x);
        wiring.b.finish(vec![("picture".to_owned(), x)])
    }

    /// `@encode(picture [1,fh,fw,3]) -> mean, std [1,h,w,C]`, of the posterior; height and width are those of the latents.
    pub fn encode(&self, height: usize, width: usize) -> Function {
        let (c, f, half) = (&self.config, self.config.factor(), &self.encoder);
        let mut wiring = Wiring::new(Half::Encoder.entry_name(), &self.prefix);
        let net = &mut wiring;
        let mut x = net.b.input("picture", Type::f32([1, f * height, f * width, PICTURE_CHANNELS]));
        x = net.layer(&half.conv_in, x);
        for level in &half.levels {
            x = level.resnets(net, x);
            if let Some(downsampler) = &level.resampler {
                x = net.layer(downsampler, x);
                net.name(&level.name, x);
            }
        }
        x = half.mid.apply(net, x);
        x = norm_silu(net, &half.norm_out, x);
        x = net.layer(&half.conv_out, x);
        if let Some(quant) = &self.quant {
            x = net.layer(quant, x);
        }
        let [mean, std] = c.scaling.moments(&mut net.b, x);
        wiring.b.finish(vec![("mean".to_owned(), mean), ("std".to_owned(), std)])
    }
}

impl Coder {
    /// Widths and levels from the highest resolution to the lowest.
    fn encoder(d: &mut Declaration<'_>, c: &Config, shape: Shapes<'_>) -> Coder {
        let (norm, widths) = (Norm::of(c), &c.block_out_channels);
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        let conv_in = d.at(Region::Input).conv3x3("encoder.conv_in", first, PICTURE_CHANNELS, true);
        let (mut levels, mut from) = (Vec::new(), first);
        for (i, &w) in widths.iter().enumerate() {
            let mut level = Level::declared(d, format!("encoder.down_blocks.{i}"), c.layers_per_block, [from, w], norm);
            let name = format!("{}.downsamplers.0.conv", level.name);
            level.resampler = (i + 1 < widths.len()).then(|| d.convolution(&name, [w, w], true, 2, [0, 0, 1, 1]));
            levels.push(level);
            from = w;
        }
        let mid = Mid::declared(d, "encoder", last, c.mid_block_add_attention.then_some(shape), norm);
        let norm_out = norm.declared(d, "encoder.conv_norm_out", last);
        let conv_out = d.at(Region::Output).conv3x3("encoder.conv_out", 2 * c.latent_channels, last, true);
        Coder { conv_in, levels, mid, norm_out, conv_out }
    }

    /// Back again; every level has one resnet more.
    fn decoder(d: &mut Declaration<'_>, c: &Config, shape: Shapes<'_>) -> Coder {
        let (norm, widths) = (Norm::of(c), &c.block_out_channels);
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        let conv_in = d.at(Region::Input).conv3x3("decoder.conv_in", last, c.latent_channels, true);
        let mid = Mid::declared(d, "decoder", last, c.mid_block_add_attention.then_some(shape), norm);
        let (mut levels, mut from) = (Vec::new(), last);
        for (i, &w) in widths.iter().rev().enumerate() {
            let mut level = Level::declared(d, format!("decoder.up_blocks.{i}"), c.layers_per_block + 1, [from, w], norm);
            let name = format!("{}.upsamplers.0.conv", level.name);
            level.resampler = (i + 1 < widths.len()).then(|| d.conv3x3(&name, w, w, true));
            levels.push(level);
            from = w;
        }
        let norm_out = norm.declared(d, "decoder.conv_norm_out", first);
        let conv_out = d.at(Region::Output).conv3x3("decoder.conv_out", PICTURE_CHANNELS, first, true);
        Coder { conv_in, levels, mid, norm_out, conv_out }
    }
}
