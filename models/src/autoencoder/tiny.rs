//! One half of an autoencoder of the TAESD family (madebyollin/taesd, MIT): a flat sequence of layers, known by their index in
//! it. Pictures are RGB in [0,1] there; the functions here take and give [-1,1], as everything else does.
//!
//! The structure is fixed but for what the shapes say: channels of the latents (4, 16, 32), widths, and which blocks have
//! the branch of pooled context (`taef2`: those of the lowest resolution).

use fcdm_ir::ops::{Add, Clamp, Offset, Relu, Scale, Tanh, UpsampleNearest};
use fcdm_ir::{Function, Type, Value};
use serde_json::json;

use super::fields::{Fields, Wrong};
use super::{Half, PICTURE_CHANNELS};
use crate::layers::{Declaration, Layer, Wiring};
use crate::parameter::Parameter;
use crate::role::Region;

/// Pixels of a picture that a latent stands for, along either axis.
pub const FACTOR: usize = 8;

/// Of the group norm in a block's pool branch.
const GROUPS: usize = 4;
const EPS: f64 = 1e-5;

/// Latents are bounded before they are decoded: `BOUND * tanh(x / BOUND)`.
const BOUND: f64 = 3.0;

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

/// Of diffusers' `config.json`, the fields that do not depend on sizes: the structure is fixed, and the family is trained on latents
/// as denoisers see them.
///
/// # Errors
/// One line: field, expected, found.
pub(super) fn check_structure(fields: &mut Fields) -> Result<(), Wrong> {
    fields.shared()?;
    // What pictures of latents are made with.
    for name in ["latent_magnitude", "latent_shift"] {
        fields.passed_over(name);
    }
    for (name, expected) in [
        ("act_fn", json!("relu")),
        ("upsample_fn", json!("nearest")),
        ("upsampling_scaling_factor", json!(2)),
        ("num_encoder_blocks", json!([1, 3, 3, 3])),
        ("num_decoder_blocks", json!([3, 3, 3, 1])),
        ("scaling_factor", json!(1)),
        ("shift_factor", json!(0)),
    ] {
        fields.fixed(name, &expected)?;
    }
    Ok(())
}

/// The rest, which must say what the tensors do.
///
/// # Errors
/// As [`check_structure`].
pub(super) fn check_sizes(mut fields: Fields, encoder: &Tiny, decoder: &Tiny) -> Result<(), Wrong> {
    fields.fixed("latent_channels", &json!(decoder.latent_channels()))?;
    fields.fixed("encoder_block_out_channels", &json!(encoder.stages))?;
    fields.fixed("decoder_block_out_channels", &json!(decoder.stages))?;
    fields.fixed("block_out_channels", &json!(decoder.stages))?;
    fields.finish()
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

const BLOCK: Kind = Kind::Block;

const ENCODER: [Kind; 15] =
    [BIASED, BLOCK, HALVING, BLOCK, BLOCK, BLOCK, HALVING, BLOCK, BLOCK, BLOCK, HALVING, BLOCK, BLOCK, BLOCK, BIASED];
#[rustfmt::skip]
const DECODER: [Kind; 20] = [
    Kind::Bound, BIASED, Kind::Relu, BLOCK, BLOCK, BLOCK, Kind::Upsample, PLAIN, BLOCK, BLOCK, BLOCK, Kind::Upsample, PLAIN, BLOCK, BLOCK,
    BLOCK, Kind::Upsample, PLAIN, BLOCK, BIASED,
];

/// What is there, with its layers.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Bound,
    Relu,
    Upsample,
    Convolution(Layer),
    Block(Box<Block>),
}

/// Three convolutions beside a skip; before them, in some, a branch that sees pooled context.
#[derive(Clone, Debug, PartialEq)]
struct Block {
    name: String,
    convolutions: [Layer; 3],
    /// Where the width changes.
    skip: Option<Layer>,
    /// Wider, its group norm, and back.
    pool: Option<[Layer; 3]>,
}

