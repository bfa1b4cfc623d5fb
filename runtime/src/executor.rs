//! Runs plans. [`Program`] is a plan checked against its weights, every step resolved to a task and addresses;
//! [`Executor`] adds what one caller needs to run it: threads, an arena, scratch. Many executors share a program.
//!
//! All that can go wrong goes wrong in [`Program::load`] and [`Executor::new`]. [`Executor::run`] allocates
//! nothing; it panics only when the caller breaks its contract.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
#[cfg(feature = "bench")]
use std::time::{Duration, Instant};

use crate::arena::{Arena, ArenaError};
use crate::check::{PlanError, check_plan};
use crate::encoding::MAX_PARTS;
use crate::kernels::{Args, Kind, MAX_INPUTS, MAX_OUTPUTS, Needs, Scratch, Split, Task, Worker, task, work};
use crate::memory::{Need, NoMemory};
use crate::plan::{ALIGN, Element, Entry, Form, Operand, Place, Plan, Port, Step};
use crate::simd::{Isa, IsaError};
use crate::threads::Pool;

/// Where the weights are: a memory-mapped artifact, or a test's vectors.
pub trait WeightStore {
    /// Element type, extents and bytes of a tensor, at an address divisible by [`ALIGN`]; `None` if there is none
    /// of that name.
    fn tensor(&self, name: &str) -> Option<(Element, &[usize], &[u8])>;
}

/// A plan that may be run: checked in full and bound to its weights.
pub struct Program {
    plan: Plan,
    isa: Isa,
    entries: Vec<Vec<Bound>>,
    /// For every entry and input: labels must be below.
    limits: Vec<Vec<Option<usize>>>,
    state: Vec<Port>,
    /// Keeps alive what `Slot::Weight` points into.
    weights: Arc<dyn WeightStore + Send + Sync>,
}

/// Work below which a step is not worth waking threads for: some tens of microseconds of one thread.
const WORTH_WAKING: usize = 1 << 19;

/// A step with its task and the places of its operands.
struct Bound {
    task: Box<dyn Task>,
    /// So little work that the caller does it alone sooner than it could wake the others.
    alone: bool,
    /// The first part's place, and from it to the others.
    inputs: [[Slot; MAX_PARTS]; MAX_INPUTS],
    outputs: [Slot; MAX_OUTPUTS],
}

#[derive(Clone, Copy)]
enum Slot {
    None,
    Arena(usize),
    Input(usize),
    Output(usize),
    State(usize),
    Weight(*const u8),
}

// SAFETY: the addresses in it point into the weights, which the program holds and nobody writes; everything else
// is `Send`.
unsafe impl Send for Program {}
// SAFETY: as for `Send`; a program is never changed once loaded.
unsafe impl Sync for Program {}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("plan", &self.plan).field("isa", &self.isa).finish_non_exhaustive()
    }
}

impl Program {
    /// Checks the plan against the weights, binds it to them, and chooses every kernel's body for the instruction set, or if
    /// the plan is reproducible for what that is then ([`Isa::reproducible`]).
    ///
    /// # Errors
    /// The first thing that is wrong, with entry and step.
    pub fn load(plan: Plan, weights: Arc<dyn WeightStore + Send + Sync>, isa: Isa) -> Result<Program, PlanError> {
        check_plan(&plan, &|name| weights.tensor(name).map(|(dtype, shape, _)| (dtype, shape)))?;
        let state = states(&plan);
        let places: HashMap<&str, usize> = state.iter().enumerate().map(|(i, port)| (port.name.as_str(), i)).collect();
        let set = if plan.reproducible { isa.reproducible() } else { isa };
        let mut entries = Vec::new();
        for entry in &plan.entries {
            let state = entry.state.iter().map(|port| places[port.name.as_str()]).collect();
            let binder = Binder { weights: &*weights, entry, state };
            entries.push(entry.steps.iter().map(|step| binder.step(step, set)).collect::<Result<_, _>>()?);
        }
        let limits = plan.entries.iter().map(label_limits).collect();
        Ok(Program { plan, isa, entries, limits, state, weights })
    }

    /// The same for another instruction set.
    pub fn reloaded(&self, isa: Isa) -> Program {
        Program::load(self.plan.clone(), Arc::clone(&self.weights), isa).expect("it was loaded before, for another set")
    }

