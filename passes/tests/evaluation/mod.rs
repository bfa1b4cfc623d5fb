//! Evaluates modules on values that their names decide, so that a module and what passes made of it see the same
//! numbers. A module that was split is the composition of its parts: `@weights` gives weights, `@condition` gives
//! inputs of `@denoise`.
#![allow(dead_code)]

use std::collections::HashMap;

use fcdm_ir::eval::{Tensor, evaluate};
use fcdm_ir::{DType, Function, Module, Type};
use fcdm_passes::GRADIENT;

/// Largest difference, relative to the largest finite magnitude of the tensor: rounding of f64 over the few thousand
/// terms of a test, and no more.
const TOLERANCE: f64 = 1e-9;

type Named = HashMap<String, Tensor>;

/// Values in -1.5 .. 1.5 decided by name, type and seed; labels are 0 or 1.
pub fn seeded(name: &str, ty: &Type, seed: u64) -> Tensor {
    // FNV-1a over the name, then SplitMix64.
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let values = (0..ty.count()).map(|_| match ty.dtype {
        DType::I32 => (next() >> 63) as f64,
        DType::F32 | DType::F16 | DType::BF16 => (next() >> 11) as f64 / (1u64 << 53) as f64 * 3.0 - 1.5,
    });
    Tensor::from_shape_vec(ty.shape.clone(), values.collect()).unwrap()
}

fn call(f: &Function, given: &Named, weights: &Named, seed: u64) -> Vec<(String, Tensor)> {
    let value = |name: &str, ty: &Type, known: &Named| known.get(name).cloned().unwrap_or_else(|| seeded(name, ty, seed));
    let inputs: Vec<Tensor> = f
        .inputs()
        .iter()
        .map(|&v| {
            let data = f.value(v);
            value(&data.name, &data.ty, given)
        })
        .collect();
    let types: HashMap<&str, &Type> = f.weights().map(|(_, d)| (d.name.as_str(), &d.ty)).collect();
    let results = evaluate(f, &inputs, &mut |name| Some(value(&format!("@{name}"), types[name], weights)));
    let results = results.unwrap_or_else(|e| panic!("@{}: {e}\n{f}", f.name()));
    f.results().iter().map(|(name, _)| name.clone()).zip(results).collect()
}

/// The results of `original` as `m`, made from its module by passes, computes them.
fn results(m: &Module, original: &Function, seed: u64) -> Vec<(String, Tensor)> {
    let none = Named::new();
    let computed = m.function(Module::WEIGHTS).map(|f| call(f, &none, &none, seed)).unwrap_or_default();
    let weights: Named = computed.into_iter().map(|(name, t)| (format!("@{name}"), t)).collect();
    if let Some(f) = m.function(original.name()) {
        return call(f, &none, &weights, seed);
    }
    let part = |name: &str| m.function(name).unwrap_or_else(|| panic!("neither @{} nor @{name} is left", original.name()));
    let condition = call(part("condition"), &none, &weights, seed).into_iter().collect();
    let denoise = part("denoise");
    let known = |name: &str| name == "x" || original.inputs().iter().any(|&v| original.value(v).name == name);
    for &v in denoise.inputs() {
        let name = &denoise.value(v).name;
        assert!(known(name) || Named::contains_key(&condition, name), "nothing gives @denoise its input %{name}");
    }
    call(denoise, &condition, &weights, seed)
}

/// What passes may have changed of values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Changes {
    /// No more than the order of sums does.
    Nothing,
    /// What rounding rows to 256 codes does.
    Rounded,
}

/// Equal but for rounding. Infinities are equal whatever their signs: that of a quotient by zero is the zero's, which hangs
/// on the order of a sum.
fn close(a: &Tensor, b: &Tensor, tolerance: f64) -> bool {
    let largest = a.iter().filter(|v| v.is_finite()).fold(0.0, |m: f64, v| m.max(v.abs()));
    let equal = |(&a, &b): (&f64, &f64)| {
        a == b || (a.is_nan() && b.is_nan()) || (a.is_infinite() && b.is_infinite()) || (a - b).abs() <= tolerance * largest
    };
    a.shape() == b.shape() && a.iter().zip(b).all(equal)
}

/// Checks that every function of `before` gives the same results after passes made `after` of its module; `@weights` may
/// have gained results, and every function gradients.
pub fn assert_same_values(what: &str, before: &Module, after: &Module) {
    assert_values(what, before, after, Changes::Nothing);
}

/// As [`assert_same_values`], values having changed no more than so. Where codes round, they have to have changed.
pub fn assert_values(what: &str, before: &Module, after: &Module, changes: Changes) {
    let tolerance = if changes == Changes::Rounded { 2e-2 } else { TOLERANCE };
    for seed in 0..2 {
        for f in &before.functions {
            let (expected, found) = (results(before, f, seed), results(after, f, seed));
            if f.name() != Module::WEIGHTS {
                let names = |r: &[(String, Tensor)]| r.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
                let gained = names(&expected).len()..found.len();
                let found = if gained.clone().all(|i| found[i].0.starts_with(GRADIENT)) { &found[..gained.start] } else { &found[..] };
                assert_eq!(names(&expected), names(found), "{what}: results of @{}", f.name());
            }
            for (name, a) in &expected {
                let b = &found.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{what}: result {name} is gone")).1;
                assert!(changes == Changes::Nothing || !close(a, b, TOLERANCE), "{what}: result {name} of @{} is not rounded", f.name());
                assert!(close(a, b, tolerance), "{what}: result {name} of @{}: expected {a}, found {b}\n{after}", f.name());
            }
        }
    }
}
