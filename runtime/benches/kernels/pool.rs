//! What sharing a step among threads costs.

use std::sync::atomic::{AtomicUsize, Ordering};

use criterion::Criterion;
use fcdm_runtime::threads::Pool;

use crate::one_step::threads;

/// A run that ends when all threads have come to it: the time from the call until the last has begun and all have gone.
/// Runs are as close together as steps are, so workers spin meanwhile.
pub fn hand_over(c: &mut Criterion) {
    let mut pool = Pool::new(threads()).expect("threads for a benchmark");
    let all = pool.threads();
    c.bench_function("pool/all come and go", |b| {
        b.iter(|| {
            let come = AtomicUsize::new(0);
            pool.run(&|_| {
                come.fetch_add(1, Ordering::SeqCst);
                while come.load(Ordering::SeqCst) < all {
                    std::hint::spin_loop();
                }
            });
        });
    });
}
