//! The kernels, one family a file: formula, operands, shape rule, cost, a body over [`crate::simd::Simd`], tests.
//!
//! A step becomes a `Task` when a program is loaded, for the instruction set that it is loaded for. A task runs in phases with a barrier after each; in a
//! phase every thread does the part that follows from its index. Sizes were checked by [`crate::check`] before
//! a task is made, and the executor hands it memory of those sizes.
//!
//! Results do not depend on the number of threads: every sum has an order that follows from the shapes alone,
//! and how work is parted moves only whole units that are computed alike.

mod adamw;
mod attention;
mod block_sums;
mod channelwise;
mod condition;
mod conv_transpose;
mod copy;
mod definition;
mod depthwise;
mod elementwise;
mod gated_add_grad;
mod gelu_grn;
mod gemm;
mod grn;
mod group_norm;
mod matmul;
mod norm;
mod norm_grad;
mod pack;
mod product;
mod quantise;
mod reduce;
mod scratch;
mod strided;
#[cfg(test)]
pub(crate) mod testing;
mod weight_grad;
mod winograd;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::check::Fault;
use crate::cost::Cost;
use crate::encoding::MAX_PARTS;
use crate::plan::{Operand, Step};
use crate::simd::Isa;
pub use adamw::{Adamw, MAX_AVERAGES};
pub use attention::Attention;
pub use channelwise::{GatedAdd, Modulate, ScaleChannels};
pub use condition::{Embedding, OneHot, TimestepEmbedding, TimestepFrequencies};
pub use conv_transpose::ConvTranspose2d;
pub use copy::{Copy, MAX_AXES};
pub(crate) use definition::KernelDef;
pub use definition::{Input, Kind, Output, Signature};
pub use depthwise::{DwConv2d, DwConvNormModulate};
pub use elementwise::{Binary, Fill, Unary};
pub use gated_add_grad::GatedAddGrad;
pub use gelu_grn::{GeluGrn, GeluGrnGrad};
pub use grn::{Grn, GrnScale};
pub use group_norm::GroupNorm;
pub use matmul::Matmul;
pub use norm::{LayerNorm, NormModulate, Softmax};
pub use norm_grad::NormModulateGrad;
pub use pack::Pack;
pub use product::{Activation, Algorithm, Epilogue, Left, Product, Rearrange, Window};
pub use quantise::QuantiseRows;
pub use reduce::{Sum, SumSquares};
pub(crate) use scratch::{Scratch, Split, Units, part};
pub use strided::Strided;
pub use weight_grad::{Conv2dWeightGrad, DwConv2dWeightGrad, LinearWeightGrad};

macro_rules! kernels {
    ($($name:ident = $text:literal;)*) => {
        /// A kernel with its attributes; what it computes stands with each of them.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[allow(missing_docs)]
        pub enum Kernel {
            $(#[serde(rename = $text)] $name($name),)*
        }

        $(impl From<$name> for Kernel {
            fn from(kernel: $name) -> Kernel {
                Kernel::$name(kernel)
            }
        })*

        impl Kernel {
            /// Its name in plans.
            pub fn name(&self) -> &'static str {
                match self { $(Kernel::$name(_) => $text,)* }
            }

            fn definition(&self) -> &dyn KernelDef {
                match self { $(Kernel::$name(kernel) => kernel,)* }
            }
        }
    };
}

// The table. A line makes a kernel's variant of `Kernel` and its name in plans; its file has all else there is to know of it.
kernels! {
    Adamw = "adamw";
    Attention = "attention";
    Binary = "binary";
    Conv2dWeightGrad = "conv2d_weight_grad";
    ConvTranspose2d = "conv_transpose2d";
    Copy = "copy";
    DwConv2d = "dw_conv2d";
    DwConv2dWeightGrad = "dw_conv2d_weight_grad";
    DwConvNormModulate = "dw_conv_norm_modulate";
    Embedding = "embedding";
    Fill = "fill";
    GatedAdd = "gated_add";
    GatedAddGrad = "gated_add_grad";
    GeluGrn = "gelu_grn";
    GeluGrnGrad = "gelu_grn_grad";
    Grn = "grn";
    GrnScale = "grn_scale";
    GroupNorm = "group_norm";
    LayerNorm = "layer_norm";
    LinearWeightGrad = "linear_weight_grad";
    Matmul = "matmul";
    Modulate = "modulate";
    NormModulate = "norm_modulate";
    NormModulateGrad = "norm_modulate_grad";
    OneHot = "one_hot";
    Pack = "pack";
    Product = "product";
    QuantiseRows = "quantise_rows";
    ScaleChannels = "scale_channels";
    Softmax = "softmax";
    Sum = "sum";
    SumSquares = "sum_squares";
    TimestepEmbedding = "timestep_embedding";
    TimestepFrequencies = "timestep_frequencies";
    Unary = "unary";
}

impl Kernel {
    /// Its operands.
    pub fn signature(&self) -> Signature {
        self.definition().signature()
    }

    /// Holds operands against its shape rule.
    pub(crate) fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        self.definition().check(x, y)
    }

    /// What a step costs that has passed the check.
    pub(crate) fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        self.definition().cost(x, y)
    }
}

/// Most inputs that a kernel has.
pub(crate) const MAX_INPUTS: usize = 8;

/// Most outputs that a kernel has.
pub(crate) const MAX_OUTPUTS: usize = 6;

