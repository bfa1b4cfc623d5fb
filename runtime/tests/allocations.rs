//! Evaluations allocate nothing, on any thread: neither an executor's nor a network's. Tests of their own, since the allocator counts for the process.

#![allow(clippy::unwrap_used)]

#[cfg(feature = "write")]
mod networks;
mod plans;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fcdm_runtime::executor::{Executor, Input, Program};
use fcdm_runtime::simd::Isa;
use plans::{mlp, mlp_weights, numbers};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, SeqCst);
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(p, layout) }
    }
    unsafe fn realloc(&self, p: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, SeqCst);
        // SAFETY: the caller's contract.
        unsafe { System.realloc(p, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test at a time: they count the same. The harness allocates now and then, and threads do when they are born: what allocates
/// in an evaluation does so every time, so one clean round of several is proof.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn run_allocates_nothing() {
    let _alone = alone();
    let rows = 613;
    let program = Arc::new(Program::load(mlp(rows), Arc::new(mlp_weights()), Isa::best()).unwrap());
    let (x, labels, mut y) = (numbers(rows * 40, 1), vec![3; rows], vec![0.0; rows * 40]);
    for threads in [1, 2, 5] {
        let mut executor = Executor::new(Arc::clone(&program), threads).unwrap();
        let mut counted = || {
            let before = ALLOCATIONS.load(SeqCst);
            for _ in 0..20 {
                executor.run(0, &[Input::F32(&x), Input::I32(&labels)], &mut [&mut y]);
            }
            ALLOCATIONS.load(SeqCst) - before
        };
        let counts = [counted(), counted(), counted(), counted()];
        assert!(counts.contains(&0), "{threads} threads: {counts:?}");
    }
}

/// Whole batches of either size, and what has to be filled up.
#[cfg(feature = "write")]
#[test]
fn a_network_allocates_nothing() {
    let _alone = alone();
    let mut network = fcdm_runtime::network::Network::new(networks::network(), &fcdm_runtime::engine::Cpu::new(2).unwrap()).unwrap();
    let labels = [0, 1, 2, 0, 1, 2, 0, 1];
    let condition = network.condition(&[0.5; 8], &labels);
    let state = network.state_len();
    let x = numbers(8 * state, 1);
    let mut alone = vec![0.0; 8 * state];
    for i in 0..8 {
        network.denoise(&x[i * state..(i + 1) * state], &condition, i, &mut alone[i * state..(i + 1) * state]);
    }
    let mut out = vec![0.0; 8 * state];
    let mut counted = || {
        let before = ALLOCATIONS.load(SeqCst);
        for _ in 0..20 {
            network.denoise(&x, &condition, 0, &mut out);
        }
        ALLOCATIONS.load(SeqCst) - before
    };
    let counts = [counted(), counted(), counted(), counted()];
    assert!(counts.contains(&0), "{counts:?}");
    assert_eq!(out, alone, "a row does not depend on its batch");
}
