//! Training against PyTorch: losses, their gradients in every parameter and in x, and three steps of AdamW with a running average, as
//! plans on the kernels that this machine picks.
#![allow(clippy::unwrap_used)]

mod oracle;

use fcdm_compiler::weights::WeightSource;
use fcdm_models::fcdm::{Config, Import, Size};
use fcdm_models::train::loss::Column;
use fcdm_models::train::objective::{Diffusion, Flow, Objective, Path, Prediction, Times};
use fcdm_models::train::step::{Batch, Rates, Step, StepError, StepOptions, memory, plan};
use fcdm_runtime::engine::Cpu;
use oracle::{File, NETS, checkpoint};

fn objective(config: &Config) -> Objective {
    if config.learn_sigma {
        return Objective::Diffusion(Diffusion::new(None));
    }
    Objective::Flow(Flow { path: Path::Linear, prediction: Prediction::Velocity, times: Times::Uniform, min_snr: None })
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// Tensors of a batch, in the order and layout of a step.
struct Given {
    x: Vec<f32>,
    noise: Vec<f32>,
    t: Vec<f32>,
    y: Vec<i32>,
    coefficients: Vec<f32>,
}

impl Given {
    /// Those of a file whose names begin so, of a loss that is a mean over `batch` samples.
    fn of(file: &File, prefix: &str, objective: &Objective) -> Given {
        let get = |name: &str| file.get(&format!("{prefix}{name}"));
        let t = get("t").f32();
        let rows: Vec<[f32; Column::COUNT]> = t.iter().map(|&t| objective.row(f64::from(t), get("t").values.len())).collect();
        Given {
            x: get("x0").channels_last().f32(),
            noise: get("noise").channels_last().f32(),
            y: get("y").i32(),
            coefficients: rows.concat(),
            t,
        }
    }

    fn batch(&self) -> Batch<'_> {
        Batch { x: &self.x, noise: &self.noise, t: &self.t, y: &self.y, coefficients: &self.coefficients }
    }

    /// Samples `from ..`, so many.
    fn part(&self, from: usize, n: usize) -> Batch<'_> {
        let image = self.x.len() / self.t.len();
        let rows = from..from + n;
        Batch {
            x: &self.x[from * image..(from + n) * image],
            noise: &self.noise[from * image..(from + n) * image],
            t: &self.t[rows.clone()],
            y: &self.y[rows],
            coefficients: &self.coefficients[from * Column::COUNT..(from + n) * Column::COUNT],
        }
    }
}

fn options(import: &Import, shape: &[usize], batch: usize, accumulate: bool) -> StepOptions {
    StepOptions {
        size: Size { batch, height: shape[2], width: shape[3] },
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        averages: vec!["ema.".into()],
        trained: fcdm_models::fcdm::parameters(import.config()).into_iter().map(|p| p.name).collect(),
        accumulate,
        validate: false,
        max_memory: None,
    }
}

/// A step that begins with the network's weights, in the average too.
fn begin(import: &Import, options: StepOptions) -> Step {
    let mut step = Step::new(import.config(), options, &Cpu::new(2).unwrap()).unwrap();
    for p in step.parameters().to_vec() {
        let values = import.load(&p.name).unwrap();
        step.write(&p.name, &values);
        step.write(&format!("ema.{}", p.name), &values);
    }
    step
}

/// The value of a state, in the order of checkpoints.
fn state(step: &Step, prefix: &str, at: usize) -> Vec<f64> {
    let p = &step.parameters()[at];
    let mut values = vec![0.0; p.count()];
    step.read(&format!("{prefix}{}", p.name), &mut values);
    wide(&p.to_checkpoint(values))
}

#[test]
fn losses_and_gradients() {
    for net in NETS {
        let (file, import) = (File::open(net, "loss"), Import::new(checkpoint(net), true).unwrap());
        let objective = objective(import.config());
        let given = Given::of(&file, "", &objective);
        let mut step = begin(&import, options(&import, &file.get("x0").shape, given.t.len(), false));
        let losses = step.gradient(&given.batch(), false).clone();
        file.check("loss", &[wide(&losses.loss).iter().sum()], "plan");
        let parts = [("mse", &losses.mse), ("vb", &losses.vb)];
        let whole: Vec<f64> = (0..given.t.len()).map(|i| parts.iter().filter_map(|(_, p)| p.get(i)).map(|&v| f64::from(v)).sum()).collect();
        file.check("per_sample.loss", &whole, "plan");
        for (name, values) in parts {
            let name = format!("per_sample.{name}");
            if file.results().any(|n| n == name) {
                file.check(&name, &wide(values), "plan");
            }
        }
        for (i, p) in step.parameters().iter().enumerate() {
            file.check(&format!("grad.{}", p.name), &state(&step, "grad.", i), "plan");
        }
    }
}

