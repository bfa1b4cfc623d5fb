//! The passes by name, the pipelines as lists, and the driver that verifies after every pass.

use fcdm_ir::verify::{VerifyError, verify_module};
use fcdm_ir::{Function, Inst, Module, Value};

use crate::differentiate::differentiate;
use crate::eliminate_dead_code::eliminate_dead_code;
use crate::fold_grn_bias::fold_grn_bias;
use crate::fold_weights::fold_weights;
use crate::fuse_activation::fuse_activation;
use crate::fuse_attention::fuse_attention;
use crate::fuse_concat_linear::fuse_concat_linear;
use crate::fuse_conv_shuffle::fuse_conv_shuffle;
use crate::fuse_dwconv_norm_modulate::fuse_dwconv_norm_modulate;
use crate::fuse_gelu_grn::fuse_gelu_grn;
use crate::fuse_linear_gelu_sumsq::fuse_linear_gelu_sumsq;
use crate::fuse_norm_modulate::fuse_norm_modulate;
use crate::fuse_residual::fuse_residual;
use crate::fuse_scale_linear_gated_add::fuse_scale_linear_gated_add;
use crate::fuse_upsample_conv::fuse_upsample_conv;
use crate::hoist_condition::hoist_condition;
use crate::quantise_rows::quantise_rows;
use crate::quantise_weights::quantise_weights;
use crate::recognise_bias::recognise_bias;
use crate::recognise_gated_add::recognise_gated_add;
use crate::recognise_gelu::recognise_gelu;
use crate::recognise_grn::recognise_grn;
use crate::recognise_layer_norm::recognise_layer_norm;
use crate::recognise_modulate::recognise_modulate;
use crate::recognise_pixel_shuffle::recognise_pixel_shuffle;
use crate::recognise_silu::recognise_silu;
use crate::recognise_split::recognise_split;
use crate::recompute::recompute;
use crate::simplify::simplify;

/// What passes are told that no function says.
#[derive(Clone, Copy)]
pub struct Settings<'a> {
    /// How a weight of products is to be stored, by its name: an encoding, or `w8a8` and its like, by which rows become codes too. As its
    /// type says, if it says nothing.
    pub types: &'a dyn Fn(&str) -> Option<String>,
    /// Whether a product whose weight's type says so has its rows made codes.
    pub rows: &'a dyn Fn(&Function, &Inst) -> bool,
    /// Whether a weight is trained, by its name: the loss is differentiated by it.
    pub trained: &'a dyn Fn(&str) -> bool,
    /// Whether the backward pass computes an instruction of the forward pass once more, in place of keeping its results.
    pub recomputed: &'a dyn Fn(&Function, &Inst) -> bool,
}

/// Whether an instruction multiplies nothing.
fn is_cheap(f: &Function, inst: &Inst) -> bool {
    let types = |values: &[Value]| values.iter().map(|&v| f.ty(v)).collect::<Vec<_>>();
    inst.op.cost(&types(&inst.operands), &types(&inst.results)).macs == 0
}

impl Default for Settings<'_> {
    fn default() -> Self {
        Settings { types: &|_| None, rows: &|_, _| true, trained: &|_| true, recomputed: &is_cheap }
    }
}

