//! Sizes of an FCDM: the four of the paper, or whatever the shapes in a checkpoint say.

use fcdm_ir::{DType, Function, Inst, Op, Type, Value};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The stages in the order of the data: checkpoint prefix, width in units of `hidden` (log2), index of the
/// condition vector and of the expanded width, downsampling of the resolution (log2).
pub const STAGES: [Stage; 5] = [
    Stage { prefix: "encoder_level_1", level: 0 },
    Stage { prefix: "encoder_level_2", level: 1 },
    Stage { prefix: "latent", level: 2 },
    Stage { prefix: "decoder_level_2", level: 1 },
    Stage { prefix: "decoder_level_1", level: 0 },
];

/// One of the five stages.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    /// Prefix of its blocks' tensors.
    pub prefix: &'static str,
    /// Level l of the U: width `hidden << l`, resolution `H >> l`, condition vector l + 1.
    pub level: usize,
}

/// Width of the sinusoidal timestep embedding.
pub const FREQUENCIES: usize = 256;

/// Sizes of one FCDM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Width d of the outer stages; the inner ones have 2d and 4d.
    pub hidden: usize,
    /// Blocks per stage, in the order of [`STAGES`].
    pub depths: [usize; 5],
    /// Expanded widths inside a block at levels 0, 1, 2: `int(width * mlp_ratio)`.
    pub expanded: [usize; 3],
    /// Real classes; index `num_classes` is the null class, if there is one.
    pub num_classes: usize,
    /// True if the class tables have a last row for "no class" (trained with label dropout).
    pub null_class: bool,
    /// Channels of the input.
    pub in_channels: usize,
    /// True: 2 x `in_channels` outputs, eps and variance (diffusion). False: as many as the input, velocity (flow).
    pub learn_sigma: bool,
}

/// The sizes of the paper (table 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Preset {
    S,
    B,
    L,
    XL,
}

impl Preset {
    /// All four.
    pub const ALL: [Preset; 4] = [Preset::S, Preset::B, Preset::L, Preset::XL];

    /// `FCDM-S`, ...
    pub fn name(self) -> &'static str {
        match self {
            Preset::S => "FCDM-S",
            Preset::B => "FCDM-B",
            Preset::L => "FCDM-L",
            Preset::XL => "FCDM-XL",
        }
    }

    /// The preset of that name, with or without `FCDM-`, in any case.
    pub fn from_name(name: &str) -> Option<Preset> {
        let name = name.to_ascii_uppercase();
        let short = name.strip_prefix("FCDM-").unwrap_or(&name);
        Preset::ALL.into_iter().find(|p| p.name().strip_prefix("FCDM-") == Some(short))
    }

    /// Its sizes, as trained on ImageNet: 4 latent channels, learned variance, 1000 classes and the null class.
    pub fn config(self) -> Config {
        let (hidden, depths) = match self {
            Preset::S => (128, [2, 4, 8, 4, 2]),
            Preset::B => (256, [2, 4, 8, 4, 2]),
            Preset::L => (512, [2, 4, 8, 4, 2]),
            Preset::XL => (512, [3, 6, 12, 6, 3]),
        };
        Config {
            hidden,
            depths,
            expanded: [0, 1, 2].map(|l| (hidden << l) * 3),
            num_classes: 1000,
            null_class: true,
            in_channels: 4,
            learn_sigma: true,
        }
    }
}

/// A checkpoint whose shapes are not those of an FCDM.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A tensor from which a size is read is not there.
    #[error("tensor `{0}` is missing: is this an FCDM checkpoint?")]
    Missing(String),
    /// A tensor from which a size is read has a shape that no FCDM has.
    #[error("tensor `{name}`: expected shape {expected}, found {found:?}")]
    Shape {
        /// Which.
        name: String,
        /// What an FCDM has there.
        expected: String,
        /// What is there.
        found: Vec<usize>,
    },
}

