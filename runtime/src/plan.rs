//! The plan: what the compiler hands to the runtime. A list of steps per entry point, over one arena whose
//! offsets were fixed at compile time. It is data: serialised as JSON into the artifact, checked in full when
//! loaded ([`crate::check`]), and never able to do more than run the kernels below on memory it was given.
//!
//! Tensors are dense, row-major, channels last. Every operand states its own shape, which need not be the shape
//! under which another step sees the same bytes: a reshape costs nothing.

use serde::{Deserialize, Serialize};

/// Version of the plan's format. A reader refuses every other.
pub const VERSION: u32 = 4;

/// Output channels of one panel of a packed weight matrix, on every CPU.
pub const PANEL: usize = 16;

/// Alignment in bytes of tensors in the artifact and of operands in the arena.
pub const ALIGN: usize = 64;

/// All entry points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`VERSION`].
    pub version: u32,
    /// The entry points; the pair of name and rows is unique.
    pub entries: Vec<Entry>,
}

/// One function at one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Name of the function: `condition`, `denoise`.
    pub name: String,
    /// Batch size: the first extent of every input and output.
    pub rows: usize,
    /// What the caller provides.
    pub inputs: Vec<Port>,
    /// What the caller receives.
    pub outputs: Vec<Port>,
    /// Bytes of arena needed.
    pub arena_bytes: usize,
    /// Bytes of the largest set of values alive at one time: no plan without recomputation needs less.
    pub arena_lower_bound: usize,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

/// A named tensor at the boundary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its name in the IR.
    pub name: String,
    /// Element type.
    pub dtype: Element,
    /// Extents, `rows` first.
    pub shape: Vec<usize>,
}

/// Element types of operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Element {
    /// binary32.
    F32,
    /// The upper half of binary32; of packed weights alone.
    BF16,
    /// binary16; of packed weights alone.
    F16,
    /// Class labels.
    I32,
}

impl Element {
    /// Bytes of one.
    pub const fn bytes(self) -> usize {
        match self {
            Element::F32 | Element::I32 => 4,
            Element::BF16 | Element::F16 => 2,
        }
    }

    /// Extents of a weight matrix of `o` rows in panels of such elements, its columns being `taps` times `channels`.
    pub fn packed(self, o: usize, taps: usize, channels: usize) -> Vec<usize> {
        let panels = o.div_ceil(PANEL);
        match self {
            Element::BF16 => vec![panels, taps * channels.div_ceil(2), PANEL, 2],
            Element::F32 | Element::F16 | Element::I32 => vec![panels, taps * channels, PANEL],
        }
    }
}

/// Where an operand's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// At this byte offset in the arena, a multiple of [`ALIGN`].
    Arena(usize),
    /// The entry's input of that index.
    Input(usize),
    /// The entry's output of that index.
    Output(usize),
    /// The artifact's tensor of that name.
    Weight(String),
}

/// A tensor that a step reads or writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operand {
    /// Where it is.
    pub at: Place,
    /// Element type.
    pub dtype: Element,
    /// Extents as this step sees them. For packed weights: the packed extents, [`Element::packed`].
    pub shape: Vec<usize>,
}

impl Operand {
    /// Number of elements.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes that its elements take.
    pub fn bytes(&self) -> usize {
        self.count() * self.dtype.bytes()
    }
}

/// One call of a kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Name of the IR value that it computes; for people and profiles.
    pub label: String,
    /// Which kernel, with its attributes.
    pub kernel: Kernel,
    /// What it reads, in the kernel's order.
    pub inputs: Vec<Operand>,
    /// What it writes. Never overlaps an input, nor another output.
    pub outputs: Vec<Operand>,
}

/// Elementwise functions of one operand; formulas as for the IR ops of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Unary {
    Neg,
    Scale { by: f32 },
    Offset { by: f32 },
    Exp,
    Log,
    Sqrt,
    Erf,
    Sigmoid,
    Silu,
    Gelu,
    Tanh,
    Cos,
    Sin,
    Relu,
    LeakyRelu { slope: f32 },
    Clamp { min: f32, max: f32 },
    Step,
}

/// Elementwise functions of two operands of equal shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    DivNoNan,
}

/// A function of every element of a result, applied before it is stored; formulas as for the IR ops of the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Activation {
    /// `y = x`.
    #[default]
    None,
    Relu,
    Silu,
}

/// What follows a convolution and its bias: `y = activation(v + r)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epilogue {
    /// Whether r, the residual, is there: the last input, with y's shape. Only where y is not rearranged.
    #[serde(default)]
    pub residual: bool,
    /// Applied to the sum.
    #[serde(default)]
    pub activation: Activation,
}

impl Epilogue {
    /// Nothing.
    pub const NONE: Epilogue = Epilogue { residual: false, activation: Activation::None };