    /// The instruction set that it was loaded for, as it was asked for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The plan's entries, in its order: the index is what [`Executor::run`] takes.
    pub fn entries(&self) -> &[Entry] {
        &self.plan.entries
    }

    /// Index of the entry of that name and batch size.
    pub fn entry(&self, name: &str, rows: usize) -> Option<usize> {
        self.plan.entries.iter().position(|e| e.name == name && e.rows == rows)
    }

    /// What is kept from one run to the next, by all entries together.
    pub fn state(&self) -> &[Port] {
        &self.state
    }

    /// For each input of an entry: what its labels must be below, if they are looked up anywhere.
    pub fn label_limits(&self, entry: usize) -> &[Option<usize>] {
        &self.limits[entry]
    }

    /// The most of each need over all steps of all entries.
    fn needs(&self, threads: usize) -> Needs {
        most(self.entries.iter().flatten().map(|s| s.task.needs(if s.alone { 1 } else { threads })))
    }
}

/// The states of all entries, each name once; the check has found that they agree.
fn states(plan: &Plan) -> Vec<Port> {
    let mut names = HashSet::new();
    plan.entries.iter().flat_map(|e| &e.state).filter(|port| names.insert(port.name.as_str())).cloned().collect()
}

/// Finds the places of an entry's operands.
struct Binder<'a> {
    weights: &'a dyn WeightStore,
    entry: &'a Entry,
    /// Of each of the entry's states, which of all of them it is.
    state: Vec<usize>,
}

impl Binder<'_> {
    fn step(&self, step: &Step, isa: Isa) -> Result<Bound, PlanError> {
        let mut bound = Bound {
            task: task(step, isa),
            alone: work(step) < WORTH_WAKING,
            inputs: [[Slot::None; MAX_PARTS]; MAX_INPUTS],
            outputs: [Slot::None; MAX_OUTPUTS],
        };
        let fail = |(expected, found)| PlanError { entry: self.entry.name.clone(), step: Some(step.label.clone()), expected, found };
        for (slots, operand) in bound.inputs.iter_mut().zip(&step.inputs) {
            *slots = self.parts(operand).map_err(fail)?;
        }
        for (slot, operand) in bound.outputs.iter_mut().zip(&step.outputs) {
            *slot = self.parts(operand).map_err(fail)?[0];
        }
        Ok(bound)
    }

    /// The places of an operand's parts; a dense one has one.
    fn parts(&self, operand: &Operand) -> Result<[Slot; MAX_PARTS], (String, String)> {
        let mut slots = [Slot::None; MAX_PARTS];
        let (Form::Encoded(encoding), Some(matrix)) = (operand.form, operand.matrix()) else {
            slots[0] = match &operand.at {
                Place::Arena(offset) => Slot::Arena(*offset),
                Place::Input(i) => Slot::Input(*i),
                Place::Output(i) => Slot::Output(*i),
                Place::State(i) => Slot::State(self.state[*i]),
                Place::Weight(name) => self.weight(name, operand.bytes())?,
            };
            return Ok(slots);
        };
        let mut at = 0;
        for (slot, part) in slots.iter_mut().zip(encoding.parts(matrix)) {
            *slot = match &operand.at {
                Place::Weight(name) => self.weight(&format!("{name}{}", part.suffix), part.bytes())?,
                Place::Arena(offset) => Slot::Arena(offset + at),
                Place::Input(_) | Place::Output(_) | Place::State(_) => unreachable!("checked: matrices are in the artifact or the arena"),
            };
            at += part.bytes().next_multiple_of(ALIGN);
        }
        Ok(slots)
    }

    fn weight(&self, name: &str, bytes: usize) -> Result<Slot, (String, String)> {
        let expected = format!("at least {bytes} bytes for tensor `{name}`, aligned to {ALIGN}");
        match self.weights.tensor(name) {
            Some((_, _, found)) if found.len() < bytes => Err((expected, format!("{} bytes", found.len()))),
            Some((_, _, found)) if !(found.as_ptr() as usize).is_multiple_of(ALIGN) => Err((expected, "another alignment".into())),
            Some((_, _, found)) => Ok(Slot::Weight(found.as_ptr())),
            None => Err((expected, "no such tensor".into())),
        }
    }
}