/// The address of an input, and of its further parts if it is encoded; null where there is none.
pub(crate) type Parts = [*const u8; MAX_PARTS];

/// Addresses of a step's operands, in the kernel's order; null where there is none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Args {
    pub inputs: [Parts; MAX_INPUTS],
    pub outputs: [*mut u8; MAX_OUTPUTS],
}

// SAFETY: addresses only; whoever dereferences them answers for it.
unsafe impl Send for Args {}
// SAFETY: as for `Send`.
unsafe impl Sync for Args {}

impl Args {
    /// No operands.
    pub const NONE: Args = Args { inputs: [[std::ptr::null(); MAX_PARTS]; MAX_INPUTS], outputs: [std::ptr::null_mut(); MAX_OUTPUTS] };

    /// The address of input `i`, of its first part if it is encoded.
    pub fn address(&self, i: usize) -> *const u8 {
        self.inputs[i][0]
    }

    /// That of an input which there may not be; null then.
    pub fn given(&self, i: Option<usize>) -> *const f32 {
        i.map_or(std::ptr::null(), |i| self.address(i).cast())
    }

    /// Input `i` as f32.
    ///
    /// # Safety
    /// - Input `i` holds at least `count` f32, which nobody writes while the result lives.
    pub unsafe fn input<'a>(&self, i: usize, count: usize) -> &'a [f32] {
        // SAFETY: the caller's contract; operands are aligned to 64 bytes, ports to those of f32.
        unsafe { std::slice::from_raw_parts(self.address(i).cast(), count) }
    }

    /// Input `i` as f32, or an empty slice if the step does not have it.
    ///
    /// # Safety
    /// - As of [`Args::input`], unless the address is null.
    pub unsafe fn optional<'a>(&self, i: usize, count: usize) -> &'a [f32] {
        // SAFETY: the caller's contract.
        if self.address(i).is_null() { &[] } else { unsafe { self.input(i, count) } }
    }

    /// Input `i` as labels.
    ///
    /// # Safety
    /// - Input `i` holds at least `count` i32, which nobody writes while the result lives.
    pub unsafe fn labels<'a>(&self, i: usize, count: usize) -> &'a [i32] {
        // SAFETY: the caller's contract; operands are aligned to 64 bytes, ports to those of i32.
        unsafe { std::slice::from_raw_parts(self.address(i).cast(), count) }
    }

    /// The address of output `i`.
    pub fn output(&self, i: usize) -> *mut f32 {
        self.outputs[i].cast()
    }

    /// Elements `range` of output `i`.
    ///
    /// # Safety
    /// - Output `i` holds at least `range.end` f32, and nobody else accesses the range while the result lives.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn output_range<'a>(&self, i: usize, range: Range<usize>) -> &'a mut [f32] {
        // SAFETY: the caller's contract; aligned as inputs are.
        unsafe { std::slice::from_raw_parts_mut(self.output(i).add(range.start), range.len()) }
    }
}

/// Memory a task wants beside its operands, in f32, and how many phases it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Phases, at least 1.
    pub phases: usize,
    /// For every thread on its own; contents are lost between phases.
    pub own: usize,
    /// For all threads together; kept from phase to phase of one step.
    pub shared: usize,
}

impl Needs {
    /// One phase and no memory.
    pub const PLAIN: Needs = Needs { phases: 1, own: 0, shared: 0 };
}

/// One thread's part in one phase. A unit may fall to any thread and comes out the same on each.
#[derive(Debug)]
pub(crate) struct Worker<'a> {
    /// Number of threads.
    pub threads: usize,
    /// [`Needs::own`] f32, aligned to 64 bytes.
    pub own: &'a mut [f32],
    /// [`Needs::shared`] f32, aligned to 64 bytes.
    pub shared: Scratch,
    /// How the phase's units are shared out.
    pub split: Split<'a>,
}

impl<'a> Worker<'a> {
    /// Units of the `total` that this thread does next; at most `most`. `None` when none are left.
    pub fn claim(&mut self, total: usize, most: usize) -> Option<Range<usize>> {
        self.split.claim(total, most, self.threads)
    }

    /// All units of the `total` that fall to this thread.
    pub fn units(&self, total: usize) -> Units<'a> {
        Units { split: self.split.clone(), total, threads: self.threads, taken: 0..0 }
    }
}

/// A step ready to run.
pub(crate) trait Task: Send + Sync {
    /// What it needs when `threads` threads run it.
    fn needs(&self, threads: usize) -> Needs;

    /// Does this thread's part of `phase`.
    ///
    /// # Safety
    /// - `args` has the step's operands, as sized when the task was made.
    /// - Every thread calls it once for each phase, with its own `worker`; phases are separated by barriers.
    /// - Nobody else accesses the outputs meanwhile, and nobody writes the inputs.
    unsafe fn run(&self, phase: usize, args: &Args, worker: &mut Worker<'_>);
}

/// What a step costs, roughly, in multiply-accumulates; passing a byte through memory counts as one.
pub(crate) fn work(step: &Step) -> usize {
    let Cost { macs, bytes } = Cost::of(step);
    usize::try_from(macs.saturating_add(bytes)).unwrap_or(usize::MAX)
}

/// The task of a step that [`crate::check`] has passed.
pub(crate) fn task(step: &Step, isa: Isa) -> Box<dyn Task> {
    step.kernel.definition().task(&step.inputs, &step.outputs, isa)
}
