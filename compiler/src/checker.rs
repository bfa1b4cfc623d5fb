//! Proves a placed plan right: replays it on a symbolic memory and holds every read against the program as it was lowered, run in the
//! order that lowering gave it with memory of its own for every buffer. Shares no code with [`crate::schedule`], which reorders, nor with
//! [`crate::allocate`], which places: it looks at bytes and at who wrote them, not at dependences and lives.
//!
//! Rules; all that do not hold are reported:
//! - `place.1` the placed steps are the program's, each once: kernel, label, operands' types and shapes; the ports are the program's
//! - `place.2` an operand lies inside the arena and starts at a multiple of the alignment; what a step writes lies inside its output
//! - `place.3` every byte that is read was last written by the step, and as the buffer, by which it was in the given order; by one at least
//! - `place.4` an output overlaps neither another output of its step nor an input, but for one that it is equal to and whose place the
//!   kernel lets it take
//! - `place.5` a buffer outside the arena is at its own port, and inside of it, or tensor; nothing writes inputs and tensors
//! - `place.6` at the end every byte of every output port has been written
//! - `place.7` at the end output ports and state hold what the given order leaves there

mod memory;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;

use fcdm_runtime::plan::{ALIGN, Entry, Operand, Place, Port};
use thiserror::Error;

use self::memory::{Held, Memory, Writer, difference, hole, writer};
use crate::lower::{BufferId, Home, Program, Step, View};

/// A rule that does not hold.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{rule}: step {step} ({label}): {message}")]
pub struct CheckError {
    /// Which rule.
    pub rule: &'static str,
    /// Index of the placed step; behind the last one for what concerns all.
    pub step: usize,
    /// Its label.
    pub label: String,
    /// What is wrong.
    pub message: String,
}

/// All that is wrong with a plan that does not compute what its program says, in the order of its steps.
#[derive(Debug, PartialEq, Eq)]
pub struct CheckErrors(pub Vec<CheckError>);

/// Lines that the errors are shown in, at most; what goes wrong once is often wrong in many steps.
const SHOWN: usize = 8;

impl fmt::Display for CheckErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<String> = self.0.iter().take(SHOWN).map(CheckError::to_string).collect();
        if self.0.len() > SHOWN {
            lines.push(format!("and {} more", self.0.len() - SHOWN));
        }
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for CheckErrors {}

/// Checks an entry against the program as lowered; placed step i is the program's step `order[i]`.
///
/// # Errors
/// Every rule that does not hold, wherever it does not.
pub fn check(program: &Program, order: &[usize], entry: &Entry) -> Result<(), CheckErrors> {
    let mut checker = Checker::new(program, entry);
    if checker.comparable(order) {
        let given = Given::of(program);
        for (i, &of) in order.iter().enumerate() {
            checker.step(i, of, &given.reads[of]);
        }
        checker.end(&given);
    }
    if checker.errors.is_empty() { Ok(()) } else { Err(CheckErrors(checker.errors)) }
}

/// What an input of a step holds; nothing of inputs and tensors, which nobody writes.
type Read = Option<Rc<[Held]>>;

/// What a program reads and leaves behind in the order that it was given, every buffer having memory of its own.
struct Given {
    /// By step and input.
    reads: Vec<Vec<Read>>,
    outputs: Vec<Memory>,
    state: Vec<Memory>,
}

impl Given {
    fn of(program: &Program) -> Given {
        let mut buffers = vec![Memory::default(); program.buffers.len()];
        let mut outputs = vec![Memory::default(); program.outputs.len()];
        let mut state: Vec<Memory> = program.state.iter().map(|p| Memory::filled(port_bytes(p))).collect();
        // Of the buffers that are a state the first is its old value.
        let mut old = vec![false; state.len()];
        for (memory, buffer) in buffers.iter_mut().zip(&program.buffers) {
            if let Home::State(k) = buffer.home
                && !std::mem::replace(&mut old[k], true)
            {
                *memory = Memory::filled(buffer.bytes);
            }
        }
        // Read again and again, a buffer of many ranges is kept once.
        let mut kept: HashMap<BufferId, (usize, Rc<[Held]>)> = HashMap::new();
        let mut reads = Vec::with_capacity(program.steps.len());
        for (i, step) in program.steps.iter().enumerate() {
            let mut read = |v: &View| {
                if matches!(program.buffers[v.buffer.0].home, Home::Input(_) | Home::Weight(_)) {
                    return None;
                }
                let bytes = bytes(v);
                match kept.get(&v.buffer) {
                    Some((of, held)) if *of == bytes => Some(held.clone()),
                    _ => {
                        let held: Rc<[Held]> = buffers[v.buffer.0].read(0..bytes).into();
                        kept.insert(v.buffer, (bytes, held.clone()));
                        Some(held)
                    }
                }
            };
            reads.push(step.inputs.iter().map(&mut read).collect());
            for (v, ranges) in step.outputs.iter().zip(written(step)) {
                kept.remove(&v.buffer);
                for range in ranges.unwrap_or_default() {
                    let by = Writer::Step(i, v.buffer);
                    buffers[v.buffer.0].write(range.clone(), by);
                    match program.buffers[v.buffer.0].home {
                        Home::Output(k) => outputs[k].write(range, by),
                        Home::State(k) => state[k].write(range, by),
                        Home::Arena | Home::Input(_) | Home::Weight(_) => {}
                    }
                }
            }
        }
        Given { reads, outputs, state }
    }
}