impl Config {
    /// Width at a level.
    pub fn width(&self, level: usize) -> usize {
        self.hidden << level
    }

    /// Channels of the output.
    pub fn out_channels(&self) -> usize {
        self.in_channels * if self.learn_sigma { 2 } else { 1 }
    }

    /// Rows of a class table.
    pub fn class_rows(&self) -> usize {
        self.num_classes + usize::from(self.null_class)
    }

    /// Expanded width over width, at the first level that has blocks.
    pub fn mlp_ratio(&self) -> f64 {
        self.expanded[0] as f64 / self.hidden as f64
    }

    /// Name of the preset with this width and these depths, if any.
    pub fn preset(&self) -> Option<Preset> {
        Preset::ALL.into_iter().find(|p| {
            let c = p.config();
            (c.hidden, c.depths, c.expanded) == (self.hidden, self.depths, self.expanded)
        })
    }

    /// Reads the sizes off the shapes of a checkpoint. Whether the last class is the null class cannot be seen
    /// in the shapes: the caller says so.
    ///
    /// # Errors
    /// The first tensor that is missing or misshapen. Only what the sizes are read from is looked at; that all
    /// other tensors fit is for [`super::parameters`] to check.
    pub fn from_shapes(shape: &dyn Fn(&str) -> Option<Vec<usize>>, null_class: bool) -> Result<Config, ConfigError> {
        let get = |name: &str, expected: &str, rank: usize| {
            let found = shape(name).ok_or_else(|| ConfigError::Missing(name.to_owned()))?;
            if found.len() == rank && found.iter().all(|&d| (1..=MAX_EXTENT).contains(&d)) {
                Ok(found)
            } else {
                Err(ConfigError::Shape { name: name.to_owned(), expected: expected.to_owned(), found })
            }
        };
        let embedder = get("x_embedder.weight", "[hidden, in_channels, 3, 3]", 4)?;
        let (hidden, in_channels) = (embedder[0], embedder[1]);
        if !hidden.is_multiple_of(2) {
            let expected = "an even number of channels first: they are halved on the way down".to_owned();
            return Err(ConfigError::Shape { name: "x_embedder.weight".into(), expected, found: embedder });
        }
        let rows = get("y_embedder_1.embedding_table.weight", "[classes, hidden]", 2)?[0];
        if rows < 1 + usize::from(null_class) {
            let name = "y_embedder_1.embedding_table.weight".to_owned();
            return Err(ConfigError::Shape { name, expected: "at least one class beside the null class".into(), found: vec![rows] });
        }
        let out = get("final_layer.conv.weight", "[out_channels, hidden, 3, 3]", 4)?;
        let learn_sigma = match out[0] {
            o if o == 2 * in_channels => true,
            o if o == in_channels => false,
            _ => {
                let expected = format!("[{in_channels} or {}, {hidden}, 3, 3]", 2 * in_channels);
                return Err(ConfigError::Shape { name: "final_layer.conv.weight".into(), expected, found: out });
            }
        };
        let mut depths = [0; 5];
        let mut expanded = [None; 3];
        for (stage, depth) in STAGES.iter().zip(&mut depths) {
            while shape(&format!("{}.{depth}.dwconv.weight", stage.prefix)).is_some() {
                if *depth == 0 {
                    let pw = get(&format!("{}.0.pwconv1.weight", stage.prefix), "[expanded, width, 1, 1]", 4)?;
                    expanded[stage.level].get_or_insert(pw[0]);
                }
                *depth += 1;
            }
        }
        // A level without blocks has no expanded width; the ratio of another level stands in, for display only.
        let known = (0..3).find_map(|l| expanded[l].map(|e| (l, e)));
        let (level, wide) = known.ok_or_else(|| ConfigError::Missing("encoder_level_1.0.dwconv.weight".into()))?;
        let expanded = [0, 1, 2].map(|l| expanded[l].unwrap_or(((wide << l) >> level).max(1)));
        Ok(Config { hidden, depths, expanded, num_classes: rows - usize::from(null_class), null_class, in_channels, learn_sigma })
    }

