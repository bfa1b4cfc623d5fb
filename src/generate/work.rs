//! Sampling, a batch after the other, with progress, previews and a way to stop.

use std::ops::ControlFlow;

use fcdm_runtime::artifact::Verification;
use fcdm_runtime::generate::{Known, Progress, Request, Start, sample};
use fcdm_runtime::network::{Class, Network};
use fcdm_runtime::sampler::{Guidance, Method};

use super::Arguments;
use super::job::Job;
use super::output::Preview;
use super::start::{Init, Noise, starting_noise};
use crate::failure::Failure;
use crate::progress;

/// Takes the final states of a batch.
pub type Add<'a> = &'a mut dyn FnMut(&[Job], &[f32]) -> Result<(), Failure>;

/// What all batches have in common.
pub struct Work<'a> {
    /// The options.
    pub a: &'a Arguments,
    /// The sampler.
    pub method: Method,
    /// Guidance.
    pub guidance: Guidance,
    /// Noise given by the user.
    pub noise: Option<Noise>,
    /// What to begin from, if not from noise alone.
    pub init: Option<Init>,
    /// Pictures in all.
    pub total: usize,
}

impl Work<'_> {
    /// Samples the jobs; `add` takes every batch of final states.
    pub fn all(
        &self,
        network: &mut Network,
        jobs: &[Job],
        verification: Verification,
        mut preview: Option<Preview>,
        evaluated: &mut u64,
        add: Add<'_>,
    ) -> Result<(), Failure> {
        let (mut verification, batch_size) = (Some(verification), self.a.batch as usize);
        let mut bar = progress::steps(0, self.a.json);
        let state_len = network.state_len();
        let mut states = vec![0.0; jobs.len().min(batch_size) * state_len];
        for (i, batch) in jobs.chunks(batch_size).enumerate() {
            let classes: Vec<Class> = batch.iter().map(Job::class).collect();
            let clean = self.init.as_ref().map(|init| init.states(batch));
            let states = &mut states[..batch.len() * state_len];
            let mut step_noise = starting_noise(&self.noise, batch, states);
            let mut failed = None;
            let mut after = |p: &Progress<'_>| {
                if p.step == 0 && i == 0 {
                    bar = progress::steps((p.steps * jobs.len().div_ceil(batch_size)) as u64, self.a.json);
                }
                *evaluated += 1;
                bar.set_message(self.message(batch));
                bar.set_position(*evaluated);
                let due = self.a.preview.is_some_and(|every| (p.step + 1).is_multiple_of(every as usize));
                if let Some(preview) = preview.as_mut().filter(|_| due) {
                    failed = preview.show(p, state_len).err();
                }
                let damaged = verification.as_ref().is_some_and(Verification::found_damage);
                if progress::stopped() || damaged || failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let mut request = Request::new(self.method, self.guidance, &classes);
            if let (Some(init), Some(clean)) = (&self.init, &clean) {
                request.start = Some(Start { clean, strength: init.strength() });
                request.known = init.mask().map(|mask| Known { clean, mask });
            }
            let done = sample(network, &request, states, step_noise.as_mut(), &mut after);
            let done = done.map_err(Failure::usage)?;
            if let Some(failure) = failed {
                return Err(failure);
            }
            // Nothing is written that damaged weights may have made.
            let verified = verification.take().map_or(Ok(true), |v| v.wait(&progress::stopped))?;
            if !(done && verified) {
                bar.finish_and_clear();
                let finished = self.total - jobs.len() + i * batch_size;
                return Err(Failure::cancelled(format!("stopped; {finished} of {} pictures are finished", self.total)));
            }
            add(batch, states)?;
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn message(&self, batch: &[Job]) -> String {
        let (first, last) = (batch[0].index + 1, batch[batch.len() - 1].index + 1);
        let which = if batch.len() == 1 { format!("picture {last}") } else { format!("pictures {first}-{last}") };
        format!("{which} of {}", self.total)
    }
}
