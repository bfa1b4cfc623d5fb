//! Broken plans, each with what must be said of it.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::kernels::testing::step;
use crate::kernels::{
    Activation, Algorithm, Attention, ConvTranspose2d, Copy, DwConv2d, Epilogue, GroupNorm, Kernel, LayerNorm, Matmul, Modulate, OneHot,
    Product, Rearrange, Sum, TimestepEmbedding, Unary, Window,
};

/// A plan of one step in an arena: inputs at 0, 8192, .., outputs behind them, 64 KB in all.
fn plan(kernel: impl Into<Kernel>, inputs: &[&[usize]], outputs: &[&[usize]]) -> Plan {
    let mut step = step(kernel, inputs, outputs);
    for (i, operand) in step.inputs.iter_mut().chain(&mut step.outputs).enumerate() {
        if operand.form != Form::I32 {
            operand.at = Place::Arena(i * 8192);
        }
    }
    let entry = Entry {
        name: "main".into(),
        rows: 1,
        inputs: vec![],
        outputs: vec![],
        state: vec![],
        arena_bytes: 1 << 16,
        arena_lower_bound: 0,
        steps: vec![step],
    };
    Plan { version: VERSION, reproducible: false, entries: vec![entry] }
}

fn fault(plan: &Plan) -> String {
    check_plan(plan, &|name| (name == "w").then_some((Element::F32, &[2, 2][..]))).unwrap_err().to_string()
}

fn sound(plan: &Plan) -> bool {
    check_plan(plan, &|name| (name == "w").then_some((Element::F32, &[2, 2][..]))).is_ok()
}

fn neg() -> Plan {
    plan(Unary::Neg, &[&[2, 2]], &[&[4]])
}

/// The sound plan, changed.
fn broken(change: impl Fn(&mut Entry)) -> String {
    let mut plan = neg();
    assert!(sound(&plan));
    change(&mut plan.entries[0]);
    fault(&plan)
}

#[test]
fn plans_and_entries() {
    let mut p = neg();
    p.version = VERSION + 1;
    assert_eq!(fault(&p), format!("plan, entry ``: expected version {VERSION}, found {}", VERSION + 1));
    p = neg();
    p.entries.push(p.entries[0].clone());
    assert_eq!(fault(&p), "plan, entry `main`: expected an entry for every name and rows once, found 1");
    assert_eq!(broken(|e| e.rows = 0), "plan, entry `main`: expected at least one row, found 0");
    assert!(broken(|e| e.arena_bytes = usize::MAX).contains("expected an arena of at most"));
    let port = |dtype, shape: &[usize]| Port { name: "p".into(), dtype, shape: shape.to_vec() };
    assert!(broken(|e| e.inputs.push(port(Element::F32, &[0]))).contains("for port `p`, found [0]"));
    assert!(broken(|e| e.outputs.push(port(Element::I32, &[1]))).contains("expected f32 for `p`"));
}

#[test]
fn places() {
    let at = |place: Place| broken(move |e| e.steps[0].inputs[0].at = place.clone());
    assert_eq!(at(Place::Arena(4)), "plan, entry `main`, step `test`: expected an offset divisible by 64, found 4");
    assert!(at(Place::Arena(1 << 16)).contains("inside of the arena's 65536 bytes"));
    assert!(at(Place::Arena(usize::MAX - 63)).contains("inside of the arena"));
    let partly = broken(|e| {
        e.steps[0].inputs[0] = Operand { at: Place::Arena(8192 - 64), form: Form::F32, shape: vec![17] };
        e.steps[0].outputs[0].shape = vec![17];
    });
    assert!(partly.contains("expected a result apart from Arena(8128)"), "{partly}");
    assert!(at(Place::Input(0)).contains("a port below 0"));
    assert!(at(Place::Weight("v".into())).contains("expected a tensor of the artifact, found `v`"));
    assert!(
        broken(|e| e.steps[0].inputs[0] = Operand { at: Place::Weight("w".into()), form: Form::F32, shape: vec![5] })
            .contains("at most the elements of tensor `w`")
    );
    let mut padded = plan(Unary::Neg, &[&[3]], &[&[3]]);
    padded.entries[0].steps[0].inputs[0].at = Place::Weight("w".into());
    assert!(sound(&padded), "a tensor may be longer than the operand: it is padded at its end");
    assert!(broken(|e| e.steps[0].outputs[0].at = Place::Weight("w".into())).contains("results in the arena, in outputs or in state"));
    assert!(broken(|e| e.steps[0].inputs[0].form = Form::I32).contains("expected f32 for x"));
    for shape in [vec![], vec![0], vec![usize::MAX, 2], vec![usize::MAX], vec![1; 9]] {
        let message = broken(|e| e.steps[0].inputs[0].shape = shape.clone());
        assert!(message.contains("expected"), "{message}");
    }
    assert!(broken(|e| e.steps[0].inputs = vec![e.steps[0].inputs[0].clone(); 7]).contains("expected the inputs x, found 7 inputs"));
    assert!(broken(|e| e.steps[0].outputs = vec![e.steps[0].outputs[0].clone(); 3]).contains("expected 1 outputs, found 3"));
    assert!(broken(|e| e.steps[0].inputs.clear()).contains("expected the inputs x, found 0 inputs"));
}