/// A replay of the placed steps, and what it has found.
struct Checker<'a> {
    program: &'a Program,
    entry: &'a Entry,
    arena: Memory,
    outputs: Vec<Memory>,
    state: Vec<Memory>,
    errors: Vec<CheckError>,
}

impl<'a> Checker<'a> {
    fn new(program: &'a Program, entry: &'a Entry) -> Checker<'a> {
        Checker {
            program,
            entry,
            arena: Memory::default(),
            outputs: vec![Memory::default(); entry.outputs.len()],
            state: entry.state.iter().map(|p| Memory::filled(port_bytes(p))).collect(),
            errors: Vec::new(),
        }
    }

    fn fail(&mut self, rule: &'static str, step: usize, message: String) {
        let label = self.entry.steps.get(step).map_or("end", |s| s.label.as_str()).to_owned();
        self.errors.push(CheckError { rule, step, label, message });
    }

    /// Whether the two are the same steps and ports, so that one can be held against the other.
    fn comparable(&mut self, order: &[usize]) -> bool {
        let (p, e) = (self.program, self.entry);
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        let steps = p.steps.len() == e.steps.len() && sorted.into_iter().eq(0..p.steps.len());
        if !steps {
            self.fail("place.1", e.steps.len(), format!("{} steps were placed as {}, or not each once", p.steps.len(), e.steps.len()));
        }
        let ports = p.inputs == e.inputs && p.outputs == e.outputs && p.state == e.state;
        if !ports {
            self.fail("place.1", e.steps.len(), "the ports are not the program's".to_owned());
        }
        steps && ports
    }

    fn step(&mut self, i: usize, of: usize, reads: &[Read]) {
        let (want, got) = (&self.program.steps[of], &self.entry.steps[i]);
        let same = want.kernel == got.kernel && same_views(&want.inputs, &got.inputs) && same_views(&want.outputs, &got.outputs);
        if !same || want.label != got.label {
            self.fail("place.1", i, format!("is not step {of} of the program, {}", want.label));
        }
        for (view, operand) in want.inputs.iter().zip(&got.inputs).chain(want.outputs.iter().zip(&got.outputs)) {
            if let Some(message) = misplaced(self.program, self.entry, view, operand) {
                let rule = if matches!(operand.at, Place::Arena(_)) { "place.2" } else { "place.5" };
                self.fail(rule, i, message);
            }
        }
        for ((view, operand), read) in want.inputs.iter().zip(&got.inputs).zip(reads) {
            if let Some(message) = read.as_ref().and_then(|read| self.misread(view, operand, read)) {
                self.fail("place.3", i, message);
            }
        }
        self.apart(i);
        for (k, ((view, operand), ranges)) in want.outputs.iter().zip(&got.outputs).zip(written(want)).enumerate() {
            if matches!(operand.at, Place::Input(_) | Place::Weight(_)) {
                self.fail("place.5", i, format!("output {k} is at {:?}", operand.at));
            }
            match ranges {
                None => self.fail("place.2", i, format!("writes outside of output {k}")),
                Some(ranges) => ranges.into_iter().for_each(|r| self.write(operand, r, Writer::Step(of, view.buffer))),
            }
        }
    }

    /// Why an operand does not hold what it should.
    fn misread(&self, view: &View, operand: &Operand, want: &[Held]) -> Option<String> {
        let (bytes, buffer) = (operand.bytes(), view.buffer.0);
        if let Some(Range { start, end }) = hole(want, bytes) {
            return Some(format!("reads bytes {start}..{end} of buffer {buffer}, which nobody has written"));
        }
        let (memory, from) = match operand.at {
            Place::Arena(at) => (&self.arena, at),
            Place::Output(k) => (self.outputs.get(k)?, 0),
            Place::State(k) => (self.state.get(k)?, 0),
            // Misplaced, which has been said.
            Place::Input(_) | Place::Weight(_) => return None,
        };
        let message = self.differ(want, &memory.read(from..from + bytes))?;
        Some(format!("buffer {buffer} at {:?}: {message}", operand.at))
    }

    /// Rule `place.4`.
    fn apart(&mut self, i: usize) {
        let step = &self.entry.steps[i];
        let signature = step.kernel.signature();
        for (k, (out, allowed)) in step.outputs.iter().zip(&signature.outputs).enumerate() {
            let takes = |x: usize, o: &Operand| allowed.takes.contains(&x) && o.at == out.at && o.bytes() == out.bytes();
            let apart = step.inputs.iter().enumerate().all(|(x, o)| !overlap(o, out) || takes(x, o));
            if !apart || step.outputs.iter().take(k).any(|o| overlap(o, out)) {
                self.fail("place.4", i, format!("output {k} overlaps another operand"));
            }
        }
    }

    fn write(&mut self, operand: &Operand, range: Range<usize>, by: Writer) {
        match operand.at {
            Place::Arena(at) => self.arena.write(at + range.start..at + range.end, by),
            Place::Output(k) => self.outputs.get_mut(k).into_iter().for_each(|m| m.write(range.clone(), by)),
            Place::State(k) => self.state.get_mut(k).into_iter().for_each(|m| m.write(range.clone(), by)),
            Place::Input(_) | Place::Weight(_) => {}
        }
    }

    /// Rules `place.6` and `place.7`.
    fn end(&mut self, given: &Given) {
        let (entry, end) = (self.entry, self.entry.steps.len());
        for (k, port) in entry.outputs.iter().enumerate() {
            let bytes = port_bytes(port);
            let (want, got) = (given.outputs[k].read(0..bytes), self.outputs[k].read(0..bytes));
            if let Some(Range { start, end: to }) = hole(&got, bytes) {
                self.fail("place.6", end, format!("bytes {start}..{to} of output `{}` are never written", port.name));
            } else if let Some(message) = self.differ(&want, &got) {
                self.fail("place.7", end, format!("output `{}`: {message}", port.name));
            }
        }
        for (k, port) in entry.state.iter().enumerate() {
            let (want, got) = (given.state[k].read(0..port_bytes(port)), self.state[k].read(0..port_bytes(port)));
            if let Some(message) = self.differ(&want, &got) {
                self.fail("place.7", end, format!("state `{}`: {message}", port.name));
            }
        }
    }

    /// Where what is held is not what should be.
    fn differ(&self, want: &[Held], got: &[Held]) -> Option<String> {
        let at = difference(want, got)?;
        let (want, got) = (self.named(writer(want, at)), self.named(writer(got, at)));
        Some(format!("byte {at} was last written by {got}, not by {want}"))
    }

    fn named(&self, writer: Option<Writer>) -> String {
        match writer {
            None => "nobody".to_owned(),
            Some(Writer::Before) => "an earlier run".to_owned(),
            Some(Writer::Step(step, buffer)) => format!("{} as buffer {}", self.program.steps[step].label, buffer.0),
        }
    }
}