/// Where a gradient is rounding noise AdamW makes a step of up to the learning rate of it: differences are held against the rate.
#[test]
fn three_steps() {
    const LR: f64 = 1e-4;
    for net in NETS {
        let (file, import) = (File::open(net, "train"), Import::new(checkpoint(net), true).unwrap());
        let objective = objective(import.config());
        let mut step = begin(&import, options(&import, &file.get("step0.x0").shape, 2, false));
        let mut losses = Vec::new();
        for k in 0..3 {
            let given = Given::of(&file, &format!("step{k}."), &objective);
            losses.push(wide(&step.gradient(&given.batch(), false).loss).iter().sum());
            assert!(step.norm().is_finite());
            step.update(&Rates { lr: LR, weight_decay: 0.0, step: k + 1, clip: 1.0, decays: vec![0.9999] });
        }
        file.check("losses", &losses, "plan");
        for (i, p) in step.parameters().iter().enumerate() {
            for (ours, theirs) in [("", "model."), ("ema.", "ema.")] {
                file.check(&format!("{theirs}{}", p.name), &state(&step, ours, i), "plan");
            }
        }
    }
}

/// A batch in two passes is the batch in one, but for rounding; norms are those of all gradients together.
#[test]
fn gradients_are_those_of_the_mean_over_the_batch() {
    let (file, import) = (File::open("eps8", "loss"), Import::new(checkpoint("eps8"), true).unwrap());
    let given = Given::of(&file, "", &objective(import.config()));
    let shape = &file.get("x0").shape;
    let mut whole = begin(&import, options(&import, shape, 4, false));
    whole.gradient(&given.batch(), false);
    let mut parts = begin(&import, options(&import, shape, 2, true));
    parts.gradient(&given.part(0, 2), false);
    parts.gradient(&given.part(2, 2), true);
    let mut squares = 0.0;
    for i in 0..whole.parameters().len() {
        let (a, b) = (state(&whole, "grad.", i), state(&parts, "grad.", i));
        squares += a.iter().map(|v| v * v).sum::<f64>();
        let norm = a.iter().map(|v| v * v).sum::<f64>().sqrt();
        let off = a.iter().zip(&b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
        assert!(off <= 1e-5 * norm + 1e-9, "{}: {off} of {norm}", whole.parameters()[i].name);
    }
    for step in [&mut whole, &mut parts] {
        let norm = f64::from(step.norm());
        assert!((norm / squares.sqrt() - 1.0).abs() < 1e-5, "{norm} for {}", squares.sqrt());
    }
}

/// What the backward pass computes once more has the bits that it had.
#[test]
fn recomputed_gradients_are_those_that_are_kept() {
    for net in NETS {
        let (file, import) = (File::open(net, "loss"), Import::new(checkpoint(net), true).unwrap());
        let given = Given::of(&file, "", &objective(import.config()));
        let kept = options(&import, &file.get("x0").shape, given.t.len(), false);
        let device = Cpu::new(2).unwrap();
        let bytes = |o: &StepOptions| {
            let plan = plan(import.config(), o, &device).unwrap().plan;
            (memory(&plan, &device), plan.entries[0].arena_bytes)
        };
        let (whole, arena) = bytes(&kept);
        // Less than nothing says what the least is.
        let least = match plan(import.config(), &StepOptions { max_memory: Some(0), ..kept.clone() }, &device) {
            Err(StepError::Memory { least, .. }) => least,
            _ => panic!("a step without memory"),
        };
        assert!(least < whole, "{net}: {least} of {whole}");
        let mut first = begin(&import, kept.clone());
        let losses = first.gradient(&given.batch(), false).clone();
        for most in [least, least.midpoint(whole)] {
            let tight = StepOptions { max_memory: Some(most), ..kept.clone() };
            let (taken, smaller) = bytes(&tight);
            assert!(taken <= most && smaller < arena, "{net}: {taken} of {most}, {smaller} of {arena}");
            let mut step = begin(&import, tight);
            assert_eq!(*step.gradient(&given.batch(), false), losses);
            for i in 0..step.parameters().len() {
                let [a, b] = [&first, &step].map(|s| state(s, "grad.", i).iter().map(|v| v.to_bits()).collect::<Vec<_>>());
                assert!(a == b, "{net}: {}", step.parameters()[i].name);
            }
        }
    }
}
