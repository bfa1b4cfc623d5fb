//! The three transforms of F(4x4, 3x3): a tile of 6x6 pixels and a kernel of 3x3 become 36 values each, whose
//! products become 4x4 outputs. `y = A^T [(G g G^T) * (B^T d B)] A`: 36 multiplications in place of 144.
//!
//! A tile's row is multiplied by a row of the kernel as polynomials are: by their values at [`A`]'s and [`B`]'s points
//! 0, a, -a, b, -b and infinity, in this order. Points decide how much rounding is amplified. Measured against f64
//! over 256 normally distributed channels, relative L2 error: 3.2e-6 for the textbook's (1, 2), 1.5e-6 for
//! (sqrt(1/2), sqrt(2)), 1.4e-6 for (5/8, 3/2), whose matrices but for G are exact in f32. That was with weights transformed in
//! f64; in f32, as here, it is 3 % more. Pairs of opposite points share their even and odd parts.

use std::ops::Range;

use crate::encoding::{At, EncodingDef, Parts, encodings, of_encoding};
use crate::kernels::Activation;
use crate::kernels::gemm::destination::Destination;
use crate::kernels::gemm::epilogue::activate;
use crate::plan::PANEL;
use crate::simd::{Simd, variants};

/// The inner pair of points is `A` and `-A`.
const A: f32 = 0.625;
/// The outer pair of points is `B` and `-B`.
const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;

/// Taps of a kernel's edge.
pub(super) const TAPS: usize = 3;
/// Pixels of a tile's edge, which are also the points of one direction.
pub(super) const EDGE: usize = 6;
/// Points of both directions: products a tile.
pub(super) const POINTS: usize = EDGE * EDGE;
/// Outputs of a tile's edge.
pub(super) const STEP: usize = 4;

/// `G g`: a kernel's row, divided by the point's product of differences to the others, at each point.
#[inline(always)]
fn kernel_row<S: Simd>(s: S, g: [S::V; TAPS]) -> [S::V; EDGE] {
    const ZERO: f64 = 1.0 / (A2 as f64 * B2 as f64);
    const NEAR: f64 = 1.0 / (2.0 * A2 as f64 * (A2 as f64 - B2 as f64));
    const FAR: f64 = 1.0 / (2.0 * B2 as f64 * (B2 as f64 - A2 as f64));
    const ODD: [f32; 2] = [(NEAR * A as f64) as f32, (FAR * B as f64) as f32];
    const EVEN: [f32; 2] = [(NEAR * A2 as f64) as f32, (FAR * B2 as f64) as f32];
    let k = |x: f32| s.splat(x);
    let even_a = s.mla(k(EVEN[0]), g[2], s.mul(k(NEAR as f32), g[0]));
    let even_b = s.mla(k(EVEN[1]), g[2], s.mul(k(FAR as f32), g[0]));
    [
        s.mul(k(ZERO as f32), g[0]),
        s.mla(k(ODD[0]), g[1], even_a),
        s.mla(k(-ODD[0]), g[1], even_a),
        s.mla(k(ODD[1]), g[1], even_b),
        s.mla(k(-ODD[1]), g[1], even_b),
        g[2],
    ]
}

variants! {
    /// `G g G^T` of some input channels of a panel: the 16 values of point `p` and the k-th of them go to `u[p * step + 16 * k]`.
    ///
    /// # Safety
    /// - The panel has those channels, and `u` is valid for writes at those places.
    pub(super) unsafe fn kernel_panel(weights: &Parts, panel: usize, channels: Range<usize>, u: *mut f32, step: usize) as KernelPanel =
        kernel_panel_body
}

#[inline(always)]
unsafe fn kernel_panel_body<S: Simd>(s: S, weights: &Parts, panel: usize, channels: Range<usize>, u: *mut f32, step: usize) {
    // SAFETY: the caller's contract.
    encodings! { of_encoding { (weights.encoding) E => unsafe { kernel_lines::<S, E>(s, weights, panel, channels, u, step) }; } }
}

