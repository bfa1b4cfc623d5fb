//! The machine that plans are made for: what choices between algorithms rest on. One artifact serves every CPU, so that this is a
//! machine in the middle, not the one that compiles.

use crate::winograd::Winograd;

/// What lowering knows of a machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Multiply-accumulates of f32 a second, all cores together.
    pub macs_per_second: f64,
    /// Multiply-accumulates of codes a second, by whole numbers, all cores together.
    pub code_macs_per_second: f64,
    /// Bytes a second from memory.
    pub memory_bytes_per_second: f64,
    /// Bytes a second from the outer cache.
    pub cache_bytes_per_second: f64,
    /// Which convolutions are computed by Winograd.
    pub winograd: Winograd,
}

impl Target {
    /// Two cores of an AMD Zen 3 at 3.4 GHz with AVX2, measured; convolutions by Winograd where that is faster.
    pub const CPU: Target = Target {
        macs_per_second: 110e9,
        code_macs_per_second: 150e9,
        memory_bytes_per_second: 32e9,
        cache_bytes_per_second: 99e9,
        winograd: Winograd::WhereFaster,
    };

    /// The same with another choice of convolutions.
    pub fn with_winograd(self, winograd: Winograd) -> Target {
        Target { winograd, ..self }
    }
}

impl Default for Target {
    fn default() -> Target {
        Target::CPU
    }
}
