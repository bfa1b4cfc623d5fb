//! Requests to a whole artifact that are more than noise and one class: runs from the middle, parts that are kept, places
//! between two classes.

use std::ops::ControlFlow;

use fcdm_runtime::generate::{Known, Progress, Request, Start, layout, sample};
use fcdm_runtime::network::{Class, Guided, Network};
use fcdm_runtime::sampler::{Guidance, Method, PictureNoise, Sampler, Solver, initial_state, initial_state_between};
use fcdm_runtime::schedule::Spacing;

use super::artifact;
use crate::Winograd;

const SEEDS: [u64; 3] = [1, 2, 3];

/// A diffusion and a flow network with samplers for them.
fn networks(folder: &std::path::Path) -> [(Network, Vec<Method>); 2] {
    let spacing = Spacing::Even(6);
    let net = |name: &str, image: &[usize]| artifact(name, &folder.join(name), image, (true, Winograd::Never));
    let diffusion = vec![Method::Ddpm { spacing }, Method::Ddim { spacing, eta: 0.0 }, Method::UniPc { spacing: Spacing::LogSnr(6) }];
    let flow = vec![Method::Ode { steps: 6, solver: Solver::Heun }, fcdm_runtime::sampler::DEFAULT_SDE];
    let flow = flow.into_iter().map(|m| {
        if let Method::Sde { solver, form, norm, last, last_size, .. } = m {
            Method::Sde { steps: 6, solver, form, norm, last, last_size }
        } else {
            m
        }
    });
    [(net("eps8", &[4, 8, 12]), diffusion), (net("flow16", &[4, 12, 8]), flow.collect())]
}

fn guided(scale: f64) -> Guidance {
    Guidance { scale, ..Guidance::default() }
}

/// Result and number of steps of a request with [`SEEDS`], as many as there are classes.
fn made(network: &mut Network, request: &Request<'_>) -> (Vec<f32>, usize) {
    let seeds = &SEEDS[..request.classes.len()];
    let mut states = vec![0.0; seeds.len() * network.state_len()];
    initial_state(seeds, &mut states);
    let mut counted = 0;
    let mut after = |p: &Progress<'_>| {
        assert_eq!(p.step, counted);
        counted += 1;
        assert!(counted <= p.steps);
        ControlFlow::Continue(())
    };
    assert!(sample(network, request, &mut states, &mut PictureNoise::new(seeds), &mut after).unwrap());
    (states, counted)
}

/// Euclidean.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
}

/// Some clean states.
fn clean(network: &Network, states: usize) -> Vec<f32> {
    (0..states * network.state_len()).map(|i| ((i * 7 % 23) as f32 - 11.0) / 11.0).collect()
}

#[test]
fn a_place_between_two_classes() {
    let folder = tempfile::tempdir().unwrap();
    for (mut network, methods) in networks(folder.path()) {
        let (method, guidance) = (methods[1], guided(2.0));
        let mut run = |classes: &[Class]| made(&mut network, &Request::new(method, guidance, classes)).0;
        let towards = |weight| Class { label: 1, towards: Some((3, weight)) };
        let (first, last) = (run(&[1.into()]), run(&[3.into()]));
        assert_eq!(run(&[towards(0.0)]), first);
        assert_eq!(run(&[towards(1.0)]), last);
        let middle = run(&[towards(0.5)]);
        let whole = distance(&first, &last);
        assert!(distance(&middle, &first) < whole && distance(&middle, &last) < whole);
        assert!(distance(&middle, &first) > 0.05 * whole && distance(&middle, &last) > 0.05 * whole);
        // Beside other pictures, with and without a second class.
        let both = run(&[towards(0.5), 1.into(), towards(0.25)]);
        assert_eq!(both[..middle.len()], middle);
    }
}

