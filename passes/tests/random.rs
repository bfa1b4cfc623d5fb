//! Random functions through every pass and through the whole pipeline: the result verifies, prints and parses, computes
//! the same values, and a second run of a pass changes nothing.
//!
//! A function is a list of steps; a step picks an op and its operands among the values so far and is left out where
//! the types do not fit. Half of the steps extend the last value by the fusions' own patterns, which arbitrary ops would
//! hardly ever form.
#![allow(clippy::unwrap_used)]

mod evaluation;

use std::collections::HashMap;

use evaluation::{assert_same_values, seeded};
use fcdm_ir::eval::{Tensor, evaluate};
use fcdm_ir::flow::Copier;
use fcdm_ir::ops::*;
use fcdm_ir::text::parse_module;
use fcdm_ir::verify::verify_module;
use fcdm_ir::{Builder, DType, Function, Module, Op, Type, Value};
use fcdm_passes::{OPTIMISED, PASSES, Settings, TRAINING, run};
use proptest::prelude::*;

/// Channels of the images; everything else follows from it.
const C: usize = 4;

/// Op, first operand, other operands, attributes: any numbers, taken modulo what there is.
type Step = (u8, u8, u8, u8);

struct Random {
    b: Builder,
    values: Vec<Value>,
}

impl Random {
    fn new(rows: usize) -> Random {
        let mut b = Builder::new("f");
        let x = b.input("x", Type::f32([rows, 2, 2, C]));
        let t = b.input("t", Type::f32([rows]));
        let y = b.input("y", Type::new(DType::I32, [rows]));
        let e = b.one(TimestepEmbedding { dim: C }, &[t]);
        let table = b.weight("table", Type::f32([3, C]));
        let class = b.one(Embedding {}, &[table, y]);
        Random { b, values: vec![x, e, class] }
    }

    fn pick(&self, n: u8) -> Value {
        self.values[usize::from(n) % self.values.len()]
    }

    /// A value of the type, made of what there is: the `n`-th of that type from the end, or a weight.
    fn of_type(&mut self, ty: &Type, n: u8) -> Value {
        let fitting: Vec<Value> = self.values.iter().rev().copied().filter(|&v| self.b.ty(v) == ty).collect();
        match fitting.get(usize::from(n) % 3) {
            Some(&v) => v,
            None => self.weight(&ty.shape),
        }
    }

    fn weight(&mut self, shape: &[usize]) -> Value {
        let name: Vec<String> = shape.iter().map(ToString::to_string).collect();
        self.b.weight(&format!("w{}", name.join("x")), Type::f32(shape))
    }

    fn emit(&mut self, op: impl Into<Op>, operands: &[Value]) -> Option<Value> {
        let results = self.b.try_emit(op, operands).ok()?;
        self.values.extend(&results);
        results.first().copied()
    }

    /// A shape of as many elements.
    fn reshaped(ty: &Type, n: u8) -> Vec<usize> {
        let mut shape = ty.shape.clone();
        match n % 3 {
            0 => shape = vec![ty.count()],
            1 => shape.reverse(),
            _ => shape.push(1),
        }
        shape
    }

    /// Axes in another order: reversed, or rotated by one.
    fn permuted(rank: usize, n: u8) -> Vec<usize> {
        if n.is_multiple_of(2) { (0..rank).rev().collect() } else { (0..rank).map(|i| (i + 1) % rank).collect() }
    }

