//! A small plan for the executor's tests, its weights, and what it computes, in f64.
//!
//! `y = x + silu(h1) W2^T + b2` with `h1 = (x + table[labels]) W1^T + b1`, 40 -> 48 -> 40.

#![allow(dead_code, clippy::unwrap_used)]

use std::collections::HashMap;

use fcdm_runtime::arena::Arena;
use fcdm_runtime::encoding::{Encoding, Matrix};
use fcdm_runtime::executor::WeightStore;
use fcdm_runtime::kernels::{Binary, Embedding, Kernel, Product, Unary};
use fcdm_runtime::plan::{ALIGN, Element, Entry, Form, Operand, Place, Plan, Port, Step, VERSION};

/// Tensors in memory of their own.
#[derive(Default)]
pub struct Store(HashMap<String, (Element, Vec<usize>, Arena, usize, usize)>);

impl Store {
    /// A tensor of zero bytes, `start` bytes behind an aligned address.
    pub fn insert_bytes(&mut self, name: &str, dtype: Element, shape: &[usize], bytes: usize, start: usize) {
        self.0.insert(name.into(), (dtype, shape.to_vec(), Arena::new(bytes + start).unwrap(), bytes, start));
    }

    pub fn insert(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        self.insert_bytes(name, Element::F32, shape, values.len() * 4, 0);
        let arena = &self.0[name].2;
        // SAFETY: the arena was made to hold as many f32, and nobody else has it.
        unsafe { std::slice::from_raw_parts_mut(arena.as_ptr().cast::<f32>(), values.len()) }.copy_from_slice(values);
    }
}

impl Store {
    /// A matrix as lines of f32.
    pub fn insert_matrix(&mut self, name: &str, [rows, taps, channels]: [usize; 3], values: &[f32]) {
        let m = Matrix { rows, taps, channels };
        let bytes = Encoding::F32.encode(values, m).unwrap();
        let part = &Encoding::F32.parts(m)[0];
        let words: Vec<f32> = bytes[0].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        self.insert(&format!("{name}{}", part.suffix), &part.shape, &words);
    }
}

impl WeightStore for Store {
    fn tensor(&self, name: &str) -> Option<(Element, &[usize], &[u8])> {
        let (dtype, shape, arena, bytes, start) = self.0.get(name)?;
        // SAFETY: the arena holds start + bytes bytes, which nobody writes any more.
        Some((*dtype, shape, unsafe { std::slice::from_raw_parts(arena.as_ptr().add(*start), *bytes) }))
    }
}

/// Numbers in -1 .. 1, the same for the same seed.
pub fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

pub fn mlp_weights() -> Store {
    let mut store = Store::default();
    store.insert_matrix("table", [5, 1, 40], &numbers(200, 2));
    store.insert_matrix("w1", [48, 1, 40], &numbers(48 * 40, 3));
    store.insert("b1", &[48], &numbers(48, 4));
    store.insert_matrix("w2", [40, 1, 48], &numbers(40 * 48, 5));
    store.insert("b2", &[40], &numbers(40, 6));
    store
}

pub fn operand(at: Place, shape: &[usize]) -> Operand {
    Operand { at, form: Form::F32, shape: shape.to_vec() }
}

/// A matrix of the artifact as lines of f32.
pub fn matrix(name: &str, shape: [usize; 3]) -> Operand {
    Operand { at: Place::Weight(name.into()), form: Form::Encoded(Encoding::F32), shape: shape.to_vec() }
}

pub fn mlp(rows: usize) -> Plan {
    let wide = (rows * 48 * 4).next_multiple_of(ALIGN);
    let weight = |name: &str, shape: &[usize]| operand(Place::Weight(name.into()), shape);
    let arena = |slot: usize, shape: &[usize]| operand(Place::Arena(slot * wide), shape);
    let (x, y) = (operand(Place::Input(0), &[rows, 40]), operand(Place::Output(0), &[rows, 40]));
    let labels = Operand { at: Place::Input(1), form: Form::I32, shape: vec![rows] };
    let step = |label: &str, kernel: Kernel, inputs: Vec<Operand>, output: Operand| Step {
        label: label.into(),
        kernel,
        inputs,
        outputs: vec![output],
    };
    let (narrow, hidden) = ([rows, 40], [rows, 48]);
    let steps = vec![
        step("e", Embedding {}.into(), vec![matrix("table", [5, 1, 40]), labels], arena(0, &narrow)),
        step("s", Kernel::Binary(Binary::Add), vec![x.clone(), arena(0, &narrow)], arena(1, &narrow)),
        step("h1", Product::linear().into(), vec![arena(1, &narrow), matrix("w1", [48, 1, 40]), weight("b1", &[48])], arena(0, &hidden)),
        step("h2", Kernel::Unary(Unary::Silu), vec![arena(0, &hidden)], arena(2, &hidden)),
        step("h3", Product::linear().into(), vec![arena(2, &hidden), matrix("w2", [40, 1, 48]), weight("b2", &[40])], arena(0, &narrow)),
        step("y", Kernel::Binary(Binary::Add), vec![x, arena(0, &narrow)], y),
    ];
    let port = |name: &str, dtype: Element, shape: &[usize]| Port { name: name.into(), dtype, shape: shape.to_vec() };
    Plan {
        version: VERSION,
        reproducible: false,
        entries: vec![Entry {
            name: "mlp".into(),
            rows,
            inputs: vec![port("x", Element::F32, &narrow), port("labels", Element::I32, &[rows])],
            outputs: vec![port("y", Element::F32, &narrow)],
            state: vec![],
            arena_bytes: 3 * wide,
            arena_lower_bound: 2 * wide,
            steps,
        }],
    }
}

pub fn mlp_reference(x: &[f32], labels: &[i32]) -> Vec<f64> {
    let [table, w1, b1, w2, b2] = [(200, 2), (48 * 40, 3), (48, 4), (40 * 48, 5), (40, 6)].map(|(n, seed)| numbers(n, seed));
    let linear = |x: &[f64], w: &[f32], b: &[f32]| -> Vec<f64> {
        let dot = |w: &[f32]| x.iter().zip(w).map(|(x, &w)| x * f64::from(w)).sum::<f64>();
        w.chunks(x.len()).zip(b).map(|(w, &b)| dot(w) + f64::from(b)).collect()
    };
    let mut y = Vec::new();
    for (x, &label) in x.chunks(40).zip(labels) {
        let s: Vec<f64> = x.iter().zip(&table[label as usize * 40..]).map(|(&a, &b)| f64::from(a) + f64::from(b)).collect();
        let h: Vec<f64> = linear(&s, &w1, &b1).iter().map(|v| v / (1.0 + (-v).exp())).collect();
        y.extend(linear(&h, &w2, &b2).iter().zip(x).map(|(h, &x)| h + f64::from(x)));
    }
    y
}
