//! What a step costs, counted from its shapes: the yardstick of profiles, and of whether a step is worth sharing out
//! among threads.
//!
//! Products count as they are written down: what a convolution multiplies with its padding counts, as in the figures of
//! the literature, and an algorithm that needs fewer products (Winograd's) keeps the count of the formula it computes.
//! Rates over these counts are therefore comparable between algorithms and between engines.

use crate::plan::{Form, Operand, Step};

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
        step.kernel.cost(&step.inputs, &step.outputs)
    }

    /// Of a kernel that multiplies and adds so often, and reads and writes all of its operands.
    pub(crate) fn whole(macs: usize, x: &[Operand], y: &[Operand]) -> Cost {
        Cost { macs: macs as u64, bytes: x.iter().chain(y).map(size).fold(0, u64::saturating_add) }
    }
}

/// Bytes of an operand's elements; of an encoded one, of all its parts.
pub(crate) fn size(operand: &Operand) -> u64 {
    match (operand.form, operand.matrix()) {
        (Form::Encoded(encoding), Some(m)) => encoding.parts(m).iter().map(|part| part.bytes() as u64).sum(),
        (Form::Dense(element), _) => (operand.count() as u64).saturating_mul(element.bytes() as u64),
        (Form::Encoded(_), None) => 0,
    }
}

/// Product of all extents but the last.
pub(crate) fn pixels(operand: &Operand) -> usize {
    operand.shape.split_last().map_or(1, |(_, rest)| rest.iter().product())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::step;
    use crate::kernels::{Algorithm, ConvTranspose2d, Copy, DwConv2d, Embedding, Kernel, Matmul, Product, SumSquares, Window};

    fn check(kernel: impl Into<Kernel>, inputs: &[&[usize]], outputs: &[&[usize]], macs: u64, bytes: u64) {
        let step = step(kernel, inputs, outputs);
        assert_eq!(Cost::of(&step), Cost { macs, bytes }, "{:?}", step.kernel);
    }

    #[test]
    fn products_count_what_their_formula_says() {
        let w = [40, 1, 24];
        check(Product::linear(), &[&[6, 24], &w, &[40]], &[&[6, 40]], 6 * 24 * 40, 4 * (6 * 24 + 48 * 24 + 40 + 6 * 40));
        let (x, y) = ([2, 5, 5, 3], [2, 5, 5, 40]);
        let conv = Product::conv2d(Window { pad: [1; 4], ..Window::square(3) });
        check(conv.clone(), &[&x, &[40, 9, 3]], &[&y], 50 * 27 * 40, 4 * (150 + 48 * 27 + 2000));
        let winograd = Product { algorithm: Algorithm::Winograd, ..conv };
        check(winograd, &[&x, &[40, 9, 3]], &[&y], 50 * 27 * 40, 4 * (150 + 48 * 27 + 2000));
        // Stride 2: 9 taps for each of the 4 pixels of x, whatever the size of y.
        let transposed = ConvTranspose2d { stride: 2, pad: [0; 4] };
        check(transposed, &[&[1, 2, 2, 8], &[8, 3, 3, 4]], &[&[1, 5, 5, 4]], 4 * 8 * 9 * 4, 4 * (32 + 288 + 100));
        check(DwConv2d { pad: 3 }, &[&[1, 4, 4, 8], &[7, 7, 8]], &[&[1, 4, 4, 8]], 16 * 8 * 49, 4 * (128 + 392 + 128));
        let (a, b) = ([2, 3, 4], [2, 4, 5]);
        check(Matmul {}, &[&a, &b], &[&[2, 3, 5]], 2 * 3 * 4 * 5, 4 * (24 + 40 + 30));
    }

    #[test]
    fn parts_of_operands_count_as_parts() {
        let copy = Copy { extents: vec![3, 2], from: 0, x_strides: vec![8, 1], to: 4, y_strides: vec![6, 1] };
        check(copy, &[&[4, 8]], &[&[3, 6]], 0, 4 * 6 * 2);
        check(Embedding {}, &[&[1001, 16], &[2]], &[&[2, 16]], 0, 4 * (32 + 32 + 2));
        check(SumSquares {}, &[&[1, 4, 4, 8]], &[&[1, 8]], 0, 4 * (128 + 8));
    }
}