    /// Of a convolution's inputs `x, w, b?, r?`, `count` in number, which are b and r.
    pub fn operands(self, count: usize) -> (Option<usize>, Option<usize>) {
        let rest = count - usize::from(self.residual);
        ((rest > 2).then_some(2), self.residual.then_some(rest))
    }
}

/// A factor that changes nothing.
fn one() -> usize {
    1
}

/// How a convolution's result is rearranged while it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rearrange {
    /// Not at all.
    #[default]
    Keep,
    /// `[N,H,W,f*f*C] -> [N,f*H,f*W,C]`. Rows of W (output channels of U) and elements of b are ordered `(dy, dx, c)`, not
    /// `(c, dy, dx)` as in the IR, so that neighbouring channels of a pixel are neighbouring columns of the product.
    Shuffle {
        /// f.
        factor: usize,
    },
    /// `[N,f*H,f*W,C] -> [N,H,W,C*f*f]`, channel `c*f*f + dy*f + dx`.
    Unshuffle {
        /// f.
        factor: usize,
    },
}

impl Rearrange {
    /// Extents of what becomes an image `[N,H,W,C]`, if anything does.
    pub fn source(self, [n, h, w, c]: [usize; 4]) -> Option<[usize; 4]> {
        let over = |extent: usize, by: usize| (by > 0 && extent.is_multiple_of(by)).then(|| extent / by);
        match self {
            Rearrange::Keep => Some([n, h, w, c]),
            Rearrange::Shuffle { factor: f } => Some([n, over(h, f)?, over(w, f)?, c.checked_mul(f)?.checked_mul(f)?]),
            Rearrange::Unshuffle { factor: f } => Some([n, h.checked_mul(f)?, w.checked_mul(f)?, over(over(c, f)?, f)?]),
        }
    }
}

