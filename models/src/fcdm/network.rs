//! FCDM as IR, for one batch size and resolution. Values carry the names that the blocks have in checkpoints.

use fcdm_ir::ops::{
    Add, Concat, DwConv2d, Embedding, GatedAdd, Gelu, Grn, LayerNorm, Modulate, PixelShuffle, PixelUnshuffle, Silu, Split,
    TimestepEmbedding,
};
use fcdm_ir::{DType, Function, Type, Value};

use super::config::{Config, FREQUENCIES, STAGES};
use super::parameters::parameters;
use crate::layers::Layers;

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
    assert!(size.batch > 0 && size.height > 0 && size.width > 0, "an empty evaluation: {size:?}");
    assert!(size.height.is_multiple_of(4) && size.width.is_multiple_of(4), "height and width must be divisible by 4: {size:?}");
    let mut net = Net(Layers::new("fcdm", "", parameters(cfg)));
    let b = &mut net.0.b;
    let x = b.input("x", Type::f32([size.batch, size.height, size.width, cfg.in_channels]));
    let t = b.input("t", Type::f32([size.batch]));
    let y = b.input("y", Type::new(DType::I32, [size.batch]));

    let c: Vec<Value> = (0..3).map(|level| net.condition(level, t, y)).collect();
    // SiLU of a condition vector is the input of every projection at its level.
    let s: Vec<Value> = c.iter().map(|&c| net.0.b.one(Silu {}, &[c])).collect();

    let x = net.0.conv3x3("x_embedder", x);
    let skip1 = net.stage(cfg, 0, x, &s);
    let h = net.0.conv3x3("down1_2.conv.0", skip1);
    let h = net.0.named("down1_2", PixelUnshuffle { factor: 2 }, &[h]);
    let skip2 = net.stage(cfg, 1, h, &s);
    let h = net.0.conv3x3("down2_3.conv.0", skip2);
    let h = net.0.named("down2_3", PixelUnshuffle { factor: 2 }, &[h]);
    let h = net.stage(cfg, 2, h, &s);
    let h = net.0.conv3x3("up3_2.conv.0", h);
    let h = net.0.named("up3_2", PixelShuffle { factor: 2 }, &[h]);
    let h = net.0.b.one(Concat { axis: 3 }, &[h, skip2]);
    let h = net.0.linear("reduce_chans_2", h);
    let h = net.stage(cfg, 3, h, &s);
    let h = net.0.conv3x3("up2_1.conv.0", h);
    let h = net.0.named("up2_1", PixelShuffle { factor: 2 }, &[h]);
    let h = net.0.b.one(Concat { axis: 3 }, &[h, skip1]);
    let h = net.0.linear("reduce_chans_1", h);
    let h = net.stage(cfg, 4, h, &s);
    let h = net.0.conv3x3("output_layer", h);

    let m = net.0.linear("final_layer.adaLN_modulation.1", s[0]);
    let modulation = net.0.b.emit(Split { axis: 1, parts: 2 }, &[m]);
    for (&v, what) in modulation.iter().zip(["shift", "scale"]) {
        net.0.b.name(v, &format!("final_layer.{what}"));
    }
    let h = net.0.b.one(LayerNorm { eps: EPS }, &[h]);
    let h = net.0.b.one(Modulate {}, &[h, modulation[0], modulation[1]]);
    let out = net.0.conv3x3("final_layer.conv", h);
    net.0.b.finish(vec![("output".to_owned(), out)])
}

/// FCDM's own blocks, of layers that all networks have.
struct Net<'a>(Layers<'a>);

impl Net<'_> {
    /// `c = TimestepMLP(t) + ClassTable[y]` at a level.
    fn condition(&mut self, level: usize, t: Value, y: Value) -> Value {
        let k = level + 1;
        let e = self.0.b.one(TimestepEmbedding { dim: FREQUENCIES }, &[t]);
        let h = self.0.linear(&format!("t_embedder_{k}.mlp.0"), e);
        let h = self.0.b.one(Silu {}, &[h]);
        let h = self.0.linear(&format!("t_embedder_{k}.mlp.2"), h);
        let table = self.0.weight(&format!("y_embedder_{k}.embedding_table.weight"));
        let class = self.0.b.one(Embedding {}, &[table, y]);
        self.0.named(&format!("cond_{k}"), Add {}, &[h, class])
    }

    fn stage(&mut self, cfg: &Config, index: usize, mut x: Value, s: &[Value]) -> Value {
        let stage = STAGES[index];
        for n in 0..cfg.depths[index] {
            x = self.block(&format!("{}.{n}", stage.prefix), x, s[stage.level]);
        }
        x
    }

    fn block(&mut self, p: &str, x: Value, s: Value) -> Value {
        let m = self.0.linear(&format!("{p}.adaLN_modulation.1"), s);
        let modulation = self.0.b.emit(Split { axis: 1, parts: 3 }, &[m]);
        for (&v, what) in modulation.iter().zip(["shift", "scale", "gate"]) {
            self.0.b.name(v, &format!("{p}.{what}"));
        }
        let (w, bias) = (self.0.weight(&format!("{p}.dwconv.weight")), self.0.weight(&format!("{p}.dwconv.bias")));
        let h = self.0.named(&format!("{p}.dwconv"), DwConv2d { pad: 3 }, &[x, w, bias]);
        let h = self.0.b.one(LayerNorm { eps: EPS }, &[h]);
        let h = self.0.b.one(Modulate {}, &[h, modulation[0], modulation[1]]);
        let h = self.0.linear(&format!("{p}.pwconv1"), h);
        let h = self.0.b.one(Gelu {}, &[h]);
        let (gamma, beta) = (self.0.weight(&format!("{p}.grn.gamma")), self.0.weight(&format!("{p}.grn.beta")));
        let h = self.0.named(&format!("{p}.grn"), Grn { eps: EPS }, &[h, gamma, beta]);
        let h = self.0.linear(&format!("{p}.pwconv2"), h);
        self.0.named(p, GatedAdd {}, &[x, h, modulation[2]])
    }
}
