//! What this machine can do at most, measured with the threads and the instruction set in use: multiply-accumulates on
//! registers alone, and reading memory. A step's rate says little by itself; its share of these says what is left.
//!
//! The best of many short spells counts, since a ceiling is what is possible: whoever interrupts lowers a rate, and
//! nothing raises it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::arena::{Arena, ArenaError};
use crate::kernels::part;
use crate::simd::{Isa, Simd, variants};
use crate::threads::Pool;

/// Measured rates of all threads together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ceiling {
    /// 1e9 operations a second, product and sum one each, on registers.
    pub gflops: f64,
    /// 1e9 bytes a second, read from memory.
    pub read_gb_s: f64,
}

/// Accumulators of the loop: more than latency times throughput of any CPU in reach (4 cycles, 2 a cycle), and few
/// enough for the 16 registers of AVX2.
const ACCUMULATORS: usize = 12;

/// Bytes that are read: several times the last-level cache of a desktop or a slice of a server, so that most comes from
/// memory.
const BYTES: usize = 128 << 20;

/// How long one measurement of one rate goes on.
const SPELL: Duration = Duration::from_millis(50);

/// The best rate, in units a second, of runs that do `units` each.
fn best(units: f64, mut run: impl FnMut()) -> f64 {
    let (start, mut best) = (Instant::now(), 0.0f64);
    while start.elapsed() < SPELL {
        let before = Instant::now();
        run();
        // A clock may be too coarse to have moved.
        best = best.max(units / before.elapsed().as_secs_f64().max(1e-9));
    }
    best
}

/// 1e9 operations a second on registers.
pub(super) fn gflops(pool: &mut Pool, isa: Isa) -> f64 {
    // SAFETY: no pointers.
    let lanes = unsafe { lanes(isa)() };
    // Some 100 microseconds with vectors, far above the cost of waking threads, and 2 ms without.
    let rounds = 1 << 16;
    let accumulate = accumulate(isa);
    let units = (pool.threads() * rounds * ACCUMULATORS * lanes) as f64;
    best(2.0 * units / 1e9, || {
        pool.run(&|_| {
            // SAFETY: no pointers.
            black_box(unsafe { accumulate(black_box(rounds), black_box(0.999)) });
        });
    })
}

/// 1e9 bytes a second, read from memory that is allocated for it.
///
/// # Errors
/// If there is none.
pub(super) fn read_gb_s(pool: &mut Pool, isa: Isa) -> Result<f64, ArenaError> {
    let memory = Arena::new(BYTES)?;
    let (address, threads) = (memory.as_ptr() as usize, pool.threads());
    let (count, sum) = (BYTES / 4, sum(isa));
    let range = |thread: usize| part(count / UNROLLED, thread, threads);
    let slice = |thread: usize| {
        let units = range(thread);
        let start = (address as *mut f32).wrapping_add(units.start * UNROLLED);
        (start, units.len() * UNROLLED)
    };
    // Untouched pages are all the one page of zeros, which is read from the nearest cache.
    pool.run(&|thread| {
        let (start, count) = slice(thread);
        // SAFETY: the thread's own part of the arena, and nobody else's.
        unsafe { std::slice::from_raw_parts_mut(start, count) }.fill(1.0);
    });
    Ok(best(BYTES as f64 / 1e9, || {
        pool.run(&|thread| {
            let (start, count) = slice(thread);
            // SAFETY: the thread's own part of the arena, filled above, which nobody writes any more.
            black_box(unsafe { sum(std::slice::from_raw_parts(start, count)) });
        });
    }))
}

variants! {
    /// Lanes of a vector.
    ///
    /// # Safety
    /// None.
    unsafe fn lanes() -> usize as Lanes = lanes_body
}

#[inline(always)]
unsafe fn lanes_body<S: Simd>(_: S) -> usize {
    S::LANES
}

variants! {
    /// `rounds` times a multiply-accumulate on each of [`ACCUMULATORS`] vectors, as dependent chains.
    ///
    /// # Safety
    /// None.
    unsafe fn accumulate(rounds: usize, factor: f32) -> f32 as Accumulate = accumulate_body
}

#[inline(always)]
unsafe fn accumulate_body<S: Simd>(s: S, rounds: usize, factor: f32) -> f32 {
    // With a factor below 1 the values approach summand / (1 - factor): never denormal, never infinite.
    let (factor, summand) = (s.splat(factor), s.splat(1.0));
    let mut sums = [summand; ACCUMULATORS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = s.mla(*sum, factor, summand);
        }
    }
    sums.iter().fold(0.0, |all, &sum| all + s.reduce_add(sum))
}

/// Elements that a round of [`sum`] reads: four vectors of the widest kind.
const UNROLLED: usize = 64;

variants! {
    /// The sum of `x`, for the sake of reading it.
    ///
    /// # Safety
    /// - The length of `x` is a multiple of [`UNROLLED`].
    unsafe fn sum(x: &[f32]) -> f32 as Sum = sum_body
}

#[inline(always)]
unsafe fn sum_body<S: Simd>(s: S, x: &[f32]) -> f32 {
    let mut sums = [s.splat(0.0); 4];
    for block in x.chunks_exact(UNROLLED) {
        for (i, at) in (0..UNROLLED).step_by(S::LANES).enumerate() {
            // SAFETY: LANES divides UNROLLED, the length of the block.
            let v = unsafe { s.load(block.as_ptr().add(at)) };
            sums[i % 4] = s.add(sums[i % 4], v);
        }
    }
    sums.iter().fold(0.0, |all, &sum| all + s.reduce_add(sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loops_do_what_they_are_timed_for() {
        for isa in Isa::all() {
            // SAFETY: no pointers.
            let (lanes, all) = unsafe { (lanes(isa)(), accumulate(isa)(3, 0.5)) };
            // 1, 1.5, 1.75, 1.875.
            assert_eq!(all, 1.875 * (lanes * ACCUMULATORS) as f32, "{isa}");
            let x: Vec<f32> = (0..3 * UNROLLED).map(|i| i as f32).collect();
            // SAFETY: three blocks.
            assert_eq!(unsafe { sum(isa)(&x) }, (0..3 * UNROLLED).sum::<usize>() as f32, "{isa}");
        }
    }

    #[test]
    fn rates_are_rates() {
        let mut pool = Pool::new(2).expect("threads start");
        let rates = [gflops(&mut pool, Isa::best()), read_gb_s(&mut pool, Isa::best()).expect("memory for a test")];
        assert!(rates.iter().all(|r| *r > 0.0 && r.is_finite()), "{rates:?}");
    }
}