#[test]
fn two_results_apart() {
    let mut p = plan(Product::linear_gelu_sumsq(), &[&[1, 2, 2, 3], &[5, 1, 3], &[5]], &[&[1, 2, 2, 5], &[1, 5]]);
    assert!(sound(&p));
    p.entries[0].steps[0].outputs[1].at = p.entries[0].steps[0].outputs[0].at.clone();
    assert!(fault(&p).contains("expected a result apart from"));
}

#[test]
fn copies() {
    let copy = |extents: &[usize], from, x: &[isize], to, y: &[isize]| {
        plan(Copy { extents: extents.to_vec(), from, x_strides: x.to_vec(), to, y_strides: y.to_vec() }, &[&[12]], &[&[12]])
    };
    assert!(sound(&copy(&[3, 4], 0, &[4, 1], 0, &[1, 3])));
    assert!(sound(&copy(&[12], 11, &[-1], 0, &[1])));
    assert!(sound(&copy(&[], 11, &[], 0, &[])));
    assert!(fault(&copy(&[12], 0, &[-1], 0, &[1])).contains("indices of x in 0 .. 12, found (-11, 0)"));
    assert!(fault(&copy(&[12], 0, &[1], 1, &[1])).contains("indices of y in 0 .. 12, found (1, 12)"));
    assert!(fault(&copy(&[2, 2], 0, &[1, isize::MIN], 0, &[1, 2])).contains("indices of x"));
    assert!(fault(&copy(&[2], usize::MAX, &[1], 0, &[1])).contains("indices of x"));
    assert!(fault(&copy(&[3, 4], 0, &[4, 1], 0, &[0, 1])).contains("no element of y is written twice"));
    assert!(fault(&copy(&[3, 4], 0, &[4, 1], 0, &[2, 1])).contains("no element of y is written twice"));
    assert!(fault(&copy(&[0], 0, &[1], 0, &[1])).contains("extents of at least 1"));
    assert!(fault(&copy(&[1; 7], 0, &[1; 7], 0, &[1; 7])).contains("at most 6 axes"));
    assert!(fault(&copy(&[2], 0, &[1, 1], 0, &[1])).contains("at most 6 axes"));
}

