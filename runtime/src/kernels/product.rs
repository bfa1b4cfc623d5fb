//! Matrix products and convolutions with weights in an encoding: one kernel of window, parts, epilogue, destination, algorithm.
//! Here is what it computes and accepts; [`super::gemm`] and [`super::winograd`] compute it.

use serde::{Deserialize, Serialize};

use super::{Input, KernelDef, Kind, Output, Signature, Task, gemm, winograd};
use crate::check::Fault;
use crate::check::rule::{MAX_SPAN, convolved, ends, ensure, like, matrix, rank, rows, sane, shape};
use crate::cost::Cost;
use crate::encoding::Matrix;
use crate::plan::{Form, Operand};
use crate::simd::Isa;
use crate::simd::bytes::SEVEN_BITS;

/// `x, W[O,K], b[O]? -> y`: `epilogue(W x + b)`, by pixel.
///
/// - Without a window, `x [..,K] -> y [..,O]`. With one, `x [N,H,W,I] -> y [N,OH,OW,O]`, a convolution; k runs over kh, kw, i (i fastest).
/// - `concat`: x is the concatenation of two inputs over their last axis, which is not written.
/// - `scaled`: behind x comes `a [N,K]`, and x is multiplied by its sample's factors.
/// - Behind b come the epilogue's operands: `gate`, `r`.
///
/// W is a matrix `[O, taps, channels]` in an encoding. All sums are of f32.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Product {
    /// The pixels that a pixel of y sees; its own if there is none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub window: Option<Window>,
    /// Whether x comes as two inputs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub concat: bool,
    /// Whether x is scaled by sample and channel.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scaled: bool,
    /// What x, scaled, is multiplied as.
    #[serde(default, skip_serializing_if = "is_default")]
    pub left: Left,
    /// What follows the bias.
    #[serde(default, skip_serializing_if = "is_default")]
    pub epilogue: Epilogue,
    /// Where the result's elements go. y has its extents after that.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rearrange: Rearrange,
    /// How a convolution is computed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub algorithm: Algorithm,
}

/// Most channels of which products of codes sum exactly in 32 bits: each is of 255 and -128 at most.
const MOST_CODES: usize = (i32::MAX / (255 * 128)) as usize;

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A convolution's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Height and width.
    pub kernel: [usize; 2],
    /// Of both axes.
    pub stride: usize,
    /// Top, left, bottom, right.
    pub pad: [usize; 4],
    /// Every pixel of x stands for so many by so many: the convolution is of `[N, upsample * H, upsample * W, I]`.
    pub upsample: usize,
}

impl Window {
    /// As high as wide, of stride 1, without padding.
    pub fn square(side: usize) -> Window {
        Window { kernel: [side; 2], stride: 1, pad: [0; 4], upsample: 1 }
    }
}

/// What the left factor of a product is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Left {
    /// f32, as it is.
    #[default]
    F32,
    /// With weights of bf16, on a CPU that multiplies pairs of them, rounded to bf16, to nearest even; as it is elsewhere.
    Bf16,
    /// With weights of whole numbers, rounded to codes of 8 bits by pixel and, where x comes as two inputs, by input: `lo = min(0, min x)`,
    /// `hi = max(0, max x)`, `r = 255 / (hi - lo)`, `x ~ (clamp(round(x r) + z, 0, 255) - z) / r` with `z = round(-lo r)`. W is then `[O, 2, K/2]`
    /// where there are two inputs, of equally many channels.
    U8,
    /// The same with codes of 7 bits, 127 in the place of 255: sums of two products fit 16 bits, which some CPUs are faster at.
    U7,
}

impl Left {
    /// Whether x is rounded to codes.
    pub const fn is_codes(self) -> bool {
        self.most_code().is_some()
    }

