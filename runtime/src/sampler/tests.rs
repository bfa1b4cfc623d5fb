//! Samplers against data whose exact predictions are known, and single steps against arithmetic done by hand.

#![allow(clippy::unwrap_used)]

use std::sync::LazyLock;

use super::*;
use crate::schedule::Schedule;

mod few_step;
mod known;

/// The data: every element N(MEAN, DEVIATION^2).
const MEAN: f64 = 0.7;
const DEVIATION: f64 = 0.5;

fn layout(elements: usize, out_channels: usize) -> Layout {
    Layout { states: 1, positions: elements, channels: 1, out_channels }
}

/// E[eps | x_t], and a variance half way between its bounds.
fn exact_eps(x: &[f32], _: usize, t: f64, out: &mut [f32]) {
    static FULL: LazyLock<Schedule> = LazyLock::new(|| Schedule::new(Spacing::Even(1000)).unwrap());
    let abar = FULL.abar[t as usize];
    for (row, &x) in out.chunks_exact_mut(2).zip(x) {
        let variance = abar * DEVIATION * DEVIATION + 1.0 - abar;
        row[0] = ((1.0 - abar).sqrt() * (f64::from(x) - abar.sqrt() * MEAN) / variance) as f32;
        row[1] = 0.0;
    }
}

/// E[x1 - x0 | x_t].
fn exact_velocity(x: &[f32], _: usize, t: f64, out: &mut [f32]) {
    let variance = (t * DEVIATION).powi(2) + (1.0 - t).powi(2);
    for (v, &x) in out.iter_mut().zip(x) {
        *v = (MEAN + (t * DEVIATION * DEVIATION - (1.0 - t)) / variance * (f64::from(x) - t * MEAN)) as f32;
    }
}

fn sampled(method: Method, elements: usize) -> (Vec<f32>, Vec<f32>) {
    let diffusion = method.is_diffusion();
    let mut sampler = Sampler::new(method, layout(elements, 1 + usize::from(diffusion))).unwrap();
    let mut state = vec![0.0; elements];
    initial_state(&[5], &mut state);
    let start = state.clone();
    let mut noise = PictureNoise::new([5]);
    let mut denoiser: Box<dyn Denoiser> = if diffusion { Box::new(exact_eps) } else { Box::new(exact_velocity) };
    assert!(sampler.run(&mut state, &mut *denoiser, &mut noise, &mut |_, _| ControlFlow::Continue(())));
    (start, state)
}

fn moments(x: &[f32]) -> (f64, f64) {
    let n = x.len() as f64;
    let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    (mean, (x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n).sqrt())
}

fn sde(form: DiffusionForm, last: LastStep, solver: Solver) -> Method {
    Method::Sde { steps: 250, solver, form, norm: 1.0, last, last_size: 0.04 }
}

/// The probability flow of a Gaussian is the affine map between its ends.
#[test]
fn deterministic_samplers_follow_the_exact_flow() {
    for (solver, steps, tolerance) in [(Solver::Euler, 1000, 5e-3), (Solver::Heun, 50, 1e-3)] {
        let (start, end) = sampled(Method::Ode { steps, solver }, 64);
        for (z, x) in start.iter().zip(end) {
            let exact = MEAN + DEVIATION * f64::from(*z);
            assert!((f64::from(x) - exact).abs() < tolerance, "{solver}: {x} vs {exact}");
        }
    }
    let full = Schedule::new(Spacing::Even(1000)).unwrap();
    let abar = full.abar[999];
    let spread = (abar * DEVIATION * DEVIATION + 1.0 - abar).sqrt();
    let (start, end) = sampled(Method::Ddim { spacing: Spacing::Even(250), eta: 0.0 }, 64);
    for (z, x) in start.iter().zip(end) {
        let exact = MEAN + DEVIATION * (f64::from(*z) - abar.sqrt() * MEAN) / spread;
        assert!((f64::from(x) - exact).abs() < 0.02, "ddim: {x} vs {exact}");
    }
}

#[test]
fn stochastic_samplers_reach_the_distribution() {
    let even = Spacing::Even(250);
    let mut methods = vec![
        (Method::Ddpm { spacing: even }, 0.03),
        (Method::Ddim { spacing: even, eta: 1.0 }, 0.03),
        (Method::Ddim { spacing: Spacing::Strided(250), eta: 0.5 }, 0.03),
    ];
    for &form in DiffusionForm::ALL {
        // `Mean` leaves out the noise of a long step and so narrows the distribution by as much as w is large there.
        methods.push((sde(form, LastStep::Euler, Solver::Euler), 0.03));
        methods.push((sde(form, LastStep::Euler, Solver::Heun), 0.03));
    }
    methods.push((sde(DiffusionForm::Sigma, LastStep::None, Solver::Euler), 0.03));
    methods.push((sde(DiffusionForm::Sigma, LastStep::None, Solver::Heun), 0.03));
    methods.push((sde(DiffusionForm::Sigma, LastStep::Mean, Solver::Euler), 0.03));
    methods.push((sde(DiffusionForm::Sigma, LastStep::Tweedie, Solver::Euler), 0.03));
    for (method, tolerance) in methods {
        let (mean, deviation) = moments(&sampled(method, 20_000).1);
        assert!((mean - MEAN).abs() < tolerance && (deviation - DEVIATION).abs() < tolerance, "{method:?}: {mean} {deviation}");
    }
}

