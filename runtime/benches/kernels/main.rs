//! Every family of kernels at the sizes that FCDM-S and FCDM-XL have at 32x32, one step at a time: for comparing a
//! kernel with its former self. What a whole evaluation takes is `fcdm bench`'s to say.
//!
//! `cargo bench -p fcdm-runtime -- linear` runs the benchmarks whose name contains `linear`; `FCDM_ISA` chooses the
//! instruction set and `FCDM_THREADS` the number of threads. Rates are floating-point operations a second, two for a
//! multiply-accumulate, under the unit `elem/s`; for kernels without products bytes a second. Weights and values stay the
//! same from run to run, so that what fits is in the caches, unlike in the midst of a network.

mod convolution;
mod one_step;
mod pixelwise;
mod pool;
mod product;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    kernels,
    product::linear,
    product::fused,
    convolution::conv3x3,
    convolution::decoder,
    pixelwise::group_norm,
    product::attention,
    convolution::depthwise,
    pixelwise::activations,
    pixelwise::norms,
    pixelwise::grn,
    pixelwise::copies,
    pool::hand_over,
);
criterion_main!(kernels);