    /// The greatest code, of what is rounded to codes.
    pub const fn most_code(self) -> Option<u8> {
        match self {
            Left::U8 => Some(u8::MAX),
            Left::U7 => Some(SEVEN_BITS),
            Left::F32 | Left::Bf16 => None,
        }
    }
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

/// What becomes of `v`, the product and its bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Epilogue {
    /// `y = activation(v + r)`.
    Activate {
        /// Whether r, the residual, is there, with y's shape. Only where y is not rearranged.
        residual: bool,
        /// Applied to the sum.
        activation: Activation,
    },
    /// `y = gelu(v)`, exact, or of products of codes to 1.2e-5, and a second output `ss [N,O]`, by sample the sums of y^2 over its pixels.
    GeluSumsq,
    /// `y = r + gate * v`, `gate [N,O]` by sample, r with y's shape.
    GatedAdd,
}

impl Epilogue {
    /// `y = v`.
    pub const NONE: Epilogue = Epilogue::Activate { residual: false, activation: Activation::None };
}

impl Default for Epilogue {
    fn default() -> Epilogue {
        Epilogue::NONE
    }
}

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// As it is written.
    #[default]
    Direct,
    /// By Winograd's F(4x4, 3x3) with points 0, 5/8, -5/8, 3/2, -3/2 and infinity: a window 3x3 of stride 1, nothing scaled, and an
    /// epilogue without other results.
    Winograd,
    /// The same of an image enlarged to twice its size, as four convolutions 2x2 of the image itself, one for each parity of an
    /// output's row and column: by Winograd's F(5x5, 2x2) with the same points, whose weights are sums of the window's.
    WinogradPhases,
}

impl Algorithm {
    /// True of either kind.
    pub fn is_winograd(self) -> bool {
        self != Algorithm::Direct
    }
}

/// How a convolution's result is rearranged while it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rearrange {
    /// Not at all.
    #[default]
    Keep,
    /// `[N,H,W,f*f*C] -> [N,f*H,f*W,C]`. Rows of W and elements of b are ordered `(dy, dx, c)`, not `(c, dy, dx)` as in the IR, so that
    /// neighbouring channels of a pixel are neighbouring columns of the product.
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

impl Product {
    /// `x [..,K], W[O,K], b[O]? -> y [..,O]`.
    pub fn linear() -> Product {
        Product::default()
    }

    /// `a [..,I], b [..,J], W[O,I+J], bias[O]? -> y [..,O]`.
    pub fn concat_linear() -> Product {
        Product { concat: true, ..Product::default() }
    }

    /// `x [N,H,W,I], W[O, KH*KW*I], b[O]? -> y [N,OH,OW,O]`.
    pub fn conv2d(window: Window) -> Product {
        Product { window: Some(window), ..Product::default() }
    }

    /// `x [N,..,K], W[O,K], b[O]? -> h [N,..,O], ss [N,O]`.
    pub fn linear_gelu_sumsq() -> Product {
        Product { epilogue: Epilogue::GeluSumsq, ..Product::default() }
    }

    /// `h [N,..,K], a [N,K], W[O,K], b[O]?, gate [N,O], x [N,..,O] -> x + gate * (W (a * h) + b)`.
    pub fn scale_linear_gated_add() -> Product {
        Product { scaled: true, epilogue: Epilogue::GatedAdd, ..Product::default() }
    }

    /// What people call it.
    pub fn description(&self) -> String {
        let name = match (self.window, self.algorithm) {
            (Some(_), Algorithm::Winograd) => "conv2d_winograd".to_owned(),
            (Some(_), Algorithm::WinogradPhases) => "conv2d_winograd_phases".to_owned(),
            (Some(Window { kernel: [h, w], .. }), Algorithm::Direct) => format!("conv2d {h}x{w}"),
            (None, _) => format!("{}{}linear", if self.scaled { "scale_" } else { "" }, if self.concat { "concat_" } else { "" }),
        };
        let name = match self.epilogue {
            Epilogue::Activate { .. } => name,
            Epilogue::GeluSumsq => name + "_gelu_sumsq",
            Epilogue::GatedAdd => name + "_gated_add",
        };
        match self.left {
            Left::U8 => name + " u8",
            Left::U7 => name + " u7",
            Left::F32 | Left::Bf16 => name,
        }
    }