/// What a pass rewrites.
#[derive(Clone, Copy)]
enum Body {
    /// Every function by itself.
    Function(fn(&Function) -> Function),
    /// The same by settings.
    Set(fn(&Function, &Settings<'_>) -> Function),
    /// The module: functions are split.
    Module(fn(&Module) -> Module),
    /// The same by settings.
    SetModule(fn(&Module, &Settings<'_>) -> Module),
}

/// A pass.
#[derive(Clone, Copy)]
pub struct Pass {
    /// Its name: of its file, its function and the folder of its file tests.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    body: Body,
}

impl Pass {
    /// The module after this pass, unverified.
    pub fn apply(&self, m: &Module, settings: &Settings<'_>) -> Module {
        match self.body {
            Body::Set(pass) => Module { functions: m.functions.iter().map(|f| pass(f, settings)).collect() },
            Body::Function(pass) => Module { functions: m.functions.iter().map(pass).collect() },
            Body::Module(pass) => pass(m),
            Body::SetModule(pass) => pass(m, settings),
        }
    }
}

/// Every pass.
pub const PASSES: &[Pass] = &[
    Pass { name: "recognise_split", about: "slices that make up an axis as one split", body: Body::Function(recognise_split) },
    Pass { name: "recognise_silu", about: "silu from primitives", body: Body::Function(recognise_silu) },
    Pass { name: "recognise_gelu", about: "gelu from primitives", body: Body::Function(recognise_gelu) },
    Pass { name: "recognise_bias", about: "a vector added to a layer as its bias", body: Body::Function(recognise_bias) },
    Pass { name: "recognise_layer_norm", about: "layer_norm from primitives", body: Body::Function(recognise_layer_norm) },
    Pass { name: "recognise_grn", about: "global response normalisation from primitives", body: Body::Function(recognise_grn) },
    Pass { name: "recognise_modulate", about: "modulate from primitives", body: Body::Function(recognise_modulate) },
    Pass { name: "recognise_gated_add", about: "gated_add from primitives", body: Body::Function(recognise_gated_add) },
    Pass {
        name: "recognise_pixel_shuffle",
        about: "pixel shuffles from reshapes and transposes",
        body: Body::Function(recognise_pixel_shuffle),
    },
    Pass { name: "simplify", about: "remove instructions that do nothing", body: Body::Function(simplify) },
    Pass { name: "eliminate_dead_code", about: "remove what no result depends on", body: Body::Function(eliminate_dead_code) },
    Pass {
        name: "fold_grn_bias",
        about: "GRN's beta into the next bias, its factor into a channel scale",
        body: Body::Function(fold_grn_bias),
    },
    Pass { name: "quantise_weights", about: "how the weights of products are stored", body: Body::SetModule(quantise_weights) },
    Pass { name: "quantise_rows", about: "rows that integer products multiply as codes", body: Body::Set(quantise_rows) },
    Pass {
        name: "fuse_dwconv_norm_modulate",
        about: "depthwise convolution, LayerNorm and modulation as one kernel",
        body: Body::Function(fuse_dwconv_norm_modulate),
    },
    Pass { name: "fuse_norm_modulate", about: "LayerNorm and modulation as one kernel", body: Body::Function(fuse_norm_modulate) },
    Pass {
        name: "fuse_linear_gelu_sumsq",
        about: "linear layer, GELU and GRN's statistic as one kernel",
        body: Body::Function(fuse_linear_gelu_sumsq),
    },
    Pass {
        name: "fuse_scale_linear_gated_add",
        about: "channel scale, linear layer, gate and residual as one kernel",
        body: Body::Function(fuse_scale_linear_gated_add),
    },
    Pass {
        name: "fuse_concat_linear",
        about: "concatenation and linear layer as one kernel that reads both parts in place",
        body: Body::Function(fuse_concat_linear),
    },
    Pass {
        name: "fuse_conv_shuffle",
        about: "convolution and pixel shuffle as one kernel that writes to the shuffled places",
        body: Body::Function(fuse_conv_shuffle),
    },
    Pass {
        name: "fuse_upsample_conv",
        about: "upsampling and convolution as one kernel that reads the small image",
        body: Body::Function(fuse_upsample_conv),
    },
    Pass {
        name: "fuse_residual",
        about: "convolution or linear layer and what is added to it as one kernel",
        body: Body::Function(fuse_residual),
    },
    Pass {
        name: "fuse_activation",
        about: "convolution, linear layer or group norm and ReLU or SiLU as one kernel",
        body: Body::Function(fuse_activation),
    },
    Pass { name: "fuse_gelu_grn", about: "GELU and global response normalisation as one kernel", body: Body::Function(fuse_gelu_grn) },
    Pass { name: "differentiate", about: "gradients of the loss by every weight", body: Body::Set(differentiate) },
    Pass { name: "recompute", about: "what the backward pass computes once more, not to keep it", body: Body::Set(recompute) },
    Pass { name: "fuse_attention", about: "attention as one kernel, without its matrix of scores", body: Body::Function(fuse_attention) },
    Pass { name: "fold_weights", about: "what depends on weights alone is computed at compile time", body: Body::Module(fold_weights) },
    Pass { name: "hoist_condition", about: "what does not see x runs once for all steps", body: Body::Module(hoist_condition) },
];

/// The least that an artifact needs: weights stored as is asked for, the split into condition and denoiser.
pub const PLAIN: &[&str] = &["fold_weights", "quantise_weights", "quantise_rows", "hoist_condition"];

/// Everything.
pub const OPTIMISED: &[&str] = &[
    "simplify",
    // Before the fusions: it turns a GRN into the statistic and the scale that they look for.
    "fold_grn_bias",
    // Matrices that follow from weights become weights, which can be stored in fewer bits.
    "fold_weights",
    // Before the fusions, which look for products that they know.
    "quantise_weights",
    "quantise_rows",
    // The larger pattern first.
    "fuse_dwconv_norm_modulate",
    "fuse_norm_modulate",
    "fuse_linear_gelu_sumsq",
    "fuse_scale_linear_gated_add",
    // After the fusions of linear layers: an epilogue saves more than a concatenation.
    "fuse_concat_linear",
    "fuse_conv_shuffle",
    // Before the epilogues: an enlarged image that is not written saves more than a sum that is not.
    "fuse_upsample_conv",
    "fuse_residual",
    // After the residuals, which it sees through, and the rearrangements.
    "fuse_activation",
    "fuse_attention",
    // Before hoisting: what needs no input at all must not become an input of the denoiser.
    "fold_weights",
    "hoist_condition",
    "eliminate_dead_code",
];

/// What makes a training step of a function with a result `loss`.
pub const TRAINING: &[&str] = &[
    "simplify",
    // Before the gradients: that of a fused op is a fused op, where there is one.
    "fuse_norm_modulate",
    "fuse_gelu_grn",
    "differentiate",
    "simplify",
    "eliminate_dead_code",
];

/// What makes composite ops of the primitives that other frameworks export; before [`OPTIMISED`].
pub const IMPORTED: &[&str] = &[
    // Reshapes of reshapes would hide the patterns.
    "simplify",
    "recognise_split",
    "recognise_bias",
    "recognise_silu",
    "recognise_gelu",
    "recognise_layer_norm",
    // Before the smaller patterns of channel vectors, which are parts of it.
    "recognise_grn",
    "recognise_modulate",
    "recognise_gated_add",
    "recognise_pixel_shuffle",
    "simplify",
];

/// The pass of that name.
pub fn find(name: &str) -> Option<&'static Pass> {
    PASSES.iter().find(|p| p.name == name)
}

/// One pass as it ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its name.
    pub pass: &'static str,
    /// Whether it changed anything.
    pub fired: bool,
    /// Instructions of the module before.
    pub before: usize,
    /// Instructions of the module after.
    pub after: usize,
}

/// A pipeline as it ran.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Report {
    /// The passes in order.
    pub runs: Vec<Run>,
}

/// A pass that left an invalid module behind: a bug of the pass.
#[derive(Debug)]
pub struct PassError {
    /// Which pass; `input` if the module was invalid before the first.
    pub pass: &'static str,
    /// What is wrong.
    pub errors: Vec<VerifyError>,
}

impl std::fmt::Display for PassError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "invalid IR after `{}`", self.pass)?;
        self.errors.iter().try_for_each(|e| write!(f, "; {e}"))
    }
}