#[test]
fn kernels() {
    let pad = [1; 4];
    let conv = |kernel, stride, pad| Product::conv2d(Window { kernel, stride, pad, upsample: 1 });
    let winograd = |pad| Product { algorithm: Algorithm::Winograd, ..conv([3, 3], 1, pad) };
    let then = |rearrange| Product { rearrange, ..conv([3, 3], 1, pad) };
    let (shuffle, unshuffle) = (|factor| then(Rearrange::Shuffle { factor }), |factor| then(Rearrange::Unshuffle { factor }));
    let winograd_shuffle = |factor| Product { algorithm: Algorithm::Winograd, ..shuffle(factor) };
    let relu = |residual| Epilogue::Activate { residual, activation: Activation::Relu };
    let epilogue = |residual| Product { epilogue: relu(residual), ..conv([3, 3], 1, pad) };
    let rearranged_sum = Product { epilogue: relu(true), ..shuffle(2) };
    let upsampled = |upsample| Product::conv2d(Window { pad, upsample, ..Window::square(3) });
    let huge = usize::MAX;
    let cases: Vec<(Plan, &str)> = vec![
        (plan(Product::linear(), &[&[2, 3], &[5, 1, 3], &[6]], &[&[2, 5]]), "[5] for bias"),
        (plan(Product::linear(), &[&[2, 3], &[17, 1, 3]], &[&[2, 5]]), "[5, 1, 3] for the weights"),
        (plan(Product::linear(), &[&[2, 3], &[5, 1, 3]], &[&[3, 5]]), "[2, 5] for y"),
        (plan(Matmul {}, &[&[1, 2, 3], &[1, 4, 5]], &[&[1, 2, 5]]), "[1, 3, 5] for b"),
        (plan(Matmul {}, &[&[2, 3], &[3, 5]], &[&[2, 5]]), "3 axes for a"),
        (plan(conv([3, 3], 0, pad), &[&[1, 4, 4, 2], &[5, 9, 2]], &[&[1, 4, 4, 5]]), "kernel and stride of at least 1"),
        (plan(conv([3, 3], 1, [huge; 4]), &[&[1, 4, 4, 2], &[5, 9, 2]], &[&[1, 4, 4, 5]]), "excessive"),
        (plan(conv([9, 3], 1, pad), &[&[1, 4, 4, 2], &[5, 27, 2]], &[&[1, 4, 4, 5]]), "no larger than the padded image"),
        (plan(conv([3, 3], 2, pad), &[&[1, 4, 4, 2], &[5, 9, 2]], &[&[1, 4, 4, 5]]), "[1, 2, 2, 5] for y before Keep"),
        (plan(shuffle(2), &[&[1, 4, 4, 2], &[20, 9, 2]], &[&[1, 8, 6, 5]]), "[1, 4, 4, 20] for y before Shuffle"),
        (plan(shuffle(2), &[&[1, 4, 4, 2], &[5, 9, 2]], &[&[1, 8, 8, 5]]), "[20, 9, 2] for the weights"),
        (plan(shuffle(3), &[&[1, 4, 4, 2], &[5, 9, 2]], &[&[1, 8, 8, 5]]), "an image after Shuffle"),
        (plan(shuffle(0), &[&[1, 4, 4, 2], &[5, 9, 2]], &[&[1, 8, 8, 5]]), "an image after Shuffle"),
        (plan(shuffle(huge), &[&[1, 4, 4, 2], &[5, 9, 2]], &[&[1, 8, 8, 5]]), "an image after Shuffle"),
        (plan(unshuffle(2), &[&[1, 4, 4, 2], &[5, 9, 2]], &[&[1, 2, 2, 6]]), "an image after Unshuffle"),
        (plan(unshuffle(huge), &[&[1, 4, 4, 2], &[5, 9, 2]], &[&[1, 2, 2, 20]]), "an image after Unshuffle"),
        (plan(unshuffle(2), &[&[1, 4, 4, 2], &[5, 9, 2]], &[&[1, 2, 3, 20]]), "[1, 4, 4, 5] for y before Unshuffle"),
        (plan(epilogue(false), &[&[1, 4, 4, 2], &[5, 9, 2], &[1, 4, 4, 5]], &[&[1, 4, 4, 5]]), "[5] for bias"),
        (plan(epilogue(true), &[&[1, 4, 4, 2], &[5, 9, 2]], &[&[1, 4, 4, 5]]), "the inputs x, W, b?, r"),
        (plan(epilogue(true), &[&[1, 4, 4, 2], &[5, 9, 2], &[1, 4, 3, 5]], &[&[1, 4, 4, 5]]), "[1, 4, 4, 5] for residual"),
        (plan(rearranged_sum, &[&[1, 4, 4, 2], &[20, 9, 2], &[1, 8, 8, 5]], &[&[1, 8, 8, 5]]), "no residual"),
        (plan(upsampled(2), &[&[1, 4, 4, 1], &[5, 36, 1]], &[&[1, 4, 4, 5]]), "[1, 8, 8, 5] for y before Keep"),
        (plan(upsampled(0), &[&[1, 4, 4, 1], &[5, 36, 1]], &[&[1, 4, 4, 5]]), "an upsampling by 1 to 65536"),
        (plan(upsampled(huge), &[&[1, 4, 4, 1], &[5, 36, 1]], &[&[1, 4, 4, 5]]), "an upsampling by 1 to 65536"),
        (plan(upsampled(1 << 16), &[&[1, 4, 8, 1], &[5, 36, 1]], &[&[1, 4, 4, 5]]), "a sane size upsampled by 65536"),
        (plan(Attention { scale: 1.0 }, &[&[1, 2, 3], &[1, 4, 5], &[1, 4, 6]], &[&[1, 2, 6]]), "[1, 4, 3] for k"),
        (plan(Attention { scale: 1.0 }, &[&[1, 2, 3], &[1, 4, 3], &[2, 4, 6]], &[&[1, 2, 6]]), "[1, 4, 6] for v"),
        (plan(Attention { scale: 1.0 }, &[&[1, 2, 3], &[1, 4, 3], &[1, 4, 6]], &[&[1, 4, 6]]), "[1, 2, 6] for y"),
        (plan(Attention { scale: f32::NAN }, &[&[1, 2, 3], &[1, 4, 3], &[1, 4, 6]], &[&[1, 2, 6]]), "a finite scale"),
        (plan(Product::concat_linear(), &[&[2, 3], &[3, 4], &[5, 1, 7]], &[&[2, 5]]), "[2] before the second x's last axis"),
        (plan(Product::concat_linear(), &[&[2, 3], &[2, 4], &[5, 1, 3]], &[&[2, 5]]), "[5, 1, 7] for the weights"),
        (plan(Product::concat_linear(), &[&[2, 3], &[2, 4], &[5, 1, 7]], &[&[3, 5]]), "[2, 5] for y"),
        (plan(winograd(pad), &[&[1, 4, 4, 1], &[5, 36, 1]], &[&[1, 4, 4, 5]]), "[5, 9, 1] for the weights"),
        (plan(winograd(pad), &[&[1, 4, 4, 1], &[5, 9, 1], &[6]], &[&[1, 4, 4, 5]]), "[5] for bias"),
        (plan(winograd(pad), &[&[1, 4, 4, 1], &[5, 9, 1]], &[&[1, 4, 3, 5]]), "[1, 4, 4, 5] for y before Keep"),
        (plan(winograd([0; 4]), &[&[1, 2, 4, 1], &[5, 9, 1]], &[&[1, 1, 2, 5]]), "no larger than the padded image"),
        (plan(winograd([huge; 4]), &[&[1, 4, 4, 1], &[5, 9, 1]], &[&[1, 4, 4, 5]]), "excessive"),
        (plan(winograd_shuffle(2), &[&[1, 4, 4, 1], &[20, 9, 1]], &[&[1, 8, 6, 5]]), "[1, 4, 4, 20] for y before Shuffle"),
        (plan(winograd_shuffle(2), &[&[1, 4, 4, 1], &[5, 9, 1]], &[&[1, 8, 8, 5]]), "[20, 9, 1] for the weights"),
        (plan(winograd_shuffle(3), &[&[1, 4, 4, 1], &[5, 9, 1]], &[&[1, 8, 8, 5]]), "an image after Shuffle"),
        (
            plan(ConvTranspose2d { stride: 2, pad }, &[&[1, 4, 4, 2], &[2, 3, 3, 5]], &[&[1, 9, 8, 5]]),
            "that the convolution maps back to [4, 4]",
        ),
        (plan(DwConv2d { pad: 1 }, &[&[1, 4, 4, 2], &[3, 3, 3]], &[&[1, 4, 4, 2]]), "[3, 3, 2] for w"),
        (plan(DwConv2d { pad: huge }, &[&[1, 4, 4, 2], &[3, 3, 2]], &[&[1, 4, 4, 2]]), "excessive"),
        (plan(Sum { axes: vec![2], scale: 1.0 }, &[&[2, 3]], &[&[2, 3]]), "different axes below 2"),
        (plan(Sum { axes: vec![0, 0], scale: 1.0 }, &[&[2, 3]], &[&[1, 3]]), "different axes below 2"),
        (plan(Sum { axes: vec![0], scale: 1.0 }, &[&[2, 3]], &[&[2, 1]]), "[1, 3] for y"),
        (plan(LayerNorm { eps: f32::NAN }, &[&[2, 3]], &[&[2, 3]]), "a finite eps"),
        (
            plan(GroupNorm { groups: 4, eps: 0.0, activation: Activation::None }, &[&[1, 2, 2, 6], &[6], &[6]], &[&[1, 2, 2, 6]]),
            "groups that divide 6 channels",
        ),
        (
            plan(GroupNorm { groups: 0, eps: 0.0, activation: Activation::None }, &[&[1, 2, 2, 6], &[6], &[6]], &[&[1, 2, 2, 6]]),
            "groups that divide 6 channels",
        ),
        (
            plan(Product { algorithm: Algorithm::WinogradPhases, ..winograd(pad) }, &[&[1, 4, 4, 1], &[5, 9, 1]], &[&[1, 4, 4, 5]]),
            "an image enlarged to twice its size",
        ),
        (
            plan(Product { window: Some(Window::square(5)), ..winograd(pad) }, &[&[1, 6, 6, 1], &[5, 25, 1]], &[&[1, 2, 2, 5]]),
            "3x3 of stride 1",
        ),
        (plan(Modulate {}, &[&[2, 3, 4], &[2, 4], &[3, 4]], &[&[2, 3, 4]]), "[2, 4] for a vector of the sample"),
        (plan(TimestepEmbedding {}, &[&[2]], &[&[2, 3]]), "an even width"),
    ];
    for (plan, want) in cases {
        let message = fault(&plan);
        assert!(message.contains(want), "{message}");
    }
}