/// The most of each need.
fn most(needs: impl Iterator<Item = Needs>) -> Needs {
    needs.fold(Needs::PLAIN, |a, b| Needs { phases: a.phases.max(b.phases), own: a.own.max(b.own), shared: a.shared.max(b.shared) })
}

/// Bytes that an executor holds at the most to run an entry on `threads` threads, whatever the instruction set, as
/// [`Executor::memory`] would say: arena, and scratch of all threads.
///
/// # Panics
/// Perhaps, for an entry that [`check_plan`] would refuse.
pub fn memory_of(entry: &Entry, threads: usize) -> (usize, usize) {
    let threads = Pool::size(threads);
    let needs = |isa: Isa| entry.steps.iter().map(move |s| task(s, isa).needs(if work(s) < WORTH_WAKING { 1 } else { threads }));
    // Products that round rows to bf16 copy them, the others may widen weights. A reproducible plan is one of the others.
    let needs = most(needs(Isa::SCALAR).chain(needs(Isa::SCALAR.with_bf16())));
    let scratch = scratch_bytes(needs, threads).and_then(|s| s.own.checked_add(s.shared));
    (entry.arena_bytes, scratch.unwrap_or(usize::MAX))
}

/// Bytes of scratch.
struct ScratchBytes {
    /// One thread's own part.
    own_step: usize,
    /// Those of all threads.
    own: usize,
    shared: usize,
}

/// `None` for more than there are addresses.
fn scratch_bytes(needs: Needs, threads: usize) -> Option<ScratchBytes> {
    let bytes = |f32s: usize| f32s.checked_mul(4).and_then(|b| b.checked_next_multiple_of(ALIGN));
    let own_step = bytes(needs.own)?;
    Some(ScratchBytes { own_step, own: own_step.checked_mul(threads)?, shared: bytes(needs.shared)? })
}

fn label_limits(entry: &Entry) -> Vec<Option<usize>> {
    let mut limits = vec![None; entry.inputs.len()];
    for step in &entry.steps {
        let inputs = step.kernel.signature().inputs_of(step.inputs.len()).unwrap_or_default();
        for (input, operand) in inputs.iter().zip(&step.inputs) {
            if let (Kind::Labels(below), Place::Input(i)) = (input.kind, &operand.at) {
                let limit = below(&step.inputs, &step.outputs);
                limits[*i] = Some(limits[*i].map_or(limit, |l: usize| l.min(limit)));
            }
        }
    }
    limits
}

