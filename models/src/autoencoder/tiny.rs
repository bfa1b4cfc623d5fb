//! One half of an autoencoder of the TAESD family (madebyollin/taesd, MIT): a flat sequence of layers, known by their index in
//! it. Pictures are RGB in [0,1] there; the functions here take and give [-1,1], as everything else does.
//!
//! The structure is fixed but for what the shapes say: channels of the latents (4, 16, 32), widths, and which blocks have
//! the branch of pooled context (`taef2`: those of the lowest resolution).

use fcdm_ir::ops::{Add, Clamp, Conv2d, GroupNorm, Linear, Offset, Relu, Scale, Tanh, UpsampleNearest};
use fcdm_ir::{Builder, Function, Op, Type, Value};

use crate::parameter::{Layout, Parameter, ParameterList};

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
        let b = Builder::new(name);
        let mut net = Net { b, prefix: &self.prefix };
        let mut x = net.b.input(input, Type::f32([1, height * scale, width * scale, self.input]));
        if self.half == Half::Encoder {
            x = net.b.one(Scale { by: 0.5 }, &[x]);
            x = net.b.one(Offset { by: 0.5 }, &[x]);
        }
        for layer in &self.layers {
            x = net.layer(layer, x);
        }
        if self.half == Half::Decoder {
            x = net.b.one(Clamp { min: 0.0, max: 1.0 }, &[x]);
            x = net.b.one(Scale { by: 2.0 }, &[x]);
            x = net.b.one(Offset { by: -1.0 }, &[x]);
        }
        net.b.finish(vec![(result.to_owned(), x)])
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

struct Net<'a> {
    b: Builder,
    prefix: &'a str,
}

impl Net<'_> {
    fn named(&mut self, name: &str, op: impl Into<Op>, x: &[Value]) -> Value {
        let v = self.b.one(op, x);
        self.b.name(v, &format!("{}{name}", self.prefix))
    }

    fn weight(&mut self, name: &str, layout: Layout, shape: &[usize]) -> Value {
        let name = format!("{}{name}", self.prefix);
        let ty = Parameter { name: name.clone(), shape: shape.to_vec(), layout }.ty();
        self.b.weight(&name, ty)
    }

    fn layer(&mut self, layer: &Layer, x: Value) -> Value {
        match layer {
            Layer::Bound => {
                let x = self.b.one(Scale { by: 1.0 / BOUND }, &[x]);
                let x = self.b.one(Tanh {}, &[x]);
                self.b.one(Scale { by: BOUND }, &[x])
            }
            Layer::Relu => self.b.one(Relu {}, &[x]),
            Layer::Upsample => self.b.one(UpsampleNearest { factor: 2 }, &[x]),
            Layer::Convolution { key, input, output, stride, bias } => self.conv3x3(key, x, [*output, *input], *stride, *bias),
            Layer::Block { key, input, output, pool } => self.block(key, x, *input, *output, *pool),
        }
    }

    fn conv3x3(&mut self, key: &str, x: Value, [o, i]: [usize; 2], stride: usize, bias: bool) -> Value {
        let mut operands = vec![x, self.weight(&format!("{key}.weight"), Layout::Convolution, &[o, i, 3, 3])];
        if bias {
            operands.push(self.weight(&format!("{key}.bias"), Layout::Same, &[o]));
        }
        self.named(key, Conv2d { stride, pad: vec![1; 4] }, &operands)
    }

    fn pointwise(&mut self, key: &str, x: Value, o: usize, i: usize) -> Value {
        let w = self.weight(&format!("{key}.weight"), Layout::Pointwise, &[o, i, 1, 1]);
        self.named(key, Linear {}, &[x, w])
    }

    fn block(&mut self, key: &str, mut x: Value, i: usize, o: usize, pool: bool) -> Value {
        if pool {
            let h = self.pointwise(&format!("{key}.pool.0"), x, 4 * i, i);
            let gamma = self.weight(&format!("{key}.pool.1.weight"), Layout::Same, &[4 * i]);
            let beta = self.weight(&format!("{key}.pool.1.bias"), Layout::Same, &[4 * i]);
            let h = self.b.one(GroupNorm { groups: GROUPS, eps: EPS }, &[h, gamma, beta]);
            let h = self.b.one(Relu {}, &[h]);
            let h = self.pointwise(&format!("{key}.pool.3"), h, i, 4 * i);
            x = self.b.one(Add {}, &[x, h]);
        }
        let h = self.conv3x3(&format!("{key}.conv.0"), x, [o, i], 1, true);
        let h = self.b.one(Relu {}, &[h]);
        let h = self.conv3x3(&format!("{key}.conv.2"), h, [o, o], 1, true);
        let h = self.b.one(Relu {}, &[h]);
        let h = self.conv3x3(&format!("{key}.conv.4"), h, [o, o], 1, true);
        let skip = if i == o { x } else { self.pointwise(&format!("{key}.skip"), x, o, i) };
        let h = self.b.one(Add {}, &[h, skip]);
        self.named(key, Relu {}, &[h])
    }
}