impl std::error::Error for PassError {}

/// [`run_with`], passes being told nothing.
///
/// # Errors
/// As there.
pub fn run(names: &[&str], module: Module, observe: &mut dyn FnMut(&'static Pass, &Module)) -> Result<(Module, Report), PassError> {
    run_with(names, module, &Settings::default(), observe)
}

/// Runs passes in order and verifies the module before the first and after each. `observe` sees every pass's
/// result.
///
/// # Errors
/// The first pass whose result is invalid.
///
/// # Panics
/// If a name is not that of a pass.
pub fn run_with(
    names: &[&str],
    module: Module,
    settings: &Settings<'_>,
    observe: &mut dyn FnMut(&'static Pass, &Module),
) -> Result<(Module, Report), PassError> {
    let mut module = module;
    verify_module(&module).map_err(|errors| PassError { pass: "input", errors })?;
    let mut report = Report::default();
    let size = |m: &Module| m.functions.iter().map(|f| f.insts().len()).sum();
    for name in names {
        let pass = find(name).unwrap_or_else(|| panic!("there is no pass `{name}`"));
        let next = pass.apply(&module, settings);
        verify_module(&next).map_err(|errors| PassError { pass: pass.name, errors })?;
        report.runs.push(Run { pass: pass.name, fired: next != module, before: size(&module), after: size(&next) });
        module = next;
        observe(pass, &module);
    }
    Ok((module, report))
}