    /// Reads the sizes off the graph of an exported network `(x [N,H,W,C], t [N], y [N]) -> output`. Only what the sizes are read from is looked
    /// at: the graph itself is what is compiled.
    ///
    /// # Errors
    /// One line, when it is not that of an FCDM.
    pub fn from_function(f: &Function, null_class: bool) -> Result<Config, String> {
        let ports: Vec<String> = f.inputs().iter().map(|&v| format!("{}: {}", f.value(v).name, f.ty(v))).collect();
        let types: Vec<&Type> = f.inputs().iter().map(|&v| f.ty(v)).collect();
        let names: Vec<&str> = f.inputs().iter().map(|&v| f.value(v).name.as_str()).collect();
        let sound = names == ["x", "t", "y"]
            && types[0].rank() == 4
            && types[1].rank() == 1
            && types[2].rank() == 1
            && types[2].dtype == DType::I32;
        let sound = sound && types.iter().all(|t| t.shape[0] == types[0].shape[0]);
        let [(_, out)] = f.results() else { return Err(format!("expected one output, found {}", f.results().len())) };
        if !sound || f.ty(*out).rank() != 4 {
            return Err(format!("expected the inputs x [N,C,H,W], t [N], y [N] of an FCDM and one image, found {}", ports.join(", ")));
        }
        let shape = |v: Value| &f.ty(v).shape;
        let (in_channels, out_channels) = (types[0].shape[3], shape(*out)[3]);
        let learn_sigma = match out_channels {
            o if o == 2 * in_channels => true,
            o if o == in_channels => false,
            o => return Err(format!("output: expected {in_channels} or {} channels, found {o}", 2 * in_channels)),
        };
        let find = |what: &str, of: &dyn Fn(&Op) -> bool| {
            f.insts().iter().find(|i| of(&i.op)).ok_or_else(|| format!("expected an FCDM, found a network without {what}"))
        };
        let table = find("class embeddings", &|op| matches!(op, Op::Embedding(_)))?;
        let rows = shape(table.operands[0])[0];
        if rows < 1 + usize::from(null_class) {
            return Err(format!("class embeddings: expected a class beside the null class, found {rows} rows"));
        }
        let hidden = shape(find("convolutions", &|op| matches!(op, Op::Conv2d(_)))?.results[0])[3];
        let (mut depths, mut expanded) = ([0; 5], [None; 3]);
        let (mut stage, mut height) = (0, types[0].shape[1]);
        for inst in f.insts().iter().filter(|i| matches!(i.op, Op::DwConv2d(_))) {
            let (h, width) = (shape(inst.results[0])[1], shape(inst.results[0])[3]);
            if h != height {
                (stage, height) = (stage + 1, h);
            }
            let level = STAGES.get(stage).ok_or("expected five stages of blocks, found more")?.level;
            if width != hidden << level {
                return Err(format!("blocks of stage {stage}: expected {} channels, found {width}", hidden << level));
            }
            depths[stage] += 1;
            let block = shape(inst.results[0]);
            // Of a linear layer alone: other instructions may have no operands, or results of any rank.
            let widens = |i: &&Inst| matches!(i.op, Op::Linear(_)) && shape(i.operands[0]) == block;
            let wide = f.insts().iter().find(widens);
            expanded[level] = expanded[level].or(wide.map(|i| shape(i.results[0])[3]));
        }
        if depths.contains(&0) {
            return Err(format!("expected blocks in five stages, found {depths:?}"));
        }
        let expanded = [0, 1, 2].map(|l| expanded[l].unwrap_or(hidden << l));
        Ok(Config { hidden, depths, expanded, num_classes: rows - usize::from(null_class), null_class, in_channels, learn_sigma })
    }
}

/// No axis of an FCDM weight is longer; keeps every product of two extents far from overflow.
const MAX_EXTENT: usize = 1 << 24;