    fn step(&mut self, (op, a, c, n): Step) -> Option<Value> {
        let x = self.pick(a);
        let ty = self.b.ty(x).clone();
        let per_channel = Type::f32([ty.shape[0], ty.channels()]);
        let (axis, by) = (usize::from(n) % ty.rank(), [1.0, 0.5, 2.0, -1.0][usize::from(n) % 4]);
        match op % 34 {
            0 => self.emit(Neg {}, &[x]),
            1 => self.emit(Scale { by }, &[x]),
            2 => self.emit(Offset { by: by - 1.0 }, &[x]),
            3 => self.emit(Relu {}, &[x]),
            4 => self.emit(Silu {}, &[x]),
            5 => self.emit(Reshape { shape: Self::reshaped(&ty, n) }, &[x]),
            6 => self.emit(Transpose { perm: Self::permuted(ty.rank(), n) }, &[x]),
            7 => {
                let start = usize::from(c) % 2;
                self.emit(Slice { axis, start, len: ty.shape[axis].saturating_sub(start) }, &[x])
            }
            8 => self.emit(Sum { axes: vec![axis] }, &[x]),
            9 => self.emit(Broadcast { shape: ty.shape.iter().map(|&d| if d == 1 { 2 } else { d }).collect() }, &[x]),
            10 => self.emit(Concat { axis }, &[x, x]),
            11 => self.emit(Split { axis, parts: 2 }, &[x]),
            12 => self.emit(PixelShuffle { factor: 1 + usize::from(n) % 2 }, &[x]),
            13 => self.emit(PixelUnshuffle { factor: 1 + usize::from(n) % 2 }, &[x]),
            14..=17 => {
                let other = self.of_type(&ty, c);
                let op: Op = [Op::from(Add {}), Sub {}.into(), Mul {}.into(), Div {}.into()][usize::from(op % 34 - 14)].clone();
                self.emit(op, &[x, other])
            }
            18..=20 => {
                let value = f64::from(n % 2);
                let k = self.b.one(Fill { value, dtype: DType::F32, shape: ty.shape }, &[]);
                let operands = if c.is_multiple_of(2) { [x, k] } else { [k, x] };
                let op: Op = [Op::from(Add {}), Sub {}.into(), Mul {}.into()][usize::from(op % 34 - 18)].clone();
                self.emit(op, &operands)
            }
            21 => self.emit(LayerNorm { eps: [1e-2, 1e-3][usize::from(n) % 2] }, &[x]),
            22 => self.linear(x, n),
            23 => self.emit(Gelu {}, &[x]),
            24 => self.emit(SumSquares {}, &[x]),
            25 => self.grn(x, n),
            26 => {
                let operands = [x, self.of_type(&per_channel, c), self.of_type(&per_channel, n)];
                self.emit(Modulate {}, &operands)
            }
            27 => {
                let operands = [x, self.of_type(&ty, c), self.of_type(&per_channel, n)];
                self.emit(GatedAdd {}, &operands)
            }
            28 => {
                let a = self.of_type(&per_channel, c);
                self.emit(ScaleChannels {}, &[x, a])
            }
            29 => self.dwconv(x, n),
            30 => {
                let w = self.weight(&[ty.channels()]);
                let folded = self.b.one([Op::from(Neg {}), Exp {}.into()][usize::from(n) % 2].clone(), &[w]);
                self.values.push(folded);
                Some(folded)
            }
            31 => self.half_block(x, c, n),
            32 => self.conv(x, n),
            _ => self.decoder_part(x, c, n),
        }
    }

    fn linear(&mut self, x: Value, n: u8) -> Option<Value> {
        let k = self.b.ty(x).channels();
        let mut operands = vec![x, self.weight(&[C, k])];
        if !n.is_multiple_of(4) {
            operands.push(self.weight(&[C]));
        }
        self.emit(Linear {}, &operands)
    }

    fn grn(&mut self, x: Value, n: u8) -> Option<Value> {
        let c = self.b.ty(x).channels();
        let operands = [x, self.weight(&[c]), self.weight(&[c])];
        self.emit(Grn { eps: [1e-2, 1e-3][usize::from(n) % 2] }, &operands)
    }

    fn dwconv(&mut self, x: Value, n: u8) -> Option<Value> {
        let c = self.b.ty(x).channels();
        let mut operands = vec![x, self.weight(&[3, 3, c])];
        if !n.is_multiple_of(4) {
            operands.push(self.weight(&[c]));
        }
        self.emit(DwConv2d { pad: 1 }, &operands)
    }

    fn conv(&mut self, x: Value, n: u8) -> Option<Value> {
        let c = self.b.ty(x).channels();
        let mut operands = vec![x, self.weight(&[C, 3, 3, c])];
        if !n.is_multiple_of(4) {
            operands.push(self.weight(&[C]));
        }
        self.emit(Conv2d { stride: 1, pad: vec![1; 4] }, &operands)
    }

    /// As [`Random::half_block`], of autoencoders.
    fn decoder_part(&mut self, x: Value, c: u8, n: u8) -> Option<Value> {
        let ty = self.b.ty(x).clone();
        match c % 4 {
            0 => {
                let large = self.emit(UpsampleNearest { factor: 2 }, &[x])?;
                self.conv(large, n)
            }
            1 => {
                let operands = [x, self.weight(&[ty.channels()]), self.weight(&[ty.channels()])];
                let h = self.emit(GroupNorm { groups: 2, eps: 1e-2 }, &operands)?;
                self.emit([Op::from(Relu {}), Silu {}.into()][usize::from(n) % 2].clone(), &[h])
            }
            2 => {
                let h = if n.is_multiple_of(3) { self.linear(x, n)? } else { self.conv(x, n)? };
                let other = self.b.ty(h).clone();
                let operands = [h, self.of_type(&other, c)];
                let sum = self.emit(Add {}, &operands)?;
                self.emit(Relu {}, &[sum])
            }
            _ => {
                let rows = ty.shape[..ty.rank() - 1].iter().product();
                let x = self.emit(Reshape { shape: vec![1, rows, ty.channels()] }, &[x])?;
                let k = self.emit(Transpose { perm: vec![0, 2, 1] }, &[x])?;
                let scores = self.emit(Matmul {}, &[x, k])?;
                let scores = self.emit(Scale { by: 0.5 }, &[scores])?;
                let shares = self.emit(Softmax {}, &[scores])?;
                self.emit(Matmul {}, &[shares, x])
            }
        }
    }