/// The bytes that a step writes of each output.
fn written(step: &Step) -> Vec<Option<Vec<Range<usize>>>> {
    let signature = step.kernel.signature();
    step.outputs.iter().zip(&signature.outputs).map(|(v, out)| out.writes(bytes(v))).collect()
}

fn bytes(v: &View) -> usize {
    Operand { at: Place::Arena(0), form: v.form, shape: v.shape.clone() }.bytes()
}

fn port_bytes(port: &Port) -> usize {
    port.shape.iter().product::<usize>() * port.dtype.bytes()
}

fn same_views(views: &[View], operands: &[Operand]) -> bool {
    views.len() == operands.len() && views.iter().zip(operands).all(|(v, o)| v.form == o.form && v.shape == o.shape)
}

fn overlap(a: &Operand, b: &Operand) -> bool {
    match (&a.at, &b.at) {
        (Place::Arena(x), Place::Arena(y)) => *x < y + b.bytes() && *y < x + a.bytes(),
        (x, y) => x == y,
    }
}

fn misplaced(program: &Program, entry: &Entry, view: &View, operand: &Operand) -> Option<String> {
    let bytes = operand.bytes();
    let inside = |ports: &[Port], k: usize| {
        let port = ports.get(k).map_or(0, port_bytes);
        (bytes > port).then(|| format!("{bytes} bytes at {:?}, which has {port}", operand.at))
    };
    match (&program.buffers[view.buffer.0].home, &operand.at) {
        (Home::Arena, Place::Arena(at)) => {
            let end = at + bytes;
            (at % ALIGN != 0 || end > entry.arena_bytes).then(|| format!("bytes {at}..{end} of an arena of {}", entry.arena_bytes))
        }
        (Home::Input(a), Place::Input(b)) if a == b => inside(&entry.inputs, *b),
        (Home::Output(a), Place::Output(b)) if a == b => inside(&entry.outputs, *b),
        (Home::State(a), Place::State(b)) if a == b => inside(&entry.state, *b),
        (Home::Weight(a), Place::Weight(b)) if a == b => None,
        (home, place) => Some(format!("{home:?} is at {place:?}")),
    }
}
