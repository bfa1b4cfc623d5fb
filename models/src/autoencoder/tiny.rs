//! One half of an autoencoder of the TAESD family (madebyollin/taesd, MIT): a flat sequence of layers, known by their index in
//! it. Pictures are RGB in [0,1] there; the functions here take and give [-1,1], as everything else does.
//!
//! The structure is fixed but for what the shapes say: channels of the latents (4, 16, 32), widths, and which blocks have
//! the branch of pooled context (`taef2`: those of the lowest resolution).

use fcdm_ir::ops::{Add, Clamp, GroupNorm, Offset, Relu, Scale, Tanh, UpsampleNearest};
use fcdm_ir::{Function, Type, Value};
use serde::Deserialize;

use crate::layers::Layers;
use crate::parameter::{Parameter, ParameterList};

/// Pixels of a picture that a latent stands for, along either axis.
pub const FACTOR: usize = 8;

/// Of the group norm in a block's pool branch.
const GROUPS: usize = 4;
const EPS: f64 = 1e-5;

/// Latents are bounded before they are decoded: `BOUND * tanh(x / BOUND)`.
const BOUND: f64 = 3.0;

/// Which half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// Picture to latents.
    Encoder,
    /// Latents to picture.
    Decoder,
}

/// How a file names the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// The authors' files: the index, each half in a file of its own.
    Index,
    /// diffusers' `AutoencoderTiny`: `encoder.layers.INDEX`, `decoder.layers.INDEX`; the decoder's first layer, which bounds
    /// the latents, does not count.
    Diffusers,
}

impl Naming {
    fn layer(self, half: Half, index: usize) -> String {
        match (self, half) {
            (Naming::Index, _) => index.to_string(),
            (Naming::Diffusers, Half::Encoder) => format!("encoder.layers.{index}"),
            (Naming::Diffusers, Half::Decoder) => format!("decoder.layers.{}", index - 1),
        }
    }
}

/// `config.json` of diffusers' `AutoencoderTiny`: the fields that the tensors do not say and that may be otherwise. The rest
/// of the file is passed over.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Config {
    /// The activation of the blocks.
    #[serde(default = "relu")]
    pub act_fn: String,
    /// What the denoiser's latents are the autoencoder's times.
    #[serde(default = "one")]
    pub scaling_factor: f64,
    /// What is subtracted from the autoencoder's latents before that.
    #[serde(default)]
    pub shift_factor: Option<f64>,
}

fn relu() -> String {
    "relu".to_owned()
}
fn one() -> f64 {
    1.0
}

impl Config {
    /// The family is trained on latents as denoisers see them.
    ///
    /// # Errors
    /// One line, for what no file of the family has: field, expected, found.
    pub fn validate(&self) -> Result<(), String> {
        let wrong = |field: &str, expected: &str, found: String| Err(format!("{field}: expected {expected}, found {found}"));
        if self.act_fn != "relu" {
            return wrong("act_fn", "relu", self.act_fn.chars().take(60).flat_map(char::escape_debug).collect());
        }
        if self.scaling_factor != 1.0 {
            return wrong("scaling_factor", "1", self.scaling_factor.to_string());
        }
        match self.shift_factor {
            Some(shift) if shift != 0.0 => wrong("shift_factor", "0", shift.to_string()),
            _ => Ok(()),
        }
    }
}

/// What is at an index of the sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bound,
    Relu,
    Upsample,
    Convolution { stride: usize, bias: bool },
    Block,
}

const BIASED: Kind = Kind::Convolution { stride: 1, bias: true };
const PLAIN: Kind = Kind::Convolution { stride: 1, bias: false };
const HALVING: Kind = Kind::Convolution { stride: 2, bias: false };

use Kind::{Block, Bound, Upsample};

const ENCODER: [Kind; 15] =
    [BIASED, Block, HALVING, Block, Block, Block, HALVING, Block, Block, Block, HALVING, Block, Block, Block, BIASED];
#[rustfmt::skip]
const DECODER: [Kind; 20] = [
    Bound, BIASED, Kind::Relu, Block, Block, Block, Upsample, PLAIN, Block, Block, Block, Upsample, PLAIN, Block, Block, Block, Upsample,
    PLAIN, Block, BIASED,
];

