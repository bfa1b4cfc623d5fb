//! Stepping a sampler allocates nothing, and its making what it says.

#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use fcdm_runtime::sampler::{DiffusionForm, LastStep, Layout, Method, PictureNoise, Sampler, Solver, initial_state};
use fcdm_runtime::schedule::Spacing;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);

/// Bytes that a sampler allocates besides its buffers, at the most: the thousand training steps, more than once.
const SCHEDULE: usize = 1 << 17;

// SAFETY: every call is passed to `System` unchanged; the counter touches no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Memory) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Memory) {
        // SAFETY: the caller keeps `dealloc`'s contract, and `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn steps_allocate_nothing() {
    let spacing = Spacing::Even(4);
    let sde = |solver| Method::Sde { steps: 4, solver, form: DiffusionForm::Sbdm, norm: 1.0, last: LastStep::Mean, last_size: 0.04 };
    let methods = [
        (Method::Ddpm { spacing }, 8),
        (Method::Ddim { spacing, eta: 0.5 }, 8),
        (Method::DpmSolver { spacing }, 8),
        (Method::UniPc { spacing }, 8),
        (Method::Ode { steps: 4, solver: Solver::Euler }, 4),
        (Method::Ode { steps: 4, solver: Solver::Heun }, 4),
        (sde(Solver::Euler), 4),
        (sde(Solver::Heun), 4),
    ];
    for (method, out_channels) in methods {
        let layout = Layout { states: 2, positions: 1 << 14, channels: 4, out_channels };
        let before = BYTES.load(Ordering::Relaxed);
        let mut sampler = Sampler::new(method, layout).unwrap();
        let made = BYTES.load(Ordering::Relaxed) - before;
        // The schedule is there besides.
        assert!((sampler.bytes()..=sampler.bytes() + SCHEDULE).contains(&made), "{method:?}: {made} for {}", sampler.bytes());
        let mut state = vec![0.0; layout.state_len()];
        initial_state(&[1, 2], &mut state);
        let mut noise = PictureNoise::new([1, 2]);
        let mut denoiser = |_: &[f32], _: usize, _: f64, out: &mut [f32]| out.fill(0.1);
        // The test harness has threads of its own, which may allocate at any moment: a step that allocates does so
        // every time, so one clean run of several is proof.
        let clean = (0..5).any(|_| {
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            for k in 0..sampler.steps() {
                sampler.step(k, &mut state, &mut denoiser, &mut noise);
            }
            ALLOCATIONS.load(Ordering::Relaxed) == before
        });
        assert!(clean, "{method:?}");
    }
}
