//! FCDM: its layers, and as IR for one batch size and resolution. Values carry the names that the blocks have in checkpoints.

use fcdm_ir::ops::{Add, Concat, GatedAdd, Gelu, LayerNorm, Modulate, PixelShuffle, PixelUnshuffle, Silu, Split, TimestepEmbedding};
use fcdm_ir::{DType, Function, Type, Value};

use super::config::{Config, FREQUENCIES, STAGES};
use crate::layers::{Declaration, Layer, Wiring};
use crate::parameter::Parameter;
use crate::role::{Region, Resolution};

/// Epsilon of every LayerNorm and GRN.
const EPS: f64 = 1e-6;

/// Size of one evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Size {
    /// Rows of the batch.
    pub batch: usize,
    /// Height of the input, divisible by 4.
    pub height: usize,
    /// Width of the input, divisible by 4.
    pub width: usize,
}

/// The function `@fcdm(x [N,H,W,C_in], t [N], y [N]) -> output [N,H,W,C_out]`.
///
/// # Panics
/// If height or width is zero or not divisible by 4, or the batch is empty.
pub fn network(cfg: &Config, size: Size) -> Function {
    Fcdm::declared(cfg, &mut Vec::new()).function(cfg, size)
}

/// All parameters, in the order of registration in the official trainer, by which an optimiser state numbers its entries.
pub fn parameters(cfg: &Config) -> Vec<Parameter> {
    let mut list = Vec::new();
    Fcdm::declared(cfg, &mut list);
    list
}

/// The layers.
struct Fcdm {
    /// One a level.
    conditions: [Condition; 3],
    first: Layer,
    stages: [Vec<Block>; 5],
    /// Before the pixels are unshuffled, and before they are shuffled, in the order of the data.
    down: [Layer; 2],
    up: [Layer; 2],
    /// After a skip connection is joined, in the order of the data.
    reduce: [Layer; 2],
    output: Layer,
    modulation: Layer,
    last: Layer,
}

/// What makes a level's condition vector.
struct Condition {
    /// A linear layer, SiLU, a linear layer.
    timestep: [Layer; 2],
    class: Layer,
}

struct Block {
    name: String,
    dwconv: Layer,
    pwconv1: Layer,
    grn: Layer,
    pwconv2: Layer,
    modulation: Layer,
}

impl Fcdm {
    /// Declares the layers. The order is that of registration.
    fn declared(cfg: &Config, list: &mut Vec<Parameter>) -> Fcdm {
        let d = &mut Declaration::new(list);
        let [w1, w2, w3] = [0, 1, 2].map(|level| cfg.width(level));
        let conditions = [0, 1, 2].map(|level| Condition::declared(d, cfg, level));
        let first = d.sized(Resolution::Full).at(Region::Input).conv3x3("x_embedder", w1, cfg.in_channels, true);
        let encoder1 = stage(d, cfg, 0);
        let down1 = d.sized(Resolution::Full).conv3x3("down1_2.conv.0", w1 / 2, w1, false);
        let encoder2 = stage(d, cfg, 1);
        let down2 = d.conv3x3("down2_3.conv.0", w2 / 2, w2, false);
        let latent = stage(d, cfg, 2);
        let up2 = d.conv3x3("up3_2.conv.0", 2 * w3, w3, false);
        let reduce2 = d.at(Region::Skip).pointwise("reduce_chans_2", w2, 2 * w2, true);
        let decoder2 = stage(d, cfg, 3);
        let up1 = d.sized(Resolution::ToFull).conv3x3("up2_1.conv.0", 2 * w2, w2, false);
        let d = &mut d.sized(Resolution::Full);
        let reduce1 = d.at(Region::Skip).pointwise("reduce_chans_1", w1, 2 * w1, true);
        let decoder1 = stage(d, cfg, 4);
        let output = d.conv3x3("output_layer", w1, w1, true);
        let modulation = d.at(Region::Modulation).linear("final_layer.adaLN_modulation.1", 2 * w1, w1);
        let last = d.at(Region::Output).conv3x3("final_layer.conv", cfg.out_channels(), w1, true);
        let stages = [encoder1, encoder2, latent, decoder2, decoder1];
        Fcdm { conditions, first, stages, down: [down1, down2], up: [up2, up1], reduce: [reduce2, reduce1], output, modulation, last }
    }

    fn function(&self, cfg: &Config, size: Size) -> Function {
        assert!(size.batch > 0 && size.height > 0 && size.width > 0, "an empty evaluation: {size:?}");
        assert!(size.height.is_multiple_of(4) && size.width.is_multiple_of(4), "height and width must be divisible by 4: {size:?}");
        let mut wiring = Wiring::new("fcdm", "");
        let net = &mut wiring;
        let x = net.b.input("x", Type::f32([size.batch, size.height, size.width, cfg.in_channels]));
        let t = net.b.input("t", Type::f32([size.batch]));
        let y = net.b.input("y", Type::new(DType::I32, [size.batch]));

        let c: Vec<Value> = self.conditions.iter().zip(1..).map(|(c, k)| c.apply(net, &format!("cond_{k}"), t, y)).collect();
        // SiLU of a condition vector is the input of every projection at its level.
        let s: Vec<Value> = c.iter().map(|&c| net.b.one(Silu {}, &[c])).collect();
        let stage = |net: &mut Wiring<'_>, index: usize, x: Value| {
            self.stages[index].iter().fold(x, |x, block| block.apply(net, x, s[STAGES[index].level]))
        };

