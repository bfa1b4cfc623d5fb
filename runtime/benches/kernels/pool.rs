//! What sharing a step among threads costs: a run of the pool in which nobody has anything to do.

use std::hint::black_box;

use criterion::Criterion;
use fcdm_runtime::threads::Pool;

use crate::one_step::threads;

/// Runs as close together as steps are: workers spin meanwhile.
pub fn hand_over(c: &mut Criterion) {
    let mut pool = Pool::new(threads()).expect("threads for a benchmark");
    c.bench_function("pool/empty run", |b| b.iter(|| pool.run(&|thread| _ = black_box(thread))));
}
