//! The blocks of an `AutoencoderKL`: resnets by resolution, and the middle with its attention.

use fcdm_ir::Value;
use fcdm_ir::ops::{Add, Matmul, Reshape, Scale, Silu, Softmax, Transpose};

use super::Config;
use crate::layers::{Declaration, Layer, Wiring};

/// Of every group norm.
const EPS: f64 = 1e-6;

/// The group norms of one network.
#[derive(Clone, Copy)]
pub(super) struct Norm {
    groups: usize,
}

impl Norm {
    pub fn of(c: &Config) -> Norm {
        Norm { groups: c.norm_num_groups }
    }

    pub fn declared(self, d: &mut Declaration<'_>, name: &str, channels: usize) -> Layer {
        d.group_norm(name, channels, self.groups, EPS)
    }
}

/// A norm, and SiLU.
pub(super) fn norm_silu(net: &mut Wiring<'_>, norm: &Layer, x: Value) -> Value {
    let x = net.layer(norm, x);
    net.b.one(Silu {}, &[x])
}

/// `x + conv(silu(norm(conv(silu(norm(x))))))`.
#[derive(Clone, Debug, PartialEq)]
struct Resnet {
    name: String,
    norms: [Layer; 2],
    convolutions: [Layer; 2],
    /// Where the width changes.
    shortcut: Option<Layer>,
}

impl Resnet {
    fn declared(d: &mut Declaration<'_>, name: String, i: usize, o: usize, norm: Norm) -> Resnet {
        let norm1 = norm.declared(d, &format!("{name}.norm1"), i);
        let conv1 = d.conv3x3(&format!("{name}.conv1"), o, i, true);
        let norm2 = norm.declared(d, &format!("{name}.norm2"), o);
        let conv2 = d.conv3x3(&format!("{name}.conv2"), o, o, true);
        let shortcut = (i != o).then(|| d.pointwise(&format!("{name}.conv_shortcut"), o, i, true));
        Resnet { name, norms: [norm1, norm2], convolutions: [conv1, conv2], shortcut }
    }

    fn apply(&self, net: &mut Wiring<'_>, x: Value) -> Value {
        let mut h = x;
        for (norm, convolution) in self.norms.iter().zip(&self.convolutions) {
            h = norm_silu(net, norm, h);
            h = net.layer(convolution, h);
        }
        let x = self.shortcut.as_ref().map_or(x, |shortcut| net.layer(shortcut, x));
        net.named(&self.name, Add {}, &[x, h])
    }
}

/// What is at one resolution.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Level {
    pub name: String,
    resnets: Vec<Resnet>,
    /// The convolution that leads to the next, if there is one.
    pub resampler: Option<Layer>,
}

impl Level {
    /// Resnets alone, the first of which changes the width.
    pub fn declared(d: &mut Declaration<'_>, name: String, count: usize, [from, to]: [usize; 2], norm: Norm) -> Level {
        let resnet = |n| Resnet::declared(d, format!("{name}.resnets.{n}"), if n == 0 { from } else { to }, to, norm);
        Level { resnets: (0..count).map(resnet).collect(), name, resampler: None }
    }

    pub fn resnets(&self, net: &mut Wiring<'_>, x: Value) -> Value {
        let x = self.resnets.iter().fold(x, |x, resnet| resnet.apply(net, x));
        net.name(&self.name, x)
    }
}

/// The shape of a file's tensor, by name.
pub(super) type Shapes<'a> = &'a dyn Fn(&str) -> Option<Vec<usize>>;

/// The lowest resolution.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mid {
    resnets: [Resnet; 2],
    /// `None` for a network without.
    attention: Option<Attention>,
}

impl Mid {
    /// With attention, if the shapes in the file are asked what it is called.
    pub fn declared(d: &mut Declaration<'_>, half: &str, width: usize, attention: Option<Shapes<'_>>, norm: Norm) -> Mid {
        let first = Resnet::declared(d, format!("{half}.mid_block.resnets.0"), width, width, norm);
        let attention = attention.map(|shape| Attention::declared(d, format!("{half}.mid_block.attentions.0"), width, shape, norm));
        let second = Resnet::declared(d, format!("{half}.mid_block.resnets.1"), width, width, norm);
        Mid { resnets: [first, second], attention }
    }

    pub fn apply(&self, net: &mut Wiring<'_>, x: Value) -> Value {
        let x = self.resnets[0].apply(net, x);
        let x = self.attention.as_ref().map_or(x, |a| a.apply(net, x));
        self.resnets[1].apply(net, x)
    }
}

/// Names of the query, key, value and output since diffusers 0.18, and before.
const NAMES: [[&str; 4]; 2] = [["to_q", "to_k", "to_v", "to_out.0"], ["query", "key", "value", "proj_attn"]];

/// Attention of one head over all positions.
#[derive(Clone, Debug, PartialEq)]
struct Attention {
    name: String,
    norm: Layer,
    /// Query, key, value.
    projections: [Layer; 3],
    output: Layer,
}

impl Attention {
    /// Its weights are `[C,C]` or, in files converted from the original ones, 1x1 convolutions `[C,C,1,1]`.
    fn declared(d: &mut Declaration<'_>, name: String, width: usize, shape: Shapes<'_>, norm: Norm) -> Attention {
        let in_file = |names: [&'static str; 4]| Some((names, shape(&format!("{name}.{}.weight", names[0]))?.len() == 4));
        let (names, convolutions) = NAMES.into_iter().find_map(in_file).unwrap_or((NAMES[0], false));
        let norm = norm.declared(d, &format!("{name}.group_norm"), width);
        let [query, key, value, output] = names.map(|what| match convolutions {
            true => d.pointwise(&format!("{name}.{what}"), width, width, true),
            false => d.linear(&format!("{name}.{what}"), width, width),
        });
        Attention { name, norm, projections: [query, key, value], output }
    }

    /// `x + out(softmax(q k^T / sqrt(C)) v)`.
    fn apply(&self, net: &mut Wiring<'_>, x: Value) -> Value {
        let shape = net.b.ty(x).shape.clone();
        let (positions, c) = (shape[1] * shape[2], shape[3]);
        let h = net.layer(&self.norm, x);
        let h = net.b.one(Reshape { shape: vec![shape[0], positions, c] }, &[h]);
        let [q, k, v] = [0, 1, 2].map(|i| net.layer(&self.projections[i], h));
        let k = net.b.one(Transpose { perm: vec![0, 2, 1] }, &[k]);
        let scores = net.b.one(Matmul {}, &[q, k]);
        let scores = net.b.one(Scale { by: 1.0 / (c as f64).sqrt() }, &[scores]);
        let weights = net.b.one(Softmax {}, &[scores]);
        let h = net.b.one(Matmul {}, &[weights, v]);
        let h = net.layer(&self.output, h);
        let h = net.b.one(Reshape { shape }, &[h]);
        net.named(&self.name, Add {}, &[x, h])
    }
}
