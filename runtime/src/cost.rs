//! What a step costs, counted from its shapes: the yardstick of profiles, and of whether a step is worth sharing out
//! among threads.
//!
//! Products count as they are written down: what a convolution multiplies with its padding counts, as in the figures of
//! the literature, and an algorithm that needs fewer products (Winograd's) keeps the count of the formula it computes.
//! Rates over these counts are therefore comparable between algorithms and between engines.

use crate::plan::{Kernel, Operand, PANEL, Step};

/// Work and traffic of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Multiply-accumulates of products and convolutions; a floating-point operation each for product and sum, so
    /// that FLOPs are twice this. What is done once an element, an activation for instance, does not count.
    pub macs: u64,
    /// Bytes of all operands, each read or written once: the least that has to move. How often a kernel reads them
    /// again, and from which cache, is its own affair.
    pub bytes: u64,
}

impl std::ops::Add for Cost {
    type Output = Cost;

    fn add(self, other: Cost) -> Cost {
        Cost { macs: self.macs.saturating_add(other.macs), bytes: self.bytes.saturating_add(other.bytes) }
    }
}

impl Cost {
    /// Of a step that [`crate::check`] has passed; one that it has not may panic here.
    pub fn of(step: &Step) -> Cost {
        Cost { macs: macs(step), bytes: bytes(step) }
    }
}

fn macs(step: &Step) -> u64 {
    let (x, y) = (&step.inputs, &step.outputs);
    let per_output = |n: usize| y[0].count().saturating_mul(n);
    if let Some(w) = step.kernel.packed_weights() {
        return per_output(depth(&x[w])) as u64;
    }
    let macs = match &step.kernel {
        Kernel::Matmul => per_output(x[0].shape[2]),
        Kernel::Attention { .. } => pixels(&x[0]).saturating_mul(x[1].shape[1]).saturating_mul(x[0].shape[2] + x[2].shape[2]),
        // Every element of the kernel meets every pixel of the smaller side.
        Kernel::ConvTranspose2d { .. } => pixels(&x[0]).saturating_mul(x[1].count()),
        Kernel::Conv2dWeightGrad { .. } | Kernel::DwConv2dWeightGrad { .. } => per_output(pixels(&x[1])),
        Kernel::DwConv2d { .. } | Kernel::DwConvNormModulate { .. } => per_output(x[1].shape[0] * x[1].shape[1]),
        _ => 0,
    };
    macs as u64
}

/// All of the operands, but for what reads or writes parts of them.
fn bytes(step: &Step) -> u64 {
    let all = || step.inputs.iter().chain(&step.outputs).map(size).fold(0, u64::saturating_add);
    match &step.kernel {
        Kernel::Copy { extents, .. } => {
            let moved = extents.iter().fold(1, |n: u64, &e| n.saturating_mul(e as u64));
            moved.saturating_mul(width(&step.inputs[0]) + width(&step.outputs[0]))
        }
        // The rows that are looked up, not the table.
        Kernel::Embedding => size(&step.outputs[0]).saturating_mul(2).saturating_add(size(&step.inputs[1])),
        _ => all(),
    }
}

fn size(operand: &Operand) -> u64 {
    (operand.count() as u64).saturating_mul(width(operand))
}

/// K of packed weights, zeros that fill up a pair counted.
fn depth(packed: &Operand) -> usize {
    packed.count() / packed.shape[0] / PANEL
}

/// Bytes of an element.
fn width(operand: &Operand) -> u64 {
    operand.dtype.bytes() as u64
}

/// Product of all extents but the last.
fn pixels(operand: &Operand) -> usize {
    operand.shape.split_last().map_or(1, |(_, rest)| rest.iter().product())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{packed, step};
    use crate::plan::{Epilogue, Rearrange};

    fn check(kernel: Kernel, inputs: &[&[usize]], outputs: &[&[usize]], macs: u64, bytes: u64) {
        assert_eq!(Cost::of(&step(kernel.clone(), inputs, outputs)), Cost { macs, bytes }, "{kernel:?}");
    }

    #[test]
    fn products_count_what_their_formula_says() {
        let w = packed(40, 24);
        check(Kernel::Linear, &[&[6, 24], &w, &[40]], &[&[6, 40]], 6 * 24 * 40, 4 * (6 * 24 + 48 * 24 + 40 + 6 * 40));
        let (x, y) = ([2, 5, 5, 3], [2, 5, 5, 40]);
        let conv = Kernel::Conv2d { kernel: [3, 3], stride: 1, pad: [1; 4], upsample: 1, epilogue: Epilogue::NONE, then: Rearrange::Keep };
        check(conv, &[&x, &packed(40, 27)], &[&y], 50 * 27 * 40, 4 * (150 + 48 * 27 + 2000));
        let winograd = Kernel::Conv2dWinograd { pad: [1; 4], upsample: 1, epilogue: Epilogue::NONE, then: Rearrange::Keep };
        check(winograd, &[&x, &packed(40, 27)], &[&y], 50 * 27 * 40, 4 * (150 + 48 * 27 + 2000));
        // Stride 2: 9 taps for each of the 4 pixels of x, whatever the size of y.
        let transposed = Kernel::ConvTranspose2d { stride: 2, pad: [0; 4] };
        check(transposed, &[&[1, 2, 2, 8], &[8, 3, 3, 4]], &[&[1, 5, 5, 4]], 4 * 8 * 9 * 4, 4 * (32 + 288 + 100));
        let depthwise = Kernel::DwConv2d { pad: 3 };
        check(depthwise, &[&[1, 4, 4, 8], &[7, 7, 8]], &[&[1, 4, 4, 8]], 16 * 8 * 49, 4 * (128 + 392 + 128));
        let (a, b) = ([2, 3, 4], [2, 4, 5]);
        check(Kernel::Matmul, &[&a, &b], &[&[2, 3, 5]], 2 * 3 * 4 * 5, 4 * (24 + 40 + 30));
    }

    #[test]
    fn parts_of_operands_count_as_parts() {
        let copy = Kernel::Copy { extents: vec![3, 2], from: 0, x_strides: vec![8, 1], to: 4, y_strides: vec![6, 1] };
        check(copy, &[&[4, 8]], &[&[3, 6]], 0, 4 * 6 * 2);
        check(Kernel::Embedding, &[&[1001, 16], &[2]], &[&[2, 16]], 0, 4 * (32 + 32 + 2));
        check(Kernel::SumSquares, &[&[1, 4, 4, 8]], &[&[1, 8]], 0, 4 * (128 + 8));
    }
}
