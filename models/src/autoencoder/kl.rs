//! diffusers' `AutoencoderKL`, the autoencoder of Stable Diffusion (`sd-vae-ft-ema`, `-mse`, SDXL's): a convolutional encoder to
//! a Gaussian over latents, and a decoder; single-head attention at the lowest resolution (Rombach et al. 2022, arXiv
//! 2112.10752, section 3.1 and appendix G).
//!
//! The functions here speak the denoiser's language: latents are scaled as it was trained on (`scaling_factor`,
//! `shift_factor` of `config.json`), pictures are RGB in [-1,1].

use fcdm_ir::ops::{Add, Clamp, Exp, GroupNorm, Matmul, Offset, Reshape, Scale, Silu, Softmax, Split, Transpose, UpsampleNearest};
use fcdm_ir::{Function, Type, Value};
use serde::Deserialize;

use crate::layers::Layers;
use crate::parameter::{Parameter, ParameterList};

/// Of every group norm.
const EPS: f64 = 1e-6;

/// Bounds of the posterior's log-variance.
const LOG_VARIANCE: [f64; 2] = [-30.0, 20.0];

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

/// Names of the attention's layers: `[norm, query, key, value, output]`.
type AttentionNames = [&'static str; 5];
/// Since diffusers 0.18.
const NEW_NAMES: AttentionNames = ["group_norm", "to_q", "to_k", "to_v", "to_out.0"];
/// Before.
const OLD_NAMES: AttentionNames = ["group_norm", "query", "key", "value", "proj_attn"];

/// The attention of a mid block in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Attention {
    names: AttentionNames,
    /// The weights are 1x1 convolutions `[C,C,1,1]`, as in files converted from the original ones, not `[C,C]`.
    convolutions: bool,
}

/// An `AutoencoderKL` with everything that the file decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Kl {
    config: Config,
    /// What the IR's names of weights have before those of the file.
    prefix: String,
    /// Of encoder and decoder; `None` for a network without.
    attention: [Option<Attention>; 2],
    /// Whether there are `quant_conv` and `post_quant_conv`.
    quant: bool,
}

impl Kl {
    /// Takes what the configuration does not say from the names and shapes in the file.
    pub fn new(config: Config, shape: &dyn Fn(&str) -> Option<Vec<usize>>, prefix: &str) -> Kl {
        let attention = |half: &str| {
            [NEW_NAMES, OLD_NAMES].into_iter().find_map(|names| {
                let found = shape(&format!("{half}.mid_block.attentions.0.{}.weight", names[1]))?;
                Some(Attention { names, convolutions: found.len() == 4 })
            })
        };
        Kl {
            prefix: prefix.to_owned(),
            attention: [attention("encoder"), attention("decoder")],
            quant: shape("quant_conv.weight").is_some(),
            config,
        }
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// All parameters, encoder and decoder.
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut list = List(ParameterList::default());
        let (c, z) = (&self.config, self.config.latent_channels);
        let widths = &c.block_out_channels;
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        list.conv("encoder.conv_in", first, c.in_channels);
        let mut from = first;
        for (i, &w) in widths.iter().enumerate() {
            let p = format!("encoder.down_blocks.{i}");
            list.resnets(&p, c.layers_per_block, from, w);
            if i + 1 < widths.len() {
                list.conv(&format!("{p}.downsamplers.0.conv"), w, w);
            }
            from = w;
        }
        list.mid("encoder", last, self.attention[0]);
        list.0.norm("encoder.conv_norm_out", last);
        list.conv("encoder.conv_out", 2 * z, last);
        list.conv("decoder.conv_in", last, z);
        list.mid("decoder", last, self.attention[1]);
        let mut from = last;
        for (i, &w) in widths.iter().rev().enumerate() {
            let p = format!("decoder.up_blocks.{i}");
            list.resnets(&p, c.layers_per_block + 1, from, w);
            if i + 1 < widths.len() {
                list.conv(&format!("{p}.upsamplers.0.conv"), w, w);
            }
            from = w;
        }
        list.0.norm("decoder.conv_norm_out", first);
        list.conv("decoder.conv_out", c.out_channels, first);
        if self.quant {
            list.0.pointwise("quant_conv", 2 * z, 2 * z, true);
            list.0.pointwise("post_quant_conv", z, z, true);
        }
        list.0.0
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
        let c = &self.config;
        let mut net = self.net("decode");
        let x = net.layers.b.input("latent", Type::f32([1, height, width, c.latent_channels]));
        let mut x = net.layers.b.one(Scale { by: 1.0 / c.scaling_factor }, &[x]);
        if let Some(shift) = c.shift_factor.filter(|&s| s != 0.0) {
            x = net.layers.b.one(Offset { by: shift }, &[x]);
        }
        if self.quant {
            x = net.layers.linear("post_quant_conv", x);
        }
        x = net.layers.conv3x3("decoder.conv_in", x);
        x = net.mid("decoder", x, self.attention[1]);
        for i in 0..c.block_out_channels.len() {
            let p = format!("decoder.up_blocks.{i}");
            x = net.resnets(&p, c.layers_per_block + 1, x);
            if i + 1 < c.block_out_channels.len() {
                x = net.layers.b.one(UpsampleNearest { factor: 2 }, &[x]);
                x = net.layers.conv3x3(&format!("{p}.upsamplers.0.conv"), x);
                net.layers.name(&p, x);
            }
        }
        x = net.norm_silu("decoder.conv_norm_out", x);
        x = net.layers.conv3x3("decoder.conv_out", x);
        net.layers.b.finish(vec![("picture".to_owned(), x)])
    }

