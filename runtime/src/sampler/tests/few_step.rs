//! DPM-Solver++(2M) and UniPC against `tests/reference/few_step.py`, their order on data whose flow is known, and what they
//! remember from step to step.

use serde_json::Value;

use super::*;

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/few_step.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

fn spacing(name: &str, n: usize) -> Spacing {
    match name {
        "even" => Spacing::Even(n),
        "strided" => Spacing::Strided(n),
        "log_snr" => Spacing::LogSnr(n),
        other => panic!("{other}"),
    }
}

/// `made_up` of the reference, the same operations in the same order.
fn made_up(x: &[f32], _: usize, t: f64, out: &mut [f32]) {
    let s = t / 1000.0;
    for (out, &x) in out.iter_mut().zip(x) {
        let x = f64::from(x);
        *out = ((0.25 + 0.75 * s) * x + (1.0 - s) * x / (1.0 + x * x) - 0.125 * s * s) as f32;
    }
}

#[test]
fn timesteps_are_the_references() {
    for (name, lists) in golden()["timesteps"].as_object().unwrap() {
        for (n, list) in lists.as_object().unwrap() {
            let expected: Vec<usize> = serde_json::from_value(list.clone()).unwrap();
            assert_eq!(spacing(name, n.parse().unwrap()).timesteps().unwrap(), expected, "{name} {n}");
        }
    }
}

/// The reference rounds where the sampler does, in f64 otherwise: states may differ where a last bit of f64 decides about a
/// last bit of f32, and in what follows from that.
#[test]
fn trajectories_are_the_references() {
    let golden = golden();
    let (mut equal, mut all) = (0, 0);
    for run in golden["runs"].as_array().unwrap() {
        let number = |key: &str| run[key].as_u64().unwrap() as usize;
        let spacing = spacing(run["spacing"].as_str().unwrap(), number("steps"));
        let method = match run["solver"].as_str().unwrap() {
            "dpm_pp_2m" => Method::DpmSolver { spacing },
            "unipc" => Method::UniPc { spacing },
            other => panic!("{other}"),
        };
        let mut state = numbers(&golden["start"]);
        let mut sampler = Sampler::new(method, layout(state.len(), 1)).unwrap();
        let steps = number("first")..sampler.steps();
        assert_eq!(steps.len(), run["states"].as_array().unwrap().len());
        for (k, expected) in steps.zip(run["states"].as_array().unwrap()) {
            sampler.step(k, &mut state, &mut made_up, &mut NoNoise);
            for (&found, expected) in state.iter().zip(numbers(expected)) {
                assert!((found - expected).abs() <= 2.4e-7 * expected.abs().max(0.5), "{method:?} step {k}: {found} vs {expected}");
                equal += usize::from(found == expected);
                all += 1;
            }
        }
    }
    println!("{equal} of {all} numbers have the reference's bits");
    assert!(equal * 100 >= all * 99, "{equal} of {all}");
}

/// Root mean square distance, at the end, from the exact flow of the Gaussian, denoised from timestep 0 as every sampler's
/// last step does.
fn error(method: Method) -> f64 {
    let abar = |t: usize| Schedule::new(Spacing::Even(1000)).unwrap().abar[t];
    let spread = |abar: f64| (abar * DEVIATION * DEVIATION + 1.0 - abar).sqrt();
    let (first, last) = (abar(999), abar(0));
    let (start, end) = sampled(method, 64);
    let square = |(&z, &x): (&f32, &f32)| {
        let place = (f64::from(z) - first.sqrt() * MEAN) / spread(first);
        let exact = MEAN + last.sqrt() * DEVIATION * DEVIATION / spread(last) * place;
        (f64::from(x) - exact).powi(2)
    };
    (start.iter().zip(&end).map(square).sum::<f64>() / 64.0).sqrt()
}

