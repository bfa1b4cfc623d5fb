//! Runs that begin in the middle, and parts that are kept.

use super::*;

fn of(method: Method, elements: usize) -> Sampler {
    Sampler::new(method, layout(elements, 1 + usize::from(method.is_diffusion()))).unwrap()
}

fn exact(method: Method) -> &'static mut dyn Denoiser {
    if method.is_diffusion() { Box::leak(Box::new(exact_eps)) } else { Box::leak(Box::new(exact_velocity)) }
}

/// Runs from `first` on, with what is kept; returns the times at which the network was asked.
fn run_from(sampler: &mut Sampler, first: usize, state: &mut [f32], keep: Option<&Keep<'_>>, method: Method) -> Vec<f64> {
    let (before, all) = (sampler.evaluations_before(first), sampler.evaluations());
    let mut asked = vec![];
    let network = exact(method);
    let mut denoiser = |x: &[f32], e: usize, t: f64, out: &mut [f32]| {
        assert_eq!((e, t), (before + asked.len(), all[e]), "{method:?}");
        asked.push(t);
        network.denoise(x, e, t, out);
    };
    let mut noise = PictureNoise::new([9]);
    for k in first..sampler.steps() {
        sampler.step(k, state, &mut denoiser, &mut noise);
        if let Some(keep) = keep {
            sampler.keep(k + 1, keep, state);
        }
    }
    assert_eq!(asked, all[before..], "{method:?}");
    asked
}

#[test]
fn strength_is_the_part_of_the_steps_that_runs() {
    let sampler = of(Method::Ode { steps: 10, solver: Solver::Euler }, 1);
    let first = [1.0, 0.96, 0.94, 0.5, 0.1, 0.01].map(|s| sampler.first_step(s).unwrap());
    assert_eq!(first, [0, 0, 1, 5, 9, 9]);
    for wrong in [0.0, -0.5, 1.01, f64::NAN] {
        let message = sampler.first_step(wrong).unwrap_err().to_string();
        assert_eq!(message, format!("strength: expected more than 0, at most 1, found {wrong}"));
    }
}

#[test]
fn a_run_from_the_middle_asks_for_its_own_times_only() {
    for method in every_method() {
        for first in 0..4 {
            let mut sampler = of(method, 3);
            let asked = run_from(&mut sampler, first, &mut [1.0; 3], None, method);
            assert_eq!(asked.len(), sampler.evaluations().len() - sampler.evaluations_before(first));
        }
    }
    let ode = of(Method::Ode { steps: 4, solver: Solver::Heun }, 1);
    assert_eq!(ode.evaluations()[ode.evaluations_before(3)..], [0.75, 1.0]);
}

#[test]
fn noise_is_that_of_the_steps_time() {
    let state = |method, k| {
        let mut out = [0.0];
        of(method, 1).noised(k, &[2.0], &[-1.0], &mut out);
        out[0]
    };
    let close = |found: f32, expected: f64| assert!((f64::from(found) - expected).abs() < 1e-6, "{found} vs {expected}");
    let abar = |t: usize| (0..=t).map(|i| 1.0 - (1e-4 + i as f64 * (2e-2 - 1e-4) / 999.0)).product::<f64>();
    // Timesteps 999, 749, 500, 250, 0.
    let spacing = Spacing::Even(5);
    for method in [Method::Ddpm { spacing }, Method::Ddim { spacing, eta: 0.0 }, Method::DpmSolver { spacing }, Method::UniPc { spacing }] {
        for (k, t) in [(0, 999), (3, 250), (4, 0)] {
            close(state(method, k), 2.0 * abar(t).sqrt() - (1.0 - abar(t)).sqrt());
        }
        assert_eq!(state(method, 5), 2.0);
    }
    let flow = |t: f64| 2.0 * t - (1.0 - t);
    let ode = Method::Ode { steps: 5, solver: Solver::Heun };
    close(state(ode, 2), flow(0.4));
    assert_eq!((state(ode, 0), state(ode, 5)), (-1.0, 2.0));
    // Grid 0, 0.24, .. 0.96, then the last step.
    let sde = sde(DiffusionForm::Sigma, LastStep::Mean, Solver::Euler);
    let Method::Sde { solver, form, norm, last, last_size, .. } = sde else { panic!("it is an SDE") };
    let sde = Method::Sde { steps: 5, solver, form, norm, last, last_size };
    close(state(sde, 3), flow(0.72));
    close(state(sde, 4), flow(0.96));
    assert_eq!((state(sde, 0), state(sde, 5)), (-1.0, 2.0));
    let whole = Method::Sde { steps: 5, solver, form, norm, last: LastStep::None, last_size };
    close(state(whole, 3), flow(0.75));
    assert_eq!(state(whole, 4), 2.0);
}