    /// `@encode(picture [1,fh,fw,3]) -> mean, std [1,h,w,C]`, of the posterior; height and width are those of the latents.
    pub fn encode(&self, height: usize, width: usize) -> Function {
        let (c, f) = (&self.config, self.config.factor());
        let mut net = self.net("encode");
        let mut x = net.layers.b.input("picture", Type::f32([1, f * height, f * width, c.in_channels]));
        x = net.layers.conv3x3("encoder.conv_in", x);
        for i in 0..c.block_out_channels.len() {
            let p = format!("encoder.down_blocks.{i}");
            x = net.resnets(&p, c.layers_per_block, x);
            if i + 1 < c.block_out_channels.len() {
                x = net.layers.convolution(&format!("{p}.downsamplers.0.conv"), x, 2, [0, 0, 1, 1]);
                net.layers.name(&p, x);
            }
        }
        x = net.mid("encoder", x, self.attention[0]);
        x = net.norm_silu("encoder.conv_norm_out", x);
        x = net.layers.conv3x3("encoder.conv_out", x);
        if self.quant {
            x = net.layers.linear("quant_conv", x);
        }
        let halves = net.layers.b.emit(Split { axis: 3, parts: 2 }, &[x]);
        let mut mean = halves[0];
        if let Some(shift) = c.shift_factor.filter(|&s| s != 0.0) {
            mean = net.layers.b.one(Offset { by: -shift }, &[mean]);
        }
        let mean = net.layers.b.one(Scale { by: c.scaling_factor }, &[mean]);
        let log = net.layers.b.one(Clamp { min: LOG_VARIANCE[0], max: LOG_VARIANCE[1] }, &[halves[1]]);
        let log = net.layers.b.one(Scale { by: 0.5 }, &[log]);
        let std = net.layers.b.one(Exp {}, &[log]);
        let std = net.layers.b.one(Scale { by: c.scaling_factor }, &[std]);
        net.layers.b.finish(vec![("mean".to_owned(), mean), ("std".to_owned(), std)])
    }

    fn net(&self, name: &str) -> Net<'_> {
        Net { layers: Layers::new(name, &self.prefix, self.parameters()), groups: self.config.norm_num_groups }
    }
}

struct List(ParameterList);

impl List {
    fn conv(&mut self, name: &str, o: usize, i: usize) {
        self.0.convolution(name, o, i, true);
    }

    fn resnets(&mut self, p: &str, count: usize, from: usize, to: usize) {
        for n in 0..count {
            self.resnet(&format!("{p}.resnets.{n}"), if n == 0 { from } else { to }, to);
        }
    }