    /// One of the patterns that the fusions look for, and nothing of it hidden: later steps may use any value of it.
    fn half_block(&mut self, x: Value, c: u8, n: u8) -> Option<Value> {
        let ty = self.b.ty(x).clone();
        let per_channel = Type::f32([ty.shape[0], ty.channels()]);
        if c.is_multiple_of(2) {
            let h = self.dwconv(x, n)?;
            let h = self.emit(LayerNorm { eps: 1e-2 }, &[h])?;
            let operands = [h, self.of_type(&per_channel, c), self.of_type(&per_channel, n)];
            self.emit(Modulate {}, &operands)
        } else {
            let h = self.linear(x, n)?;
            let h = self.emit(Gelu {}, &[h])?;
            let h = self.grn(h, n)?;
            let h = self.linear(h, n)?;
            let operands = [self.of_type(&ty, c), h, self.of_type(&per_channel, n)];
            self.emit(GatedAdd {}, &operands)
        }
    }
}

fn function(rows: usize, steps: &[Step], results: &[u8]) -> Module {
    let mut random = Random::new(rows);
    for (i, &(op, a, c, n)) in steps.iter().enumerate() {
        // Every other step works on the newest value, so that chains become long.
        let newest = (random.values.len() - 1) as u8;
        let step = if i % 2 == 0 { (op, newest, c, n) } else { (op, a, c, n) };
        random.step(step);
        // Large values would only cost time.
        random.values.retain(|&v| random.b.ty(v).count() <= 256);
    }
    let last = random.values.len() as u8 - 1;
    let mut returned: Vec<Value> = results.iter().chain([&last]).map(|&r| random.pick(r)).collect();
    returned.dedup();
    let named = returned.into_iter().enumerate().map(|(i, v)| (format!("r{i}"), v)).collect();
    Module { functions: vec![random.b.finish(named)] }
}

/// A module that a failure shows as text.
struct Shown(Module);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\n{}", self.0)
    }
}

fn modules() -> impl Strategy<Value = Shown> {
    let steps = prop::collection::vec(any::<Step>(), 1..20);
    (1usize..=2, steps, prop::collection::vec(any::<u8>(), 0..3)).prop_map(|(rows, steps, results)| Shown(function(rows, &steps, &results)))
}

/// The module's function with one result, `loss`: the sum of squares of what is like the first float of its results.
fn with_loss(m: &Module) -> Option<Module> {
    let f = &m.functions[0];
    let &(_, first) = f.results().iter().find(|(_, v)| f.ty(*v).dtype.is_float())?;
    let mut b = Builder::new(f.name());
    let mut copier = Copier::with_inputs(f, &mut b);
    let v = copier.copy(&mut b, first);
    let square = b.one(Mul {}, &[v, v]);
    let axes = (0..b.ty(v).rank()).collect();
    let loss = b.one(Sum { axes }, &[square]);
    Some(Module { functions: vec![b.finish(vec![("loss".to_owned(), loss)])] })
}

fn assert_valid(what: &str, m: &Module) {
    verify_module(m).unwrap_or_else(|e| panic!("{what}: {e:?}\n{m}"));
    let printed = m.to_string();
    let (parsed, _) = parse_module(what, &printed).unwrap_or_else(|e| panic!("{e}"));
    assert!(parsed == *m && parsed.to_string() == printed, "{what}: printing loses something:\n{printed}");
}

/// The results of a function with the rows of its inputs, which `seeds` decide one by one.
fn with_rows(f: &Function, seeds: &[u64]) -> Vec<Tensor> {
    let row = |name: &str, ty: &Type, seed: u64| seeded(name, &ty.with_shape([1]), seed).into_iter();
    let input = |v: &Value| {
        let data = f.value(*v);
        Tensor::from_shape_vec(vec![seeds.len()], seeds.iter().flat_map(|&s| row(&data.name, &data.ty, s)).collect()).unwrap()
    };
    let inputs: Vec<Tensor> = f.inputs().iter().map(input).collect();
    let types: HashMap<&str, &Type> = f.weights().map(|(_, d)| (d.name.as_str(), &d.ty)).collect();
    evaluate(f, &inputs, &mut |name| Some(seeded(name, types[name], 0))).unwrap()
}