#[inline(always)]
unsafe fn kernel_lines<S: Simd, E: EncodingDef>(s: S, weights: &Parts, panel: usize, channels: Range<usize>, u: *mut f32, step: usize) {
    for (k, c) in channels.enumerate() {
        for j in (0..PANEL).step_by(S::LANES) {
            let mut rows = [[s.splat(0.0); EDGE]; TAPS];
            for (y, row) in rows.iter_mut().enumerate() {
                let mut g = [s.splat(0.0); TAPS];
                for (x, g) in g.iter_mut().enumerate() {
                    // SAFETY: channel c of a tap of the panel.
                    *g = unsafe { E::lanes(s, weights, At { panel, tap: TAPS * y + x, channel: c }, j) };
                }
                *row = kernel_row(s, g);
            }
            let [top, middle, bottom] = rows;
            for (x, ((&a, &b), &c)) in top.iter().zip(&middle).zip(&bottom).enumerate() {
                let column = kernel_row(s, [a, b, c]);
                for (y, &value) in column.iter().enumerate() {
                    // SAFETY: the caller's contract.
                    unsafe { s.store(u.add((y * EDGE + x) * step + k * PANEL + j), value) };
                }
            }
        }
    }
}

/// `B^T d`: the product over the other points `p` of `(x - p)`, as a polynomial whose powers of x are d's elements.
#[inline(always)]
fn input_row<S: Simd>(s: S, d: [S::V; EDGE]) -> [S::V; EDGE] {
    let k = |x: f32| s.splat(x);
    let even_a = s.mla(k(-B2), d[2], d[4]);
    let odd_a = s.mla(k(-B2), d[1], d[3]);
    let even_b = s.mla(k(-A2), d[2], d[4]);
    let odd_b = s.mla(k(-A2), d[1], d[3]);
    let ends = |i: usize| s.mla(k(A2 * B2), d[i], s.mla(k(-A2 - B2), d[i + 2], d[i + 4]));
    [ends(0), s.mla(k(A), odd_a, even_a), s.mla(k(-A), odd_a, even_a), s.mla(k(B), odd_b, even_b), s.mla(k(-B), odd_b, even_b), ends(1)]
}

/// `A^T m`: the sum over points `p` of `p^i m`, for every output `i`; at infinity only the highest power is there.
#[inline(always)]
fn output_row<S: Simd>(s: S, m: [S::V; EDGE]) -> [S::V; STEP] {
    let k = |x: f32| s.splat(x);
    let (even_a, odd_a) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
    let (even_b, odd_b) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
    [
        s.add(m[0], s.add(even_a, even_b)),
        s.mla(k(A), odd_a, s.mul(k(B), odd_b)),
        s.mla(k(A2), even_a, s.mul(k(B2), even_b)),
        s.add(m[5], s.mla(k(A2 * A), odd_a, s.mul(k(B2 * B), odd_b))),
    ]
}

/// A tile's pixels, row by row, at their first channel; null outside of the image, where they are zero.
pub(super) type Pixels = [*const f32; POINTS];

variants! {
    /// `B^T d B` of channels `from .. to` of a tile: the value of point `p` and channel `c` goes to `v[p * step + c]`.
    ///
    /// # Safety
    /// - Every pixel is null or valid for reads of `to` elements, and `v` for writes at those places.
    pub(super) unsafe fn input_tile(pixels: &Pixels, from: usize, to: usize, v: *mut f32, step: usize) as InputTile = input_tile_body
}

/// One cache line at a time: where pixels are a power of two apart their lines share a few cache sets, and half a line would
/// have to be fetched twice.
#[inline(always)]
unsafe fn input_tile_body<S: Simd>(s: S, pixels: &Pixels, from: usize, to: usize, v: *mut f32, step: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        match S::LANES {
            4 => input_lines::<S, 4>(s, pixels, from, to, v, step),
            8 => input_lines::<S, 2>(s, pixels, from, to, v, step),
            _ => input_lines::<S, 1>(s, pixels, from, to, v, step),
        }
    }
}