/// From the noised picture on, deterministic samplers follow the exact flow of the Gaussian: to the error of their steps (of
/// the reference's solvers too, less than 2e-4 here), where the noise of the step beside would be off by some 1e-2.
#[test]
fn a_run_from_the_middle_follows_the_flow() {
    let spacing = Spacing::LogSnr(120);
    let methods = [
        (Method::Ddim { spacing: Spacing::Even(500), eta: 0.0 }, 1e-2),
        (Method::DpmSolver { spacing }, 5e-4),
        (Method::UniPc { spacing }, 5e-4),
        (Method::Ode { steps: 60, solver: Solver::Heun }, 1e-3),
    ];
    for (method, tolerance) in methods {
        let mut sampler = of(method, 32);
        let first = sampler.first_step(0.6).unwrap();
        assert_eq!(first, sampler.steps() * 2 / 5);
        let (clean, mut noise, mut state) = (vec![1.25; 32], vec![0.0; 32], vec![0.0; 32]);
        initial_state(&[3], &mut noise);
        sampler.noised(first, &clean, &noise, &mut state);
        let t = sampler.evaluations()[sampler.evaluations_before(first)];
        let (a, b) = match method.is_diffusion() {
            true => {
                let abar = Schedule::new(Spacing::Even(1000)).unwrap().abar[t as usize];
                (abar.sqrt(), (1.0 - abar).sqrt())
            }
            false => (t, 1.0 - t),
        };
        let exact: Vec<f64> =
            noise.iter().map(|&z| MEAN + DEVIATION * (a * (1.25 - MEAN) + b * f64::from(z)) / (a * DEVIATION).hypot(b)).collect();
        run_from(&mut sampler, first, &mut state, None, method);
        for (&x, exact) in state.iter().zip(exact) {
            assert!((f64::from(x) - exact).abs() < tolerance, "{method:?}: {x} vs {exact}");
        }
    }
}

/// What is kept ends bit by bit, what is not takes no notice of it, and a mixture lies between.
#[test]
fn a_mask_keeps_positions() {
    for method in every_method() {
        let channels = 1 + usize::from(method.is_diffusion());
        let layout = Layout { states: 2, positions: 3, channels: 1, out_channels: channels };
        let (clean, mut noise) = ([0.3, -0.7, 1.1, 0.9, -0.2, 0.5], [0.0; 6]);
        initial_state(&[1, 2], &mut noise);
        let run = |mask: [f32; 3]| {
            let mut sampler = Sampler::new(method, layout).unwrap();
            let mut state = noise;
            let keep = Keep { clean: &clean, mask: &mask, noise: &noise };
            sampler.keep(0, &keep, &mut state);
            run_from(&mut sampler, 0, &mut state, Some(&keep), method);
            state
        };
        let (free, kept, some) = (run([1.0; 3]), run([0.0; 3]), run([0.0, 1.0, 0.25]));
        let mut plain = noise;
        run_from(&mut Sampler::new(method, layout).unwrap(), 0, &mut plain, None, method);
        assert_eq!(free, plain, "{method:?}: nothing is kept");
        assert_eq!(kept, clean, "{method:?}: everything is kept");
        assert_eq!([some[0], some[3]], [clean[0], clean[3]], "{method:?}");
        // The exact prediction of an element does not depend on the others.
        assert_eq!([some[1], some[4]], [plain[1], plain[4]], "{method:?}");
        assert!((some[2] - clean[2]).abs() > 1e-3 && (some[2] - plain[2]).abs() > 1e-3, "{method:?}");
    }
}

/// The network sees the kept part with the noise of the time at which it is asked.
#[test]
fn the_network_sees_what_is_kept() {
    let method = Method::UniPc { spacing: Spacing::Even(6) };
    let mut sampler = of(method, 2);
    let (clean, noise, mask) = ([0.5, 0.25], [1.5, -0.5], [0.0, 1.0]);
    let keep = Keep { clean: &clean, mask: &mask, noise: &noise };
    let mut state = noise;
    sampler.keep(0, &keep, &mut state);
    let mut expected = [0.0; 2];
    for k in 0..6 {
        sampler.noised(k, &clean, &noise, &mut expected);
        let mut denoiser = |x: &[f32], _: usize, t: f64, out: &mut [f32]| {
            assert_eq!(x[0], expected[0], "step {k}");
            exact_eps(x, 0, t, out);
        };
        sampler.step(k, &mut state, &mut denoiser, &mut NoNoise);
        sampler.keep(k + 1, &keep, &mut state);
    }
    assert_eq!(state[0], 0.5);
}