        let x = net.layer(&self.first, x);
        let skip1 = stage(net, 0, x);
        let h = net.layer(&self.down[0], skip1);
        let h = net.named("down1_2", PixelUnshuffle { factor: 2 }, &[h]);
        let skip2 = stage(net, 1, h);
        let h = net.layer(&self.down[1], skip2);
        let h = net.named("down2_3", PixelUnshuffle { factor: 2 }, &[h]);
        let h = stage(net, 2, h);
        let h = net.layer(&self.up[0], h);
        let h = net.named("up3_2", PixelShuffle { factor: 2 }, &[h]);
        let h = net.b.one(Concat { axis: 3 }, &[h, skip2]);
        let h = net.layer(&self.reduce[0], h);
        let h = stage(net, 3, h);
        let h = net.layer(&self.up[1], h);
        let h = net.named("up2_1", PixelShuffle { factor: 2 }, &[h]);
        let h = net.b.one(Concat { axis: 3 }, &[h, skip1]);
        let h = net.layer(&self.reduce[1], h);
        let h = stage(net, 4, h);
        let h = net.layer(&self.output, h);

        let [shift, scale] = modulation(net, "final_layer", &self.modulation, s[0], ["shift", "scale"]);
        let h = net.b.one(LayerNorm { eps: EPS }, &[h]);
        let h = net.b.one(Modulate {}, &[h, shift, scale]);
        let out = net.layer(&self.last, h);
        wiring.b.finish(vec![("output".to_owned(), out)])
    }
}

impl Condition {
    fn declared(d: &mut Declaration<'_>, cfg: &Config, level: usize) -> Condition {
        let (w, k) = (cfg.width(level), level + 1);
        let d = &mut d.sized(resolution(level));
        let mut mlp = d.at(Region::Timestep);
        let timestep = [mlp.linear(&format!("t_embedder_{k}.mlp.0"), w, FREQUENCIES), mlp.linear(&format!("t_embedder_{k}.mlp.2"), w, w)];
        let class = d.at(Region::Class).table(&format!("y_embedder_{k}.embedding_table"), cfg.class_rows(), w);
        Condition { timestep, class }
    }

    /// `c = TimestepMLP(t) + ClassTable[y]`.
    fn apply(&self, net: &mut Wiring<'_>, name: &str, t: Value, y: Value) -> Value {
        let e = net.b.one(TimestepEmbedding { dim: FREQUENCIES }, &[t]);
        let h = net.layer(&self.timestep[0], e);
        let h = net.b.one(Silu {}, &[h]);
        let h = net.layer(&self.timestep[1], h);
        let class = net.unnamed(&self.class, y);
        net.named(name, Add {}, &[h, class])
    }
}

/// The size of the image at a level.
fn resolution(level: usize) -> Resolution {
    if level == 0 { Resolution::Full } else { Resolution::Reduced }
}

fn stage(d: &mut Declaration<'_>, cfg: &Config, index: usize) -> Vec<Block> {
    let stage = STAGES[index];
    let (w, wide, d) = (cfg.width(stage.level), cfg.expanded[stage.level], &mut d.sized(resolution(stage.level)));
    (0..cfg.depths[index]).map(|n| Block::declared(d, format!("{}.{n}", stage.prefix), w, wide)).collect()
}

impl Block {
    fn declared(d: &mut Declaration<'_>, name: String, w: usize, wide: usize) -> Block {
        Block {
            dwconv: d.depthwise(&format!("{name}.dwconv"), w, 7),
            pwconv1: d.pointwise(&format!("{name}.pwconv1"), wide, w, true),
            grn: d.grn(&format!("{name}.grn"), wide, EPS),
            pwconv2: d.pointwise(&format!("{name}.pwconv2"), w, wide, true),
            modulation: d.at(Region::Modulation).linear(&format!("{name}.adaLN_modulation.1"), 3 * w, w),
            name,
        }
    }

    fn apply(&self, net: &mut Wiring<'_>, x: Value, s: Value) -> Value {
        let [shift, scale, gate] = modulation(net, &self.name, &self.modulation, s, ["shift", "scale", "gate"]);
        let h = net.layer(&self.dwconv, x);
        let h = net.b.one(LayerNorm { eps: EPS }, &[h]);
        let h = net.b.one(Modulate {}, &[h, shift, scale]);
        let h = net.layer(&self.pwconv1, h);
        let h = net.b.one(Gelu {}, &[h]);
        let h = net.layer(&self.grn, h);
        let h = net.layer(&self.pwconv2, h);
        net.named(&self.name, GatedAdd {}, &[x, h, gate])
    }
}

/// The parts of what a projection makes of the condition, named after the block that they are for.
fn modulation<const N: usize>(net: &mut Wiring<'_>, block: &str, projection: &Layer, s: Value, names: [&str; N]) -> [Value; N] {
    let m = net.layer(projection, s);
    let parts = net.b.emit(Split { axis: 1, parts: N }, &[m]);
    std::array::from_fn(|i| net.name(&format!("{block}.{}", names[i]), parts[i]))
}
