//! Batches: which examples, at which times, with which noise. All of it is a function of the seed and the number of the update, and of
//! each sample's place in the batch, whatever came before and however many threads there are.
//!
//! A thread makes batches ahead of those that are trained on.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use fcdm_runtime::rng::{Purpose, Stream, normals, uniform};

use super::examples::{Examples, ExamplesError};
use super::loss::Column;
use super::objective::Objective;
use super::order::Order;
use super::step::Batch;

/// What batches are made of.
pub struct Batches {
    /// The examples.
    pub examples: Examples,
    /// Their order.
    pub order: Order,
    /// What is predicted.
    pub objective: Objective,
    /// Seed of order, times, noise, mirroring and dropout.
    pub seed: u64,
    /// Samples of a batch.
    pub size: usize,
    /// Share of the samples that lose their label.
    pub dropout: f64,
    /// The class that means none.
    pub null_class: Option<i32>,
    /// Whether half of the samples are mirrored.
    pub flip: bool,
}

/// A batch as a step takes it, whole or in parts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Made {
    /// Which examples.
    pub examples: Vec<u32>,
    x: Vec<f32>,
    noise: Vec<f32>,
    t: Vec<f32>,
    y: Vec<i32>,
    coefficients: Vec<f32>,
}

impl Made {
    /// Samples `from .. from + n`.
    pub fn part(&self, from: usize, n: usize) -> Batch<'_> {
        let image = self.x.len() / self.t.len();
        let rows = from..from + n;
        let images = from * image..(from + n) * image;
        Batch {
            x: &self.x[images.clone()],
            noise: &self.noise[images],
            t: &self.t[rows.clone()],
            y: &self.y[rows],
            coefficients: &self.coefficients[from * Column::COUNT..(from + n) * Column::COUNT],
        }
    }

    /// Times, as the network is told.
    pub fn times(&self) -> &[f32] {
        &self.t
    }

    /// Labels.
    pub fn labels(&self) -> &[i32] {
        &self.y
    }

    fn push(&mut self, x: Vec<f32>, noise: &[f32], t: f64, y: i32, row: &[f32]) {
        self.x.extend(x);
        self.noise.extend(noise);
        self.t.push(t as f32);
        self.y.push(y);
        self.coefficients.extend(row);
    }
}

impl Batches {
    /// The batch of update `k`, from 1.
    ///
    /// # Errors
    /// When an example cannot be read.
    pub fn make(&mut self, k: u64) -> Result<Made, ExamplesError> {
        let image: usize = self.examples.shape().iter().product();
        let (mut made, mut noise, mut posterior) = (Made::default(), vec![0.0; image], vec![0.0; image]);
        for i in 0..self.size {
            let stream = |purpose| Stream { purpose, item: i as u32, step: k as u32 };
            let example = self.order.at((k - 1) * self.size as u64 + i as u64);
            let mirrored = self.flip && uniform(self.seed, stream(Purpose::Flip), 0) < 0.5;
            if self.examples.has_deviation() {
                normals(self.seed, stream(Purpose::Posterior), &mut posterior);
            }
            normals(self.seed, stream(Purpose::TrainingNoise), &mut noise);
            let x = self.examples.read(example as usize, mirrored, &posterior)?;
            let dropped = uniform(self.seed, stream(Purpose::LabelDropout), 0) < self.dropout;
            let label = self.examples.labels()[example as usize];
            let y = self.null_class.filter(|_| dropped).unwrap_or(label);
            let t = self.objective.draw(self.seed, i as u32, k as u32);
            made.push(x, &noise, t, y, &self.objective.row(t, self.size));
            made.examples.push(example);
        }
        Ok(made)
    }

    /// Held-out examples, in a batch that is always the same: times spread evenly, noise of the examples.
    ///
    /// # Errors
    /// When an example cannot be read.
    pub fn held_out(&mut self, examples: &[u32]) -> Result<Made, ExamplesError> {
        let image: usize = self.examples.shape().iter().product();
        let (mut made, mut noise) = (Made::default(), vec![0.0; image]);
        for (i, &example) in examples.iter().enumerate() {
            normals(self.seed, Stream { purpose: Purpose::Validation, item: example, step: 1 }, &mut noise);
            let x = self.examples.read(example as usize, false, &vec![0.0; image])?;
            let t = self.objective.spread(i, examples.len());
            made.push(x, &noise, t, self.examples.labels()[example as usize], &self.objective.row(t, 1));
            made.examples.push(example);
        }
        Ok(made)
    }
}

/// Batches that a thread makes ahead.
pub struct Ahead {
    made: Option<Receiver<Result<Made, ExamplesError>>>,
    thread: Option<JoinHandle<()>>,
}

/// Batches that wait at the most, beside the one that is being made.
const AHEAD: usize = 2;