#[test]
fn labels_come_from_inputs() {
    let mut p = plan(OneHot {}, &[&[3]], &[&[3, 7]]);
    p.entries[0].inputs.push(Port { name: "y".into(), dtype: Element::I32, shape: vec![3] });
    assert!(sound(&p));
    p.entries[0].steps[0].inputs[0].at = Place::Arena(0);
    assert!(fault(&p).contains("labels that are an input"));
}

#[test]
fn outputs_take_an_inputs_place_where_the_kernel_lets_them() {
    let mut p = neg();
    p.entries[0].steps[0].outputs[0].at = p.entries[0].steps[0].inputs[0].at.clone();
    assert!(sound(&p));
    p.entries[0].steps[0].outputs[0].at = Place::Arena(ALIGN);
    p.entries[0].steps[0].inputs[0] = Operand { at: Place::Arena(0), form: Form::F32, shape: vec![32] };
    p.entries[0].steps[0].outputs[0].shape = vec![32];
    assert!(fault(&p).contains("a result apart from Arena(0), found Arena(64)"), "not in part");
    let mut p = plan(Matmul {}, &[&[1, 2, 2], &[1, 2, 2]], &[&[1, 2, 2]]);
    p.entries[0].steps[0].outputs[0].at = p.entries[0].steps[0].inputs[0].at.clone();
    assert!(fault(&p).contains("a result apart from"));
}

