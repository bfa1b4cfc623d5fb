//! Whole generations of a small network: what is handed out, in which order, and that it can be stopped. And the example of it.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../examples/generate.rs"]
mod example;
mod networks;

use std::ops::ControlFlow;

use fcdm_runtime::artifact::Artifact;
use fcdm_runtime::generate::{Event, GenerateError, Generator, Init, Job, MaskEdge, Order, Seeds, Setup, jobs, labels};
use fcdm_runtime::picture::Picture;
use fcdm_runtime::picture::png::read_png;
use fcdm_runtime::request::RequestError;
use fcdm_runtime::sampler::{Method, Solver};
use fcdm_runtime::{Model, Options};

fn generator() -> Generator {
    Generator::new(networks::network(), &Setup { previews: true, ..Setup::default() }).unwrap()
}

/// Four steps, two pictures at a time.
fn order(generator: &Generator) -> Order {
    Order { method: Method::Ode { steps: 4, solver: Solver::Euler }, batch: 2, ..Order::new(generator.model()).unwrap() }
}

fn five(generator: &Generator) -> Vec<Job> {
    let labels = labels(&["cat", "dog", "0", " 1", "null"], generator.model()).unwrap();
    jobs(&labels, &Seeds::default(), None).unwrap()
}

#[test]
fn every_step_and_every_picture_in_order() {
    let mut generator = generator();
    let (order, jobs) = (order(&generator), five(&generator));
    let mut said = Vec::new();
    let done = generator.run(&order, &jobs, &mut |event| {
        match event {
            Event::Step(mut step) => {
                let shapes: Vec<_> = step.preview().unwrap().iter().map(|p| (p.height, p.width, p.channels)).collect();
                assert_eq!(shapes, vec![(4, 4, 3); step.jobs.len()]);
                said.push(format!("{}+{}/{}", step.jobs[0].index, step.progress.step, step.progress.steps));
            }
            Event::Finished { job, state, picture } => {
                assert_eq!(picture, Some(Picture::from_unit(4, 4, 3, state)));
                said.push(format!("picture {}, class {}, seed {}", job.index, job.label, job.seed));
            }
        }
        ControlFlow::Continue(())
    });
    assert!(done.unwrap());
    assert_eq!(said[..6], ["0+0/4", "0+1/4", "0+2/4", "0+3/4", "picture 0, class 0, seed 0", "picture 1, class 1, seed 1"]);
    assert_eq!(said[12..], ["4+0/4", "4+1/4", "4+2/4", "4+3/4", "picture 4, class 2, seed 4"]);
}