impl Ahead {
    /// Batches from update `first` on.
    ///
    /// # Errors
    /// When the system starts no more threads.
    pub fn new(mut batches: Batches, first: u64) -> std::io::Result<Ahead> {
        let (send, made) = sync_channel(AHEAD);
        let thread = std::thread::Builder::new().name("batches".into()).spawn(move || {
            for k in first.. {
                let made = batches.make(k);
                let failed = made.is_err();
                // Nobody waits any more, or ever will.
                if send.send(made).is_err() || failed {
                    break;
                }
            }
        })?;
        Ok(Ahead { made: Some(made), thread: Some(thread) })
    }

    /// The next batch.
    ///
    /// # Errors
    /// When an example cannot be read; there are no batches behind that.
    ///
    /// # Panics
    /// Behind an error.
    pub fn take(&mut self) -> Result<Made, ExamplesError> {
        self.made.as_ref().expect("it is there until it is dropped").recv().expect("the thread goes on until it fails")
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.made = None;
        if let Some(thread) = self.thread.take() {
            // It ends when it finds nobody waiting.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tensors::write_tensors;
    use crate::train::examples::Wish;
    use crate::train::objective::{Diffusion, Flow, Path, Prediction, Times};

    /// Latents of one class, `[n,1,4,4]`, of that root mean square.
    fn examples(n: usize, scale: f32) -> Examples {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("latents.safetensors");
        let mut values = vec![0.0; 16 * n];
        normals(5, Stream { purpose: Purpose::Weights, item: 0, step: 0 }, &mut values);
        values.iter_mut().for_each(|v| *v *= scale);
        write_tensors(&path, &[("latents".to_owned(), vec![n, 1, 4, 4])], &mut |_| Some(values.clone())).unwrap();
        Examples::open(&Wish { path, ..Wish::default() }, &mut |_, _| true).unwrap().unwrap()
    }

    fn batches(n: usize, size: usize, seed: u64, objective: Objective) -> Batches {
        let examples = examples(n, 1.0);
        let order = Order::new((0..n as u32).collect(), seed);
        Batches { examples, order, objective, seed, size, dropout: 0.1, null_class: Some(1), flip: false }
    }

    fn diffusion() -> Objective {
        Objective::Diffusion(Diffusion::new(None))
    }

    #[test]
    fn a_tenth_of_the_samples_lose_their_label_and_times_are_spread() {
        let mut all = batches(40, 1000, 3, diffusion());
        let made: Vec<Made> = (1..=10).map(|k| all.make(k).unwrap()).collect();
        let labels: Vec<i32> = made.iter().flat_map(|m| m.labels().to_vec()).collect();
        let dropped = labels.iter().filter(|&&y| y == 1).count();
        assert!(labels.iter().all(|y| [0, 1].contains(y)));
        // Four deviations of 10,000 draws.
        assert!((880..=1120).contains(&dropped), "{dropped} of 10000");
        let times: Vec<f32> = made.iter().flat_map(|m| m.times().to_vec()).collect();
        assert!(times.iter().all(|t| t.fract() == 0.0 && (0.0..1000.0).contains(t)));
        let early = times.iter().filter(|&&t| t < 250.0).count();
        assert!((2327..=2673).contains(&early), "{early} of 10000 in the first quarter");
        // Each update has noise of its own, and each sample.
        let noise = |m: &Made| m.part(0, 1000).noise.chunks(16).map(|c| c[0].to_bits()).collect::<Vec<_>>();
        let mut firsts: Vec<u32> = made.iter().flat_map(noise).collect();
        firsts.sort_unstable();
        firsts.dedup();
        assert!(firsts.len() > 9_900, "{} different of 10000", firsts.len());
    }

    #[test]
    fn a_batch_follows_from_seed_and_update_alone() {
        let flow =
            Flow { path: Path::Linear, prediction: Prediction::Velocity, times: Times::LogitNormal { mean: 0.0, std: 1.0 }, min_snr: None };
        for objective in [diffusion(), Objective::Flow(flow)] {
            let mut from_the_start = batches(7, 5, 3, objective.clone());
            let third = (1..=3).map(|k| from_the_start.make(k).unwrap()).next_back().unwrap();
            assert_eq!(batches(7, 5, 3, objective.clone()).make(3).unwrap(), third);
            assert_ne!(batches(7, 5, 4, objective.clone()).make(3).unwrap(), third);
            // Made ahead they are the same.
            let mut ahead = Ahead::new(batches(7, 5, 3, objective), 2).unwrap();
            ahead.take().unwrap();
            assert_eq!(ahead.take().unwrap(), third);
        }
    }

    #[test]
    fn latents_of_another_scale_are_measured() {
        let statistics = examples(300, 5.49).statistics().unwrap();
        assert!((statistics.scale - 5.49).abs() < 0.2 && (statistics.std[0] - 5.49).abs() < 0.2, "{statistics:?}");
        assert!(statistics.mean[0].abs() < 0.4, "{statistics:?}");
    }
}
