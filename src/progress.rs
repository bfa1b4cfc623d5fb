//! What a person sees who waits for a compilation.

pub use fcdm_command::progress::{Progress, bytes, parse_size, size, steps};
use fcdm_ir::Module;
use fcdm_models::compile::{Observer, Phase};
use fcdm_passes::Pass;

use crate::say::sayln;
use crate::signals::stopped;

/// Shows how far a compilation is, and stops it when that was asked for.
pub struct Watcher {
    print_ir: bool,
    phase: Option<Phase>,
    progress: Option<Progress>,
}

impl Watcher {
    /// `print_ir`: also print the IR after every pass.
    pub fn new(print_ir: bool) -> Watcher {
        Watcher { print_ir, phase: None, progress: None }
    }

    fn clear(&self) {
        self.progress.iter().for_each(Progress::finish_and_clear);
    }
}

impl Observer for Watcher {
    fn progress(&mut self, phase: Phase, done: u64, total: u64) -> bool {
        if self.phase != Some(phase) {
            self.clear();
            let progress = if phase.is_of_bytes() { bytes(total) } else { steps(total) };
            self.progress = Some(progress.with_message(phase.name()));
            self.phase = Some(phase);
        }
        self.progress.iter_mut().for_each(|p| p.set_position(done));
        !stopped()
    }

    fn pass(&mut self, pass: &'static Pass, module: &Module) {
        if self.print_ir {
            sayln!("; after {}\n{module}", pass.name);
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.clear();
    }
}
