//! Every rule violated, and what none of them minds.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::allocate::allocate;
use crate::lower::{Buffer, Kept, lower};
use crate::target::Target;
use fcdm_ir::ops::{Add, Concat, Exp, Sub, Tanh};
use fcdm_ir::{Builder, Type};
use fcdm_runtime::kernels::{Copy, Fill, Kernel};
use fcdm_runtime::plan::{Element, Form};

/// Checks a program that was placed in its own order.
fn check(program: &Program, entry: &Entry) -> Result<(), CheckErrors> {
    let order: Vec<usize> = (0..program.steps.len()).collect();
    super::check(program, &order, entry)
}

/// The rules that do not hold, and in which steps.
fn faults(result: Result<(), CheckErrors>) -> Vec<(&'static str, usize)> {
    result.err().map_or(Vec::new(), |errors| errors.0.iter().map(|e| (e.rule, e.step)).collect())
}

fn reordered(program: &Program, order: &[usize]) -> Program {
    Program { steps: order.iter().map(|&i| program.steps[i].clone()).collect(), ..program.clone() }
}

fn example() -> (Program, Entry) {
    let mut b = Builder::new("f");
    let x = b.input("x", Type::f32([2, 48]));
    let e = b.one(Exp {}, &[x]);
    let t = b.one(Tanh {}, &[e]);
    let s = b.one(Add {}, &[e, t]);
    let c = b.one(Concat { axis: 1 }, &[s, t]);
    let y = b.one(Tanh {}, &[c]);
    let program = lower(&b.finish(vec![("y".into(), y)]), &[], &Target::CPU).unwrap();
    let entry = allocate(&program, "f", 2);
    (program, entry)
}

#[test]
fn a_placement_is_accepted() {
    let (program, entry) = example();
    assert_eq!(check(&program, &entry), Ok(()));
    assert!(entry.arena_bytes * 10 <= entry.arena_lower_bound * 11);
}

/// Two lives in one place.
#[test]
fn sharing_a_living_buffers_place_is_found() {
    let (program, mut bad) = example();
    let target = bad.steps[0].outputs[0].at.clone();
    let moved = bad.steps[1].outputs[0].at.clone();
    for o in bad.steps.iter_mut().flat_map(|s| s.inputs.iter_mut().chain(&mut s.outputs)) {
        if o.at == moved {
            o.at = target.clone();
        }
    }
    assert_eq!(faults(check(&program, &bad)), [("place.3", 2), ("place.3", 4)]);
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
        let program = lower(&f, &kept, &Target::CPU).unwrap();
        let entry = allocate(&program, "f", 8);
        assert_eq!(check(&program, &entry), Ok(()));
        (program, entry)
    };
    let (_, entry) = steps(false);
    let names = |ports: &[Port]| ports.iter().map(|p| p.name.clone()).collect::<Vec<_>>();
    assert_eq!((names(&entry.inputs), names(&entry.outputs), names(&entry.state)), (vec!["g".into()], vec!["y".into()], vec!["w".into()]));
    assert_eq!((entry.steps.len(), &entry.steps[0].outputs[0].at), (2, &Place::State(0)));
    let (program, entry) = steps(true);
    assert_eq!((entry.steps.len(), &entry.steps[2].outputs[0].at), (3, &Place::State(0)));
    // Written at once, the old value would be gone; unless it is read before.
    let mut early = program.clone();
    early.steps[0].outputs[0].buffer = program.steps[2].outputs[0].buffer;
    early.steps.pop();
    assert_eq!(faults(check(&early, &allocate(&early, "f", 8))), [("place.3", 1)]);
    assert_eq!(super::check(&early, &[1, 0], &allocate(&reordered(&early, &[1, 0]), "f", 8)), Ok(()));
}