#[test]
fn a_run_from_the_middle_is_the_rest_of_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    for (mut network, methods) in networks(folder.path()) {
        let classes = Class::all(&[1, 4]);
        let clean = clean(&network, 2);
        for method in methods {
            let request = Request { start: Some(Start { clean: &clean, strength: 0.5 }), ..Request::new(method, guided(2.0), &classes) };
            let (found, steps) = made(&mut network, &request);
            let mut sampler = Sampler::new(method, layout(&network, 2)).unwrap();
            let first = sampler.first_step(0.5).unwrap();
            assert_eq!((steps, first), (sampler.steps() - first, 3));
            // By hand, with the condition of the whole run.
            let (mut noise, mut states) = (vec![0.0; clean.len()], vec![0.0; clean.len()]);
            initial_state(&SEEDS[..2], &mut noise);
            sampler.noised(first, &clean, &noise, &mut states);
            let mut denoiser = Guided::new(&mut network, &classes, guided(2.0), 0, &sampler.evaluations()).unwrap();
            let mut noise = PictureNoise::new(&SEEDS[..2]);
            (first..sampler.steps()).for_each(|k| sampler.step(k, &mut states, &mut denoiser, &mut noise));
            assert_eq!(found, states, "{method:?}");
        }
    }
}

#[test]
fn a_mask_keeps_what_is_known() {
    let folder = tempfile::tempdir().unwrap();
    for (mut network, methods) in networks(folder.path()) {
        let classes = Class::all(&[1, 4]);
        let (clean, channels) = (clean(&network, 2), network.model().in_channels);
        let positions = network.model().height * network.model().width;
        let mask: Vec<f32> = (0..positions).map(|i| if i < positions / 2 { 0.0 } else { 1.0 }).collect();
        for method in methods {
            let request = Request { known: Some(Known { clean: &clean, mask: &mask }), ..Request::new(method, guided(2.0), &classes) };
            let (found, _) = made(&mut network, &request);
            let (plain, _) = made(&mut network, &Request::new(method, guided(2.0), &classes));
            let half = positions / 2 * channels;
            for (i, found) in found.chunks_exact(positions * channels).enumerate() {
                let at = i * positions * channels;
                assert_eq!(found[..half], clean[at..at + half], "{method:?}");
                let far = distance(&found[half..], &plain[at + half..at + 2 * half]);
                assert!(far > 0.01, "{method:?}: it is made to fit what is kept: {far}");
            }
            let alone = Request {
                known: Some(Known { clean: &clean[..2 * half], mask: &mask }),
                ..Request::new(method, guided(2.0), &classes[..1])
            };
            assert_eq!(made(&mut network, &alone).0, found[..2 * half], "{method:?}: a picture does not depend on its batch");
        }
    }
}

#[test]
fn refusals() {
    let folder = tempfile::tempdir().unwrap();
    let [(mut network, methods), _] = networks(folder.path());
    let (state, positions) = (network.state_len(), network.model().height * network.model().width);
    let classes = Class::all(&[1]);
    let plain = Request::new(methods[1], guided(1.0), &classes);
    let (clean, mask) = (vec![0.0; state], vec![2.0; positions]);
    let mut message = |request: Request<'_>| {
        let mut states = vec![0.0; state];
        initial_state_between(&[(1, 2, 0.5)], &mut states);
        let mut after = |_: &Progress<'_>| panic!("nothing runs");
        sample(&mut network, &request, &mut states, &mut PictureNoise::new([1]), &mut after).unwrap_err().to_string()
    };
    let start = |clean, strength| Request { start: Some(Start { clean, strength }), ..plain };
    let known = |clean, mask| Request { known: Some(Known { clean, mask }), ..plain };
    assert_eq!(message(start(&clean, 0.0)), "strength: expected more than 0, at most 1, found 0");
    assert_eq!(message(start(&clean[1..], 0.5)), format!("start: expected {state} values for 1 states, found {}", state - 1));
    assert_eq!(message(known(&[], &mask)), format!("known: expected {state} values for 1 states, found 0"));
    assert_eq!(message(known(&clean, &mask[1..])), format!("mask: expected {positions} values, found {}", positions - 1));
    assert_eq!(message(known(&clean, &mask)), "mask: expected values from 0 to 1, found 2");
    for (towards, expected) in [
        ((99, 0.5), "class labels: expected 0 to 10, found 99"),
        ((2, 1.5), "weight of a class: expected 0 to 1, found 1.5"),
        ((2, f64::NAN), "weight of a class: expected 0 to 1, found NaN"),
    ] {
        let classes = [Class { label: 1, towards: Some(towards) }];
        assert_eq!(message(Request { classes: &classes, ..plain }), expected);
    }
}
