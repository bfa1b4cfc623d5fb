//! Where an evaluation's time goes: step by step, and by kernel.

use std::time::Duration;

use serde::Serialize;

use super::ceiling::Ceiling;
use super::evaluation::Evaluation;
use super::timing::{Repeat, Times};
use crate::cost::Cost;
use crate::executor::Executor;
use crate::kernels::Kernel;
use crate::plan::Step;

/// One step of the plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepProfile {
    /// The value that it computes, by its name in the IR.
    pub label: String,
    /// The kernel's name, as [`kernel_name`] gives it.
    pub kernel: String,
    /// Extents of its inputs.
    pub inputs: Vec<Vec<usize>>,
    /// Extents of its outputs.
    pub outputs: Vec<Vec<usize>>,
    /// Cost and time.
    #[serde(flatten)]
    pub rate: Rate,
}

/// All steps of one kernel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelProfile {
    /// The kernel's name, as [`kernel_name`] gives it.
    pub kernel: String,
    /// Number of steps.
    pub steps: usize,
    /// Cost and time of them together.
    #[serde(flatten)]
    pub rate: Rate,
}

/// Work done in a time, and what that means.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rate {
    /// Seconds; of a step the median over the runs.
    pub seconds: f64,
    /// Share of the time of all steps, 0 to 1.
    pub time_share: f64,
    /// Multiply-accumulates, see [`Cost`].
    pub macs: u64,
    /// Bytes moved at the least, see [`Cost`].
    pub bytes: u64,
    /// 1e9 operations a second, two for a multiply-accumulate.
    pub gflops: f64,
    /// `gflops` as a share of the ceiling, 0 to 1; above 1 where an algorithm saves products.
    pub gflops_share: f64,
    /// `bytes` in 1e9 a second; above what memory gives where a cache holds them.
    pub gb_s: f64,
}

impl Rate {
    /// `all` is the time of all steps.
    fn new(cost: Cost, seconds: f64, all: f64, ceiling: Ceiling) -> Rate {
        let per_second = |n: f64| if seconds > 0.0 { n / seconds / 1e9 } else { 0.0 };
        let gflops = per_second(2.0 * cost.macs as f64);
        Rate {
            seconds,
            time_share: if all > 0.0 { seconds / all } else { 0.0 },
            macs: cost.macs,
            bytes: cost.bytes,
            gflops,
            gflops_share: gflops / ceiling.gflops,
            gb_s: per_second(cost.bytes as f64),
        }
    }
}

/// Median time of every step, in the plan's order.
pub(super) fn step_times(executor: &mut Executor, evaluation: &mut Evaluation, repeat: Repeat) -> Vec<f64> {
    let steps = executor.program().entries()[evaluation.entry()].steps.len();
    let mut all: Vec<Vec<Duration>> = vec![Vec::new(); steps];
    let mut times = vec![Duration::ZERO; steps];
    let runs = repeat.times(|| {
        evaluation.run_profiled(executor, &mut times);
        all.iter_mut().zip(&times).for_each(|(all, &time)| all.push(time));
    });
    // Those of the warm-up are there too, in front.
    all.iter().map(|times| Times::of(&times[times.len() - runs.len()..]).median_s).collect()
}

/// The profile of an entry's steps that took `seconds` each.
pub(super) fn by_step(steps: &[Step], seconds: &[f64], ceiling: Ceiling) -> Vec<StepProfile> {
    let all = seconds.iter().sum();
    let profile = |(step, &seconds): (&Step, &f64)| StepProfile {
        label: step.label.clone(),
        kernel: kernel_name(&step.kernel),
        inputs: step.inputs.iter().map(|o| o.shape.clone()).collect(),
        outputs: step.outputs.iter().map(|o| o.shape.clone()).collect(),
        rate: Rate::new(Cost::of(step), seconds, all, ceiling),
    };
    steps.iter().zip(seconds).map(profile).collect()
}

