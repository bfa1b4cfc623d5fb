//! FCDM as IR, for one batch size and resolution. Values carry the names that the blocks have in checkpoints.

use std::collections::HashMap;

use fcdm_ir::ops::{
    Add, Concat, Conv2d, DwConv2d, Embedding, GatedAdd, Gelu, Grn, LayerNorm, Linear, Modulate, PixelShuffle, PixelUnshuffle, Silu, Split,
    TimestepEmbedding,
};
use fcdm_ir::{Builder, DType, Function, Type, Value};

use super::config::{Config, FREQUENCIES, STAGES};
use super::parameters::parameters;
use crate::parameter::Parameter;

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
    let mut b = Builder::new("fcdm");
    let x = b.input("x", Type::f32([size.batch, size.height, size.width, cfg.in_channels]));
    let t = b.input("t", Type::f32([size.batch]));
    let y = b.input("y", Type::new(DType::I32, [size.batch]));
    let parameters = parameters(cfg).into_iter().map(|p| (p.name.clone(), p)).collect();
    let mut net = Net { b, parameters };

    let c: Vec<Value> = (0..3).map(|level| net.condition(level, t, y)).collect();
    // SiLU of a condition vector is the input of every projection at its level.
    let s: Vec<Value> = c.iter().map(|&c| net.b.one(Silu {}, &[c])).collect();

    let x = net.conv3x3("x_embedder", x, true);
    let skip1 = net.stage(cfg, 0, x, &s);
    let h = net.conv3x3("down1_2.conv.0", skip1, false);
    let h = net.named("down1_2", PixelUnshuffle { factor: 2 }, &[h]);
    let skip2 = net.stage(cfg, 1, h, &s);
    let h = net.conv3x3("down2_3.conv.0", skip2, false);
    let h = net.named("down2_3", PixelUnshuffle { factor: 2 }, &[h]);
    let h = net.stage(cfg, 2, h, &s);
    let h = net.conv3x3("up3_2.conv.0", h, false);
    let h = net.named("up3_2", PixelShuffle { factor: 2 }, &[h]);
    let h = net.b.one(Concat { axis: 3 }, &[h, skip2]);
    let h = net.linear("reduce_chans_2", h);
    let h = net.stage(cfg, 3, h, &s);
    let h = net.conv3x3("up2_1.conv.0", h, false);
    let h = net.named("up2_1", PixelShuffle { factor: 2 }, &[h]);
    let h = net.b.one(Concat { axis: 3 }, &[h, skip1]);
    let h = net.linear("reduce_chans_1", h);
    let h = net.stage(cfg, 4, h, &s);
    let h = net.conv3x3("output_layer", h, true);

    let m = net.linear("final_layer.adaLN_modulation.1", s[0]);
    let modulation = net.b.emit(Split { axis: 1, parts: 2 }, &[m]);
    for (&v, what) in modulation.iter().zip(["shift", "scale"]) {
        net.b.name(v, &format!("final_layer.{what}"));
    }
    let h = net.b.one(LayerNorm { eps: EPS }, &[h]);
    let h = net.b.one(Modulate {}, &[h, modulation[0], modulation[1]]);
    let out = net.conv3x3("final_layer.conv", h, true);
    net.b.finish(vec![("output".to_owned(), out)])
}

struct Net {
    b: Builder,
    parameters: HashMap<String, Parameter>,
}

impl Net {
    fn weight(&mut self, name: &str) -> Value {
        let ty = self.parameters.get(name).unwrap_or_else(|| panic!("`{name}` is not a parameter of FCDM")).ty();
        self.b.weight(name, ty)
    }

    fn named(&mut self, name: &str, op: impl Into<fcdm_ir::Op>, x: &[Value]) -> Value {
        let v = self.b.one(op, x);
        self.b.name(v, name)
    }

    /// A 1x1 convolution or linear layer with bias.
    fn linear(&mut self, name: &str, x: Value) -> Value {
        let (w, bias) = (self.weight(&format!("{name}.weight")), self.weight(&format!("{name}.bias")));
        self.named(name, Linear {}, &[x, w, bias])
    }

    fn conv3x3(&mut self, name: &str, x: Value, bias: bool) -> Value {
        let mut operands = vec![x, self.weight(&format!("{name}.weight"))];
        if bias {
            operands.push(self.weight(&format!("{name}.bias")));
        }
        self.named(name, Conv2d { stride: 1, pad: vec![1; 4] }, &operands)
    }

    /// `c = TimestepMLP(t) + ClassTable[y]` at a level.
    fn condition(&mut self, level: usize, t: Value, y: Value) -> Value {
        let k = level + 1;
        let e = self.b.one(TimestepEmbedding { dim: FREQUENCIES }, &[t]);
        let h = self.linear(&format!("t_embedder_{k}.mlp.0"), e);
        let h = self.b.one(Silu {}, &[h]);
        let h = self.linear(&format!("t_embedder_{k}.mlp.2"), h);
        let table = self.weight(&format!("y_embedder_{k}.embedding_table.weight"));
        let class = self.b.one(Embedding {}, &[table, y]);
        self.named(&format!("cond_{k}"), Add {}, &[h, class])
    }

    fn stage(&mut self, cfg: &Config, index: usize, mut x: Value, s: &[Value]) -> Value {
        let stage = STAGES[index];
        for n in 0..cfg.depths[index] {
            x = self.block(&format!("{}.{n}", stage.prefix), x, s[stage.level]);
        }
        x
    }

    fn block(&mut self, p: &str, x: Value, s: Value) -> Value {
        let m = self.linear(&format!("{p}.adaLN_modulation.1"), s);
        let modulation = self.b.emit(Split { axis: 1, parts: 3 }, &[m]);
        for (&v, what) in modulation.iter().zip(["shift", "scale", "gate"]) {
            self.b.name(v, &format!("{p}.{what}"));
        }
        let (w, bias) = (self.weight(&format!("{p}.dwconv.weight")), self.weight(&format!("{p}.dwconv.bias")));
        let h = self.named(&format!("{p}.dwconv"), DwConv2d { pad: 3 }, &[x, w, bias]);
        let h = self.b.one(LayerNorm { eps: EPS }, &[h]);
        let h = self.b.one(Modulate {}, &[h, modulation[0], modulation[1]]);
        let h = self.linear(&format!("{p}.pwconv1"), h);
        let h = self.b.one(Gelu {}, &[h]);
        let (gamma, beta) = (self.weight(&format!("{p}.grn.gamma")), self.weight(&format!("{p}.grn.beta")));
        let h = self.named(&format!("{p}.grn"), Grn { eps: EPS }, &[h, gamma, beta]);
        let h = self.linear(&format!("{p}.pwconv2"), h);
        self.named(p, GatedAdd {}, &[x, h, modulation[2]])
    }
}
