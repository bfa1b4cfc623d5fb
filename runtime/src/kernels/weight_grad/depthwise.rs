//! `dw[ky, kx, c] = sum over pixels of dy[p, c] x[p + tap, c]`: the taps of a row of the kernel are summed in registers, in f32 over a sample's
//! pixels, in f64 over samples.

use crate::kernels::gemm::ImageWindow;
use crate::kernels::scratch::zeroed_f64;
use crate::kernels::{Args, Needs, Task, Worker};
use crate::simd::{Isa, Simd, variants};

/// Channels of a unit of work.
const CHANNELS: usize = 64;

/// Taps that are summed together: those of a row of FCDM's kernels.
const TAPS: usize = 7;

/// See the module.
pub(super) struct Depthwise {
    window: ImageWindow,
    samples: usize,
    out_height: usize,
    run: SumTaps,
}

impl Depthwise {
    pub fn new(window: ImageWindow, samples: usize, out_height: usize, isa: Isa) -> Depthwise {
        Depthwise { window, samples, out_height, run: sum_taps(isa) }
    }
}

/// What of a sample is summed.
#[derive(Clone, Copy)]
struct Part {
    /// First channel, and how many.
    channels: [usize; 2],
    /// Row of the kernel, first tap of it, and how many.
    taps: [usize; 3],
    out_height: usize,
}

impl Task for Depthwise {
    fn needs(&self, _threads: usize) -> Needs {
        Needs { phases: 1, own: 3 * TAPS * CHANNELS, shared: 0 }
    }

    unsafe fn run(&self, _phase: usize, args: &Args, worker: &mut Worker<'_>) {
        let w = &self.window;
        let (c, [kh, kw]) = (w.channels, w.kernel);
        let (image, out) = (w.height * w.width * c, self.out_height * w.out_width * c);
        let (blocks, parts) = (c.div_ceil(CHANNELS), kw.div_ceil(TAPS));
        for unit in worker.units(kh * parts * blocks) {
            let (block, part, ky) = (unit % blocks * CHANNELS, unit / blocks % parts * TAPS, unit / blocks / parts);
            let (n, taps) = (CHANNELS.min(c - block), TAPS.min(kw - part));
            let (sums, all) = worker.own.split_at_mut(TAPS * CHANNELS);
            let all = zeroed_f64(all, taps * CHANNELS);
            let wanted = Part { channels: [block, n], taps: [ky, part, taps], out_height: self.out_height };
            for sample in 0..self.samples {
                let x = args.address(0).cast::<f32>().wrapping_add(sample * image);
                let dy = args.address(1).cast::<f32>().wrapping_add(sample * out);
                // SAFETY: the task's contract: a sample of x and of dy.
                unsafe { (self.run)(w, &wanted, x, dy, sums) };
                all.iter_mut().zip(&*sums).for_each(|(all, &sum)| *all += f64::from(sum));
            }
            for tap in 0..taps {
                let at = (ky * kw + part + tap) * c + block;
                // SAFETY: these channels of this tap are this unit's.
                let dw = unsafe { args.output_range(0, at..at + n) };
                dw.iter_mut().zip(&all[tap * CHANNELS..]).for_each(|(dw, &sum)| *dw = sum as f32);
            }
        }
    }
}

variants! {
    /// A part of the taps' sums over one sample: `[taps][64]`.
    ///
    /// # Safety
    /// - `x` and `dy` are valid for a sample, as the window and the part say; channels and taps are inside of it.
    /// - `sums` holds 7 x 64.
    unsafe fn sum_taps(w: &ImageWindow, part: &Part, x: *const f32, dy: *const f32, sums: &mut [f32]) as SumTaps = sum_taps_body
}

#[inline(always)]
unsafe fn sum_taps_body<S: Simd>(s: S, w: &ImageWindow, part: &Part, x: *const f32, dy: *const f32, sums: &mut [f32]) {
    let Part { channels: [first, n], taps: [_, _, taps], .. } = *part;
    let mut c = 0;
    while c < n {
        let lanes = S::LANES.min(n - c);
        // SAFETY: channels `c .. c + lanes` of the part's; the caller's contract.
        unsafe {
            let at = sums.as_mut_ptr().add(c);
            let (x, dy) = (x.add(first + c), dy.add(first + c));
            if taps == TAPS && lanes == S::LANES {
                vector::<S, TAPS>(s, w, part, 0, x, dy, lanes, at);
            } else {
                let mut tap = 0;
                while tap < taps {
                    vector::<S, 1>(s, w, part, tap, x, dy, lanes, at);
                    tap += 1;
                }
            }
        }
        c += lanes;
    }
}

/// T taps from `from` on, of one vector of channels.
///
/// # Safety
/// - As of [`sum_taps`], for addresses of the vector's first channel, of which `lanes` are there.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn vector<S: Simd, const T: usize>(
    s: S,
    w: &ImageWindow,
    part: &Part,
    from: usize,
    x: *const f32,
    dy: *const f32,
    lanes: usize,
    to: *mut f32,
) {
    let Part { taps: [ky, first, _], out_height, .. } = *part;
    let (first, c) = (first + from, w.channels);
    let mut sums = [s.splat(0.0); T];
    // Columns of the output of which all taps are inside of the image.
    let inside = w.left.saturating_sub(first)..(w.width + w.left + 1).saturating_sub(first + T).min(w.out_width);
    let mut oy = 0;
    while oy < out_height {
        let y = (oy + ky).wrapping_sub(w.top);
        if y < w.height {
            // SAFETY: row y of x, row oy of dy; taps outside of the image are left out; the caller's contract.
            unsafe {
                let (x, dy) = (x.add(y * w.width * c), dy.add(oy * w.out_width * c));
                let mut ox = 0;
                while ox < w.out_width {
                    let d = s.load_n(dy.add(ox * c), lanes);
                    if inside.contains(&ox) {
                        let at = x.add((ox + first - w.left) * c);
                        let mut t = 0;
                        while t < T {
                            sums[t] = s.mla(d, s.load_n(at.add(t * c), lanes), sums[t]);
                            t += 1;
                        }
                    } else {
                        let mut t = 0;
                        while t < T {
                            let at = (ox + first + t).wrapping_sub(w.left);
                            if at < w.width {
                                sums[t] = s.mla(d, s.load_n(x.add(at * c), lanes), sums[t]);
                            }
                            t += 1;
                        }
                    }
                    ox += 1;
                }
            }
        }
        oy += 1;
    }
    let mut t = 0;
    while t < T {
        // SAFETY: the caller's contract.
        unsafe { s.store_n(to.add((from + t) * CHANNELS), sums[t], lanes) };
        t += 1;
    }
}
