//! Repeated timing: warm-up, then runs until there are enough of them and enough time has passed. The median is what
//! is reported: a mean moves with every interruption, a minimum with every lucky run.

use std::time::{Duration, Instant};

use serde::Serialize;

/// How often to run something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeat {
    /// Runs before the first that counts.
    pub warmup: usize,
    /// Runs that count, at the least; 0 counts as 1.
    pub runs: usize,
    /// Time that they take together, at the least.
    pub time: Duration,
}

impl Repeat {
    /// Whether `runs` runs since `start` are enough.
    fn enough(&self, runs: usize, start: Instant) -> bool {
        runs >= self.runs.max(1) && start.elapsed() >= self.time
    }

    /// Calls each of `variants` in turn, A B A B, so that a slow spell of the machine meets them alike, and returns the
    /// times of each in order of the calls. `run` is given the variant's index.
    pub fn in_turn(&self, variants: usize, mut run: impl FnMut(usize)) -> Vec<Vec<Duration>> {
        for _ in 0..self.warmup {
            (0..variants).for_each(&mut run);
        }
        let mut times = vec![Vec::new(); variants];
        let start = Instant::now();
        loop {
            for (variant, times) in times.iter_mut().enumerate() {
                let before = Instant::now();
                run(variant);
                times.push(before.elapsed());
            }
            if self.enough(times.first().map_or(usize::MAX, Vec::len), start) {
                return times;
            }
        }
    }

    /// The times of one thing.
    pub fn times(&self, mut run: impl FnMut()) -> Vec<Duration> {
        self.in_turn(1, |_| run()).swap_remove(0)
    }
}

/// What repeated runs took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Times {
    /// Seconds, half of the runs took longer.
    pub median_s: f64,
    /// Seconds of the fastest run.
    pub minimum_s: f64,
    /// Number of runs.
    pub runs: usize,
}

impl Times {
    /// Of at least one run.
    ///
    /// # Panics
    /// Without a run.
    pub fn of(times: &[Duration]) -> Times {
        let mut sorted = times.to_vec();
        sorted.sort_unstable();
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Times { median_s: (low + high).as_secs_f64() / 2.0, minimum_s: sorted[0].as_secs_f64(), runs: sorted.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_minimum() {
        let of = |ms: &[u64]| Times::of(&ms.iter().map(|&m| Duration::from_millis(m)).collect::<Vec<_>>());
        assert_eq!(of(&[7]), Times { median_s: 0.007, minimum_s: 0.007, runs: 1 });
        assert_eq!(of(&[9, 1, 5]), Times { median_s: 0.005, minimum_s: 0.001, runs: 3 });
        assert_eq!(of(&[9, 1, 5, 6]), Times { median_s: 0.0055, minimum_s: 0.001, runs: 4 });
    }

    #[test]
    fn turns_and_numbers_of_runs() {
        let mut order = Vec::new();
        let times = Repeat { warmup: 1, runs: 2, time: Duration::ZERO }.in_turn(3, |v| order.push(v));
        assert_eq!(order, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
        assert!(times.len() == 3 && times.iter().all(|t| t.len() == 2));
        let mut runs = 0;
        let times = Repeat { warmup: 3, runs: 0, time: Duration::ZERO }.times(|| runs += 1);
        assert_eq!((runs, times.len()), (4, 1));
        let time = Duration::from_millis(3);
        let slept = Repeat { warmup: 0, runs: 1, time }.times(|| std::thread::sleep(Duration::from_millis(1)));
        assert!(slept.iter().sum::<Duration>() >= Duration::from_millis(1), "{slept:?}");
    }
}