/// W vectors at a time.
///
/// # Safety
/// - As of [`input_tile`].
#[inline(always)]
unsafe fn input_lines<S: Simd, const W: usize>(s: S, pixels: &Pixels, from: usize, to: usize, v: *mut f32, step: usize) {
    let lanes = |c: usize| std::array::from_fn::<usize, W, _>(|w| S::LANES.min(to.saturating_sub(c + w * S::LANES)));
    for c in (from..to).step_by(W * S::LANES) {
        let n = lanes(c);
        let mut columns = [[[s.splat(0.0); W]; EDGE]; EDGE];
        for x in 0..EDGE {
            let mut d = [[s.splat(0.0); EDGE]; W];
            for y in 0..EDGE {
                let pixel = pixels[y * EDGE + x];
                if !pixel.is_null() {
                    for (w, (d, &n)) in d.iter_mut().zip(&n).enumerate() {
                        // SAFETY: n elements below `to`, or none.
                        d[y] = unsafe { s.load_n(pixel.wrapping_add(c + w * S::LANES), n) };
                    }
                }
            }
            for (w, d) in d.into_iter().enumerate() {
                for (y, value) in input_row(s, d).into_iter().enumerate() {
                    columns[y][x][w] = value;
                }
            }
        }
        for (y, row) in columns.iter().enumerate() {
            for (w, &n) in n.iter().enumerate() {
                for (x, value) in input_row(s, row.map(|d| d[w])).into_iter().enumerate() {
                    let at = (y * EDGE + x) * step + c + w * S::LANES;
                    // SAFETY: as for the load.
                    unsafe { s.store_n(v.wrapping_add(at), value, n) };
                }
            }
        }
    }
}

/// Where the outputs of a tile go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outputs {
    /// The output of the convolution, and which element of it a pixel and a channel are.
    pub y: *mut f32,
    pub destination: Destination,
    /// Where the tile's outputs are, row by row, at channel 0; of those inside of the image.
    pub at: [usize; STEP * STEP],
    /// Rows and columns inside of the image, at most 4 each.
    pub height: usize,
    pub width: usize,
    /// The group's first channel, and how many it has, at most 32.
    pub channel: usize,
    pub channels: usize,
    /// Bias of the group's first channel, or null.
    pub bias: *const f32,
    /// What is added, laid out as y is, which is then not rearranged; or null.
    pub residual: *const f32,
    /// After that.
    pub activation: Activation,
}

variants! {
    /// `A^T m A` plus bias and residual, activated, of a group's channels of a tile; point `p` is at `m[p * step]`, 32 channels.
    ///
    /// # Safety
    /// - `m` and the outputs' addresses are valid for their extents, `m` for 16 elements more behind every point's; nobody
    ///   else accesses those outputs.
    pub(super) unsafe fn output_tile(m: *const f32, step: usize, out: &Outputs) as OutputTile = output_tile_body
}

#[inline(always)]
unsafe fn output_tile_body<S: Simd>(s: S, m: *const f32, step: usize, out: &Outputs) {
    let mut j = 0;
    while j < out.channels {
        let n = S::LANES.min(out.channels - j).min(out.destination.run(out.channel + j));
        let first = out.destination.at(0, out.channel + j);
        let mut columns = [[s.splat(0.0); STEP]; EDGE];
        for (x, transformed) in columns.iter_mut().enumerate() {
            let mut column = [s.splat(0.0); EDGE];
            for (y, value) in column.iter_mut().enumerate() {
                // SAFETY: LANES of the 32 channels of a point, or of what is behind them.
                *value = unsafe { s.load(m.add((y * EDGE + x) * step + j)) };
            }
            *transformed = output_row(s, column);
        }
        // SAFETY: n channels from j on exist.
        let bias = if out.bias.is_null() { s.splat(0.0) } else { unsafe { s.load_n(out.bias.add(j), n) } };
        for y in 0..out.height {
            for (x, value) in output_row(s, columns.map(|c| c[y])).into_iter().enumerate().take(out.width) {
                let at = out.at[y * STEP + x] + first;
                // SAFETY: an output inside of the image, its channels j .. j + n.
                unsafe {
                    let v = s.add(value, bias);
                    let v = if out.residual.is_null() { v } else { s.add(v, s.load_n(out.residual.add(at), n)) };
                    out.destination.store(s, out.y.add(at), activate(s, out.activation, v), n);
                }
            }
        }
        j += n;
    }
}