/// A layer with its sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Layer {
    Bound,
    Relu,
    Upsample,
    Convolution { key: String, input: usize, output: usize, stride: usize, bias: bool },
    Block { key: String, input: usize, output: usize, pool: bool },
}

/// One half with its sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiny {
    half: Half,
    /// What the IR's names of weights have before those of the file.
    prefix: String,
    layers: Vec<Layer>,
    input: usize,
    output: usize,
}

impl Tiny {
    /// Reads the sizes off the shapes in a file.
    ///
    /// # Errors
    /// The first tensor that is missing or has a shape that it cannot have, in one line.
    pub fn from_shapes(shape: &dyn Fn(&str) -> Option<Vec<usize>>, half: Half, naming: Naming, prefix: &str) -> Result<Tiny, String> {
        let kinds: &[Kind] = if half == Half::Encoder { &ENCODER } else { &DECODER };
        // Output channels of a convolution 3x3 that takes `input` channels, or whatever number if that is not known yet.
        let output = |name: &str, input: Option<usize>| match shape(name).as_deref() {
            Some(&[o, i, 3, 3]) if o > 0 && i > 0 && input.is_none_or(|n| n == i) => Ok((i, o)),
            Some(found) => {
                let i = input.map_or_else(|| "I".to_owned(), |n| n.to_string());
                Err(format!("tensor `{name}`: expected shape [O, {i}, 3, 3], found {found:?}"))
            }
            None => Err(format!("tensor `{name}` is missing: is this {} of the TAESD family?", half.article())),
        };
        let (mut layers, mut ends, mut channels) = (Vec::new(), None, None);
        for (index, kind) in kinds.iter().enumerate() {
            let layer = match *kind {
                Kind::Bound => Layer::Bound,
                Kind::Relu => Layer::Relu,
                Kind::Upsample => Layer::Upsample,
                Kind::Convolution { stride, bias } => {
                    let key = naming.layer(half, index);
                    let (input, output) = output(&format!("{key}.weight"), channels)?;
                    channels = Some(output);
                    Layer::Convolution { key, input, output, stride, bias }
                }
                Kind::Block => {
                    let key = naming.layer(half, index);
                    let (input, output) = output(&format!("{key}.conv.0.weight"), channels)?;
                    channels = Some(output);
                    let pool = shape(&format!("{key}.pool.0.weight")).is_some();
                    Layer::Block { key, input, output, pool }
                }
            };
            if let Layer::Convolution { input, .. } = layer {
                ends.get_or_insert(input);
            }
            layers.push(layer);
        }
        let (input, output) = ends.zip(channels).expect("both sequences have convolutions");
        let (pixels, what) = if half == Half::Encoder { (input, "encoder's input") } else { (output, "decoder's output") };
        if pixels != PICTURE_CHANNELS {
            return Err(format!("{what}: expected {PICTURE_CHANNELS} channels, found {pixels}"));
        }
        Ok(Tiny { half, prefix: prefix.to_owned(), layers, input, output })
    }

    /// Channels of the latents.
    pub fn latent_channels(&self) -> usize {
        if self.half == Half::Encoder { self.output } else { self.input }
    }

    /// The greatest number of values per latent position that a layer gives.
    pub fn widest(&self) -> usize {
        let wide = |l: &Layer| match *l {
            Layer::Convolution { output, .. } => output,
            Layer::Block { output, .. } => output,
            Layer::Bound | Layer::Relu | Layer::Upsample => 0,
        };
        FACTOR * FACTOR * self.layers.iter().map(wide).max().unwrap_or(0)
    }

