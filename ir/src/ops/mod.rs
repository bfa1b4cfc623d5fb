//! The one table of ops. A line here makes a struct, its variant of [`Op`], its name in the text form and the
//! printing and parsing of its attributes, which are left out where they have the default that stands here; an
//! `impl OpDef` beside its kin gives shape rule, meaning, gradient and cost. Leaving one out does not compile. A fused op
//! implements [`FusedDef`] instead: it has no semantics of its own, only its expansion into plain ops.
//!
//! Constraints are numbered (`conv2d.3`) in the op's `infer`; each has a test that violates it under
//! `tests/filetests/verify`.

mod attr;
mod channel;
mod condition;
mod conv;
mod depthwise;
mod elementwise;
mod epilogue;
mod fused;
mod fused_grad;
mod identity;
mod image;
mod linear;
mod norm;
mod optimiser;
mod quantise;
mod reduce;
mod rule;
mod shape;

use std::fmt;
use std::hash::{Hash, Hasher};

use crate::eval::Tensor;
use crate::function::{Builder, Value};
use crate::types::{DType, Type, TypeError, ensure};
pub use attr::{Attr, Word};
pub use epilogue::{Activation, Rearrange};
pub use fused::ProductOperands;
pub use optimiser::Rate;
pub(crate) use rule::sized;

/// What one execution of an op costs. Sums saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Multiply-accumulates of matrix products and convolutions.
    pub macs: u64,
    /// Other arithmetic operations; a transcendental function counts as one.
    pub flops: u64,
}

impl Cost {
    /// Only multiply-accumulates.
    pub fn macs(n: usize) -> Cost {
        Cost { macs: n as u64, flops: 0 }
    }

    /// Only other operations.
    pub fn flops(n: usize) -> Cost {
        Cost { macs: 0, flops: n as u64 }
    }
}

impl std::ops::Add for Cost {
    type Output = Cost;
    fn add(self, o: Cost) -> Cost {
        Cost { macs: self.macs.saturating_add(o.macs), flops: self.flops.saturating_add(o.flops) }
    }
}

impl std::iter::Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(iter: I) -> Cost {
        iter.fold(Cost::default(), |a, b| a + b)
    }
}

/// What of an operand a row of an op's results is made of. Rows are along the leading axis: the samples of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// The row of the same index.
    Row,
    /// All of it, which every row takes alike.
    Whole,
}

/// Everything there is to know of an op. No method has a default.
pub trait OpDef {
    /// Names of the operands; a trailing `?` marks those that may be left out, all of them last.
    fn operands(&self) -> &'static [&'static str];

    /// Types of the results. The number of operands has been checked.
    fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError>;

    /// What row i of every result is made of, operand by operand, if every row is made by the same formula; `None` if they are not,
    /// or have no rows. Operands obey `infer`.
    fn rows(&self, x: &[&Type]) -> Option<Vec<Share>>;

    /// The op's meaning, in f64. Operands obey `infer`, and are dense in row-major order, as results must be.
    fn eval(&self, x: &[&Tensor]) -> Vec<Tensor>;

    /// The vector-Jacobian product: given operands `x`, results `y` and the cotangents `dy` of all results,
    /// the cotangent of each operand; `None` for one without gradient (labels, timesteps) or whose gradient is zero (`step`).
    fn grad(&self, b: &mut Builder, x: &[Value], y: &[Value], dy: &[Value]) -> Vec<Option<Value>>;

    /// Cost for operands and results of these types.
    fn cost(&self, x: &[&Type], y: &[&Type]) -> Cost;
}

/// A fused op: an abbreviation of plain ops that one kernel computes.
pub trait FusedDef {
    /// As in [`OpDef`].
    fn operands(&self) -> &'static [&'static str];

    /// Emits the plain ops. Shape rule, rows, meaning, gradient and cost all follow from them.
    fn expand(&self, b: &mut Builder, x: &[Value]) -> Result<Vec<Value>, TypeError>;
}

/// A fused op, marked `differentiated` in the table, whose gradient is not that of its expansion instruction by instruction, but another fused op
/// with the same meaning: one kernel.
pub trait FusedGradient: FusedDef {
    /// As in [`OpDef`].
    fn grad(&self, b: &mut Builder, x: &[Value], dy: &[Value]) -> Vec<Option<Value>>;
}