    fn resnet(&mut self, p: &str, i: usize, o: usize) {
        self.0.norm(&format!("{p}.norm1"), i);
        self.conv(&format!("{p}.conv1"), o, i);
        self.0.norm(&format!("{p}.norm2"), o);
        self.conv(&format!("{p}.conv2"), o, o);
        if i != o {
            self.0.pointwise(&format!("{p}.conv_shortcut"), o, i, true);
        }
    }

    fn mid(&mut self, half: &str, w: usize, attention: Option<Attention>) {
        self.resnet(&format!("{half}.mid_block.resnets.0"), w, w);
        if let Some(a) = attention {
            let p = format!("{half}.mid_block.attentions.0");
            self.0.norm(&format!("{p}.{}", a.names[0]), w);
            for name in &a.names[1..] {
                match a.convolutions {
                    true => self.0.pointwise(&format!("{p}.{name}"), w, w, true),
                    false => self.0.linear(&format!("{p}.{name}"), w, w),
                }
            }
        }
        self.resnet(&format!("{half}.mid_block.resnets.1"), w, w);
    }
}

/// The blocks, of layers that all networks have.
struct Net<'a> {
    layers: Layers<'a>,
    groups: usize,
}

impl Net<'_> {
    fn norm(&mut self, name: &str, x: Value) -> Value {
        let (gamma, beta) = (self.layers.weight(&format!("{name}.weight")), self.layers.weight(&format!("{name}.bias")));
        self.layers.named(name, GroupNorm { groups: self.groups, eps: EPS }, &[x, gamma, beta])
    }

    fn norm_silu(&mut self, name: &str, x: Value) -> Value {
        let x = self.norm(name, x);
        self.layers.b.one(Silu {}, &[x])
    }

    fn resnets(&mut self, p: &str, count: usize, mut x: Value) -> Value {
        for n in 0..count {
            x = self.resnet(&format!("{p}.resnets.{n}"), x);
        }
        self.layers.name(p, x)
    }

    fn resnet(&mut self, p: &str, x: Value) -> Value {
        let h = self.norm_silu(&format!("{p}.norm1"), x);
        let h = self.layers.conv3x3(&format!("{p}.conv1"), h);
        let h = self.norm_silu(&format!("{p}.norm2"), h);
        let h = self.layers.conv3x3(&format!("{p}.conv2"), h);
        let shortcut = format!("{p}.conv_shortcut");
        let x = if self.layers.has(&format!("{shortcut}.weight")) { self.layers.linear(&shortcut, x) } else { x };
        self.layers.named(p, Add {}, &[x, h])
    }

    fn mid(&mut self, half: &str, x: Value, attention: Option<Attention>) -> Value {
        let x = self.resnet(&format!("{half}.mid_block.resnets.0"), x);
        let x = match attention {
            Some(a) => self.attention(&format!("{half}.mid_block.attentions.0"), x, a),
            None => x,
        };
        self.resnet(&format!("{half}.mid_block.resnets.1"), x)
    }

    /// `x + out(softmax(q k^T / sqrt(C)) v)` over all positions, one head.
    fn attention(&mut self, p: &str, x: Value, a: Attention) -> Value {
        let shape = self.layers.b.ty(x).shape.clone();
        let (positions, c) = (shape[1] * shape[2], shape[3]);
        let h = self.norm(&format!("{p}.{}", a.names[0]), x);
        let h = self.layers.b.one(Reshape { shape: vec![shape[0], positions, c] }, &[h]);
        let [q, k, v] = [1, 2, 3].map(|i| self.layers.linear(&format!("{p}.{}", a.names[i]), h));
        let k = self.layers.b.one(Transpose { perm: vec![0, 2, 1] }, &[k]);
        let scores = self.layers.b.one(Matmul {}, &[q, k]);
        let scores = self.layers.b.one(Scale { by: 1.0 / (c as f64).sqrt() }, &[scores]);
        let weights = self.layers.b.one(Softmax {}, &[scores]);
        let h = self.layers.b.one(Matmul {}, &[weights, v]);
        let h = self.layers.linear(&format!("{p}.{}", a.names[4]), h);
        let h = self.layers.b.one(Reshape { shape }, &[h]);
        self.layers.named(p, Add {}, &[x, h])
    }
}