/// What the caller provides for an input.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Numbers.
    F32(&'a [f32]),
    /// Labels.
    I32(&'a [i32]),
}

/// An executor cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// `FCDM_ISA` asks for what is not there.
    #[error(transparent)]
    Isa(#[from] IsaError),
    /// The machine has not the memory that arena, state and scratch take.
    #[error(transparent)]
    NoMemory(#[from] NoMemory),
    /// It had it a moment ago.
    #[error(transparent)]
    Memory(#[from] ArenaError),
    /// The system starts no more threads.
    #[error("cannot start threads: {0}")]
    Threads(#[from] std::io::Error),
}

/// Threads and memory to run a program's entries, one at a time.
#[derive(Debug)]
pub struct Executor {
    program: Arc<Program>,
    pool: Pool,
    arena: Arena,
    /// A memory for every one of [`Program::state`].
    state: Vec<Arena>,
    own: Arena,
    /// Bytes of one thread's part of `own`.
    own_step: usize,
    shared: Arena,
}

impl Executor {
    /// An executor on `threads` threads (0 counts as 1). State is zero at first.
    ///
    /// # Errors
    /// Memory or threads that cannot be had.
    pub fn new(program: Arc<Program>, threads: usize) -> Result<Executor, ExecutorError> {
        let threads = Pool::size(threads);
        let needs = program.needs(threads);
        let scratch = scratch_bytes(needs, threads).ok_or(ArenaError { bytes: usize::MAX })?;
        let arena = program.plan.entries.iter().map(|e| e.arena_bytes).max().unwrap_or(0);
        let state_bytes = |port: &Port| port.shape.iter().product::<usize>() * port.dtype.bytes();
        Need::of("running the plan")
            .with("values", arena as u64)
            .with("state", program.state.iter().fold(0, |sum, port| sum.saturating_add(state_bytes(port) as u64)))
            .with("scratch", (scratch.own as u64).saturating_add(scratch.shared as u64))
            .reserve()?;
        let state = |port: &Port| Arena::new(state_bytes(port));
        Ok(Executor {
            pool: Pool::new(threads)?,
            arena: Arena::new(arena)?,
            state: program.state.iter().map(state).collect::<Result<_, _>>()?,
            own: Arena::new(scratch.own)?,
            own_step: scratch.own_step,
            shared: Arena::new(scratch.shared)?,
            program,
        })
    }

    /// The program it runs.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Bytes of memory held: arena, and scratch of all threads.
    pub fn memory(&self) -> (usize, usize) {
        (self.arena.bytes(), self.own.bytes() + self.shared.bytes())
    }

    /// The values of a state.
    pub fn state(&self, name: &str) -> Option<&[f32]> {
        let (address, count) = self.state_at(name)?;
        // SAFETY: the memory was made for so many f32, and is borrowed with the executor.
        Some(unsafe { std::slice::from_raw_parts(address, count) })
    }

    /// The values of a state, to write.
    pub fn state_mut(&mut self, name: &str) -> Option<&mut [f32]> {
        let (address, count) = self.state_at(name)?;
        // SAFETY: as above; nobody else has the executor.
        Some(unsafe { std::slice::from_raw_parts_mut(address, count) })
    }

    /// Where a state is, and its f32: the check lets nothing else be state.
    fn state_at(&self, name: &str) -> Option<(*mut f32, usize)> {
        let i = self.program.state.iter().position(|port| port.name == name)?;
        Some((self.state[i].as_ptr().cast(), self.program.state[i].shape.iter().product()))
    }

    /// Runs an entry. Allocates nothing.
    ///
    /// # Panics
    /// If an input or output is missing or has another count or element type than the entry's port, or a label is
    /// not below its limit.
    pub fn run(&mut self, entry: usize, inputs: &[Input<'_>], outputs: &mut [&mut [f32]]) {
        self.program.accept(entry, inputs, outputs);
        self.run_steps(entry, inputs, outputs, |_, _| {});
    }

    /// As [`Executor::run`], and looks at all that every step writes: the first step that makes what is not finite, of values that may have
    /// been so before. Takes as long again.
    ///
    /// # Panics
    /// As there.
    pub fn first_not_finite(&mut self, entry: usize, inputs: &[Input<'_>], outputs: &mut [&mut [f32]]) -> Option<Step> {
        self.program.accept(entry, inputs, outputs);
        let program = Arc::clone(&self.program);
        let mut first = None;
        self.run_steps(entry, inputs, outputs, |i, args| {
            let step = &program.plan.entries[entry].steps[i];
            if first.is_none() && !writes_finite(step, args) {
                first = Some(step.clone());
            }
        });
        first
    }

    /// As [`Executor::run`], and writes how long each step took: `times` has one element a step.
    ///
    /// # Panics
    /// As there, and if `times` has another length.
    #[cfg(feature = "bench")]
    pub fn run_profiled(&mut self, entry: usize, inputs: &[Input<'_>], outputs: &mut [&mut [f32]], times: &mut [Duration]) {
        assert_eq!(times.len(), self.program.entries[entry].len(), "one time a step");
        self.program.accept(entry, inputs, outputs);
        let mut last = Instant::now();
        self.run_steps(entry, inputs, outputs, |step, _| {
            let now = Instant::now();
            times[step] = now - last;
            last = now;
        });
    }

    /// Runs what was accepted; `done` hears of every step. No clock is looked at here, for there are machines without one.
    fn run_steps(&mut self, entry: usize, inputs: &[Input<'_>], outputs: &mut [&mut [f32]], mut done: impl FnMut(usize, &Args)) {
        let program = Arc::clone(&self.program);
        for (i, step) in program.entries[entry].iter().enumerate() {
            let mut args = Args::NONE;
            for (addresses, slots) in args.inputs.iter_mut().zip(&step.inputs) {
                for (address, &slot) in addresses.iter_mut().zip(slots) {
                    *address = self.address(slot, inputs, outputs).cast_const();
                }
            }
            for (address, &slot) in args.outputs.iter_mut().zip(&step.outputs) {
                *address = self.address(slot, inputs, outputs);
            }
            self.run_step(step, &args);
            done(i, &args);
        }
    }

    fn run_step(&mut self, step: &Bound, args: &Args) {
        let task = &*step.task;
        let threads = if step.alone { 1 } else { self.pool.threads() };
        let needs = task.needs(threads);
        let own = Scratch::new(self.own.as_ptr().cast(), self.own.bytes() / 4);
        let own_step = self.own_step / 4;
        let shared = Scratch::new(self.shared.as_ptr().cast(), self.shared.bytes() / 4);
        for phase in 0..needs.phases {
            let claims = AtomicUsize::new(0);
            let part = |thread: usize| {
                let split = if threads == 1 { Split::Fixed { thread: 0, taken: 0 } } else { Split::Claimed(&claims) };
                // SAFETY: every thread has its own part of the scratch.
                let own = unsafe { own.write(thread * own_step..thread * own_step + needs.own) };
                // SAFETY: `check_plan` found all operands inside of their memory, and outputs apart from each other and
                // from inputs whose places they may not take; every unit is claimed once, and all are done before the next phase.
                unsafe { task.run(phase, args, &mut Worker { threads, own, shared, split }) };
            };
            if step.alone { part(0) } else { self.pool.run(&part) }
        }
    }

    /// The address of an operand in this run. Those of inputs and weights are only read, since `check_plan` lets
    /// no step write there.
    fn address(&self, slot: Slot, inputs: &[Input<'_>], outputs: &mut [&mut [f32]]) -> *mut u8 {
        match slot {
            Slot::None => std::ptr::null_mut(),
            // SAFETY: `check_plan` found the operand inside of the arena.
            Slot::Arena(offset) => unsafe { self.arena.as_ptr().add(offset) },
            Slot::Input(i) => match inputs[i] {
                Input::F32(x) => x.as_ptr().cast::<u8>().cast_mut(),
                Input::I32(x) => x.as_ptr().cast::<u8>().cast_mut(),
            },
            Slot::Output(i) => outputs[i].as_mut_ptr().cast(),
            Slot::State(i) => self.state[i].as_ptr(),
            Slot::Weight(address) => address.cast_mut(),
        }
    }
}

/// Whether all numbers are finite that a step has just written.
fn writes_finite(step: &Step, args: &Args) -> bool {
    let signature = step.kernel.signature();
    step.outputs.iter().zip(&signature.outputs).zip(args.outputs).all(|((operand, output), address)| {
        // Those that are encoded hold f32 too.
        let ranges = output.writes(operand.bytes()).unwrap_or_default();
        ranges.into_iter().all(|range| {
            // SAFETY: `check_plan` found the operand inside of its memory and this part inside of the operand; nobody writes there now.
            let values = unsafe { std::slice::from_raw_parts(address.add(range.start).cast::<f32>(), range.len() / 4) };
            values.iter().all(|v| v.is_finite())
        })
    })
}

impl Program {
    /// Asserts the caller's part of the contract of [`Executor::run`].
    fn accept(&self, entry: usize, inputs: &[Input<'_>], outputs: &[&mut [f32]]) {
        let Entry { name, inputs: ports, outputs: results, .. } = &self.plan.entries[entry];
        assert_eq!(inputs.len(), ports.len(), "{name}: number of inputs");
        assert_eq!(outputs.len(), results.len(), "{name}: number of outputs");
        for ((input, port), limit) in inputs.iter().zip(ports).zip(&self.limits[entry]) {
            let count: usize = port.shape.iter().product();
            match (input, port.dtype) {
                (Input::F32(x), Element::F32) => assert_eq!(x.len(), count, "{name}: elements of input `{}`", port.name),
                (Input::I32(x), Element::I32) => {
                    assert_eq!(x.len(), count, "{name}: elements of input `{}`", port.name);
                    if let Some(limit) = *limit {
                        let label = x.iter().find(|&&y| usize::try_from(y).map_or(true, |y| y >= limit));
                        assert!(label.is_none(), "{name}: input `{}`: labels are below {limit}, found {label:?}", port.name);
                    }
                }
                (_, dtype) => panic!("{name}: input `{}` is {dtype:?}", port.name),
            }
        }
        for (output, port) in outputs.iter().zip(results) {
            assert_eq!(output.len(), port.shape.iter().product::<usize>(), "{name}: elements of output `{}`", port.name);
        }
    }
}