/// Takes one step from `x` with constant network output.
fn one_step(method: Method, k: usize, x: f32, output: &[f32], z: f32) -> f32 {
    let mut sampler = Sampler::new(method, layout(1, output.len())).unwrap();
    let mut state = [x];
    let expected = sampler.evaluations();
    let mut denoiser = |_: &[f32], e: usize, t: f64, out: &mut [f32]| {
        assert_eq!(t, expected[e]);
        out.copy_from_slice(output);
    };
    sampler.step(k, &mut state, &mut denoiser, &mut GivenNoise::new(vec![z; sampler_noise(method)]));
    state[0]
}

fn sampler_noise(method: Method) -> usize {
    Sampler::new(method, layout(1, 1 + usize::from(method.is_diffusion()))).unwrap().noise_steps()
}

/// Two steps, timesteps 0 and 999, from the definition: abar_0 = 1 - 1e-4, abar_1 the product of all alphas.
#[test]
fn single_diffusion_steps() {
    let abar: f64 = (0..1000).map(|i| 1.0 - (1e-4 + f64::from(i) * (2e-2 - 1e-4) / 999.0)).product();
    let (a0, a1) = (0.9999f64, abar);
    let (x, eps, v, z) = (1.25f64, 0.5f64, -0.25f64, 0.75f64);
    let spacing = Spacing::Even(2);
    let x0 = (x - (1.0 - a1).sqrt() * eps) / a1.sqrt();

    let beta = 1.0 - a1 / a0;
    let posterior = beta * (1.0 - a0) / (1.0 - a1);
    let mean = beta * a0.sqrt() / (1.0 - a1) * x0 + (1.0 - a0) * (1.0 - beta).sqrt() / (1.0 - a1) * x;
    let f = (v + 1.0) / 2.0;
    let deviation = (0.5 * (f * beta.ln() + (1.0 - f) * posterior.ln())).exp();
    let found = one_step(Method::Ddpm { spacing }, 0, 1.25, &[0.5, -0.25], 0.75);
    assert!((f64::from(found) / (mean + deviation * z) - 1.0).abs() < 1e-7);

    let found = one_step(Method::Ddim { spacing, eta: 0.0 }, 0, 1.25, &[0.5, -0.25], 0.75);
    assert!((f64::from(found) / (a0.sqrt() * x0 + (1.0 - a0).sqrt() * eps) - 1.0).abs() < 1e-7);

    let sigma = 0.5 * ((1.0 - a0) / (1.0 - a1)).sqrt() * (1.0 - a1 / a0).sqrt();
    let exact = a0.sqrt() * x0 + (1.0 - a0 - sigma * sigma).sqrt() * eps + sigma * z;
    let found = one_step(Method::Ddim { spacing, eta: 0.5 }, 0, 1.25, &[0.5, -0.25], 0.75);
    assert!((f64::from(found) / exact - 1.0).abs() < 1e-7);

    // The last step is the predicted x0, without noise, for both.
    let exact = (x - 1e-2 * eps) / a0.sqrt();
    for method in [Method::Ddpm { spacing }, Method::Ddim { spacing, eta: 0.5 }] {
        let found = one_step(method, 1, 1.25, &[0.5, -0.25], 0.75);
        assert!((f64::from(found) / exact - 1.0).abs() < 1e-7, "{method:?}");
    }
}