/// Steps of a kernel together, the slowest kernel first.
pub(super) fn by_kernel(steps: &[StepProfile], ceiling: Ceiling) -> Vec<KernelProfile> {
    let mut sums: Vec<(&str, usize, Cost, f64)> = Vec::new();
    for step in steps {
        let cost = Cost { macs: step.rate.macs, bytes: step.rate.bytes };
        match sums.iter_mut().find(|(name, ..)| *name == step.kernel) {
            Some((_, count, sum, seconds)) => {
                *count += 1;
                *sum = *sum + cost;
                *seconds += step.rate.seconds;
            }
            None => sums.push((&step.kernel, 1, cost, step.rate.seconds)),
        }
    }
    sums.sort_by(|a, b| b.3.total_cmp(&a.3));
    let all = sums.iter().map(|s| s.3).sum();
    let profile = |(kernel, steps, cost, seconds): (&str, usize, Cost, f64)| KernelProfile {
        kernel: kernel.to_owned(),
        steps,
        rate: Rate::new(cost, seconds, all, ceiling),
    };
    sums.into_iter().map(profile).collect()
}

/// What people call a kernel: `conv2d 3x3`, `unary silu`, `linear`.
pub fn kernel_name(kernel: &Kernel) -> String {
    match kernel {
        Kernel::Product(product) => product.description(),
        Kernel::Unary(op) => format!("{} {}", kernel.name(), variant(op)),
        Kernel::Binary(op) => format!("{} {}", kernel.name(), variant(op)),
        _ => kernel.name().to_owned(),
    }
}

/// The name that a variant of an enum has in plans.
fn variant(op: &impl Serialize) -> String {
    match serde_json::to_value(op).expect("a kernel is plain data") {
        serde_json::Value::String(name) => name,
        serde_json::Value::Object(map) => map.into_iter().next().map(|(name, _)| name).unwrap_or_default(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::step;
    use crate::kernels::{Algorithm, Fill, LayerNorm, Matmul, Product, Unary, Window};

    #[test]
    fn names() {
        let name = |kernel: Kernel| kernel_name(&kernel);
        assert_eq!(name(Product::linear().into()), "linear");
        assert_eq!(name(Product::scale_linear_gated_add().into()), "scale_linear_gated_add");
        assert_eq!(name(Product::conv2d(Window::square(3)).into()), "conv2d 3x3");
        assert_eq!(name(Product { algorithm: Algorithm::Winograd, ..Product::conv2d(Window::square(3)) }.into()), "conv2d_winograd");
        assert_eq!(name(Unary::Silu.into()), "unary silu");
        assert_eq!(name(Unary::Scale { by: 2.0 }.into()), "unary scale");
        assert_eq!(name(LayerNorm { eps: 1e-6 }.into()), "layer_norm");
    }

    #[test]
    fn shares_and_sums() {
        let product = step(Matmul {}, &[&[1, 10, 10], &[1, 10, 10]], &[&[1, 10, 10]]);
        let fill = step(Fill { value: 0.0 }, &[], &[&[1000]]);
        let ceiling = Ceiling { gflops: 4.0, read_gb_s: 1.0 };
        let steps = by_step(&[product.clone(), fill, product], &[1e-6, 6e-6, 1e-6], ceiling);
        // 1000 multiply-accumulates in a microsecond are 2 GFLOP/s.
        let rate = steps[0].rate;
        assert!((rate.gflops - 2.0).abs() < 1e-9 && (rate.gflops_share - 0.5).abs() < 1e-9, "{rate:?}");
        assert!((rate.time_share - 0.125).abs() < 1e-9 && (rate.gb_s - 1.2).abs() < 1e-9, "{rate:?}");
        let kernels = by_kernel(&steps, ceiling);
        let names: Vec<(&str, usize, u64)> = kernels.iter().map(|k| (k.kernel.as_str(), k.steps, k.rate.macs)).collect();
        assert_eq!(names, [("fill", 1, 0), ("matmul", 2, 2000)]);
        assert!((kernels[1].rate.seconds - 2e-6).abs() < 1e-12 && (kernels[1].rate.time_share - 0.25).abs() < 1e-9);
    }

    #[test]
    fn no_time_is_no_rate() {
        let rate = Rate::new(Cost { macs: 1, bytes: 1 }, 0.0, 0.0, Ceiling { gflops: 1.0, read_gb_s: 1.0 });
        assert_eq!((rate.gflops, rate.gb_s, rate.time_share), (0.0, 0.0, 0.0));
    }
}
