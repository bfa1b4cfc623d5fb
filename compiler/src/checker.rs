//! Proves a placed plan right: replays it on a symbolic memory and holds every read against the program that was
//! placed. Shares no code with [`crate::allocate`]: it looks at bytes, not at lives.
//!
//! Rules, for every step in order:
//! - `place.1` the placed step is the program's step: kernel, label, operands' types and shapes
//! - `place.2` an operand lies inside the arena and starts at a multiple of the alignment
//! - `place.3` every byte that is read was last written by the buffer that the program reads
//! - `place.4` an output overlaps neither another output of its step nor an input, but for one that it is equal to and whose place the
//!   kernel lets it take
//! - `place.5` a buffer outside the arena is at its own port or tensor
//! - `place.6` at the end every output port has been written

use std::collections::BTreeMap;

use fcdm_runtime::plan::{ALIGN, Entry, Operand, Place};
use thiserror::Error;

use crate::lower::{BufferId, Home, Program, View};

/// A plan that does not compute what its program says.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{rule}: step {step} ({label}): {message}")]
pub struct CheckError {
    /// Which rule.
    pub rule: &'static str,
    /// Index of the step.
    pub step: usize,
    /// Its label.
    pub label: String,
    /// What is wrong.
    pub message: String,
}

/// The arena as disjoint half-open byte ranges, each holding one buffer: start -> (end, buffer).
#[derive(Default)]
struct Memory(BTreeMap<usize, (usize, BufferId)>);

impl Memory {
    /// `from..to` now holds `buffer`; whatever was there is gone, as a whole.
    fn write(&mut self, from: usize, to: usize, buffer: BufferId) {
        let hit: Vec<usize> = self.0.range(..to).filter(|(_, (end, _))| *end > from).map(|(&s, _)| s).collect();
        for start in hit {
            let (_, holder) = self.0[&start];
            if holder != buffer {
                self.0.remove(&start);
            }
        }
        self.0.insert(from, (to, buffer));
    }

    fn holds(&self, from: usize, to: usize, buffer: BufferId) -> bool {
        self.0.get(&from).is_some_and(|&(end, b)| b == buffer && end >= to)
    }
}

/// Checks an entry against the program that it places.
///
/// # Errors
/// The first rule that does not hold.
pub fn check(program: &Program, entry: &Entry) -> Result<(), CheckError> {
    let fail = |rule, step: usize, message: String| {
        let label = entry.steps.get(step).map_or("end", |s| s.label.as_str()).to_owned();
        Err(CheckError { rule, step, label, message })
    };
    if program.steps.len() != entry.steps.len() {
        return fail("place.1", 0, format!("{} steps were placed as {}", program.steps.len(), entry.steps.len()));
    }
    let mut memory = Memory::default();
    // Which buffer a state holds: at first the old value, whichever buffer that is.
    let mut state: BTreeMap<usize, BufferId> = BTreeMap::new();
    let mut written = vec![false; entry.outputs.len()];
    for (i, (want, got)) in program.steps.iter().zip(&entry.steps).enumerate() {
        let same = want.kernel == got.kernel && same_views(&want.inputs, &got.inputs) && same_views(&want.outputs, &got.outputs);
        if !same || want.label != got.label {
            return fail("place.1", i, "is not the program's step".to_owned());
        }
        for (view, operand) in want.inputs.iter().zip(&got.inputs).chain(want.outputs.iter().zip(&got.outputs)) {
            if let Some(message) = misplaced(program, entry, view, operand) {
                let rule = if matches!(operand.at, Place::Arena(_)) { "place.2" } else { "place.5" };
                return fail(rule, i, message);
            }
        }
        for (view, operand) in want.inputs.iter().zip(&got.inputs) {
            if let Place::State(k) = operand.at
                && *state.entry(k).or_insert(view.buffer) != view.buffer
            {
                return fail("place.3", i, format!("state {k} does not hold buffer {} any more", view.buffer.0));
            }
            if let Some((from, to)) = range(operand)
                && !memory.holds(from, to, view.buffer)
            {
                return fail("place.3", i, format!("arena bytes {from}..{to} do not hold buffer {} any more", view.buffer.0));
            }
        }
        let signature = got.kernel.signature();
        for (k, out) in got.outputs.iter().enumerate() {
            let takes = |x: usize, o: &Operand| signature.outputs[k].takes.contains(&x) && o.at == out.at && o.bytes() == out.bytes();
            let apart = got.inputs.iter().enumerate().all(|(x, o)| !overlap(o, out) || takes(x, o));
            if !apart || got.outputs.iter().take(k).any(|o| overlap(o, out)) {
                return fail("place.4", i, format!("output {k} overlaps another operand"));
            }
        }
        for (view, operand) in want.outputs.iter().zip(&got.outputs) {
            match operand.at {
                Place::Output(port) => written[port] = true,
                Place::State(k) => {
                    state.insert(k, view.buffer);
                }
                _ => {
                    if let Some((from, to)) = range(operand) {
                        memory.write(from, to, view.buffer);
                    }
                }
            }
        }
    }
    match written.iter().position(|w| !w) {
        Some(port) => fail("place.6", entry.steps.len(), format!("output `{}` is never written", entry.outputs[port].name)),
        None => Ok(()),
    }
}