#[test]
fn pictures_do_not_depend_on_how_they_are_asked_for() {
    let mut generator = generator();
    let (order, jobs) = (order(&generator), five(&generator));
    let pictures = generator.pictures(&order, &jobs, &mut |_| ControlFlow::Continue(())).unwrap().unwrap();
    for batch in [1, 5, 7] {
        let again = generator.pictures(&Order { batch, ..order.clone() }, &jobs, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(again.as_ref(), Some(&pictures), "{batch} at a time");
    }
    let alone = generator.pictures(&order, &jobs[3..4], &mut |_| ControlFlow::Continue(())).unwrap().unwrap();
    assert_eq!(alone, pictures[3..4]);
    assert_eq!(generator.pictures(&order, &jobs, &mut |_| ControlFlow::Break(())).unwrap(), None);
}

#[test]
fn what_a_mask_keeps_comes_back_exactly() {
    let mut generator = generator();
    let model = generator.model().clone();
    let given = Picture { width: 4, height: 4, channels: 3, pixels: (0..48).map(|i| i * 5).collect() };
    // The upper half is black: kept.
    let mask = Picture { pixels: (0..48).map(|i| if i < 24 { 0 } else { 255 }).collect(), ..given.clone() };
    let init = Init::new(given.to_unit(), &model, None).keeping(given.clone(), &mask, MaskEdge::Hard, &model, None);
    assert_eq!((init.strength(), init.is_masked()), (1.0, true));
    let order = Order { init: Some(init), ..order(&generator) };
    let jobs = five(&generator);
    let pictures = generator.pictures(&order, &jobs, &mut |_| ControlFlow::Continue(())).unwrap().unwrap();
    let apart = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>();
    assert!(pictures.iter().all(|p| p.pixels[..24] == given.pixels[..24] && apart(&p.pixels[24..], &given.pixels[24..]) > 24));
}

#[test]
fn ways_lead_from_each_to_the_next() {
    let way = jobs(&[0, 1], &Seeds::From { first: 7, count: 1 }, Some(2)).unwrap();
    let short: Vec<_> = way.iter().map(|j| (j.index, j.label, j.seed, j.towards)).collect();
    assert_eq!(short, [(0, 0, 7, None), (1, 0, 7, Some((1, 8, 0.5))), (2, 1, 8, None)]);
    assert!(jobs(&[0], &Seeds::default(), Some(2)).unwrap_err().to_string().starts_with("interpolate: expected at least two pictures"));
    let many = jobs(&[0; 11], &Seeds::From { first: 0, count: 1_000_000 }, None).unwrap_err();
    assert_eq!(many.to_string(), "number of pictures: expected at most 10000000, found 11000000");
}

/// No picture leaves before the verdict.
#[cfg(feature = "threads")]
#[test]
fn damaged_weights_make_no_picture() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.fcdm");
    networks::put(&path);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let artifact = std::sync::Arc::new(Artifact::open_unverified(&path).unwrap());
    let verification = artifact.verify_in_background();
    let mut generator = Generator::new(artifact, &Setup::default()).unwrap().verifying(verification, || false);
    let (order, jobs) = (order(&generator), five(&generator));
    let message = generator.pictures(&order, &jobs, &mut |_| ControlFlow::Continue(())).unwrap_err().to_string();
    assert!(message.contains("tensor `shift.panels`: expected bytes with checksum "), "{message}");
}

/// The short way, and what it says when it cannot be gone.
#[test]
fn a_model_from_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.fcdm");
    networks::put(&path);
    let bytes = std::fs::read(&path).unwrap();
    let mut model = Model::from_bytes(bytes.clone()).unwrap();
    assert_eq!((model.info().class_names.len(), model.picture()), (2, Some([4, 4, 3])));
    let all = model.generate(&Options::default(), |_| ControlFlow::Continue(())).unwrap();
    let mut generator = generator();
    let (order, jobs) = (Order::new(generator.model()).unwrap(), jobs(&[0, 1], &Seeds::default(), None).unwrap());
    assert_eq!(Some(&all), generator.pictures(&order, &jobs, &mut |_| ControlFlow::Continue(())).unwrap().as_ref());
    let mut steps = 0;
    let stopped = model.generate(&Options::default(), |_| {
        steps += 1;
        if steps == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(GenerateError::Stopped)) && steps == 3);
    let fish = Options { class_labels: vec!["fish".into()], ..Options::default() };
    let wrong = model.generate(&fish, |_| ControlFlow::Continue(()));
    assert!(matches!(wrong, Err(GenerateError::Request(RequestError::Option { option: "class labels", .. }))));
    assert!(matches!(Model::from_bytes(bytes[..100].to_vec()), Err(GenerateError::Artifact(_))));
    assert!(matches!(Model::open(folder.path().join("none.fcdm")), Err(GenerateError::Artifact(_))));
}

#[test]
fn the_example_writes_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.fcdm");
    networks::put(&path);
    example::generate(path.to_str().unwrap(), "dog", folder.path()).unwrap();
    let options = Options { class_labels: vec!["dog".into()], seeds: Seeds::Each(vec![1, 2]), ..Options::default() };
    let same = Model::open(&path).unwrap().generate(&options, |_| ControlFlow::Continue(())).unwrap();
    for (name, picture) in ["0.png", "1.png"].into_iter().zip(same) {
        assert_eq!(read_png(&folder.path().join(name)).unwrap(), picture, "{name}");
    }
    let message = example::generate(path.to_str().unwrap(), "fish", folder.path()).unwrap_err().to_string();
    assert_eq!(message, "class labels: expected one of cat, dog, found `fish`");
}