#[test]
fn every_rule_of_a_step_is_checked() {
    let (program, entry) = example();
    let found = |change: &dyn Fn(&mut Entry)| {
        let mut bad = entry.clone();
        change(&mut bad);
        faults(check(&program, &bad))
    };
    assert_eq!(entry.steps.iter().map(|s| s.label.as_str()).collect::<Vec<_>>(), ["0", "1", "2", "3", "3", "4"]);
    assert_eq!(found(&|e| e.steps[1].label = "u".into()), [("place.1", 1)]);
    assert_eq!(found(&|e| e.steps[2].outputs[0].shape = vec![96]), [("place.1", 2)]);
    assert_eq!(found(&|e| e.outputs[0].name = "z".into()), [("place.1", 6)]);
    assert_eq!(found(&|e| e.steps.truncate(5)), [("place.1", 5)]);
    assert_eq!(faults(super::check(&program, &[0, 1, 2, 3, 4, 4], &entry)), [("place.1", 6)]);
    assert_eq!(found(&|e| e.steps[0].outputs[0].at = Place::Arena(4))[0], ("place.2", 0));
    assert_eq!(found(&|e| e.arena_bytes = 64)[0], ("place.2", 0));
    assert_eq!(found(&|e| e.steps[2].inputs[1].at = e.steps[2].inputs[0].at.clone()), [("place.3", 2)]);
    // In place of a value that is read once more; of one that the kernel still reads.
    assert_eq!(found(&|e| e.steps[1].outputs[0].at = e.steps[1].inputs[0].at.clone())[0], ("place.3", 2));
    let onto_its_input = |e: &mut Entry| {
        e.arena_bytes *= 2;
        e.steps[3].outputs[0].at = e.steps[3].inputs[0].at.clone();
    };
    assert_eq!(found(&onto_its_input)[0], ("place.4", 3));
    assert_eq!(found(&|e| e.steps[0].inputs[0].at = Place::Input(1)), [("place.5", 0)]);
    assert_eq!(found(&|e| e.steps[5].outputs[0].at = Place::Input(0))[0], ("place.5", 5));
}

/// Steps on buffers of eight numbers: buffer 0 is the output `y`, the others are in the arena or all of one state.
fn by_hand(state: bool, buffers: usize, steps: Vec<(Kernel, Vec<usize>, usize)>) -> (Program, Entry) {
    let port = |name: &str| Port { name: name.into(), dtype: Element::F32, shape: vec![8] };
    let view = |b: usize| View { buffer: BufferId(b), form: Form::F32, shape: vec![8] };
    let home = |b: usize| match (b, state) {
        (0, _) => Home::Output(0),
        (_, true) => Home::State(0),
        (_, false) => Home::Arena,
    };
    let steps = steps.into_iter().enumerate().map(|(i, (kernel, x, y))| {
        let inputs = x.into_iter().map(view).collect();
        Step { label: format!("s{i}"), kernel, inputs, outputs: vec![view(y)] }
    });
    let program = Program {
        outputs: vec![port("y")],
        state: if state { vec![port("w")] } else { Vec::new() },
        buffers: (0..=buffers).map(|b| Buffer { bytes: 32, home: home(b) }).collect(),
        steps: steps.collect(),
        ..Program::default()
    };
    let entry = allocate(&program, "f", 8);
    (program, entry)
}

fn fill() -> Kernel {
    Fill { value: 0.0 }.into()
}

/// Copies `count` numbers from `first` on, `stride` apart, to the same numbers of y.
fn some(first: usize, count: usize, stride: isize) -> Kernel {
    Copy { extents: vec![count], from: first, x_strides: vec![stride], to: first, y_strides: vec![stride] }.into()
}

#[test]
fn parts_make_a_whole() {
    for (a, b) in [(some(0, 4, 1), some(4, 4, 1)), (some(0, 4, 2), some(7, 4, -2)), (some(0, 8, 1), some(3, 2, 1))] {
        let (program, entry) = by_hand(false, 2, vec![(fill(), vec![], 1), (a, vec![1], 2), (b, vec![1], 2), (some(0, 8, 1), vec![2], 0)]);
        assert_eq!(check(&program, &entry), Ok(()));
    }
}

#[test]
fn holes_are_found() {
    let hole = |a: Kernel, b: Kernel| {
        let steps = vec![(fill(), vec![], 1), (a.clone(), vec![1], 2), (b.clone(), vec![1], 2), (some(0, 8, 1), vec![2], 0)];
        let (program, entry) = by_hand(false, 2, steps);
        let read = check(&program, &entry).unwrap_err();
        assert_eq!((read.0.len(), read.0[0].rule, read.0[0].step), (1, "place.3", 3), "{read}");
        // The same in an output.
        let (program, entry) = by_hand(false, 1, vec![(fill(), vec![], 1), (a, vec![1], 0), (b, vec![1], 0)]);
        let left = check(&program, &entry).unwrap_err();
        assert_eq!((left.0.len(), left.0[0].rule, left.0[0].label.as_str()), (1, "place.6", "end"), "{left}");
        let range = |message: &str| message.split(' ').find(|w| w.contains("..")).unwrap().to_owned();
        assert_eq!(range(&read.0[0].message), range(&left.0[0].message));
        range(&left.0[0].message)
    };
    assert_eq!(hole(some(0, 4, 1), some(5, 3, 1)), "16..20");
    assert_eq!(hole(some(0, 4, 1), some(4, 3, 1)), "28..32");
    assert_eq!(hole(some(0, 4, 2), some(5, 3, -2)), "28..32");
    assert_eq!(hole(some(1, 7, 1), some(1, 7, 1)), "0..4");
}