    /// Whether samples are told apart by what is computed.
    pub(super) fn by_sample(&self) -> bool {
        self.scaled || matches!(self.epilogue, Epilogue::GeluSumsq | Epilogue::GatedAdd)
    }

    /// The matrix that W must be, from the shapes of x and y.
    fn matrix(&self, x: &[Operand], y: &Operand) -> Result<Matrix, Fault> {
        let Some(window) = self.window else {
            let (outer, mut k) = rows("product.1", "x", &x[0])?;
            if self.concat {
                let (others, more) = rows("product.1", "the second x", &x[1])?;
                ensure("product.2", outer == others, format!("{outer:?} before the second x's last axis"), others)?;
                ensure("product.20", !self.left.is_codes() || k == more, format!("{k} channels of a second x that becomes codes"), more)?;
                k += more;
            }
            let (_, o) = rows("product.3", "y", y)?;
            shape("product.3", "y", y, &[outer, &[o]].concat())?;
            ensure("product.4", self.rearrange == Rearrange::Keep, "a window where y is rearranged", self.rearrange)?;
            let taps = if self.concat && self.left.is_codes() { 2 } else { 1 };
            return Ok(Matrix { rows: o, taps, channels: k / taps });
        };
        ensure("product.5", !self.concat && !self.scaled, "one x as it is under a window", (self.concat, self.scaled))?;
        let Window { kernel: [kh, kw], stride, pad, upsample } = window;
        let ([n, h, w, i], image) = (upsampled(&x[0], upsample)?, rank("product.3", "y", y)?);
        let out = |extent, before, after, kernel| convolved("product.7", extent, [before, after], kernel, stride);
        let own = [n, out(h, pad[0], pad[2], kh)?, out(w, pad[1], pad[3], kw)?];
        let o = rearranged(own, self.rearrange, image)?;
        let whole = || Fault { rule: "product.9", expected: "a sane size of the kernel".into(), found: format!("{kh} x {kw} x {i}") };
        // One more channel than there are, since pairs may have that many.
        sane(&[kh, kw, i + 1]).ok_or_else(whole)?;
        Ok(Matrix { rows: o, taps: kh * kw, channels: i })
    }

    /// Operands of the epilogue, and what y must be for it.
    fn check_epilogue(&self, x: &[Operand], y: &[Operand], o: usize) -> Result<(), Fault> {
        let at = |name: &str| self.signature().position(name, x.len());
        if let Some(b) = at("b") {
            shape("product.11", "bias", &x[b], &[o])?;
        }
        if let Some(r) = at("r") {
            ensure("product.12", self.rearrange == Rearrange::Keep, "no residual where the result is rearranged", self.rearrange)?;
            like("product.13", "residual", &x[r], &y[0])?;
        }
        if !self.by_sample() {
            return Ok(());
        }
        ensure("product.12", self.rearrange == Rearrange::Keep, "samples apart where the result is rearranged", self.rearrange)?;
        let (n, k) = ends("product.14", "x", &x[0])?;
        let k = if self.concat { k + x[1].shape.last().copied().unwrap_or(0) } else { k };
        if let Some(a) = at("a") {
            ensure("product.15", !self.concat, "one x where it is scaled", self.concat)?;
            shape("product.15", "a", &x[a], &[n, k])?;
        }
        if let Some(gate) = at("gate") {
            shape("product.16", "gate", &x[gate], &[n, o])?;
        }
        y.get(1).map_or(Ok(()), |ss| shape("product.17", "ss", ss, &[n, o]))
    }
}

/// Extents of an image every pixel of which stands for `by` x `by`.
fn upsampled(x: &Operand, by: usize) -> Result<[usize; 4], Fault> {
    let [n, h, w, i] = rank("product.1", "x", x)?;
    ensure("product.6", (1..=MAX_SPAN).contains(&by), format!("an upsampling by 1 to {MAX_SPAN}"), by)?;
    let large = sane(&[h, by]).zip(sane(&[w, by])).filter(|&(h, w)| sane(&[n, h, w, i]).is_some());
    let fault = || Fault { rule: "product.6", expected: format!("a sane size upsampled by {by}"), found: format!("{:?}", x.shape) };
    let (h, w) = large.ok_or_else(fault)?;
    Ok([n, h, w, i])
}