/// The kernels. `->` separates inputs from outputs. A matrix written `W[O,K]` is packed in panels of
/// [`PANEL`] output channels: operand shape `[ceil(O/16), K, 16]`, element `(o, k)` at `[o/16][k][o%16]`, zero
/// where `o >= O`. A vector over O beside it (bias) is dense `[O]`. Attributes are as in the IR op named.
///
/// W may be an artifact's tensor of f16, laid out so, or of bf16 in pairs of k: `[ceil(O/16), ceil(K/2), 16, 2]`,
/// element `(o, k)` at `[o/16][k/2][o%16][k%2]`, zero where `k >= K`. A convolution's pairs do not straddle taps: with I
/// channels, tap t begins at pair `t * ceil(I/2)`. All sums are of f32. Products with bf16 weights may also round x
/// (in [`Kernel::ScaleLinearGatedAdd`], `a * h`) to bf16, to nearest even, on a CPU that multiplies such pairs; but not
/// if x has two axes or fewer: conditions are computed in f32.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kernel {
    /// `-> y`: every element is `value`.
    Fill {
        /// The value.
        value: f32,
    },
    /// `x -> y`, equal counts.
    Unary(Unary),
    /// `a, b -> y`, equal counts.
    Binary(Binary),
    /// `x -> y`: sum over `axes` of x's shape, which has extent 1 there in y's, times `scale`.
    Sum {
        /// Axes summed over.
        axes: Vec<usize>,
        /// Factor on the sum; `1/count` makes it a mean.
        scale: f32,
    },
    /// `x -> y`: element `i` of the index space `extents` goes from `x[from + i . x_strides]` to
    /// `y[to + i . y_strides]`. Transposes, concatenates, splits, slices, flips, broadcasts, shuffles pixels,
    /// upsamples. It may leave parts of y untouched (another step writes them).
    Copy {
        /// The index space, at most 6 axes.
        extents: Vec<usize>,
        /// Element of x at index 0.
        from: usize,
        /// Step in x per axis.
        x_strides: Vec<isize>,
        /// Element of y at index 0.
        to: usize,
        /// Step in y per axis.
        y_strides: Vec<isize>,
    },
    /// `x [..,K], W[O,K], b[O]? -> y [..,O]`.
    Linear,
    /// `a [..,I], b [..,J], W[O,I+J], b[O]? -> y [..,O]`: of the concatenation over the last axis, which is not written.
    ConcatLinear,
    /// `a [B,M,K], b [B,K,N] -> y [B,M,N]`.
    Matmul,
    /// `q [B,M,K], k [B,S,K], v [B,S,N] -> y [B,M,N]`: `softmax(scale * q k^T) v`, the softmax over S.
    Attention {
        /// Factor on the products of q and k.
        scale: f32,
    },
    /// `x [N,H,W,I], W[O, KH*KW*I], b[O]?, r? -> y [N,OH,OW,O]`; k runs over kh, kw, i (i fastest).
    Conv2d {
        /// Kernel height and width.
        kernel: [usize; 2],
        /// Of both axes.
        stride: usize,
        /// Top, left, bottom, right.
        pad: [usize; 4],
        /// Every pixel of x stands for so many by so many: the convolution is of `[N, upsample * H, upsample * W, I]`.
        #[serde(default = "one")]
        upsample: usize,
        /// What follows the bias.
        #[serde(default)]
        epilogue: Epilogue,
        /// Where the result's elements go. y has its extents after that.
        #[serde(default)]
        then: Rearrange,
    },
    /// As [`Kernel::Conv2d`] with a kernel 3x3 of stride 1: `x [N,H,W,I], W[O, 3*3*I], b[O]?, r? -> y [N,OH,OW,O]`, by Winograd's
    /// F(4x4, 3x3) with points 0, 5/8, -5/8, 3/2, -3/2 and infinity.
    Conv2dWinograd {
        /// Top, left, bottom, right.
        pad: [usize; 4],
        /// As of [`Kernel::Conv2d`].
        #[serde(default = "one")]
        upsample: usize,
        /// As of [`Kernel::Conv2d`].
        #[serde(default)]
        epilogue: Epilogue,
        /// Where the result's elements go. y has its extents after that.
        #[serde(default)]
        then: Rearrange,
    },
    /// `x [N,H,W,I], w [I,KH,KW,O] dense, b[O]? -> y [N,OH,OW,O]`.
    ConvTranspose2d {
        /// Of both axes.
        stride: usize,
        /// Top, left, bottom, right.
        pad: [usize; 4],
    },
    /// `x [N,H,W,I], dy [N,OH,OW,O] -> dw [O,KH,KW,I]`.
    Conv2dWeightGrad {
        /// Of both axes.
        stride: usize,
        /// Top, left, bottom, right.
        pad: [usize; 4],
    },
    /// `x [N,H,W,C], w [KH,KW,C] dense, b[C]? -> y [N,OH,OW,C]`, stride 1.
    DwConv2d {
        /// On all four sides.
        pad: usize,
    },
    /// `x [N,H,W,C], dy [N,OH,OW,C] -> dw [KH,KW,C]`.
    DwConv2dWeightGrad {
        /// On all four sides.
        pad: usize,
    },
    /// `x [N,H,W,C] -> y [N,C]`: sum over H and W of x^2, reduced in an order that does not depend on threads.
    SumSquares,
    /// `ss [N,C], gamma [C] -> a [N,C]`: `1 + gamma * G / (mean_c G + eps)`, `G = sqrt(ss)`.
    GrnScale {
        /// Added to the mean of G.
        eps: f32,
    },
    /// `x [N,H,W,C], gamma [C], beta [C] -> y`.
    Grn {
        /// Added to the mean of G.
        eps: f32,
    },
    /// `x -> y` over the last axis.
    Softmax,
    /// `x -> y` over the last axis, no affine part.
    LayerNorm {
        /// Added to the variance.
        eps: f32,
    },
    /// `x [N,H,W,C], gamma [C], beta [C] -> y`.
    GroupNorm {
        /// Number of groups; divides C.
        groups: usize,
        /// Added to the variance.
        eps: f32,
        /// Applied to the normalised values.
        #[serde(default)]
        activation: Activation,
    },
    /// `x [N,..,C], shift [N,C], scale [N,C] -> x * (1 + scale) + shift`.
    Modulate,
    /// `x [N,..,C], h as x, gate [N,C] -> x + gate * h`.
    GatedAdd,
    /// `x [N,..,C], a [N,C] -> x * a`.
    ScaleChannels,
    /// `t [N] -> [N,dim]`.
    TimestepEmbedding,
    /// `table [R,W], y [N] i32 -> [N,W]`. A label outside the table is the caller's error, refused before `run`.
    Embedding,
    /// `y [N] i32 -> [N,depth]`.
    OneHot,
    /// `x [N,..,C], shift [N,C], scale [N,C] -> modulate(layer_norm(x), shift, scale)`.
    NormModulate {
        /// Added to the variance.
        eps: f32,
    },
    /// `x [N,H,W,C], w [KH,KW,C], b [C], shift [N,C], scale [N,C] -> y [N,H,W,C]`, stride 1.
    DwConvNormModulate {
        /// On all four sides.
        pad: usize,
        /// Added to the variance.
        eps: f32,
    },
    /// `x [N,H,W,K], W[O,K], b[O] -> h [N,H,W,O], ss [N,O]`.
    LinearGeluSumsq,
    /// `h [N,H,W,K], a [N,K], W[O,K], b[O], gate [N,O], x [N,H,W,O] -> x + gate * (W (a * h) + b)`.
    ScaleLinearGatedAdd,
}

impl Kernel {
    /// Which input is packed weights, and so may be of a half type.
    pub fn packed_weights(&self) -> Option<usize> {
        match self {
            Kernel::Linear | Kernel::Conv2d { .. } | Kernel::Conv2dWinograd { .. } | Kernel::LinearGeluSumsq => Some(1),
            Kernel::ScaleLinearGatedAdd | Kernel::ConcatLinear => Some(2),
            _ => None,
        }
    }
}
