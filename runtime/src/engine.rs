//! The seam between what is generated and what computes it. A [`Device`] loads a plan, or refuses it and names the step that it cannot
//! run; the [`Engine`] that comes of it runs entry points. Networks, autoencoders and samplers know no more of a machine than this.
//!
//! What an engine holds from one run to the next is the plan's state ([`crate::plan::Entry::state`]): it stays where the engine
//! computes. All else goes in and out with every run.

use std::sync::Arc;

use crate::check::PlanError;
use crate::executor::{Executor, ExecutorError, Input, Program, WeightStore, memory_of};
use crate::plan::{Entry, Plan};
use crate::simd::Isa;

/// Where plans run.
pub trait Device {
    /// Checks a plan in full, binds it to its weights and reserves what running it takes.
    ///
    /// # Errors
    /// The first thing that is wrong or that this device cannot run, with entry and step; what the machine lacks.
    fn load(&self, plan: Plan, weights: Arc<dyn WeightStore + Send + Sync>) -> Result<Box<dyn Engine>, LoadError>;

    /// Bytes that an engine holds at the most to run an entry: its values, and what kernels take beside them.
    ///
    /// # Panics
    /// Perhaps, for an entry that [`Device::load`] would refuse.
    fn memory_of(&self, entry: &Entry) -> (usize, usize);
}

/// A plan that is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The plan, or one of its steps on this device.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The machine.
    #[error(transparent)]
    Machine(#[from] ExecutorError),
}

/// A loaded plan.
pub trait Engine: Send {
    /// The plan's entries, in its order: the index is what [`Engine::run`] takes.
    fn entries(&self) -> &[Entry];

    /// For each input of an entry: what its labels must be below, if they are looked up anywhere.
    fn label_limits(&self, entry: usize) -> &[Option<usize>];

    /// Runs an entry. It does not fail, and on the CPU allocates nothing.
    ///
    /// # Panics
    /// If an input or output is missing or has another count or element type than the entry's port, or a label is
    /// not below its limit.
    fn run(&mut self, entry: usize, inputs: &[Input<'_>], outputs: &mut [&mut [f32]]);

    /// Copies a state's values out.
    ///
    /// # Panics
    /// If there is no state of that name, or it has another count.
    fn read_state(&self, name: &str, values: &mut [f32]);

    /// Copies a state's values in.
    ///
    /// # Panics
    /// As of [`Engine::read_state`].
    fn write_state(&mut self, name: &str, values: &[f32]);

    /// Bytes held: values, and what kernels take beside them.
    fn memory(&self) -> (usize, usize);

    /// The CPU's executor, if it is that: measuring looks at its steps.
    fn as_executor(&mut self) -> Option<&mut Executor>;
}

/// The CPU: kernels for an instruction set, on some threads.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    /// Number of threads; 0 counts as 1.
    pub threads: usize,
    /// The instruction set.
    pub isa: Isa,
}

impl Cpu {
    /// With the instruction set that `FCDM_ISA` names, or the best.
    ///
    /// # Errors
    /// When that set cannot be had.
    pub fn new(threads: usize) -> Result<Cpu, ExecutorError> {
        Ok(Cpu { threads, isa: Isa::from_env()? })
    }
}

impl Device for Cpu {
    fn load(&self, plan: Plan, weights: Arc<dyn WeightStore + Send + Sync>) -> Result<Box<dyn Engine>, LoadError> {
        let program = Program::load(plan, weights, self.isa)?;
        Ok(Box::new(Executor::new(Arc::new(program), self.threads)?))
    }

    fn memory_of(&self, entry: &Entry) -> (usize, usize) {
        memory_of(entry, self.threads)
    }
}

impl Engine for Executor {
    fn entries(&self) -> &[Entry] {
        self.program().entries()
    }

    fn label_limits(&self, entry: usize) -> &[Option<usize>] {
        self.program().label_limits(entry)
    }

    fn run(&mut self, entry: usize, inputs: &[Input<'_>], outputs: &mut [&mut [f32]]) {
        Executor::run(self, entry, inputs, outputs);
    }

    fn read_state(&self, name: &str, values: &mut [f32]) {
        values.copy_from_slice(self.state(name).unwrap_or_else(|| panic!("there is no state `{name}`")));
    }

    fn write_state(&mut self, name: &str, values: &[f32]) {
        self.state_mut(name).unwrap_or_else(|| panic!("there is no state `{name}`")).copy_from_slice(values);
    }

    fn memory(&self) -> (usize, usize) {
        Executor::memory(self)
    }

    fn as_executor(&mut self) -> Option<&mut Executor> {
        Some(self)
    }
}