fn same_views(views: &[View], operands: &[Operand]) -> bool {
    views.len() == operands.len() && views.iter().zip(operands).all(|(v, o)| v.form == o.form && v.shape == o.shape)
}

/// Arena bytes of an operand.
fn range(o: &Operand) -> Option<(usize, usize)> {
    match o.at {
        Place::Arena(at) => Some((at, at + o.bytes())),
        _ => None,
    }
}

fn overlap(a: &Operand, b: &Operand) -> bool {
    match (range(a), range(b)) {
        (Some((a0, a1)), Some((b0, b1))) => a0 < b1 && b0 < a1,
        (None, None) => a.at == b.at,
        _ => false,
    }
}

fn misplaced(program: &Program, entry: &Entry, view: &View, operand: &Operand) -> Option<String> {
    match (&program.buffers[view.buffer.0].home, &operand.at) {
        (Home::Arena, Place::Arena(at)) => {
            let end = at + operand.bytes();
            (at % ALIGN != 0 || end > entry.arena_bytes).then(|| format!("bytes {at}..{end} of an arena of {}", entry.arena_bytes))
        }
        (Home::Input(a), Place::Input(b)) | (Home::Output(a), Place::Output(b)) if a == b => None,
        (Home::Weight(a), Place::Weight(b)) if a == b => None,
        (Home::State(a), Place::State(b)) if a == b => None,
        (home, place) => Some(format!("{home:?} is at {place:?}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::allocate::allocate;
    use crate::lower::Kept;
    use crate::lower::lower;
    use crate::target::Target;
    use fcdm_ir::ops::{Add, Concat, Exp, Sub, Tanh};
    use fcdm_ir::{Builder, Type};
    use fcdm_runtime::encoding::Encoding;
    use fcdm_runtime::plan::Port;

    fn example() -> (Program, Entry) {
        let mut b = Builder::new("f");
        let x = b.input("x", Type::f32([2, 48]));
        let e = b.one(Exp {}, &[x]);
        let t = b.one(Tanh {}, &[e]);
        let s = b.one(Add {}, &[e, t]);
        let c = b.one(Concat { axis: 1 }, &[s, t]);
        let y = b.one(Tanh {}, &[c]);
        let program = lower(&b.finish(vec![("y".into(), y)]), &[], &Target::CPU, &|_| Encoding::F32).unwrap();
        let entry = allocate(&program, "f", 2);
        (program, entry)
    }

    #[test]
    fn a_placement_is_accepted() {
        let (program, entry) = example();
        assert_eq!(check(&program, &entry), Ok(()));
        assert!(entry.arena_bytes * 10 <= entry.arena_lower_bound * 11);
    }

    /// Moves one arena operand's buffer elsewhere, everywhere; some rule must notice every harmful move.
    #[test]
    fn sharing_a_living_buffers_place_is_found() {
        let (program, entry) = example();
        let mut bad = entry.clone();
        let target = bad.steps[0].outputs[0].at.clone();
        let moved = bad.steps[1].outputs[0].at.clone();
        for o in bad.steps.iter_mut().flat_map(|s| s.inputs.iter_mut().chain(&mut s.outputs)) {
            if o.at == moved {
                o.at = target.clone();
            }
        }
        assert!(matches!(check(&program, &bad).unwrap_err().rule, "place.3" | "place.4"));
    }

    #[test]
    fn outputs_take_the_places_of_inputs_that_are_read_no_more() {
        let (_, entry) = example();
        assert_eq!(entry.steps[2].outputs[0].at, entry.steps[2].inputs[0].at, "s = e + t is written over e, the last time that e is read");
        assert_ne!(entry.steps[1].outputs[0].at, entry.steps[1].inputs[0].at, "e is read once more behind t = tanh e");
    }

    /// `w' = w - g`, in place where nobody reads the old w behind it, else by a copy at the end.
    #[test]
    fn states_are_written_behind_all_that_reads_them() {
        let kept = [Kept { input: "w".into(), result: "w2".into() }];
        let steps = |late: bool| {
            let mut b = Builder::new("f");
            let (w, g) = (b.input("w", Type::f32([8])), b.input("g", Type::f32([8])));
            let new = b.one(Sub {}, &[w, g]);
            let y = b.one(Exp {}, &[if late { w } else { g }]);
            let f = b.finish(vec![("w2".into(), new), ("y".into(), y)]);
            let program = lower(&f, &kept, &Target::CPU, &|_| Encoding::F32).unwrap();
            let entry = allocate(&program, "f", 8);
            assert_eq!(check(&program, &entry), Ok(()));
            (program, entry)
        };
        let (_, entry) = steps(false);
        let names = |ports: &[Port]| ports.iter().map(|p| p.name.clone()).collect::<Vec<_>>();
        assert_eq!(
            (names(&entry.inputs), names(&entry.outputs), names(&entry.state)),
            (vec!["g".into()], vec!["y".into()], vec!["w".into()])
        );
        assert_eq!((entry.steps.len(), &entry.steps[0].outputs[0].at), (2, &Place::State(0)));
        let (program, entry) = steps(true);
        assert_eq!((entry.steps.len(), &entry.steps[2].outputs[0].at), (3, &Place::State(0)));
        // Written at once, the old value would be gone.
        let mut bad = entry.clone();
        bad.steps[0].outputs[0].at = Place::State(0);
        assert!(check(&program, &bad).is_err());
    }

    #[test]
    fn every_rule_is_checked() {
        let (program, entry) = example();
        let rule = |change: &dyn Fn(&mut Entry)| {
            let mut bad = entry.clone();
            change(&mut bad);
            check(&program, &bad).unwrap_err().rule
        };
        assert_eq!(rule(&|e| e.steps.swap(1, 2)), "place.1");
        assert_eq!(rule(&|e| e.steps[0].outputs[0].at = Place::Arena(4)), "place.2");
        assert_eq!(rule(&|e| e.arena_bytes = 64), "place.2");
        assert_eq!(rule(&|e| e.steps[2].inputs[1].at = e.steps[2].inputs[0].at.clone()), "place.3");
        // In place of a value that is read once more; of one that the kernel still reads.
        assert_eq!(rule(&|e| e.steps[1].outputs[0].at = e.steps[1].inputs[0].at.clone()), "place.3");
        let onto_its_input = |e: &mut Entry| {
            e.arena_bytes *= 2;
            e.steps[3].outputs[0].at = e.steps[3].inputs[0].at.clone();
        };
        assert_eq!(rule(&onto_its_input), "place.4");
        assert_eq!(rule(&|e| e.steps[0].inputs[0].at = Place::Input(1)), "place.5");
        let mut short = program.clone();
        let mut placed = entry.clone();
        short.steps.pop();
        placed.steps.pop();
        assert_eq!(check(&short, &placed).unwrap_err().rule, "place.6");
    }
}