    /// All parameters, in the order of the sequence.
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut list = ParameterList::default();
        for layer in &self.layers {
            match layer {
                Layer::Bound | Layer::Relu | Layer::Upsample => {}
                Layer::Convolution { key, input, output, bias, .. } => list.convolution(key, *output, *input, *bias),
                Layer::Block { key, input: i, output: o, pool } => {
                    list.convolution(&format!("{key}.conv.0"), *o, *i, true);
                    list.convolution(&format!("{key}.conv.2"), *o, *o, true);
                    list.convolution(&format!("{key}.conv.4"), *o, *o, true);
                    if i != o {
                        list.pointwise(&format!("{key}.skip"), *o, *i, false);
                    }
                    if *pool {
                        list.pointwise(&format!("{key}.pool.0"), 4 * i, *i, false);
                        list.norm(&format!("{key}.pool.1"), 4 * i);
                        list.pointwise(&format!("{key}.pool.3"), *i, 4 * i, false);
                    }
                }
            }
        }
        list.0
    }

    /// `@encode(picture [1,H,W,3]) -> mean [1,H/8,W/8,C]` or `@decode(latent [1,h,w,C]) -> picture [1,8h,8w,3]`, pictures in
    /// [-1,1]. `height` and `width` are those of the latents.
    pub fn function(&self, height: usize, width: usize) -> Function {
        let (name, input, result, scale) = match self.half {
            Half::Encoder => ("encode", "picture", "mean", FACTOR),
            Half::Decoder => ("decode", "latent", "picture", 1),
        };
        let mut net = Net(Layers::new(name, &self.prefix, self.parameters()));
        let mut x = net.0.b.input(input, Type::f32([1, height * scale, width * scale, self.input]));
        if self.half == Half::Encoder {
            x = net.0.b.one(Scale { by: 0.5 }, &[x]);
            x = net.0.b.one(Offset { by: 0.5 }, &[x]);
        }
        for layer in &self.layers {
            x = net.layer(layer, x);
        }
        if self.half == Half::Decoder {
            x = net.0.b.one(Clamp { min: 0.0, max: 1.0 }, &[x]);
            x = net.0.b.one(Scale { by: 2.0 }, &[x]);
            x = net.0.b.one(Offset { by: -1.0 }, &[x]);
        }
        net.0.b.finish(vec![(result.to_owned(), x)])
    }
}

/// RGB.
pub const PICTURE_CHANNELS: usize = 3;

impl Half {
    fn article(self) -> &'static str {
        match self {
            Half::Encoder => "an encoder",
            Half::Decoder => "a decoder",
        }
    }
}

/// The sequence's layers and blocks, of layers that all networks have.
struct Net<'a>(Layers<'a>);

impl Net<'_> {
    fn layer(&mut self, layer: &Layer, x: Value) -> Value {
        let b = &mut self.0.b;
        match layer {
            Layer::Bound => {
                let x = b.one(Scale { by: 1.0 / BOUND }, &[x]);
                let x = b.one(Tanh {}, &[x]);
                b.one(Scale { by: BOUND }, &[x])
            }
            Layer::Relu => b.one(Relu {}, &[x]),
            Layer::Upsample => b.one(UpsampleNearest { factor: 2 }, &[x]),
            Layer::Convolution { key, stride, .. } => self.0.convolution(key, x, *stride, [1; 4]),
            Layer::Block { key, input, output, pool } => self.block(key, x, input != output, *pool),
        }
    }

    fn block(&mut self, key: &str, mut x: Value, skips: bool, pool: bool) -> Value {
        let net = &mut self.0;
        if pool {
            let h = net.linear(&format!("{key}.pool.0"), x);
            let [gamma, beta] = ["weight", "bias"].map(|what| net.weight(&format!("{key}.pool.1.{what}")));
            let h = net.b.one(GroupNorm { groups: GROUPS, eps: EPS }, &[h, gamma, beta]);
            let h = net.b.one(Relu {}, &[h]);
            let h = net.linear(&format!("{key}.pool.3"), h);
            x = net.b.one(Add {}, &[x, h]);
        }
        let h = net.conv3x3(&format!("{key}.conv.0"), x);
        let h = net.b.one(Relu {}, &[h]);
        let h = net.conv3x3(&format!("{key}.conv.2"), h);
        let h = net.b.one(Relu {}, &[h]);
        let h = net.conv3x3(&format!("{key}.conv.4"), h);
        let skip = if skips { net.linear(&format!("{key}.skip"), x) } else { x };
        let h = net.b.one(Add {}, &[h, skip]);
        net.named(key, Relu {}, &[h])
    }
}
