//! The three transforms of F(4x4, 3x3): a tile of 6x6 pixels and a kernel of 3x3 become 36 values each, whose
//! products become 4x4 outputs. `y = A^T [(G g G^T) * (B^T d B)] A`: 36 multiplications in place of 144. With the same points
//! they become the 5x5 outputs of a kernel of 2x2, F(5x5, 2x2), which is what one phase of an enlarged image asks for
//! ([`phase_taps`]): 36 in place of 100, or of the 225 that the enlarged image would take.
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
/// Outputs of a tile's edge: pixels and taps are one more, together.
pub(super) const STEP: usize = EDGE + 1 - TAPS;
/// Taps of a phase's edge.
const PHASE_TAPS: usize = 2;
/// Outputs of a tile's edge in one phase.
pub(super) const PHASE_STEP: usize = EDGE + 1 - PHASE_TAPS;

/// Which of the outputs of an image enlarged to twice its size: those with this row and column, modulo 2, counted from where the
/// window begins on a pixel's first copy.
pub(super) type Phase = [usize; 2];

/// A row of the kernel as one phase sees it: where the window begins on a pixel's first copy, its first two taps see the same
/// pixel; where it begins on the second, the last two.
#[inline(always)]
fn phase_taps<S: Simd>(s: S, g: [S::V; TAPS], phase: usize) -> [S::V; PHASE_TAPS] {
    if phase == 0 { [s.add(g[0], g[1]), g[2]] } else { [g[0], s.add(g[1], g[2])] }
}

/// `G g`: a kernel's row, divided by the point's product of differences to the others, at each point.
#[inline(always)]
fn kernel_row<S: Simd, const N: usize>(s: S, g: [S::V; N]) -> [S::V; EDGE] {
    const ZERO: f64 = 1.0 / (A2 as f64 * B2 as f64);
    const NEAR: f64 = 1.0 / (2.0 * A2 as f64 * (A2 as f64 - B2 as f64));
    const FAR: f64 = 1.0 / (2.0 * B2 as f64 * (B2 as f64 - A2 as f64));
    const ODD: [f32; 2] = [(NEAR * A as f64) as f32, (FAR * B as f64) as f32];
    const EVEN: [f32; 2] = [(NEAR * A2 as f64) as f32, (FAR * B2 as f64) as f32];
    let k = |x: f32| s.splat(x);
    let (mut even_a, mut even_b) = (s.mul(k(NEAR as f32), g[0]), s.mul(k(FAR as f32), g[0]));
    if N == TAPS {
        (even_a, even_b) = (s.mla(k(EVEN[0]), g[2], even_a), s.mla(k(EVEN[1]), g[2], even_b));
    }
    [
        s.mul(k(ZERO as f32), g[0]),
        s.mla(k(ODD[0]), g[1], even_a),
        s.mla(k(-ODD[0]), g[1], even_a),
        s.mla(k(ODD[1]), g[1], even_b),
        s.mla(k(-ODD[1]), g[1], even_b),
        g[N - 1],
    ]
}

variants! {
    /// `G g G^T` of some input channels of a panel, of its kernels or of one phase of them: the 16 values of point `p` and the k-th
    /// channel go to `u[p * step + 16 * k]`.
    ///
    /// # Safety
    /// - The panel has those channels, and `u` is valid for writes at those places.
    pub(super) unsafe fn kernel_panel(weights: &Parts, panel: usize, phase: Option<Phase>, channels: Range<usize>, u: *mut f32, step: usize)
        as KernelPanel = kernel_panel_body
}

#[inline(always)]
unsafe fn kernel_panel_body<S: Simd>(
    s: S,
    weights: &Parts,
    panel: usize,
    phase: Option<Phase>,
    channels: Range<usize>,
    u: *mut f32,
    step: usize,
) {
    // SAFETY: the caller's contract.
    encodings! { of_encoding { (weights.encoding) E => unsafe { kernel_lines::<S, E>(s, weights, panel, phase, channels, u, step) }; } }
}

#[inline(always)]
unsafe fn kernel_lines<S: Simd, E: EncodingDef>(
    s: S,
    weights: &Parts,
    panel: usize,
    phase: Option<Phase>,
    channels: Range<usize>,
    u: *mut f32,
    step: usize,
) {
    for (k, c) in channels.enumerate() {
        for j in (0..PANEL).step_by(S::LANES) {
            let mut kernel = [[s.splat(0.0); TAPS]; TAPS];
            for (tap, g) in kernel.as_flattened_mut().iter_mut().enumerate() {
                // SAFETY: channel c of a tap of the panel.
                *g = unsafe { E::lanes(s, weights, At { panel, tap, channel: c }, j) };
            }
            // SAFETY: the caller's contract.
            unsafe {
                let u = u.add(k * PANEL + j);
                match phase {
                    None => kernel_points(s, kernel, u, step),
                    Some(phase) => kernel_points(s, kernel_of_phase(s, kernel, phase), u, step),
                }
            }
        }
    }
}