/// x = 1, v = 0.5, z = 2, grid 0, 0.48, 0.96.
#[test]
fn single_flow_steps() {
    let step = |form, last, solver, k| {
        let method = Method::Sde { steps: 3, solver, form, norm: 1.0, last, last_size: 0.04 };
        f64::from(one_step(method, k, 1.0, &[0.5], 2.0))
    };
    let near = |found: f64, exact: f64| assert!((found - exact).abs() < 1e-7 * exact.abs(), "{found} vs {exact}");
    let dt = 0.48f64;
    // Step 0: t = 0, w = 1, score = -x.
    near(step(DiffusionForm::Sigma, LastStep::Mean, Solver::Euler, 0), 1.0 + dt * (0.5 - 1.0) + (2.0 * dt).sqrt() * 2.0);
    // Step 1: t = 0.48, score = (0.48 * 0.5 - 1) / 0.52.
    let score = (0.24 - 1.0) / 0.52;
    let euler = |w: f64| 1.0 + dt * (0.5 + w * score) + (2.0 * w * dt).sqrt() * 2.0;
    let angle = 0.48 * std::f64::consts::PI;
    for (form, w) in [
        (DiffusionForm::Constant, 1.0),
        (DiffusionForm::Sbdm, 0.52 * 0.52 / 0.48 + 0.52),
        (DiffusionForm::Sigma, 0.52),
        (DiffusionForm::Linear, 0.52),
        (DiffusionForm::Decreasing, 0.25 * (angle.cos() + 1.0).powi(2)),
        (DiffusionForm::IncreasingDecreasing, angle.sin().powi(2)),
    ] {
        near(step(form, LastStep::Mean, Solver::Euler, 1), euler(w));
    }
    // SBDM takes its value at 0.48 in the step from 0 too; the score there is -x.
    let w = 0.52 * 0.52 / 0.48 + 0.52;
    let gain = w / 0.52;
    near(step(DiffusionForm::Sbdm, LastStep::Mean, Solver::Euler, 0), 1.0 + dt * (0.5 - gain) + (2.0 * w * dt).sqrt() * 2.0);
    // Heun.
    let kicked = 1.0 + (2.0 * 0.52 * dt).sqrt() * 2.0;
    let drift = |x: f64, t: f64| 0.5 + (t * 0.5 - x);
    let first = drift(kicked, 0.48);
    let exact = kicked + 0.5 * dt * (first + drift(kicked + dt * first, 0.96));
    near(step(DiffusionForm::Sigma, LastStep::Mean, Solver::Heun, 1), exact);
    // Last steps, t = 0.96.
    near(step(DiffusionForm::Sigma, LastStep::Mean, Solver::Heun, 2), 1.0 + 0.04 * drift(1.0, 0.96));
    near(step(DiffusionForm::Sigma, LastStep::Euler, Solver::Euler, 2), 1.0 + 0.04 * 0.5);
    let score = (0.96 * 0.5 - 1.0) / 0.04;
    near(step(DiffusionForm::Sigma, LastStep::Tweedie, Solver::Euler, 2), 1.0 / 0.96 + 0.04 * 0.04 / 0.96 * score);
    // ODE.
    near(f64::from(one_step(Method::Ode { steps: 4, solver: Solver::Euler }, 3, 1.0, &[0.5], 0.0)), 1.125);
    near(f64::from(one_step(Method::Ode { steps: 4, solver: Solver::Heun }, 3, 1.0, &[0.5], 0.0)), 1.125);
}

/// One of each, 5 steps.
fn every_method() -> Vec<Method> {
    let spacing = Spacing::Even(5);
    let mut methods =
        vec![Method::Ddpm { spacing }, Method::Ddim { spacing, eta: 0.0 }, Method::DpmSolver { spacing }, Method::UniPc { spacing }];
    for &solver in Solver::ALL {
        methods.push(Method::Ode { steps: 5, solver });
        for &last in LastStep::ALL {
            methods.push(Method::Sde { steps: 5, solver, form: DiffusionForm::Sigma, norm: 1.0, last, last_size: 0.04 });
        }
    }
    methods
}

#[test]
fn evaluations_are_known_up_front_and_asked_in_order() {
    let even = Spacing::Even(5);
    for method in every_method() {
        let mut sampler = Sampler::new(method, layout(3, 1 + usize::from(method.is_diffusion()))).unwrap();
        let expected = sampler.evaluations();
        let mut asked = vec![];
        let mut denoiser = |_: &[f32], e: usize, t: f64, out: &mut [f32]| {
            assert_eq!(e, asked.len());
            asked.push(t);
            out.fill(0.1);
        };
        let noise = vec![0.5; 3 * sampler.noise_steps()];
        sampler.run(&mut [1.0; 3], &mut denoiser, &mut GivenNoise::new(noise), &mut |_, _| ControlFlow::Continue(()));
        assert_eq!(asked, expected, "{method:?}");
    }
    let times = |method, out| Sampler::new(method, layout(1, out)).unwrap().evaluations();
    assert_eq!(times(Method::Ddpm { spacing: even }, 2), [999.0, 749.0, 500.0, 250.0, 0.0]);
    assert_eq!(times(Method::Ode { steps: 2, solver: Solver::Heun }, 1), [0.0, 0.5, 0.5, 1.0]);
    assert_eq!(times(DEFAULT_SDE, 1).len(), 250);
}