/// A part belongs to the step that wrote it, and the rest to who wrote that.
#[test]
fn parts_are_told_apart() {
    let steps = vec![(fill(), vec![], 1), (fill(), vec![], 2), (some(2, 3, 1), vec![1], 2), (some(0, 8, 1), vec![2], 0)];
    let (program, mut entry) = by_hand(false, 2, steps);
    assert_eq!(check(&program, &entry), Ok(()));
    entry.steps.swap(1, 2);
    let errors = super::check(&program, &[0, 2, 1, 3], &entry).unwrap_err();
    assert_eq!(errors.0.len(), 1, "{errors}");
    assert!(errors.to_string().ends_with("byte 8 was last written by s1 as buffer 2, not by s2 as buffer 2"), "{errors}");
    let (program, entry) = by_hand(false, 2, vec![(fill(), vec![], 1), (some(5, 4, 1), vec![1], 2)]);
    assert_eq!(faults(check(&program, &entry)), [("place.2", 1), ("place.6", 2)]);
}

/// An output and a state that steps read back.
#[test]
fn ports_are_memory_too() {
    let (program, entry) = by_hand(false, 1, vec![(some(0, 4, 1), vec![1], 0), (some(4, 4, 1), vec![0], 1)]);
    assert_eq!(faults(check(&program, &entry)), [("place.3", 0), ("place.3", 1), ("place.6", 2)]);
    // Half of a state is replaced behind the step that reads all of it.
    let (program, mut entry) = by_hand(true, 2, vec![(some(0, 8, 1), vec![1], 0), (some(0, 4, 1), vec![0], 2)]);
    assert_eq!(check(&program, &entry), Ok(()));
    entry.steps.swap(0, 1);
    assert_eq!(faults(super::check(&program, &[1, 0], &entry)), [("place.3", 0), ("place.3", 1)]);
}

#[test]
fn what_is_left_is_what_was_written_last() {
    for last in [0, 1] {
        let (program, mut entry) = by_hand(true, 1, vec![(fill(), vec![], 0), (fill(), vec![], last), (fill(), vec![], last)]);
        assert_eq!(check(&program, &entry), Ok(()));
        entry.steps.swap(1, 2);
        assert_eq!(faults(super::check(&program, &[0, 2, 1], &entry)), [("place.7", 3)]);
    }
}

/// Independent steps may change places, dependent ones may not.
#[test]
fn orders_are_held_against_the_given_one() {
    let steps = vec![(fill(), vec![], 1), (fill(), vec![], 2), (some(0, 4, 1), vec![1], 0), (some(4, 4, 1), vec![2], 0)];
    let (program, _) = by_hand(false, 2, steps);
    let found = |order: [usize; 4]| faults(super::check(&program, &order, &allocate(&reordered(&program, &order), "f", 8)));
    assert_eq!(found([1, 0, 2, 3]), Vec::new());
    assert_eq!(found([1, 3, 0, 2]), Vec::new());
    assert_eq!(found([0, 2, 3, 1]), [("place.3", 2)]);
}

#[test]
fn all_errors_are_reported() {
    let (program, mut bad) = example();
    bad.steps[0].inputs[0].at = Place::Input(1);
    bad.steps[1].label = "u".into();
    bad.steps[2].inputs[1].at = bad.steps[2].inputs[0].at.clone();
    let errors = check(&program, &bad).unwrap_err();
    let text = errors.to_string();
    assert_eq!(text.lines().map(|l| l.split(':').next().unwrap()).collect::<Vec<_>>(), ["place.5", "place.1", "place.3"], "{text}");
    assert_eq!(faults(Err(errors)), [("place.5", 0), ("place.1", 1), ("place.3", 2)]);
    let fault = |step| CheckError { rule: "place.4", step, label: "t".into(), message: "m".into() };
    let many = CheckErrors((0..11).map(fault).collect()).to_string();
    assert_eq!((many.lines().count(), many.lines().next(), many.lines().last()), (9, Some("place.4: step 0 (t): m"), Some("and 3 more")));
}