#[inline(always)]
fn kernel_of_phase<S: Simd>(s: S, kernel: [[S::V; TAPS]; TAPS], [y, x]: Phase) -> [[S::V; PHASE_TAPS]; PHASE_TAPS] {
    let mut phase = [[s.splat(0.0); PHASE_TAPS]; PHASE_TAPS];
    let [top, middle, bottom] = kernel;
    let rows = [phase_taps(s, top, x), phase_taps(s, middle, x), phase_taps(s, bottom, x)];
    for i in 0..PHASE_TAPS {
        let column = phase_taps(s, [rows[0][i], rows[1][i], rows[2][i]], y);
        for j in 0..PHASE_TAPS {
            phase[j][i] = column[j];
        }
    }
    phase
}

/// # Safety
/// - `u` is valid for writes of a vector at every point.
#[inline(always)]
unsafe fn kernel_points<S: Simd, const N: usize>(s: S, kernel: [[S::V; N]; N], u: *mut f32, step: usize) {
    let mut columns = [[s.splat(0.0); N]; EDGE];
    for (y, row) in kernel.into_iter().enumerate() {
        for (column, value) in columns.iter_mut().zip(kernel_row(s, row)) {
            column[y] = value;
        }
    }
    for (x, column) in columns.into_iter().enumerate() {
        for (y, value) in kernel_row(s, column).into_iter().enumerate() {
            // SAFETY: the caller's contract.
            unsafe { s.store(u.add((y * EDGE + x) * step), value) };
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
fn output_row<S: Simd, const N: usize>(s: S, m: [S::V; EDGE]) -> [S::V; N] {
    const POWERS: [[f32; 2]; PHASE_STEP] = [[1.0, 1.0], [A, B], [A2, B2], [A2 * A, B2 * B], [A2 * A2, B2 * B2]];
    let even = [s.add(m[1], m[2]), s.add(m[3], m[4])];
    let odd = [s.sub(m[1], m[2]), s.sub(m[3], m[4])];
    let mut y = [s.splat(0.0); N];
    y[0] = s.add(m[0], s.add(even[0], even[1]));
    for i in 1..N {
        let [a, b] = if i % 2 == 0 { even } else { odd };
        y[i] = s.mla(s.splat(POWERS[i][0]), a, s.mul(s.splat(POWERS[i][1]), b));
    }
    y[N - 1] = s.add(m[EDGE - 1], y[N - 1]);
    y
}

/// A tile's pixels, row by row, at their first channel; null outside of the image, where they are zero.
pub(super) type Pixels = [*const f32; POINTS];

variants! {
    /// `B^T d B` of channels `from .. to` of a tile: the value of point `p` and channel `c` goes to `v[p * step + c]`. Of the `next`
    /// tile, what this one does not see is fetched meanwhile.
    ///
    /// # Safety
    /// - Every pixel is null or valid for reads of `to` elements, and `v` for writes at those places.
    pub(super) unsafe fn input_tile(pixels: &Pixels, next: &Pixels, from: usize, to: usize, v: *mut f32, step: usize) as InputTile = input_tile_body
}

/// One cache line at a time: where pixels are a power of two apart their lines share a few cache sets, and half a line would
/// have to be fetched twice.
#[inline(always)]
unsafe fn input_tile_body<S: Simd>(s: S, pixels: &Pixels, next: &Pixels, from: usize, to: usize, v: *mut f32, step: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        match S::LANES {
            4 => input_lines::<S, 4>(s, pixels, next, from, to, v, step),
            8 => input_lines::<S, 2>(s, pixels, next, from, to, v, step),
            _ => input_lines::<S, 1>(s, pixels, next, from, to, v, step),
        }
    }
}

/// W vectors at a time.
///
/// # Safety
/// - As of [`input_tile`].
#[inline(always)]
unsafe fn input_lines<S: Simd, const W: usize>(s: S, pixels: &Pixels, next: &Pixels, from: usize, to: usize, v: *mut f32, step: usize) {
    let lanes = |c: usize| std::array::from_fn::<usize, W, _>(|w| S::LANES.min(to.saturating_sub(c + w * S::LANES)));
    for c in (from..to).step_by(W * S::LANES) {
        let n = lanes(c);
        let mut columns = [[[s.splat(0.0); W]; EDGE]; EDGE];
        for (x, column) in columns.iter_mut().enumerate() {
            let mut d = [[s.splat(0.0); EDGE]; W];
            for y in 0..EDGE {
                let p = y * EDGE + x;
                // Stores wait for their lines one by one, prefetches for many at a time.
                s.prefetch(v.wrapping_add(p * step + c + W * S::LANES));
                if x > 0 {
                    s.prefetch(next[p].wrapping_add(c));
                }
                let pixel = pixels[p];
                if !pixel.is_null() {
                    for (w, (d, &n)) in d.iter_mut().zip(&n).enumerate() {
                        // SAFETY: n elements below `to`, or none.
                        d[y] = unsafe { s.load_n(pixel.wrapping_add(c + w * S::LANES), n) };
                    }
                }
            }
            for (w, d) in d.into_iter().enumerate() {
                for (values, value) in column.iter_mut().zip(input_row(s, d)) {
                    values[w] = value;
                }
            }
        }
        for y in 0..EDGE {
            for (w, &n) in n.iter().enumerate() {
                let mut d = [s.splat(0.0); EDGE];
                for (d, column) in d.iter_mut().zip(&columns) {
                    *d = column[y][w];
                }
                for (x, value) in input_row(s, d).into_iter().enumerate() {
                    let at = (y * EDGE + x) * step + c + w * S::LANES;
                    // SAFETY: as for the load.
                    unsafe { s.store_n(v.wrapping_add(at), value, n) };
                }
            }
        }
    }
}

/// Where the outputs of a tile go.
#[derive(Clone, Debug)]
pub(super) struct Outputs {
    /// The output of the convolution, and which element of it a pixel and a channel are.
    pub y: *mut f32,
    pub destination: Destination,
    /// Outputs of the tile's edge: [`STEP`] or [`PHASE_STEP`].
    pub edge: usize,
    /// Rows and columns inside of the image.
    pub rows: Range<usize>,
    pub columns: Range<usize>,
    /// Where they are at channel 0.
    pub at: [[usize; PHASE_STEP]; PHASE_STEP],
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

impl Outputs {
    /// Has the caches fetch what is written, and what is added to it: two lines an output, if channels are not rearranged.
    #[inline(always)]
    fn fetch<S: Simd>(&self, s: S) {
        for y in self.rows.clone() {
            for x in self.columns.clone() {
                let at = self.at[y][x] + self.channel;
                for line in [at, at + PANEL] {
                    s.prefetch(self.y.wrapping_add(line));
                    if !self.residual.is_null() {
                        s.prefetch(self.residual.wrapping_add(line));
                    }
                }
            }
        }
    }
}

variants! {
    /// `A^T m A` plus bias and residual, activated, of a group's channels of a tile; point `p` is at `m[p * step]`, 32 channels. The
    /// places of the `next` tile's are fetched meanwhile.
    ///
    /// # Safety
    /// - `m` and the outputs' addresses are valid for their extents, `m` for 16 elements more behind every point's; nobody
    ///   else accesses those outputs.
    pub(super) unsafe fn output_tile(m: *const f32, step: usize, out: &Outputs, next: &Outputs) as OutputTile = output_tile_body
}

#[inline(always)]
unsafe fn output_tile_body<S: Simd>(s: S, m: *const f32, step: usize, out: &Outputs, next: &Outputs) {
    next.fetch(s);
    // SAFETY: the caller's contract.
    unsafe {
        match out.edge {
            STEP => output_lines::<S, STEP>(s, m, step, out),
            _ => output_lines::<S, PHASE_STEP>(s, m, step, out),
        }
    }
}

/// # Safety
/// - As of [`output_tile`].
#[inline(always)]
unsafe fn output_lines<S: Simd, const N: usize>(s: S, m: *const f32, step: usize, out: &Outputs) {
    let mut j = 0;
    while j < out.channels {
        let n = S::LANES.min(out.channels - j).min(out.destination.run(out.channel + j));
        let first = out.destination.at(0, out.channel + j);
        let mut columns = [[s.splat(0.0); N]; EDGE];
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
        for y in out.rows.clone() {
            let mut transformed = [s.splat(0.0); EDGE];
            for (value, column) in transformed.iter_mut().zip(&columns) {
                *value = column[y];
            }
            let row: [S::V; N] = output_row(s, transformed);
            for x in out.columns.clone() {
                let (at, value) = (out.at[y][x] + first, row[x]);
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