/// Output channels of a convolution that has `[N,OH,OW]` of its own and becomes the image y by a rearrangement.
fn rearranged(own: [usize; 3], by: Rearrange, y: [usize; 4]) -> Result<usize, Fault> {
    let source = by.source(y).filter(|s| sane(s).is_some());
    let fault = || Fault { rule: "product.8", expected: format!("a y that is an image after {by:?}"), found: format!("{y:?}") };
    let source = source.ok_or_else(fault)?;
    let want = [own[0], own[1], own[2], source[3]];
    ensure("product.8", source == want, format!("{want:?} for y before {by:?}"), source)?;
    Ok(source[3])
}

impl KernelDef for Product {
    fn signature(&self) -> Signature {
        let residual = matches!(self.epilogue, Epilogue::Activate { residual: true, .. } | Epilogue::GatedAdd);
        let names = [
            ("x", true),
            ("second x", self.concat),
            ("a", self.scaled),
            ("W", true),
            ("b?", true),
            ("gate", self.epilogue == Epilogue::GatedAdd),
            ("r", residual),
        ];
        let inputs = names.iter().filter(|(_, there)| *there).map(|(name, _)| Input::f32(name)).collect();
        let output = |name| Output { name, form: Form::F32, takes: &[], part: None };
        let outputs = ["y", "ss"].into_iter().take(1 + usize::from(self.epilogue == Epilogue::GeluSumsq)).map(output).collect();
        Signature { inputs, outputs }.with("W", Kind::Matrix)
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        let m = self.matrix(x, &y[0])?;
        let w = self.signature().position("W", x.len()).expect("every product has weights");
        matrix("product.10", &x[w], m)?;
        self.check_epilogue(x, y, m.rows)?;
        let exact =
            matches!(x[w].form, Form::Encoded(e) if e.has_integers()) && m.channels <= MOST_CODES && self.algorithm == Algorithm::Direct;
        let expected = format!("whole numbers and at most {MOST_CODES} channels directly, for an x that becomes codes");
        ensure("product.19", !self.left.is_codes() || exact, expected, (x[w].form, m.channels, self.algorithm))?;
        let plain = self.window.is_some_and(|w| w.kernel == [3, 3] && w.stride == 1) && matches!(self.epilogue, Epilogue::Activate { .. });
        ensure("product.18", !self.algorithm.is_winograd() || plain, "a convolution 3x3 of stride 1 by Winograd", self.window)?;
        let twice = self.window.is_some_and(|w| w.upsample == 2);
        ensure(
            "product.21",
            self.algorithm != Algorithm::WinogradPhases || twice,
            "an image enlarged to twice its size by phases",
            self.window,
        )
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        let w = self.signature().position("W", x.len()).expect("checked: every product has weights");
        let [_, taps, channels] = x[w].shape[..] else { return Cost::default() };
        Cost::whole(y[0].count().saturating_mul(taps * channels), x, y)
    }

    fn task(&self, x: &[Operand], y: &[Operand], isa: Isa) -> Box<dyn Task> {
        match self.algorithm {
            Algorithm::Direct => Box::new(gemm::Gemm::of(self, x, y, isa)),
            Algorithm::Winograd | Algorithm::WinogradPhases => winograd::task(self, x, y, isa),
        }
    }
}

/// Which of a step's inputs are what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Inputs {
    pub weights: usize,
    pub factors: Option<usize>,
    pub bias: Option<usize>,
    pub gate: Option<usize>,
    pub residual: Option<usize>,
}

impl Inputs {
    /// Of a step that has so many.
    pub fn of(product: &Product, count: usize) -> Inputs {
        let signature = product.signature();
        let at = |name: &str| signature.position(name, count);
        Inputs { weights: at("W").unwrap_or(0), factors: at("a"), bias: at("b"), gate: at("gate"), residual: at("r") }
    }
}