macro_rules! ops {
    ($( $(#[$doc:meta])* $text:literal = $name:ident { $($attr:ident : $aty:ty $(= $default:expr)?),* } $($fused:ident)* ;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug)]
            #[allow(missing_docs)]
            pub struct $name { $(pub $attr: $aty),* }

            impl PartialEq for $name {
                fn eq(&self, _other: &$name) -> bool {
                    true $( && self.$attr.bits() == _other.$attr.bits() )*
                }
            }

            impl Eq for $name {}

            impl Hash for $name {
                fn hash<H: Hasher>(&self, _state: &mut H) {
                    $( self.$attr.bits().hash(_state); )*
                }
            }

            impl From<$name> for Op {
                fn from(op: $name) -> Op {
                    Op::$name(op)
                }
            }

            impl<'a> TryFrom<&'a Op> for &'a $name {
                type Error = ();

                fn try_from(op: &'a Op) -> Result<&'a $name, ()> {
                    if let Op::$name(op) = op { Ok(op) } else { Err(()) }
                }
            }

            ops!(@fused $name $($fused)*);
        )*

        /// An op with its attributes. Equal are those with the same text, and no others: numbers are compared bit by bit.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum Op {
            $( $(#[$doc])* $name($name), )*
        }

        impl Op {
            /// Names of all ops in the text form, in table order.
            pub const NAMES: &'static [&'static str] = &[$($text),*];

            /// Name in the text form.
            pub fn name(&self) -> &'static str {
                match self { $( Op::$name(_) => $text, )* }
            }

            /// Names and printed values of the attributes that are not their default.
            pub fn attrs(&self) -> Vec<(&'static str, String)> {
                let mut _attrs = Vec::new();
                match self {
                    $( Op::$name(_op) => {
                        $( if !attr::is_default(&_op.$attr, ops!(@default $($default)?)) {
                            _attrs.push((stringify!($attr), _op.$attr.print()));
                        } )*
                    } )*
                }
                _attrs
            }

            /// The op of that name with attributes taken, by name, from `find`; those that it has not are their default.
            ///
            /// # Errors
            /// One line that says which name or attribute is wrong.
            pub fn parse(name: &str, find: &mut dyn FnMut(&str) -> Option<String>) -> Result<Op, String> {
                match name {
                    $( $text => {
                        Ok(Op::$name($name { $($attr: attr::find(name, stringify!($attr), ops!(@default $($default)?), find)?),* }))
                    } )*
                    _ => Err(format!("there is no op `{name}`")),
                }
            }

            /// Names of the operands, as in [`OpDef::operands`].
            pub fn operands(&self) -> &'static [&'static str] {
                match self { $( Op::$name(op) => OpDef::operands(op), )* }
            }

            /// True unless an attribute is infinite or no number.
            fn attrs_finite(&self) -> bool {
                match self { $( Op::$name(_op) => true $( && _op.$attr.is_finite() )*, )* }
            }

            fn infer_counted(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
                match self { $( Op::$name(op) => op.infer(x), )* }
            }

            /// How rows of the results are made, as in [`OpDef::rows`].
            pub fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
                match self { $( Op::$name(op) => op.rows(x), )* }
            }

            /// The op's meaning. Operands must obey [`Op::infer`].
            pub fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
                match self { $( Op::$name(op) => op.eval(x), )* }
            }

            /// The vector-Jacobian product, as in [`OpDef::grad`].
            pub fn grad(&self, b: &mut Builder, x: &[Value], y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
                match self { $( Op::$name(op) => OpDef::grad(op, b, x, y, dy), )* }
            }

            /// What one execution costs.
            pub fn cost(&self, x: &[&Type], y: &[&Type]) -> Cost {
                match self { $( Op::$name(op) => op.cost(x, y), )* }
            }

            /// True if the op is defined by its expansion.
            pub fn is_fused(&self) -> bool {
                match self { $( Op::$name(_) => ops!(@is_fused $($fused)*), )* }
            }

            /// The expansion of a fused op; `None` for a plain one.
            pub fn expand(&self, b: &mut Builder, x: &[Value]) -> Option<Result<Vec<Value>, TypeError>> {
                match self { $( Op::$name(op) => ops!(@expand op b x $($fused)*), )* }
            }
        }
    };
    (@default) => { None };
    (@default $default:expr) => { Some($default) };
    (@fused $name:ident) => {};
    (@fused $name:ident fused) => { ops!(@fused $name fused by fused::grad); };
    (@fused $name:ident fused differentiated) => { ops!(@fused $name fused by fused::own_grad); };
    (@fused $name:ident fused by $grad:path) => {
        impl OpDef for $name {
            fn operands(&self) -> &'static [&'static str] {
                FusedDef::operands(self)
            }
            fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
                fused::infer(self, x)
            }
            fn rows(&self, x: &[&Type]) -> Option<Vec<Share>> {
                fused::rows(self, x)
            }
            fn eval(&self, x: &[&Tensor]) -> Vec<Tensor> {
                fused::eval(self, x)
            }
            fn grad(&self, b: &mut Builder, x: &[Value], _y: &[Value], dy: &[Value]) -> Vec<Option<Value>> {
                $grad(self, b, x, dy)
            }
            fn cost(&self, x: &[&Type], _y: &[&Type]) -> Cost {
                fused::cost(self, x)
            }
        }
    };
    (@is_fused) => { false };
    (@is_fused fused $($differentiated:ident)?) => { true };
    (@expand $op:ident $b:ident $x:ident) => {{ let _ = ($op, &$b, $x); None }};
    (@expand $op:ident $b:ident $x:ident fused $($differentiated:ident)?) => { Some(FusedDef::expand($op, $b, $x)) };
}