/// One half with its layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Tiny {
    half: Half,
    /// What the IR's names of weights have before those of the file.
    prefix: String,
    steps: Vec<Step>,
    /// In the order of the sequence.
    parameters: Vec<Parameter>,
    input: usize,
    output: usize,
    /// Channels of the widest layer.
    width: usize,
    /// Those of the blocks, by resolution.
    stages: Vec<usize>,
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
            None => Err(format!("tensor `{name}` is missing: is this the {half} of a TAESD?")),
        };
        let (mut steps, mut parameters, mut stages) = (Vec::new(), Vec::new(), Vec::new());
        let (mut first, mut channels, mut width) = (None, None, 0);
        // Input and output channels of the next layer, by its first weight.
        let mut sizes = |name: &str| {
            let (i, o) = output(name, channels)?;
            first.get_or_insert(i);
            (channels, width) = (Some(o), width.max(o));
            Ok::<_, String>([i, o])
        };
        for (index, kind) in kinds.iter().enumerate() {
            let (key, d) = (|| naming.layer(half, index), &mut Declaration::new(&mut parameters));
            steps.push(match *kind {
                Kind::Bound => Step::Bound,
                Kind::Relu => Step::Relu,
                Kind::Upsample => Step::Upsample,
                Kind::Convolution { stride, bias } => {
                    let region = match index {
                        last if last + 1 == kinds.len() => Region::Output,
                        // The decoder begins by bounding the latents.
                        0 | 1 => Region::Input,
                        _ => Region::Trunk,
                    };
                    let [i, o] = sizes(&format!("{}.weight", key()))?;
                    Step::Convolution(d.at(region).convolution(&key(), [o, i], bias, stride, [1; 4]))
                }
                Kind::Block => {
                    let [i, o] = sizes(&format!("{}.conv.0.weight", key()))?;
                    if kinds[index - 1] != BLOCK {
                        stages.push(o);
                    }
                    let pool = shape(&format!("{}.pool.0.weight", key())).is_some();
                    Step::Block(Box::new(Block::declared(d, key(), i, o, pool)))
                }
            });
        }
        let (input, output) = first.zip(channels).expect("both sequences have convolutions");
        let (pixels, what) = if half == Half::Encoder { (input, "encoder's input") } else { (output, "decoder's output") };
        if pixels != PICTURE_CHANNELS {
            return Err(format!("{what}: expected {PICTURE_CHANNELS} channels, found {pixels}"));
        }
        Ok(Tiny { half, prefix: prefix.to_owned(), steps, parameters, input, output, width, stages })
    }

    /// Channels of the latents.
    pub fn latent_channels(&self) -> usize {
        if self.half == Half::Encoder { self.output } else { self.input }
    }

    /// The greatest number of values per latent position that a layer gives.
    pub fn widest(&self) -> usize {
        FACTOR * FACTOR * self.width
    }

    /// All parameters, in the order of the sequence.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// `@encode(picture [1,H,W,3]) -> mean [1,H/8,W/8,C]` or `@decode(latent [1,h,w,C]) -> picture [1,8h,8w,3]`, pictures in
    /// [-1,1]. `height` and `width` are those of the latents.
    pub fn function(&self, height: usize, width: usize) -> Function {
        let (input, result, scale) = match self.half {
            Half::Encoder => ("picture", "mean", FACTOR),
            Half::Decoder => ("latent", "picture", 1),
        };
        let mut net = Wiring::new(self.half.entry_name(), &self.prefix);
        let mut x = net.b.input(input, Type::f32([1, height * scale, width * scale, self.input]));
        if self.half == Half::Encoder {
            x = net.b.one(Scale { by: 0.5 }, &[x]);
            x = net.b.one(Offset { by: 0.5 }, &[x]);
        }
        for step in &self.steps {
            x = step.apply(&mut net, x);
        }
        if self.half == Half::Decoder {
            x = net.b.one(Clamp { min: 0.0, max: 1.0 }, &[x]);
            x = net.b.one(Scale { by: 2.0 }, &[x]);
            x = net.b.one(Offset { by: -1.0 }, &[x]);
        }
        net.b.finish(vec![(result.to_owned(), x)])
    }
}

impl Step {
    fn apply(&self, net: &mut Wiring<'_>, x: Value) -> Value {
        match self {
            Step::Bound => {
                let x = net.b.one(Scale { by: 1.0 / BOUND }, &[x]);
                let x = net.b.one(Tanh {}, &[x]);
                net.b.one(Scale { by: BOUND }, &[x])
            }
            Step::Relu => net.b.one(Relu {}, &[x]),
            Step::Upsample => net.b.one(UpsampleNearest { factor: 2 }, &[x]),
            Step::Convolution(layer) => net.layer(layer, x),
            Step::Block(block) => block.apply(net, x),
        }
    }
}

impl Block {
    fn declared(d: &mut Declaration<'_>, name: String, i: usize, o: usize, pool: bool) -> Block {
        let convolutions = [(0, i), (2, o), (4, o)].map(|(n, from)| d.conv3x3(&format!("{name}.conv.{n}"), o, from, true));
        let skip = (i != o).then(|| d.pointwise(&format!("{name}.skip"), o, i, false));
        let pool = pool.then(|| {
            let wider = d.pointwise(&format!("{name}.pool.0"), 4 * i, i, false);
            let norm = d.group_norm(&format!("{name}.pool.1"), 4 * i, GROUPS, EPS);
            [wider, norm, d.pointwise(&format!("{name}.pool.3"), i, 4 * i, false)]
        });
        Block { name, convolutions, skip, pool }
    }

    fn apply(&self, net: &mut Wiring<'_>, mut x: Value) -> Value {
        if let Some([wider, norm, back]) = &self.pool {
            let h = net.layer(wider, x);
            let h = net.unnamed(norm, h);
            let h = net.b.one(Relu {}, &[h]);
            let h = net.layer(back, h);
            x = net.b.one(Add {}, &[x, h]);
        }
        let [first, second, third] = &self.convolutions;
        let h = net.layer(first, x);
        let h = net.b.one(Relu {}, &[h]);
        let h = net.layer(second, h);
        let h = net.b.one(Relu {}, &[h]);
        let h = net.layer(third, h);
        let skip = self.skip.as_ref().map_or(x, |skip| net.layer(skip, x));
        let h = net.b.one(Add {}, &[h, skip]);
        net.named(&self.name, Relu {}, &[h])
    }
}