/// Twice the steps: a quarter of the error for the second order, half of it for DDIM, and ancestral sampling is not on the
/// flow at all.
#[test]
fn the_order_of_convergence() {
    let errors = |method: fn(Spacing) -> Method| [20, 40, 80].map(|n| error(method(Spacing::LogSnr(n))));
    let order = |[a, b, c]: [f64; 3]| [(a / b).log2(), (b / c).log2()];
    let ddim = errors(|spacing| Method::Ddim { spacing, eta: 0.0 });
    let solver = errors(|spacing| Method::DpmSolver { spacing });
    let unipc = errors(|spacing| Method::UniPc { spacing });
    let ancestral = errors(|spacing| Method::Ddpm { spacing });
    println!("ddim {ddim:?} {:?}\ndpm++2m {solver:?} {:?}", order(ddim), order(solver));
    println!("unipc {unipc:?} {:?}\nddpm {ancestral:?}", order(unipc));
    assert!(order(ddim).iter().all(|p| (0.7..1.3).contains(p)), "{ddim:?}");
    assert!(order(solver).iter().all(|p| (1.7..2.5).contains(p)), "{solver:?}");
    assert!(order(unipc).iter().all(|p| *p > 1.7), "{unipc:?}");
    assert!(unipc[0] < solver[0] && solver[0] < ddim[0] / 4.0, "{} {} {}", unipc[0], solver[0], ddim[0]);
    assert!(ancestral.iter().all(|e| *e > 0.1), "{ancestral:?}");
}

const FEW: [Method; 2] = [Method::DpmSolver { spacing: Spacing::Even(8) }, Method::UniPc { spacing: Spacing::Even(8) }];

/// Takes `state` through some steps.
fn go_on(sampler: &mut Sampler, steps: std::ops::Range<usize>, state: &mut [f32]) {
    steps.for_each(|k| sampler.step(k, state, &mut exact_eps, &mut NoNoise));
}

#[test]
fn a_clone_goes_on_and_a_new_sampler_begins_anew() {
    for method in FEW {
        let mut sampler = Sampler::new(method, layout(16, 2)).unwrap();
        let mut state = vec![0.0; 16];
        initial_state(&[5], &mut state);
        let start = state.clone();
        go_on(&mut sampler, 0..4, &mut state);
        let (mut copy, mut of_copy) = (sampler.clone(), state.clone());
        let (mut new, mut of_new) = (Sampler::new(method, layout(16, 2)).unwrap(), state.clone());
        go_on(&mut sampler, 4..8, &mut state);
        go_on(&mut copy, 4..8, &mut of_copy);
        go_on(&mut new, 4..8, &mut of_new);
        assert_eq!(of_copy, state, "{method:?}");
        let far = of_new.iter().zip(&state).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far > 1e-4, "{method:?}: the new sampler's first step is of first order: {far}");
        // A run after another is as the first was; so is one that begins where the other was stopped, once told.
        let mut again = start.clone();
        go_on(&mut sampler, 0..8, &mut again);
        assert_eq!(again, state, "{method:?}");
        let mut other = start.iter().map(|x| -x).collect::<Vec<_>>();
        let mut fresh = other.clone();
        go_on(&mut sampler, 0..4, &mut again);
        sampler.restart();
        go_on(&mut sampler, 4..8, &mut other);
        go_on(&mut Sampler::new(method, layout(16, 2)).unwrap(), 4..8, &mut fresh);
        assert_eq!(other, fresh, "{method:?}");
    }
}

/// What is not finite in one run does not reach the next one.
#[test]
fn a_first_step_forgets() {
    for method in FEW {
        let mut sampler = Sampler::new(method, layout(4, 2)).unwrap();
        let mut broken = [f32::NAN; 4];
        go_on(&mut sampler, 0..8, &mut broken);
        let mut state = [1.0; 4];
        go_on(&mut sampler, 0..8, &mut state);
        assert!(state.iter().all(|x| x.is_finite()), "{method:?}");
    }
}
