//! One evaluation on every instruction set that this CPU has, in turn, with what the choice costs in accuracy.

use std::sync::Arc;

use serde::Serialize;

use super::evaluation::Evaluation;
use super::timing::{Repeat, Times};
use crate::executor::{Executor, ExecutorError, Program};
use crate::simd::Isa;

/// An instruction set's result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IsaProfile {
    /// Its name, as `FCDM_ISA` takes it.
    pub isa: &'static str,
    /// Of whole evaluations.
    #[serde(flatten)]
    pub times: Times,
    /// Median over the best median of all: 1 for the fastest.
    pub ratio: f64,
    /// Euclidean norm of the outputs' distance from the scalar ones over theirs, the greatest of all outputs; 0 for
    /// scalar itself.
    pub relative_l2_to_scalar: f64,
}

/// Times `evaluation` on every instruction set, fastest first.
pub(super) fn compare(
    program: &Program,
    threads: usize,
    evaluation: &Evaluation,
    repeat: Repeat,
) -> Result<Vec<IsaProfile>, ExecutorError> {
    let isas: Vec<Isa> = Isa::NAMES.iter().filter_map(|name| Isa::named(name)).collect();
    let mut runs = Vec::new();
    for &isa in &isas {
        runs.push((Executor::new(Arc::new(program.reloaded(isa)), threads)?, evaluation.clone()));
    }
    let times = repeat.in_turn(isas.len(), |i| {
        let (executor, evaluation) = &mut runs[i];
        evaluation.run(executor);
    });
    let times: Vec<Times> = times.iter().map(|t| Times::of(t)).collect();
    let best = times.iter().map(|t| t.median_s).fold(f64::INFINITY, f64::min);
    let scalar = isas.iter().position(|&isa| isa == Isa::SCALAR).expect("every CPU has it");
    let reference = runs[scalar].1.outputs();
    let profile = |((isa, &times), (_, evaluation)): ((&Isa, &Times), &(Executor, Evaluation))| IsaProfile {
        isa: isa.name(),
        times,
        ratio: if best > 0.0 { times.median_s / best } else { 1.0 },
        relative_l2_to_scalar: evaluation.outputs().iter().zip(reference).map(|(x, r)| relative_l2(x, r)).fold(0.0, f64::max),
    };
    Ok(isas.iter().zip(&times).zip(&runs).map(profile).collect())
}

/// `|x - reference| / |reference|`; 0 where both are zero.
fn relative_l2(x: &[f32], reference: &[f32]) -> f64 {
    let square = |d: f64| d * d;
    let distance: f64 = x.iter().zip(reference).map(|(&x, &r)| square(f64::from(x) - f64::from(r))).sum();
    let norm: f64 = reference.iter().map(|&r| square(f64::from(r))).sum();
    if distance == 0.0 { 0.0 } else { (distance / norm).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::relative_l2;

    #[test]
    fn distances() {
        assert_eq!(relative_l2(&[3.0, 4.0], &[3.0, 4.0]), 0.0);
        assert_eq!(relative_l2(&[0.0, 0.0], &[0.0, 0.0]), 0.0);
        assert_eq!(relative_l2(&[3.0, 4.5], &[3.0, 4.0]), 0.1);
        assert_eq!(relative_l2(&[1.0], &[0.0]), f64::INFINITY);
    }
}
