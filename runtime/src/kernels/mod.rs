//! The kernels, one family a file: formula, contract, a body over [`crate::simd::Simd`], tests.
//!
//! A step becomes a `Task` when a program is loaded. A task runs in phases with a barrier after each; in a
//! phase every thread does the part that follows from its index. Sizes were checked by [`crate::check`] before
//! a task is made, and the executor hands it memory of those sizes.
//!
//! Results do not depend on the number of threads: every sum has an order that follows from the shapes alone,
//! and how work is parted moves only whole units that are computed alike.

mod attention;
mod channelwise;
mod condition;
mod conv_transpose;
mod copy;
mod depthwise;
mod elementwise;
mod gemm;
mod grn;
mod group_norm;
mod matmul;
mod norm;
mod reduce;
mod scratch;
#[cfg(test)]
pub(crate) mod testing;
mod weight_grad;
mod winograd;

use std::ops::Range;

use crate::cost::Cost;
use crate::plan::{Kernel, Step};
use crate::simd::Isa;
pub(crate) use copy::MAX_AXES;
pub use gemm::{pack_pairs, pack_panels};
pub(crate) use scratch::{Scratch, Split, Units, part};

/// Most inputs that a kernel has.
pub(crate) const MAX_INPUTS: usize = 6;

/// Most outputs that a kernel has.
pub(crate) const MAX_OUTPUTS: usize = 2;

/// Addresses of a step's operands, in the kernel's order; null where there is none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Args {
    pub inputs: [*const u8; MAX_INPUTS],
    pub outputs: [*mut u8; MAX_OUTPUTS],
}

// SAFETY: addresses only; whoever dereferences them answers for it.
unsafe impl Send for Args {}
// SAFETY: as for `Send`.
unsafe impl Sync for Args {}

impl Args {
    /// Input `i` as f32.
    ///
    /// # Safety
    /// - Input `i` holds at least `count` f32, which nobody writes while the result lives.
    pub unsafe fn input<'a>(&self, i: usize, count: usize) -> &'a [f32] {
        // SAFETY: the caller's contract; operands are aligned to 64 bytes, ports to those of f32.
        unsafe { std::slice::from_raw_parts(self.inputs[i].cast(), count) }
    }

    /// Input `i` as f32, or an empty slice if the step does not have it.
    ///
    /// # Safety
    /// - As of [`Args::input`], unless the address is null.
    pub unsafe fn optional<'a>(&self, i: usize, count: usize) -> &'a [f32] {
        // SAFETY: the caller's contract.
        if self.inputs[i].is_null() { &[] } else { unsafe { self.input(i, count) } }
    }

    /// Input `i` as labels.
    ///
    /// # Safety
    /// - Input `i` holds at least `count` i32, which nobody writes while the result lives.
    pub unsafe fn labels<'a>(&self, i: usize, count: usize) -> &'a [i32] {
        // SAFETY: the caller's contract; operands are aligned to 64 bytes, ports to those of i32.
        unsafe { std::slice::from_raw_parts(self.inputs[i].cast(), count) }
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
    pub isa: Isa,
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
pub(crate) fn task(step: &Step) -> Box<dyn Task> {
    match &step.kernel {
        Kernel::Fill { .. } | Kernel::Unary(_) | Kernel::Binary(_) => elementwise::task(step),
        Kernel::Copy { .. } => copy::task(step),
        Kernel::Sum { .. } | Kernel::SumSquares => reduce::task(step),
        Kernel::Linear | Kernel::ConcatLinear | Kernel::Conv2d { .. } => gemm::task(step),
        Kernel::LinearGeluSumsq | Kernel::ScaleLinearGatedAdd => gemm::task(step),
        Kernel::Conv2dWinograd { .. } => winograd::task(step),
        Kernel::Matmul => matmul::task(step),
        Kernel::Attention { .. } => attention::task(step),
        Kernel::ConvTranspose2d { .. } => conv_transpose::task(step),
        Kernel::Conv2dWeightGrad { .. } | Kernel::DwConv2dWeightGrad { .. } => weight_grad::task(step),
        Kernel::DwConv2d { .. } | Kernel::DwConvNormModulate { .. } => depthwise::task(step),
        Kernel::GrnScale { .. } | Kernel::Grn { .. } => grn::task(step),
        Kernel::GroupNorm { .. } => group_norm::task(step),
        Kernel::Modulate | Kernel::GatedAdd | Kernel::ScaleChannels => channelwise::task(step),
        Kernel::LayerNorm { .. } | Kernel::NormModulate { .. } | Kernel::Softmax => norm::task(step),
        Kernel::TimestepEmbedding | Kernel::Embedding | Kernel::OneHot => condition::task(step),
    }
}