ops! {
    // --- constants
    /// `y[..] = value`.
    "fill" = Fill { value: f64, dtype: DType, shape: Vec<usize> };

    // --- what is the same
    /// `y = x`, which passes see as another value: what is computed behind barriers of different `id` is computed anew.
    "barrier" = Barrier { id: usize };
    /// `y = x`; its gradient is zero.
    "stop_gradient" = StopGradient {};

    // --- elementwise, one operand
    /// `y = -x`.
    "neg" = Neg {};
    /// `y = by * x`.
    "scale" = Scale { by: f64 };
    /// `y = x + by`.
    "offset" = Offset { by: f64 };
    /// `y = exp(x)`.
    "exp" = Exp {};
    /// `y = ln(x)`.
    "log" = Log {};
    /// `y = sqrt(x)`; derivative 0 at x = 0, as the gradient of a norm needs at an all-zero map.
    "sqrt" = Sqrt {};
    /// `y = erf(x)`.
    "erf" = Erf {};
    /// `y = 1 / (1 + exp(-x))`.
    "sigmoid" = Sigmoid {};
    /// `y = x * sigmoid(x)`.
    "silu" = Silu {};
    /// `y = x/2 * (1 + erf(x / sqrt 2))`, the exact GELU.
    "gelu" = Gelu {};
    /// `y = tanh(x)`.
    "tanh" = Tanh {};
    /// `y = cos(x)`.
    "cos" = Cos {};
    /// `y = sin(x)`.
    "sin" = Sin {};
    /// `y = max(x, 0)`.
    "relu" = Relu {};
    /// `y = x` where x > 0, else `slope * x`.
    "leaky_relu" = LeakyRelu { slope: f64 };
    /// `y = min(max(x, min), max)`.
    "clamp" = Clamp { min: f64, max: f64 };
    /// `y = 1` where x > 0, else 0. Its gradient is zero.
    "step" = Step {};

    // --- elementwise, two operands of equal type
    /// `y = a + b`.
    "add" = Add {};
    /// `y = a - b`.
    "sub" = Sub {};
    /// `y = a * b`.
    "mul" = Mul {};
    /// `y = a / b`.
    "div" = Div {};
    /// `y = a / b`, and 0 where b = 0.
    "div_no_nan" = DivNoNan {};

    // --- reductions and normalisations
    /// Sum over `axes`, which keep extent 1.
    "sum" = Sum { axes: Vec<usize> };
    /// `x [N,H,W,C] -> [N,C]`: sum over H and W of x^2 (GRN's statistic).
    "sum_squares" = SumSquares {};
    /// `softmax` over the last axis.
    "softmax" = Softmax {};
    /// Over the last axis, no affine part, biased variance: `(x - mean) / sqrt(var + eps)`.
    "layer_norm" = LayerNorm { eps: f64 };
    /// `x [N,H,W,C]`, `gamma [C]`, `beta [C]`: channels in `groups`, statistics per sample and group.
    "group_norm" = GroupNorm { groups: usize, eps: f64 };
    /// Global response normalisation (ConvNeXt V2, eq. 1-3). `x [N,H,W,C]`, `gamma [C]`, `beta [C]`:
    /// `G = sqrt(sum_squares(x))`, `y = gamma * (x * G / (mean_c G + eps)) + beta + x`.
    "grn" = Grn { eps: f64 };

    // --- channelwise
    /// `x [N,..,C]`, `shift [N,C]`, `scale [N,C]`: `y = x * (1 + scale) + shift`.
    "modulate" = Modulate {};
    /// `x [N,..,C]`, `h` as x, `gate [N,C]`: `y = x + gate * h`.
    "gated_add" = GatedAdd {};
    /// `x [N,..,C]`, `a [N,C]`: `y = x * a`.
    "scale_channels" = ScaleChannels {};

    // --- rounding
    /// Every row of x, along its last axis, rounded to codes of its own range, which has 0 in it: `lo = min(0, min x)`, `hi = max(0, max
    /// x)`, `r = m / (hi - lo)`, `z = round(-lo r)`, `y = (clamp(round(x r) + z, 0, m) - z) / r`, m being 255 with 8 bits and 127 with 7. What
    /// an integer product multiplies. Its gradient is that of `y = x` (the straight-through estimator, arXiv 1308.3432).
    "quantise_rows" = QuantiseRows { bits: usize = 8 };

    // --- matrix products
    /// `x [..,K]`, `w [O,K]`, `b [O]`: `y [..,O] = x w^T + b`. The 1x1 convolution.
    "linear" = Linear {};
    /// Gradients of `linear` in w and b. `x [..,K]`, `dy [..,O]`: `dw [O,K] = dy^T x`, `db [O]`, the sum of dy's rows.
    "linear_weight_grad" = LinearWeightGrad {};
    /// `a [..,M,K]`, `b [..,K,N]`, equal leading axes: `y [..,M,N]`.
    "matmul" = Matmul {};

    // --- convolutions
    /// `x [N,H,W,I]`, `w [O,KH,KW,I]`, `b [O]`; `pad` is top, left, bottom, right.
    "conv2d" = Conv2d { stride: usize, pad: Vec<usize> };
    /// The adjoint of `conv2d` in x. `x [N,H,W,I]`, `w [I,KH,KW,O]`, `b [O]`; `output` is the height and width
    /// of the result, which `conv2d` with the same stride and pad maps back to H and W.
    "conv_transpose2d" = ConvTranspose2d { stride: usize, pad: Vec<usize>, output: Vec<usize> };
    /// Gradient of `conv2d` in w. `x [N,H,W,I]`, `dy [N,OH,OW,O]`: `dw [O,KH,KW,I]`, `kernel` is KH, KW.
    "conv2d_weight_grad" = Conv2dWeightGrad { stride: usize, pad: Vec<usize>, kernel: Vec<usize> };
    /// Depthwise, stride 1, `pad` < K on all sides. `x [N,H,W,C]`, `w [K,K,C]`, `b [C]`.
    "dwconv2d" = DwConv2d { pad: usize };
    /// Gradient of `dwconv2d` in w. `x [N,H,W,C]`, `dy [N,OH,OW,C]`: `dw [K,K,C]`, `kernel` is K, K.
    "dwconv2d_weight_grad" = DwConv2dWeightGrad { pad: usize, kernel: Vec<usize> };

    // --- images
    /// Nearest neighbour: every pixel becomes `factor` x `factor` pixels.
    "upsample_nearest" = UpsampleNearest { factor: usize };
    /// Mean over tiles of `size` x `size` pixels, which must divide H and W.
    "avg_pool2d" = AvgPool2d { size: usize };
    /// `[N,H,W,f*f*C] -> [N,f*H,f*W,C]`, input channel `c*f*f + dy*f + dx` (PyTorch's order).
    "pixel_shuffle" = PixelShuffle { factor: usize };
    /// The inverse of `pixel_shuffle`.
    "pixel_unshuffle" = PixelUnshuffle { factor: usize };

    // --- shapes
    /// Same elements in row-major order, another shape.
    "reshape" = Reshape { shape: Vec<usize> };
    /// Axis i of the result is axis `perm[i]` of x.
    "transpose" = Transpose { perm: Vec<usize> };
    /// Axes of extent 1 are repeated to the extents of `shape`; equal rank.
    "broadcast" = Broadcast { shape: Vec<usize> };
    /// Joins two tensors along `axis`.
    "concat" = Concat { axis: usize };
    /// `parts` results of equal extent along `axis`.
    "split" = Split { axis: usize, parts: usize };
    /// Elements `start .. start + len` along `axis`.
    "slice" = Slice { axis: usize, start: usize, len: usize };
    /// Reverses `axes`.
    "flip" = Flip { axes: Vec<usize> };

    // --- conditioning
    /// `t [N] -> [N, dim]`: `cos(t f)`, then `sin(t f)`, `f_i = exp(-ln(10000) i / (dim/2))`. f and the product
    /// t f are float32 by definition, in every precision of the rest.
    "timestep_embedding" = TimestepEmbedding { dim: usize };
    /// The constants f of `timestep_embedding`: `[dim/2]`.
    "timestep_frequencies" = TimestepFrequencies { dim: usize };
    /// `table [R,W]`, `y [N]` of i32: `[N,W]`, row y of the table.
    "embedding" = Embedding {};
    /// `y [N]` of i32: `[N, depth]`, 1 at column y.
    "one_hot" = OneHot { depth: usize };

    // --- fused
    /// `ss [N,C]`, `gamma [C]`: GRN's factor per channel, `1 + gamma * G / (mean_c G + eps)`, `G = sqrt(ss)`.
    "grn_scale" = GrnScale { eps: f64 } fused;
    /// `x`, `w [K,K,C]`, `b [C]`, `shift [N,C]`, `scale [N,C]`: `modulate(layer_norm(dwconv2d(x, w, b)), shift, scale)`.
    "fused.dwconv_norm_modulate" = DwConvNormModulate { pad: usize, eps: f64 } fused;
    /// `x [N,H,W,K]`, `w [O,K]`, `b [O]`: `h = gelu(linear(x, w, b))` and `sum_squares(h)`.
    "fused.linear_gelu_sumsq" = LinearGeluSumsq {} fused;
    /// `h [N,H,W,K]`, `a [N,K]`, `w [O,K]`, `b [O]`, `gate [N,O]`, `x [N,H,W,O]`:
    /// `gated_add(x, linear(scale_channels(h, a), w, b), gate)`; with `quantise`, of rows that are scaled and then as by `quantise_rows` of 8 bits.
    "fused.scale_linear_gated_add" = ScaleLinearGatedAdd { quantise: bool = false } fused;
    /// `x [N,H,W,C]`, `shift [N,C]`, `scale [N,C]`: `modulate(layer_norm(x), shift, scale)`.
    "fused.norm_modulate" = NormModulate { eps: f64 } fused differentiated;
    /// The gradient of `fused.norm_modulate`: `x`, `scale`, and `dy` as x: `dx`, `dshift [N,C]`, `dscale [N,C]`.
    "fused.norm_modulate_grad" = NormModulateGrad { eps: f64 } fused;
    /// `x [N,H,W,C]`, `gamma [C]`, `beta [C]`: `grn(gelu(x), gamma, beta)`.
    "fused.gelu_grn" = GeluGrn { eps: f64 } fused differentiated;
    /// The gradient of `fused.gelu_grn`: `x`, `gamma`, and `dy` as x: `dx`, `dgamma [C]`, `dbeta [C]`.
    "fused.gelu_grn_grad" = GeluGrnGrad { eps: f64 } fused;
    /// The gradient of `gated_add` in h and gate: `h`, `gate`, and `dy` as h: `dh`, `dgate [N,C]`.
    "fused.gated_add_grad" = GatedAddGrad {} fused;
    /// `a [..,I]`, `b [..,J]`, `w [O,I+J]`, `bias [O]`: `linear(concat(a, b), w, bias)`, joined along the last axis.
    "fused.concat_linear" = ConcatLinear {} fused;
    /// `w`, `b` as of `conv2d`, `r` with `residual` alone: `rearrange(activation(conv2d(upsample_nearest(x, upsample), w, b) + r))`.
    /// A residual is not rearranged.
    "fused.conv2d" = FusedConv2d {
        stride: usize,
        pad: Vec<usize>,
        upsample: usize = 1,
        residual: bool = false,
        activation: Activation = Activation::None,
        rearrange: Rearrange = Rearrange::Keep
    } fused;
    /// `x`, `w`, `b` as of `linear`, `r` with `residual` alone: `activation(linear(x, w, b) + r)`.
    "fused.linear" = FusedLinear { residual: bool = false, activation: Activation = Activation::None } fused;
    /// `x`, `gamma`, `beta` as of `group_norm`: `activation(group_norm(x, gamma, beta))`.
    "fused.group_norm" = FusedGroupNorm { groups: usize, eps: f64, activation: Activation = Activation::None } fused;
    /// `q [..,M,K]`, `k [..,S,K]`, `v [..,S,N]`, equal leading axes: `softmax(scale * q k^T) v`, `[..,M,N]`.
    "fused.attention" = Attention { scale: f64 } fused;

    // --- training
    /// AdamW (arXiv 1711.05101) of weights p by the gradient g, all alike, with running averages e of the weights. In `rates [4 + 2E]`,
    /// for E averages, are c, d, s, r and for each `e` its a and a': `g' = c g`, `m' = m + (1 - beta1) (g' - m)`,
    /// `v' = beta2 v + (1 - beta2) g'^2`, `p' = d p - s m' / (r sqrt(v') + eps)`, `e' = a e + a' p'`. Results: `p'`, `m'`, `v'`, each `e'`.
    "adamw" = Adamw { beta1: f64, beta2: f64, eps: f64 } fused;
}