/// Stopping after any step and going on with another sampler gives the same bits as going through.
#[test]
fn steps_can_be_cut_anywhere() {
    let method = Method::Ddpm { spacing: Spacing::Even(6) };
    let whole = sampled(method, 40).1;
    let mut state = vec![0.0; 40];
    initial_state(&[5], &mut state);
    for k in 0..6 {
        let mut sampler = Sampler::new(method, layout(40, 2)).unwrap();
        let mut noise = PictureNoise::new([5]);
        let mut seen = 0;
        sampler.step(k, &mut state, &mut exact_eps, &mut noise);
        let cut = sampler.run(&mut state.clone(), &mut exact_eps, &mut noise, &mut |_, _| {
            seen += 1;
            ControlFlow::Break(())
        });
        assert!(!cut && seen == 1);
    }
    assert_eq!(state, whole);
}

/// States sampled together have the bits of states sampled alone.
#[test]
fn a_state_does_not_depend_on_its_batch() {
    for method in every_method() {
        let run = |seeds: &[u64]| {
            let (channels, doubled) = (4, usize::from(method.is_diffusion()));
            let layout = Layout { states: seeds.len(), positions: 6, channels, out_channels: channels << doubled };
            let mut sampler = Sampler::new(method, layout).unwrap();
            let mut state = vec![0.0; layout.state_len()];
            initial_state(seeds, &mut state);
            let mut denoiser = |x: &[f32], _: usize, _: f64, out: &mut [f32]| {
                for (row, x) in out.chunks_exact_mut(channels << doubled).zip(x.chunks_exact(channels)) {
                    row[..channels].iter_mut().zip(x).for_each(|(out, &x)| *out = 0.5 * x * x);
                }
            };
            sampler.run(&mut state, &mut denoiser, &mut PictureNoise::new(seeds), &mut |_, _| ControlFlow::Continue(()));
            state
        };
        let (pair, alone) = (run(&[1, 2]), run(&[2]));
        assert_eq!(pair[24..], alone, "{method:?}");
    }
}

#[test]
fn refusals() {
    let message = |method, out| Sampler::new(method, layout(1, out)).err().map(|e| e.to_string()).unwrap_or_default();
    let base = |steps, norm, last_size| Method::Sde {
        steps,
        solver: Solver::Euler,
        form: DiffusionForm::Sigma,
        norm,
        last: LastStep::Mean,
        last_size,
    };
    assert_eq!(message(Method::Ddpm { spacing: Spacing::Even(1001) }, 2), "steps: expected 1 to 1000, found 1001");
    assert_eq!(message(Method::UniPc { spacing: Spacing::Even(5) }, 3), "unipc: expected 1 or 2 output channels, found 3");
    assert_eq!(message(Method::DpmSolver { spacing: Spacing::Even(0) }, 2), "steps: expected 1 to 1000, found 0");
    assert_eq!(message(Method::Ddim { spacing: Spacing::Even(5), eta: -0.5 }, 2), "eta: expected 0 to 1, found -0.5");
    assert_eq!(message(Method::Ode { steps: 0, solver: Solver::Euler }, 1), "steps: expected 1 to 10000, found 0");
    assert_eq!(message(base(1, 1.0, 0.04), 1), "steps: expected 2 to 10000, found 1");
    assert_eq!(message(base(5, f64::NAN, 0.04), 1), "norm: expected a number not below 0, found NaN");
    assert_eq!(message(base(5, 1.0, 1.0), 1), "last_size: expected more than 0, less than 1, found 1");
    assert_eq!(
        message(Method::Ddpm { spacing: Spacing::Even(5) }, 1),
        "ddpm: expected a network that predicts variances, found one that does not"
    );
    assert_eq!(message(base(5, 1.0, 0.04), 2), "flow: expected 1 output channels, found 2");
    for &form in DiffusionForm::ALL {
        let whole = Method::Sde { steps: 5, solver: Solver::Heun, form, norm: 2.0, last: LastStep::None, last_size: 0.0 };
        let singular = matches!(form, DiffusionForm::Constant | DiffusionForm::Decreasing);
        let expected = format!(
            "last: Heun without a last step evaluates at t = 1, where `{form}` has no finite drift; expected mean, tweedie or euler"
        );
        assert_eq!(message(whole, 1), if singular { expected } else { String::new() });
    }
    assert_eq!("ito".parse::<LastStep>().unwrap_err().to_string(), "last: expected none, mean, tweedie, euler, found `ito`");
}

#[test]
fn names_round_trip() {
    assert!(DiffusionForm::ALL.iter().all(|f| f.to_string().parse() == Ok(*f)));
    assert!(LastStep::ALL.iter().all(|f| f.to_string().parse() == Ok(*f)));
    assert!(Solver::ALL.iter().all(|f| f.to_string().parse() == Ok(*f)));
}
