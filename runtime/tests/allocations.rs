//! `Executor::run` allocates nothing, on any thread. A test of its own, since the allocator counts for the process.

#![allow(clippy::unwrap_used)]

mod plans;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

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

#[test]
fn run_allocates_nothing() {
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
        // The first rounds may still see the threads being born.
        let counts = [counted(), counted(), counted()];
        assert_eq!(counts[2], 0, "{threads} threads: {counts:?}");
    }
}