impl Op {
    /// The op with its attributes, if it is an `O`.
    pub fn get<'a, O>(&'a self) -> Option<&'a O>
    where
        &'a O: TryFrom<&'a Op>,
    {
        self.try_into().ok()
    }

    /// Types of the results.
    ///
    /// # Errors
    /// The violated constraint. Those of every op: `op.operands`, their number; `op.attributes`, numbers are finite;
    /// `op.size`, operands and results have no extent 0 and at most 2^40 elements.
    pub fn infer(&self, x: &[&Type]) -> Result<Vec<Type>, TypeError> {
        let names = self.operands();
        let required = names.iter().filter(|n| !n.ends_with('?')).count();
        if x.len() < required || x.len() > names.len() {
            let list = names.join(", ");
            let message = format!("`{}` takes {list}: expected {required} to {} operands, found {}", self.name(), names.len(), x.len());
            return Err(TypeError { constraint: "op.operands", message });
        }
        ensure!("op.attributes", self.attrs_finite(), "`{self}` has an attribute that is not a finite number");
        if let Some(t) = x.iter().find(|t| !rule::sized(t)) {
            return Err(TypeError { constraint: "op.size", message: format!("operand {t} has an extent 0 or more than 2^40 elements") });
        }
        let y = self.infer_counted(x)?;
        if let Some(t) = y.iter().find(|t| !rule::sized(t)) {
            return Err(TypeError { constraint: "op.size", message: format!("result {t} has an extent 0 or more than 2^40 elements") });
        }
        Ok(y)
    }
}

impl fmt::Display for Op {
    /// The op as in the text form, without operands: `dwconv2d {pad=3}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        let attrs = self.attrs();
        if !attrs.is_empty() {
            let list: Vec<String> = attrs.into_iter().map(|(k, v)| format!("{k}={v}")).collect();
            write!(f, " {{{}}}", list.join(", "))?;
        }
        Ok(())
    }
}