#[test]
fn state_is_read_and_written() {
    let mut p = neg();
    p.entries[0].state.push(Port { name: "w".into(), dtype: Element::F32, shape: vec![4] });
    p.entries[0].steps[0].inputs[0].at = Place::State(0);
    p.entries[0].steps[0].outputs[0].at = Place::State(0);
    assert!(sound(&p));
    let mut other = p.entries[0].clone();
    (other.name, other.state[0].shape) = ("other".into(), vec![2, 2]);
    p.entries.push(other);
    assert!(fault(&p).contains("state `w` of one shape"));
    p.entries.pop();
    p.entries[0].steps[0].inputs[0].at = Place::State(1);
    assert!(fault(&p).contains("a port below 1"));
}

/// One memory of two names would be written to twice by a step that may write to two.
#[test]
fn a_state_is_there_once() {
    let mut p = neg();
    p.entries[0].state = vec![Port { name: "w".into(), dtype: Element::F32, shape: vec![4] }; 2];
    assert!(fault(&p).contains("every state of an entry once"));
}

/// A name that is as long as all the rest, told to every step.
#[test]
fn long_names_and_many_steps() {
    let mut p = neg();
    let port = Port { name: "x".repeat(1 << 20), dtype: Element::F32, shape: vec![4] };
    p.entries[0].inputs.push(port);
    p.entries[0].steps[0].inputs[0].at = Place::Input(0);
    p.entries[0].steps = vec![p.entries[0].steps[0].clone(); 20_000];
    assert!(sound(&p));
    let small = neg().entries.remove(0);
    let entry = |i: usize| Entry { name: format!("e{i}"), ..small.clone() };
    let entries = (0..100_000).map(entry).collect();
    assert!(sound(&Plan { version: VERSION, reproducible: false, entries }));
}

#[test]
fn encoded_matrices_have_all_of_their_parts() {
    let linear = |encoding, shape: &[usize]| {
        let mut p = plan(Product::linear(), &[&[2, 2], shape], &[&[2, 2]]);
        p.entries[0].steps[0].inputs[1] = Operand { at: Place::Weight("w".into()), form: Form::Encoded(encoding), shape: shape.to_vec() };
        p
    };
    let with = |p: &Plan, element, count: usize| {
        let shape = [count];
        check_plan(p, &|name| (name == "w.panels").then_some((element, &shape[..]))).map_err(|e| e.to_string())
    };
    let f32s = linear(crate::encoding::Encoding::F32, &[2, 1, 2]);
    assert_eq!(with(&f32s, Element::F32, 32), Ok(()));
    assert!(with(&f32s, Element::F32, 31).unwrap_err().contains("at most the elements of tensor `w.panels`"));
    assert!(with(&f32s, Element::F16, 32).unwrap_err().contains("F16 as tensor `w.panels` has"));
    assert_eq!(with(&linear(crate::encoding::Encoding::Bf16, &[2, 1, 2]), Element::BF16, 32), Ok(()));
    assert!(fault(&f32s).contains("expected a tensor of the artifact, found `w.panels`"));
    let huge = linear(crate::encoding::Encoding::F32, &[usize::MAX - 3, 1, 2]);
    assert!(with(&huge, Element::F32, 32).unwrap_err().contains("a sane size"));
}