fn same_row(a: &Tensor, i: usize, b: &Tensor, j: usize) -> bool {
    let row = |t: &Tensor, i: usize| t.iter().skip(i * (t.len() / 2)).take(t.len() / 2).copied().collect::<Vec<f64>>();
    row(a, i).into_iter().zip(row(b, j)).all(|(a, b)| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs().max(1.0))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_pass_keeps_the_values(Shown(m) in modules()) {
        assert_valid("input", &m);
        for pass in PASSES {
            let after = pass.apply(&m, &Settings::default());
            assert_valid(pass.name, &after);
            assert_same_values(pass.name, &m, &after);
            let again = pass.apply(&after, &Settings::default());
            assert!(again == after, "{}: a second run changes\n{after}into\n{again}", pass.name);
        }
    }

    /// The order and the company of the rows do not matter to a condition: a schedule is one batch of any size.
    #[test]
    fn a_hoisted_condition_keeps_rows_apart(Shown(m) in modules()) {
        let after = fcdm_passes::find("hoist_condition").unwrap().apply(&m, &Settings::default());
        let Some(condition) = after.function("condition").filter(|f| f.ty(f.inputs()[0]).shape == [2]) else { return Ok(()) };
        let (one, swapped, other) = (with_rows(condition, &[1, 2]), with_rows(condition, &[2, 1]), with_rows(condition, &[1, 3]));
        for (i, result) in one.iter().enumerate() {
            assert!(same_row(result, 0, &swapped[i], 1) && same_row(result, 1, &swapped[i], 0), "rows change places in\n{condition}");
            assert!(same_row(result, 0, &other[i], 0), "row 0 sees row 1 in\n{condition}");
        }
    }

    /// Gradients are those of the function, fused or not.
    #[test]
    fn fusions_keep_the_gradients(Shown(m) in modules()) {
        let Some(m) = with_loss(&m) else { return Ok(()) };
        let differentiate = |passes: &[&str]| run(passes, m.clone(), &mut |_, _| {}).unwrap_or_else(|e| panic!("{e}")).0;
        let (plain, fused) = (differentiate(&["differentiate"]), differentiate(TRAINING));
        assert_valid("fused and differentiated", &fused);
        assert_same_values("fused and differentiated", &plain, &fused);
        // Whatever is computed once more is the same, too.
        let all = Settings { recomputed: &|_, _| true, ..Settings::default() };
        for settings in [Settings::default(), all] {
            let again = fcdm_passes::find("recompute").unwrap().apply(&fused, &settings);
            assert_valid("recomputed", &again);
            assert_same_values("recomputed", &fused, &again);
        }
        assert_eq!(plain.functions[0].results().len(), 1 + m.functions[0].weights().filter(|(_, d)| d.ty.dtype.is_float()).count());
    }

    #[test]
    fn the_pipeline_keeps_the_values(Shown(m) in modules()) {
        let (after, _) = run(OPTIMISED, m.clone(), &mut |_, _| {}).unwrap_or_else(|e| panic!("{e}"));
        assert_valid("optimised", &after);
        assert_same_values("optimised", &m, &after);
    }
}

/// The generator is worth nothing if the patterns never occur.
#[test]
fn random_functions_make_every_pass_fire() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut fired = vec![0; PASSES.len()];
    let asked = Settings { types: &|_| Some("w8a8".to_owned()), ..Settings::default() };
    for _ in 0..400 {
        let Shown(m) = modules().new_tree(&mut runner).unwrap().current();
        for (count, pass) in fired.iter_mut().zip(PASSES) {
            *count += usize::from(pass.apply(&m, &asked) != m);
        }
        let differentiable = with_loss(&m).unwrap_or_default();
        for (count, pass) in fired.iter_mut().zip(PASSES).filter(|(_, p)| p.name == "differentiate") {
            *count += usize::from(pass.apply(&differentiable, &asked) != differentiable);
        }
        let differentiated = fcdm_passes::find("differentiate").unwrap().apply(&differentiable, &asked);
        for (count, pass) in fired.iter_mut().zip(PASSES).filter(|(_, p)| p.name == "recompute") {
            *count += usize::from(pass.apply(&differentiated, &asked) != differentiated);
        }
        let stored = fcdm_passes::find("quantise_weights").unwrap().apply(&m, &asked);
        for (count, pass) in fired.iter_mut().zip(PASSES).filter(|(_, p)| p.name == "quantise_rows") {
            *count += usize::from(pass.apply(&stored, &asked) != stored);
        }
        let grn_taken_apart = fcdm_passes::find("fold_grn_bias").unwrap().apply(&m, &Settings::default());
        for (count, pass) in fired.iter_mut().zip(PASSES).filter(|(_, p)| p.name.ends_with("sumsq") || p.name.ends_with("gated_add")) {
            *count += usize::from(pass.apply(&grn_taken_apart, &Settings::default()) != grn_taken_apart);
        }
    }
    for (count, pass) in fired.iter().zip(PASSES) {
        assert!(*count >= 5, "{} fires on {count} of 400 random functions", pass.name);
    }
}
